"""Arguments of jobs: other jobs are found wherever they are nested, and replaced by their results.

- Looked into: lists, tuples (named ones too), dicts (keys and values), sets, frozensets and dataclasses, and
  subclasses of these; anything else, `Persistable` objects above all, is passed on as it is.
- What holds no job is passed on itself, not copied.
- One memo for a whole walk, as in `copy.deepcopy`: what is shared stays shared, circles stay circles, and the time is
  linear in the number of distinct containers. No depth ends in a recursion.
- Showing an argument never runs a `__repr__` of the user's.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from perdure.errors import FlowError
from perdure.objects.instances.persistable import Persistable

SHOWN = 60  # characters of one argument in lists
FEW = 3  # items of a container that are shown
LONG = 2**64  # above it the size of a number is told, not its digits

_ATOMS = frozenset({str, int, float, bool, bytes, type(None), complex})
_FILLED = (list, dict, set)  # made empty and filled afterwards; other containers are made with their parts

_Containers = dict[int, tuple[Any, list[Any]]]  # by `id`: a container and its parts, which this keeps alive

Shown = Callable[[Persistable], str]


def jobs_in(value: Any, kind: type[Any]) -> list[Any]:
    """The distinct instances of `kind` nested in `value`, in order.

    Raises `FlowError` where `replaced` would: for a dataclass around one of them that contains itself.
    """
    found, containers = _met(value, kind)
    if found:
        _order(_holders(found, containers))
    return found


def replaced(value: Any, kind: type[Any], result_of: Callable[[Any], Any]) -> Any:
    """`value` with each nested instance of `kind` replaced by `result_of` it, which is asked once for each."""
    found, containers = _met(value, kind)
    holders = _holders(found, containers)
    order = _order(holders)
    made = {id(job): result_of(job) for job in found}
    made |= {id_: _emptied(container) for id_, (container, _) in holders.items() if isinstance(container, _FILLED)}
    for id_ in order:
        container, parts = holders[id_]
        parts = [made.get(id(part), part) for part in parts]
        if id_ in made:
            _fill(made[id_], parts)
        else:
            made[id_] = _rebuilt(container, parts)
    return made.get(id(value), value)


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


def _met(value: Any, kind: type[Any]) -> tuple[list[Any], _Containers]:
    """The instances of `kind` and the containers in `value`, each once."""
    found: list[Any] = []
    containers: _Containers = {}
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) in _ATOMS or id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, kind):
            found.append(item)
        elif parts := list(_parts(item)):
            containers[id(item)] = item, parts
            stack.extend(reversed(parts))
    return found, containers


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


def _holders(found: list[Any], containers: _Containers) -> _Containers:
    """The containers that hold something of what was found, however deep."""
    around: dict[int, list[int]] = {}
    for id_, (_, parts) in containers.items() if found else ():
        for part in parts:
            if type(part) not in _ATOMS:
                around.setdefault(id(part), []).append(id_)
    holding: set[int] = set()
    stack = [id(job) for job in found]
    while stack:
        for id_ in around.get(stack.pop(), ()):
            if id_ not in holding:
                holding.add(id_)
                stack.append(id_)
    return {id_: container for id_, container in containers.items() if id_ in holding}


def _order(holders: _Containers) -> list[int]:
    """The order in which copies of the containers can be made; raises `FlowError` if there is none.

    Parts come first, so that a constructor sees them whole. Where a circle does not allow that, what is filled
    after it was made comes last.
    """
    order = _parts_first(holders)
    if order is None:
        order = _parts_first({id_: held for id_, held in holders.items() if not isinstance(held[0], _FILLED)})
        if order is None:
            raise FlowError(
                "A dataclass that holds a job contains itself, so no copy of it can be made with the job's result.",
                hint="Pass the job as an argument of its own.",
            )
        order += [id_ for id_, held in holders.items() if isinstance(held[0], _FILLED)]
    return order


def _parts_first(holders: _Containers) -> list[int] | None:
    """The containers, each after those in it; None if one that must be made whole is its own part."""
    order: list[int] = []
    ended: dict[int, bool] = {}  # False: its parts are being gone through
    for first in holders:
        path = [] if first in ended else [(first, iter(holders[first][1]))]
        ended.setdefault(first, False)
        while path:
            id_, parts = path[-1]
            part = next((id(part) for part in parts if id(part) in holders and not ended.get(id(part))), None)
            if part is None:
                ended[id_] = True
                order.append(id_)
                path.pop()
            elif part not in ended:
                ended[part] = False
                path.append((part, iter(holders[part][1])))
            elif not isinstance(holders[part][0], _FILLED):
                return None
    return order


def _emptied(value: Any) -> Any:
    """An empty container of the class of `value`; what else a subclass holds (a default factory) is kept."""
    cls = type(value)
    if cls in _FILLED:
        return cls()
    made = copy.copy(value)
    made.clear()
    return made


def _fill(made: Any, parts: list[Any]) -> None:
    if isinstance(made, list):
        made.extend(parts)
    elif isinstance(made, dict):
        half = len(parts) // 2
        made.update(zip(parts[:half], parts[half:], strict=True))
    else:
        made.update(parts)


def _rebuilt(value: Any, parts: list[Any]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(parts)
    if isinstance(value, (tuple, frozenset)):
        return type(value)(parts)
    named = zip(dataclasses.fields(value), parts, strict=True)
    return dataclasses.replace(value, **{field.name: part for field, part in named if field.init})
