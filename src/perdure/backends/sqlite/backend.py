"""The backend on one SQLite file, through the standard library alone.

- Durable by default: write-ahead log, `synchronous=FULL`; one `apply` is one transaction.
- Every public method is one snapshot: one statement, or one that later commits cannot make wrong.
- Rows are found by number; then the id inside the frame must be the one that was asked for.
- A damaged file gives `CorruptRecord` or `StorageError` from every call that reads, never an error of Python's own.
- A batch whose view is at the stored revision cannot conflict, and looks nothing up but the numbers of new records.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

from perdure.backends.base import (
    CHUNK,
    FEW,
    SMALL,
    NewKey,
    no_key,
    number_of,
    numbers_of,
    too_old,
)
from perdure.backends.damage import expect, reads, reads_each
from perdure.backends.frames import by_id, names_by_id, numbers_in
from perdure.backends.naming import checked_path
from perdure.backends.sqlite.columns import SqliteColumns
from perdure.backends.sqlite.connection import ReadOnlySqliteConnection, SqliteConnection
from perdure.backends.sqlite.finding import SqliteFinding, in_snapshot
from perdure.backends.sqlite.index import SqliteIndex
from perdure.backends.sqlite.mending import SqliteMending
from perdure.backends.sqlite.packing import erase, pack
from perdure.backends.sqlite.rows import (
    HEAD,
    HEADS_AT,
    LISTED,
    as_json,
    commit_in,
    id_in,
    is_dense,
    versions_in,
)
from perdure.records.frame import flags_of, parse_unverified
from perdure.records.queries import Found, Query
from perdure.records.values import INTERNAL, Commit, Description, Version

NO_COLUMNS: Mapping[str, Any] = {}

_LAST = 2**63 - 1  # above every revision and every number

Rows = list[Any]  # of tuples

T = TypeVar("T")


class SqliteBackend(SqliteMending):
    """A store in the SQLite file `path`; `new_key` is called when a store is made.

    A missing file is made unless `create=False`; an empty one becomes a store. `timeout` is how many seconds a call
    waits for other processes; `columns` are further columns of the table of records, with their types in SQL, that
    hold what headers tell under their names; `table_name` lets the file hold other things besides. Raises
    `StoreNotFound`, `NotAStore`, `NewerFormat`, `AccessDenied`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        new_key: NewKey = no_key,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        columns: Mapping[str, Any] = NO_COLUMNS,
        table_name: str | None = None,
    ):
        self.table_name = table_name
        self.read_only = read_only
        self.path = checked_path(path)
        self.place = repr(self.path)
        self._class_numbers = {}
        self._last = None, {}
        self._sound = set()
        self._index = SqliteIndex()
        self._finding = SqliteFinding(self._index)
        self._columns = SqliteColumns(columns)
        self._connection = (
            ReadOnlySqliteConnection(self.path, timeout=timeout, table=table_name)
            if read_only
            else SqliteConnection(self.path, new_key=new_key, create=create, timeout=timeout, table=table_name)
        )
        if self._columns and not read_only:
            try:
                self._connection.write(self._columns.add)
            except BaseException:
                self._connection.close()
                raise

    @reads
    def describe(self) -> Description:
        meta = self._connection.read(self._meta)
        expect(str, meta["store"])
        told = (meta[name] for name in ("format", "store", "key", "revision", "next_number", "oldest"))
        return Description(*told)._replace(encrypted=meta.get("encrypted") == 1)

    @reads
    def revision(self) -> int:
        # As fast as PRAGMA data_version with a cache would be (both 4 us): the locks of the read are what costs.
        return expect(int, self._rows("SELECT value FROM meta WHERE name = 'revision'")[0][0])

    def reserve(self, count: int, *, durable: bool = True) -> int:
        def work(connection: sqlite3.Connection) -> int:
            first: int = self._meta(connection)["next_number"]
            connection.execute("UPDATE meta SET value = ? WHERE name = 'next_number'", (first + count,))
            return first

        return self._connection.write(work, durable=durable)

    def give_back(self, first: int, end: int) -> bool:
        sql = "UPDATE meta SET value = ? WHERE name = 'next_number' AND value = ?"
        return self._connection.try_write(lambda connection: connection.execute(sql, (first, end)).rowcount == 1)

    @reads
    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        asked = list(ids)
        found = by_id(self._find("frame", asked, at))
        wanted = set(asked)
        if found.keys() == wanted:
            return found
        missing = [id_ for id_ in wanted if id_ not in found]
        found = {id_: found[id_] for id_ in asked if id_ in found}
        if missing and at is not None:
            found.update(self._superseded(missing, at))
        if len(found) < len(wanted):
            self._refuse_damaged(wanted.difference(found))
        return found

    @reads
    def read_run(self, first: int, end: int, at: int) -> dict[str, bytes]:
        sql = "SELECT frame FROM records WHERE number >= ? AND number < ? AND revision <= ? AND length(frame) < ?"
        return by_id(self._rows(sql, (first, end, at, SMALL)))

    def watch(self) -> Callable[[], object]:
        return self._connection.watch

    @reads
    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        asked = list(ids)
        wanted = set(asked)
        rows = self._find(f"class, substr(frame, 1, {HEAD})", asked, at)
        names = dict(self._rows("SELECT number, name FROM classes"))
        found = names_by_id(rows, names, wanted)
        missing = wanted.difference(found)
        if missing and at is not None:
            older = self._superseded(missing, at)
            found.update({id_: parse_unverified(frame).class_name for id_, frame in older.items()})
        return found

    @reads
    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        if at is not None:
            return self._ids_at(at, internal)
        index = " INDEXED BY internal_records WHERE class < 0" if internal else " WHERE class > 0"
        rows = self._rows(f"SELECT number, substr(frame, 1, {HEAD}) FROM records{index} ORDER BY number")
        return [id_in(head, number) for number, head in rows]

    @reads_each
    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        if at is not None:
            yield from self.scan_at(at, class_name, internal, after)
            return
        if class_name is None:
            condition, only_internal = {None: "", False: " AND class > 0", True: ""}[internal], internal is True
        else:
            numbers = [n for (n,) in self._rows("SELECT number FROM classes WHERE name = ?", (class_name,))]
            numbers = [n for n in numbers if internal is None or internal == (n < 0)]
            condition = f" AND class IN ({', '.join(map(str, numbers))})"
            only_internal = bool(numbers) and max(numbers) < 0
        if only_internal:
            yield from self._scan_internal(condition, after)
            return
        sql = f"SELECT number, frame FROM records WHERE number > ?{condition} ORDER BY number LIMIT {CHUNK}"
        yield from self._scan(sql, after, ())

    @reads
    def changes(self, since: int) -> tuple[int, set[int]]:
        rows = self._rows(
            "SELECT value, NULL FROM meta WHERE name = 'revision'"
            " UNION ALL SELECT revision, numbers FROM commits WHERE revision > ?",
            (since,),
        )
        self._refuse_too_old(since)
        revision = rows[0][0] if rows[0][1] is None else None  # else the row of the revision is gone
        return expect(int, revision), {number for _, text in rows[1:] for number in numbers_of(text)}

    @reads
    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        rows = self._rows(
            "SELECT revision, time, note, code, numbers FROM commits WHERE revision < ? ORDER BY revision DESC LIMIT ?",
            (_LAST if before is None else before, -1 if limit is None else limit),
        )
        return [commit_in(row) for row in rows]

    @reads
    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        sql = f"SELECT revision, time, note, code, numbers FROM {LISTED} commits ON revision = value"
        return {row[0]: commit_in(row) for row in self._rows(sql, (str(sorted(revisions)),))}

    @reads
    def history(self, id_: str) -> list[Version]:
        number = number_of(id_)
        rows = self._rows(
            "SELECT revision, frame FROM records WHERE number = ?"
            " UNION ALL SELECT revision, frame FROM superseded WHERE number = ? ORDER BY revision DESC",
            (number, number),
        )
        return versions_in(rows, number, id_)

    @reads
    def referrers(self, ids: Collection[str]) -> dict[str, list[str]]:
        wanted = set(ids)
        if len(wanted) > FEW:
            return super().referrers(wanted)
        if not wanted:
            self.revision()  # raises where the store is closed
            return {}
        # SQLite searches the bytes; what it finds may also be a longer id or a text, and is looked at.
        condition = " OR ".join(["instr(frame, ?)"] * len(wanted))
        sql = f"SELECT number, frame FROM records WHERE number > ? AND ({condition}) ORDER BY number LIMIT {CHUNK}"
        found: dict[str, list[str]] = {}
        for frame in self._scan(sql, -1, tuple(id_.encode() for id_ in wanted)):
            record = parse_unverified(frame)
            for target in wanted.intersection(record.references) - {record.id}:
                found.setdefault(target, []).append(record.id)
        return found

    @reads
    def find(self, query: Query) -> Found:
        revision, ids = self._snapshot(lambda connection: self._finding.find(connection, query))
        return super().find(query) if ids is None else Found(revision, ids)

    @reads
    def count(self, query: Query) -> tuple[int, int]:
        revision, number = self._snapshot(lambda connection: self._finding.count(connection, query))
        return super().count(query) if number is None else (revision, number)

    @reads
    def lacking(self, query: Query) -> list[str]:
        _, ids = self._snapshot(lambda connection: self._finding.lacking(connection, query))
        return super().lacking(query) if ids is None else ids

    @reads
    def indexes(self) -> dict[str, list[str]]:
        _, found = self._snapshot(self._index.names)
        return found or {}

    @reads
    def class_names(self) -> list[str]:
        return [expect(str, name) for (name,) in self._rows("SELECT DISTINCT name FROM classes")]

    @reads
    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        listed = str(sorted(numbers))
        rows = self._rows(HEADS_AT, (listed, at, listed, at, at))
        self._refuse_too_old(at)
        return [id_in(head, number) for number, head in sorted(rows)]

    def _snapshot(self, work: Callable[[sqlite3.Connection], T | None]) -> tuple[int, T | None]:
        """The revision, and what `work` gives in one snapshot with it; None for a store without an index."""
        return self._connection.read(lambda connection: in_snapshot(connection, self._meta, work))

    def pack(self, oldest: int) -> int:
        return pack(self._connection, oldest)

    def erase(self, ids: Collection[str]) -> None:
        erase(self._connection, {number_of(id_): id_ for id_ in ids if self.history(id_)})

    def size(self) -> int:
        self.revision()  # raises where the store is closed or gone
        return sum(os.path.getsize(path) for path in (self.path, f"{self.path}-wal") if os.path.exists(path))

    def close(self) -> None:
        self._connection.close()

    # -- reading ---------------------------------------------------------------------------------------------

    def _rows(self, sql: str, values: Sequence[object] = ()) -> Rows:
        return self._connection.read(lambda connection: connection.execute(sql, values).fetchall())

    def _find(self, columns: str, ids: list[str], at: int | None) -> Rows:
        """`columns` of the records with those ids' numbers, written at revision `at` or before; maybe of others too."""
        until = _LAST if at is None else at
        if len(ids) < 2:
            sql = f"SELECT {columns} FROM records WHERE number = ? AND revision <= ?"
            return self._rows(sql, (number_of(ids[0]), until) if ids else (None, until))
        numbers = sorted({*numbers_in(ids)})
        first, last = numbers[0], numbers[-1]
        if not is_dense(first, last, len(numbers)):
            sql = f"SELECT {columns} FROM {LISTED} records ON number = value WHERE revision <= ?"
            return self._rows(sql, (str(numbers), until))
        # Where the numbers leave hardly a gap, a range is fastest.
        sql = f"SELECT {columns} FROM records WHERE number BETWEEN ? AND ? AND revision <= ?"
        return self._rows(sql, (first, last, until))

    def _superseded(self, ids: Collection[str], at: int) -> dict[str, bytes]:
        """The frames of objects that were replaced or removed after revision `at`."""
        rows = self._rows(
            f"SELECT frame FROM {LISTED} superseded ON number = value WHERE typeof(frame) NOT IN ('null', 'text')"
            " AND revision = (SELECT max(revision) FROM superseded WHERE number = value AND revision <= ?)",
            (as_json(ids), at),
        )
        self._refuse_too_old(at)
        found = by_id(rows)
        return {id_: found[id_] for id_ in ids if id_ in found}

    def _refuse_too_old(self, at: int) -> None:
        """Asked after reading: what was read may have been taken away meanwhile."""
        oldest = expect(int, self._rows("SELECT value FROM meta WHERE name = 'oldest'")[0][0])
        if at < oldest:
            raise too_old(at, oldest)

    def _ids_at(self, at: int, internal: bool) -> list[str]:
        rows = self._rows(
            f"SELECT number, substr(frame, 1, {HEAD}) FROM records WHERE revision <= ? UNION ALL"
            f" SELECT number, substr(frame, 1, {HEAD}) FROM"
            " (SELECT number, max(revision), frame FROM superseded WHERE revision <= ? GROUP BY number) AS older"
            " WHERE typeof(frame) NOT IN ('null', 'text')"
            " AND NOT EXISTS (SELECT 1 FROM records WHERE records.number = older.number AND records.revision <= ?)"
            " ORDER BY 1",
            (at, at, at),
        )
        self._refuse_too_old(at)
        return [id_in(head, number) for number, head in rows if bool(flags_of(head) & INTERNAL) == internal]

    def _refuse_damaged(self, ids: Collection[str]) -> None:
        """Raise `CorruptRecord` if one of those ids was not found because its own frame is damaged."""
        numbers = as_json(ids)
        for (frame,) in self._rows(f"SELECT frame FROM {LISTED} records ON number = value", (numbers,)):
            parse_unverified(frame)

    def _scan(self, sql: str, after: int, values: tuple[object, ...]) -> Iterator[bytes]:
        while True:
            rows = self._rows(sql, (after, *values))
            frames = [frame for _, frame in rows]
            sound = frames if all(map(isinstance, frames, repeat(bytes))) else (expect(bytes, each) for each in frames)
            yield from sound  # a look at each, one by one, takes as long as all that it goes through
            if len(rows) < CHUNK:
                return
            after = rows[-1][0]

    def _scan_internal(self, condition: str, after: int) -> Iterator[bytes]:
        sql = f"SELECT number FROM records INDEXED BY internal_records WHERE class < 0{condition}"
        numbers = sorted(number for (number,) in self._rows(sql) if expect(int, number) > after)
        for start in range(0, len(numbers), CHUNK):
            chunk = str(numbers[start : start + CHUNK])
            for (frame,) in self._rows(f"SELECT frame FROM {LISTED} records ON number = value", (chunk,)):
                yield expect(bytes, frame)
