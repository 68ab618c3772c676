"""Classes that are not here: `ClassNotFound` with all that is known, `Opaque` in the place of objects and values."""

from __future__ import annotations

import functools
import subprocess

import pytest

import perdure
from perdure import Opaque
from perdure.records.frame import parse_unverified

ALL = """
class Kept(Persistable):
    pass
class Gone(Persistable):
    def __init__(self, size): self.size, self.parts = size, [1, {"a": 2}]
class GoneItems(list, Persistable):
    pass
class GoneSlots(Persistable):
    __slots__ = ("size",)
@dataclass(frozen=True)
class Price:
    net: int
class Pair(typing.NamedTuple):
    left: int
    right: int
class Colour(enum.Enum):
    RED = 1
class Bag(dict):
    pass
class Row(list):
    pass
class Outer:
    class Inner:
        pass
class Call:
    def __init__(self, x): self.x = x
    def __reduce__(self): return (Call, (self.x,))
def double(x): return 2 * x
"""
FEW = "class Kept(Persistable):\n    pass\n"


def values_of(shop):
    inner, row, bag = shop.Outer.Inner(), shop.Row([1, 2]), shop.Bag(a=1, b=2)
    inner.name, row.name = "inner", "row"
    values = {
        "price": shop.Price(3), "pair": shop.Pair(1, 2), "red": shop.Colour.RED, "class": shop.Price,
        "bag": bag, "row": row, "inner": inner, "call": shop.Call(7), "partial": functools.partial(shop.double, 2),
        "set": {shop.Price(4), shop.Colour.RED}, "key": {shop.Pair(3, 4): 1},
    }  # fmt: skip
    values["again"] = values["price"]
    inner.circle = values
    return values


def frame_of(store, id_):
    return store.backend.read([id_])[id_]


@pytest.fixture
def saved(define):
    shop = define("shop", ALL)
    store = perdure.make_store("memory:")
    kept, gone, items, slots = shop.Kept(), shop.Gone(3), shop.GoneItems([1, 2]), shop.GoneSlots()
    slots.size, gone.kept, gone.price, kept.gone, kept.values = 5, kept, shop.Price(1), gone, values_of(shop)
    ids = store.save_many([kept, gone, items, slots, values_of(shop)])
    define("shop", FEW)
    return perdure.Store(store.backend, store.key), ids


def test_without_it_the_error_tells_all(saved):
    store, ids = saved
    for id_, name in ((ids[1], "shop:Gone"), (ids[2], "shop:GoneItems"), (ids[3], "shop:GoneSlots")):
        with pytest.raises(perdure.ClassNotFound, match=rf"{id_}.*{name}.*rename.*opaque") as caught:
            store.load(id_)
        assert caught.value.ids == (id_,)
        assert caught.value.class_name == name
    with pytest.raises(
        perdure.ClassNotFound, match=rf"{ids[0]}.*shop:\w+ cannot be found here.*It is a shop:Kept"
    ) as caught:
        store.load_many(ids[:1])
    assert caught.value.ids == (ids[0],)
    with pytest.raises(perdure.ClassNotFound, match=ids[4]):
        store.load(ids[4])
    with pytest.raises(ValueError, match="opaque"):
        store.load(ids[0], missing="ignore")  # type: ignore[call-overload]


def test_the_error_names_the_commit(tmp_path, monkeypatch):
    code = "import perdure\nclass Gone(perdure.Persistable): pass\n"
    (tmp_path / "gone_shop.py").write_text(code)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.syspath_prepend(str(tmp_path))
    import gone_shop  # type: ignore[import-not-found]

    store = perdure.make_store("memory:")
    id_ = store.save(gone_shop.Gone())
    monkeypatch.delattr(gone_shop, "Gone")
    with pytest.raises(perdure.ClassNotFound, match=f"saved by the code of Code.*commit {commit[:12]}") as caught:
        perdure.Store(store.backend, store.key).load(id_)
    assert caught.value.commit == commit
    assert caught.value.code.startswith("Code.")


def test_an_opaque_object_shows_what_is_stored(saved):
    store, ids = saved
    gone = store.load(ids[1], missing="opaque")
    assert isinstance(gone, Opaque)
    assert gone.class_name == "shop:Gone"
    assert gone.persistent_id == ids[1]
    assert gone.state["size"] == 3
    assert gone.state["parts"] == [1, {"a": 2}]
    assert isinstance(gone.state["kept"], perdure.Persistable)  # what it refers to
    assert repr(gone).startswith("<opaque shop:Gone(size=3, parts=[1, {'a': 2}]")
    assert len(repr(gone)) < 400
    items, slots = store.load_many(ids[2:4], missing="opaque")
    assert items.items == [1, 2]
    assert slots.state == {"size": 5}
    assert gone is store.load(ids[1], missing="opaque")
    assert not gone.changed
    assert gone == perdure.Store(store.backend, store.key).load(ids[1], missing="opaque") or gone.state["kept"]
    assert slots == perdure.Store(store.backend, store.key).load(ids[3], missing="opaque") != items
    for change in (lambda: setattr(gone, "size", 4), lambda: delattr(gone, "size")):
        with pytest.raises(AttributeError, match="opaque"):
            change()
    with pytest.raises(perdure.ClassNotFound):
        store.load(ids[1])  # not asked for


def test_what_it_refers_to_may_be_missing_too(saved):
    store, ids = saved
    kept = store.load(ids[0], missing="opaque")
    assert isinstance(kept.gone, Opaque)
    assert kept.gone.state["size"] == 3
    assert kept.gone.state["kept"] is kept
    kept.values["new"] = 1
    store.save(kept)
    store.invalidate_cache()
    assert kept.values["new"] == 1
    assert isinstance(kept.values["price"], Opaque)


def test_values_inside_are_opaque_and_are_stored_again_unharmed(saved, define):
    store, ids = saved
    kept, value = store.load_many([ids[0], ids[4]], missing="opaque")
    for values in (kept.values, value):
        assert values["price"].class_name == "shop:Price"
        assert values["price"].state == {"net": 3}
        assert values["again"] is values["price"]
        assert values["pair"].args == (1, 2)
        assert sorted(repr(each) for each in values["set"])[1].startswith("<opaque shop:Price(net=4")
        assert values["row"].items == [1, 2]
        assert values["bag"].items == [("a", 1), ("b", 2)]
        assert values["inner"].class_name == "shop:Outer.Inner"
        assert values["inner"].state["circle"] is values
        assert values["red"].class_name == "shop:Colour"
        assert "RED" in repr(values["red"])
        with pytest.raises(perdure.ClassNotFound, match="shop:double"):
            values["partial"]()
        with pytest.raises(AttributeError, match="opaque"):
            values["price"].net = 1
    assert not kept.changed
    kept.extra = "changed"
    assert kept.changed
    store.save(kept)
    store.replace(ids[4], value)
    data = perdure.dumps(kept.values)
    shop = define("shop", ALL)
    again = perdure.Store(store.backend, store.key)
    for values in (again.load(ids[0]).values, again.load(ids[4]), perdure.loads(data)):
        assert values["price"] == shop.Price(3)
        assert values["again"] is values["price"]
        assert values["class"] is shop.Price
        assert values["pair"] == shop.Pair(1, 2)
        assert values["red"] is shop.Colour.RED
        assert values["call"].x == 7
        assert values["bag"] == {"a": 1, "b": 2}
        assert type(values["bag"]) is shop.Bag
        assert values["row"] == [1, 2]
        assert values["row"].name == "row"
        assert values["partial"]() == 4
        assert values["set"] == {shop.Price(4), shop.Colour.RED}
        assert values["key"] == {shop.Pair(3, 4): 1}
        assert type(values["inner"]) is shop.Outer.Inner
        assert values["inner"].circle is values


def test_what_was_opaque_loads_by_name_once_its_class_is_another(saved, define):
    store, ids = saved
    kept = store.load(ids[0], missing="opaque")
    kept.extra = 1
    store.save(kept)
    define("shop", ALL.replace("left: int\n    right: int", "right: int\n    left: int"))
    pair = perdure.Store(store.backend, store.key).load(ids[0]).values["pair"]
    assert (pair.left, pair.right) == (1, 2)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_record_is_stored_again_byte_for_byte(saved, which):
    store, ids = saved
    before = parse_unverified(frame_of(store, ids[which]))
    opaque = store.load(ids[which], missing="opaque")
    opaque.changed = True
    with store.transaction() as tx:
        savepoint = tx.savepoint()
        opaque.changed = True
        savepoint.rollback()
        opaque.changed = True
    after = parse_unverified(frame_of(store, ids[which]))
    assert after.revision > before.revision
    assert after == before._replace(revision=after.revision)
    id_ = store.save("a value")
    store.replace(id_, opaque)
    copied = parse_unverified(frame_of(store, id_))
    assert copied == before._replace(id=id_, revision=copied.revision)


def test_it_is_its_real_class_as_soon_as_that_is_there(saved, define):
    store, ids = saved
    opaque = [store.load(id_, missing="opaque") for id_ in ids[1:4]]
    shop = define("shop", ALL)
    real = store.load_many(ids[1:4])
    assert [each.__class__ for each in real] == [shop.Gone, shop.GoneItems, shop.GoneSlots]
    assert real[0] is opaque[0]
    assert real[0].size == 3
    assert real[1] == [1, 2]
    assert real[2].size == 5
    real[0].size = 4
    store.save(real[0])
    assert perdure.Store(store.backend, store.key).load(ids[1]).size == 4


def test_a_ghost_that_was_met_without_it_becomes_opaque_and_then_real(saved, define):
    store, ids = saved
    define("shop", ALL.replace("class Gone(Persistable)", "class Other(Persistable)"))
    store = perdure.Store(store.backend, store.key)
    kept = store.load(ids[0])
    gone = kept.gone
    with pytest.raises(perdure.ClassNotFound, match=ids[1]):
        str(gone.size)
    assert store.load(ids[1], missing="opaque") is gone
    assert gone.state["size"] == 3
    shop = define("shop", ALL)
    assert store.load(ids[1]) is gone
    assert gone.size == 3
    assert gone.__class__ is shop.Gone


def test_many_equal_looking_members_of_a_set_load_quickly(define):
    shop = define("shop", ALL)
    store = perdure.make_store("memory:")
    id_ = store.save({"all": {shop.Price(n) for n in range(3000)}})
    define("shop", FEW)
    found = perdure.Store(store.backend, store.key).load(id_, missing="opaque")["all"]
    assert len(found) == 3000
    assert len({hash(each) for each in found}) > 2900


def test_every_store_has_it(define, place):
    shop = define("shop", ALL)
    store = place.open()
    kept, gone = shop.Kept(), shop.Gone(3)
    kept.gone, kept.price = gone, shop.Price(3)
    ids = store.save_many([kept, gone])
    define("shop", FEW)
    again = place.open()
    loaded = again.load(ids[0], missing="opaque")
    assert loaded.price.state == {"net": 3}
    assert loaded.gone.state["size"] == 3
    loaded.more = 1
    again.save(loaded)
    shop = define("shop", ALL)
    loaded = place.open().load(ids[0])
    assert loaded.price == shop.Price(3)
    assert loaded.gone.size == 3
