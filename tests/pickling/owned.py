"""Classes for the tests of perdure's own reader: registered ones, and ones that nobody registered."""

from __future__ import annotations

import dataclasses
import enum
from collections import namedtuple
from typing import Any

import perdure


@perdure.register_class
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@perdure.register_class
@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    begin: float
    end: float = 1.0


@perdure.register_class
class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@perdure.register_class
class Right(enum.Flag):
    READ = 1
    WRITE = 2


Pair = perdure.register_class(namedtuple("Pair", "left right"))


@perdure.register_class
class Stack(list):
    """A list with attributes."""


@perdure.register_class
class Table(dict):
    """A dict with attributes."""


@perdure.register_class
class Tags(set):
    """A set with attributes."""


@perdure.register_class
class Mixed:
    """Slots, a dict, and a base with slots."""

    __slots__ = ("__dict__", "left")


@perdure.register_class
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


@perdure.register_class
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
