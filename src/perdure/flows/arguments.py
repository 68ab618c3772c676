"""Arguments of jobs: other jobs are found wherever they are nested, and replaced by their results.

- Looked into: lists, tuples (named ones too), dicts (keys and values), sets, frozensets and dataclasses, of exactly
  these types or subclasses that can be made anew; anything else is passed on as it is.
- What holds no job is passed on itself, not copied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from perdure.errors import FlowError
from perdure.objects.persistable import Persistable

SHOWN = 60  # characters of one argument in lists
DEPTH = 200  # nested containers; deeper ones are data, not arguments with jobs in them


def jobs_in(value: Any, kind: type[Any]) -> list[Any]:
    """The distinct instances of `kind` nested in `value`, in order; cyclic containers are fine."""
    found: list[Any] = []
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            found.append(item)
        else:
            stack.extend(reversed(list(_parts(item))))
    return found


def replaced(value: Any, kind: type[Any], result_of: Callable[[Any], Any], depth: int = 0) -> Any:
    """`value` with each nested instance of `kind` replaced by `result_of` it."""
    if isinstance(value, kind):
        return result_of(value)
    if not jobs_in(value, kind):
        return value
    if depth > DEPTH:
        raise FlowError(f"Jobs are nested more than {DEPTH} containers deep in an argument.")

    def inner(item: Any) -> Any:
        return replaced(item, kind, result_of, depth + 1)

    if isinstance(value, dict):
        return _like(value, {inner(key): inner(item) for key, item in value.items()})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[inner(item) for item in value])
    if isinstance(value, (list, tuple, set, frozenset)):
        return _like(value, [inner(item) for item in value])
    return dataclasses.replace(
        value, **{field.name: inner(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    )


def shown(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments in short, as a list of runs shows them."""
    parts = [_short(item) for item in args[:4]] + (["…"] if len(args) > 4 else [])
    parts += [f"{name}={_short(item)}" for name, item in list(kwargs.items())[:4]]
    return ", ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, Persistable):
        return value.persistent_id or type(value).__name__
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > 3:
        return f"{type(value).__name__} of {len(value)}"
    if not isinstance(value, (str, bytes, int, float, bool, type(None), list, tuple, dict)) or jobs_in(
        value, Persistable
    ):
        return type(value).__name__
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}…{text[-SHOWN // 2 :]}"


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Persistable):
        return
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name, None)


def _like(value: Any, items: Any) -> Any:
    """`items` in a container of the class of `value`."""
    cls = type(value)
    return items if cls in (dict, list) else cls(items)
