"""What a view holds while others put an object of another class in its place: never filled with the other's state."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from persistent import Persistent
from places import Holder

from perdure import CannotLoad, ConflictError, Persistable


class Draft(Persistable):
    def __init__(self):
        self.text = "draft"


class Order(Persistable):
    def __init__(self):
        self.total = 2


class Lines(list, Persistable):
    pass


class Row(Persistent):
    def __init__(self):
        self.cells = 3


def in_thread(work, *arguments):
    """What `work` gives in a thread of its own; what it raises is raised here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


def stored_class(store, id_):
    return store.history(id_)[0].class_name.rpartition(":")[2]


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "ghost"])
def test_a_held_object_becomes_one_of_the_new_class_where_that_can_be(place, loaded):
    store, draft = place.open(), Draft()
    id_ = store.save(draft)
    if not loaded:
        store.invalidate_cache()
    holder = Holder(draft)
    holder_id = store.save(holder)
    in_thread(store.replace, id_, Order())
    assert store.load(id_) is draft
    assert type(draft) is not Draft
    assert isinstance(draft, Order)
    assert vars(draft) == {"total": 2}
    draft.total = 5
    store.save(holder)
    assert stored_class(store, id_) == "Order"
    assert vars(place.open().load(holder_id).target) == {"total": 5}


@pytest.mark.parametrize("kind", [Lines, Row, dict])
def test_a_ghost_that_cannot_become_the_other_says_so(place, kind):
    store = place.open()
    draft = Draft()
    holder = Holder(draft)
    holder_id = store.save(holder)
    id_ = draft.persistent_id
    in_thread(store.replace, id_, kind())
    store.load(holder_id)  # the view goes on: the draft is a ghost
    for _ in range(2):
        with pytest.raises(CannotLoad) as caught:
            _ = draft.text
        assert caught.value.ids == (id_,)
    found = store.load(id_)
    assert found is not draft
    assert type(found).__name__ in (kind.__name__, f"{kind.__name__}Ghost")
    holder.more = True
    store.save(holder)  # it refers to the id, as before
    assert stored_class(store, id_) == kind.__name__
    if kind is not dict:
        assert type(place.open().load(holder_id).target) is kind


@pytest.mark.parametrize("kind", [Draft, Row])
def test_an_object_without_a_ghost_class_lives_on_as_one_that_no_store_knows(place, kind):
    store = place.open()
    lines = Lines([1, 2])
    id_ = store.save(lines)
    in_thread(store.replace, id_, kind())
    found = store.load(id_)
    assert isinstance(found, kind)
    assert lines == [1, 2]
    assert lines.persistent_id is None
    store.save(found)
    assert stored_class(store, id_) == kind.__name__


@pytest.mark.parametrize("kind", [Draft, Lines, dict])
def test_a_guest_in_whose_place_there_is_another_says_so(place, kind):
    store = place.open()
    row = Row()
    holder = Holder(row)
    store.save(holder)
    id_ = next(id_ for id_ in store.list() if id_.startswith("Row"))
    in_thread(store.replace, id_, kind())
    store.load(holder.persistent_id)
    with pytest.raises(CannotLoad, match=r"another class|replaced"):
        _ = row.cells
    assert type(store.load(id_)).__name__.startswith(kind.__name__)
    with pytest.raises(CannotLoad, match="another class"):
        _ = row.cells
    holder.more = True
    with pytest.raises(CannotLoad, match="another class"):
        store.save(holder)
    del row
    holder.target = None
    store.save(holder)
    gc.collect()
    assert stored_class(store, id_) == kind.__name__


def test_many_are_loaded_where_one_was_replaced(place):
    store = place.open()
    drafts = [Draft() for _ in range(5)]
    ids = store.save_many(drafts)
    in_thread(store.replace, ids[2], Order())
    in_thread(store.replace, ids[3], {"plain": True})
    found = store.load_many(ids)
    assert [type(each).__name__.removesuffix("Ghost") for each in found] == ["Draft", "Draft", "Order", "dict", "Draft"]
    assert found[2] is drafts[2]
    assert found[2].total == 2


def test_a_conflict_with_another_class_leaves_the_object_of_that_class(store):
    draft = Draft()
    id_ = store.save(draft)
    draft.text = "changed"
    in_thread(store.replace, id_, Order())
    with pytest.raises(ConflictError):
        store.save(draft)
    assert isinstance(store.load(id_), Order)
    assert stored_class(store, id_) == "Order"


@pytest.mark.parametrize("looked_at", [False, True], ids=["alone", "beside"])
@pytest.mark.parametrize("back", ["undo", "replace"])
def test_two_objects_never_share_an_id(place, looked_at, back):
    """The place of a held object was another's for a while: it is that object again, or says that another one is."""
    store, held = place.open(), Order()
    id_ = store.save(held)
    store.replace(id_, [1, 2])
    assert store.load(id_) == [1, 2]
    store.undo(store.revision()) if back == "undo" else store.replace(id_, Order())
    if not looked_at:
        assert held.total == 2
        assert store.load(id_) is held
        held.total = 5
        store.save(held)
        assert place.open().load(id_).total == 5
        return
    now = store.load(id_)
    assert now is not held
    with pytest.raises(CannotLoad, match="was replaced for a while, and is another object here"):
        held.total = 5
    now.total = 7
    store.save(now)
    assert place.open().load(id_).total == 7


def test_ids_sort_by_number_however_an_object_was_found(place):
    store = place.open(code="off")
    store.save_many(Order() for _ in range(11))
    past = store.at(store.revision())
    del store
    found = [order.persistent_id for order in past.iterate(Order)]
    assert [str(id_) for id_ in sorted(found)] == [f"Order.{number}" for number in range(1, 12)]


def test_what_takes_the_place_of_a_changed_object_refers_to_nothing_that_is_gone(place):
    """Not even to what the object has referred to when it was read."""
    store = place.open()
    target = Draft()
    id_ = store.save(Holder(target))
    other = store.save(Draft())
    holder = store.load(id_)
    assert holder.target.text == "draft"

    def take_away():
        own = place.open()
        same = own.load(id_)
        gone = same.target.persistent_id
        same.target = None
        own.save(same)
        own.remove(gone)

    in_thread(take_away)
    store.load(other)  # moves forward
    with pytest.raises(ConflictError):
        store.replace(id_, Holder(target))
    assert place.open().load(id_).target is None
    assert holder.target is None
