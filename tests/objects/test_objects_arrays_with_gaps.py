"""Arrays that lie in memory with gaps when they are saved: who only looks at what was loaded writes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from places import Place

from perdure import Persistable

SOME = 40_000

ARRAYS = {
    "every other": lambda: np.arange(SOME)[::2],
    "reversed": lambda: np.arange(SOME)[::-1],
    "columns": lambda: np.arange(SOME).reshape(200, -1)[:, ::2],
    "turned": lambda: np.arange(SOME).reshape(200, -1)[::2].T,
    "the same twice": lambda: [np.arange(SOME)[::2], np.arange(SOME)[::2]],
    "beside one without": lambda: [np.arange(SOME)[::2], np.arange(SOME), b"x" * 100_000, bytearray(100_000)],
    "read-only": lambda: _frozen(np.arange(SOME)[::2]),
    "a table": lambda: pd.DataFrame(np.arange(SOME).reshape(-1, 8))[::2],
}


def _frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array


class Table(Persistable):
    def __init__(self, numbers: Any):
        self.numbers = numbers


@pytest.mark.parametrize("name", ARRAYS)
def test_looking_writes_nothing(place: Place, name: str) -> None:
    id_ = place.open().save(Table(ARRAYS[name]()))
    store, other = place.open(), place.open()
    with store.transaction():
        store.load(id_).numbers[1]
        with other.transaction():
            other.load(id_).numbers[1]
    assert len(store.history(id_)) == 1


def test_a_change_is_written(place: Place) -> None:
    id_ = place.open().save(Table(np.arange(SOME)[::2]))
    store = place.open()
    table = store.load(id_)
    table.numbers[0] = 5
    store.save(table)
    table.numbers = table.numbers.tobytes()  # the very same content, in another shape
    store.save(table)
    table.numbers = bytearray(table.numbers)
    store.save(table)
    assert len(store.history(id_)) == 4
    assert place.open().load(id_).numbers == table.numbers
