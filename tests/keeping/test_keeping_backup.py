"""A backup of a store in use, of any kind, becomes the same store anywhere, with its history."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pasts import LARGE, Note, Places, everything, live
from servers import KINDS

from perdure import (
    CorruptBackup,
    CorruptRecord,
    InvalidArgument,
    Key,
    NewerFormat,
    NotEmpty,
    NotFound,
    PerdureError,
    Store,
    UntrustedRecord,
    make_store,
    restore,
)
from perdure.keys import KeyRing
from perdure.upkeep import check
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.restoring import Origin, fill

EVERYWHERE = ("memory", "directory", "sqlite", *KINDS)


def origin_in(path: Path) -> Origin:
    file = BackupFile(path)
    told = file.contents()
    return Origin(
        told.key, told.oldest, told.revision, told.next_number, told.indexes, 0, lambda: file.steps(told.end)
    )  # fmt: skip


def restored(path: Path, places: Places, kind: str, of: Store, name: str = "again") -> Any:
    """The store that becomes of a backup; in memory it is filled by hand, since it would end with `restore`."""
    if kind == "memory":
        store = places.open(kind, name)
        fill(store.backend, origin_in(path), of.key)
        return Store(store.backend, of.key)
    restore(path, places.url(kind, name), key=of.key)
    return places.open(kind, name, key=of.key)


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_the_whole_store_comes_back(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open(kind)
    live(store)
    done = store.backup(tmp_path / "b")
    assert (done.since, done.revision, done.anew) == (0, store.revision(), False)
    assert done.size == done.bytes == (tmp_path / "b").stat().st_size
    again = restored(tmp_path / "b", places, kind, store)
    assert everything(again.backend) == everything(store.backend)
    assert check(again) == []
    assert [note.text for note in again.roots["notes"]] == [note.text for note in store.roots["notes"]]
    assert [note.text for note in again.find(Note, state="large")] == [LARGE[::-1]]
    assert again.save(Note("later")).number >= store.backend.describe().next_number


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_packed_store_comes_back_with_what_it_kept(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open(kind)
    live(store)
    store.pack(keep=1)
    store.save(store.load(store.roots["notes"][0].persistent_id))
    live(store)
    store.pack(keep=6)
    store.backup(tmp_path / "b")
    again = restored(tmp_path / "b", places, kind, store)
    assert everything(again.backend) == everything(store.backend)
    assert check(again) == []
    live(again)
    assert check(again) == []


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_store_without_history_comes_back(kind: str, places: Places, tmp_path: Path) -> None:
    time = [1000.0]

    class Clock:
        def now(self) -> float:
            time[0] += 25
            return time[0]

    store = places.open(kind, history="off", clock=Clock())
    live(store)
    assert store.backend.describe().oldest > 5
    store.backup(tmp_path / "b")
    again = restored(tmp_path / "b", places, kind, store)
    assert everything(again.backend) == everything(store.backend)
    assert check(again) == []


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_the_second_time_only_what_came_since_is_written(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open(kind)
    live(store)
    first = store.backup(tmp_path / "b")
    before = (tmp_path / "b").read_bytes()
    assert store.backup(tmp_path / "b") == first._replace(
        since=first.revision, records=0, pieces=0, bytes=0, size=len(before)
    )
    kept = store.roots["notes"][5]
    kept.text = "newer"
    store.save(kept)
    second = store.backup(tmp_path / "b")
    assert (second.since, second.revision, second.records) == (first.revision, first.revision + 1, 1)
    assert second.bytes < 3000
    assert (tmp_path / "b").read_bytes()[: len(before)] == before
    again = restored(tmp_path / "b", places, kind, store)
    assert everything(again.backend) == everything(store.backend)


def test_frames_are_copied_as_they_are_and_the_key_is_not_in_the_file(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    store.backup(tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    for id_ in store.list(all=True):
        for version in store.backend.history(id_):
            assert version.frame is None or version.frame in data
    assert store.key is not None
    assert store.key.secret not in data
    assert store.key.secret.hex().encode() not in data
    assert store.key.name.encode() not in data  # its id is there as a number
    assert BackupFile(tmp_path / "b").contents().key == store.key.id


@pytest.mark.parametrize("kind", ["directory", "sqlite", *KINDS])
def test_others_go_on_while_it_is_backed_up(kind: str, places: Places, tmp_path: Path) -> None:
    """Two objects that are always changed together are never seen apart."""
    store = places.open(kind)
    pair = [Note(0), Note(0)]
    store.save_many(pair)
    stop, errors = threading.Event(), []

    def change() -> None:
        with make_store(places.url(kind, "store"), key=store.key) as other:
            one, two = other.load_many([note.persistent_id for note in pair])
            while not stop.is_set():
                try:
                    with other.transaction():
                        one.text += 1
                        two.text += 1
                except PerdureError as error:
                    errors.append(error)
                    return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(5):
            store.backup(tmp_path / "b")
    finally:
        stop.set()
        thread.join()
    assert errors == []
    again = restored(tmp_path / "b", places, kind, store)
    one, two = again.load_many([note.persistent_id for note in pair])
    assert one.text == two.text
    assert check(again) == []
    assert [each.revision for each in again.transactions()] == [
        each.revision for each in store.transactions() if each.revision <= again.revision()
    ]


def test_a_backup_is_begun_anew_when_the_store_was_packed_beyond_it(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    store.backup(tmp_path / "b")
    live(store)
    store.pack(keep=1)
    done = store.backup(tmp_path / "b")
    assert (done.anew, done.since) == (True, 0)
    again = restored(tmp_path / "b", places, "directory", store)
    assert everything(again.backend, with_indexes=False) == everything(store.backend, with_indexes=False)
    assert not (tmp_path / "b.new").exists()


def test_a_backup_keeps_what_the_store_has_packed_since(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    before = [commit.revision for commit in store.transactions()]
    store.backup(tmp_path / "b")
    store.pack(keep=1)
    store.save(Note("later"))
    assert not store.backup(tmp_path / "b").anew
    again = restored(tmp_path / "b", places, "sqlite", store)
    assert [commit.revision for commit in again.transactions()][1:] == before
    assert check(again) == []


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_store_that_is_not_empty_is_refused(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    store.backup(tmp_path / "b")
    other = places.open(kind, "other", **({} if kind == "memory" else {"key": store.key}))
    id_ = other.save(Note("of its own"))
    before = everything(other.backend)
    with pytest.raises(NotEmpty, match="not empty"):
        fill(other.backend, origin_in(tmp_path / "b"), store.key)
    assert everything(other.backend) == before
    assert other.load(id_).text == "of its own"


@pytest.mark.parametrize("kind", ["directory", "sqlite", *KINDS])
def test_an_empty_store_with_another_key_is_filled(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    store.backup(tmp_path / "b")
    with places.open(kind, "again"):
        pass
    again = restored(tmp_path / "b", places, kind, store)
    assert again.key == store.key
    assert check(again) == []


def test_without_the_key_it_is_restored_and_can_be_read_but_not_written(places: Places, tmp_path: Path) -> None:
    key = Key.new()
    store = places.open("sqlite", key=key)
    store.save({"plain": 1})
    store.backup(tmp_path / "b")
    done = restore(tmp_path / "b", places.url("directory", "again"))
    assert done.sealed is None
    assert KeyRing().names() == []
    with make_store(places.url("directory", "again")) as again:
        assert again.key is None
        with pytest.raises(Exception, match="perdure key import"):
            again.save(1)
    done = restore(tmp_path / "b", places.url("directory", "more"), key=key)
    assert done.sealed is True
    with pytest.raises(CorruptBackup, match="was given"):
        restore(tmp_path / "b", places.url("directory", "third"), key=Key.new())


def test_what_was_sealed_by_nobody_is_refused(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    store.save(Note("one"))
    store.backup(tmp_path / "b")
    told = origin_in(tmp_path / "b")
    forged = Key.new()
    with pytest.raises(UntrustedRecord, match=r"Note\.\d+ of revision 1"):
        fill(places.empty("sqlite", "again", store), told, forged)
    with pytest.raises(UntrustedRecord, match="perdure check"):
        Store(store.backend, forged).backup(tmp_path / "c")
    assert not list(tmp_path.glob("c*"))


def test_a_damaged_record_is_told_and_nothing_is_written(places: Places, tmp_path: Path) -> None:
    places.damaged = True
    store = places.open("directory")
    id_ = store.save(Note("one"))
    store.backup(tmp_path / "b")
    before = (tmp_path / "b").read_bytes()
    other = store.save(Note("two"))
    store.close()
    file = tmp_path / "store" / str(other)
    file.write_bytes(file.read_bytes()[:-30] + b"x" * 30)
    store = places.open("directory")
    with pytest.raises(CorruptRecord) as error:
        store.backup(tmp_path / "b")
    assert other in str(error.value)
    assert (tmp_path / "b").read_bytes() == before
    assert store.load(id_).text == "one"


def test_the_wrong_file_is_refused_and_stays_as_it_is(places: Places, tmp_path: Path) -> None:
    store, other = places.open("sqlite"), places.open("sqlite", "other")
    store.save(Note("one"))
    other.save(Note("two"))
    (tmp_path / "text").write_text("this is a letter\n")
    (tmp_path / "empty").write_text("")
    (tmp_path / "newer").write_bytes(b"perdure backup 2\nwho knows")
    for name in ("text", "empty"):
        with pytest.raises(CorruptBackup, match="no backup"):
            store.backup(tmp_path / name)
    with pytest.raises(NewerFormat):
        restore(tmp_path / "newer", places.url("sqlite", "again"))
    with pytest.raises(NotFound):
        restore(tmp_path / "nothing", places.url("sqlite", "again"))
    store.backup(tmp_path / "b")
    with pytest.raises(InvalidArgument, match="another store"):
        other.backup(tmp_path / "b")
    assert (tmp_path / "text").read_text() == "this is a letter\n"
    assert not (tmp_path / "again.db").exists()


def test_a_store_that_went_back_does_not_go_on_with_the_backup(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    store.save(Note("one"))
    store.close()
    old = (tmp_path / "store.db").read_bytes()
    store = places.open("sqlite")
    store.save(Note("two"))
    store.backup(tmp_path / "b")
    store.close()
    (tmp_path / "store.db").write_bytes(old)
    store = places.open("sqlite")
    with pytest.raises(InvalidArgument, match="revision 2"):
        store.backup(tmp_path / "b")
    store.save(Note("other"))
    with pytest.raises(InvalidArgument, match="another commit"):
        store.backup(tmp_path / "b")


def test_a_store_that_is_only_read_can_be_backed_up(places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    reading = places.open("sqlite", read_only=True)
    seen: list[tuple[int, int]] = []
    reading.backup(tmp_path / "b", progress=lambda done, of: seen.append((done, of)))
    assert seen
    assert seen[-1][0] <= seen[-1][1]
