"""Turns the words of a command line into the arguments of a flow.

- The annotation decides: `int`, `float`, `bool`, `str`, `Path`, and lists or tuples of these. Without one, what looks
  like a Python number, True, False, None, list, dict or quoted text is that, and everything else is text.
- A parameter that is annotated as a list takes all remaining words; so does the last one without an annotation, if
  there are more words than parameters.
- `NAME=VALUE` gives a parameter by name, if there is one of that name.
"""

from __future__ import annotations

import ast
import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from inspect import Parameter
from pathlib import Path, PurePath
from typing import Any

from perdure.errors import FlowError

_LISTS = (list, tuple, set, frozenset, Sequence, Iterable, Collection)
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}
_OPENING = ("[", "(", "{", "'", '"')


def bind(function: Callable[..., Any], words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that the words give; raises `FlowError`, in one sentence with the signature."""
    signature = _signature(function)
    by_name, rest = _split(signature, words, function)
    given: dict[str, Any] = {}
    for name, word in by_name.items():
        given[name] = _converted([word] if _is_list(signature.parameters[name]) else word, signature.parameters[name])
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
        and parameter.name not in given
    ]
    values: dict[str, Any] = {}
    for place, parameter in enumerate(positional):
        if parameter.kind is Parameter.VAR_POSITIONAL:
            values[parameter.name] = [_converted(word, parameter) for word in rest]
            rest = []
        elif not rest:
            break
        elif _is_list(parameter) or (place == len(positional) - 1 and len(rest) > 1 and _is_free(parameter)):
            values[parameter.name] = _converted(rest, parameter)
            rest = []
        else:
            values[parameter.name] = _converted(rest[0], parameter)
            rest = rest[1:]
    if rest:
        raise _wrong(function, signature, f"too many arguments: {' '.join(rest[:3])}{' …' if rest[3:] else ''}")
    return _call(function, signature, {**values, **given})


def _call(
    function: Callable[..., Any], signature: inspect.Signature, values: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and parameter.name not in values
    ]
    if missing:
        raise _wrong(function, signature, f"missing: {', '.join(missing)}")
    bound = inspect.BoundArguments(signature, values)
    return bound.args, bound.kwargs


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """With annotations evaluated where they can be."""
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return inspect.signature(function)


def _split(
    signature: inspect.Signature, words: Sequence[str], function: Callable[..., Any]
) -> tuple[dict[str, str], list[str]]:
    by_name: dict[str, str] = {}
    rest = []
    for word in words:
        name, equals, value = word.partition("=")
        parameter = signature.parameters.get(name)
        if not equals or parameter is None or parameter.kind not in (
            Parameter.POSITIONAL_OR_KEYWORD,
            Parameter.KEYWORD_ONLY,
        ):  # fmt: skip
            rest.append(word)
        elif name in by_name:
            raise _wrong(function, signature, f"{name} is given twice")
        else:
            by_name[name] = value
    return by_name, rest


def _is_list(parameter: Parameter) -> bool:
    return parameter.kind is not Parameter.VAR_POSITIONAL and _container(parameter.annotation) is not None


def _is_free(parameter: Parameter) -> bool:
    """Whether nothing is said of the type, so that it may as well be a list."""
    return parameter.annotation in (Parameter.empty, Any, object) or isinstance(parameter.annotation, str)


def _container(annotation: Any) -> type[Any] | None:
    """The class of list that an annotation means, or None."""
    plain = _without_none(annotation)
    origin = typing.get_origin(plain) or plain
    if not isinstance(origin, type) or origin not in _LISTS:
        return None
    return origin if origin in (tuple, set, frozenset) else list


def _without_none(annotation: Any) -> Any:
    """`X` of `X | None` and of `Annotated[X, …]`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _without_none(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        return _without_none(options[0]) if len(options) == 1 else Any
    return annotation


def _converted(word: str | list[str], parameter: Parameter) -> Any:
    annotation = parameter.annotation
    if isinstance(word, str):
        if word == "None" and type(None) in typing.get_args(annotation):
            return None
        return _value(word, _without_none(annotation), parameter.name)
    container = _container(annotation) or list
    if len(word) == 1 and word[0].startswith(("[", "(")) and isinstance(_literal(word[0]), (list, tuple)):
        return container(_literal(word[0]))
    inner = [option for option in typing.get_args(_without_none(annotation)) if option is not Ellipsis]
    if container is tuple and len(inner) > 1 and len(inner) == len(word):
        return tuple(_value(text, kind, parameter.name) for text, kind in zip(word, inner, strict=True))
    kind = _without_none(inner[0]) if inner else Parameter.empty
    return container(_value(text, kind, parameter.name) for text in word)


def _value(word: str, kind: Any, name: str) -> Any:
    if kind is str:
        return word
    if kind is bool:
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        raise FlowError(f"{name}: {word!r} is neither true nor false.")
    if kind is int or kind is float:
        try:
            return kind(word)
        except ValueError:
            raise FlowError(f"{name}: {word!r} is no {'whole number' if kind is int else 'number'}.") from None
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return Path(word) if kind in (Path, PurePath) else kind(word)
    return _literal(word)


def _literal(word: str) -> Any:
    """The Python value that the word spells, or the word itself."""
    try:
        value = ast.literal_eval(word.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return word
    return value if isinstance(value, (int, float, type(None))) or word.strip().startswith(_OPENING) else word


def _wrong(function: Callable[..., Any], signature: inspect.Signature, what: str) -> FlowError:
    name = getattr(function, "__name__", "flow")
    shown = str(signature.replace(return_annotation=inspect.Signature.empty))
    return FlowError(f"{name}{shown} was called wrongly: {what}.")
