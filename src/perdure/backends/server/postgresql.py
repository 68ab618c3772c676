"""The backend on PostgreSQL, through psycopg 3.

- Lists go as arrays and frames come back binary; psycopg prepares what is asked again and again.
- Waiting for locks ends after `timeout` (lock_timeout). A connection is given up a little later than that if the server
  says nothing; TCP's keep-alives notice a host that is gone, on both sides, and also while nothing is asked.
- All tables of a store are made in one transaction.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b
from typing import Any, Self, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen
from sqlalchemy.engine import URL

from perdure.backends.base import NewKey
from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.connection import GRACE, Cursor, Kind
from perdure.backends.server.errors import postgresql_trouble
from perdure.backends.server.postgresql_writing import PostgresqlWriter, array, run
from perdure.backends.server.schema import FORMAT, Schema
from perdure.backends.server.writing import Writer
from perdure.errors import StorageError

T = TypeVar("T")

_KEEP_ALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}  # seconds, and how often


class PostgresqlBackend(ServerBackend):
    """A store in a PostgreSQL database; see `ServerBackend` for the arguments."""

    def _kind(self, url: URL, timeout: float) -> Kind:
        session = [
            f"SET lock_timeout = {max(1, int(timeout * 1000))}",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED"
            + (", READ ONLY" if self.read_only else ""),
            "SET client_encoding = 'UTF8'",
            *(f"SET tcp_{name} = {value}" for name, value in _KEEP_ALIVE.items()),
            # What COMMIT said is there must be there after a power cut, whatever the database's own setting is.
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        ]
        usual = {**_KEEP_ALIVE, "connect_timeout": str(max(2, int(timeout))), "application_name": "perdure"}
        arguments = {name: value for name, value in usual.items() if name not in url.query}
        # Without asking each database for the numbers of a type that is never used.
        return Kind(
            {"use_native_hstore": False},
            arguments,
            lambda cursor: run(cursor, "; ".join(session)),
            postgresql_trouble,
            _cursor,
            partial(_PatientConnection.connect_for, timeout + GRACE),
        )

    def _make_writer(self, schema: Schema) -> Writer:
        return PostgresqlWriter(schema, self.place)

    def _make_tables(self, cursor: Cursor, new_key: NewKey) -> None:
        lock = int.from_bytes(blake2b(self.table_name.encode(), digest_size=8).digest(), "big", signed=True)
        run(cursor, f"BEGIN; SELECT pg_advisory_xact_lock({lock})")
        if not self._found_columns(cursor):  # else another process was first, or another program is there
            cursor.execute("SHOW server_encoding")
            encoding = cursor.fetchone()[0]
            if encoding != "UTF8":
                raise StorageError(
                    f"The database of {self.place} cannot hold every text: its encoding is {encoding}.",
                    hint="Make a database with ENCODING 'UTF8'.",
                )
            external = [  # looked into without being unpacked; what can be compressed, already is
                "ALTER TABLE {records} ALTER frame SET STORAGE EXTERNAL",
                "ALTER TABLE {superseded} ALTER frame SET STORAGE EXTERNAL",
                "ALTER TABLE {pieces} ALTER content SET STORAGE EXTERNAL",
            ]
            run(cursor, ";".join((*self._schema.creating(), *map(self._schema.spell, external))))
            self._insert_meta(cursor, new_key)
        cursor.execute("COMMIT")

    def _found_columns(self, cursor: Cursor) -> list[tuple[str, str]]:
        cursor.execute(
            "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE c.relname = ANY(%s) AND c.relkind NOT IN ('i', 'I') AND a.attnum > 0 AND NOT a.attisdropped"
            " AND pg_table_is_visible(c.oid)",
            (list(self._schema.columns),),
        )
        return [(table, column) for table, column in cursor.fetchall()]

    def _among(self, column: str, numbers: Iterable[int]) -> tuple[str, tuple[object, ...]]:
        return f"{column} = ANY(%s::bigint[])", (array(numbers),)

    def _take_numbers(self, cursor: Cursor, count: int, durable: bool) -> int | None:
        # Not durable: only the end of this transaction does not wait for the disk; a later commit's does, for both.
        lazily = "" if durable else ", set_config('synchronous_commit', 'off', true)"
        cursor.execute(
            self._schema.spell(
                "UPDATE {counter} SET next_number = next_number + %s"
                f" WHERE (SELECT format FROM {{meta}} WHERE {{is_own}}) <= {FORMAT} RETURNING next_number - %s{lazily}"
            ),
            (count, count),
        )
        row = cursor.fetchone()
        return None if row is None else int(row[0])


class _PatientConnection(Connection[Any]):
    """A connection that waits for the server, whatever it does, for at most `patience` seconds at a time."""

    patience = math.inf

    @classmethod
    def connect_for(cls, patience: float, *arguments: Any, **options: Any) -> Self:
        """A new connection."""
        connection = cls.connect(*arguments, **options)
        connection.patience = patience
        return connection

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        return super().wait(_limited(gen, self.patience), *arguments, **options)


def _limited(waiting: PQGen[T], patience: float) -> PQGen[T]:
    """What `waiting` does, which is woken several times a second; raises `OperationalError` if nothing came so long."""
    try:
        wanted = next(waiting)
        since = time.monotonic()
        while True:
            ready = yield wanted
            if ready:
                since = time.monotonic()
            elif time.monotonic() - since > patience:
                raise OperationalError(f"the server has said nothing for {patience:g} seconds")
            wanted = waiting.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def _cursor(connection: Any) -> Cursor:
    cursor: Cursor = connection.cursor(binary=True)
    return cursor
