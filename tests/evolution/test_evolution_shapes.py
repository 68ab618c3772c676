"""Classes without a version: attributes and members go by name, in records and inside of them, in every protocol."""

from __future__ import annotations

import copy
import enum
import pickle
import sys
import warnings

import pytest

import perdure
from perdure.objects.payloads import decoding

BEFORE = """
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int
@dataclass
class Plain:
    name: str
    gone: int = 1
@dataclass(slots=True)
class Open:
    x: int
    gone: int = 1
class Pair(typing.NamedTuple):
    left: object
    right: object
Old = collections.namedtuple("Old", "a b")
class Colour(enum.Enum):
    RED = 1
    GREEN = 2
class Rights(enum.Flag):
    READ = 1
    WRITE = 2
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
class Slots:
    __slots__ = ("here", "gone")
class Own:
    __slots__ = ("x", "y")
    def __getstate__(self): return (self.x, self.y)
    def __setstate__(self, state): self.x, self.y = state
class Holder(Persistable):
    pass
@dataclass
class Doc(Persistable):
    name: str
@dataclass(frozen=True, slots=True)
class Frozen(Persistable):
    x: int
    y: int
class SlotDoc(Persistable):
    __slots__ = ("here", "gone")
"""
AFTER = """
@dataclass(frozen=True, slots=True)
class Point:
    y: int
    x: int
    z: list = field(default_factory=list)
@dataclass
class Plain:
    name: str
    tags: dict = field(default_factory=dict)
    size: int = 3
@dataclass(slots=True)
class Open:
    new: int = 5
    x: int = 0
class Pair(typing.NamedTuple):
    right: object
    left: object
    middle: int = 7
Old = collections.namedtuple("Old", "b a")
class Colour(enum.Enum):
    GREEN = 1
    BLUE = 2
    RED = 3
class Rights(enum.Flag):
    WRITE = 1
    EXECUTE = 2
    READ = 4
class Level(enum.IntEnum):
    NONE = 1
    LOW = 2
    HIGH = 3
class Slots:
    __slots__ = ("new", "here")
class Own:
    __slots__ = ("y", "x")
    def __getstate__(self): return (self.x, self.y)
    def __setstate__(self, state): self.x, self.y = state
class Holder(Persistable):
    pass
@dataclass
class Doc(Persistable):
    name: str
    tags: list = field(default_factory=list)
    size: int = 3
@dataclass(frozen=True, slots=True)
class Frozen(Persistable):
    y: int
    x: int
    z: int = 3
class SlotDoc(Persistable):
    __slots__ = ("new", "here")
"""


def values_of(shop, protocol=5):
    values = {
        "point": shop.Point(1, 2), "plain": shop.Plain("pen"), "pair": shop.Pair(1, 2), "old": shop.Old(1, 2),
        "red": shop.Colour.RED, "rights": shop.Rights.READ | shop.Rights.WRITE, "read": shop.Rights.READ,
        "none": shop.Rights(0), "high": shop.Level.HIGH, "class": shop.Point,
        "keys": {shop.Pair(1, 2): shop.Colour.GREEN}, "set": {shop.Point(3, 4), shop.Colour.RED},
    }  # fmt: skip
    if protocol >= 2:
        slots, own = shop.Slots(), shop.Own()
        slots.here, slots.gone, own.x, own.y = 1, 2, 3, 4
        values.update(open=shop.Open(8, 9), slots=slots, own=own)
    values["again"], values["circle"] = values["point"], [values]
    return values


def check_values(values, shop, protocol=5):
    point = values["point"]
    assert (point.x, point.y, point.z) == (1, 2, [])
    assert values["again"] is point
    assert values["class"] is shop.Point
    assert values["circle"][0] is values
    assert (values["plain"].name, values["plain"].tags, values["plain"].size, values["plain"].gone) == ("pen", {}, 3, 1)
    assert values["pair"] == shop.Pair(left=1, right=2, middle=7)
    assert values["old"] == shop.Old(a=1, b=2)
    assert values["red"] is shop.Colour.RED
    assert values["high"] is shop.Level.HIGH
    assert values["rights"] is shop.Rights.READ | shop.Rights.WRITE
    assert values["read"] is shop.Rights.READ
    assert values["none"] is shop.Rights(0)
    assert values["keys"] == {shop.Pair(left=1, right=2): shop.Colour.GREEN}
    assert {each for each in values["set"] if isinstance(each, shop.Colour)} == {shop.Colour.RED}
    assert [(p.x, p.y, p.z) for p in values["set"] if isinstance(p, shop.Point)] == [(3, 4, [])]
    if protocol >= 2:
        assert (values["open"].x, values["open"].new) == (8, 5)
        assert values["slots"].here == 1
        assert (values["own"].x, values["own"].y) == (3, 4)


AFTER_HASHED = AFTER.replace(
    "class Point:\n    y: int", "class Point:\n    def __hash__(self): return self.x\n    y: int"
)


@pytest.mark.filterwarnings("ignore::perdure.EvolutionWarning")
@pytest.mark.parametrize("protocol", range(6))
def test_values_load_by_name(define, protocol):
    shop = define("shop", BEFORE)
    before = values_of(shop, protocol)
    data = perdure.dumps(before, protocol)
    same = perdure.loads(data)
    assert same["point"] == before["point"]
    assert same["red"] is shop.Colour.RED
    assert same["pair"] == before["pair"]
    shop = define("shop", AFTER_HASHED)
    check_values(perdure.loads(data), shop, protocol)


@pytest.mark.filterwarnings("ignore::perdure.EvolutionWarning")
@pytest.mark.parametrize("deep", [False, True])
def test_values_in_records_load_by_name(define, deep):
    shop = define("shop", BEFORE)
    holder = shop.Holder()
    holder.values = values_of(shop)
    for _ in range(20_000 if deep else 0):
        holder.values = [holder.values]
    store = perdure.make_store("memory:")
    ids = store.save_many([holder, values_of(shop)])
    shop = define("shop", AFTER_HASHED)
    store = perdure.Store(store.backend, store.key)
    values = store.load(ids[0]).values
    while isinstance(values, list):
        values = values[0]
    check_values(values, shop)
    check_values(store.load(ids[1]), shop)


@pytest.mark.filterwarnings("ignore::perdure.EvolutionWarning")
def test_one_pickler_writes_and_one_unpickler_reads_by_name(define, tmp_path):
    shop = define("shop", BEFORE)
    point, buffers = shop.Point(1, 2), []
    with open(tmp_path / "frames", "wb") as file:
        pickler = perdure.Pickler(file, buffer_callback=lambda buffer: buffers.append(buffer.raw().tobytes()))
        for value in ([1], [point, pickle.PickleBuffer(b"one")], [point, shop.Pair(1, 2)], [shop.Point(5, 6)]):
            pickler.dump(value)
    shop = define("shop", AFTER)
    with open(tmp_path / "frames", "rb") as file:
        unpickler = perdure.Unpickler(file, buffers=buffers)
        assert unpickler.load() == [1]
        first, buffer = unpickler.load()
        assert (first.x, first.y, first.z, bytes(buffer)) == (1, 2, [], b"one")
        again, pair = unpickler.load()
        assert again is first
        assert pair == shop.Pair(left=1, right=2)
        (last,) = unpickler.load()
        assert (last.x, last.y) == (5, 6)


def test_what_fits_never_leaves_c_pickle(define, monkeypatch):
    shop = define("shop", BEFORE)
    store = perdure.make_store("memory:")
    doc = shop.Doc("x")
    doc.values = values_of(shop)
    id_, data = store.save(doc), perdure.dumps(values_of(shop))

    def refuse(*args, **kwargs):
        raise AssertionError("rebuilt")

    monkeypatch.setattr(decoding, "Rebuilder", refuse)
    monkeypatch.setattr("perdure.pickling.readers.Rebuilder", refuse)
    assert perdure.Store(store.backend, store.key).load(id_).values["pair"] == shop.Pair(1, 2)
    assert perdure.loads(data)["red"] is shop.Colour.RED


def test_records_of_dataclasses_get_defaults_and_keep_what_is_gone(define):
    shop = define("shop", BEFORE)
    slotted = shop.SlotDoc()
    slotted.here, slotted.gone = 1, 2
    store = perdure.make_store("memory:")
    ids = store.save_many([shop.Doc("pen"), shop.Doc("ink"), shop.Frozen(1, 2), slotted])
    shop = define("shop", AFTER)
    store = perdure.Store(store.backend, store.key)
    before = store.revision()
    with pytest.warns(perdure.EvolutionWarning, match="shop:SlotDoc: 'gone' is no more an attribute"):
        pen, ink, frozen, slots = store.load_many(ids)
    assert (pen.name, pen.tags, pen.size) == ("pen", [], 3)
    assert pen.tags is not ink.tags
    assert (frozen.x, frozen.y, frozen.z, slots.here) == (1, 2, 3, 1)
    with store.transaction():
        assert [each.changed for each in (pen, ink, frozen, slots) if each.persistent_id] == [False] * 4
    assert store.revision() == before
    slots.new = 5
    pen.tags.append("x")
    store.save_many([slots, pen])
    define("shop", BEFORE)
    old = perdure.Store(store.backend, store.key)
    with pytest.warns(perdure.EvolutionWarning, match="'new' is no more"):
        assert (old.load(ids[3]).here, old.load(ids[3]).gone) == (1, 2)  # it was kept


def test_what_is_said_is_said_once_for_a_class(define):
    shop = define("shop", BEFORE)
    data = perdure.dumps([shop.Plain("a"), shop.Plain("b")])
    define("shop", AFTER)
    with pytest.warns(perdure.EvolutionWarning, match="shop:Plain: 'gone' is no more an attribute.*is kept"):
        perdure.loads(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perdure.loads(data)


def test_attributes_beside_the_fields_are_not_said_to_be_gone(define):
    text = BEFORE.replace(
        "class Doc(Persistable):\n    name: str",
        """class Doc(Persistable):
    name: str
    def __post_init__(self): self.upper = self.name.upper()
    @functools.cached_property
    def size(self): return len(self.name)""",
    )
    shop = define("shop", text)
    doc = shop.Doc("pen")
    assert doc.size == 3
    store = perdure.make_store("memory:")
    id_ = store.save(doc)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert perdure.Store(store.backend, store.key).load(id_).upper == "PEN"


def test_a_field_without_a_default_is_said_and_a_tuple_without_one_is_refused(define):
    shop = define("shop", BEFORE)
    plain, pair = perdure.dumps(shop.Plain("x")), perdure.dumps([shop.Pair(1, 2)])
    shop = define(
        "shop",
        "@dataclass\nclass Plain:\n    name: str\n    gone: int\n    must: int\n"
        "class Pair(typing.NamedTuple):\n    left: int\n    right: int\n    must: int\n",
    )
    with pytest.warns(perdure.EvolutionWarning, match="'must' is new and has no default"):
        assert perdure.loads(plain).name == "x"
    with pytest.raises(perdure.CannotLoad, match="shop:Pair has a field 'must' without a default"):
        perdure.loads(pair)
    store = perdure.make_store("memory:")
    define("shop", BEFORE)
    id_ = store.save(__import__("shop").Pair(1, 2))
    define("shop", "class Pair(typing.NamedTuple):\n    left: int\n    right: int\n    must: int\n")
    with pytest.raises(perdure.CannotLoad, match=f"{id_}.*shop:Pair has a field 'must'") as caught:
        perdure.Store(store.backend, store.key).load(id_)
    assert caught.value.ids == (id_,)


@pytest.mark.parametrize(("old", "new"), [
    ("class A(typing.NamedTuple):\n    x: int\n    y: int\n", "@dataclass\nclass A:\n    y: int\n    x: int\n"),
    ("@dataclass(frozen=True, slots=True)\nclass A:\n    x: int\n    y: int\n", "class A: pass\n"),
    ("@dataclass\nclass A:\n    x: int\n    y: int\n", "@dataclass(slots=True)\nclass A:\n    y: int\n    x: int\n"),
    ("@dataclass(slots=True)\nclass A:\n    x: int\n    y: int\n", "class A:\n    pass\n"),
])  # fmt: skip
def test_a_class_may_become_one_of_another_kind(define, old, new):
    shop = define("shop", old)
    data = [perdure.dumps(shop.A(1, 2) if "class A" in old else None, protocol) for protocol in range(2, 6)]
    define("shop", new)
    for each in data:
        loaded = perdure.loads(each)
        assert (loaded.x, loaded.y) == (1, 2)


def test_records_may_become_slots_and_back(define):
    plain = "@dataclass\nclass A(Persistable):\n    x: int\n    y: int\n"
    slots = "@dataclass(slots=True)\nclass A(Persistable):\n    y: int\n    x: int\n"
    store = perdure.make_store("memory:")
    for old, new in ((plain, slots), (slots, plain)):
        id_ = store.save(define("shop", old).A(x=1, y=2))
        define("shop", new)
        again = perdure.Store(store.backend, store.key)
        loaded = again.load(id_)
        assert (loaded.x, loaded.y, loaded.changed) == (1, 2, False)


def test_members_that_pickle_stores_otherwise_stay_so(define):
    import signal
    import socket

    shop = define(
        "shop", "class Odd(enum.Enum):\n    ONE = 1\n    def __reduce_ex__(self, protocol): return Odd, (1,)\n"
    )
    values = [signal.SIGINT, socket.AF_INET, shop.Odd.ONE]
    assert perdure.loads(perdure.dumps(values)) == values
    kinds = [enum.IntFlag]
    kinds += [enum.Flag] if sys.version_info >= (3, 11, 4) else []  # earlier releases cannot read what they write
    for kind in kinds:
        shop.Bits = kind("Bits", {"A": 1, "B": 2}, boundary=enum.KEEP, module="shop")  # 8 is a bit of no member
        assert perdure.loads(perdure.dumps(shop.Bits(9))) == shop.Bits(9)


def test_plain_pickle_loads_the_same_classes_wrong(define):
    """What all this is for: if this fails, plain pickle has learnt it."""
    shop = define("shop", BEFORE)
    data = pickle.dumps([shop.Point(1, 2), shop.Pair(1, 2), shop.Colour.RED])
    shop = define("shop", AFTER)
    point, pair, colour = pickle.loads(data)
    assert (point.x, point.y) == (2, 1)
    assert pair.right == 1
    if sys.version_info >= (3, 11, 4):  # earlier releases of 3.11 wrote members by their names
        assert colour is shop.Colour.GREEN


def test_copies_are_not_touched_by_it(define):
    shop = define("shop", BEFORE)
    values = values_of(shop)
    assert copy.deepcopy(values)["pair"] == values["pair"]
