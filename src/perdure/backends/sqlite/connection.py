"""One process's connection to a SQLite file: who may use it when, and what happens when others are in the way.

- One connection, guarded by a lock; it is in autocommit mode, and every call leaves it without a transaction.
- Who finds the database busy lets go of the lock, sleeps a little and tries again, until `timeout` seconds are over.
- A file that was moved, removed or replaced is neither read nor written any more: each call looks.
- A fork waits until no thread is within a call: what a thread had locked, also within SQLite, stays locked in the child
  for ever. The child gets a connection of its own at its first call; the parent's is neither used nor closed there.
- Reading only never writes a byte to the store: without a log beside the file, the file is read as it stands
  (`immutable`), and read again if it changed meanwhile; with one, SQLite's own locks are used. They are there already
  while somebody writes; beside a log that was left over SQLite makes them anew (`-shm`), and they stay.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from perdure.backends.base import NewKey, no_key
from perdure.backends.forking import HeldOverForks
from perdure.backends.sqlite.errors import (
    is_busy,
    is_directory,
    leaves_outcome_unknown,
    moved,
    no_store,
    not_reached,
    outcome_unknown,
    translate,
)
from perdure.backends.sqlite.room import LogRoom
from perdure.backends.sqlite.schema import is_empty, prepare
from perdure.backends.sqlite.tables import connection_class
from perdure.backends.sqlite.watch import identity_of, is_next, new_watch
from perdure.backends.sqlite.watch import let_go as unmap_unused
from perdure.backends.sqlite.watch import start as start_watch
from perdure.backends.sqlite.watch import stop as stop_watch
from perdure.errors import AccessDenied, NotAStore, PerdureError, ReadOnly, StoreBusy, StoreClosed, StoreNotFound

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Signature = tuple[int, int, int]

_CLOSING = 2.0  # seconds that `close` waits for readers, before it leaves the log to whoever closes last
_SMALLEST = 512  # bytes of a database with anything in it: one page of the smallest size
_SETTLED = 200_000_000  # nanoseconds after which a changed file must have another time of change


class SqliteConnection:
    """The connection for reading and writing. `path` is absolute; `new_key` is called when a store is made.

    `table` names the store's tables, where they are not the usual ones.
    """

    def __init__(self, path: str, *, new_key: NewKey, create: bool, timeout: float, table: str | None = None):
        self._connection: sqlite3.Connection | None = None
        self.path = path
        self._table = table
        self._new_key = new_key
        self._create = create
        self._timeout = timeout
        self.lock = threading.RLock()
        self._closed = False
        self._outcome_unknown = False
        self._is_lax = False  # whether commits of the connection are not durable
        self._file: tuple[int, int] | None = None
        self.watch = new_watch()
        self._room = LogRoom(path)
        _OPEN.add(self)
        self.read(is_open)
        self._create = False  # a file that vanishes later is never made anew

    def read(self, work: Work[T]) -> T:
        """What `work` gives, once it got through. It must not leave a cursor or a transaction open."""
        deadline = 0.0
        while True:
            try:
                with self.lock:
                    if self._closed:
                        raise StoreClosed("The store was closed.", hint="Open it again with make_store.")
                    return self._once(work)
            except PerdureError:
                raise
            except OSError as error:
                raise not_reached(error, self.path) from error
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise translate(error, self.path) from error
                now = time.monotonic()
                deadline = deadline or now + self._timeout
                if now >= deadline:
                    raise StoreBusy(
                        f"Another process kept {self.path!r} locked for more than {self._timeout:g} seconds.",
                        hint="Try again, or give a longer timeout.",
                    ) from error
            time.sleep(random.uniform(0.0005, 0.005))

    def write(self, work: Work[T], *, durable: bool = True) -> T:
        """What `work` gives, run as one transaction; nothing is kept of it if it raises."""
        return self.read(partial(self._transaction if durable else self._undurable, work))

    def begin_commit(self) -> object:
        """What the watch gives now that a transaction has begun, for a commit: nobody else can write from here on."""
        mark = self.watch()
        self._room.provide(mark)
        return mark

    def mark_after(self, before: object) -> object:
        """What the watch gives until somebody else commits; None if somebody has already, since it gave `before`."""
        after = self.watch()
        return after if is_next(before, after) else None

    def try_write(self, work: Work[bool]) -> bool:
        """What `work` gives, run as a transaction that need not be durable; False if anything is in the way."""
        with self.lock:
            connection = self._connection
            if connection is None or self._closed or self._outcome_unknown:
                return False
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                return self._undurable(work, connection)
            except sqlite3.Error:
                return False  # nobody relies on it

    def empty_log(self) -> None:
        """Move the log's content into the file, and leave no byte in the log; waits for readers as every call does."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                error = sqlite3.OperationalError("the log is read by another process")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error

        self.read(work)

    def close(self) -> None:
        """Move the log's content into the file and close; the lock of a call that runs is waited for."""
        with self.lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is None:
                return
            stop_watch(self.watch)
            try:
                self._fold(connection)
            except sqlite3.Error as error:
                raise translate(error, self.path) from error
            finally:
                connection.close()
                unmap_unused()

    def __del__(self) -> None:
        """Close what nobody closed, so that the log does not wait for the next opener."""
        if self._connection is not None:
            stop_watch(self.watch)
            self._connection.close()

    def forget(self) -> None:
        """Leave the connection to the parent process."""
        if self._connection is not None:
            _INHERITED.append(self._connection)
        stop_watch(self.watch)
        self._connection = None
        self.lock = threading.RLock()

    def _once(self, work: Work[T]) -> T:
        """What `work` gives. Raises `StorageError` if the path leads elsewhere: nobody would find what is written."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._open()
            start_watch(self.watch, self.path)
        try:
            file = identity_of(self.path)
        except FileNotFoundError as error:
            raise moved(self.path) from error
        if file != self._file:
            if self._file is not None:
                raise moved(self.path)
            self._file = file
        if connection.in_transaction:  # an interruption came before its end
            connection.execute("ROLLBACK")
        if self._is_lax:
            self._make_strict(connection)
        return work(connection)

    def _open(self) -> sqlite3.Connection:
        if not self._create and not os.path.exists(self.path):
            raise no_store(self.path)
        if os.path.isfile(self.path) and not os.access(self.path, os.W_OK):
            raise AccessDenied(
                f"This user may not write {self.path!r}.", hint="Open it with read_only=True, or change permissions."
            )
        with ExitStack() as on_error:
            connection = connect(self.path, "rwc" if self._create else "rw", self._table)
            on_error.callback(connection.close)
            if self._table is not None and not self._create and is_empty(connection, self.path):
                raise StoreNotFound(
                    f"There is no store {self._table!r} in {self.path!r}.",
                    hint="Look at the name; with create=True it is made.",
                )
            prepare(connection, self.path, self._new_key)
            on_error.pop_all()
        return connection

    def _transaction(self, work: Work[T], connection: sqlite3.Connection) -> T:
        if self._outcome_unknown:
            raise outcome_unknown(self.path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if not leaves_outcome_unknown(error):
                    raise
                self._outcome_unknown = True
                raise outcome_unknown(self.path) from error
            return result
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _undurable(self, work: Work[T], connection: sqlite3.Connection) -> T:
        """The same without an fsync; where it fails or is cut off, the next call makes commits durable again."""
        self._is_lax = True  # first, and until all is as it was
        connection.execute("PRAGMA synchronous = NORMAL")  # unlike OFF, checkpoints stay as safe as ever
        result = self._transaction(work, connection)
        self._make_strict(connection)
        return result

    def _make_strict(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        self._is_lax = False

    def _fold(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + min(_CLOSING, self._timeout)
        while True:
            try:
                if not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                    return
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
            if time.monotonic() >= deadline:
                return
            time.sleep(random.uniform(0.001, 0.01))


class ReadOnlySqliteConnection(SqliteConnection):
    """The connection of a store that is opened for reading only. An empty file is none yet: its key is not known."""

    def __init__(self, path: str, *, timeout: float, table: str | None = None):
        self._opened_at: Signature | None = None
        self._provisional = False
        super().__init__(path, new_key=no_key, create=False, timeout=timeout, table=table)

    def write(self, work: Work[T], *, durable: bool = True) -> T:
        self.read(is_open)
        raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")

    def _once(self, work: Work[T]) -> T:
        while True:
            before = self._signature()
            if self._connection is not None and (before != self._opened_at or self._provisional):
                self._connection.close()
                self._connection = None
            if self._connection is None:
                self._connection, self._opened_at = self._open_at(before), before
            if before is None:
                return work(self._connection)
            try:
                result = work(self._connection)
            except sqlite3.DatabaseError:
                if self._signature() == before:
                    raise
                continue  # a writer changed the file under the read
            if self._signature() == before:
                return result

    def _open_at(self, signature: Signature | None) -> sqlite3.Connection:
        with ExitStack() as on_error:
            if signature is None:
                self._refuse_without_index()
            connection = connect(self.path, "ro" if signature is None else "ro&immutable=1", self._table)
            on_error.callback(connection.close)
            if is_empty(connection, self.path):
                name = f"{self._table!r} " if self._table is not None else ""
                raise StoreNotFound(
                    f"There is no store {name}in {self.path!r} yet.",
                    hint="Open it again once the program that makes it is so far, or open it for writing.",
                )
            on_error.pop_all()
        self._provisional = signature is not None and time.time_ns() - signature[2] < _SETTLED
        return connection

    def _refuse_without_index(self) -> None:
        """Raise `AccessDenied` where there is a log that cannot be read, as its index cannot be made beside it."""
        real = os.path.realpath(self.path)
        if not os.path.exists(real + "-shm") and not os.access(os.path.dirname(real), os.W_OK | os.X_OK):
            raise AccessDenied(
                f"{self.path!r} has a log beside it that was left over, and this user may not write beside it, which"
                " SQLite needs to do to read a log.",
                hint="Copy both files to another directory, or let a user who may write there open the store once.",
            )

    def _signature(self) -> Signature | None:
        """What changes when the file does; None while there is a log, and so perhaps a writer, beside it."""
        try:
            if os.path.exists(os.path.realpath(self.path) + "-wal"):
                return None
            status = os.stat(self.path)
        except FileNotFoundError as error:
            raise no_store(self.path) from error
        if not os.access(self.path, os.R_OK):
            raise AccessDenied(f"This user may not read {self.path!r}.", hint="Change its permissions.")
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _fold(self, connection: sqlite3.Connection) -> None:
        """Nothing: only a writer may move the log."""


def connect(path: str, mode: str, table: str | None = None) -> sqlite3.Connection:
    """A connection in autocommit mode that never waits by itself; `mode` is SQLite's: `ro`, `rw`, `rwc`."""
    if os.path.isdir(path):
        raise is_directory(path)
    if os.path.exists(path) and 0 < os.path.getsize(path) < _SMALLEST:  # SQLite would take it for empty
        raise NotAStore(f"{path!r} is not a SQLite database.", hint="Give the file of a store, or a new name.")
    plain = b"/._-:0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    name = "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in _uri_path(path))
    uri = f"file:{name}?mode={mode}"
    with ExitStack() as on_error:
        connection = sqlite3.connect(
            uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False, factory=connection_class(table)
        )
        on_error.callback(connection.close)
        connection.execute("PRAGMA cache_size = -16000")  # KiB
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: a bulk commit need not copy its log at once
        on_error.pop_all()
    return connection


def is_open(connection: sqlite3.Connection) -> None:
    """Nothing: that it is called shows that the store can be opened."""


def _uri_path(path: str) -> bytes:
    encoded = os.fsencode(path).replace(os.sep.encode(), b"/")
    return encoded if encoded.startswith(b"/") else b"/" + encoded  # `C:/…` needs a slash before it


def _forget_inherited() -> None:
    for connection in list(_OPEN):
        connection.forget()


_OPEN: weakref.WeakSet[SqliteConnection] = weakref.WeakSet()
_HELD = HeldOverForks(lambda: [connection.lock for connection in _OPEN])
_INHERITED: list[sqlite3.Connection] = []  # connections of a parent process: kept, so that nothing ever closes them

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
