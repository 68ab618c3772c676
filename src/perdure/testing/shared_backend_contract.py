"""The contract of a backend whose medium outlives the process, and may be open many times, in one process or several.

    class TestMine(SharedBackendContract):
        def make_backend(self, place, new_key=no_key):
            return MyBackend(place / "store", new_key=new_key)

        def reopen(self, place, read_only=False):
            return MyBackend(place / "store", create=False, read_only=read_only)

- All that holds for every backend is tested too.
- Other processes are started anew, so the subclass must stand in a module that they can import.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import abstractmethod
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from perdure.backends.base import Backend
from perdure.errors import ConflictError, ReadOnly, StoreNotFound
from perdure.records.frame import parse_unverified
from perdure.testing.backend_contract import BackendContract
from perdure.testing.backend_drafts import commit, draft, payloads


class SharedBackendContract(BackendContract):
    """What holds besides where several backends, in one process or many, can have one store open."""

    @abstractmethod
    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        """One more backend for the store that is in the folder `place`; it must not make one."""

    def copy_store(self, place: Path, copy: Path) -> None:
        """Copy a closed store, with the medium's own means, to where `reopen(copy)` finds it."""
        shutil.copytree(place, copy)

    def test_what_was_written_is_there_after_reopening(self, backend: Backend, tmp_path: Path) -> None:
        commit(backend, draft("Item.1", b"pen"), draft("Root.2", internal=True))
        commit(backend, draft("Item.1", b"ink", base=1), removals={"Root.2": 1})
        backend.reserve(5)
        told = backend.describe()
        backend.close()
        again = self.reopen(tmp_path)
        assert again.describe() == told
        assert payloads(again.read(["Item.1"])) == {"Item.1": b"ink"}
        assert set(again.read(["Item.1", "Root.2"], at=1)) == {"Item.1", "Root.2"}
        assert [version.revision for version in again.history("Root.2")] == [2, 1]
        assert again.reserve(1) == told.next_number
        again.close()

    def test_a_copy_of_a_closed_store_is_whole(self, backend: Backend, tmp_path: Path) -> None:
        commit(backend, *(draft(f"Item.{number}", b"x" * 300) for number in range(1, 400)))
        told = backend.describe()
        backend.close()
        copy = tmp_path / "copy"
        self.copy_store(tmp_path, copy)
        other = self.reopen(copy)
        assert other.describe() == told
        assert len(list(other.scan())) == 399
        other.close()

    def test_only_the_maker_asks_for_a_key(self, backend: Backend, tmp_path: Path) -> None:
        def never() -> int:
            raise AssertionError("there is a store already")

        other = self.make_backend(tmp_path, never)
        assert other.describe() == backend.describe()
        other.close()

    def test_a_store_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        for read_only in (False, True):
            with pytest.raises(StoreNotFound):
                self.reopen(tmp_path, read_only)
            assert list(tmp_path.iterdir()) == []

    def test_a_second_backend_sees_what_the_first_does(self, backend: Backend, tmp_path: Path) -> None:
        other = self.reopen(tmp_path)
        watcher = self.reopen(tmp_path, read_only=True)
        for revision in range(1, 4):
            commit(backend, draft(f"Item.{revision}"))
            assert other.revision() == watcher.revision() == revision
            assert len(other.ids()) == len(watcher.ids()) == revision
        commit(other, draft("New.4", class_name="class:OfTheOther"), draft("Item.1", b"2", base=1), seen=3)
        with pytest.raises(ConflictError):
            commit(backend, draft("Item.1", b"3", base=1), seen=3)
        commit(backend, draft("New.5", class_name="class:OfTheOther"))
        assert len(list(watcher.scan(class_name="class:OfTheOther"))) == 2
        assert {backend.reserve(1), other.reserve(1), backend.reserve(1)} == {6, 7, 8}
        other.close()
        assert watcher.revision() == backend.revision() == 5
        watcher.close()

    def test_reading_only_never_writes(self, backend: Backend, tmp_path: Path) -> None:
        commit(backend, draft("Item.1"), draft("Item.2", references=["Item.1"]))
        commit(backend, draft("Item.1", base=1))
        backend.close()
        before = files_below(tmp_path)
        watcher = self.reopen(tmp_path, read_only=True)
        assert watcher.read_only
        assert watcher.describe().revision == watcher.revision() == 2
        assert len(watcher.read(["Item.1", "Item.2"])) == len(watcher.read(["Item.1", "Item.2"], at=1)) == 2
        assert watcher.ids() == ["Item.1", "Item.2"]
        assert len(list(watcher.scan())) == len(watcher.history("Item.1")) == len(watcher.commits()) == 2
        assert watcher.referrers(["Item.1"]) == {"Item.1": ["Item.2"]}
        for write in (lambda: watcher.reserve(1), lambda: commit(watcher, draft("Item.3"))):
            with pytest.raises(ReadOnly):
                write()
        assert files_below(tmp_path) == before
        watcher.close()
        assert files_below(tmp_path) == before

    def test_processes_lose_nothing(self, backend: Backend, tmp_path: Path) -> None:
        commit(backend, draft("Sum.1", b"0"), draft("Twin.2", b"0"))
        processes = [spawned(_count_up, self, tmp_path, 15) for _ in range(2)]
        while any(process.is_alive() for process in processes):
            pair = payloads(backend.read(["Sum.1", "Twin.2"]))
            assert pair["Sum.1"] == pair["Twin.2"]
        for process in processes:
            process.join()
            assert process.exitcode == 0
        assert payloads(backend.read(["Sum.1", "Twin.2"])) == {"Sum.1": b"30", "Twin.2": b"30"}
        assert len(backend.ids()) == 32
        assert [each.revision for each in backend.commits()] == list(range(31, 0, -1))

    def test_two_processes_may_make_the_same_store(self, tmp_path: Path) -> None:
        processes = [spawned(_make_and_write, self, tmp_path, 5) for _ in range(3)]
        for process in processes:
            process.join()
            assert process.exitcode == 0
        backend = self.reopen(tmp_path)
        assert len(backend.ids()) == backend.revision() == 15
        backend.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_forked_child_gets_connections_of_its_own(self, tmp_path: Path) -> None:
        self.make_backend(tmp_path).close()
        process = spawned(_fork_and_write, self, tmp_path)  # no fork here: pytest may have threads
        process.join()
        assert process.exitcode == 0
        backend = self.reopen(tmp_path)
        assert len(backend.ids()) == backend.revision() == 21
        backend.close()


def files_below(place: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and time of change."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in place.rglob("*") if path.is_file()}


def spawned(work: Callable[..., None], contract: SharedBackendContract, *arguments: object) -> SpawnProcess:
    """A new process that has begun to call `work`; the contract's class must be importable there."""
    process = get_context("spawn").Process(target=work, args=(type(contract), *arguments))
    process.start()
    return process


def _count_up(contract: type[SharedBackendContract], place: Path, times: int) -> None:
    backend = contract().reopen(place)
    for _ in range(times):
        number = backend.reserve(1, durable=False)
        while True:
            seen = backend.revision()
            records = [parse_unverified(frame) for frame in backend.read(["Sum.1", "Twin.2"]).values()]
            more = b"%d" % (int(records[0].payload) + 1)
            drafts = [draft(record.id, more, base=record.revision) for record in records]
            if any(record.revision > seen for record in records):
                seen = 0
            try:
                commit(backend, *drafts, draft(f"Item.{number}"), seen=seen)
                break
            except ConflictError:
                continue
    backend.close()


def _make_and_write(contract: type[SharedBackendContract], place: Path, times: int) -> None:
    backend = contract().make_backend(place)
    for _ in range(times):
        commit(backend, draft(f"Item.{backend.reserve(1)}"))
    backend.close()


def _fork_and_write(contract: type[SharedBackendContract], place: Path) -> None:
    backend = contract().reopen(place)
    commit(backend, draft(f"Item.{backend.reserve(1)}"))
    child = os.fork()
    for _ in range(10):
        commit(backend, draft(f"Item.{backend.reserve(1)}"))
    backend.close()
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
