"""Conflicts of objects with large arrays: merged in place, and never in the caller's own memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from places import Place

from perdure import ConflictError, Persistable, Store
from perdure.upkeep import unnamed_pieces

LARGE = 10_000  # doubles: more than 64 KiB


class Tally(Persistable):
    def __init__(self, values: Any):
        self.values = values

    @staticmethod
    def _resolve_conflict(old: Tally, stored: Tally, mine: Tally) -> Tally:
        mine.values += stored.values - old.values
        return mine


class Refusing(Tally):
    @staticmethod
    def _resolve_conflict(old: Tally, stored: Tally, mine: Tally) -> Tally:
        for copy in (old, stored, mine):
            copy.values += 100
        raise ValueError("not this time")


def beside(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def adding(store: Store, id_: str) -> Callable[[], None]:
    def add() -> None:
        tally = store.load(id_)
        tally.values[1] += 1
        store.save(tally)

    return add


@pytest.mark.parametrize("count", [100, LARGE])
def test_arrays_are_merged_in_place(place: Place, count: int) -> None:
    store = place.open()
    tally = Tally(np.zeros(count))
    id_ = store.save(tally)
    with store.transaction():
        tally.values[0] += 1
        beside(adding(store, id_))
    assert tally.values[:3].tolist() == [1, 1, 0]
    assert place.open().load(id_).values[:3].tolist() == [1, 1, 0]
    assert unnamed_pieces(store) == {}  # what the merge took the place of was not stored


def test_a_merge_that_is_refused_leaves_the_callers_array_alone(place: Place) -> None:
    store = place.open()
    id_ = store.save(Refusing(np.zeros(LARGE)))
    mine = Refusing(np.zeros(LARGE))

    def replace() -> None:
        with store.transaction():
            store.replace(id_, mine)
            beside(adding(store, id_))

    with pytest.raises(ConflictError):
        replace()
    assert not mine.values.any()
    assert place.open().load(id_).values[:3].tolist() == [0, 1, 0]
