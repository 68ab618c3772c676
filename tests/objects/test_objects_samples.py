"""A change that one attribute tells is written without reading the record again; nothing else is written for it."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest
from ways import COMPILED

import perdure
from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.objects.instances.persistable import AWAKE, DOZING, entry_of

KEY = Key(bytes(range(32)))
NAN = float("nan")


class Counting(MemoryBackend):
    """Counts the records that are read."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def read(self, ids, at=None):
        ids = list(ids)
        self.count += len(ids)
        return super().read(ids, at)


class Item(Persistable):
    def __init__(self, **given):
        self.__dict__.update(given)


class Guarded(Persistable):
    """What is assigned is not what is kept."""

    def __init__(self, level):
        self.level = level

    def __setattr__(self, name, value):
        object.__setattr__(self, name, min(value, 10))


class Forwarding(Persistable):
    def __init__(self, number):
        self.number = number

    def __getattr__(self, name):
        if name.startswith("any_"):
            return name
        raise AttributeError(name)


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    if request.param == "compiled" and COMPILED is None:
        if os.environ.get("CI"):
            pytest.fail("the compiled part is not built")
        pytest.skip("the compiled part is not built here")
    monkeypatch.setattr(kernels, "compiled", COMPILED if request.param == "compiled" else None)


def loaded(**state):
    """A store, a dozing object of it, and the backend that counts from now on."""
    backend = Counting()
    (id_,) = Store(backend, KEY, code="off").save_many([Item(**state)])
    store = Store(backend, KEY, code="off")
    obj = store.load(id_)
    backend.count = 0
    return store, obj, backend


def stored(backend, obj):
    return vars(Store(backend, KEY, code="off").load(obj.persistent_id))


CHANGES = {
    "a text": ("new", "done"),
    "a number": (1, 2),
    "its type": (1, True),
    "a large number": (1, 2**100),
    "a float": (0.5, 1.5),
    "from NaN": (NAN, 1.0),
    "from None": (None, 0),
    "to None": (0, None),
}


@pytest.mark.parametrize(("before", "after"), CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("look", [False, True], ids=["assigned", "looked at and assigned"])
def test_the_usual_change_reads_no_record_again(way, before, after, look):
    store, obj, backend = loaded(value=before, tags=["a"], other=before)
    with store.transaction():
        if look:
            assert repr(obj.value) == repr(before)
        obj.value = after
    assert backend.count == 0
    assert (entry_of(obj).state, entry_of(obj).revision) == (DOZING, 2)
    assert type(stored(backend, obj)["value"]) is type(after)
    assert stored(backend, obj)["value"] == after


UNCHANGED = {
    "the same": (1, [1]),
    "another and back": (1, [2, "x", 1]),
    "an equal text": ("ab", ["".join(["a", "b"])]),
    "NaN": (NAN, [float("nan")]),
    "None": (None, [1, None]),
}


@pytest.mark.parametrize(("before", "assigned"), UNCHANGED.values(), ids=UNCHANGED)
def test_what_is_as_it_was_is_not_written(way, before, assigned):
    store, obj, _ = loaded(value=before, tags={"a", "b", "c"})
    with store.transaction():
        for each in assigned:
            obj.value = each
    assert (store.backend.revision(), entry_of(obj).state) == (1, DOZING)


def test_another_attribute_than_the_first_is_found_in_the_record(way):
    store, obj, backend = loaded(value=1, other=2, tags=["a"])
    with store.transaction():
        assert obj.value == 1
        obj.other = 3
    assert (backend.count, stored(backend, obj)["other"]) == (1, 3)
    with store.transaction():
        obj.tags.append("b")
    assert (backend.count, stored(backend, obj)["tags"]) == (3, ["a", "b"])


@pytest.mark.parametrize("value", [[1], (1,), {1}, b"1", 1j], ids=lambda value: type(value).__name__)
def test_of_other_kinds_the_record_decides(way, value):
    store, obj, backend = loaded(value=value, plain=1)
    with store.transaction():
        obj.value = type(value)(value)
    assert store.backend.revision() == 1
    with store.transaction():
        obj.plain = value
    assert store.backend.revision() == 2
    with store.transaction():
        del obj.plain
    assert store.backend.revision() == 3
    assert "plain" not in stored(backend, obj)


def test_each_revision_has_a_sample_of_its_own(way):
    store, obj, backend = loaded(value=1, tags=["a"])
    for value in (2, 3, 2, 1):
        with store.transaction():
            obj.value = value
    assert (store.backend.revision(), backend.count) == (5, 0)
    with store.transaction():
        assert obj.value == 1  # enlisted; the samples before had other values
    assert store.backend.revision() == 5


def test_one_that_stays_awake_has_no_sample_of_its_new_record(way):
    store, obj, backend = loaded(value=1, tags=["a"])
    tags = obj.tags
    with store.transaction():
        obj.value = 2
    assert (entry_of(obj).state, store.backend.revision()) == (AWAKE, 2)
    with store.transaction():
        obj.value = 1
    assert (store.backend.revision(), stored(backend, obj)["value"]) == (3, 1)
    with store.transaction():
        tags.append("b")
    assert (store.backend.revision(), stored(backend, obj)["tags"]) == (4, ["a", "b"])


def test_after_an_abort_the_sample_is_of_what_is_read_then(way):
    store, obj, backend = loaded(value=1)
    with pytest.raises(ZeroDivisionError), store.transaction():
        obj.value = 2
        raise ZeroDivisionError
    other = Store(backend, KEY, code="off")
    with other.transaction():
        other.load(obj.persistent_id).value = 3
    store.load(obj.persistent_id)
    with store.transaction():
        assert obj.value == 3
    assert store.backend.revision() == 2
    with store.transaction():
        obj.value = 1
    assert (store.backend.revision(), stored(backend, obj)["value"]) == (3, 1)


def test_a_conflict_is_met_all_the_same(way):
    store, obj, backend = loaded(value=1)
    other = Store(backend, KEY, code="off")
    with pytest.raises(perdure.ConflictError), store.transaction():
        obj.value = 2
        with other.transaction():
            other.load(obj.persistent_id).value = 3
    assert stored(backend, obj)["value"] == 3


def test_savepoints_take_no_sample_of_what_is_not_stored(way):
    store, obj, backend = loaded(value=1, other=1)
    with store.transaction() as tx:
        obj.value = 2
        tx.savepoint()
        obj.value = 3  # it may have dozed with 2
        obj.value = 1
    assert store.backend.revision() == 1
    with store.transaction() as tx:
        obj.other = 2
        tx.savepoint()
        assert obj.value == 1
        obj.other = 1
    assert store.backend.revision() == 1
    with store.transaction() as tx:
        savepoint = tx.savepoint()
        obj.value = 2
        savepoint.rollback()
        assert obj.value == 1
    assert store.backend.revision() == 1
    with store.transaction() as tx:
        obj.value = 2
        savepoint = tx.savepoint()
        obj.value = 1
        savepoint.rollback()
    assert (store.backend.revision(), stored(backend, obj)["value"]) == (2, 2)


def test_what_the_class_makes_of_an_assignment_counts(way):
    backend = Counting()
    (id_,) = Store(backend, KEY, code="off").save_many([Guarded(10)])
    store = Store(backend, KEY, code="off")
    obj = store.load(id_)
    with store.transaction():
        obj.level = 99
    assert (obj.level, backend.revision()) == (10, 1)
    with store.transaction():
        obj.level = 5
    assert (stored(backend, obj)["level"], backend.revision()) == (5, 2)


def test_names_that_are_no_attributes_of_the_state(way):
    backend = Counting()
    (id_,) = Store(backend, KEY, code="off").save_many([Forwarding(1)])
    store = Store(backend, KEY, code="off")
    for name in ("any_name", "__dict__", "__doc__"):
        obj = store.load(id_)
        assert (getattr(obj, name) == name, entry_of(obj).state) == (name == "any_name", AWAKE)
        with store.transaction():
            pass
        assert entry_of(obj).state == DOZING
    with pytest.raises(AttributeError):
        _ = obj.missing
    with pytest.raises(AttributeError):
        del obj.missing
    with pytest.raises(TypeError):
        setattr(obj, 7, 8)
    with store.transaction():
        pass
    assert backend.revision() == 1


def test_what_is_answered_without_waking_stays_so(way):
    store, obj, _ = loaded(value=1)
    assert (obj.__class__, obj.persistent_id, obj.changed) == (Item, "Item.1", False)
    assert (entry_of(obj).state, isinstance(obj, Item)) == (DOZING, True)
    obj.changed = True
    assert (entry_of(obj).state, entry_of(obj).forced) == (AWAKE, True)
    with store.transaction():
        pass
    assert store.backend.revision() == 2
    with pytest.raises(AttributeError):
        obj.persistent_id = "Item.2"


def assigning(obj, found):
    """What assigns to the object, and notes the ids of the error."""

    def assign():
        try:
            obj.value = 2
        except perdure.WrongView as error:
            found.append(error.ids)

    return assign


@pytest.mark.parametrize("tasks", [True, False], ids=["asyncio imported", "not imported"])
def test_only_the_own_thread_assigns(way, monkeypatch, tasks):
    if not tasks:
        monkeypatch.delitem(sys.modules, "asyncio")
    backend = Counting()
    ids = Store(backend, KEY, code="off").save_many([Item(value=number) for number in range(4)])
    store = Store(backend, KEY, code="off")
    first, second, third, _ = store.load_many(ids)
    found = []
    first.value = 2
    for obj in (second, third):
        other = threading.Thread(target=assigning(obj, found))
        other.start()
        other.join()
    assert (found, second.value, entry_of(second).state) == ([("Item.2",), ("Item.3",)], 1, AWAKE)
    third.value = 3
    assert third.value == 3


def test_no_task_assigns_to_what_its_thread_has(way):
    store, obj, _ = loaded(value=1)
    (other,) = store.load_many(store.save_many([Item(value=1)]))
    other.value = 2
    found = []

    async def main():
        assigning(obj, found)()

    asyncio.run(main())
    assert (found, obj.value) == ([("Item.1",)], 1)


def test_an_index_tells_what_was_assigned(way):
    backend = Counting()
    Store(backend, KEY, code="off").save_many([Indexed(state="new"), Indexed(state="new")])
    store = Store(backend, KEY, code="off")
    first, _ = store.find(Indexed, state="new")
    with store.transaction():
        first.state = "done"
    assert store.find(Indexed, state="done") == [first]


class Indexed(Item):
    __indexed__ = ("state",)
