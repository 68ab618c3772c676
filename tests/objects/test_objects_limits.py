"""What a record without a good seal may take is a setting of the store; the store's own records have no such limits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perdure
from perdure import CorruptRecord, InvalidArgument, Key, Limits, Persistable, Store, UntrustedRecord, make_store
from perdure.keys import KeyRing
from perdure.records.buffers import digest_of
from perdure.records.frame import decode, encoder
from perdure.records.seal import Key as Sealing
from perdure.records.values import Batch, Draft

FORGER = Sealing(bytes(range(32)))
LONG = "x" * 60_000  # compressed, and no large piece
LARGE = bytes(range(256)) * 1000


class Shelf(Persistable):
    def __init__(self, held: Any):
        self.held = held


class Plain(Persistable):
    """Takes part in its own pickling, so that its record is read the long way."""

    def __init__(self, held: Any):
        self.held = held

    def __getstate__(self) -> Any:
        return {"held": self.held}

    def __setstate__(self, state: Any) -> None:
        self.held = state["held"]


class Row(list[Any], Persistable):
    """Without a ghost class."""


def forged(store: Store, id_: str) -> None:
    """Replace a record by the same, sealed by somebody else."""
    record = decode(store.backend.read([id_])[id_], store.key)
    values = record._asdict()
    draft = Draft(base=values.pop("revision"), **values)
    store.backend.apply(Batch([draft]), encoder(FORGER, compress=True))


def nested(depth: int) -> Any:
    held: Any = 1
    for _ in range(depth):
        held = [held]
    return held


CASES = {
    "depth": (nested(30), Limits(depth=20)),
    "objects": ([[each] for each in range(100)], Limits(objects=50)),
    "opcodes": (list(range(1000)), Limits(opcodes=500)),
    "string": ("x" * 300, Limits(string=299)),
    "integer": (1 << 100, Limits(integer=64)),
    "unpacked": ([LONG], Limits(unpacked=50_000)),
    "large": (LARGE, Limits(bytes=200_000)),
    "large array": (bytearray(LARGE), Limits(bytes=200_000)),
}


@pytest.mark.parametrize("kind", [Shelf, Plain, Row, None])
@pytest.mark.parametrize("case", CASES)
def test_each_limit_holds_for_records_of_others_and_not_for_ones_own(case: str, kind: Any) -> None:
    held, limits = CASES[case]
    store = make_store("memory:", code="off", limits=limits)
    obj = [held, 1] if kind is None else Row([held]) if kind is Row else kind(held)
    id_ = store.save(obj)
    again = Store(store.backend, store.key, limits=limits)
    again.load(id_)  # its seal is good
    forged(store, id_)
    other = Store(store.backend, store.key, limits=limits)
    with pytest.raises(UntrustedRecord) as caught:
        other.load(id_)
    assert "make_store" in caught.value.hint
    assert caught.value.ids == (id_,)
    found = Store(store.backend, store.key, code="off").load(id_)  # within the usual limits
    assert (found == obj) if kind in (Row, None) else (found.held == held)
    assert Store(store.backend, store.key, trust="all", limits=limits).load(id_) is not None


def test_an_object_that_is_read_anew_is_under_the_same_limits() -> None:
    store = make_store("memory:", code="off", limits=Limits(depth=20))
    shelf, row = Shelf(nested(30)), Row([nested(30)])
    ids = store.save_many([shelf, row])
    for id_ in ids:
        forged(store, id_)
    store.invalidate_cache()
    with pytest.raises(UntrustedRecord):
        store.load(ids[0])
    with pytest.raises(UntrustedRecord):
        store.load(ids[1])


def test_the_past_and_a_look_inside_have_the_limits_of_the_store() -> None:
    store = make_store("memory:", code="off", limits=Limits(unpacked=50_000, depth=20))
    one, two = store.save_many([Shelf([LONG]), Shelf(nested(30))])
    for id_ in (one, two):
        forged(store, id_)
    with pytest.raises(UntrustedRecord):
        store.at(store.revision()).load(one)
    with pytest.raises(UntrustedRecord):
        store.history(one)
    assert "60" in (store.inspect(one).problem or "")
    assert "20" in (store.inspect(two).problem or "")
    assert Store(store.backend, store.key).inspect(one).problem == ""
    assert len(Store(store.backend, store.key).history(one)) == 2


def test_what_are_no_limits_is_refused(tmp_path: Path) -> None:
    for url in ("memory:", str(tmp_path / "directory"), f"sqlite:///{tmp_path}/store.db"):
        with pytest.raises(InvalidArgument, match="limits"):
            make_store(url, limits=50)
        make_store(url, limits=Limits(depth=5)).close()


# -- what lies in a database, and says that it is more than it is -------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A store in SQLite with a large piece, whose key is on another machine."""
    with make_store(f"sqlite:///{tmp_path}/store.db", code="off") as store:
        store.save_many([Shelf(LARGE), Shelf(np.frombuffer(LARGE, np.uint8)[::-1].copy())])
    ring = KeyRing()
    for name in ring.names():
        (ring.directory / f"{name}.key").unlink()
    return tmp_path / "store.db"


def change(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, values).rowcount > 0


@pytest.mark.parametrize("size", [-1, 1 << 21, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("where", ["buffers", "buffer_parts"])
def test_no_memory_is_taken_for_what_a_database_only_says(elsewhere: Path, where: str, size: int) -> None:
    change(elsewhere, f"UPDATE {where} SET size = ?", size)
    with make_store(f"sqlite:///{elsewhere}", read_only=True) as store:
        for id_ in store.list():
            if where == "buffers" and id_ == "Shelf.1":
                assert store.load(id_).held == LARGE  # read part by part: nobody asked for the size
                continue
            with pytest.raises(CorruptRecord, match="large piece"):
                store.load(id_)


def test_a_part_that_would_become_more_than_any_part_is_not_unpacked(elsewhere: Path) -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    change(elsewhere, "UPDATE buffer_parts SET content = ?, size = ?", bomb, 1 << 26)
    change(elsewhere, "UPDATE buffers SET size = ?", 1 << 20)
    with make_store(f"sqlite:///{elsewhere}", read_only=True) as store:
        for id_ in store.list():
            with pytest.raises(CorruptRecord, match=r"none has more|1048576"):
                store.load(id_)


def test_no_more_is_read_of_a_piece_than_it_should_have() -> None:
    store = make_store("memory:", code="off")
    id_ = store.save(Shelf(LARGE))
    backend: Any = store.backend
    asked: list[int] = []

    def endless(digest: str) -> Any:
        for number in range(1000):
            asked.append(number)
            yield bytes(1 << 16)

    backend.buffer_parts = endless
    assert digest_of(LARGE) in backend.buffers()
    with pytest.raises(CorruptRecord, match="bytes"):
        Store(backend, store.key).load(id_)
    assert max(asked) <= len(LARGE) // (1 << 16)


def test_limits_are_public() -> None:
    assert perdure.Limits is Limits
    assert Key is perdure.Key
