"""The log of a SQLite store is lengthened ahead of small commits: what is written stays what it was."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from perdure.backends.sqlite import room
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.backends.sqlite.room import SMALL, STEP, LogRoom
from perdure.backends.sqlite.schema import PAGE_SIZE
from perdure.testing.backend_drafts import commit, draft

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing is watched")

FRAME = 24 + PAGE_SIZE  # bytes of one in the log

COMMITS = """
import sys
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.testing.backend_drafts import commit, draft
backend = SqliteBackend(sys.argv[1], timeout=30)
for _ in range(int(sys.argv[2])):
    commit(backend, draft(f"Item.{backend.reserve(1, durable=False)}"))
    print(flush=True)
backend.close()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def put(backend: SqliteBackend, numbers: range, payload: bytes = b"small") -> None:
    """Save new records, each in a commit of its own."""
    for number in numbers:
        commit(backend, draft(f"Item.{number}", payload))


def numbers_in(path: Path) -> list[int]:
    """The numbers of the records that somebody finds who opens the store anew."""
    with closing(SqliteBackend(path)) as backend:
        found = [number for entry in backend.commits() for number in entry.numbers]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return sorted(found)


def test_small_commits_write_over_room_that_was_made_ahead(path):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 5))
        log = log_of(path)
        before = log.stat()
        written = log.read_bytes().rstrip(b"\0")
        assert before.st_size >= len(written) + SMALL
        put(backend, range(5, 7))
        assert log.stat().st_size == before.st_size  # nothing was appended
        assert len(log.read_bytes().rstrip(b"\0")) > len(written)
    assert numbers_in(path) == [1, 2, 3, 4, 5, 6]


def test_the_room_is_made_again_and_again_and_never_much_of_it(path):
    with closing(SqliteBackend(path)) as backend:
        for number in range(1, 100):
            put(backend, range(number, number + 1))
            content = log_of(path).read_bytes()
            assert len(content) <= len(content.rstrip(b"\0")) + SMALL + STEP + PAGE_SIZE
    assert numbers_in(path) == list(range(1, 100))


def test_a_program_that_commits_once_makes_no_room(path):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 2))
        assert (log_of(path).stat().st_size - 32) % FRAME == 0


def test_large_commits_make_no_room(path):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 20), os.urandom(2 * SMALL))
        assert (log_of(path).stat().st_size - 32) % FRAME == 0


@pytest.mark.parametrize("tail", ["zeros", "cut", "garbage", "old frames"])
def test_whoever_recovers_the_log_finds_each_commit(path, tmp_path, tail):
    """The files as a machine that lost its power can leave them: the index is gone, the room is as it may be."""
    with closing(SqliteBackend(path)) as backend:
        for number in range(1, 40):
            put(backend, range(number, number + 1))
            copy = tmp_path / f"{number}.db"
            shutil.copy(path, copy)
            content = log_of(path).read_bytes()
            used = (len(content.rstrip(b"\0")) - 32 + FRAME - 1) // FRAME * FRAME + 32
            rest = {
                "zeros": content[used:],
                "cut": content[used : used + 12345],
                "garbage": os.urandom(len(content) - used),
                "old frames": content[32 : 32 + FRAME],
            }
            log_of(copy).write_bytes(content[:used] + rest[tail])
            assert numbers_in(copy) == list(range(1, number + 1))
            copy.unlink()
    assert numbers_in(path) == list(range(1, 40))


def test_two_processes_that_take_turns_overwrite_nothing_of_each_other(path):
    SqliteBackend(path).close()
    count = 150
    command = [sys.executable, "-c", COMMITS, str(path), str(count)]
    writers = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert len(numbers_in(path)) == 3 * count


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_room_is_made_in_a_log_that_begins_anew(path, mode):
    with closing(SqliteBackend(path)) as backend, closing(sqlite3.connect(path)) as other:
        for first in range(1, 61, 10):
            put(backend, range(first, first + 10))
            content = log_of(path).read_bytes()
            assert content.endswith(bytes(4096))
            busy, pages, moved = other.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
            assert not busy
            assert pages == moved
    assert numbers_in(path) == list(range(1, 61))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_takes_no_room_and_the_commit_goes_on(path, monkeypatch, error):
    asked = []

    def full(descriptor, parts, end):
        asked.append(end)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "pwritev", full)
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 10))
        assert len(asked) == 1  # it is not tried at each commit
        assert (log_of(path).stat().st_size - 32) % FRAME == 0
    assert numbers_in(path) == list(range(1, 10))


def test_room_that_is_cut_off_by_a_full_disk_is_given_back(path, monkeypatch):
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda descriptor, parts, end: write(descriptor, parts[:3], end))
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 10))
        assert (log_of(path).stat().st_size - 32) % FRAME == 0
    assert numbers_in(path) == list(range(1, 10))


def test_a_limit_of_file_sizes_takes_no_room(path):
    """A real one: the kernel cuts the room, then the commits."""
    script = COMMITS.replace("backend.close()", "") + "import os; os._exit(0)"
    limited = subprocess.run(
        [sys.executable, "-c", script, str(path), "1000"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert "nothing of this commit was kept" in limited.stderr
    reported = limited.stdout.count("\n")
    assert reported > 10
    assert len(numbers_in(path)) == reported


def test_a_log_that_cannot_be_opened_is_left(path, monkeypatch):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 2))
        there = LogRoom(str(path.with_name("other.db")))
        header = backend.watch()()
        assert isinstance(header, bytes)
        there.provide(header)
        there.provide(header)
        assert not log_of(path.with_name("other.db")).exists()
        monkeypatch.setattr(room, "_ZEROS", None)  # nothing is tried any more
        there.provide(header)


def test_a_file_that_is_not_the_log_is_left_as_it_is(path):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 3))
        other = log_of(path.with_name("other.db"))
        content = log_of(path).read_bytes().rstrip(b"\0")
        for salts in (content[16:24], bytes(8)):
            other.write_bytes(content[:16] + salts + content[24:])
            there = LogRoom(str(path.with_name("other.db")))
            for _ in range(2):
                there.provide(backend.watch()())
            assert (other.stat().st_size > len(content)) == any(salts)


def test_without_a_watch_nothing_is_done(path):
    with closing(SqliteBackend(path)) as backend:
        put(backend, range(1, 2))
        size = log_of(path).stat().st_size
        there = LogRoom(str(path))
        for _ in range(3):
            there.provide(object())
        assert log_of(path).stat().st_size == size
