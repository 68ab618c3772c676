"""Classes for the tests of perdure's own reader: registered ones, and ones that nobody registered."""

from __future__ import annotations

import dataclasses
import enum
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import perdure
from perdure.evolution import versions
from perdure.pickling.declared import DECLARED

_CLASSES: list[type[Any]] = []


def registered(cls: Any) -> Any:
    """To be registered while tests of a module run: others find nothing declared."""
    _CLASSES.append(cls)
    return cls


@contextmanager
def all_registered() -> Iterator[None]:
    """Within the block they are."""
    for cls in _CLASSES:
        perdure.register_class(cls)
    try:
        yield
    finally:
        DECLARED.clear()
        versions.REGISTERED.clear()


@registered
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@registered
@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    begin: float
    end: float = 1.0


@registered
class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@registered
class Right(enum.Flag):
    READ = 1
    WRITE = 2


Pair = registered(namedtuple("Pair", "left right"))


@registered
class Stack(list):
    """A list with attributes."""


@registered
class Table(dict):
    """A dict with attributes."""


@registered
class Tags(set):
    """A set with attributes."""


@registered
class Mixed:
    """Slots, a dict, and a base with slots."""

    __slots__ = ("__dict__", "left")


@registered
class Setting:
    """It takes its state itself."""

    def __init__(self, value: Any):
        self.value = value

    def __getstate__(self) -> Any:
        return ["kept", self.value]

    def __setstate__(self, state: Any) -> None:
        word, self.value = state
        if word != "kept":
            raise LookupError(word)


@registered
class Trouble(Exception):
    """An exception of the program's."""


class Node(perdure.Persistable):
    """Imported, and so known."""

    def __init__(self, value: Any, following: Any = None):
        self.value = value
        self.following = following


class Stranger:
    """Nobody has registered it."""

    def __init__(self) -> None:
        self.value = 1
