"""A store's tables on a database server: opening and making them, and what every call does with them.

- What is there is looked at with one statement; then the database is asked which tables and columns it has, since a
  store that lacks one is damaged, and says so when it is opened.
- A store is made by one process, under a lock of the server's; tables of another program are left alone.
"""

from __future__ import annotations

import re
import uuid
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy.engine import URL

from perdure.backends.base import FEW, Backend, NewKey, no_key
from perdure.backends.frames import numbers_in
from perdure.backends.server.columns import NO_COLUMNS, Columns, ServerColumns
from perdure.backends.server.connection import Cursor, Kind, ServerConnection
from perdure.backends.server.errors import Trouble, foreign, outcome_unknown, replaced
from perdure.backends.server.schema import PLAIN_FORMAT, Schema, refuse_newer
from perdure.backends.server.writing import Writer
from perdure.errors import CorruptRecord, PerdureError, ReadOnly, StorageError, StoreNotFound

Rows = Any  # a sequence of tuples

_STORE = re.compile("[0-9a-f]{32}")  # a store's id


class ServerTables(Backend):
    """A store in the database at `url`, in tables that begin with `table_name`; `new_key` is called when it is made.

    `place` names the store in errors. `timeout` is how many seconds a call waits for others; `columns` are further ones
    of the table of records, with their types in SQL, that hold what headers tell under their names. Raises
    `StoreNotFound` (no such database, or no store and `create=False`), `NotAStore`, `NewerFormat`, `AccessDenied`,
    `StorageError`.
    """

    def __init__(
        self,
        url: URL,
        table_name: str,
        *,
        place: str,
        new_key: NewKey = no_key,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        columns: Columns = NO_COLUMNS,
    ):
        self.path = ""
        self.read_only = read_only
        self.table_name = table_name
        self.place = place
        self._timeout = timeout
        self._outcome_unknown = False
        self._connection = ServerConnection(url, self._kind(url, timeout), place=place, timeout=timeout)
        try:
            self._schema = Schema(table_name, self._connection.dialect)
            self._open(new_key, create=create and not read_only)
            self._writer = self._make_writer(self._schema)
            self._writer.columns = self._with_columns(columns)
        except BaseException:
            self._connection.close()
            raise

    # -- opening -----------------------------------------------------------------------------------------

    def _open(self, new_key: NewKey, *, create: bool) -> None:
        format_ = self._format()
        if format_ is None and create:
            self._connection.read(lambda cursor: self._make_tables(cursor, new_key))
            format_ = self._format()
            if format_ is None:
                raise StorageError(
                    f"{self.place} is damaged: its tables lost the row that tells their format.",
                    hint="Go back to a backup, or name other tables.",
                )
        if format_ is None:
            raise StoreNotFound(
                f"There is no store at {self.place}.", hint="Look at the name; opened for writing, it is made."
            )

    def _with_columns(self, columns: Columns) -> ServerColumns:
        """The further columns of the table of records, which are added where they are not there."""
        own = self._schema.columns[self.table_name]
        added = ServerColumns(columns, own, self._schema.spell("{records}"), self._connection)

        def work(cursor: Cursor) -> None:
            found = {column for table, column in self._found_columns(cursor) if table == self.table_name}
            added.add(cursor, found)

        if added and not self.read_only:
            self._connection.read(work)
        return added

    def _format(self) -> int | None:
        """The store's format; None if there is no store. Raises `NotAStore` for tables of another program.

        From now on it is this store, and none that takes its place, that is read and written.
        """

        def work(cursor: Cursor) -> int | None:
            try:
                cursor.execute(self._schema.spell("SELECT format, store FROM {meta} WHERE one = 1"))
                row = cursor.fetchone()
            except self._connection.errors as error:
                if self._connection.trouble_of(error) is not Trouble.NO_TABLE:
                    raise
                row = None
            if row is not None:
                format_, store = row
                if not isinstance(format_, int) or not _STORE.fullmatch(str(store)):
                    raise self._damaged("it does not tell its format, or which store it is")
                refuse_newer(format_, self.place)
                lacking = self._schema.lacking(self._found_columns(cursor))
                if lacking:
                    raise self._damaged(f"it has no {', no '.join(lacking)}")
                self._schema.recognise(store)
                return format_
            tables = self._schema.foreign(self._found_columns(cursor))
            if tables:
                raise foreign(self.place, tables)
            return None

        return self._connection.read(work)

    def _insert_meta(self, cursor: Cursor, new_key: NewKey) -> None:
        cursor.execute(
            self._schema.spell(
                "INSERT INTO {meta} (one, format, store, sealed_by, revision, oldest) VALUES (1, %s, %s, %s, 0, 0)"
            ),
            (PLAIN_FORMAT, uuid.uuid4().hex, new_key()),
        )
        cursor.execute(self._schema.spell("INSERT INTO {counter} (one, next_number) VALUES (1, 1)"))

    def close(self) -> None:
        self._connection.close()

    # -- what every call does ---------------------------------------------------------------------------

    def _rows(self, sql: str, values: Iterable[object] = ()) -> Rows:
        spelled, arguments = self._schema.spell(sql), tuple(values)

        def work(cursor: Cursor) -> Rows:
            cursor.execute(spelled, arguments or None)
            return cursor.fetchall()

        return self._connection.read(work)

    def _select(
        self, start: str, ids: Collection[str], condition: str, *values: object, column: str = "number"
    ) -> Rows:
        """Rows with the numbers of these ids, and of some others where that is faster."""
        if not ids:
            self._connection.refuse_closed()
            return []
        numbers = {*numbers_in(ids)}
        first, last = min(numbers), max(numbers)
        if len(numbers) > FEW and last - first < len(numbers) + len(numbers) // 4:  # hardly a gap
            return self._rows(f"{start} WHERE {column} BETWEEN %s AND %s AND {condition}", (first, last, *values))
        among, listed = self._among(column, numbers)
        return self._rows(f"{start} WHERE {among} AND {condition}", (*listed, *values))

    def _lock(self, cursor: Cursor) -> int:
        """Begin a transaction that keeps commits out; gives the newest revision."""
        cursor.execute("BEGIN")
        cursor.execute(self._schema.spell("SELECT revision FROM {meta} WHERE {is_own} FOR UPDATE"))
        row = cursor.fetchone()
        if row is None:
            raise self._row_gone(cursor)
        return int(row[0])

    def _row_gone(self, cursor: Cursor) -> PerdureError:
        """The error for a store whose row of `meta` is not found where it was: another store is there, or none."""
        cursor.execute(self._schema.spell("SELECT store FROM {meta}"))
        row = cursor.fetchone()
        return self._damaged("its row of the revision is gone") if row is None else replaced(self.place)

    def _later(self, cursor: Cursor, seen: int) -> Iterator[bytes]:
        """The frames of all versions that were written after revision `seen`; with the lock held."""
        yield from self._writer.later(cursor, seen)
        yield from self._writer.later(cursor, seen, table="{superseded}")

    def _refuse_write(self) -> None:
        self._connection.refuse_closed()
        if self.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        if self._outcome_unknown:
            raise outcome_unknown(self.place)

    def _damaged(self, what: str) -> CorruptRecord:
        return CorruptRecord(f"{self.place} is damaged: {what}.", hint="Go back to a backup.")

    # -- what each kind of server does in its own way -------------------------------------------------------

    @abstractmethod
    def _kind(self, url: URL, timeout: float) -> Kind:
        """What the connections need."""

    @abstractmethod
    def _make_writer(self, schema: Schema) -> Writer:
        """What writes commits."""

    @abstractmethod
    def _make_tables(self, cursor: Cursor, new_key: NewKey) -> None:
        """Make an empty store, whole or not at all, unless there are tables of that name meanwhile."""

    @abstractmethod
    def _found_columns(self, cursor: Cursor) -> list[tuple[str, str]]:
        """Table and column, for each table in the database that has the name of one of the store's."""

    @abstractmethod
    def _among(self, column: str, numbers: Iterable[int]) -> tuple[str, tuple[object, ...]]:
        """The condition that a column is one of the numbers, and the values in it."""

    @abstractmethod
    def _take_numbers(self, cursor: Cursor, count: int, durable: bool) -> int | None:
        """Move the counter, and give where it stood; None if the store has a later format."""
