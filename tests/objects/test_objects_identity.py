"""Objects are records of their own: one copy each, references, cycles, chains, plain values."""

from __future__ import annotations

import array
import datetime
import gc
import weakref

import pandas
import pytest
from places import Holder

from perdure import Id, InvalidId, NotFound, Persistable, StoreClosed
from perdure.objects.instances.persistable import DOZING, GHOST, entry_of


class Item(Persistable):
    def __init__(self, name):
        self.name = name


class User(Persistable):
    def __init__(self, name):
        self.name, self.items = name, []


class Link(Persistable):
    next = None


class Quiet(Persistable):
    """Never calls the mix-in's `__init__`, is unhashable, and does not want to be compared."""

    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        raise AssertionError("perdure compared two objects of the user's")

    def __bool__(self):
        raise AssertionError("perdure asked for the truth of an object of the user's")

    def __len__(self):
        raise AssertionError("perdure asked for the length of an object of the user's")


def test_a_shared_object_is_one_record(place):
    pen = Item("pen")
    a, b = User("A"), User("B")
    a.items.append(pen)
    b.items.append(pen)
    store = place.open()
    ids = store.save_many([a, b])
    assert len(store) == 3
    a, b = place.open().load_many(ids)
    assert a.items[0] is b.items[0]
    assert a.items[0].name == "pen"


def test_load_gives_the_same_object_as_long_as_it_lives(store):
    item = Item("pen")
    id_ = store.save(item)
    assert store.load(id_) is item
    assert store.load(str(id_)) is item
    assert item.persistent_id == id_
    assert isinstance(id_, Id)
    assert (id_.prefix, id_.number) == ("Item", 1)


def test_an_object_that_is_gone_from_memory_is_loaded_anew(store):
    id_ = store.save(Item("pen"))
    assert store.load(id_).name == "pen"


def test_cycles_between_records(place):
    a, b = Holder(None), Holder(None)
    a.target, b.target = b, [a, a, {"self": b}]
    id_ = place.open().save(a)
    a = place.open().load(id_)
    b = a.target
    assert b.target[0] is a
    assert b.target[1] is a
    assert b.target[2]["self"] is b


def test_an_object_that_refers_to_itself(place):
    a = Holder(None)
    a.target = a
    a = place.copy(a)
    assert a.target is a


def test_a_chain_of_100_000(place):
    if place.kind == "directory":
        pytest.skip("100,000 files are for the benchmarks")
    first = link = Link()
    for _ in range(99_999):
        link.next = Link()
        link = link.next
    link = None
    id_ = place.open().save(first)
    first = None
    count, link = 0, place.open().load(id_)
    while link is not None:
        assert isinstance(link, Link)
        count, link = count + 1, link.next
    assert count == 100_000


def test_a_chain_inside_one_record(store, place):
    deep = []
    for _ in range(20_000):
        deep = [deep]
    id_ = store.save(Holder(deep))
    deep = place.open().load(id_).target
    for _ in range(20_000):
        assert len(deep) == 1
        deep = deep[0]
    assert deep == []


def test_what_is_referred_to_is_a_ghost_of_the_right_class(place):
    ghost = place.ghost(Item("pen"))
    assert isinstance(ghost, Item)
    assert ghost.__class__ is Item
    assert ghost.persistent_id == "Item.2"
    assert ghost.changed is False
    assert entry_of(ghost).state == GHOST  # none of this has loaded it
    assert ghost.name == "pen"
    assert type(ghost) is Item


def test_persistent_id_and_changed_of_a_new_object():
    item = Item("pen")
    assert item.persistent_id is None
    assert item.changed is True


def test_nothing_of_the_users_comparisons_is_used(place):
    store = place.open()
    shared = Quiet("shared")
    quiet = Quiet([shared, shared, {"k": shared}])
    holder = Holder([quiet, shared])
    id_ = store.save(holder)
    quiet.value.append(1)
    store.save(holder)
    holder.target.reverse()
    with store.transaction():
        store.save(holder)
        quiet.value.append(2)
    assert shared.changed is False
    loaded = place.open().load(id_)
    assert loaded.target[1].value[0] is loaded.target[0]
    assert loaded.target[1].value[3:] == [1, 2]
    store.invalidate_cache()
    assert store.load(id_) is holder
    assert holder.target[0] is shared


def test_save_stores_what_is_reachable_in_one_step(store):
    user = User("A")
    user.items = [Item(str(n)) for n in range(5)]
    store.save(user)
    assert store.revision() == 1
    assert len(store.transactions()) == 1
    assert [item.persistent_id for item in user.items] == [f"Item.{n}" for n in range(2, 7)]


def test_save_finds_changes_behind_unchanged_objects(place):
    store = place.open()
    inner = Item("old")
    outer = Holder(Holder(Holder(inner)))
    id_ = store.save(outer)
    inner.name = "new"
    store.save(outer)
    assert place.open().load(id_).target.target.target.name == "new"


def test_save_leaves_alone_what_is_not_reachable(place):
    store = place.open()
    a, b = Item("a"), Item("b")
    ids = store.save_many([a, b])
    a.name = b.name = "changed"
    store.save(a)
    assert [item.name for item in place.open().load_many(ids)] == ["changed", "b"]
    assert b.changed is True


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "text",
        b"bytes",
        [1, [2]],
        {"a": 1},
        (1, 2),
        {3},
        2.5,
        datetime.date(2024, 2, 29),
        array.array("i", [7]),
    ],
    ids=repr,
)
def test_plain_values(place, value):
    store = place.open()
    id_ = store.save(value)
    again = store.save(value)
    assert again != id_  # a plain value gets a new id each time
    assert place.open().load(id_) == value
    assert len(store) == 2


def test_a_data_frame(place):
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    loaded = place.copy(frame)
    pandas.testing.assert_frame_equal(loaded, frame)


def test_a_list_that_holds_persistables(place):
    item = Item("pen")
    store = place.open()
    id_ = store.save([item, item, {"one": item}])
    assert len(store) == 2
    found = place.open().load(id_)
    assert found[0] is found[1] is found[2]["one"]
    assert found[0].name == "pen"


def test_classes_and_functions_are_saved_by_name(place):
    assert place.copy(Holder([Item, test_a_data_frame, len])).target == [Item, test_a_data_frame, len]


def test_the_class_of_a_dozing_object_is_saved_as_its_own(place):
    store = place.open()
    item = Item("pen")
    store.save(item)
    assert entry_of(item).state == DOZING
    id_ = store.save(Holder(type(item)))
    assert place.open().load(id_).target is Item


def test_load_many_names_all_that_are_missing(store):
    id_ = store.save(Item("pen"))
    with pytest.raises(NotFound) as caught:
        store.load_many([id_, "Item.98", "Item.99"])
    assert caught.value.ids == ("Item.98", "Item.99")
    with pytest.raises(NotFound):
        store.load("Other.1")  # the number is there, under another prefix


def test_load_many_keeps_the_order_and_gives_one_object_twice(place):
    ids = place.open().save_many([Item("a"), Item("b")])
    a, b, a2 = place.open().load_many([ids[0], ids[1], ids[0]])
    assert (a.name, b.name) == ("a", "b")
    assert a2 is a
    assert place.open().load_many([]) == []


@pytest.mark.parametrize(
    "id_", ["../../etc/passwd", "", "Job", "Job.", "Job.01", "Job.-1", ".1", "a/b.1", "Job.1\n", 7]
)
def test_ids_from_outside_are_checked(store, id_):
    store.save(Item("pen"))
    for verb in (store.load, store.remove, store.history, lambda text: store.replace(text, Item("x"))):
        with pytest.raises(InvalidId):
            verb(id_)
    with pytest.raises(InvalidId):
        store.load_many([id_])


def test_list_and_len_count_the_users_objects_only(store):
    assert len(store) == 0
    assert store
    store.roots["users"] = [User("A"), User("B")]
    users = [user.persistent_id for user in store.roots["users"]]
    assert store.list() == list(store) == sorted(users)
    assert len(store) == 2
    everything = store.list(all=True)
    assert {*users, "Roots.0"} < {*everything}
    assert {id_.prefix for id_ in everything} - {"User"} >= {"Roots", "Root"}
    assert store.list()[0] in store
    assert "User.99" not in store


def test_ids_sort_by_number(store):
    ids = store.save_many([Item(n) for n in range(12)])
    assert store.list() == ids == sorted(ids)


def test_after_close_what_is_loaded_stays_readable(place):
    ghost = place.ghost(Item("pen"))
    item = Item("cap")
    store = place.opened[-1]
    store.save(item)
    store.close()
    store.close()
    assert item.name == "cap"
    with pytest.raises(StoreClosed):
        ghost.name
    with pytest.raises(StoreClosed):
        store.load("Item.1")
    if place.kind == "memory":
        place.is_whole = False  # it is gone


def test_nothing_keeps_an_object_alive_that_was_saved(store):
    holder = Holder(Item("pen"))
    store.save(holder)
    seen = weakref.ref(holder), weakref.ref(holder.target)
    store.save(holder)
    holder = None
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


def test_a_dropped_store_frees_its_objects(place):
    store = place.open()
    item = Item("pen")
    id_ = store.save(item)
    place.opened.remove(store)
    item.name = "cap"  # enlisted, and so held by its view
    seen = weakref.ref(item)
    backend, item, store = store.backend, None, None
    gc.collect()
    assert seen() is None
    assert backend.read([id_])
    backend.close()
