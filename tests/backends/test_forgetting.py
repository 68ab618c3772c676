"""What packing and erasing leave in the files, and what goes on meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.backends.base import Backend
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.sqlite import packing as sqlite_packing
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.errors import SnapshotTooOld
from perdure.testing.backend_drafts import commit, draft, payloads

Open = Callable[[Path], Backend]
OPENERS: list[Open] = [
    lambda place: SqliteBackend(place / "store.db"),
    lambda place: FilesystemBackend(place / "store"),
]


def in_files(place: Path, text: bytes) -> list[str]:
    """The files below the place that have the text in them."""
    return [str(path) for path in sorted(place.rglob("*")) if path.is_file() and text in path.read_bytes()]


@pytest.mark.parametrize("open_store", OPENERS, ids=["sqlite", "directory"])
class TestForgetting:
    def test_no_byte_of_what_was_erased_is_left(self, open_store: Open, tmp_path: Path) -> None:
        backend, other = open_store(tmp_path), open_store(tmp_path)
        secret = b"pass" + b"word-of-nobody"
        for number in range(1, 60):
            commit(backend, draft(f"Item.{number}", b"%d" % number * 100))
        commit(backend, draft("User.60", secret * 3), draft("User.61", secret), seen=59)
        commit(backend, draft("User.60", b"changed " + secret, base=60))
        commit(backend, draft("User.60", b"harmless", base=61), removals={"User.61": 60})
        assert in_files(tmp_path, secret)
        commit(backend, removals={"User.60": 62})
        backend.erase(["User.61", "User.60"])
        assert in_files(tmp_path, secret) == in_files(tmp_path, b"harmless") == []
        assert len(other.ids()) == 59
        assert [version[:] for version in other.history("User.60")] == [(63, None)]
        assert other.read(["User.60", "User.61", "Item.1"], at=61).keys() == {"Item.1"}
        backend.close()
        other.close()
        assert in_files(tmp_path, secret) == []

    def test_space_comes_back(self, open_store: Open, tmp_path: Path) -> None:
        backend = open_store(tmp_path)
        commit(backend, *(draft(f"Item.{number}", b"x" * 3000) for number in range(1, 101)))
        for revision in range(1, 11):
            commit(backend, *(draft(f"Item.{n}", bytes([65 + revision]) * 3000, base=revision) for n in range(1, 101)))
        size = backend.size()
        assert size is not None
        assert size > 11 * 300_000
        assert backend.pack(11) == 1000
        assert 300_000 < (backend.size() or 0) < 600_000
        backend.close()
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 600_000

    def test_space_comes_back_on_the_way(self, open_store: Open, tmp_path: Path) -> None:
        backend = open_store(tmp_path)
        for second in range(100):
            new = [draft(f"Item.{n}", bytes([second]) * 3000, base=second) for n in range(1, 11)]
            commit(backend, *new, time=float(second), keep=5.0)
        assert backend.describe().oldest == 94
        backend.close()
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 12 * 10 * 4096

    def test_others_go_on_meanwhile(self, open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_packing, "ROWS", 20)
        packer, writer, reader = (open_store(tmp_path) for _ in range(3))
        commit(writer, *(draft(f"Item.{number}", b"0") for number in range(1, 31)))
        over = threading.Event()
        errors: list[BaseException] = []

        def read() -> None:
            try:
                while not over.is_set():
                    time.sleep(0.002)
                    at = reader.revision()
                    try:
                        found = payloads(reader.read([f"Item.{n}" for n in range(1, 31)], at=at))
                        ids = reader.ids(at=at)
                    except SnapshotTooOld:
                        continue
                    assert len(set(found.values())) == 1
                    assert len(found) == len(ids) == 30
            except BaseException as error:  # noqa: BLE001 (raised again below)
                errors.append(error)

        def write() -> None:
            try:
                for revision in range(1, 61):
                    commit(writer, *(draft(f"Item.{n}", b"%d" % revision, base=revision) for n in range(1, 31)))
            except BaseException as error:  # noqa: BLE001 (raised again below)
                errors.append(error)

        threads = [threading.Thread(target=read), threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        while threads[1].is_alive():
            packer.pack(packer.revision())
            time.sleep(0.02)  # locks are not handed over in turn
        over.set()
        for thread in threads:
            thread.join()
        assert errors == []
        packer.pack(61)
        assert [version.revision for version in reader.history("Item.7")] == [61]
        for each in (packer, writer, reader):
            each.close()


def test_a_store_whose_removals_have_no_ids_is_packed(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db")
    commit(backend, draft("Item.1", b"1"), draft("Item.2", b"1"))
    commit(backend, removals={"Item.1": 1, "Item.2": 1})
    commit(backend, draft("Item.3"))
    connection = backend._connection._connection
    assert connection is not None
    connection.execute("UPDATE superseded SET frame = NULL WHERE typeof(frame) = 'text'")  # as stores once were
    assert [version.revision for version in backend.history("Item.1")] == [2, 1]
    backend.erase(["Item.1"])
    assert backend.pack(3) == 1
    for id_ in ("Item.1", "Item.2"):
        assert [version[:] for version in backend.history(id_)] == [(2, None)]
    assert backend.history("User.1") == []
    commit(backend, draft("Item.2", b"back", base=2))
    assert backend.ids() == ["Item.2", "Item.3"]
    backend.close()
