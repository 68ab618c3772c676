"""What the compiled part pickles by itself has the very bytes that C pickle writes; what is odd it leaves to that."""

from __future__ import annotations

import copyreg
import datetime
import decimal
import enum
import gc
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways import COMPILED, needs_kernels

import perdure
from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.errors import CannotPickle, WrongView
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.persistable import Entry, entry_of
from perdure.objects.payloads.encoding import Encoder
from perdure.pickling import outside
from perdure.pickling.layouts import ASIDE, keep_aside
from perdure.pickling.outside import REGISTERED

KEY = Key(bytes(range(32)))

pytestmark = needs_kernels

T = TypeVar("T")


class Part(Persistable):
    def __init__(self, **given: Any):
        self.__dict__.update(given)


class Plain:
    def __init__(self, **given: Any):
        self.__dict__.update(given)


class Generic_(Generic[T]):
    def __init__(self, value: T):
        self.value = value


@dataclass
class Need:
    cores: Any


@dataclass(frozen=True)
class Place:
    host: Any
    need: Any


@dataclass(slots=True)
class Slim:
    one: Any
    other: Any


@dataclass(slots=True, frozen=True)
class Frozen:
    one: Any
    other: Any


class Slotted:
    __slots__ = ("lacking", "value")

    def __init__(self, value: Any):
        self.value = value


class Pair(NamedTuple):
    one: Any
    other: Any


Four = namedtuple("Four", "a b c d")
Nothing = namedtuple("Nothing", "")


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Flag(enum.Flag):
    X = 1
    Y = 2


class Stating:
    def __init__(self) -> None:
        self.inside = "inside"

    def __getstate__(self) -> Any:
        return {"told": "by itself"}


class Reducing:
    def __reduce__(self) -> Any:
        return Reducing, ()


class OwnDict(dict):
    pass


class Watched(Encoder):
    """One that notes whether it has needed a pickler."""

    asked = False

    def _new_pickler(self) -> Any:
        self.asked = True
        return super()._new_pickler()


def pickled(obj: Any, *, compiled: bool, enrol: Any = entry_of) -> tuple[Any, bool]:
    """What comes of encoding an object, and whether no pickler was needed."""
    facts = facts_of(type(obj))
    facts.links_to_learn, facts.shapes = 0, {}
    facts.shape(tuple(vars(obj)))
    encoder = Watched(enrol)
    try:
        if compiled:
            found = COMPILED.encode_simple(encoder, obj, facts)
            assert found is not NotImplemented
        else:
            found = encoder.encode_simple_in_python(obj, facts)
    except BaseException as error:  # noqa: BLE001 (compared)
        found = type(error), str(error)
    else:
        found = found if found is None else (found[0], found[1], found[3])
    return (found, encoder.names, encoder.modules), not encoder.asked


def same(obj: Any, **given: Any) -> bool:
    """Whether the compiled part needed no pickler; what comes out must be the same."""
    by_python, _ = pickled(obj, compiled=False, **given)
    by_c, alone = pickled(obj, compiled=True, **given)
    assert by_c == by_python
    return alone


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_aside() -> Iterator[None]:
    """As long as anything is, no instance is usual; tests of other modules may leave objects that somebody holds."""
    before = dict(ASIDE)
    ASIDE.clear()
    yield
    ASIDE.update(before)


@pytest.fixture(scope="module")
def records() -> list[Any]:
    made, store = [Part(number=number) for number in range(4)], Store(MemoryBackend(), KEY, code="off")
    store.save_many(made)
    return [*made, store]


TEXTS = ["", "host", "cores", "x" * 255, "x" * 256, "ü", "€uro", "\U0001f600", "y" * 1500]
EDGES = [sign * (2**bits + more) for bits in (0, 7, 8, 15, 16, 31, 32, 39, 47, 55, 62) for more in (-1, 0, 1)
         for sign in (1, -1)] + [2**63 - 1, -(2**63)]  # fmt: skip
TIMES = [
    datetime.date(1, 1, 1), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1), datetime.time(1, 2),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1, 2, 3),
    datetime.timezone(datetime.timedelta(hours=2), "there"), decimal.Decimal("1.50"),
]  # fmt: skip
HASHABLE = st.sampled_from(
    [*TEXTS[:6], *EDGES[:8], None, True, 2.5, b"x", Colour.RED, TIMES[0], (1, ("a",)), Pair(1, "a")]
)
ATOMS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EDGES) | st.floats()
    | st.text(max_size=8) | st.sampled_from([*TEXTS, *TIMES, Colour.RED, Colour.BLUE, Level.LOW, b"", b"z" * 300])
)  # fmt: skip


def grown(inner: Any) -> Any:
    """Containers and instances of what there is, and some that hold a thing twice."""
    several = st.lists(inner, max_size=4)
    name = st.sampled_from(["host", "a", "_b"])
    return st.one_of(
        several, several.map(tuple), several.map(lambda each: [*each, *each]), st.just(Nothing()),
        st.dictionaries(HASHABLE, inner, max_size=4), st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4), inner.map(Need), inner.map(Slotted), inner.map(Generic_),
        st.builds(Place, inner, inner), st.builds(Slim, inner, inner), st.builds(Frozen, inner, inner),
        st.builds(Pair, inner, inner), st.builds(Four, inner, inner, inner, inner),
        st.dictionaries(name, inner).map(lambda its: Plain(**its)),
    )  # fmt: skip


USUAL = st.recursive(ATOMS, grown, max_leaves=20)
ODD = st.recursive(
    ATOMS
    | st.sampled_from(
        [
            Reducing(),
            Stating(),
            Flag.X,
            Flag.X | Flag.Y,
            1j,
            range(3),
            OrderedDict(a=1),
            len,
            Need,
            bytearray(b"x"),
            2**64,
            "\ud800",
            OwnDict(a=1),
        ]
    ),
    grown,
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["host", "one", "state", "ü", "_tags"]), USUAL, min_size=1, max_size=4))
def test_what_is_usual_is_pickled_alone(attributes):
    assert same(Part(**attributes))


@given(st.dictionaries(st.sampled_from(["host", "one", "state"]), ODD, min_size=1, max_size=4))
def test_what_is_odd_is_the_same(attributes):
    same(Part(**attributes))


def test_records_and_what_is_shared(records):
    *parts, _ = records
    text, inner, need = "".join(["a ", "text"]), [1, 2], Need(parts[0])
    ring = Plain(name="ring")
    ring.itself, ring.need = ring, need
    told = Plain(number=1)
    listed: list[Any] = []
    listed.append((listed, text, text))
    many = [f"text {number}" for number in range(400)]
    for attributes in (
        {"tags": [*parts, *parts], "owner": {"a": parts[1]}, "place": Place(parts[2], need)},
        {"one": inner, "two": [inner, inner], "three": {"host": text, "other": text}, "four": (need, need)},
        {"ring": ring, "listed": listed, "members": frozenset(parts), "some": {parts[3]}},
        {"many": many, "again": many[::-1], "last": {text: many[300]}},
        {"large": ["x" * 900 for _ in range(60)], "class": [Need(1), Need]},
        {"state": [told, vars(told)], "before": [vars(told), told]},
    ):
        assert same(Part(**attributes))
        assert same(Part(**attributes))


@pytest.mark.parametrize("odd", [
    "x" * 60_001, b"x" * 70_000, list(range(1000)), list(range(1001)), dict.fromkeys(range(1000)), set(range(1000)),
    2**63, -(2**63) - 1, "\ud800", Plain(__reduce__=1), Plain(__getstate__=None), len, Need, Flag.X, Stating(),
    [["x" * 1000 + str(number)] for number in range(100)],
], ids=lambda odd: f"{type(odd).__name__}")  # fmt: skip
def test_what_is_large_or_odd_is_left_to_pickle(odd):
    assert not same(Part(value=odd))
    assert not same(Part(value=[Slim(1, odd)], other="other"))


def test_what_is_deep_or_holds_itself_is_left_to_pickle():
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    inside: list[Any] = []
    itself = (inside, 1)
    inside.append(itself)
    other = Plain(number=1)
    other.__dict__ = OwnDict(a=1)
    for value in (deep, itself, other):
        assert not same(Part(value=value))
    assert same(Part(value=[]))
    same(Part())


def fresh(**body: Any) -> Any:
    """A class of this module that is found under its name."""
    cls = type("Fresh", (), {"__module__": __name__, "__qualname__": "Fresh", **body})
    setattr(sys.modules[__name__], "Fresh", cls)
    return cls


@pytest.mark.parametrize("name", ["__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"])
def test_a_class_that_is_changed_is_asked_again(name):
    ways = {
        "__reduce__": lambda self: (Plain, ()),
        "__reduce_ex__": lambda self, protocol: (Plain, ()),
        "__getstate__": lambda self: {"told": 1},
        "__getnewargs__": lambda self: (),
        "__getnewargs_ex__": lambda self: ((), {}),
    }
    cls = fresh()
    obj = cls()
    obj.number = 1
    assert same(Part(value=obj))
    setattr(cls, name, ways[name])
    assert not same(Part(value=obj))
    delattr(cls, name)
    assert same(Part(value=obj))


def test_a_base_that_is_changed_counts_too():
    base = fresh()
    cls = type("Below", (base,), {"__module__": __name__, "__qualname__": "Below"})
    setattr(sys.modules[__name__], "Below", cls)
    obj = cls()
    obj.number = 1
    assert same(Part(value=obj))
    base.__getstate__ = lambda self: {"told": 1}
    assert not same(Part(value=obj))


def test_what_is_not_found_under_its_name_any_more_is_refused():
    obj = fresh()()
    assert same(Part(value=obj))
    second = fresh()()
    assert not same(Part(value=obj))
    assert same(Part(value=second))
    type(second).__qualname__ = "Elsewhere"
    assert not same(Part(value=second))
    type(second).__qualname__ = "Fresh"
    type(second).__module__ = "nowhere.at_all"
    assert not same(Part(value=second))
    with pytest.raises(CannotPickle):
        Store(MemoryBackend(), KEY, code="off").save(Part(value=second))


@pytest.mark.parametrize("odd", [
    {"__getattr__": lambda self, name: 1}, {"__getattribute__": object.__getattribute__},
    {"__class__": property(lambda self: Plain)}, {"__slots__": ("number", "__dict__")},
], ids=lambda odd: str(*odd))  # fmt: skip
def test_classes_that_look_into_themselves_are_left_to_pickle(odd):
    obj = fresh(**odd)()
    obj.number = 1
    same(Part(value=obj))
    if "__getattribute__" not in odd:
        assert not same(Part(value=obj))


def test_what_is_built_on_something_is_left_to_pickle():
    for base in (list, dict, set, Exception, int, str, bytes, tuple):
        cls = type("Built", (base,), {"__module__": __name__, "__qualname__": "Built"})
        setattr(sys.modules[__name__], "Built", cls)
        assert not same(Part(value=cls()))


def test_what_is_declared_of_classes_counts(monkeypatch):
    obj = fresh()()
    obj.number = 1
    assert same(Part(value=obj))
    monkeypatch.setitem(copyreg.dispatch_table, type(obj), lambda obj: (Plain, ()))
    assert not same(Part(value=obj))
    monkeypatch.delitem(copyreg.dispatch_table, type(obj))
    monkeypatch.setitem(copyreg._extension_registry, (__name__, "Fresh"), 7)
    assert not same(Part(value=obj))
    monkeypatch.delitem(copyreg._extension_registry, (__name__, "Fresh"))
    keep_aside(obj, {"more": 1})
    assert not same(Part(value=obj))
    ASIDE.clear()
    assert same(Part(value=obj))


def test_what_is_kept_outside_is_left_to_pickle_and_nothing_else(monkeypatch):
    cls, asked = fresh(), []
    obj = cls()
    obj.number = 1
    assert same(Part(value=obj))
    kind = outside.Kind("usual", cls, lambda obj: asked.append(obj) or obj.number, lambda key, resources: None)
    monkeypatch.setattr(outside, "_known", {})
    monkeypatch.setitem(REGISTERED, id(cls), kind)
    assert not same(Part(value=obj))
    assert len(asked) == 2
    assert same(Part(value=[Need(1), Colour.RED, TIMES]))
    monkeypatch.undo()
    assert same(Part(value=obj))


def test_versions_are_told_as_ever():
    cls = fresh(__annotations__={"number": int})
    obj = dataclass(cls)(1)
    assert same(Part(value=obj))
    perdure.versioned("usual.Fresh", version=2, oldest=2)(cls)
    try:
        assert not same(Part(value=obj))
    finally:
        perdure.pickling.declared.DECLARED.clear()
        perdure.evolution.versions.REGISTERED.clear()


# -- whoever is referred to is asked about in Python -------------------------------------------------------------------


def entry_for(obj: Any) -> Entry:
    entry = entry_of(obj)
    assert entry is not None
    return entry


@pytest.mark.parametrize("kind", ["list", "longer", "dict", "set", "inside"])
def test_what_changes_meanwhile_is_gone_through_safely(records, kind):
    """What comes out is the state as it was at some time, or what pickle says of such a change."""
    part, *_ = records
    obj = Part(value={
        "list": lambda: [part, *map(str, range(10_000, 10_020))], "longer": lambda: [part, 1],
        "dict": lambda: {"first": part, **{name: [name] for name in "abcdefgh"}}, "set": lambda: {part},
        "inside": lambda: [[part, ["inside"]], Plain(number=[1])],
    }[kind]())  # fmt: skip

    def enrol(_: Any) -> Entry:
        value = obj.value
        if kind == "longer":
            value.extend(range(500))
        elif kind == "set":
            value.update(range(500))
        else:
            value.clear()
        gc.collect()
        return entry_for(part)

    (found, _, _), _ = pickled(obj, compiled=True, enrol=enrol)
    assert found is None or type(found[0]) is bytes


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), MemoryError("none"), WrongView("no"), ValueError("odd")])
def test_what_is_raised_meanwhile_comes_out_the_same(records, error):
    def enrol(_: Any) -> Entry:
        raise error

    same(Part(value=[1, Need(records[0])]), enrol=enrol)


def test_a_reference_in_the_midst_counts_in_its_place(records):
    *parts, _ = records
    assert not same(Part(first=[parts[2], parts[0]], odd=Reducing(), last=[parts[1], parts[2]]))


def test_nothing_is_kept(records):
    objects = [
        Part(value=[Need(records[0]), Slim(1, "".join(["a", "b"])), Pair([], {}), *TIMES, {Colour.RED}, ["x"] * 300]),
        Part(value=[*map(str, range(500)), Reducing()]),
        Part(value=[Need([2**70]), Pair(1, "\ud800")]),
    ]

    def work(times: int) -> int:
        for _ in range(times):
            for obj in objects:
                pickled(obj, compiled=True)
        while gc.collect():
            pass
        return sys.getallocatedblocks()

    before = work(25)
    assert work(50) - before < 50


def test_no_change_is_seen_in_what_was_loaded():
    backend = MemoryBackend()
    ids = Store(backend, KEY, code="off").save_many(
        [
            Part(value=[Need(1), {"b", "a"}, Colour.RED, TIMES, Slim(1, 2)], name="".join(["a ", str(number)]))
            for number in range(9)
        ]
    )
    store = Store(backend, KEY, code="off")
    with store.transaction():
        for part in store.load_many(ids):
            assert part.value[0] == Need(1)
    assert store.revision() == 1
    before = kernels.compiled
    kernels.compiled = None
    try:
        again = Store(backend, KEY, code="off")
        assert [part.value for part in again.load_many(ids)] == [part.value for part in store.load_many(ids)]
    finally:
        kernels.compiled = before
