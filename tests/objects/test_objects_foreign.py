"""Records without a good seal, and stores whose key is elsewhere: read by perdure's own reader, never written so."""

from __future__ import annotations

import dataclasses
import enum
import os
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from places import Holder

import perdure
from perdure import KeyMissing, Persistable, UntrustedRecord, reference
from perdure.evolution import versions
from perdure.objects.instances.persistable import GHOST, entry_of
from perdure.pickling.declared import DECLARED
from perdure.records.frame import decode, encoder, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import FOREIGN, KEPT, OUTSIDE, REDUCED, STATE, VALUE, Batch, Draft
from perdure.upkeep import check

FORGER = Key(bytes(range(32)))


class Item(Persistable):
    def __init__(self, name, **more):
        self.name = name
        self.__dict__.update(more)


class Bag(list, Persistable):
    """Without a ghost class."""


@dataclasses.dataclass(eq=False)
class Order(Persistable):
    number: int
    lines: list[Any] = dataclasses.field(default_factory=list)


class Careful(Persistable):
    """Takes part in its own pickling."""

    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return ("kept", self.value)

    def __setstate__(self, state):
        word, self.value = state
        assert word == "kept"


@dataclasses.dataclass
class Price:
    amount: float
    currency: str = "EUR"


class Colour(enum.Enum):
    RED = 1


class Stranger:
    """Not registered."""


class Executed:
    """A pickle that would tell if it were loaded."""

    def __reduce__(self):
        return os.putenv, ("PERDURE_TEST_FOREIGN", "1")


class Row:
    """Something outside of the store."""

    def __init__(self, number):
        self.number = number


@pytest.fixture(autouse=True)
def registrations():
    """Price and Colour are known while a test runs."""
    perdure.register_class(Price)
    perdure.register_class(Colour)
    yield
    DECLARED.clear()
    versions.REGISTERED.clear()


@pytest.fixture
def elsewhere(place, monkeypatch, tmp_path):
    """From the call on, the store's key is not here; gives the store as it is seen then."""
    if place.kind == "memory":
        pytest.skip("a store in memory has its key in memory")

    def leave(**settings):
        place.is_whole = False
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another machine"))
        return place.open(**settings)

    return leave


def forge(store, id_, payload, *, kind=STATE, name="test_objects_foreign:Item", references=(), fields=None):
    """Put a record with another key's seal into a store."""
    draft = Draft(id_, 0, kind | KEPT, name, 0, "", references, fields or {}, payload)
    store.backend.apply(Batch([draft]), encoder(FORGER))


# -- a store whose key is elsewhere --------------------------------------------------------------------------------


def test_everything_is_read(place, elsewhere):
    first = place.open()
    pen = Item("pen", price=Price(1.5), colour=Colour.RED, when=None)
    bag = Bag([pen, 5])
    bag.label = "b"
    ids = first.save_many([pen, bag, Order(7, [pen, {"a": (1, 2)}]), Careful([pen]), Holder(bag), Item("deep")])
    value = first.save([1, {2}, pen])
    first.roots["all"] = [pen, bag]
    store = elsewhere()
    pen, bag, order, careful, holder, _ = store.load_many(ids)
    assert (pen.name, pen.price, pen.colour) == ("pen", Price(1.5), Colour.RED)
    assert (bag[0] is pen, bag[1], bag.label) == (True, 5, "b")
    assert (order.number, order.lines[0] is pen, order.lines[1]) == (7, True, {"a": (1, 2)})
    assert careful.value[0] is pen
    assert holder.target is bag
    assert store.load(value)[2] is pen
    assert store.roots["all"][0] is pen
    assert [item.name for item in store.find(Item)] == ["pen", "deep"]
    assert [version.class_name for version in store.history(ids[0])] == ["test_objects_foreign:Item"]
    assert not pen.changed
    assert store.at(1).load(ids[0]).name == "pen"
    with store.transaction():
        assert store.load(ids[5]).name == "deep"


def test_ghosts_and_reading_what_was_changed(place, elsewhere):
    id_ = place.open().save(Holder(Item("pen")))
    store = elsewhere()
    target = store.load(id_).target
    assert entry_of(target).state == GHOST
    assert target.name == "pen"
    target.name = "changed"
    assert target.changed
    for write in (lambda: store.save(target), lambda: store.save(Item("new")), lambda: store.remove(id_)):
        with pytest.raises(KeyMissing, match="perdure key import"):
            write()
    with pytest.raises(KeyMissing, match="perdure key import"), store.transaction():
        target.name = "again"


def test_large_pieces_and_references_to_the_outside(place, elsewhere):
    reference("foreign row", Row, key=lambda row: row.number)(lambda key, resources: Row(key + resources["add"]))
    id_ = place.open().save(Item("a", array=np.arange(50_000.0), text="x" * 200_000, row=Row(1), data=b"y" * 100_000))
    item = elsewhere(resources={"add": 10}).load(id_)
    assert np.array_equal(item.array, np.arange(50_000.0))
    assert (item.text, item.data, item.row.number) == ("x" * 200_000, b"y" * 100_000, 11)


def test_what_is_not_registered_is_refused_and_named(place, elsewhere):
    first = place.open()
    id_, good = first.save(Item("a", inside=Stranger())), first.save(Item("b"))
    store = elsewhere()
    with pytest.raises(UntrustedRecord, match=rf"{id_} cannot be loaded.*test_objects_foreign:Stranger") as caught:
        store.load(id_)
    assert caught.value.ids == (id_,)
    assert "trust='all'" in caught.value.hint
    assert store.load(good).name == "b"
    loaded = store.load(id_, missing="opaque")
    assert (loaded.name, loaded.inside.class_name) == ("a", "test_objects_foreign:Stranger")


def test_upgrades_run(place, elsewhere, monkeypatch):
    def declare(version):
        made = type("Versioned", (Persistable,), {"__module__": __name__, "__init__": lambda self: None})
        monkeypatch.setattr(sys.modules[__name__], "Versioned", made, raising=False)
        perdure.versioned("foreign.Versioned", version=version)(made)
        return made

    old = declare(1)()
    old.name = "old"
    id_ = place.open().save(old)
    new = declare(2)
    perdure.upgrade(new, 1, rename={"name": "title"})
    loaded = elsewhere().load(id_)
    assert (loaded.title, type(loaded)) == ("old", new)


# -- records of others in a store of one's own ---------------------------------------------------------------------


def test_a_record_of_somebody_else_becomes_ones_own_when_it_is_saved(place):
    store = place.open()
    forge(store, "Item.900", pickle.dumps({"name": "foreign"}))
    place.is_whole = False
    item = store.load("Item.900")
    assert item.name == "foreign"
    assert [problem.id for problem in check(store)] == ["Item.900"]
    store.save(item)  # nothing is changed: nothing is written
    assert [problem.id for problem in check(store)] == ["Item.900"]
    item.name = "mine"
    store.save(item)
    assert decode(store.backend.read(["Item.900"])["Item.900"], store.key).revision == store.revision()
    assert place.open().load("Item.900").name == "mine"


ATTACKS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a call": (pickle.dumps(Executed()), {}),
    "a call in a state": (pickle.dumps({"name": Executed()}), {}),
    "a call as a value": (pickle.dumps([Executed()]), {"kind": VALUE}),
    "a plain flag": (pickle.dumps(Executed()), {"kind": 0x20}),
    "a shape": (b"\x0a\x00[[\"a\"],[]]" + pickle.dumps([Executed()]), {"kind": 0x40}),
    "a shape with a dunder": (b'\x18\x00[["__setstate__"],[]]   ' + pickle.dumps([1]), {"kind": 0x40}),
    "a state with a dunder": (pickle.dumps({"__class__": 1}), {}),
    "a state that is no dict": (pickle.dumps([1]), {}),
    "a maker": (
        pickle.dumps((os.system, ("echo",), {})) + pickle.dumps((None, None, None, None)),
        {"kind": REDUCED, "name": "test_objects_foreign:Careful"},
    ),
    "a setter": (
        pickle.dumps((None, (), {})) + pickle.dumps((1, None, None, os.putenv)),
        {"kind": REDUCED, "name": "test_objects_foreign:Careful"},
    ),
    "a setter that is registered": (
        pickle.dumps((None, (), {})) + pickle.dumps((1, None, None, Price)),
        {"kind": REDUCED, "name": "test_objects_foreign:Careful"},
    ),
    "a maker that is an object": (
        pickle.dumps((Price(1), (), {})) + pickle.dumps((1, None, None, None)),
        {"kind": REDUCED, "name": "test_objects_foreign:Careful"},
    ),
    "bytes behind": (pickle.dumps({"name": 1}) + b"N.", {}),
    "half of a pair": (pickle.dumps((None, (), {})), {"kind": REDUCED, "name": "test_objects_foreign:Bag"}),
    "a bag with a call": (
        pickle.dumps((None, (), {})) + pickle.dumps((None, [Executed()], None, None)),
        {"kind": REDUCED, "name": "test_objects_foreign:Bag"},
    ),
    "a reference that is not there": (b"\x80\x04\x8c\x07perdure\x8c\x04_ref\x93K\x05\x85R.", {"kind": VALUE}),
    "an outside reference by nobody": (
        b"\x80\x04\x8c\x07perdure\x8c\x08_outside\x93\x8c\x06nobodyK\x05\x86R.", {"kind": VALUE | OUTSIDE},
    ),
    "a flag that says it is foreign": (pickle.dumps(Executed()), {"kind": FOREIGN}),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ATTACKS if "foreign" not in name])
def test_attacks_by_records(place, name):
    store = place.open()
    payload, more = ATTACKS[name]
    good = store.save(Item("good"))
    forge(store, "Item.900", payload, **more)
    holder = store.save(Holder(Item("x")))
    forge(store, "Holder.901", pickle.dumps({"target": [1]}), name="places:Holder", references=("Item.900",))
    place.is_whole = False
    for load in (lambda: store.load("Item.900"), lambda: [*store], lambda: store.load_many(["Item.900", good])):
        try:
            repr(load())
        except perdure.PerdureError:
            continue
    with pytest.raises(perdure.PerdureError) as caught:
        store.load("Item.900")
    assert "Item.900" in str(caught.value)
    assert "PERDURE_TEST_FOREIGN" not in os.environ
    if "Bag" not in more.get("name", ""):  # which is made at once, with whatever refers to it
        assert store.load("Holder.901").target == [1]
    assert store.load(holder).target.name == "x"


def test_a_forger_cannot_seal_by_a_flag():
    with pytest.raises(UntrustedRecord, match="unread"):
        encoder(FORGER)(Draft("Item.900", 0, FOREIGN, "x:y", 0, "", (), {}, b"N."), 1)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that nobody has imported, and that would tell if anybody did."""
    name = f"planted_foreign_{os.getpid()}"
    mark = tmp_path / "imported"
    (tmp_path / f"{name}.py").write_text(
        f"open({str(mark)!r}, 'x').close()\nimport perdure\nclass Item(perdure.Persistable): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{name}:Item", mark
    sys.modules.pop(name, None)


@pytest.mark.parametrize("fields", [{}, {"class": "planted"}])
def test_no_class_is_imported_for_it(place, planted, fields):
    name, mark = planted
    store = place.open()
    called = "stable.name" if fields else name
    forge(store, "Item.900", pickle.dumps({"name": 1}), name=called, fields={"class": name} if fields else {})
    inside = b"\x80\x04}\x8c\x01a" + b"".join(
        b"\x8c" + bytes([len(part)]) + part.encode() for part in name.split(":")
    ) + b"\x93)\x81s."  # fmt: skip
    forge(store, "Item.901", inside)
    forge(store, "Holder.902", b"\x80\x04}\x8c\x06target\x8c\x07perdure\x8c\x04_ref\x93K\x00\x85Rs.",
          name="places:Holder", references=("Item.900",))  # fmt: skip
    place.is_whole = False
    with pytest.raises(UntrustedRecord, match=called):
        store.load("Item.900")
    with pytest.raises(UntrustedRecord, match=name):
        store.load("Item.901")
    target = store.load("Holder.902").target
    with pytest.raises(UntrustedRecord, match=called):
        target.name
    assert [holder.persistent_id for holder in store.find(Holder)] == ["Holder.902"]
    for opaque in (store.load("Item.900", missing="opaque"), store.load("Item.901", missing="opaque")):
        assert isinstance(opaque, perdure.Opaque) or isinstance(opaque.a, perdure.Opaque)
    assert not mark.exists()


def test_an_opaque_record_without_a_seal_gets_none(place):
    store = place.open()
    forge(store, "Item.900", pickle.dumps({"name": 1}), name="gone:Item")
    place.is_whole = False
    opaque = store.load("Item.900", missing="opaque")
    assert opaque.state == {"name": 1}
    with pytest.raises(UntrustedRecord):
        store.replace("Item.900", opaque)
    frame = store.backend.read(["Item.900"])["Item.900"]
    assert parse_unverified(frame).payload == pickle.dumps({"name": 1})


# -- looking --------------------------------------------------------------------------------------------------------


def test_inspect_shows_a_record_without_loading_it(place):
    store = place.open()
    pen = Item("pen", price=Price(1.5))
    ids = store.save_many(
        [Item("a", pen=pen, array=np.arange(20_000.0), text="x" * 100_000), Bag([1, pen]), Careful(5), Order(7)]
    )
    texts = [str(store.inspect(id_)) for id_ in ids]
    assert f"{ids[0]}: test_objects_foreign:Item, revision 1" in texts[0]
    assert "seal: good" in texts[0]
    assert f"  .pen: → {pen.persistent_id}" in texts[0]
    assert "'xxx" in texts[0]
    assert "  [0]: 1" in texts[1]
    assert "  .__setstate__(): tuple of 2" in texts[2]
    assert "  .number: 7" in texts[3]
    assert "test_objects_foreign:Price" in str(store.inspect(pen.persistent_id))
    assert entry_of(place.open().load(ids[1])[1]).state == GHOST
    with pytest.raises(perdure.NotFound):
        store.inspect("Item.999")


def test_inspect_of_what_is_refused(place):
    store = place.open()
    forge(store, "Item.900", ATTACKS["a call in a state"][0])
    place.is_whole = False
    found = store.inspect("Item.900")
    assert (found.seal, [call.name for call in found.calls]) == ("not good", ["posix:putenv"])
    assert "PERDURE_TEST_FOREIGN" not in os.environ
