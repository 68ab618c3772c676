"""What a store forgets, its backups forget too, when they are named: not a byte of it is left in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pasts import LARGE, Note, Places, everything, live

from perdure import InvalidArgument, StillReferred, Store, restore
from perdure.cli import main
from perdure.files import Disk, Files
from perdure.testing.faults import FaultyDisk, Killed
from perdure.upkeep import check
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.forgetting_backups import forget_in_backup

SECRET = "pass" + "word-of-nobody"


@pytest.fixture(params=["memory", "directory", "sqlite"])
def store(request: pytest.FixtureRequest, places: Places) -> Store:
    store = places.open(request.param)
    live(store)
    return store


def secret_in(store: Store, path: Path) -> str:
    """The id of an object with a secret, in two increments of a backup; one large piece is its own, one is shared."""
    note = Note(SECRET, "secret", SECRET.encode() + LARGE, LARGE)
    other = Note(LARGE)
    store.save_many([note, other])
    store.backup(path)
    note.text = SECRET + "-again"
    id_ = store.save(note)
    store.backup(path)
    assert path.read_bytes().count(SECRET.encode()) == 3
    return id_


def test_nothing_is_left_of_it_in_a_backup(store: Store, places: Places, tmp_path: Path) -> None:
    id_ = secret_in(store, tmp_path / "b")
    before = BackupFile(tmp_path / "b").contents()
    store.forget(id_, backups=[tmp_path / "b"])
    assert SECRET.encode() not in (tmp_path / "b").read_bytes()
    contents = BackupFile(tmp_path / "b").contents()
    assert len(contents.pieces) == len(before.pieces) - 1
    assert contents.revision == store.revision() == before.revision + 1
    restore(tmp_path / "b", places.url("directory", "again"), key=store.key)
    again = places.open("directory", "again", key=store.key)
    assert everything(again.backend, with_indexes=False) == everything(store.backend, with_indexes=False)
    assert check(again) == check(store) == []
    store.save(Note("later"))
    assert store.backup(tmp_path / "b").since == contents.revision  # it goes on with that file


def test_a_backup_that_is_not_named_keeps_it(store: Store, tmp_path: Path) -> None:
    id_ = secret_in(store, tmp_path / "b")
    store.forget(id_)
    store.backup(tmp_path / "b")
    assert SECRET.encode() in (tmp_path / "b").read_bytes()
    store.forget(id_, backups=[tmp_path / "b"])  # it can be named later
    assert SECRET.encode() not in (tmp_path / "b").read_bytes()


def test_what_is_not_forgotten_in_the_store_stays_in_the_backup(store: Store, tmp_path: Path) -> None:
    id_ = secret_in(store, tmp_path / "b")
    store.save(Note("refers", "new", store.load(id_)))
    before = (tmp_path / "b").read_bytes()
    with pytest.raises(StillReferred):
        store.forget(id_, backups=[tmp_path / "b"])
    assert (tmp_path / "b").read_bytes() == before


def test_the_backup_of_another_store_is_told(store: Store, places: Places, tmp_path: Path) -> None:
    other = places.open("sqlite", "other")
    other.save(Note("x"))
    other.backup(tmp_path / "b")
    before = (tmp_path / "b").read_bytes()
    id_ = store.save(Note("y"))
    with pytest.raises(InvalidArgument, match="another store") as error:
        store.forget(id_, backups=[tmp_path / "b"])
    assert "forgotten in the store, but not in" in error.value.hint
    assert (tmp_path / "b").read_bytes() == before


@pytest.mark.crash
def test_it_is_killed_anywhere_and_does_the_rest_when_it_is_called_again(places: Places, tmp_path: Path) -> None:
    store = places.open("memory")
    live(store)
    id_ = secret_in(store, tmp_path / "b")
    store.forget(id_)
    store.backup(tmp_path / "b")
    before = (tmp_path / "b").read_bytes()
    for at in range(100):
        disk = FaultyDisk(Disk(), at, kill=True)
        try:
            forget_in_backup(store, tmp_path / "b", [id_], files=Files(disk))
        except Killed:
            assert BackupFile(tmp_path / "b").contents().torn == 0
            if SECRET.encode() in (tmp_path / "b").read_bytes():
                assert (tmp_path / "b").read_bytes() == before
                forget_in_backup(store, tmp_path / "b", [id_])
        assert SECRET.encode() not in (tmp_path / "b").read_bytes()
        if at >= len(disk.steps):
            assert at > 4
            return
        (tmp_path / "b").write_bytes(before)
    pytest.fail("it never came through")


def test_the_verb(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = places.open("sqlite")
    id_ = secret_in(store, tmp_path / "b")
    store.close()
    words = ["forget", id_, "--store", places.url("sqlite", "store"), "--backup", str(tmp_path / "b")]
    assert main([*words, "--dry-run"]) == 0
    assert f"2 versions of it in {tmp_path / 'b'}" in capsys.readouterr().out
    assert main(words) == 0
    assert f"nor has {tmp_path / 'b'}" in capsys.readouterr().out
    assert SECRET.encode() not in (tmp_path / "b").read_bytes()
