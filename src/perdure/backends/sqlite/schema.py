"""How a store lies in a SQLite database: its tables, how they are made, and how they are recognised.

- A database of another program is never written to, unless a table is named (see `sqlite_tables`); an empty one
  becomes a store, whole or not at all.
- `records` holds what is there now, `superseded` every older version (a NULL frame where the
  object was removed), `commits` one row a revision, `classes` the names that `records.class` stands for.
- `records.class` is negative for perdure's own records, so that a small partial index finds them.
- A row's id is inside its frame; `number` alone is the key.
- A store begins with format 1; `index` raises it to 2 when it adds its tables, `buffers` to 3. An encrypted one has 4.
"""

from __future__ import annotations

import sqlite3
import uuid

from perdure.backends.base import NewKey
from perdure.backends.sqlite.tables import is_absent, name_of, stores_in
from perdure.errors import NewerFormat, NotAStore, StorageError

APPLICATION_ID = 0x70657264  # "perd"
FIRST_FORMAT, NEWEST_FORMAT = 1, 4  # of stores, not of the records in them
ENCRYPTED_FORMAT = 4

# Whatever is changed in it, a page goes into the log as a whole. With twice as many bytes, 2,000 changes among 20,000
# took a tenth longer, and small commits too; saving all took the same (records of some KiB a tenth less).
PAGE_SIZE = 4096  # bytes

# `superseded` has a rowid of its own: without, 1,000 updates among 20,000 took 48 ms, not 30.
_TABLES = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE classes (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE UNIQUE INDEX class_names ON classes (name, number < 0);
    CREATE TABLE records (
        number INTEGER PRIMARY KEY, revision INTEGER NOT NULL, class INTEGER NOT NULL, frame BLOB NOT NULL
    );
    CREATE INDEX internal_records ON records (class) WHERE class < 0;
    CREATE TABLE superseded (
        number INTEGER NOT NULL, revision INTEGER NOT NULL, frame BLOB, PRIMARY KEY (number, revision)
    );
    CREATE TABLE commits (
        revision INTEGER PRIMARY KEY, time REAL NOT NULL, note TEXT NOT NULL, code TEXT NOT NULL, numbers TEXT NOT NULL
    );
"""


def prepare(connection: sqlite3.Connection, path: str, new_key: NewKey) -> None:
    """Make sure that the database is a store that can be written: make one of an empty file, refuse another's."""
    empty = is_empty(connection, path)
    if empty:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # nothing happens where another process was faster
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            f"{path!r} cannot be used by several processes safely: SQLite got journal mode {mode!r}, not 'wal'.",
            hint="Put the store on a local disk.",
        )
    connection.execute("PRAGMA synchronous = FULL")
    if not empty:
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        if is_empty(connection, path):  # not made by another process meanwhile
            create(connection, uuid.uuid4().hex, new_key())
            connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def create(connection: sqlite3.Connection, store: str, key_id: int) -> None:
    """Lay out a store in an empty database, within the caller's transaction."""
    for statement in _TABLES.strip().split(";"):  # one by one: `executescript` would commit
        connection.execute(statement)
    meta = {"format": FIRST_FORMAT, "store": store, "key": key_id, "revision": 0, "next_number": 1, "oldest": 0}
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    if name_of(connection) is None:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def is_empty(connection: sqlite3.Connection, path: str) -> bool:
    """Whether nothing was ever put into the database; raises `NotAStore` or `NewerFormat` where it is no use."""
    if name_of(connection) is not None:
        if is_absent(connection, path):
            return True
        refuse_newer(connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone(), path)
        return False
    application, tables = connection.execute(
        "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id"
    ).fetchone()
    if application == APPLICATION_ID:
        refuse_newer(connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone(), path)
        return False
    if application or tables:
        named = stores_in(connection)
        if named:
            raise NotAStore(
                f"{path!r} holds stores under names only: {', '.join(named)}.",
                hint=f"Write #table={named[0]} after it.",
            )
        raise NotAStore(
            f"{path!r} is a SQLite database of another program.", hint="Give the file of a store, or a new name."
        )
    return True


def raise_format(connection: sqlite3.Connection, format_: int) -> None:
    """Note, within the caller's transaction, that the store has what releases below that format do not know."""
    connection.execute("UPDATE meta SET value = ? WHERE name = 'format' AND value < ?", (format_, format_))


def refuse_newer(row: tuple[object] | None, path: str) -> None:
    """Raise `NewerFormat` if the store's format is later than this release's, `StorageError` if it has none."""
    if row is None or not isinstance(row[0], int):
        raise StorageError(f"{path!r} is damaged: it does not tell its format.", hint="Go back to a backup.")
    if row[0] > NEWEST_FORMAT:
        raise NewerFormat(
            f"The store {path!r} has format {row[0]}; this release of perdure reads up to {NEWEST_FORMAT}.",
            hint="Install a later release.",
        )
