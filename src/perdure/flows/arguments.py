"""Arguments of jobs: other jobs are found wherever they are nested, and replaced by their results.

- Looked into: lists, tuples (named ones too), dicts (keys and values), sets, frozensets and dataclasses, and
  subclasses of these; anything else, `Persistable` objects above all, is passed on as it is.
- What holds no job is passed on itself, not copied.
- Showing an argument never runs a `__repr__` of the user's.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from perdure.errors import FlowError
from perdure.objects.persistable import Persistable

SHOWN = 60  # characters of one argument in lists
FEW = 3  # items of a container that are shown
LONG = 2**64  # above it the size of a number is told, not its digits
DEPTH = 200  # nested containers; deeper ones are data, not arguments with jobs in them

_ATOMS = frozenset({str, int, float, bool, bytes, type(None), complex})

Shown = Callable[[Persistable], str]


def jobs_in(value: Any, kind: type[Any]) -> list[Any]:
    """The distinct instances of `kind` nested in `value`, in order; cyclic containers are fine."""
    found: list[Any] = []
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) in _ATOMS or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            found.append(item)
        else:
            stack.extend(reversed(list(_parts(item))))
    return found


def replaced(value: Any, kind: type[Any], result_of: Callable[[Any], Any], depth: int = 0) -> Any:
    """`value` with each nested instance of `kind` replaced by `result_of` it."""
    if type(value) in _ATOMS:
        return value
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
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(inner(item) for item in value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _like(value, [inner(item) for item in value])
    return dataclasses.replace(
        value, **{field.name: inner(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    )


def shown(args: tuple[Any, ...], kwargs: dict[str, Any], persistable: Shown) -> str:
    """The arguments in short, as a list of runs shows them; `persistable` gives the text for an object."""
    parts = [_short(item, persistable) for item in args[:4]] + (["…"] if len(args) > 4 else [])
    parts += [f"{name}={_short(item, persistable)}" for name, item in list(kwargs.items())[:4]]
    return ", ".join(parts + (["…"] if len(kwargs) > 4 else []))


def _short(value: Any, persistable: Shown) -> str:
    cls = type(value)
    if isinstance(value, Persistable):
        return persistable(value)
    if cls in (str, bytes):
        return repr(value) if len(value) <= SHOWN else f"{value[: SHOWN // 2]!r}…{value[-SHOWN // 2 :]!r}"
    if cls is int and abs(value) > LONG:
        return f"int of {value.bit_length()} bits"
    if cls in _ATOMS:
        return repr(value)
    if cls in (list, tuple, set, frozenset, dict):
        return _short_container(value, persistable)
    return repr(str(value)) if isinstance(value, PurePath) and cls.__module__.startswith("pathlib") else cls.__name__


def _short_container(value: Any, persistable: Shown) -> str:
    name = type(value).__name__
    if len(value) > FEW or not value:
        return f"{name} of {len(value)}"
    if any(type(item) in (list, tuple, set, frozenset, dict) for item in _parts(value)):
        return f"{name} of {len(value)}"
    if isinstance(value, dict):
        items = [f"{_short(key, persistable)}: {_short(item, persistable)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    inside: str = ", ".join(_short(item, persistable) for item in value)
    if isinstance(value, (list, tuple)):
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return f"{name} of {len(value)}"


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
    """`items` in a container of the class of `value`; what else a subclass holds (a default factory) is kept."""
    cls = type(value)
    if cls in (dict, list):
        return items
    if isinstance(value, (tuple, frozenset)):
        return cls(items)
    made = copy.copy(value)
    made.clear()
    if isinstance(made, list):
        made.extend(items)
    else:
        made.update(items)
    return made
