"""Classes that look like usual ones and are not, or are no more: the compiled part leaves them to pickle."""

from __future__ import annotations

import copyreg
import datetime
import enum
import sys
from collections import namedtuple
from typing import Any, NamedTuple

import pytest
from ways import COMPILED, needs_kernels

from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.persistable import entry_of
from perdure.objects.payloads.encoding import Encoder

KEY = Key(bytes(range(32)))

pytestmark = needs_kernels


class Part(Persistable):
    def __init__(self, **given: Any):
        self.__dict__.update(given)


class Holding(enum.Enum):
    LIST = []
    DICT = {}


Holding.LIST.value.append(Holding.LIST)
Holding.DICT.value["both"] = [Holding.DICT, Holding.LIST]


class Turned(NamedTuple):
    one: Any
    other: Any

    def __iter__(self) -> Any:
        return iter((self.other, self.one))


class Told(enum.Enum):
    ONE = 1

    def __getattribute__(self, name: str) -> Any:
        return "told" if name == "_value_" else super().__getattribute__(name)


Told.ONE.__dict__["_value_"] = 1


def encoded(obj: Any, *, compiled: bool) -> Any:
    """What comes of encoding an object: payload, references, flags, and the names and modules in it."""
    facts = facts_of(type(obj))
    facts.links_to_learn, facts.shapes = 0, {}
    facts.shape(tuple(vars(obj)))
    encoder = Encoder(entry_of)
    found = COMPILED.encode_simple(encoder, obj, facts) if compiled else encoder.encode_simple_in_python(obj, facts)
    return found and (found[0], found[1], found[3]), encoder.names, encoder.modules


def require_same(value: Any) -> None:
    """Both write the same of it, alone and beside others."""
    for obj in (Part(value=value), Part(value=[value, (value, "host")])):
        assert encoded(obj, compiled=True) == encoded(obj, compiled=False)


@pytest.mark.parametrize("value", [
    Holding.LIST, Holding.DICT, [Holding.LIST.value, Holding.DICT], Turned(1, 2), Told.ONE,
], ids=["list", "dict", "both", "tuple", "told"])  # fmt: skip
def test_what_looks_usual_is_written_the_same(value):
    require_same(value)


def test_a_member_that_holds_itself_is_loaded_the_same(monkeypatch):
    for compiled in (COMPILED, None):
        monkeypatch.setattr(kernels, "compiled", compiled)
        store = Store(MemoryBackend(), KEY, code="off")
        id_ = store.save(Part(value=[Holding.LIST, Holding.DICT]))
        assert Store(store.backend, KEY, code="off").load(id_).value == [Holding.LIST, Holding.DICT]


def fresh(cls: Any) -> Any:
    """A class that is found as `Fresh` of this module."""
    cls.__module__, cls.__qualname__ = __name__, "Fresh"
    setattr(sys.modules[__name__], "Fresh", cls)
    return cls


@pytest.mark.parametrize(("name", "way"), [
    ("__getnewargs__", lambda self: (8, 9)), ("__iter__", lambda self: iter((8, 9))),
    ("__getstate__", lambda self: {"told": 1}),
])  # fmt: skip
def test_a_named_tuple_that_is_changed_is_asked_again(name, way):
    cls = fresh(namedtuple("Fresh", "one other"))
    obj = cls(1, 2)
    require_same(obj)
    setattr(cls, name, way)
    require_same(obj)


@pytest.mark.parametrize("name", ["_name_", "_value_"])
def test_an_enumeration_that_is_changed_is_asked_again(name):
    cls = fresh(enum.Enum("Fresh", "ONE"))
    require_same(cls.ONE)
    setattr(cls, name, property(lambda self: "ONE"))
    require_same(cls.ONE)


class Louder(enum.EnumType):
    def __reduce__(cls) -> Any:
        return getattr, (sys.modules[__name__], "Fresh")


def reduced_class(cls: Any) -> Any:
    return fresh, (cls.__name__,)


def test_what_is_told_of_a_metaclass_counts(monkeypatch):
    cls = fresh(enum.Enum("Fresh", "ONE"))
    require_same(cls.ONE)
    cls.__class__ = Louder
    require_same(cls.ONE)
    monkeypatch.setitem(copyreg.dispatch_table, Louder, reduced_class)
    require_same(cls.ONE)
    cls.__class__ = enum.EnumType
    require_same(cls.ONE)
    monkeypatch.setitem(copyreg.dispatch_table, enum.EnumType, reduced_class)
    require_same(cls.ONE)


def test_a_class_that_calls_itself_like_a_date_is_none():
    asked = []

    class Date(datetime.date):
        def __reduce_ex__(self, protocol: Any) -> Any:
            asked.append(protocol)
            return super().__reduce_ex__(protocol)

    Date.__module__, Date.__qualname__ = "datetime", "date"
    obj = Part(value=Date(2020, 1, 1))
    assert encoded(obj, compiled=True)[0] == encoded(obj, compiled=False)[0]
    assert len(asked) == 2  # once each way
