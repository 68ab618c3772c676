"""The backend on MySQL and MariaDB, through PyMySQL.

- Every connection is strict (a value that does not fit is an error), speaks UTF-8 with four bytes, and reads committed.
- Waiting for locks ends after `timeout`, in whole seconds: for rows (innodb_lock_wait_timeout) and for whole tables
  (lock_wait_timeout), which a dump or ALTER TABLE may have locked. The driver waits a little longer for an answer.
- Making tables commits at once here: an attempt that was cut off leaves empty tables, which the next one replaces. A
  named lock of the server's keeps others out meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from sqlalchemy.engine import URL

from perdure.backends.base import NewKey
from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.connection import GRACE, Cursor, Kind, skip_results
from perdure.backends.server.errors import busy, mysql_trouble
from perdure.backends.server.mysql_writing import MysqlWriter, numbered
from perdure.backends.server.schema import FORMAT, Schema
from perdure.backends.server.writing import Writer

_FOUND_ROWS, _MULTI_STATEMENTS = 1 << 1, 1 << 16  # of the protocol's flags; the first is what SQLAlchemy always sets


class MysqlBackend(ServerBackend):
    """A store in a MySQL or MariaDB database; see `ServerBackend` for the arguments."""

    def _kind(self, url: URL, timeout: float) -> Kind:
        seconds = max(1, math.ceil(timeout))
        session = (
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
            f" SESSION innodb_lock_wait_timeout = {seconds}, SESSION lock_wait_timeout = {seconds},"
            " SESSION autocommit = 1;"
            " SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED" + (", READ ONLY" if self.read_only else "")
        )
        arguments: dict[str, Any] = {"charset": "utf8mb4", "client_flag": _FOUND_ROWS | _MULTI_STATEMENTS}
        silence = seconds + math.ceil(GRACE)
        usual = {"connect_timeout": max(2, seconds), "read_timeout": silence, "write_timeout": silence}
        arguments |= {name: value for name, value in usual.items() if name not in url.query}

        def prepare(cursor: Cursor) -> None:
            cursor.execute(session)
            skip_results(cursor)

        return Kind({}, arguments, prepare, mysql_trouble, lambda connection: connection.cursor())

    def _make_writer(self, schema: Schema) -> Writer:
        def largest(cursor: Cursor) -> int:
            cursor.execute("SELECT @@max_allowed_packet")
            return int(cursor.fetchone()[0])

        return MysqlWriter(schema, self.place, self._connection.errors, self._connection.read(largest))

    def _make_tables(self, cursor: Cursor, new_key: NewKey) -> None:
        cursor.execute("SELECT database()")
        own_name = f"{cursor.fetchone()[0]}.{self.table_name}"
        lock = "perdure." + blake2b(own_name.encode(), digest_size=16).hexdigest()
        cursor.execute("SELECT get_lock(%s, %s)", (lock, max(1, math.ceil(self._timeout))))
        if not cursor.fetchone()[0]:
            raise busy(self.place, self._timeout, "another process makes the store")
        try:
            left = self._left_over(cursor)
            if left is not None:  # the right to drop tables is needed only where there are some
                for sql in (*self._schema.dropping(left), *self._schema.creating()):
                    cursor.execute(sql)
                cursor.execute("START TRANSACTION")
                self._insert_meta(cursor, new_key)
                cursor.execute("COMMIT")
        finally:
            cursor.execute("SELECT release_lock(%s)", (lock,))

    def _left_over(self, cursor: Cursor) -> set[str] | None:
        """The empty tables of an attempt that was cut off; None if there is a store, or another program's tables."""
        found = self._found_columns(cursor)
        if self._schema.foreign(found):
            return None
        tables = {table for table, _ in found}
        quote = self._connection.dialect.identifier_preparer.quote_identifier
        for table in tables:
            cursor.execute(f"SELECT 1 FROM {quote(table)} LIMIT 1")
            if cursor.fetchall():
                return None
        return tables

    def _found_columns(self, cursor: Cursor) -> list[tuple[str, str]]:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = database() AND table_name IN %s",
            (tuple(self._schema.columns),),
        )
        return [(table, column) for table, column in cursor.fetchall()]

    def _among(self, column: str, numbers: Iterable[int]) -> tuple[str, tuple[object, ...]]:
        return numbered(column, sorted(numbers)), ()

    def _take_numbers(self, cursor: Cursor, count: int, durable: bool) -> int | None:
        # The server cannot be told to spare one commit its wait for the disk.
        cursor.execute(
            self._schema.spell(
                f"UPDATE {{counter}} SET next_number = last_insert_id(next_number) + {count}"
                f" WHERE (SELECT format FROM {{meta}} WHERE {{is_own}}) <= {FORMAT}"
            )
        )
        return cursor.lastrowid if cursor.rowcount else None
