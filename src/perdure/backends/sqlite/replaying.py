"""A history that comes from elsewhere, written into a SQLite store: see `Backend.begin` and `Backend.replay`."""

from __future__ import annotations

import sqlite3

from perdure.backends.base import runs_of
from perdure.backends.damage import reads
from perdure.backends.sqlite.applying import SqliteApplying
from perdure.backends.sqlite.index import INDEXED_FORMAT
from perdure.backends.sqlite.rows import HEAD, id_in
from perdure.backends.sqlite.schema import ENCRYPTED_FORMAT, raise_format
from perdure.records.values import Batch, Past

# The last removal of each number that is not there; the id is in its own row, or in an older version.
_REMOVALS = (
    f"SELECT number, max(revision), (SELECT substr(frame, 1, {HEAD}) FROM superseded WHERE number = s.number"
    " AND typeof(frame) IN ('text', 'blob') LIMIT 1) FROM superseded AS s WHERE typeof(frame) IN ('null', 'text')"
    " AND NOT EXISTS (SELECT 1 FROM records WHERE number = s.number) GROUP BY number"
)


class SqlitePast(SqliteApplying):
    """`removals`, `columns`, `begin`, `mark_encrypted` and `replay_part`."""

    @reads
    def removals(self) -> dict[str, int]:
        rows = self._connection.read(lambda connection: connection.execute(_REMOVALS).fetchall())
        return {id_in(head, number): revision for number, revision, head in rows}

    @reads
    def columns(self) -> list[str]:
        return self._connection.read(self._columns.further)

    def begin(self, oldest: int, key: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            (revision,) = connection.execute("SELECT value FROM meta WHERE name = 'revision'").fetchone()
            if revision:
                raise ValueError(f"the store is at revision {revision}")
            values = ((oldest, "oldest"), (key, "key"))
            connection.executemany("UPDATE meta SET value = ? WHERE name = ?", values)

        self._connection.write(work)

    def mark_encrypted(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            if meta["revision"]:
                raise ValueError(f"the store is at revision {meta['revision']}")
            if meta["format"] < INDEXED_FORMAT:
                self._index.create(connection)  # each format has all that those below it have
            raise_format(connection, ENCRYPTED_FORMAT)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('encrypted', 1)")

        self._connection.write(work)

    def replay_part(self, past: Past, batch: Batch) -> None:
        known = dict(self._class_numbers)

        def work(connection: sqlite3.Connection) -> None:
            before = past.revision - 1
            meta = {**self._meta(connection), "revision": before}
            self._apply(connection, batch._replace(seen=before), lambda draft, _: past.frames[draft.id], known, meta)
            if past.commit is None:
                connection.execute("DELETE FROM commits WHERE revision = ?", (past.revision,))
            else:
                runs = runs_of(past.commit.numbers)
                connection.execute("UPDATE commits SET numbers = ? WHERE revision = ?", (runs, past.revision))

        self._connection.write(work)
        self._class_numbers = known
