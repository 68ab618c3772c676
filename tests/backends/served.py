"""A store on a server, for tests of what is around its tables: other sessions, broken connections, what is sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


class Proxy:
    """Between a store and its server: it may swallow whatever the server says, or take no connection."""

    def __init__(self, url: str):
        parsed = make_url(url)
        folder = parsed.query.get("host")
        port = parsed.port or {"postgresql": 5432, "mysql": 3306}[parsed.get_backend_name()]
        self._target: Any = (parsed.host, port) if folder is None else f"{folder}/.s.PGSQL.{port}"
        self._lines: list[socket.socket] = []
        self.is_silent = self.is_closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        own = {"host": "127.0.0.1", "port": self._listener.getsockname()[1]}
        query = {name: value for name, value in parsed.query.items() if name not in ("host", "port")}
        self.url = parsed.set(query=query, **own).render_as_string(hide_password=False)
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def break_all(self) -> None:
        """End every connection."""
        for line in list(self._lines):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.is_closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.break_all()
        for thread in self._threads:
            thread.join()
        for line in (*self._lines, self._listener):
            line.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_closed:
                    client.close()
                    continue
                if isinstance(self._target, str):
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(self._target)
                else:
                    server = socket.create_connection(self._target)
                self._lines += (client, server)
                self._start(self._pass_on, client, server, False)
                self._start(self._pass_on, server, client, True)

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not (is_answer and self.is_silent):
                    target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


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
