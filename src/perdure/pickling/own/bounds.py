"""What reading may cost beyond its opcodes: hashing keys, and containers that unfold when they are printed.

- A tuple is hashed member by member each time, so its members are counted before; deep ones are refused.
- Numbers can be chosen so that all have one hash, and each look-up goes through all of them: refused.
- A list of a list of … twice each is small, and endless when it is printed or compared: what a result shows is counted,
  each part as often as it is met, and how deep it goes. Objects of classes count as one; circles end where they begin.
"""

from __future__ import annotations

from typing import Any

from perdure.pickling.own.limits import LIMIT_HINT, Limits, Refused, Wrong
from perdure.pickling.own.stack import Stack

DEEPEST_KEY = 500
FREE_KEY_WORK = 1_000_000
KEY_WORK_PER_BYTE = 20
MOST_OF_ONE_HASH = 100
_SMALL = 1 << 60  # below this an int is its own hash
_SALTED = frozenset({str, bytes, bool, type(None), float})


def check_keys(machine: Stack, container: Any, keys: list[Any]) -> None:
    """Raise `Refused` if hashing the keys, or finding them again in the container, costs too much."""
    for key in keys:
        kind = type(key)
        if kind in _SALTED or (kind is int and -_SMALL < key < _SMALL):
            continue
        if kind is tuple:
            _check_tuple(machine, key)
        try:
            found = id(container), hash(key)
        except TypeError as error:
            raise Wrong(f"a key cannot be hashed: {error}") from error
        count = machine.hashes[found] = machine.hashes.get(found, 0) + 1
        if count > MOST_OF_ONE_HASH:
            raise Refused(f"more than {MOST_OF_ONE_HASH} keys have the same hash")


def _check_tuple(machine: Stack, key: tuple[Any, ...]) -> None:
    most = FREE_KEY_WORK + KEY_WORK_PER_BYTE * machine.size
    waiting = [(key, 0)]
    while waiting:
        part, depth = waiting.pop()
        machine.key_work += 1 + len(part)
        if machine.key_work > most or depth > DEEPEST_KEY:
            raise Refused("a tuple as a key is nested too deeply")
        waiting += [(nested, depth + 1) for nested in part if type(nested) is tuple]


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
FEW = 1000  # containers in a result that is looked at in a shorter way


class _Seen:
    """What is known of a container: how many values it shows, how deep it goes, how far up it leads back."""

    __slots__ = ("depth", "is_open", "level", "low", "shown")

    def __init__(self, level: int):
        self.level = level  # below the result
        self.low = level
        self.is_open = True
        self.shown, self.depth = 1, 0


def check_result(value: Any, limits: Limits) -> None:
    """Raise `Refused` if the containers of a result are too deep, or unfold to too much."""
    if type(value) not in _CONTAINERS:
        return
    nested = _nested(value)
    if len(nested) < FEW and not any(map(_nested, nested)) and sum(map(len, nested)) < limits.printed:
        return
    _check_nested(value, limits)


def _check_nested(value: Any, limits: Limits) -> None:
    seen: dict[int, _Seen] = {}
    crossings = 0
    waiting: list[tuple[Any, list[Any] | None, int]] = [(value, None, 0)]
    while waiting:
        part, nested, level = waiting.pop()
        if nested is None:
            if id(part) in seen:
                continue
            seen[id(part)] = _Seen(level)
            nested = _nested(part)
            waiting.append((part, nested, level))
            waiting += [(each, None, level + 1) for each in nested]
            continue
        here = seen[id(part)]
        here.shown += len(part)
        below: set[int] = set()
        for each in nested:
            there = seen[id(each)]
            here.low = min(here.low, there.level if there.is_open else there.low)
            if not there.is_open:
                here.shown += there.shown
                here.depth = max(here.depth, there.depth)
                crossings += there.low < there.level and (id(each) in below or there.level != level + 1)
                below.add(id(each))
        here.is_open = False
        here.depth += 1
        if crossings > limits.circles:  # what is printed grows with all ways through them
            raise Refused(f"circles of containers cross more than {limits.circles} times", LIMIT_HINT)
        if here.shown > limits.printed:
            raise Refused(f"it shows more than {limits.printed} values when it is printed", LIMIT_HINT)
        if here.depth > limits.depth:
            raise Refused(f"containers are nested more than {limits.depth} deep", LIMIT_HINT)


def _nested(part: Any) -> list[Any]:
    """The containers that stand in a container, as often as they do."""
    containers = _CONTAINERS
    found: list[Any] = []
    if type(part) is dict:
        if not containers.isdisjoint(map(type, part.values())):
            found = [value for value in part.values() if type(value) in containers]
        if not containers.isdisjoint(map(type, part)):
            found += [key for key in part if type(key) in containers]
    elif not containers.isdisjoint(map(type, part)):
        found = [each for each in part if type(each) in containers]
    return found
