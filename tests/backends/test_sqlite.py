"""What the SQLite backend does besides the contract: with bad files, full disks, busy neighbours and its log."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from perdure import make_store
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.errors import (
    AccessDenied,
    CorruptRecord,
    DiskFull,
    IdInUse,
    NewerFormat,
    NotAStore,
    OutcomeUnknown,
    PerdureError,
    SnapshotTooOld,
    StorageError,
    StoreBusy,
    StoreNotFound,
    UnknownScheme,
)
from perdure.records.values import Batch, Draft
from perdure.testing.backend_drafts import ENCODE, commit, draft, payloads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    backend = SqliteBackend(path, timeout=5)
    yield backend
    backend.close()


def connection_of(backend: SqliteBackend) -> sqlite3.Connection:
    connection = backend._connection._connection
    assert connection is not None
    return connection


def change(path: Path, sql: str, values: tuple[object, ...] = ()) -> None:
    """Do to a closed store what perdure never does."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql, values)
    connection.close()


# -- files that are no store, or hardly one ------------------------------------------------------------


def test_a_file_of_zero_bytes_becomes_a_store(path: Path) -> None:
    path.touch()
    with pytest.raises(StoreNotFound, match=r"no store in .* yet"):  # it would never learn the store's key
        SqliteBackend(path, read_only=True)
    assert [each.name for each in path.parent.iterdir()] == ["store.db"]
    assert path.stat().st_size == 0
    backend = SqliteBackend(path, create=False)
    watcher = SqliteBackend(path, read_only=True)
    assert watcher.describe() == backend.describe()
    commit(backend, draft("Item.1"))
    assert watcher.ids() == ["Item.1"]
    backend.close()
    assert watcher.ids() == ["Item.1"]
    watcher.close()


def test_a_mistyped_path_makes_nothing(path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreNotFound, match=r"store\.db"):
            SqliteBackend(path, **options)
    with pytest.raises(StoreNotFound, match="directory"):
        SqliteBackend(path.parent / "no such" / "store.db")
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["a?mode=memory#x%20 b.db", "größe ☀.db", "file:x.db", ":memory:", "-o.db"])
def test_any_name_is_a_name(tmp_path: Path, name: str) -> None:
    backend = SqliteBackend(tmp_path / name)
    commit(backend, draft("Item.1"))
    backend.close()
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SqliteBackend("store.db").close()
    watcher = SqliteBackend("store.db", read_only=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert watcher.revision() == 0
    watcher.close()


@pytest.mark.parametrize("content", [b"x", b"some text\n" * 500, b"SQLite format 3\0" + b"\xff" * 4080])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_another_kind_is_left_alone(path: Path, content: bytes, read_only: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(NotAStore, match=r"store\.db"):
        SqliteBackend(path, read_only=read_only)
    assert path.read_bytes() == content
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("sql", ["CREATE TABLE t (a)", "CREATE TABLE meta (name, value)", "PRAGMA application_id = 7"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_another_program_is_left_alone(path: Path, sql: str, read_only: bool) -> None:
    change(path, sql)
    content = path.read_bytes()
    with pytest.raises(NotAStore, match="another program"):
        SqliteBackend(path, read_only=read_only)
    assert path.read_bytes() == content
    with pytest.raises(NotAStore, match="directory"):
        SqliteBackend(path.parent, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_later_format_is_refused(path: Path, read_only: bool) -> None:
    SqliteBackend(path).close()
    change(path, "UPDATE meta SET value = 5 WHERE name = 'format'")
    with pytest.raises(NewerFormat, match="format 5"):
        SqliteBackend(path, read_only=read_only)


def test_a_later_format_that_comes_meanwhile_is_not_written_to(backend: SqliteBackend, path: Path) -> None:
    change(path, "UPDATE meta SET value = 5 WHERE name = 'format'")
    with pytest.raises(NewerFormat):
        commit(backend, draft("Item.1"))
    with pytest.raises(NewerFormat):
        backend.reserve(1)


@pytest.mark.parametrize("damage", ["cut", "rubbish", "no meta"])
def test_a_damaged_file_is_named(path: Path, damage: str) -> None:
    backend = SqliteBackend(path)
    commit(backend, *(draft(f"Item.{number}", b"x" * 500) for number in range(1, 500)))
    backend.close()
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "rubbish":
        path.write_bytes(content[:4096] + b"\xee" * (len(content) - 4096))
    else:
        change(path, "DELETE FROM meta")

    def look(*, read_only: bool) -> None:
        backend = SqliteBackend(path, read_only=read_only)
        try:
            list(backend.scan())
        finally:
            backend.close()

    for read_only in (True, False):
        with pytest.raises(StorageError, match=r"store\.db.* is damaged"):
            look(read_only=read_only)


def test_one_damaged_record_harms_no_other(path: Path) -> None:
    backend = SqliteBackend(path)
    ids = [f"Item.{number}" for number in range(1, 11)]
    commit(backend, *(draft(id_, b"payload") for id_ in ids))
    backend.close()
    frame = ENCODE(draft("Item.5", b"payload"), 1)
    for damaged in (frame[:16] + b"\xff" + frame[17:], frame[:28] + b"\xff" + frame[29:], frame[:10], b""):
        change(path, "UPDATE records SET frame = ? WHERE number = 5", (damaged,))
        backend = SqliteBackend(path)
        rest = [id_ for id_ in ids if id_ != "Item.5"]
        assert set(backend.read(rest)) == set(backend.classes(rest)) == set(rest)
        for asked in (["Item.5"], ids):
            with pytest.raises(CorruptRecord):
                backend.read(asked)
        with pytest.raises(CorruptRecord, match="number 5"):
            backend.ids()
        with pytest.raises(CorruptRecord, match="number 5"):
            backend.history("Item.5")
        backend.close()


READS: dict[str, Callable[[SqliteBackend], object]] = {
    "describe": lambda backend: backend.describe(),
    "revision": lambda backend: backend.revision(),
    "read": lambda backend: backend.read(["Item.1"]),
    "read at": lambda backend: backend.read(["Item.1", "Item.2"], 1),
    "classes": lambda backend: backend.classes(["Item.1"]),
    "ids": lambda backend: backend.ids(),
    "ids internal": lambda backend: backend.ids(internal=True),
    "scan": lambda backend: list(backend.scan()),
    "scan internal": lambda backend: list(backend.scan(internal=True)),
    "changes": lambda backend: backend.changes(0),
    "commits": lambda backend: backend.commits(),
    "history": lambda backend: backend.history("Item.1"),
    "referrers": lambda backend: backend.referrers(["Item.1"]),
}
DAMAGES = {
    "UPDATE meta SET value = NULL WHERE name != 'format'": {"describe", "revision", "changes"},
    "UPDATE meta SET value = 'x' WHERE name != 'format'": {"describe", "revision", "changes"},
    "DELETE FROM meta WHERE name != 'format'": {"describe", "revision", "changes"},
    "UPDATE records SET frame = 7": {"read", "ids", "scan", "scan internal", "history"},
    "UPDATE records SET frame = 'text'": {"read", "ids", "scan", "scan internal", "history"},
    "UPDATE records SET class = 99": {"classes"},
    "UPDATE records SET class = 'x'": {"classes"},
    "UPDATE records SET revision = 'x'": {"history"},
    "UPDATE commits SET numbers = 'x', time = 'y', note = 5": {"changes", "commits"},
    "UPDATE superseded SET frame = 7": {"read at", "history"},
}


@pytest.mark.parametrize("sql", DAMAGES)
def test_values_that_cannot_be_are_damage_and_no_error_of_pythons(path: Path, sql: str) -> None:
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1", b"one"), draft("Own.2", internal=True))
    commit(backend, draft("Item.1", b"two", base=1))
    backend.close()
    change(path, sql)
    backend = SqliteBackend(path)
    named = set()
    for name, call in READS.items():
        try:
            call(backend)
        except (CorruptRecord, StorageError):
            named.add(name)
    assert named >= DAMAGES[sql]
    backend.close()


def test_a_format_that_is_no_number_is_damage(path: Path) -> None:
    SqliteBackend(path).close()
    change(path, "UPDATE meta SET value = NULL WHERE name = 'format'")
    for read_only in (False, True):
        with pytest.raises(StorageError, match="its format"):
            SqliteBackend(path, read_only=read_only)


def test_numbers_that_an_index_lost_are_damage(backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    # A damaged index gives NULL for the number of a row, which no statement can write there.
    commit(backend, draft("Own.2", internal=True))
    monkeypatch.setattr(backend, "_rows", lambda sql, values=(): [(None,)])
    with pytest.raises(CorruptRecord, match="NoneType"):
        list(backend.scan(internal=True))


@pytest.mark.parametrize("instead", ["nothing", "another store"])
def test_a_file_that_is_gone_is_neither_written_nor_read(path: Path, tmp_path: Path, instead: str) -> None:
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1"))
    path.unlink()
    if instead == "another store":
        SqliteBackend(tmp_path / "other.db").close()
        os.replace(tmp_path / "other.db", path)
    for call in (lambda: commit(backend, draft("Item.2")), lambda: backend.read(["Item.1"]), backend.revision):
        with pytest.raises(StorageError, match="moved, removed or replaced"):
            call()
    backend.close()
    assert path.exists() == (instead == "another store")


@pytest.mark.parametrize(
    "ids", [["Item.3", "Item.1", "Item.2"], ["Item.2", "Item.9", "Item.2", "Item.1"], ["Item.1"] * 3]
)
def test_ids_out_of_order_and_given_twice_are_all_found(backend: SqliteBackend, ids: list[str]) -> None:
    commit(backend, *(draft(f"Item.{number}", b"%d" % number) for number in range(1, 11)))
    expected = {id_: id_.rpartition(".")[2].encode() for id_ in ids}
    for at in (None, 1):
        assert payloads(backend.read(ids, at)) == expected
        assert backend.classes(ids, at) == dict.fromkeys(ids, "shop:Item")


# -- permissions, space, other processes -----------------------------------------------------------------


def in_child(work: Callable[[Path], None], path: Path) -> None:
    """Run `work` in a process of its own, which it may spoil."""
    process = get_context("spawn").Process(target=work, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 0


def _as_somebody_else(path: Path) -> None:
    read_only, unreadable = path.parent / "read-only.db", path.parent / "unreadable.db"
    if os.getuid() == 0:  # whom permissions do not hold back
        os.setuid(65534)
    for name in (read_only, unreadable, path.parent / "new.db"):
        with pytest.raises(AccessDenied, match=name.name):
            SqliteBackend(name)
    with pytest.raises(AccessDenied):
        SqliteBackend(unreadable, read_only=True)
    backend = SqliteBackend(read_only, read_only=True)
    assert backend.ids() == ["Item.1"]
    backend.close()


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no such permissions")
def test_without_permission_the_error_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("shared")
    shared_by_all = Path(tempfile.gettempdir())
    for above in (folder, *(parent for parent in folder.parents if shared_by_all in parent.parents)):
        above.chmod(0o755)
    for name, mode in (("read-only.db", 0o444), ("unreadable.db", 0o000)):
        backend = SqliteBackend(folder / name)
        commit(backend, draft("Item.1"))
        backend.close()
        (folder / name).chmod(mode)
    folder.chmod(0o555)
    in_child(_as_somebody_else, folder / "any.db")
    folder.chmod(0o755)
    assert sorted(each.name for each in folder.iterdir()) == ["read-only.db", "unreadable.db"]


def test_a_full_disk_changes_nothing(backend: SqliteBackend) -> None:
    commit(backend, draft("Item.1", b"pen"))
    pages = connection_of(backend).execute("PRAGMA page_count").fetchone()[0]
    connection_of(backend).execute(f"PRAGMA max_page_count = {pages + 4}")
    before = backend.describe()
    with pytest.raises(DiskFull, match=r"store\.db"):
        commit(backend, draft("Item.1", b"ink", base=1), draft("Item.2", b"x" * 100_000))
    assert backend.describe() == before
    assert payloads(backend.read(["Item.1", "Item.2"])) == {"Item.1": b"pen"}
    connection_of(backend).execute("PRAGMA max_page_count = 100000")
    commit(backend, draft("Item.1", b"ink", base=1), draft("Item.2", b"x" * 100_000))
    assert backend.revision() == 2


def _with_a_limit_on_files(path: Path) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1", b"pen"))
    before = backend.describe()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    with pytest.raises(StorageError, match="nothing of this commit was kept"):
        commit(backend, draft("Item.1", b"ink", base=1), draft("Item.2", b"x" * 1_000_000))
    assert backend.describe() == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    commit(backend, draft("Item.1", b"ink", base=1), draft("Item.2", b"x" * 1_000_000))
    backend.close()


@pytest.mark.skipif(os.name == "nt", reason="this system has no limit on the size of files")
def test_a_limit_on_files_changes_nothing(path: Path) -> None:
    in_child(_with_a_limit_on_files, path)
    backend = SqliteBackend(path, read_only=True)
    assert backend.revision() == 2
    assert len(payloads(backend.read(["Item.1", "Item.2"]))["Item.2"]) == 1_000_000
    backend.close()


def test_a_record_that_is_too_large_changes_nothing(backend: SqliteBackend) -> None:
    connection_of(backend).setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    with pytest.raises(StorageError, match="too large"):
        commit(backend, draft("Item.1"), draft("Item.2", b"x" * 100_000))
    assert backend.revision() == 0
    assert backend.ids() == []


def test_writers_wait_for_one_another(backend: SqliteBackend, path: Path) -> None:
    commit(backend, draft("Item.1"))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    impatient = SqliteBackend(path, timeout=0.2)
    start = time.monotonic()
    with pytest.raises(StoreBusy, match=r"0\.2 seconds") as caught:
        commit(impatient, draft("Item.2"))
    assert 0.2 <= time.monotonic() - start < 3
    assert caught.value.retryable
    assert impatient.ids() == ["Item.1"]  # readers do not wait for writers
    impatient.close()
    timer = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    timer.start()
    commit(backend, draft("Item.2"))
    assert backend.ids() == ["Item.1", "Item.2"]
    timer.join()
    other.close()


def _fork_during_a_commit(path: Path) -> None:
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1"))
    begun, forked = threading.Event(), threading.Event()

    def slowly(each: Draft, revision: int) -> bytes:
        begun.set()
        forked.wait()
        return ENCODE(each, revision)

    thread = threading.Thread(target=backend.apply, args=(Batch([draft("Item.2")]), slowly))
    thread.start()
    begun.wait()
    threading.Timer(0.2, forked.set).start()
    child = os.fork()  # waits for the commit
    if not child:
        os._exit(0 if backend.ids() == ["Item.1", "Item.2"] and backend.revision() == 2 else 1)
    _, status = os.waitpid(child, 0)
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
    assert backend.ids() == ["Item.1", "Item.2"]
    backend.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_during_a_commit_of_another_thread(path: Path) -> None:
    in_child(_fork_during_a_commit, path)


def test_a_store_that_nobody_closes_is_closed(path: Path) -> None:
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1"))
    del backend
    gc.collect()
    assert [each.name for each in path.parent.iterdir()] == ["store.db"]


def test_reading_goes_on_while_another_thread_waits_to_write(backend: SqliteBackend, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = threading.Thread(target=commit, args=(backend, draft("Item.1")))
    waiting.start()
    start = time.monotonic()
    while time.monotonic() - start < 0.2:
        assert backend.revision() == 0
    other.execute("ROLLBACK")
    other.close()
    waiting.join()
    assert backend.revision() == 1


# -- commits, the log, the past --------------------------------------------------------------------------


def test_an_interrupted_commit_leaves_no_lock(backend: SqliteBackend, path: Path) -> None:
    def interrupt(_: Draft, __: int) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.apply(Batch([draft("Item.1")]), interrupt)
    other = SqliteBackend(path, timeout=0)
    commit(other, draft("Item.1"))
    other.close()
    assert backend.ids() == ["Item.1"]


class Failing:
    """A connection whose COMMIT fails with the given code of SQLite's."""

    def __init__(self, connection: sqlite3.Connection, code: int):
        self.connection = connection
        self.code = code

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self.code
            raise error
        return self.connection.execute(sql, *values)  # type: ignore[arg-type]


def test_after_a_failed_fsync_nothing_more_is_written(backend: SqliteBackend, path: Path) -> None:
    commit(backend, draft("Item.1"))
    connection = connection_of(backend)
    backend._connection._connection = Failing(connection, sqlite3.SQLITE_IOERR_FSYNC)  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown):
        commit(backend, draft("Item.2"))
    backend._connection._connection = connection
    with pytest.raises(OutcomeUnknown):
        commit(backend, draft("Item.2"))
    with pytest.raises(OutcomeUnknown):
        backend.reserve(1)
    assert backend.ids() == ["Item.1"]
    other = SqliteBackend(path)
    commit(other, draft("Item.2"))
    other.close()


def test_a_commit_that_could_not_be_written_can_be_repeated(backend: SqliteBackend) -> None:
    connection = connection_of(backend)
    backend._connection._connection = Failing(connection, sqlite3.SQLITE_IOERR_WRITE)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="nothing of this commit was kept"):
        commit(backend, draft("Item.1"))
    backend._connection._connection = connection
    assert backend.ids() == []
    assert commit(backend, draft("Item.1")).revision == 1


def test_commits_are_durable_also_after_a_reservation_that_need_not_be(backend: SqliteBackend) -> None:
    for _ in range(2):
        assert connection_of(backend).execute("PRAGMA synchronous").fetchone() == (2,)
        backend.reserve(1, durable=False)
    assert connection_of(backend).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_commits_are_durable_also_after_numbers_that_could_not_be_given_back(
    backend: SqliteBackend, path: Path
) -> None:
    first = backend.reserve(3)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not backend.give_back(first, first + 3)
    other.close()
    level: list[int] = []
    commit_with(backend, lambda _: level.extend(connection_of(backend).execute("PRAGMA synchronous").fetchone()))
    assert level == [2]


@pytest.mark.parametrize("place", range(6))
def test_commits_are_durable_also_after_a_reservation_that_was_cut_off(backend: SqliteBackend, place: int) -> None:
    connection = connection_of(backend)
    cut_off: Any = CutOff(connection, place)
    backend._connection._connection = cut_off
    with pytest.raises(KeyboardInterrupt):
        backend.reserve(1, durable=False)
    backend._connection._connection = connection
    level: list[int] = []
    commit_with(backend, lambda _: level.extend(connection.execute("PRAGMA synchronous").fetchone()))
    assert level == [2]


class CutOff:
    """A connection whose statement of that place is done, and then interrupted."""

    def __init__(self, connection: sqlite3.Connection, place: int):
        self.connection = connection
        self.left = place

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        done = self.connection.execute(sql, *values)
        self.left -= 1
        if self.left == -1:
            raise KeyboardInterrupt
        return done


def commit_with(backend: SqliteBackend, look: Callable[[Draft], object]) -> None:
    """A commit that lets somebody look while it is made."""

    def encode(draft: Draft, revision: int) -> bytes:
        look(draft)
        return ENCODE(draft, revision)

    backend.apply(Batch([draft("Item.1")]), encode)


def test_closing_moves_the_log_into_the_file(backend: SqliteBackend, path: Path, tmp_path: Path) -> None:
    other = SqliteBackend(path)
    commit(other, *(draft(f"Item.{number}", b"x" * 100) for number in range(1, 100)))
    other.close()  # not the last one to close
    copy = shutil.copyfile(path, tmp_path / "copy.db")
    copied = SqliteBackend(copy, read_only=True)
    assert len(copied.ids()) == 99
    copied.close()
    backend.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "store.db"]


def test_reading_only_follows_writers_that_come_and_go(path: Path) -> None:
    SqliteBackend(path).close()
    watcher = SqliteBackend(path, read_only=True)
    for number in range(1, 6):
        writer = SqliteBackend(path)
        commit(writer, draft(f"Item.{number}"))
        if number % 2:
            assert len(watcher.ids()) == number
        writer.close()
        assert len(watcher.ids()) == watcher.revision() == number
    watcher.close()


def test_a_revision_that_was_let_go_is_told(path: Path) -> None:
    backend = SqliteBackend(path)
    commit(backend, draft("Item.1", b"1"), draft("Item.2"))
    commit(backend, draft("Item.1", b"2", base=1))
    backend.close()
    change(path, "DELETE FROM superseded")
    change(path, "UPDATE meta SET value = 2 WHERE name = 'oldest'")
    backend = SqliteBackend(path, read_only=True)
    with pytest.raises(SnapshotTooOld):
        backend.read(["Item.1"], at=1)
    assert payloads(backend.read(["Item.1"], at=2)) == {"Item.1": b"2"}
    backend.close()


def test_one_commit_cannot_give_a_number_twice(backend: SqliteBackend) -> None:
    with pytest.raises(IdInUse):
        commit(backend, draft("Item.1"), draft("User.1"))
    assert backend.revision() == 0


def test_no_error_of_sqlite_comes_through(backend: SqliteBackend, path: Path) -> None:
    change(path, "DROP TABLE commits")
    with pytest.raises(PerdureError, match=r"store\.db.*no such table"):
        backend.commits()
    with pytest.raises(StorageError):
        commit(backend, draft("Item.1"))
    assert backend.revision() == 0


# -- stores under a name ---------------------------------------------------------------------------------


def test_a_file_holds_several_stores_and_other_things(path: Path) -> None:
    change(path, "CREATE TABLE records (theirs)")
    change(path, "INSERT INTO records VALUES (7)")
    first, second = SqliteBackend(path, table_name="shop"), SqliteBackend(path, table_name="Lab_2")
    indexed = {"shop:Item": ("state",)}
    commit(first, draft("Item.1", b"shop", fields={"state": "new"}), indexed=indexed)
    commit(second, draft("Item.1", b"lab"), draft("Item.2", b"x" * 70_000), buffers={"d" * 64: bytes(70_000)})
    assert payloads(first.read(["Item.1", "Item.2"])) == {"Item.1": b"shop"}
    assert second.ids() == ["Item.1", "Item.2"]
    assert first.buffers() == {}
    assert first.table_name == "shop"
    first.close()
    second.close()
    connection = sqlite3.connect(path)
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"records", "shop", "shop_commits", "Lab_2", "Lab_2_meta"} <= names
    assert connection.execute("SELECT * FROM records").fetchall() == [(7,)]
    assert connection.execute("PRAGMA application_id").fetchone() == (0,)
    connection.close()
    with pytest.raises(NotAStore, match=r"names only: Lab_2, shop\..*#table=Lab_2"):
        SqliteBackend(path)


def test_a_usual_store_beside_a_named_one(path: Path) -> None:
    usual = SqliteBackend(path)
    named = SqliteBackend(path, table_name="shop")
    commit(usual, draft("Item.1"))
    commit(named, draft("Item.5"))
    assert (usual.ids(), named.ids()) == (["Item.1"], ["Item.5"])
    usual.close()
    named.close()


def test_a_named_store_that_is_not_there(path: Path) -> None:
    change(path, "CREATE TABLE t (a)")
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreNotFound, match=r"'shop' in .*store\.db"):
            SqliteBackend(path, table_name="shop", **options)


@pytest.mark.parametrize("table", ["shop", "shop_meta", "shop_commits"])
@pytest.mark.parametrize("read_only", [False, True])
def test_tables_of_another_program_under_that_name(path: Path, table: str, read_only: bool) -> None:
    change(path, f"CREATE TABLE {table} (a)")
    content = path.read_bytes()
    with pytest.raises(NotAStore, match=f"another program: {table}"):
        SqliteBackend(path, table_name="shop", read_only=read_only)
    if read_only:
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["", "a-b", "1a", "a b", "ä", "x" * 41, "a;b", 'a"b'])
def test_names_that_no_tables_have(path: Path, name: str) -> None:
    with pytest.raises(UnknownScheme, match="cannot be the name"):
        SqliteBackend(path, table_name=name)
    assert not path.exists()


@pytest.mark.parametrize("name", ["select", "Order", "group", "table", "records", "meta"])
def test_a_store_may_be_called_by_a_word_of_sql(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/s.db#table={name}"
    with make_store(url, code="off") as store:
        id_ = store.save({"text": "records"})
        store.replace(id_, {"text": "commits"})
        store.pack(keep=1)
        assert store.check() == []
    with make_store(url, code="off") as store:
        assert store.load(id_) == {"text": "commits"}


def test_what_sqlite_keeps_for_itself_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownScheme, match="SQLite keeps sqlite_ for itself"):
        make_store(f"sqlite:///{tmp_path}/s.db#table=SQLite_x")
