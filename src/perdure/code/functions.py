"""Digests of functions that tell whether their code has changed.

- Comments, blank lines, line numbers and formatting do not count; decorators, annotations and docstrings do.
- A digest from source does not depend on the version of Python; one from byte code, where there is no source, does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any

from perdure.code.sources import codes_below, file_of, find_loaded, importable_name, is_from, is_of_record, read_source

if TYPE_CHECKING:
    import ast

_TEXTS_KEPT = 32
_parsed: dict[str, dict[tuple[str, int], list[ast.AST]]] = {}  # by digest of the text: name and first line to nodes


def function_digest(function: object) -> str:
    """Digest of a function's source, below decorators and `functools.partial`; of a class, that of its source.

    Falls back to the byte code where the source is not to be had, and to the name where there is no byte code.
    """
    function = _without_arguments(function)
    code = _code_of(function)
    if code is None:
        described = _class_source(function) or f"name:{_name_of(function)}"
    else:
        node = _node_of(code, _module_of(function))
        described = f"code:{_describe_code(code)}" if node is None else f"source:{describe_node(node)}"
    return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()


def changed_functions(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The names, sorted, that are in both mappings of names to digests and have another digest in `new`."""
    return sorted(name for name, digest in new.items() if name in old and old[name] != digest)


def _without_arguments(function: object) -> object:
    """The function in a bound method or a `functools.partial`."""
    from functools import partial

    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__func__
    return function


def _code_of(function: object) -> CodeType | None:
    """The innermost code: that of what the decorators wrap, or of an object's `__call__`."""
    if isinstance(function, type):
        return None
    codes = list(codes_below(function))
    if not codes:
        calls = (vars(cls)["__call__"] for cls in type(function).__mro__ if "__call__" in vars(cls))
        codes = list(codes_below(next(calls, None)))
    return codes[-1] if codes else None


def _module_of(function: object) -> str:
    return str(getattr(function, "__module__", "") or "")


def _name_of(function: object) -> str:
    return f"{_module_of(function)}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def _node_of(code: CodeType, module: str) -> ast.AST | None:
    """The one node of the source that the code was compiled from; None where it cannot be told for certain."""
    text, digest = _text_of(code, module)
    nodes = _parse(text, digest).get((code.co_name, code.co_firstlineno), []) if text else []
    return nodes[0] if len(nodes) == 1 else None


def _text_of(code: CodeType, module: str) -> tuple[str, str]:
    """The text that the code is in, and its digest."""
    name = importable_name(module)
    loaded = find_loaded(name)
    if loaded is not None and (is_of_record(loaded) or is_from(code, file_of(loaded))):
        source = read_source(name)
        return (source.text, source.digest) if source.text and source.exact else ("", "")
    import linecache

    text = "".join(linecache.getlines(code.co_filename))
    return text, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _parse(text: str, digest: str) -> dict[tuple[str, int], list[ast.AST]]:
    """The functions in a text, by their name and first line, which is that of the first decorator."""
    found = _parsed.get(digest)
    if found is not None:
        return found
    import ast
    import warnings

    found = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found.setdefault((node.name, line), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), []).append(node)
    while len(_parsed) >= _TEXTS_KEPT:
        _parsed.pop(next(iter(_parsed)), None)
    _parsed[digest] = found
    return found


def _class_source(cls: object) -> str:
    """The definition of a class, found by its qualified name; "" for anything else or without source."""
    if not isinstance(cls, type):
        return ""
    import ast

    name = importable_name(cls.__module__)
    loaded = find_loaded(name)
    text = read_source(name).text if loaded is not None and file_of(loaded) else ""
    try:
        body: list[ast.stmt] = ast.parse(text).body
    except (SyntaxError, ValueError):
        return ""
    found: list[ast.ClassDef] = []
    for part in cls.__qualname__.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef) and node.name == part]
        if len(found) != 1:
            return ""
        body = found[0].body
    return f"source:{describe_node(found[0])}"


def describe_node(value: Any) -> str:
    """A syntax tree as text, without positions and empty fields: `ast.dump` differs between versions of Python."""
    import ast

    if isinstance(value, ast.AST):
        fields = ((name, field) for name, field in ast.iter_fields(value) if name not in ("kind", "type_comment"))
        shown = (f"{name}={describe_node(field)}" for name, field in fields if field is not None and field != [])
        return f"{type(value).__name__}({','.join(shown)})"
    if isinstance(value, list):
        return f"[{','.join(map(describe_node, value))}]"
    return f"{type(value).__name__}:{value!a}"


def _describe_code(code: CodeType) -> str:
    """What byte code does, without where it came from."""
    constants = ",".join(map(_describe_constant, code.co_consts))
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    return f"{code.co_name}{counts}{names!a}({constants}){code.co_code.hex()}"


def _describe_constant(constant: object) -> str:
    if isinstance(constant, CodeType):
        return _describe_code(constant)
    if isinstance(constant, tuple):
        return f"({','.join(map(_describe_constant, constant))})"
    if isinstance(constant, frozenset):  # its order differs between processes
        return f"{{{','.join(sorted(map(_describe_constant, constant)))}}}"
    return f"{type(constant).__name__}:{constant!a}"
