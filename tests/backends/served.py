"""A store on a server, for tests of what is around its tables: other sessions, broken connections, what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from servers import engine_at, execute, query, url_of
from sqlalchemy import make_url

from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.mysql import MysqlBackend
from perdure.backends.server.postgresql import PostgresqlBackend

CLASSES: dict[str, type[ServerBackend]] = {"postgresql": PostgresqlBackend, "mysql": MysqlBackend}


class Server:
    """A kind of server, and the tables of one store there."""

    def __init__(self, kind: str, name: str):
        self.kind = kind
        self.name = name
        self.url = url_of(kind)
        self.opened: list[ServerBackend] = []

    def open(self, *, url: str | None = None, table: str | None = None, **options: Any) -> ServerBackend:
        options.setdefault("timeout", 5)
        table = table or self.name
        backend = CLASSES[self.kind](make_url(url or self.url), table, place=f"the store {table}", **options)
        self.opened.append(backend)
        return backend

    def execute(self, *statements: str) -> None:
        execute(self.kind, *(each.replace("NAME", self.name) for each in statements))

    def query(self, statement: str) -> list[tuple]:
        return query(self.kind, statement.replace("NAME", self.name))

    def session_of(self, backend: ServerBackend) -> int:
        """The number of a session that the backend has with the server."""
        sql = "SELECT pg_backend_pid()" if self.kind == "postgresql" else "SELECT connection_id()"
        return int(backend._rows(sql)[0][0])

    def end(self, session: int) -> None:
        """End a session from outside, as a database's owner, or a firewall, would."""
        self.execute(
            f"SELECT pg_terminate_backend({session}, 5000)" if self.kind == "postgresql" else f"KILL {session}"
        )

    def transactions_of(self, sessions: set[int]) -> set[int]:
        """Which of these sessions have a transaction open."""
        if self.kind == "postgresql":
            rows = self.query("SELECT pid FROM pg_stat_activity WHERE xact_start IS NOT NULL")
        else:
            rows = self.query("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")
        return sessions & {row[0] for row in rows}

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Somebody else holds the rows of a table."""
        with engine_at(self.url).connect() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT * FROM {table.replace('NAME', self.name)} FOR UPDATE")
            yield
            connection.exec_driver_sql("ROLLBACK")


class Spying:
    """A cursor that tells what is sent, and may break the connection before or after it."""

    def __init__(self, cursor: Any, sent: list[str], before: Any = None, after: Any = None):
        self._cursor, self._sent, self._before, self._after = cursor, sent, before, after
        self.text = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: Any, values: Any = None, **more: Any) -> None:
        text = sql.decode() if isinstance(sql, bytes) else sql
        self._sent.append(text)
        self.text = text
        if self._before:
            self._before(self, text)
        self._cursor.execute(sql, values, **more)
        if self._after:
            self._after(self, text)


def spy(monkeypatch: pytest.MonkeyPatch, backend: ServerBackend, before: Any = None, after: Any = None) -> list[str]:
    """What the backend sends from now on."""
    sent: list[str] = []
    make = backend._connection._cursor_of
    monkeypatch.setattr(
        backend._connection, "_cursor_of", lambda connection: Spying(make(connection), sent, before, after)
    )
    return sent
