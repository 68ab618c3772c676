"""Large pieces take memory once: saved in a store in memory, and loaded from the past."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from places import Place

from perdure import Persistable, make_store

SIZE = 8 << 20  # bytes


class Table(Persistable):
    def __init__(self, content: Any):
        self.content = content


@pytest.mark.parametrize("content", [np.arange(SIZE // 8), bytes(SIZE)], ids=["array", "bytes"])
def test_a_store_in_memory_copies_once_at_most(content: Any) -> None:
    store = make_store("memory:", code="off")
    store.save(Table(b"x" * 100_000))  # whatever is imported late is there now
    tracemalloc.start()
    try:
        id_ = store.save(Table(content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (0.2 if isinstance(content, bytes) else 1.3) * SIZE
    store.invalidate_cache()
    loaded = store.load(id_)
    assert bytes(loaded.content) == bytes(content)
    if not isinstance(content, bytes):
        loaded.content[0] = 7  # in memory, and not in the store
        assert store.at(store.revision()).load(id_).content[0] == 0


def test_bytes_of_the_past_are_read_part_by_part(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.open(code="off")
    id_ = store.save(Table(bytes(SIZE)))
    past = store.at(store.revision())
    monkeypatch.setattr(type(store.backend), "buffer", None)  # which gives all of it at once
    if place.kind == "memory":
        monkeypatch.undo()
    assert past.load(id_).content == bytes(SIZE)
