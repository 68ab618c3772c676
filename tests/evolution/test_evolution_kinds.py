"""A class that becomes one of another kind: with slots or without, a list, a dict, an error; or no record at all."""

from __future__ import annotations

import warnings

import pytest

import perdure
from perdure.pickling.declared import DECLARED
from perdure.upkeep import upgrade

HOLDER = "class Holder(Persistable): pass\n"
KINDS = {
    "plain": "class D(Persistable): pass\n",
    "slots": "class D(Persistable):\n    __slots__ = ('x',)\n",
    "list": "class D(list, Persistable): pass\n",
    "dict": "class D(dict, Persistable): pass\n",
    "error": "class D(Exception, Persistable): pass\n",
    "frozen": "@dataclass(frozen=True, slots=True)\nclass D(Persistable):\n    x: int = 0\n",
}
PAIRS = [(old, new) for old in ("plain", "slots", "frozen") for new in KINDS]


def reopened(store):
    return perdure.Store(store.backend, store.key)


@pytest.mark.parametrize(("old", "new"), PAIRS)
@pytest.mark.parametrize("referred", [False, True])
def test_a_class_may_become_one_of_another_kind(define, old, new, referred):
    shop = define("shop", HOLDER + KINDS[old])
    holder, obj = shop.Holder(), shop.D()
    object.__setattr__(obj, "x", 1)
    holder.obj = obj
    store = perdure.make_store("memory:")
    store.save(holder)
    ids = holder.persistent_id, obj.persistent_id
    shop = define("shop", HOLDER + KINDS[new])
    again = reopened(store)
    loaded = again.load(ids[0]).obj if referred else again.load(ids[1])
    assert (isinstance(loaded, shop.D), loaded.x) == (True, 1)
    again.invalidate_cache()
    assert again.load(ids[1]).x == 1
    if new in ("list", "dict"):
        assert len(loaded) == 0
    upgrade(again)
    assert reopened(store).load(ids[1]).x == 1


INSIDE = {
    "data": "@dataclass\nclass Line:\n    x: int\n    new: list = field(default_factory=list)\n",
    "slots of data": "@dataclass(slots=True)\nclass Line:\n    x: int\n    new: list = field(default_factory=list)\n",
    "slots": "class Line:\n    __slots__ = ('x', 'gone')\n",
    "slots and more": "class Line:\n    __slots__ = ('x', '__dict__')\n",
    "a list with slots": "class Line(list):\n    __slots__ = ('x', 'gone')\n",
}


@pytest.mark.parametrize("new", INSIDE)
@pytest.mark.parametrize("reader", ["store", "loads", "own reader"])
def test_a_plain_class_of_objects_inside_may_become_another_kind(define, new, reader):
    """Its records tell no layout; it is by having one now that it is seen to have changed."""
    head = "from dataclasses import dataclass, field\n"
    base = "list" if new == "a list with slots" else ""
    shop = define("shop", f"{head}{HOLDER}class Line({base}):\n    pass\n")
    holder, line = shop.Holder(), shop.Line()
    line.x, line.gone = 1, 2
    holder.lines = [line, shop.Line]
    store = perdure.make_store("memory:")
    id_, dumped = store.save(holder), perdure.dumps(holder.lines)
    shop = define("shop", head + HOLDER + INSIDE[new])
    again = reopened(store)
    if reader == "own reader":
        perdure.register_class(shop.Line)
        again = perdure.Store(store.backend, perdure.Key.new())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", perdure.EvolutionWarning)
        found, cls = perdure.loads(dumped) if reader == "loads" else again.load(id_).lines
    assert cls is shop.Line
    assert type(found) is shop.Line
    assert found.x == 1
    assert getattr(found, "new", []) == []
    assert hasattr(found, "new") == ("data" in new)
    assert getattr(found, "gone", 2) == 2
    if reader == "store":
        assert upgrade(again).written == 1
        assert upgrade(reopened(store)).written == 0
        assert reopened(store).load(id_).lines[0].x == 1


def test_slots_that_became_a_dict_are_no_change(define):
    store = perdure.make_store("memory:")
    obj = define("shop", KINDS["slots"]).D()
    obj.x = 1
    id_ = store.save(obj)
    define("shop", KINDS["plain"])
    again = reopened(store)
    assert not again.load(id_).changed


@pytest.mark.parametrize(("old", "lacks"), [("list", "append"), ("dict", "__setitem__")])
def test_items_that_have_no_place_any_more_are_said_and_stay(define, old, lacks):
    store = perdure.make_store("memory:")
    shop = define("shop", KINDS[old])
    id_ = store.save(shop.D([("k", 1)]))
    define("shop", KINDS["plain"])
    with pytest.raises(perdure.CannotLoad, match=f"held 1 items.* has no {lacks} to take them") as caught:
        reopened(store).load(id_)
    assert caught.value.ids == (id_,)
    shop = define("shop", KINDS[old])
    assert reopened(store).load(id_) == shop.D([("k", 1)])


@pytest.mark.parametrize("now", ["def D(): pass\n", "D = 5\n", "class D: pass\n", "class D(enum.Enum):\n    A = 1\n"])
def test_what_is_no_record_class_any_more_is_opaque(define, now):
    store = perdure.make_store("memory:")
    obj = define("shop", KINDS["plain"]).D()
    obj.x = 1
    id_ = store.save(obj)
    define("shop", now)
    with pytest.raises(perdure.ClassNotFound, match=r"shop:D, the class of D\.1, is not a Persistable here"):
        reopened(store).load(id_)
    opaque = reopened(store).load(id_, missing="opaque")
    assert (opaque.class_name, opaque.state) == ("shop:D", {"x": 1})
    define("shop", KINDS["plain"])
    assert reopened(store).load(id_).x == 1


@pytest.mark.parametrize("now", ["def V(): pass\n", "V = 5\n"])
def test_a_value_whose_class_is_something_else_now_is_opaque_where_that_is_allowed(define, now):
    store = perdure.make_store("memory:")
    shop = define("shop", HOLDER + "class V: pass\n")
    holder = shop.Holder()
    holder.value = shop.V()
    holder.value.x = 1
    id_ = store.save(holder)
    define("shop", HOLDER + now)
    with pytest.raises(perdure.CannotLoad, match=id_):
        reopened(store).load(id_)
    again = reopened(store)
    holder = again.load(id_, missing="opaque")
    assert (holder.value.class_name, holder.value.state) == ("shop:V", {"x": 1})
    holder.more = 1
    again.save(holder)
    define("shop", HOLDER + "class V: pass\n")
    assert reopened(store).load(id_).value.x == 1


def test_a_default_that_cannot_be_made_names_the_record(define):
    store = perdure.make_store("memory:")
    id_ = store.save(define("shop", "@dataclass\nclass D(Persistable):\n    x: int = 1\n").D())
    shop = define(
        "shop",
        "MADE = []\ndef make():\n    MADE.append(1)\n    raise KeyError('no')\n"
        "@dataclass\nclass D(Persistable):\n    x: int = 1\n    y: int = field(default_factory=make)\n",
    )
    with pytest.raises(perdure.CannotLoad, match=r"D\.1 .*KeyError: 'no'") as caught:
        reopened(store).load(id_)
    assert caught.value.ids == (id_,)
    assert shop.MADE == [1]


def test_a_class_that_does_not_declare_its_stable_name_any_more(define):
    shop = define("shop", '@perdure.versioned("shop.D", version=2, oldest=2)\nclass D(Persistable): pass\n')
    store, obj = perdure.make_store("memory:"), shop.D()
    obj.x = 1
    id_, data = store.save(obj), perdure.dumps([shop.D])
    DECLARED.clear()
    define("shop", "class D(Persistable): pass\n")
    for load in (lambda: reopened(store).load(id_), lambda: perdure.loads(data)):
        with pytest.raises(perdure.ClassNotFound, match="does not declare that name") as caught:
            load()
        assert 'perdure.versioned("shop.D"' in caught.value.hint
    assert reopened(store).load(id_, missing="opaque").state == {"x": 1}
    define("shop", '@perdure.versioned("new.D", version=2, oldest=2)\nclass D(Persistable): pass\n')
    with pytest.raises(perdure.ClassNotFound, match=r"does not declare that name \(it is new\.D\)"):
        reopened(store).load(id_)
    DECLARED.clear()
    define("shop", '@perdure.versioned("new.D", version=2, formerly="shop.D")\nclass D(Persistable): pass\n'
                   "perdure.upgrade(D, 1, add={'y': 3})\n")  # fmt: skip
    assert reopened(store).load(id_).x == 1


@pytest.mark.parametrize("base", ["list", "dict", "collections.OrderedDict", "collections.deque", "Exception"])
def test_steps_of_records_that_are_lists_and_dicts(define, base):
    """These are made before their state is upgraded: the step gets the attributes, never the items."""
    shop = define("shop", f"class D({base}, Persistable): pass\n")
    obj, store = shop.D(), perdure.make_store("memory:")
    obj.old = 1
    if hasattr(obj, "append"):
        obj.append("item")
    elif hasattr(obj, "keys"):
        obj["key"] = "item"
    id_ = store.save(obj)
    shop = define(
        "shop",
        f"""
        LOG = []
        @perdure.versioned("shop.D", version=2, formerly=["shop:D"])
        class D({base}, Persistable):
            def __new__(cls, *args):
                LOG.append("made")
                return super().__new__(cls, *args)
        @perdure.upgrade(D, 1)
        def step(state):
            LOG.append(dict(state))
            state["new"] = state.pop("old")
        """,
    )
    loaded = reopened(store).load(id_)
    assert (loaded.new, hasattr(loaded, "old")) == (1, False)
    assert shop.LOG[-2:] == ["made", {"old": 1}]
    items = loaded.args if base == "Exception" else [*loaded]
    assert [*items] == ([] if base == "Exception" else ["item"] if hasattr(loaded, "append") else ["key"])
    assert upgrade(reopened(store)).written == 1
    assert upgrade(reopened(store)).written == 0
