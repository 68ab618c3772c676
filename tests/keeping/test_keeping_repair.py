"""What check finds, and what repair does about it: nothing by guessing, and nothing to what is healthy."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pasts import LARGE, Note, Places, everything, live
from servers import KINDS, execute, table_of

from perdure import InvalidArgument, Store
from perdure.backends.base import number_of
from perdure.backends.memory import MemoryBackend
from perdure.records.values import Version
from perdure.upkeep import check

EVERYWHERE = ("memory", "directory", "sqlite", *KINDS)


class Harm:
    """Harms a store behind its back, whichever kind it is of."""

    def __init__(self, places: Places, kind: str, store: Store):
        self.places, self.kind, self.store = places, kind, store

    def frame(self, id_: str, revision: int, make: Any) -> None:
        """Change the frame of one version to what `make` makes of it; it goes if that is None."""
        backend, number = self.store.backend, number_of(id_)
        (frame,) = [version.frame for version in backend.history(id_) if version.revision == revision]
        is_newest = backend.history(id_)[0].revision == revision
        changed = make(frame)
        if isinstance(backend, MemoryBackend):
            before = backend._versions[number]
            backend._versions[number] = [
                each if each.revision != revision else Version(revision, changed)
                for each in before
                if each.revision != revision or changed is not None
            ]
        elif self.kind == "directory":
            internal = ".perdure/own/" if os.path.exists(self.places.folder / "store" / ".perdure/own" / id_) else ""
            name = internal + id_ if is_newest else f".perdure/old/{number}.{revision}"
            path = self.places.folder / "store" / name
            path.unlink()
            if changed is not None:
                path.write_bytes(changed)
        else:
            value = "NULL" if changed is None else f"X'{changed.hex()}'"
            value = f"'\\x{changed.hex()}'" if self.kind == "postgresql" and changed is not None else value
            table = "records" if is_newest else "superseded"
            what = f"UPDATE {table} SET frame = {value}" if changed is not None else f"DELETE FROM {table}"
            self.sql(f"{what} WHERE number = {number} AND revision = {revision}")

    def sql(self, statement: str) -> None:
        """A statement that names tables as SQLite's do."""
        if self.kind == "sqlite":
            with sqlite3.connect(self.places.folder / "store.db") as connection:
                connection.execute(statement)
            connection.close()
            return
        table = table_of(self.places.folder / "store")
        for part in ("superseded", "fields", "counter", "pieces"):
            statement = statement.replace(f" {part} ", f" {table}_{part} ")
        execute(self.kind, statement.replace(" records ", f" {table} "))


def flipped(frame: bytes) -> bytes:
    return frame[:-25] + bytes([frame[-25] ^ 0xFF]) + frame[-24:]


@pytest.fixture(params=EVERYWHERE)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def settled(places: Places, kind: str) -> Store:
    """The store that was filled, opened anew, so that all of it lies where it belongs."""
    store = places.open(kind)
    live(store)
    if kind == "memory":
        return store
    store.close()
    return places.open(kind)


def test_damaged_versions_come_back_from_a_backup(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    store.backup(tmp_path / "b")
    before = everything(store.backend)
    note = store.roots["notes"][1].persistent_id
    large = str(store.find(Note, state="large")[0].persistent_id)
    harm = Harm(places, kind, store)
    versions = {id_: [each.revision for each in store.backend.history(id_)] for id_ in (note, large)}
    damaged = flipped(store.backend.read([note])[note])
    harm.frame(note, versions[note][0], flipped)  # what is there now
    harm.frame(large, versions[large][1], flipped)  # an older version
    again = store if kind == "memory" else places.open(kind)
    found = check(again)
    assert {problem.id for problem in found} >= {note, large}
    would = again.repair(source=tmp_path / "b", folder=tmp_path / "out", dry_run=True)
    assert (would.folder, {each.id for each in would.done}) == ("", {note, large})
    assert check(again) == found
    assert not (tmp_path / "out").exists()
    done = again.repair(source=tmp_path / "b", folder=tmp_path / "out")
    assert (done.found, done.left, {each.id for each in done.done}) == (tuple(found), (), {note, large})
    assert everything(again.backend) == before
    assert (Path(done.folder) / f"{note}.{versions[note][0]}").read_bytes() == damaged
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_missing_versions_come_back_from_a_backup(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    store.backup(tmp_path / "b")
    before = everything(store.backend)
    note = store.roots["notes"][2].persistent_id
    harm = Harm(places, kind, store)
    newest, older = [each.revision for each in store.backend.history(note)]
    harm.frame(note, older, lambda frame: None)
    again = store if kind == "memory" else places.open(kind)
    assert any("2" in problem.what or problem.id == note for problem in check(again))
    done = again.repair(source=tmp_path / "b", folder=tmp_path / "out")
    assert [(each.id, each.what.split()[4]) for each in done.done] == [(note, f"{older}")]
    assert done.left == ()
    assert everything(again.backend) == before
    assert newest == again.backend.history(note)[0].revision
    assert done.folder == ""  # there was nothing to be taken out


@pytest.mark.parametrize("kind", ["directory", "sqlite"])
def test_a_large_piece_comes_back_from_a_backup(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    store.backup(tmp_path / "b")
    (note,) = store.find(Note, state="large")
    id_ = note.persistent_id
    store.close()
    if kind == "sqlite":
        Harm(places, kind, store).sql("UPDATE buffer_parts SET content = zeroblob(size)")
    else:
        for path in (tmp_path / "store" / ".perdure").rglob("*"):
            if path.is_file() and path.stat().st_size == len(LARGE):
                path.write_bytes(bytes(len(LARGE)))
    store = places.open(kind)
    assert id_ in {problem.id for problem in check(store)}
    assert store.repair().left != ()  # without a backup nobody knows what was in it
    done = store.repair(source=tmp_path / "b")
    assert done.left == ()
    assert store.load(id_).text == LARGE[::-1]
    assert store.transactions(1)[0].note == "repair"
    assert done.folder.startswith(str(tmp_path / "store"))


@pytest.mark.parametrize("kind", ["sqlite", *KINDS])
def test_indexes_and_counter_are_made_right_by_what_the_records_tell(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    before = everything(store.backend)
    store.close()
    harm = Harm(places, kind, store)
    if kind == "sqlite":
        harm.sql("DELETE FROM indexed WHERE number < 4")
        harm.sql("UPDATE indexed SET key = X'00' WHERE number = 5")
        harm.sql("UPDATE meta SET value = 3 WHERE name = 'next_number'")
        harm.sql("UPDATE records SET class = (SELECT max(class) + 1 FROM records) WHERE number = 4")
    else:
        harm.sql("DELETE FROM fields WHERE number < 4")
        harm.sql("UPDATE counter SET next_number = 3")
    store = places.open(kind)
    assert len(check(store)) >= 3
    would = store.repair(dry_run=True)
    assert len(would.done) == 2
    assert store.repair().left == ()
    assert everything(store.backend)["indexes"] == before["indexes"]
    assert everything(store.backend)["histories"] == before["histories"]
    assert [note.text for note in store.find(Note, state="large")] == [LARGE[::-1]]
    assert store.count(Note, state="old") == 3
    assert store.save(Note("new")).number > max(number for each in before["commits"] for number in each.numbers)


def test_what_has_no_good_copy_stays_and_is_told(kind: str, places: Places, tmp_path: Path) -> None:
    places.damaged = True
    store = settled(places, kind)
    note = store.roots["notes"][1].persistent_id
    before = everything(store.backend)
    Harm(places, kind, store).frame(note, store.backend.history(note)[0].revision, flipped)
    again = store if kind == "memory" else places.open(kind)
    done = again.repair(folder=tmp_path / "out")
    assert note in {problem.id for problem in done.left}
    assert done.done == ()
    assert not (tmp_path / "out").exists()
    healthy = [id_ for id_ in before["ids"] if id_ != note]
    assert {id_: again.backend.history(id_) for id_ in healthy} == {id_: before["histories"][id_] for id_ in healthy}


@pytest.mark.parametrize("place", [3, 4, 12, 14, 30, -30, -18, -3])  # in the head, the id, the payload and the tail
def test_whatever_byte_of_a_record_is_changed_repair_tells_and_leaves_it(kind: str, place: int, places: Places) -> None:
    places.damaged = True
    store = settled(places, kind)
    note = store.roots["notes"][1].persistent_id
    before = everything(store.backend)

    def change(frame: bytes) -> bytes:
        place_ = place % len(frame)
        return frame[:place_] + bytes([frame[place_] ^ 0x41]) + frame[place_ + 1 :]

    Harm(places, kind, store).frame(note, store.backend.history(note)[0].revision, change)
    again = store if kind == "memory" else places.open(kind)
    for _ in range(2):
        done = again.repair()
        assert done.done == ()
        assert done.left != ()  # of that id, unless a backend knows the id from the record alone
    healthy = [id_ for id_ in before["ids"] if id_ != note]
    assert {id_: again.backend.history(id_) for id_ in healthy} == {id_: before["histories"][id_] for id_ in healthy}


def test_a_healthy_store_is_not_touched(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    store.backup(tmp_path / "b")
    store.pack(keep=2)
    before = everything(store.backend)
    done = store.repair(source=tmp_path / "b", folder=tmp_path / "out")
    assert done == ((), (), (), "")
    assert everything(store.backend) == before


@pytest.mark.parametrize("kind", ["directory", "sqlite"])
def test_what_was_forgotten_since_its_backup_does_not_come_back(kind: str, places: Places, tmp_path: Path) -> None:
    store = settled(places, kind)
    secret = store.save(Note("a secret"))
    store.backup(tmp_path / "b")
    store.forget(secret)
    before = everything(store.backend)
    done = store.repair(source=tmp_path / "b", folder=tmp_path / "out")
    assert (done.done, done.left) == ((), ())
    assert everything(store.backend) == before
    assert not (tmp_path / "out").exists()


def test_the_backup_of_another_store_mends_nothing(places: Places, tmp_path: Path) -> None:
    store, other = places.open("sqlite"), places.open("directory", "other", key=None)
    live(store)
    live(other)
    other.backup(tmp_path / "b")
    with pytest.raises(InvalidArgument, match="another key"):
        store.repair(source=tmp_path / "b")
    same = places.open("sqlite", "same", key=store.key)
    live(same)
    same.backup(tmp_path / "c")
    with pytest.raises(InvalidArgument, match="another commit"):
        store.repair(source=tmp_path / "c")


def test_a_packed_store_is_mended_from_a_backup_that_has_more(places: Places, tmp_path: Path) -> None:
    store = settled(places, "sqlite")
    store.backup(tmp_path / "b")
    store.pack(keep=1)
    before = everything(store.backend)
    note = store.roots["notes"][2].persistent_id
    Harm(places, "sqlite", store).frame(note, store.backend.history(note)[0].revision, flipped)
    store = places.open("sqlite")
    done = store.repair(source=tmp_path / "b")
    assert [each.id for each in done.done] == [note]
    assert everything(store.backend) == before
