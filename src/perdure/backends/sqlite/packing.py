"""What a SQLite store forgets: old versions, the commits that wrote them, and whatever the file still holds of them.

- The oldest revision that is kept moves first, so that nobody reads what is half forgotten; rows go in chunks, each a
  transaction of its own. Cut off anywhere, the same call does the rest.
- A removal leaves a row: its number, its revision, and its id in place of a frame.
- Erasing rewrites the file and empties the log beside it, since freed pages still hold what was there.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from perdure.backends.base import CHUNK, numbers_of
from perdure.backends.frames import readable_id
from perdure.backends.sqlite.connection import SqliteConnection
from perdure.backends.sqlite.rows import HEAD, LISTED
from perdure.errors import DiskFull, StorageError, StoreBusy

ROWS = 4 * CHUNK  # that one transaction looks at
_LAST = 2**63 - 1  # above every row
WORTH = 10  # a file of which more than one part in so many is free is rewritten

# The versions that cannot be seen from revision ?2 on: a later one, of the same number, is not above it.
_UNSEEN = (
    "revision < ?2 AND (EXISTS (SELECT 1 FROM records WHERE number = s.number AND revision <= ?2)"
    " OR EXISTS (SELECT 1 FROM superseded WHERE number = s.number AND revision > s.revision AND revision <= ?2))"
)


def pack(connection: SqliteConnection, oldest: int) -> int:
    """Forget what cannot be seen from revision `oldest` on; gives how many versions. Raises `ValueError`."""

    def move(database: sqlite3.Connection) -> bool:
        meta = dict(database.execute("SELECT name, value FROM meta WHERE name IN ('oldest', 'revision')").fetchall())
        if oldest > meta["revision"]:
            raise ValueError(f"the newest revision is {meta['revision']}; {oldest} cannot be the oldest")
        if oldest > meta["oldest"]:
            database.execute("UPDATE meta SET value = ? WHERE name = 'oldest'", (oldest,))
        return oldest >= meta["oldest"] and oldest > 0

    if not connection.write(move):
        return 0
    _name_removals(connection)
    dropped = _forget_versions(connection, oldest)
    _forget_commits(connection, oldest)
    _give_back(connection)
    return dropped


def trim(database: sqlite3.Connection, before: float) -> None:
    """Within a commit: forget what commits made before that time have replaced, and those commits but the last."""
    (oldest,) = database.execute("SELECT value FROM meta WHERE name = 'oldest'").fetchone()
    past = []
    for revision, made, numbers in database.execute(
        "SELECT revision, time, numbers FROM commits WHERE revision >= ? ORDER BY revision", (oldest,)
    ):
        if made >= before:
            break
        past.append((revision, numbers))
    if not past or past[-1][0] <= oldest:
        return
    newest = past[-1][0]
    database.execute("UPDATE meta SET value = ? WHERE name = 'oldest'", (newest,))
    for _, text in past:
        numbers = list(numbers_of(text))
        for start in range(0, len(numbers), CHUNK):
            chunk = str(numbers[start : start + CHUNK])
            _name_removals_of(database, "number IN (SELECT value FROM json_each(?))", (chunk,))
            database.execute(
                f"DELETE FROM superseded AS s WHERE number IN (SELECT value FROM json_each(?1)) AND {_UNSEEN}",
                (chunk, newest),
            )
    database.execute("DELETE FROM commits WHERE revision < ?", (newest,))


def erase(connection: SqliteConnection, ids: dict[int, str]) -> None:
    """Forget every version of those removed objects, by their numbers; the file keeps no byte of them.

    Raises `ValueError` where one is still there, `StorageError` if other processes never let the log be emptied.
    """

    def work(database: sqlite3.Connection) -> None:
        numbers = list(ids)
        for start in range(0, len(numbers), CHUNK):
            chunk = str(numbers[start : start + CHUNK])
            for (number,) in database.execute(f"SELECT number FROM {LISTED} records ON number = value", (chunk,)):
                raise ValueError(f"{ids[number]} is still there: it must be removed first")
        for start in range(0, len(numbers), CHUNK):
            chunk = str(numbers[start : start + CHUNK])
            _name_removals_of(database, "number IN (SELECT value FROM json_each(?))", (chunk,))
            database.execute(
                "DELETE FROM superseded AS s WHERE number IN (SELECT value FROM json_each(?)) AND EXISTS"
                " (SELECT 1 FROM superseded WHERE number = s.number AND revision > s.revision)",
                (chunk,),
            )

    connection.write(work)  # also for none: a read-only store says so
    if not ids:
        return
    try:
        connection.read(_rewrite)
        connection.empty_log()
    except DiskFull as error:
        error.message = (
            f"The rows of {', '.join(sorted(ids.values())[:5])} are deleted, but no space is left to rewrite"
            f" {connection.path!r}: their bytes may still be in it."
        )
        error.hint = "Make room, and call it again."
        raise


def _name_removals(connection: SqliteConnection) -> None:
    """Give the rows of removals their ids, where a store of an earlier release has none there."""
    after = 0

    def work(database: sqlite3.Connection) -> int:
        rows = database.execute(
            "SELECT rowid FROM superseded WHERE rowid > ? ORDER BY rowid LIMIT 1 OFFSET ?", (after, ROWS)
        ).fetchall()
        last: int = rows[0][0] if rows else _LAST
        _name_removals_of(database, "rowid > ? AND rowid <= ?", (after, last))
        return last

    while after < _LAST:
        after = connection.write(work)


def _name_removals_of(database: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> None:
    rows = database.execute(f"SELECT rowid, number FROM superseded WHERE {condition} AND frame IS NULL", values)
    for rowid, number in rows.fetchall():
        found = database.execute(
            f"SELECT substr(frame, 1, {HEAD}) FROM superseded WHERE number = ? AND typeof(frame) = 'blob' LIMIT 1",
            (number,),
        ).fetchone()
        if found is not None:
            database.execute("UPDATE superseded SET frame = ? WHERE rowid = ?", (readable_id(found[0]), rowid))


def _forget_versions(connection: SqliteConnection, oldest: int) -> int:
    after, dropped = 0, 0

    def work(database: sqlite3.Connection) -> tuple[int, int]:
        rows = database.execute(
            "SELECT rowid FROM superseded WHERE rowid > ? ORDER BY rowid LIMIT 1 OFFSET ?", (after, ROWS)
        ).fetchall()
        last: int = rows[0][0] if rows else _LAST
        deleted = database.execute(
            f"DELETE FROM superseded AS s WHERE rowid > ?1 AND rowid <= ?3 AND {_UNSEEN}", (after, oldest, last)
        )
        return last, deleted.rowcount

    while after < _LAST:
        after, count = connection.write(work)
        dropped += count
    return dropped


def _forget_commits(connection: SqliteConnection, oldest: int) -> None:
    """Forget the commits below `oldest` of which nothing is left. A version so old is never written again."""
    needed: set[int] = set()
    for table in ("records", "superseded"):
        sql = f"SELECT rowid, revision FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {ROWS}"
        after = -1
        while rows := _rows(connection, sql, after):
            needed.update(revision for _, revision in rows if revision < oldest)
            after = rows[-1][0]
    sql, after = f"SELECT revision FROM commits WHERE revision > ? ORDER BY revision LIMIT {ROWS}", 0
    while rows := _rows(connection, sql, after):
        gone = [row for row in rows if row[0] < oldest and row[0] not in needed]
        if gone:
            connection.write(partial(_delete_commits, gone))
        after = rows[-1][0]
        if after >= oldest:
            return


def _rows(connection: SqliteConnection, sql: str, after: int) -> list[Any]:
    return connection.read(lambda database: database.execute(sql, (after,)).fetchall())


def _delete_commits(gone: list[Any], database: sqlite3.Connection) -> None:
    database.executemany("DELETE FROM commits WHERE revision = ?", gone)


def _give_back(connection: SqliteConnection) -> None:
    """Give free pages back to the file system, if there are many and nobody is in the way."""
    free, pages = connection.read(
        lambda database: database.execute(
            "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count"
        ).fetchone()
    )
    if free * WORTH <= pages:
        return
    try:
        connection.read(_rewrite)
        connection.empty_log()
    except (StoreBusy, StorageError):
        return  # the free pages are used again by what is written next; the next packing tries again


def _rewrite(database: sqlite3.Connection) -> None:
    database.execute("VACUUM")
