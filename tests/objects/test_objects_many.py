"""Many objects at a time: saved, with a failure at the end; gone through by class; loaded with what they refer to."""

from __future__ import annotations

import pytest
from places import Holder

from perdure import CannotPickle, Persistable
from perdure.errors import StorageError
from perdure.objects.persistable import DOZING, entry_of


class Item(Persistable):
    def __init__(self, number):
        self.number, self.log = number, []


@pytest.fixture
def broken(monkeypatch):
    """Makes a store's commits fail at the last moment."""

    def fail(*given):
        raise StorageError("the disk is gone")

    def break_(store):
        monkeypatch.setattr(store.backend, "apply", fail)
        return store

    yield break_
    monkeypatch.undo()


def test_what_a_failed_save_has_looked_at_is_new_and_ordinary_again(place, broken, monkeypatch):
    store = place.open()
    items = [Item(number) for number in range(30)]
    holder = Holder(items)
    broken(store)
    with pytest.raises(StorageError):
        store.save_many([*items, holder])
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    monkeypatch.undo()
    items[3].log.append("later")
    ids = store.save_many(items)
    assert [place.open().load(ids[3]).log, len(store)] == [["later"], 30]


def test_what_a_failed_transaction_has_saved_is_new_and_ordinary_again(place, broken, monkeypatch):
    store = place.open()
    items = [Item(number) for number in range(30)]
    broken(store)
    with pytest.raises(StorageError), store.transaction():
        store.save_many(items)
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    monkeypatch.undo()
    store.save_many(items)
    assert all(entry_of(item).state == DOZING for item in items)
    assert len(place.open()) == 30


def test_one_that_cannot_be_pickled_among_many_leaves_all_new(place):
    store = place.open()
    items = [Item(number) for number in range(30)]
    items[29].log.append(Holder(lambda: None))
    with pytest.raises(CannotPickle) as caught:
        store.save_many(items)
    assert "target" in caught.value.path
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    items[29].log.clear()
    assert len(store.save_many(items)) == len(store) == 30


def test_the_path_to_what_cannot_be_pickled_goes_through_what_was_already_looked_at(place):
    store = place.open()
    inner = Item(2)
    inner.log.append(Holder(lambda: None))
    outer = Item(1)
    outer.next = inner
    with pytest.raises(CannotPickle) as caught:
        store.save(outer)
    assert ".next.log[0].target" in caught.value.path
