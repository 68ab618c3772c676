"""Modules before and after renames, for tests of the rewriter: the same classes under their old and new names."""

from __future__ import annotations

import enum
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Any

from perdure.pickling.renames import Renames

SOURCE = '''
import dataclasses, enum, pickle
from typing import NamedTuple


class Plain:
    class Inner:
        class Deep:
            pass

        @classmethod
        def call(cls):
            return cls

    class Other:
        pass


class Slotted:
    __slots__ = ("left", "right")

    def __getstate__(self):
        return [self.left]

    def __setstate__(self, state):
        (self.left,) = state


class Colour(enum.Enum):
    RED = 1
    BLUE = "Plain"


class Pair(NamedTuple):
    left: object
    right: object


@dataclasses.dataclass
class Data:
    value: object = None


class Stack(list):
    class Tone(enum.IntFlag):
        DARK = 1
        LIGHT = 2


class Keyed(tuple):
    def __new__(cls, *, value):
        return tuple.__new__(cls, (value,))

    def __getnewargs_ex__(self):
        return (), {"value": self[0]}


class Raised(Exception):
    pass


class Holder:
    """Gives its content out of band."""

    def __init__(self, content):
        self.content = bytes(content)

    def __reduce_ex__(self, protocol):
        return type(self), (pickle.PickleBuffer(self.content) if protocol >= 5 else self.content,)


def work(*args):
    return args
'''
CODE = compile(SOURCE, "<world>", "exec", dont_inherit=True)
NAMES = (
    "Plain", "Slotted", "Colour", "Pair", "Data", "Stack", "Keyed", "Raised", "Holder", "work", "Plain.Inner",
    "Plain.Other", "Stack.Tone", "Plain.Inner.Deep",
)  # fmt: skip
OLD = "old_place"

Modules = dict[str, types.ModuleType]


def before(module: str = OLD) -> Modules:
    """The module with all of `NAMES`, under its old name."""
    made = types.ModuleType(module)
    exec(CODE, made.__dict__)
    return _with_packages({module: made})


def after(renames: Renames, module: str = OLD) -> Modules:
    """The modules in which the same things have their new names, and those that are gone are gone."""
    source = types.ModuleType(module)
    exec(CODE, source.__dict__)
    things = {name: functools.reduce(getattr, name.split("."), source) for name in NAMES}
    made: Modules = {}
    for name in NAMES:
        for part in name.split(".")[1:]:
            if hasattr(things[name.rpartition(".")[0]], part):
                delattr(things[name.rpartition(".")[0]], part)
    for name, thing in things.items():
        new_module, new_name = renames.of(module, name)
        thing.__module__, thing.__qualname__, thing.__name__ = new_module, new_name, new_name.rpartition(".")[2]
        holder: Any = made.setdefault(new_module, types.ModuleType(new_module))
        *outer, last = new_name.split(".")
        for part in outer:
            if not hasattr(holder, part):
                setattr(holder, part, type(part, (), {}))
            holder = getattr(holder, part)
        setattr(holder, last, thing)
    return _with_packages(made)


def _with_packages(made: Modules) -> Modules:
    for name in list(made):
        while name := name.rpartition(".")[0]:
            made.setdefault(name, types.ModuleType(name))
    return made


@contextmanager
def installed(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Within the block these modules, and none of other worlds, can be imported."""
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def described(root: Any, renames: Renames | None = None) -> list[Any]:
    """The graph as plain values, names as they are after the renames: equal for graphs that are alike."""
    renames = renames or Renames()
    numbers: dict[int, int] = {}
    alive: list[Any] = []
    lines: list[Any] = []
    waiting = [root]
    while waiting:
        obj = waiting.pop()
        if isinstance(obj, enum.Enum):
            lines.append((_name(type(obj), renames), obj.value))
        elif isinstance(obj, type | types.FunctionType):
            lines.append(_name(obj, renames))
        elif isinstance(obj, str | bytes):
            known = id(obj) in numbers
            lines.append((type(obj).__name__, obj, numbers.setdefault(id(obj), len(numbers)) if len(obj) > 1 else 0))
            alive.append(obj) if not known else None
        elif isinstance(obj, int | float | None | types.EllipsisType):
            lines.append((type(obj).__name__, repr(obj)))
        elif id(obj) in numbers and obj != ():
            lines.append(("again", numbers[id(obj)]))
        else:
            numbers[id(obj)] = len(numbers)
            alive.append(obj)
            parts = list(_parts(obj))
            lines.append((_name(type(obj), renames), len(parts)))
            waiting.extend(reversed(parts))
    return lines


def _name(thing: Any, renames: Renames) -> tuple[str, str]:
    return renames.of(thing.__module__, thing.__qualname__)


def _parts(obj: Any) -> Iterator[Any]:
    if isinstance(obj, types.MethodType):
        yield from (obj.__self__, obj.__func__.__name__)
        return
    if isinstance(obj, functools.partial):
        yield from (obj.func, obj.args, sorted(obj.keywords))
        return
    if isinstance(obj, dict):
        yield from (part for item in obj.items() for part in item)
    elif isinstance(obj, set | frozenset):
        yield sorted(map(repr, obj))
    elif isinstance(obj, list | tuple):
        yield from obj
    elif isinstance(obj, Exception):
        yield obj.args
    for name in ("left", "right"):
        if not isinstance(obj, tuple) and not is_dataclass(obj) and hasattr(type(obj), name) and hasattr(obj, name):
            yield from (name, getattr(obj, name))
    for name, value in getattr(obj, "__dict__", {}).items():
        yield from (str(name), value)
