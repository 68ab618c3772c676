"""Going through objects with large pieces: what stays in memory is counted in bytes, too."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from places import Place

from perdure import Persistable, Store
from perdure.objects import iterating
from perdure.objects.instances.persistable import GHOST, entry_of
from perdure.objects.views import large

COUNT, SIZE = 60, 80_000  # objects, bytes of each
LIMIT = 10 * SIZE


class Table(Persistable):
    __indexed__ = ("place",)

    def __init__(self, number: int):
        self.numbers = np.full(SIZE // 8, float(number))
        self.place = -number


class Shelf(Persistable):
    def __init__(self, tables: list[Table]):
        self.tables = tables


@pytest.fixture(autouse=True)
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "AT_MOST", LIMIT)
    monkeypatch.setattr(iterating, "BATCH_BYTES", LIMIT)


@pytest.fixture
def ids(place: Place) -> list[str]:
    shelf = Shelf([Table(number) for number in range(COUNT)])
    place.open().save(shelf)
    return [str(table.persistent_id) for table in shelf.tables]


class Seen:
    """How many of the arrays that were looked at are in memory at once, at most."""

    def __init__(self) -> None:
        self.most = 0
        self.arrays: list[weakref.ref[Any]] = []

    def look(self, tables: Iterator[Table]) -> list[float]:
        found = []
        for table in tables:
            found.append(float(table.numbers[0]))
            self.arrays.append(weakref.ref(table.numbers))
            self.most = max(self.most, sum(ref() is not None for ref in self.arrays))
        return found


EXPECTED = [float(number) for number in range(COUNT)]


def one_by_one(store: Store, ids: list[str]) -> Iterator[Table]:
    return (store.load(id_) for id_ in ids)


def test_loading_one_after_the_other_takes_little_memory(place: Place, ids: list[str]) -> None:
    seen = Seen()
    assert seen.look(one_by_one(place.open(), ids)) == EXPECTED
    assert seen.most <= 22


def test_so_it_is_in_a_transaction_and_through_references(place: Place, ids: list[str]) -> None:
    store, seen = place.open(), Seen()
    with store.transaction():
        shelf = store.load(store.list()[0])
        assert seen.look(iter(shelf.tables)) == EXPECTED
    assert seen.most <= 22
    assert [float(table.numbers[0]) for table in shelf.tables] == EXPECTED  # those that went are read anew


@pytest.mark.parametrize("how", ["all", "class", "found"])
def test_a_batch_ends_where_it_has_many_bytes(place: Place, ids: list[str], how: str) -> None:
    store, seen = place.open(), Seen()
    objects = {
        "all": lambda: (obj for obj in store.iterate() if isinstance(obj, Table)),
        "class": lambda: store.iterate(Table),
        "found": lambda: store.iterate(Table, place__le=0, order_by="place"),
    }[how]()
    assert seen.look(objects) == (EXPECTED[::-1] if how == "found" else EXPECTED)
    assert seen.most <= 22


def test_what_is_changed_or_held_stays(place: Place, ids: list[str]) -> None:
    store = place.open()
    changed, held = store.load(ids[0]), store.load(ids[1])
    changed.numbers[1] = -1
    array = held.numbers
    lonely = store.load(ids[2])
    assert lonely.numbers[0] == 2
    assert Seen().look(one_by_one(store, ids[3:])) == EXPECTED[3:]
    assert entry_of(lonely).state == GHOST
    assert held.numbers is array
    array[1] = -2
    store.save_many([changed, held])
    other = place.open()
    assert [other.load(id_).numbers[1] for id_ in ids[:3]] == [-1, -2, 2]


def test_what_is_asked_for_at_once_is_loaded_at_once(place: Place, ids: list[str]) -> None:
    tables = place.open().load_many(ids)
    assert GHOST not in {entry_of(table).state for table in tables}
    assert [float(table.numbers[0]) for table in tables] == EXPECTED


def test_one_that_is_larger_than_the_limit_is_read_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "AT_MOST", SIZE // 2)
    id_ = place.open().save(Table(1))
    store, reads = place.open(), []
    buffer = store.backend.buffer
    monkeypatch.setattr(store.backend, "buffer", lambda digest: (reads.append(digest), buffer(digest))[1])
    table = store.load(id_)
    for _ in range(3):
        assert table.numbers.sum() == SIZE // 8
    assert len(reads) == 1
