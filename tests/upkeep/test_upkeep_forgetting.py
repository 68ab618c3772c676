"""Forgetting an object for good: not a byte of it is left, and everything else is whole."""

from __future__ import annotations

import errno
import sqlite3
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import NotFound, Persistable, SnapshotTooOld, StillReferred, Store, TransactionError, make_store
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.sqlite import packing
from perdure.errors import DiskFull, OutcomeUnknown
from perdure.files import Disk, Files
from perdure.testing.faults import FaultyDisk
from perdure.upkeep import check

SECRET = "pass" + "word-of-nobody"


class Person(Persistable):
    def __init__(self, name: str, *knows: Any):
        self.name, self.knows = name, list(knows)


@pytest.fixture(params=["memory", "sqlite", "directory"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def store(kind: str, tmp_path: Path) -> Any:
    url = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/s.db", "directory": str(tmp_path / "s")}[kind]
    with make_store(url) as store:
        yield store
        assert check(store) == []


def in_files(place: Path, text: str) -> list[str]:
    return [str(path) for path in sorted(place.rglob("*")) if path.is_file() and text.encode() in path.read_bytes()]


def test_nothing_is_left_of_an_object(store: Store, kind: str, tmp_path: Path) -> None:
    person = Person(SECRET)
    friend = Person("friend", person)
    store.save_many([person, friend])
    person.name = "other"
    store.save(person)
    store.save(Person("more"))
    id_ = person.persistent_id
    assert id_ is not None
    if kind != "memory":
        assert in_files(tmp_path, SECRET)
    with pytest.raises(StillReferred) as caught:
        store.forget(id_)
    assert caught.value.referrers == (friend.persistent_id,)
    friend.knows = []
    store.save(friend)
    store.forget(id_)
    assert in_files(tmp_path, SECRET) == []
    assert [version.removed for version in store.history(id_)] == [True]
    past = store.at(1)
    assert id_ not in past
    with pytest.raises(NotFound):
        past.load(friend.persistent_id).knows[0].name
    assert person.name == "other"
    store.forget(id_)  # once more does no harm
    with pytest.raises(NotFound):
        store.forget("Person.99")


def test_what_was_removed_before_is_forgotten(store: Store, tmp_path: Path) -> None:
    id_ = store.save({"secret": SECRET})
    store.remove(id_)
    store.forget(id_)
    assert in_files(tmp_path, SECRET) == []
    assert store.transactions()[0].revision == 2


def test_large_pieces_are_forgotten(store: Store, tmp_path: Path) -> None:
    import random

    secret = random.Random(1).randbytes(200_000) + SECRET.encode()  # nothing that would be compressed
    id_ = store.save(secret)
    store.remove(id_)
    store.forget(id_)
    assert store.backend.buffers() == {}
    assert in_files(tmp_path, SECRET) == []


def test_an_erased_object_does_not_come_back(store: Store) -> None:
    id_ = store.save(Person("a"))
    store.remove(id_)
    store.forget(id_)
    with pytest.raises(SnapshotTooOld, match="erased"):
        store.undo(2)


def test_not_inside_a_transaction(store: Store) -> None:
    id_ = store.save(Person("a"))
    with store.transaction(), pytest.raises(TransactionError):
        store.forget(id_)


def test_the_text_of_a_module_is_forgotten(
    store: Store, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("code")
    (folder / "leaky.py").write_text(
        textwrap.dedent(f"""
        from perdure import Persistable
        PASSWORD = "{SECRET}"
        class Leak(Persistable):
            pass
        """)
    )
    monkeypatch.syspath_prepend(str(folder))
    import leaky  # type: ignore[import-not-found]

    try:
        id_ = store.save(leaky.Leak())
        code_id = store.history(id_)[0].code
        code = store.load(code_id)
        sources = {source.persistent_id: source for source in code.sources.values()}
        (source_id,) = (each for each, source in sources.items() if SECRET in source.text)
        store.forget(source_id)
        assert in_files(tmp_path, SECRET) == []
        code = store.load(code_id)
        assert len(code.erased) == 1
        assert source_id not in [source.persistent_id for source in code.sources.values()]
        assert store.history(code_id)[0].fields["erased"] == code.erased[0]
        assert store.load(id_) is not None
        store.save(leaky.Leak())
    finally:
        del sys.modules["leaky"]


def test_forgetting_that_a_full_disk_cuts_off_is_done_by_the_same_call_again(tmp_path: Path) -> None:
    secret = b"the-password-of-nobody"
    hints: list[str] = []  # of calls that had removed the object when the disk was full
    is_done = False
    for step in range(1000):
        folder = tmp_path / str(step)
        disk = FaultyDisk(Disk(), error=errno.ENOSPC)
        store = store_in(folder, disk)
        id_ = store.save({"secret": secret, "more": "x" * 3000})
        disk.at = len(disk.steps) + step
        try:
            store.forget(id_)
            is_done = disk.at >= len(disk.steps)
        except (DiskFull, OutcomeUnknown) as error:
            if id_ not in store.list():
                hints.append(error.hint)
            if isinstance(error, OutcomeUnknown):  # this process writes no more
                store.close()
                store = store_in(folder, Disk())
            store.forget(id_)
        assert id_ not in store.list()
        assert store.check() == []
        store.close()
        assert [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
        if is_done:
            break
    assert is_done
    assert hints
    assert all("repeat the call" in hint for hint in hints)


def store_in(folder: Path, disk: Disk) -> Store:
    def opened(new_key: Callable[[], int]) -> FilesystemBackend:
        return FilesystemBackend(folder, new_key=new_key, files=Files(disk))

    return perdure.store_on(opened, code="off")


def test_where_no_space_is_left_to_erase_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with make_store(f"sqlite:///{tmp_path}/s.db") as store:
        id_ = store.save(Person(SECRET))
        monkeypatch.setattr(packing, "_rewrite", full)
        with pytest.raises(DiskFull, match="may still be in it") as caught:
            store.forget(id_)
        assert "nothing of this commit" not in str(caught.value)
        assert "repeat the call" in caught.value.hint
        assert id_ not in store
        monkeypatch.undo()
        store.forget(id_)
        assert check(store) == []
    assert in_files(tmp_path, SECRET) == []
