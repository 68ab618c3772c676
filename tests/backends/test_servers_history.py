"""History, collecting and forgetting, with stores on database servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import KINDS, drop_tables, query, table_of, tables_like, url_of

from perdure import ConflictError, Persistable, SnapshotTooOld, Store, make_store

SECRET = "pass" + "word-of-nobody"


class Part(Persistable):
    __indexed__ = ("name",)

    def __init__(self, name: str, *refers_to: Any):
        self.name, self.refers_to = name, list(refers_to)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = table_of(tmp_path)
    with make_store(f"{url_of(request.param)}#table={name}", code="off") as store:
        yield store
        assert store.check() == []
    drop_tables(request.param, {name})


def test_the_past_undo_and_packing(store: Store) -> None:
    a, b = Part("a"), Part("b")
    store.save_many([a, b])
    with store.transaction():
        a.name = "changed"
        store.save(Part("c", a))
        store.remove(b.persistent_id)
    assert store.at(1).load("Part.1").name == "a"
    assert store.undo(2) == 3
    assert [found.name for found in store.find(Part, order_by="name")] == ["a", "b"]
    assert a.name == "a"
    assert store.undo(3) == 4
    assert [found.name for found in store.find(Part, order_by="name")] == ["c", "changed"]
    a.name = "more"
    store.save(a)
    with pytest.raises(ConflictError):
        store.undo(4)
    assert store.pack(keep=2)[:3] == (4, 8, 0)
    with pytest.raises(SnapshotTooOld):
        store.at(3)
    assert [version.removed for version in store.history("Part.2")] == [True]
    assert [commit.revision for commit in store.transactions(2)] == [5, 4]


def test_collecting_and_forgetting(store: Store, tmp_path: Path) -> None:
    a, b = Part("a"), Part(SECRET)
    a.refers_to, b.refers_to = [b], [b, a]
    holder = Part("holder", a)
    store.save(holder)
    holder.refers_to = []
    store.save(holder)
    assert store.collect().removed == 2
    assert store.list() == ["Part.1"]
    ids = [id_ for id_ in store.at(1).list() if id_ != "Part.1"]
    for id_ in ids:
        store.forget(id_)
    kind = "postgresql" if store.url.startswith("postgresql") else "mysql"
    for table in tables_like(kind, table_of(tmp_path)):
        assert SECRET.encode() not in b"".join(repr(row).encode() for row in query(kind, f"SELECT * FROM {table}"))


def test_what_comes_back_is_found_by_its_index(store: Store) -> None:
    id_ = store.save(Part("one"))
    store.remove(id_)
    assert store.count(Part, name="one") == 0
    store.undo(2)
    assert store.count(Part, name="one") == 1
