"""What a backup is worth when its file was changed or cut, its disk was full, or its process was killed."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pasts import Note, Places, everything, live
from servers import KINDS

from perdure import CorruptBackup, DiskFull, Key, OutcomeUnknown, PerdureError, StorageError, Store, make_store, restore
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.memory import MemoryBackend
from perdure.files import Disk, Files
from perdure.testing.faults import FaultyDisk, Killed
from perdure.upkeep import check
from perdure.upkeep.backing_up import backup
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.restoring import Origin, fill


def taken_in(path: Path, key: Key) -> MemoryBackend:
    """What `restore` makes of the file, without a disk."""
    file = BackupFile(path)
    told = file.contents()
    if told.torn:
        raise CorruptBackup("torn")
    backend = MemoryBackend()
    steps = lambda: file.steps(told.end)  # noqa: E731
    fill(backend, Origin(told.key, told.oldest, told.revision, told.next_number, told.indexes, 0, steps), key)
    return backend


@pytest.fixture
def small(tmp_path: Path) -> Store:
    """A store in memory, and a small backup of it of two increments."""
    store = make_store("memory:", code="off")
    note = Note("x")
    store.save(note)
    store.backup(tmp_path / "b")
    note.text = "y"
    store.save(note)
    store.backup(tmp_path / "b")
    return store


def test_each_byte_that_is_changed_is_found_or_does_no_harm(small: Store, tmp_path: Path) -> None:
    assert small.key is not None
    data = (tmp_path / "b").read_bytes()
    assert everything(taken_in(tmp_path / "b", small.key)) == everything(small.backend)
    found = 0
    for place in range(len(data)):
        for mask in (0xFF, 0x01):
            (tmp_path / "c").write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            try:
                again = taken_in(tmp_path / "c", small.key)
            except PerdureError:
                found += 1
            else:
                assert everything(again) == everything(small.backend), place
    assert found == 2 * len(data)  # in fact there is no byte that does no harm


def test_a_file_that_was_cut_is_never_taken_for_whole(small: Store, tmp_path: Path) -> None:
    assert small.key is not None
    data = (tmp_path / "b").read_bytes()
    (first, second) = BackupFile(tmp_path / "b").contents().increments
    for length in range(len(data)):
        (tmp_path / "c").write_bytes(data[:length])
        if length == first.end:
            assert taken_in(tmp_path / "c", small.key).revision() == first.revision
            continue
        with pytest.raises(CorruptBackup):
            taken_in(tmp_path / "c", small.key)
    assert second.end == len(data)


def test_what_is_whole_of_a_cut_backup_is_restored_when_that_is_asked_for(small: Store, tmp_path: Path) -> None:
    data = (tmp_path / "b").read_bytes()
    first = BackupFile(tmp_path / "b").contents().increments[0]
    (tmp_path / "b").write_bytes(data[:-10])
    with pytest.raises(CorruptBackup, match="not whole") as error:
        restore(tmp_path / "b", tmp_path / "again", key=small.key)
    assert "revision 1" in str(error.value)
    done = restore(tmp_path / "b", tmp_path / "again", key=small.key, whole_only=True)
    assert (done.revision, done.torn > 100) == (1, True)
    cut = small.backup(tmp_path / "b")  # the store goes on with it, too
    assert (cut.cut, cut.since, cut.revision) == (done.torn, 1, 2)
    assert (tmp_path / "b").read_bytes().startswith(data[: first.end])
    assert taken_in(tmp_path / "b", small.key).revision() == 2  # type: ignore[arg-type]


def test_damage_is_not_taken_for_an_increment_that_was_cut_off(small: Store, tmp_path: Path) -> None:
    data = (tmp_path / "b").read_bytes()
    end = BackupFile(tmp_path / "b").contents().increments[0].end
    changed = data[: end + 40] + b"?" + data[end + 41 :]
    (tmp_path / "b").write_bytes(changed)
    with pytest.raises(CorruptBackup, match="changed since"):
        small.backup(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == changed


def test_an_end_of_which_a_power_cut_left_half_is_taken_away(small: Store, tmp_path: Path) -> None:
    data = (tmp_path / "b").read_bytes()
    first = BackupFile(tmp_path / "b").contents().increments[0]
    for hole in (1, 16, 40):  # in the digest of the end, and in what it tells
        (tmp_path / "b").write_bytes(data[:-hole] + bytes(hole))
        with pytest.raises(CorruptBackup, match="not whole"):
            restore(tmp_path / "b", tmp_path / "again", key=small.key)
        done = small.backup(tmp_path / "b")
        assert (done.since, done.revision, done.cut) == (1, 2, len(data) - first.end)


def faults() -> list[tuple[str, Callable[[int], FaultyDisk]]]:
    return [
        ("killed", lambda at: FaultyDisk(Disk(), at, kill=True)),
        ("killed in half a write", lambda at: FaultyDisk(Disk(), at, kill=True, short=True)),
        ("full", lambda at: FaultyDisk(Disk(), at, error=errno.ENOSPC)),
        ("full after half a write", lambda at: FaultyDisk(Disk(), at, error=errno.ENOSPC, short=True)),
        ("broken", lambda at: FaultyDisk(Disk(), at, error=errno.EIO)),
    ]


@pytest.mark.crash
@pytest.mark.parametrize(("what", "disk"), faults())
@pytest.mark.parametrize("second", [False, True])
def test_whatever_happens_while_it_is_written_the_file_is_whole(
    what: str, disk: Callable[[int], FaultyDisk], second: bool, tmp_path: Path
) -> None:
    store = make_store("memory:")
    live(store)
    path = tmp_path / "b"
    before = b""
    if second:
        store.backup(path)
        before = path.read_bytes()
        live(store)
    met: set[type[StorageError]] = set()
    for at in range(1000):
        faulty = disk(at)
        try:
            backup(store, path, files=Files(faulty))
        except Killed:
            pass
        except StorageError as error:
            met.add(type(error))
        if at >= len(faulty.steps):
            assert at >= 4
            assert met <= {DiskFull, OutcomeUnknown, StorageError}
            assert met or what.startswith("killed")
            break
        if path.exists() and path.read_bytes() != before:
            # It is there: then it counts only as far as it is whole, and the next backup goes on.
            told = BackupFile(path).contents()
            assert told.revision in ((told.increments[0].revision, store.revision()) if second else (store.revision(),))
            assert path.read_bytes().startswith(before)
        store.backup(path)
        assert everything(taken_in(path, store.key)) == everything(store.backend)  # type: ignore[arg-type]
        path.unlink()
        if second:
            path.write_bytes(before)
    else:
        pytest.fail("it never came through")


WORKER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pasts import Note
from perdure import copy_store, make_store, restore
verb, source, target, after = sys.argv[2:]

def progress(done, of):
    print(done, flush=True)
    if 0 <= int(after) <= done:
        os.kill(os.getpid(), 9)

if verb == "backup":
    make_store(source).backup(target, progress=progress)
else:
    {"restore": restore, "copy": copy_store}[verb](source, target, progress=progress)
"""


def worker(verb: str, source: object, target: object, after: int = -1) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, str(Path(__file__).parent), verb, str(source), str(target), str(after)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def grown(places: Places, kind: str) -> Store:
    store = places.open(kind)
    live(store)
    for number in range(15):
        store.save_many([Note(f"{number}.{each}") for each in range(10)])
    live(store)
    return store


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["directory", "sqlite"])
def test_a_backup_that_is_killed_leaves_what_was_there(kind: str, places: Places, tmp_path: Path) -> None:
    store = grown(places, kind)
    url, path = places.url(kind, "store"), tmp_path / "b"
    for after in (1, 150):
        process = worker("backup", url, path, after)
        process.communicate(timeout=60)
        assert process.returncode == -9
        assert not path.exists()
    store.backup(path)
    before = path.read_bytes()
    grown(places, kind)
    for after in (1, 150):
        process = worker("backup", url, path, after)
        process.communicate(timeout=60)
        assert process.returncode == -9
        assert path.read_bytes()[: len(before)] == before
        assert BackupFile(path).contents().end == len(before)
    store.backup(path)
    restore(path, places.url(kind, "again"))
    assert everything(places.open(kind, "again").backend) == everything(store.backend)


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["directory", "sqlite", *KINDS])
@pytest.mark.parametrize("verb", ["restore", "copy"])
def test_a_restore_or_a_copy_that_is_killed_is_gone_on_with(
    verb: str, kind: str, places: Places, tmp_path: Path
) -> None:
    store = grown(places, "sqlite")
    store.pack(keep=20)
    store.backup(tmp_path / "b")
    source = tmp_path / "b" if verb == "restore" else places.url("sqlite", "store")
    target = places.url(kind, "again")
    for after in (1, 150):
        process = worker(verb, source, target, after)
        process.communicate(timeout=60)
        assert process.returncode == -9
    for delay in (0.02,):  # at any moment after it has begun
        process = worker(verb, source, target)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=60)
    process = worker(verb, source, target)
    process.communicate(timeout=60)
    assert process.returncode == 0
    again = places.open(kind, "again")
    is_indexed = kind != "directory"
    assert everything(again.backend, with_indexes=is_indexed) == everything(store.backend, with_indexes=is_indexed)
    assert check(again) == []


@pytest.mark.crash
@pytest.mark.parametrize(("what", "disk"), faults())
def test_a_directory_that_is_filled_on_a_bad_disk_is_gone_on_with(
    what: str, disk: Callable[[int], FaultyDisk], tmp_path: Path
) -> None:
    store = make_store("memory:", code="off")
    live(store)
    store.pack(keep=4)
    live(store)
    store.backup(tmp_path / "b")
    file = BackupFile(tmp_path / "b")
    told = file.contents()
    origin = Origin(
        told.key, told.oldest, told.revision, told.next_number, told.indexes, 0, lambda: file.steps(told.end)
    )  # fmt: skip
    for at in range(3, 10_000, 23):
        place, faulty = tmp_path / f"store{at}", disk(at)
        with contextlib.suppress(Killed, StorageError):
            fill(FilesystemBackend(place, new_key=lambda: told.key, files=Files(faulty)), origin, store.key)
        again = FilesystemBackend(place, new_key=lambda: told.key)
        fill(again, origin, store.key)
        assert everything(again) == everything(store.backend), (what, at)
        again.close()
        if at >= len(faulty.steps):
            assert at > 100
            return
    pytest.fail("it never came through")
