"""Versions and upgrades: declared and written steps, what is refused, what goes wrong while loading."""

from __future__ import annotations

import io
import pickle

import pytest

import perdure
from perdure.records.frame import parse_unverified

FIRST = """
class Order(Persistable):
    def __init__(self, amount): self.amount, self.cache, self.lines = amount, "x", [1]
class Slotted(Persistable):
    __slots__ = ("amount",)
class Custom(Persistable):
    def __init__(self, amount): self.amount = amount
    def __getstate__(self): return ("custom", self.amount)
    def __setstate__(self, state): self.amount = state[1]
class Items(list, Persistable):
    pass
@dataclass
class Price:
    amount: int
class Pair(typing.NamedTuple):
    left: int
    right: int
"""
SECOND = """
@perdure.versioned("shop.Order", version=3, formerly=["shop:Order"])
class Order(Persistable):
    pass
@perdure.upgrade(Order, 1)
def _(state):
    assert type(state) is dict
    state["net"] = state.pop("amount")
perdure.upgrade(Order, 2, rename={"lines": "rows"}, add={"currency": "EUR", "tags": []}, remove="cache")

@perdure.versioned("shop.Slotted", version=2, formerly=["shop:Slotted"])
class Slotted(Persistable):
    __slots__ = ("net", "tax")
perdure.upgrade(Slotted, 1, rename={"amount": "net"}, add={"tax": 0})

@perdure.versioned("shop.Custom", version=2, formerly=["shop:Custom"])
class Custom(Persistable):
    def __getstate__(self): return ("custom", self.net, 7)
    def __setstate__(self, state): _, self.net, self.seven = state
@perdure.upgrade(Custom, 1)
def _(state): return (*state, 7)

@perdure.versioned("shop.Items", version=2, formerly=["shop:Items"])
class Items(list, Persistable):
    pass
perdure.upgrade(Items, 1, add={"name": "unnamed"})

@perdure.versioned("shop.Price", version=2, formerly=["shop:Price"])
@dataclass(slots=True)
class Price:
    net: int
    tax: float = 0.5
perdure.upgrade(Price, 1, rename={"amount": "net"})

@perdure.versioned("shop.Pair", version=2, formerly=["shop:Pair"])
class Pair(typing.NamedTuple):
    right: int
    both: int
@perdure.upgrade(Pair, 1)
def _(state): return {"right": state["right"], "both": state["left"] + state["right"]}
"""


def frame_of(store: perdure.Store, id_: str):
    return parse_unverified(store.backend.read([id_])[id_])


@pytest.fixture
def saved(define):
    """A store with one object of each class, saved before the classes had versions."""
    shop = define("shop", FIRST)
    store = perdure.make_store("memory:")
    slotted = shop.Slotted()
    slotted.amount = 5
    items = shop.Items([1, 2])
    items.kind = "few"
    order = shop.Order(5)
    order.price, order.pair, order.slotted = shop.Price(3), shop.Pair(1, 2), slotted
    ids = store.save_many([order, slotted, shop.Custom(5), items, {"price": shop.Price(4), "pair": shop.Pair(3, 4)}])
    return perdure.Store(store.backend, store.key), ids


def test_records_without_a_version_are_upgraded_from_the_first(saved, define):
    store, ids = saved
    shop = define("shop", SECOND)
    order, slotted, custom, items, value = store.load_many(ids)
    assert vars(order).keys() == {"net", "rows", "currency", "tags", "price", "pair", "slotted"}
    assert (order.net, order.rows, order.currency, order.tags) == (5, [1], "EUR", [])
    assert order.price == shop.Price(3, 0.5)
    assert order.pair == shop.Pair(2, 3)
    assert order.slotted is slotted
    assert (slotted.net, slotted.tax) == (5, 0)
    assert (custom.net, custom.seven) == (5, 7)
    assert (items, items.kind, items.name) == ([1, 2], "few", "unnamed")
    assert value == {"price": shop.Price(4, 0.5), "pair": shop.Pair(4, 7)}


def test_an_upgraded_object_is_not_changed_and_is_written_once_it_is(saved, define):
    store, ids = saved
    define("shop", SECOND)
    before = store.revision()
    with store.transaction():
        for obj in store.load_many(ids[:4]):
            assert not obj.changed
            vars(obj) if hasattr(obj, "__dict__") else obj.net  # touched
            assert not obj.changed
    assert store.revision() == before
    for id_ in ids[:4]:
        assert frame_of(store, id_).class_version == 0
    order = store.load(ids[0])
    order.tags.append("late")
    assert order.changed
    store.save(order)
    record = frame_of(store, ids[0])
    assert (record.class_name, record.class_version, record.fields) == ("shop.Order", 3, {"class": "shop:Order"})
    again = perdure.Store(store.backend, store.key).load(ids[0])
    assert again.tags == ["late"]
    assert not again.changed


def test_values_of_classes_without_any_layout_are_upgraded_too(define):
    text = "class Holder(Persistable): pass\nclass Note:\n    def __init__(self, text): self.text = text\n"
    shop = define("shop", text)
    holder = shop.Holder()
    holder.notes = [shop.Note("a"), shop.Note("b")]
    store = perdure.make_store("memory:")
    id_, data = store.save(holder), perdure.dumps(holder.notes)
    file = io.BytesIO()
    pickler = perdure.Pickler(file)
    pickler.dump(holder.notes[0])
    pickler.dump(holder.notes)
    shop = define(
        "shop",
        "class Holder(Persistable): pass\n"
        "@perdure.versioned('shop.Note', version=2, formerly='shop:Note')\nclass Note: pass\n"
        "perdure.upgrade(Note, 1, rename={'text': 'words'})\n",
    )
    store = perdure.Store(store.backend, store.key)
    loaded = store.load(id_)
    file.seek(0)
    unpickler = perdure.Unpickler(file)
    first, again = unpickler.load(), unpickler.load()
    assert again[0] is first
    for notes in (loaded.notes, perdure.loads(data), again):
        assert [vars(note) for note in notes] == [{"words": "a"}, {"words": "b"}]
    assert not loaded.changed
    loaded.more = 1
    store.save(loaded)
    again = perdure.Store(store.backend, store.key).load(id_)
    assert [vars(note) for note in again.notes] == [{"words": "a"}, {"words": "b"}]


def test_a_default_that_is_added_is_each_objects_own(define):
    shop = define("shop", FIRST)
    store = perdure.make_store("memory:")
    ids = store.save_many([shop.Order(1), shop.Order(2)])
    define("shop", SECOND)
    one, other = perdure.Store(store.backend, store.key).load_many(ids)
    one.tags.append("mine")
    assert other.tags == []


@pytest.mark.parametrize("protocol", range(6))
def test_values_without_a_store_are_upgraded_too(define, protocol):
    shop = define("shop", FIRST)
    circle = [shop.Price(3), shop.Pair(1, 2)]
    circle.append(circle)
    data = perdure.dumps(circle, protocol)
    shop = define("shop", SECOND)
    price, pair, itself = perdure.loads(data)
    assert (price, pair) == (shop.Price(3, 0.5), shop.Pair(2, 3))
    assert itself[2] is itself
    data = perdure.dumps([price, pair], max(protocol, 2))  # slots need protocol 2
    assert perdure.loads(data) == [price, pair]


def test_the_stable_name_is_found_where_its_module_was_not_imported_yet(define, tmp_path, monkeypatch):
    (tmp_path / "late_shop.py").write_text(
        "import perdure\nfrom dataclasses import dataclass\n"
        "@perdure.versioned('late.Order')\nclass Order(perdure.Persistable): pass\n"
        "@perdure.versioned('late.Items')\nclass Items(list, perdure.Persistable): pass\n"
        "@perdure.versioned('late.Price')\n@dataclass\nclass Price:\n    amount: int = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import late_shop  # type: ignore[import-not-found]

    store = perdure.make_store("memory:")
    order = late_shop.Order()
    order.price, order.items, order.other = late_shop.Price(), late_shop.Items([1]), late_shop.Order()
    order.other.name = "other"
    id_, data = store.save(order), perdure.dumps(order.price)

    def forget():
        from perdure.pickling.declared import DECLARED

        monkeypatch.delitem(__import__("sys").modules, "late_shop")
        for name in [name for name in DECLARED.known if name.startswith("late.")]:
            del DECLARED.known[name]

    forget()
    again = perdure.Store(store.backend, store.key).load(id_)
    assert (again.price.amount, again.items, again.other.name) == (1, [1], "other")
    forget()
    assert perdure.loads(data).amount == 1


# -- what is refused when it is declared -----------------------------------------------------------------------


def test_a_gap_is_an_error_before_anything_is_loaded(define):
    shop = define(
        "shop",
        "@perdure.versioned('shop.A', version=4)\nclass A(Persistable): pass\nperdure.upgrade(A, 2, add={'x': 1})\n",
    )
    with pytest.raises(perdure.MissingUpgrade, match=r"no upgrade from version 1, 3 to the next.*oldest=4") as caught:
        perdure.make_store("memory:")
    assert caught.value.versions == (1, 3)
    perdure.upgrade(shop.A, 1, add={"y": 1})
    perdure.upgrade(shop.A, 3, add={"z": 1})
    perdure.make_store("memory:").save(shop.A())


def test_a_class_that_is_used_with_a_gap_is_refused(define):
    store = perdure.make_store("memory:")
    shop = define("shop", "@perdure.versioned('shop.A', version=2)\nclass A(Persistable): pass\n")
    with pytest.raises(perdure.MissingUpgrade):
        store.save(shop.A())


def test_old_steps_may_go(define):
    shop = define("shop", "class A(Persistable): pass\n")
    store = perdure.make_store("memory:")
    id_ = store.save(shop.A())
    define("shop", "@perdure.versioned('shop.A', version=3, oldest=3, formerly='shop:A')\nclass A(Persistable): pass\n")
    with pytest.raises(perdure.UpgradeFailed, match=f"{id_}.*of version 1; the oldest that is upgraded is 3"):
        perdure.Store(store.backend, store.key).load(id_)


def test_steps_that_cannot_be_right_are_refused_at_once(define):
    shop = define("shop", "@perdure.versioned('shop.A', version=2)\nclass A(Persistable): pass\nclass B: pass\n")
    perdure.upgrade(shop.A, 1)(lambda state: None)
    with pytest.raises(perdure.MissingUpgrade, match="already"):
        perdure.upgrade(shop.A, 1, add={"x": 1})
    for version in (0, 2, 3, True, "1"):
        with pytest.raises(perdure.MissingUpgrade, match="is at version 2"):
            perdure.upgrade(shop.A, version)
    with pytest.raises(perdure.InvalidArgument, match="has no version"):
        perdure.upgrade(shop.B, 1)
    shop = define("shop", "@perdure.versioned('shop.A', version=2)\nclass A(Persistable): pass\n")
    for wrong in ({"rename": {"a": "c", "b": "c"}}, {"add": {"no name": 1}}, {"rename": {"a": "c"}, "add": {"c": 1}}):
        with pytest.raises(perdure.InvalidArgument):
            perdure.upgrade(shop.A, 1, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a:B"},
        {"name": "a b"},
        {"version": 0},
        {"version": True},
        {"version": 65_536},
        {"oldest": 2},
    ],
)
def test_a_version_that_is_none_is_refused(wrong):
    with pytest.raises(perdure.InvalidArgument):
        perdure.versioned(**{"name": "shop.A", **wrong})
    with pytest.raises(perdure.InvalidArgument):
        perdure.versioned("shop.A")(7)


def test_two_classes_claim_one_stable_name(define):
    define("shop", "@perdure.versioned('shop.A')\nclass A: pass\n")
    with pytest.raises(
        perdure.NameClash, match=r"shop.A is claimed by shop2:A, but it is the name of shop:A"
    ) as caught:
        define("shop2", "@perdure.versioned('shop.A')\nclass A: pass\n")
    assert caught.value.path == "shop.A"
    with pytest.raises(perdure.NameClash):
        define("shop2", "@perdure.versioned('shop.B', formerly=['shop.A'])\nclass A: pass\n")
    define("shop", "@perdure.versioned('shop.A')\nclass A: pass\n")  # the module again


# -- what goes wrong while loading -----------------------------------------------------------------------------


def test_a_record_that_is_newer_than_its_class(saved, define):
    store, _ = saved
    shop = define("shop", SECOND)
    order = shop.Order()
    order.net = 1
    id_ = store.save(order)
    data = perdure.dumps(shop.Price(1))
    define(
        "shop",
        "@perdure.versioned('shop.Order')\nclass Order(Persistable): pass\n"
        "@perdure.versioned('shop.Price')\n@dataclass\nclass Price:\n    amount: int\n",
    )
    store = perdure.Store(store.backend, store.key)
    with pytest.raises(perdure.NewerClass, match=f"{id_}.*version 3 of shop:Order, which is at version 1") as caught:
        store.load(id_)
    assert (caught.value.ids, caught.value.version, caught.value.known) == ((id_,), 3, 1)
    with pytest.raises(perdure.NewerClass, match="version 2 of shop:Price, which is at version 1"):
        perdure.loads(data)


@pytest.mark.parametrize("nested", [False, True])
def test_an_upgrade_that_raises_names_record_and_step_and_leaves_the_record(saved, define, nested):
    store, ids = saved
    which = "Price" if nested else "Order"
    base = "" if nested else "(Persistable)"
    shop = define(
        "shop",
        f"""
class Order(Persistable): pass
class Slotted(Persistable): __slots__ = ("amount",)
class Price: pass
class Pair(typing.NamedTuple):
    left: int
    right: int
@perdure.versioned("shop.{which}", version=2, formerly=["shop:{which}"])
class {which}{base}: pass
@perdure.upgrade({which}, 1)
def explode(state): raise KeyError("boom")
""",
    )
    before = frame_of(store, ids[0])
    with pytest.raises(
        perdure.UpgradeFailed, match=r"upgrade of shop.\w+ from version 1 to 2 \(shop:explode\).*boom"
    ) as caught:
        store.load(ids[0])
    assert (caught.value.ids, caught.value.version, caught.value.step) == ((ids[0],), 1, "shop:explode")
    assert isinstance(caught.value.__cause__, KeyError)
    assert frame_of(store, ids[0]) == before
    assert pickle.loads(pickle.dumps(caught.value)).step == "shop:explode"
    setattr(shop, "boom", True)


def test_a_rename_that_would_overwrite_fails(define):
    shop = define("shop", "class A(Persistable): pass\n")
    obj = shop.A()
    obj.old, obj.new = 1, 2
    store = perdure.make_store("memory:")
    id_ = store.save(obj)
    define(
        "shop",
        "@perdure.versioned('a', version=2, formerly='shop:A')\nclass A(Persistable): pass\n"
        "perdure.upgrade(A, 1, rename={'old': 'new'})\n",
    )
    with pytest.raises(perdure.UpgradeFailed, match=f"{id_}.*an attribute 'new' already"):
        perdure.Store(store.backend, store.key).load(id_)


def test_other_writers_with_the_old_state_are_merged_as_the_class_is_now(saved, define):
    store, ids = saved
    define(
        "shop",
        SECOND.replace(
            "class Order(Persistable):\n    pass",
            """class Order(Persistable):
    @staticmethod
    def _resolve_conflict(old, stored, mine):
        mine.net = stored.net + mine.net - old.net
        return mine""",
        ),
    )
    other = perdure.Store(store.backend, store.key)
    mine, theirs = store.load(ids[0]), other.load(ids[0])
    mine.net += 10
    theirs.net += 100
    other.save(theirs)
    store.save(mine)
    assert perdure.Store(store.backend, store.key).load(ids[0]).net == 115


def test_a_savepoint_brings_an_upgraded_object_back(saved, define):
    store, ids = saved
    define("shop", SECOND)
    with store.transaction() as tx:
        order = store.load(ids[0])
        savepoint = tx.savepoint()
        order.net = 99
        order.price.net = 98
        savepoint.rollback()
        assert (order.net, order.price.net) == (5, 3)
        assert not order.changed


def test_queries_see_what_was_stored_until_the_store_is_upgraded(saved, define):
    store, ids = saved
    shop = define(
        "shop",
        SECOND.replace("class Order(Persistable):", "class Order(Persistable):\n    __indexed__ = ('currency',)"),
    )
    with pytest.raises(perdure.NotIndexed):
        store.find(shop.Order, currency="EUR")
    assert [o.net for o in store.find(shop.Order, currency="EUR", scan=True)] == [5]
    store.reindex(shop.Order)
    assert [o.persistent_id for o in store.find(shop.Order, currency="EUR")] == [ids[0]]
    assert frame_of(store, ids[0]).class_version == 3


def test_a_gap_of_a_value_is_an_error_at_its_first_use_not_at_an_old_one(define):
    """Also where the class is imported after the store was opened."""
    whole = '@perdure.versioned("shop.Size", version=2)\n@dataclass\nclass Size:\n    x: int = 1\n'
    step = "perdure.upgrade(Size, 1, add={'x': 2})\n"
    data = perdure.dumps([define("shop", whole + step).Size()])
    perdure.pickling.declared.DECLARED.clear()
    store = perdure.make_store("memory:")
    shop = define("shop", whole)
    for use in (lambda: perdure.loads(data), lambda: perdure.dumps([shop.Size()]), lambda: perdure.dumps(shop.Size)):
        with pytest.raises(perdure.MissingUpgrade) as caught:
            use()
        assert caught.value.versions == (1,)
    with pytest.raises(perdure.MissingUpgrade):
        store.save([shop.Size()])
    perdure.upgrade(shop.Size, 1, add={"x": 2})
    assert perdure.loads(data)[0].x == 1
