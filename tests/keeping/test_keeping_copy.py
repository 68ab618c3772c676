"""A store is copied between any two kinds of backends, with its history, and goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pasts import Note, Places, everything, live

from perdure import CorruptRecord, InvalidArgument, Key, NotEmpty, StorageError, StoreNotFound, copy_store, make_store
from perdure.keys import KeyRing
from perdure.upkeep import check, restoring

PAIRS = [
    ("directory", "sqlite"), ("sqlite", "directory"), ("sqlite", "postgresql"), ("postgresql", "mysql"),
    ("mysql", "directory"), ("directory", "postgresql"), ("sqlite", "mysql"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_is_the_same_store(source: str, target: str, packed: bool, places: Places) -> None:
    store = places.open(source)
    live(store)
    if packed:
        store.pack(keep=3)
        live(store)
    seen: list[tuple[int, int]] = []
    urls = places.url(source, "store"), places.url(target, "copy")
    done = copy_store(*urls, progress=lambda done, of: seen.append((done, of)))
    assert done.revision == store.revision()
    assert done.sealed is True
    assert seen[-1][0] == done.records <= seen[-1][1]
    other = places.open(target, "copy")
    is_indexed = "directory" not in (source, target)
    assert everything(other.backend, with_indexes=is_indexed) == everything(store.backend, with_indexes=is_indexed)
    assert check(other) == []
    assert len(other.find(Note, state="large")) == (2 if packed else 1)


def test_a_later_copy_brings_what_came_since(places: Places) -> None:
    store = places.open("directory")
    live(store)
    urls = places.url("directory", "store"), places.url("sqlite", "copy")
    first = copy_store(*urls)
    live(store)
    second = copy_store(*urls)
    assert second.written == second.revision - first.revision
    assert copy_store(*urls).written == 0
    assert everything(places.open("sqlite", "copy").backend, with_indexes=False) == everything(
        store.backend, with_indexes=False
    )


@pytest.mark.parametrize("kind", ["directory", "sqlite"])
def test_a_later_copy_forgets_what_was_forgotten_since(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open("sqlite")
    live(store)
    secret = store.save(Note(b"a secret " * 10_000, "secret"))
    urls = places.url("sqlite", "store"), places.url(kind, "copy")
    copy_store(*urls)
    store.forget(secret)
    store.save(Note("later"))
    done = copy_store(*urls)
    assert (done.revision, done.written) == (store.revision(), 2)
    copy = places.open(kind, "copy")
    is_indexed = kind != "directory"
    assert everything(copy.backend, with_indexes=is_indexed) == everything(store.backend, with_indexes=is_indexed)
    copy.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "copy" in str(path)]
    assert files
    assert not [path for path in files if b"a secret a secret" in path.read_bytes()]
    assert copy_store(*urls).written == 0


def test_a_target_that_went_its_own_way_is_refused_and_stays(places: Places) -> None:
    store = places.open("sqlite")
    live(store)
    urls = places.url("sqlite", "store"), places.url("directory", "copy")
    copy_store(*urls)
    other = places.open("directory", "copy")
    other.save(Note("of its own"))
    before = everything(other.backend)
    for _ in range(2):  # it is ahead; and then as far, but another
        with pytest.raises(NotEmpty):
            copy_store(*urls)
        store.save(Note("another"))
    assert everything(other.backend) == before


def test_what_is_not_two_stores_is_refused(places: Places) -> None:
    url = places.url("sqlite", "store")
    places.open("sqlite").save(1)
    with pytest.raises(InvalidArgument, match="same store"):
        copy_store(url, url)
    with pytest.raises(StoreNotFound):
        copy_store(places.url("sqlite", "nothing"), places.url("sqlite", "copy"))
    assert not (places.folder / "copy.db").exists()


def test_without_the_key_it_is_copied_all_the_same(places: Places) -> None:
    store = places.open("sqlite", key=Key.new())
    live(store)
    done = copy_store(places.url("sqlite", "store"), places.url("directory", "copy"))
    assert done.sealed is None
    assert KeyRing().names() == []
    other = places.open("directory", "copy", key=store.key)
    assert check(other) == []


def test_what_is_read_again_must_be_what_was_written(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    store = places.open("sqlite")
    live(store)
    monkeypatch.setattr(restoring, "told", lambda backend, until: b"something else")
    with pytest.raises(CorruptRecord, match="read again"):
        copy_store(places.url("sqlite", "store"), places.url("directory", "copy"))


def test_a_backend_of_somebody_elses_takes_a_whole_history(places: Places, tmp_path: Path) -> None:
    """Without knowing of copies at all: each revision is a commit like any other."""
    from perdure import store_on
    from perdure.backends.base import Backend
    from perdure.backends.memory import MemoryBackend
    from perdure.upkeep.past import Filling, revisions_of, told
    from perdure.upkeep.restoring import _steps

    class Simple(MemoryBackend):
        replay_part = Backend.replay_part
        begin = Backend.begin
        removals = Backend.removals

    store = places.open("sqlite")
    store.save_many([Note(number) for number in range(10)])
    id_ = store.save(Note("gone"))
    store.remove(id_)
    other = store_on(lambda new_key: Simple(new_key=new_key), key=store.key)
    filling = Filling(other.backend, {})
    other.backend.begin(0, store.backend.describe().key)
    for past, pieces in _steps(store.backend, store.revision()):
        filling.add(past, pieces)
    assert told(other.backend, store.revision()) == told(store.backend, store.revision())
    assert check(other) == []
    store.pack(keep=1)
    with pytest.raises(StorageError, match="only a part"):
        store_on(lambda new_key: Simple(new_key=new_key)).backend.begin(3, 0)
    (past, *_) = revisions_of(store.backend, 0, store.revision())
    with pytest.raises(StorageError, match="only a part"):
        Filling(other.backend, {}).backend.replay_part(past, None)  # type: ignore[arg-type]


def test_others_go_on_while_it_is_copied(places: Places) -> None:
    store = places.open("sqlite")
    live(store)
    at = store.revision()

    def commit(done: int, of: int) -> None:
        if done < 15:
            store.save(Note("meanwhile"))

    done = copy_store(places.url("sqlite", "store"), places.url("directory", "copy"), progress=commit)
    assert done.revision == at < store.revision()
    with make_store(places.url("directory", "copy")) as other:
        assert other.revision() == at
        assert other.save(Note("later")).number >= store.backend.describe().next_number
        assert check(other) == []
