"""Random object graphs, with shared and cyclic references, for the tests of this folder."""

from __future__ import annotations

import random
from typing import Any


class Node:
    """An ordinary instance with a `__dict__`."""

    def __init__(self, **attributes: Any):
        self.__dict__.update(attributes)


class Slotted:
    """Slots and no `__dict__`."""

    __slots__ = ("left", "right")


class Mixed(Slotted):
    """Slots and a `__dict__`."""


class Prickly:
    """Cannot be compared nor hashed: whoever tries it learns of it."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


class Stack(list):
    """A list with attributes."""


class Table(dict):
    """A dict with attributes."""


class Pair(tuple):
    """A tuple made through `__getnewargs__`."""

    def __new__(cls, left: Any, right: Any) -> Pair:
        return tuple.__new__(cls, (left, right))

    def __getnewargs__(self) -> tuple[Any, Any]:
        return self[0], self[1]


class Named:
    """Made by keyword through `__getnewargs_ex__`."""

    def __new__(cls, *, name: str) -> Named:
        made = object.__new__(cls)
        made.name = name  # type: ignore[attr-defined]
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        return (), {"name": self.name}  # type: ignore[attr-defined]


ATOMS = (
    None, True, False, 0, 1, -1, 255, 65536, 2**31, -(2**31) - 1, 10**40, -(10**700), 0.0, -0.0, float("nan"), 1.5,
    2j, complex(0.0, -0.0), "", "text", "Пример", "x" * 300, b"", b"bytes", b"y" * 300, ...,
)  # fmt: skip
HASHABLE = ATOMS[:-1]


def atom(choose: random.Random) -> Any:
    return choose.choice(ATOMS)


def graph(seed: int, size: int = 40, *, kinds: int = 14) -> Any:
    """A graph of about `size` objects; every object may refer to any earlier one, and containers to later ones."""
    choose = random.Random(seed)
    made: list[Any] = [atom(choose)]
    open_containers: list[Any] = []

    def some() -> Any:
        return choose.choice(made) if choose.random() < 0.6 else atom(choose)

    for number in range(size):
        made.append(_make(choose, some, choose.randrange(kinds), number))
        if type(made[-1]) in (list, dict, Node, Stack):
            open_containers.append(made[-1])
    for container in open_containers:  # close some cycles
        if choose.random() < 0.3:
            _extend(container, choose.choice(made))
    return made[-12:]


def _make(choose: random.Random, some: Any, kind: int, number: int) -> Any:
    few = range(choose.randrange(5))
    match kind:
        case 0 | 1:
            return [some() for _ in few]
        case 2:
            return tuple(some() for _ in few)
        case 3 | 4:
            return {choose.choice(HASHABLE): some() for _ in few}
        case 5:
            return {choose.choice(HASHABLE) for _ in few}
        case 6:
            return frozenset(choose.choice(HASHABLE) for _ in few)
        case 7:
            return bytearray(b"raw %d" % number)
        case 8 | 9:
            return Node(**{f"field{index}": some() for index in few})
        case 10:
            return _filled(choose.choice((Slotted, Mixed))(), left=some(), right=some())
        case 11:
            return _filled(Stack([some() for _ in few]), label=some())
        case 12:
            return _filled(Table({number: some()}), label=some())
        case _:
            return Pair(some(), Named(name=f"n{number}"))


def _filled(obj: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(obj, name, value)
    return obj


def _extend(container: Any, item: Any) -> None:
    if isinstance(container, list):
        container.append(item)
    elif isinstance(container, dict):
        container["again"] = item
    else:
        container.again = item


def shape(root: Any) -> list[Any]:
    """The graph as a list of plain values: equal for graphs that are alike, with the same places shared.

    An independent, simple description for tests; sets are listed by the text of their members, which are atoms.
    """
    numbers: dict[int, int] = {}
    alive: list[Any] = []
    lines: list[Any] = []
    waiting = [root]
    while waiting:
        obj = waiting.pop()
        if isinstance(obj, float | complex | int | str | bytes | type | type(None) | type(...)):
            lines.append((type(obj).__name__, repr(obj)))
            continue
        if id(obj) in numbers and obj != ():
            lines.append(("again", numbers[id(obj)]))
            continue
        numbers[id(obj)] = len(numbers)
        alive.append(obj)
        parts = list(_parts(obj))
        lines.append((type(obj).__name__, len(parts)))
        waiting.extend(reversed(parts))
    return lines


def _parts(obj: Any) -> list[Any]:
    parts: list[Any] = []
    if isinstance(obj, dict):
        parts += [part for item in obj.items() for part in item]
    elif isinstance(obj, set | frozenset):
        parts += sorted(repr(member) for member in obj)
    elif isinstance(obj, bytearray):
        parts.append(bytes(obj))
    elif isinstance(obj, list | tuple):
        parts += list(obj)
    for name in ("left", "right"):
        if isinstance(obj, Slotted) and hasattr(obj, name):
            parts += [name, getattr(obj, name)]
    for name, value in getattr(obj, "__dict__", {}).items():
        parts += [name, value]
    return parts
