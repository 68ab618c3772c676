"""Files: what is durable, what an error is called, and how a lock is waited for."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from perdure.errors import AccessDenied, DiskFull, OutcomeUnknown, StorageError, StoreBusy
from perdure.files import DIRECTORY, FILE, LINK, Disk, Files
from perdure.testing.crashes import Image, SimulatedDisk
from perdure.testing.faults import FaultyDisk, Killed


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "file")


def test_what_is_written_is_read(path: str):
    files = Files()
    files.write_new(path, b"abcdef")
    files.write_at(path, 3, b"DEFGH")
    assert files.read(path) == b"abcDEFGH"
    assert files.read(path, 2, 3) == b"cDE"
    assert files.size(path) == 8
    files.truncate(path, 2)
    assert files.read(path) == b"ab"
    files.write_new(path, b"x")
    assert files.read(path) == b"x"
    assert files.sync(path)


def test_what_is_not_there_is_none(path: str):
    files = Files()
    assert files.read(path) is None
    assert files.size(path) is None
    assert files.kind(path) is None
    assert files.kind(f"{__file__}/below") is None
    assert not files.sync(path)
    assert not files.link(path, f"{path}.2")
    files.unlink(path)


def test_kinds_and_links(tmp_path: Path, path: str):
    files = Files()
    files.write_new(path, b"x")
    os.symlink(path, f"{path}.link")
    assert [files.kind(each) for each in (path, f"{path}.link", str(tmp_path))] == [FILE, LINK, DIRECTORY]
    for refused in (lambda: files.read(f"{path}.link"), lambda: files.write_new(f"{path}.link", b"y")):
        with pytest.raises(AccessDenied, match="symbolic link"):
            refused()
    assert files.read(path) == b"x"
    assert files.link(path, f"{path}.2")
    assert files.link(path, f"{path}.2"), "a second time is fine"
    assert os.path.samefile(path, f"{path}.2")


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EACCES, AccessDenied),
        (errno.EROFS, AccessDenied),
        (errno.EIO, StorageError),
    ],
)
def test_an_error_has_a_name_a_path_and_advice(path: str, number: int, error: type[StorageError]):
    files = Files(FaultyDisk(Disk(), 0, error=number))
    with pytest.raises(error) as caught:
        files.write_new(path, b"x")
    assert type(caught.value) is error
    assert caught.value.path == path
    assert path in str(caught.value)
    assert caught.value.hint


def test_an_error_of_fsync_leaves_the_outcome_unknown(path: str):
    files = Files(FaultyDisk(Disk(), 1, error=errno.EIO))
    files.write_new(path, b"x")
    with pytest.raises(OutcomeUnknown):
        files.sync(path)


def test_short_writes_are_carried_on(path: str):
    class Short(Disk):
        def write(self, path, offset, data, *, create=False, mode=0o666):
            return super().write(path, offset, data[:7], create=create, mode=mode)

    files = Files(Short())
    data = bytes(range(100))
    files.write_new(path, data)
    files.write_at(path, 100, data)
    assert files.read(path) == data * 2


def test_replacing_is_all_or_nothing_wherever_the_power_is_cut():
    old = Image(frozenset({"/", "/d"}), (("/d/f", b"old" * 9),))
    allowed = {b"old" * 9, b"new" * 9}
    seen: set[bytes] = set()
    disk = SimulatedDisk(old)

    def cut() -> None:
        for image in disk.images(random.Random(1), 60):
            seen.add(dict(image.files)["/d/f"])

    disk.after = cut
    Files(disk).replace_durably("/d/f", b"new" * 9)
    assert seen == allowed
    durable = next(disk.images(random.Random(1), 4))
    assert dict(durable.files) == {"/d/f": b"new" * 9}


def test_replacing_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, path: str):
    Files().write_new(path, b"old")
    for at in range(3):
        with pytest.raises(StorageError):
            Files(FaultyDisk(Disk(), at)).replace_durably(path, b"new")
        assert Files().read(path) == b"old"
        assert os.listdir(tmp_path) == ["file"]


def test_directories_are_made_with_all_above_them(tmp_path: Path):
    path = str(tmp_path / "a" / "b" / "c")
    disk = FaultyDisk(Disk())
    Files(disk).make_directories(path, mode=0o700)
    assert [step.split()[0] for step in disk.steps] == ["make_directory", "sync_directory"] * 3
    assert os.stat(path).st_mode & 0o777 == 0o700
    Files(disk).make_directories(path)
    assert len(disk.steps) == 6


def test_many_files_are_made_durable_by_one_call_or_one_by_one(tmp_path: Path):
    paths = [str(tmp_path / f"{number}") for number in range(9)]
    for path in paths:
        Files().write_new(path, b"x")

    class Old(Disk):
        def sync_all(self, path: str) -> bool:
            return False

    for disk, few, syncs in ((Old(), 3, 10), (Disk(), 10, 9)):
        faulty = FaultyDisk(disk)
        Files(faulty).sync_many([*paths, str(tmp_path / "gone")][: 9 + (few == 3)], directory=str(tmp_path), few=few)
        assert len([step for step in faulty.steps if step.startswith("sync ")]) == syncs
    with pytest.raises(OutcomeUnknown):
        Files(FaultyDisk(Disk(), 0)).sync_many(paths, directory=str(tmp_path), few=3)
    assert Disk().sync_all(str(tmp_path)) in (True, False)


def test_readers_share_a_lock_and_a_writer_waits(path: str):
    files = Files()
    with files.lock(path, exclusive=True, create=True):
        pass
    with (
        files.lock(path, exclusive=False),
        files.lock(path, exclusive=False),
        pytest.raises(StoreBusy, match="seconds"),
    ):
        files.lock(path, timeout=0.05).__enter__()
    entered = []

    def write() -> None:
        with files.lock(path, timeout=5):
            entered.append(True)

    with files.lock(path, exclusive=False):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.05)
        assert not entered
    thread.join()
    assert entered


def test_waiting_does_not_touch_the_random_numbers_of_the_program(path: str):
    files = Files()
    random.seed(5)
    state = random.getstate()
    with files.lock(path, create=True), pytest.raises(StoreBusy):
        files.lock(path, timeout=0.01).__enter__()
    assert random.getstate() == state


def test_a_killed_disk_does_nothing_more(path: str):
    files = Files(FaultyDisk(Disk(), 1, kill=True))
    files.write_new(path, b"x")
    for _ in range(2):
        with pytest.raises(Killed):
            files.unlink(path)
    assert Files().read(path) == b"x"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_another_thread_closes_a_lock_leaves_the_child_none(path: str):
    """A file object gives its number up before the system closes the file: in between the child would inherit it."""
    token = Files().lock(path, create=True)
    descriptor = token.fileno()
    kept = os.dup(descriptor)
    token.close()
    os.dup2(kept, descriptor)  # as it is at that moment: nobody has the number, and the file is open and locked
    os.close(kept)
    child = os.fork()
    if not child:
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(descriptor)
    Files().lock(path, timeout=0).close()
