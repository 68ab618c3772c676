"""One process's connections to a database server: who uses which when, and what happens when one breaks.

- Connections come from SQLAlchemy's pool, in autocommit mode: a read is one statement and leaves nothing open; a
  commit sends its own BEGIN and COMMIT.
- A server that says nothing for longer than it may wait for locks, and `GRACE`, counts as lost: stopped, or cut off by
  something that swallows what is sent.
- A read that finds its connection lost is repeated once on a new one. Who writes decides himself (see `Commits`).
- Whatever a call raises, its connection goes back to the pool without a transaction, or not at all.
- A forked child gets connections of its own at its first call; the parent's are neither used nor closed there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Dialect, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import Pool, PoolProxiedConnection

from perdure.backends.server.errors import Trouble, TroubleOf, busy, translate, wrong_option
from perdure.errors import PerdureError, StoreClosed

T = TypeVar("T")

GRACE = 5.0  # seconds beyond `timeout` that a server may take for an answer, before its connection counts as lost

_KEPT = 5  # connections that stay open in the pool
# What is raised of arguments that a driver does not take: it does not say more.
_REFUSED = (TypeError, ValueError, AttributeError, OverflowError, ArgumentError)
_MORE = 15  # that may be open besides, while that many threads are at work


class Cursor(Protocol):
    """What is used of a cursor of Python's database interface (PEP 249)."""

    @property
    def rowcount(self) -> int: ...
    @property
    def lastrowid(self) -> int | None: ...
    def execute(self, sql: Any, values: Any = None, /) -> Any: ...
    @property
    def description(self) -> object: ...
    def fetchall(self) -> Sequence[Any]: ...
    def fetchone(self) -> Any: ...
    def nextset(self) -> bool | None: ...


class Kind(NamedTuple):
    """What a kind of server needs: options of SQLAlchemy's engine, arguments of the driver, and what errors mean."""

    options: Mapping[str, Any]

    arguments: Mapping[str, Any]
    prepare: Callable[[Cursor], object]
    trouble_of: TroubleOf
    cursor_of: Callable[[Any], Cursor]
    connect: Callable[..., Any] | None = None  # in place of the driver's own


class ServerConnection:
    """The connections to the database at `url`; `timeout` is how many seconds a call waits for others."""

    def __init__(self, url: URL, kind: Kind, *, place: str, timeout: float):
        self.place = place
        self.timeout = timeout
        self.trouble_of = kind.trouble_of
        self._cursor_of = kind.cursor_of
        self._closed = False
        self._was_open = False  # a server has answered
        self._engine = self._make_engine(url, kind)

        def prepare(connection: Any, _: object) -> None:
            kind.prepare(self._cursor_of(connection))

        def connect(_: object, __: object, arguments: Sequence[Any], more: Mapping[str, Any]) -> Any:
            return kind.connect(*arguments, **more) if kind.connect else None

        event.listen(self._engine, "do_connect", connect)
        event.listen(self._engine, "connect", prepare)
        self._errors: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        _OPEN.add(self)

    def _make_engine(self, url: URL, kind: Kind) -> Engine:
        try:
            return create_engine(
                url,
                isolation_level="AUTOCOMMIT",
                connect_args=dict(kind.arguments),
                **kind.options,
                pool_size=_KEPT,
                max_overflow=_MORE,
                pool_timeout=self.timeout,
                pool_use_lifo=True,  # so that what is not needed grows old, and the server ends it
                pool_reset_on_return=None,  # nothing is ever open when a connection is given back
                hide_parameters=True,
            )
        except _REFUSED as error:
            raise wrong_option(self.place, error) from error

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's dialect of the server."""
        return self._engine.dialect

    def read(self, work: Callable[[Cursor], T]) -> T:
        """What `work` gives; it is called again, once, if the connection turns out to be lost."""
        try:
            try:
                return self.once(work)
            except self._errors as error:
                if self.trouble_of(error) is not Trouble.LOST:
                    raise
                self.renew()
                return self.once(work)
        except self._errors as error:
            raise self.told(error) from error

    def once(self, work: Callable[[Cursor], T]) -> T:
        """What `work` gives; errors of the driver come through as they are. No transaction stays open."""
        pool = self._engine.pool
        connection = self._check_out()
        try:
            cursor = self._cursor_of(connection.driver_connection)
            self._was_open = True
            result = work(cursor)
        except BaseException as error:
            if pool is self._engine.pool and self._is_usable(error) and self._roll_back(connection):
                connection.close()
            else:
                connection.invalidate()
            raise
        if pool is self._engine.pool:
            connection.close()
        else:  # another thread has let go of the pool meanwhile, and would never close what comes back to it
            connection.invalidate()
        return result

    def renew(self) -> None:
        """Let go of the pool's idle connections: when one is lost, the others most often are as well."""
        self._engine.dispose()

    def told(self, error: Exception) -> PerdureError:
        """The error of perdure's that says what the driver's does."""
        return translate(self.trouble_of(error), error, self.place, self.timeout, was_open=self._was_open)

    @property
    def errors(self) -> type[Exception]:
        """The class of all errors of the driver."""
        return self._errors

    def close(self) -> None:
        self._closed = True
        self._engine.dispose()

    def refuse_closed(self) -> None:
        """Raise `StoreClosed` after `close`."""
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")

    def forget(self) -> None:
        """Leave all connections to the parent process."""
        _INHERITED.append(self._engine.pool)
        self._engine.dispose(close=False)

    def _check_out(self) -> PoolProxiedConnection:
        self.refuse_closed()
        try:
            return self._engine.raw_connection()
        except PoolTimeout as error:
            raise busy(self.place, self.timeout, "all connections of this process are in use") from error
        except DBAPIError as error:
            raise error.orig or error from error
        except StatementError as error:
            raise wrong_option(self.place, error.orig or error) from error
        except _REFUSED as error:
            raise wrong_option(self.place, error) from error

    def _is_usable(self, error: BaseException) -> bool:
        """Whether a connection may be used again after the error: the server spoke last, or none was asked."""
        if isinstance(error, self._errors):
            return self.trouble_of(error) is not Trouble.LOST
        return isinstance(error, Exception)  # an interrupt may have come in the middle of an answer

    def _roll_back(self, connection: PoolProxiedConnection) -> bool:
        try:
            self._cursor_of(connection.driver_connection).execute("ROLLBACK")
        except self._errors:
            return False
        return True


def skip_results(cursor: Cursor) -> None:
    """Take all answers to a statement of several parts; raises the first error in them."""
    while cursor.nextset():
        pass


def _forget_inherited() -> None:
    for connection in list(_OPEN):
        connection.forget()


_OPEN: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
_INHERITED: list[Pool] = []  # pools of a parent process: kept, so that nothing ever closes what is in them

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)
