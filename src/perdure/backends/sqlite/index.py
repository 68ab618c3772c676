"""The index of fields in a SQLite store: made when the first indexed class is saved, kept up by each commit.

- `indexes` numbers the pairs of class and field; `indexed` holds one row for each field of each present record.
- Its primary key (index, key, number) answers conditions and orders; `indexed_by_number` leads from a record to its
  keys: for updates, and for questions about several fields.
- A store without these tables has format 1. They raise it to 2, so that a release which does not know them refuses to
  write, instead of letting them go stale.
- A commit of classes without an index touches nothing here; a record whose keys stay the same costs one look-up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain

from perdure.backends.sqlite.rows import LISTED
from perdure.records.queries import sort_key
from perdure.records.values import INTERNAL, Batch, Plain

INDEXED_FORMAT = 2  # of a store that has an index

_TABLES = """
    CREATE TABLE {indexes} (
        number INTEGER PRIMARY KEY, class INTEGER NOT NULL, field TEXT NOT NULL, UNIQUE (class, field)
    );
    CREATE TABLE {indexed} (
        place INTEGER NOT NULL, key BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (place, key, number)
    ) WITHOUT ROWID;
    CREATE INDEX {indexed}_by_number ON {indexed} (number, place)
"""
_TOGETHER = 100  # rows that one INSERT takes

Places = dict[tuple[int, str], int]  # (class number, field) -> place of the index
Row = tuple[int, bytes, int]  # place, key, number


class SqliteIndex:
    """The statements of the index, within the caller's transaction. `prefix` begins the names of all tables."""

    def __init__(self, prefix: str = ""):
        self.records = f"{prefix}records"
        self.classes = f"{prefix}classes"
        self.meta = f"{prefix}meta"
        self.indexes = f"{prefix}indexes"
        self.indexed = f"{prefix}indexed"

    def places(self, connection: sqlite3.Connection) -> Places:
        """Every index that there is."""
        rows = connection.execute(f"SELECT class, field, number FROM {self.indexes}").fetchall()
        return {(number, field): place for number, field, place in rows}

    def names(self, connection: sqlite3.Connection) -> dict[str, list[str]]:
        """The fields of each class that there is an index of."""
        found: dict[str, list[str]] = {}
        sql = f"SELECT name, field FROM {self.indexes} each JOIN {self.classes} named ON named.number = each.class"
        for name, field in connection.execute(f"{sql} ORDER BY each.number"):
            found.setdefault(name, []).append(field)
        return found

    def apply(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        format_: int,
        numbers: Sequence[int],
        gone: Sequence[int],
        class_numbers: Mapping[tuple[str, int], int],
    ) -> None:
        """Bring the index to what the batch writes. Called while `records` still has what the batch replaces.

        `numbers` are those of the drafts, `gone` those that are replaced or removed; `class_numbers` are as in
        `classes`, by name and INTERNAL.
        """
        if format_ < INDEXED_FORMAT:
            self.create(connection)
        known = self.places(connection)
        lost = self._present(connection, gone, known) if gone and known else set()
        if batch.indexed:
            rows = self._wanted(connection, batch, numbers, class_numbers, known)
            if lost:
                stays = lost.intersection(rows)
                rows = [row for row in rows if row not in stays]
                lost -= stays
            rows.sort()
        else:
            rows = []
        if lost:
            sql = f"DELETE FROM {self.indexed} WHERE place = ? AND key = ? AND number = ?"
            connection.executemany(sql, sorted(lost))
        self._insert(connection, rows)

    def create(self, connection: sqlite3.Connection) -> None:
        """Make the tables, in a store of format 1; nothing is in them."""
        for statement in _TABLES.format(indexes=self.indexes, indexed=self.indexed).split(";"):
            connection.execute(statement)
        connection.execute(f"UPDATE {self.meta} SET value = ? WHERE name = 'format'", (INDEXED_FORMAT,))

    def _present(self, connection: sqlite3.Connection, gone: Sequence[int], known: Places) -> set[Row]:
        """The rows of those numbers, as far as they are of classes that have an index."""
        classes = ", ".join(str(number) for number in {number for number, _ in known})
        rows = connection.execute(
            f"SELECT each.place, each.key, each.number FROM {LISTED} {self.records} present ON present.number = value"
            f" AND present.class IN ({classes}) CROSS JOIN {self.indexed} each ON each.number = value",
            (str(list(gone)),),
        )
        return set(rows)

    def _wanted(
        self,
        connection: sqlite3.Connection,
        batch: Batch,
        numbers: Sequence[int],
        class_numbers: Mapping[tuple[str, int], int],
        known: Places,
    ) -> list[Row]:
        """The rows for the batch's drafts."""
        asked = {
            (name, internal): [(field, self._place(connection, number, field, known)) for field in batch.indexed[name]]
            for (name, internal), number in class_numbers.items()
            if name in batch.indexed
        }
        keys: dict[Plain, bytes] = {}
        rows: list[Row] = []
        for (_, _, flags, name, _, _, _, fields, _), number in zip(batch.drafts, numbers, strict=True):
            for field, place in asked.get((name, flags & INTERNAL), ()):
                if field in fields:
                    value = fields[field]
                    key = keys.get(value)
                    if key is None:
                        key = keys[value] = sort_key(value)  # 1, 1.0 and True are one, and have one key
                    rows.append((place, key, number))
        return rows

    def _place(self, connection: sqlite3.Connection, class_number: int, field: str, known: Places) -> int:
        """The number of an index, which is made if it is not there."""
        place = known.get((class_number, field))
        if place is None:
            place = max(known.values(), default=0) + 1
            connection.execute(f"INSERT INTO {self.indexes} VALUES (?, ?, ?)", (place, class_number, field))
            known[class_number, field] = place
        return place

    def _insert(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        for start in range(0, len(rows), _TOGETHER):
            some = rows[start : start + _TOGETHER]
            marks = ", ".join(["(?, ?, ?)"] * len(some))
            connection.execute(f"INSERT INTO {self.indexed} VALUES {marks}", tuple(chain.from_iterable(some)))
