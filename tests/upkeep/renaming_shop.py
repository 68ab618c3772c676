"""A program's modules before and after its classes got other names, for the tests of renaming."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

SOURCE = """
import enum
import perdure


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Line:
    def __init__(self, of):
        self.of = of


class NAME(perdure.Persistable):
    __indexed__ = ("total",)

    class Note:
        pass

    def __init__(self, total, **more):
        self.total = total
        self.__dict__.update(more)


class Plain(perdure.Persistable):
    def __init__(self, name, other=None):
        self.name, self.other = name, other


class Listed(list, perdure.Persistable):
    pass


class Slotted(perdure.Persistable):
    __slots__ = ("line",)

    def __init__(self, line):
        self.line = line


def work(value):
    return value
"""


@cache
def _made(module: str, cart: str) -> types.ModuleType:
    made = types.ModuleType(module)
    exec(compile(SOURCE.replace("NAME", cart), f"<{module}>", "exec", dont_inherit=True), made.__dict__)
    made.Cart = getattr(made, cart)
    return made


@contextmanager
def shop(module: str = "old_shop", cart: str = "Cart") -> Iterator[types.ModuleType]:
    """The module under that name, with its main class under that one; both are gone after the block."""
    made = _made(module, cart)
    names = [module]
    sys.modules[module] = made
    while "." in names[-1]:
        names.append(names[-1].rpartition(".")[0])
        sys.modules[names[-1]] = types.ModuleType(names[-1])
    try:
        yield made
    finally:
        for name in names:
            del sys.modules[name]
