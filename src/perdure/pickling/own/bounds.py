"""What reading may cost beyond its opcodes: hashing keys, copying, and containers that unfold when they are printed.

- A tuple is hashed member by member each time, so its members are counted before; deep ones are refused. So are wide
  numbers, which take as long as they are wide.
- Numbers can be chosen so that all have one hash, and each look-up goes through all of them: refused.
- A list of a list of … twice each is small, and endless when it is printed or compared: what a result shows is counted,
  each part as often as it is met, long texts by their length, and how deep it goes. Objects of classes count as one,
  and what they were given counts by itself; circles end where they begin.
- Destructors of some containers call each other without end: of those, fewer may be nested.
"""

from __future__ import annotations

import array
import builtins
import collections
import decimal
import fractions
import pathlib
import types
from collections.abc import Collection, Iterator
from typing import Any

from perdure.pickling.own.limits import LIMIT_HINT, Limits, Refused, Wrong
from perdure.pickling.own.stack import Arguments, Handed, Stack

DEEPEST_KEY = 500
MOST_OF_ONE_HASH = 100
_SMALL = 1 << 60  # below this an int is its own hash
_SALTED = frozenset({str, bytes, bool, type(None), float})
_NUMBERS = frozenset({int, decimal.Decimal, fractions.Fraction})


def check_keys(machine: Stack, container: Any, keys: Collection[Any]) -> None:
    """Raise `Refused` if hashing the keys, or finding them again in the container, costs too much.

    `container` is what they are put into; None, if all its keys are these.
    """
    counts: dict[int, int] | None = None
    for key in keys:
        kind = type(key)
        if kind in _SALTED or (kind is int and -_SMALL < key < _SMALL):
            continue
        if kind is tuple:
            _check_tuple(machine, key)
        elif kind in _NUMBERS and machine.has_wide_numbers:
            machine.spend(_width(key))
        try:
            found = hash(key)
        except TypeError as error:
            raise Wrong(f"a key cannot be hashed: {error}") from error
        if counts is None:
            counts = {} if container is None else machine.hashes_in(container)
        count = counts[found] = counts.get(found, 0) + 1
        if count > MOST_OF_ONE_HASH:
            raise Refused(f"more than {MOST_OF_ONE_HASH} keys have the same hash")


def _check_tuple(machine: Stack, key: tuple[Any, ...]) -> None:
    waiting = [(key, 0)]
    while waiting:
        part, depth = waiting.pop()
        machine.spend(1 + len(part))
        if depth > DEEPEST_KEY:
            raise Refused("a tuple as a key is nested too deeply")
        if machine.has_wide_numbers:
            machine.spend(sum(_width(each) for each in part if type(each) in _NUMBERS))
        waiting += [(nested, depth + 1) for nested in part if type(nested) is tuple]


def _width(number: Any) -> int:
    """What hashing a number takes, in the units of `spend`."""
    if type(number) is int:
        return number.bit_length() >> 7
    if type(number) is decimal.Decimal:
        return 500  # at most: they have so many digits
    return int(number.numerator.bit_length() + number.denominator.bit_length()) >> 6


def quadratic(*numbers: int) -> int:
    """What dividing such numbers takes, in the same units."""
    bits = max(number.bit_length() for number in numbers)
    return bits * bits >> 13


# -- what is copied --------------------------------------------------------------------------------------------

_SEQUENCES = (list, tuple)
_FEW_PARTS, _DEEPEST_PART = 16, 5  # of what constructors are given: content stands so deep in it at most


def amount_of(content: Any, depth: int = 0) -> int:
    """How much a constructor is given: items, or bytes."""
    kind = type(content)
    if kind is Arguments:
        return sum(amount_of(each, depth + 1) for each in content.items)
    if kind is Handed:
        return amount_of(content.content, depth + 1)
    if kind in _SEQUENCES:
        size = len(content)
        if size <= _FEW_PARTS and depth < _DEEPEST_PART:
            size += sum(amount_of(each, depth + 1) for each in content)
        return size
    if kind is dict:
        return len(content) + amount_of([*content.values()], depth + 1)
    if kind in (str, bytes, bytearray, set, frozenset):
        return len(content)
    return int(getattr(content, "nbytes", 0)) if kind.__module__.partition(".")[0] in ("numpy", "pandas") else 0


# -- what is shown ---------------------------------------------------------------------------------------------

_EXCEPTIONS = frozenset(
    each for each in vars(builtins).values() if isinstance(each, type) and issubclass(each, BaseException)
)
FRAIL = (collections.deque, collections.defaultdict)
CONTAINERS: frozenset[type[Any]] = frozenset({
    list, tuple, dict, set, frozenset, types.SimpleNamespace, collections.OrderedDict, collections.Counter, *FRAIL,
    *_EXCEPTIONS,
})  # fmt: skip
_USUAL = frozenset({list, tuple, dict, set, frozenset})
KINDS = (list, tuple, dict, set, frozenset, collections.deque, BaseException)  # on which classes may be built
FEW = 1000  # containers in a result that is looked at in a shorter way
MOST_FRAIL = 500  # that are nested
_UNIT = 64  # characters of a long text that count as one value


class _Seen:
    """What is known of a container: how many values it shows, how deep it goes, how far up it leads back."""

    __slots__ = ("depth", "is_open", "level", "low", "shown")

    def __init__(self, level: int):
        self.level = level  # below the result
        self.low = level
        self.is_open = True
        self.shown, self.depth = 1, 0


def check_result(
    value: Any, others: list[Any], limits: Limits, kinds: frozenset[type[Any]] = CONTAINERS, longest: int = 0
) -> None:
    """Raise `Refused` if the containers of a result are too deep, or unfold to too much.

    `others` are looked at, too: what was given to objects of classes. `kinds` are all types of containers that may be
    in them, `longest` the length of the longest text.
    """
    if not others:
        if type(value) not in kinds:
            return
        nested = _nested(value, kinds)
        few, shown = len(nested) < FEW, _size(value)
        for each in nested if few else ():
            if _nested(each, kinds):
                few = False
                break
            shown += _size(each)
        if few and _enough(shown, limits, longest):
            return
    roots = [each for each in (value, *others) if type(each) in kinds]
    if not _enough(_most_shown(roots, limits, kinds), limits, longest):
        _most_shown(roots, limits, kinds, weigh=True)


def _enough(shown: int, limits: Limits, longest: int) -> bool:
    """Whether so many values cannot be too much, as long as their texts may be."""
    return shown * max(1, longest // _UNIT) <= limits.printed


def _most_shown(roots: list[Any], limits: Limits, kinds: frozenset[type[Any]], *, weigh: bool = False) -> int:
    """How many values the largest of these shows; with `weigh` long texts count as many."""
    seen: dict[int, _Seen] = {}
    crossings = most = 0
    waiting: list[tuple[Any, list[Any] | None, int]] = [(root, None, 0) for root in roots]
    while waiting:
        part, nested, level = waiting.pop()
        if nested is None:
            if id(part) in seen:
                continue
            seen[id(part)] = _Seen(level)
            nested = _nested(part, kinds)
            waiting.append((part, nested, level))
            waiting += [(each, None, level + 1) for each in nested]
            continue
        here = seen[id(part)]
        here.shown += _size(part)
        if weigh:
            here.shown += sum(_weight(each) for some in _members(part) for each in some)
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
        here.depth += 1 if type(part) not in FRAIL else max(1, limits.depth // MOST_FRAIL)
        most = max(most, here.shown)
        if crossings > limits.circles:  # what is printed grows with all ways through them
            raise Refused(f"circles of containers cross more than {limits.circles} times", LIMIT_HINT)
        if here.shown > limits.printed:
            raise Refused(f"it shows more than {limits.printed} values when it is printed", LIMIT_HINT)
        if here.depth > limits.depth:
            raise Refused(f"containers are nested more than {limits.depth} deep", LIMIT_HINT)
    return most


def is_nested(part: Any, kinds: frozenset[type[Any]]) -> bool:
    """Whether containers stand in it."""
    return type(part) in kinds and bool(_nested(part, kinds))


def _nested(part: Any, kinds: frozenset[type[Any]]) -> list[Any]:
    """The containers that stand in a container, as often as they are shown."""
    kind = type(part)
    if kind is dict:  # the usual ones: without a call
        values = part.values()
        found = [] if kinds.isdisjoint(map(type, values)) else [each for each in values if type(each) in kinds]
        return found if kinds.isdisjoint(map(type, part)) else found + [key for key in part if type(key) in kinds]
    if kind in _USUAL:
        return [] if kinds.isdisjoint(map(type, part)) else [each for each in part if type(each) in kinds]
    return [each for some in _members(part) for each in some if type(each) in kinds]


def _members(part: Any) -> Iterator[Collection[Any]]:
    """What stands in a container, without asking any method of a registered class."""
    if type(part) in _USUAL and type(part) is not dict:
        yield part
    elif isinstance(part, dict):
        yield dict.values(part)
        yield dict.keys(part)
        if isinstance(part, collections.Counter):  # it compares its values twice
            yield dict.values(part)
    elif isinstance(part, BaseException):
        yield part.args
    elif type(part) is types.SimpleNamespace:
        yield vars(part).values()
    else:
        base: Any = next(kind for kind in KINDS if isinstance(part, kind))
        yield [*base.__iter__(part)]


def _size(part: Any) -> int:
    return len(part) if type(part) in _USUAL else sum(map(len, _members(part)))


def _weight(value: Any) -> int:
    """What a text, or another value that shows as much as it holds, counts for beyond the one that it is."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) // _UNIT
    if type(value) is array.array:
        return len(value) // 16
    if isinstance(value, pathlib.PurePath):
        return len(str(value)) // _UNIT
    if type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
        if value.dtype.hasobject:
            return sum(map(_weight, value.flat))
        return int(value.nbytes) // _UNIT if value.dtype.kind in "SU" else 0
    return 0


def take_apart(containers: list[Any]) -> None:
    """Empty containers that go, one by one: each is held by the list, so that none of them goes with another."""
    for each in containers:
        (collections.deque if isinstance(each, collections.deque) else dict).clear(each)
