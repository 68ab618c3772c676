"""Putting good copies in the place of what is damaged in a SQLite store, and making its indexes anew."""

from __future__ import annotations

import sqlite3
from typing import Any

from perdure.backends.base import Keep, number_of
from perdure.backends.sqlite.replaying import SqlitePast
from perdure.backends.sqlite.writing import name_classes
from perdure.errors import CorruptRecord, NewerFormat
from perdure.records.frame import parse_unverified
from perdure.records.queries import stored_key
from perdure.records.values import INTERNAL, Record

_TOGETHER = 500  # records that are in memory at a time


class SqliteMending(SqlitePast):
    """`mend` and `renew_indexes`."""

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        number = number_of(id_)

        def work(connection: sqlite3.Connection) -> None:
            for table in ("records", "superseded"):
                where = f"FROM {table} WHERE number = ? AND revision = ?"
                row = connection.execute(f"SELECT frame {where}", (number, revision)).fetchone()
                if row is not None:
                    sql = f"UPDATE {table} SET frame = ? WHERE number = ? AND revision = ?"
                    keep(_bytes(row[0]))
                    connection.execute(sql, (frame, number, revision))
                    return
            later = "SELECT 1 FROM records WHERE number = ?1 UNION ALL SELECT 1 FROM superseded WHERE number = ?1"
            if connection.execute(f"{later} AND revision > ?2", (number, revision)).fetchone():
                connection.execute("INSERT INTO superseded VALUES (?, ?, ?)", (number, revision, frame))
            else:
                class_ = self._class_of(connection, parse_unverified(frame))
                sql = "INSERT INTO records (number, revision, class, frame) VALUES (?, ?, ?, ?)"
                connection.execute(sql, (number, revision, class_, frame))

        self._connection.write(work)

    def renew_indexes(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            (format_,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
            places = self._index.places(connection) if format_ > 1 else {}
            if places:
                connection.execute("DELETE FROM indexed WHERE number NOT IN (SELECT number FROM records)")
            after = -1
            sql = f"SELECT number, class, frame FROM records WHERE number > ? ORDER BY number LIMIT {_TOGETHER}"
            while rows := connection.execute(sql, (after,)).fetchall():
                after = rows[-1][0]
                for number, class_, frame in rows:
                    self._renew(connection, number, class_, frame, places)

        self._connection.write(work)

    def _renew(
        self, connection: sqlite3.Connection, number: int, class_: object, frame: object, places: dict[Any, int]
    ) -> None:
        try:
            record = parse_unverified(_bytes(frame))
        except (CorruptRecord, NewerFormat):
            return  # what it is of, nobody knows
        right = self._class_of(connection, record)
        if right != class_:
            connection.execute("UPDATE records SET class = ? WHERE number = ?", (right, number))
        if places:
            connection.execute("DELETE FROM indexed WHERE number = ?", (number,))
        for (of, field), place in places.items():
            if of == right and field in record.fields:
                row = (place, stored_key(record.fields, field), number)
                connection.execute("INSERT INTO indexed VALUES (?, ?, ?)", row)

    @staticmethod
    def _class_of(connection: sqlite3.Connection, record: Record) -> int:
        known: dict[tuple[str, int], int] = {}
        name_classes(connection, {(record.flags, record.class_name)}, known)
        return known[record.class_name, record.flags & INTERNAL]


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value or "").encode()
