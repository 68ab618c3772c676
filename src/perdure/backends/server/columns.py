"""Columns that a program adds to a store's table on a server, for other programs to read: `extra_fields` of a store.

- A column that is there is used as it is; one that is not is added when the store is opened for writing.
- They hold what the headers of the user's records tell; a record that does not tell a column has NULL there.
- Values go as texts, which the server turns into whatever the column holds; what it refuses fails the commit, with
  the object and what was to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perdure.backends.server.connection import Cursor, ServerConnection
from perdure.backends.server.errors import Trouble
from perdure.errors import CannotIndex
from perdure.records.values import INTERNAL, Draft, Plain

Columns = Mapping[str, Any]  # type in SQL as a text or as SQLAlchemy's, or None
NO_COLUMNS: Columns = {}

_ANY = "TEXT"  # of a column whose type nobody told; many VARCHARs are more than a row of MySQL holds


class ServerColumns:
    """The columns by their names, each with its type in SQL or None, of the table `records` (quoted).

    Raises `CannotIndex` where the table has a column of that name for itself (`own`).
    """

    def __init__(self, columns: Columns, own: set[str], records: str, connection: ServerConnection):
        self._types = dict(columns)
        self._records = records
        self._connection = connection
        taken = sorted(name for name in columns if name.lower() in own)
        if taken:
            raise CannotIndex(
                f"The table of records has a column {taken[0]!r} of its own.", hint="Give the extra field another name."
            )

    def __bool__(self) -> bool:
        return bool(self._types)

    def add(self, cursor: Cursor, found: set[str]) -> None:
        """Add those which are not among the columns that were found. Raises `CannotIndex` where there can be none."""
        there = {name.lower() for name in found}
        for name, kind in self._types.items():
            if name.lower() in there:
                continue
            spelled = kind.compile(dialect=self._connection.dialect) if hasattr(kind, "compile") else kind or _ANY
            try:
                cursor.execute(f"ALTER TABLE {self._records} ADD COLUMN {self._quoted(name)} {spelled}")
            except self._connection.errors as error:
                if self._connection.trouble_of(error) not in (Trouble.OTHER, Trouble.TOO_LARGE):
                    raise
                raise CannotIndex(
                    f"{self._connection.place} cannot have a column {name!r} of type {spelled}: {_said(error)}.",
                    hint="Give it another name, or a type that this database knows.",
                ) from error

    def write(self, cursor: Cursor, pairs: Sequence[tuple[int, Draft]], removed: Sequence[int]) -> None:
        """Put what drafts tell into their rows, which are there, within the transaction that writes them.

        The rows of removed objects stay, and lose what they told. Raises `CannotIndex` for what a column cannot hold.
        """
        sets = ", ".join(f"{self._quoted(name).replace('%', '%%')} = %s" for name in self._types)
        sql = f"UPDATE {self._records} SET {sets} WHERE number = %s"
        for number, draft in pairs:
            if draft.flags & INTERNAL:
                continue
            try:
                cursor.execute(sql, [*(_text(draft.fields.get(name)) for name in self._types), number])
            except self._connection.errors as error:
                if self._connection.trouble_of(error) is not Trouble.VALUE:
                    raise
                told = ", ".join(f"{name} = {draft.fields.get(name)!r:.60}" for name in self._types)
                raise CannotIndex(
                    f"{draft.id} cannot be saved: the extra fields of {self._connection.place} cannot hold {told}:"
                    f" {_said(error)}.",
                    hint="Let the function of the field give what its column holds, or give the column another type.",
                    ids=(draft.id,),
                ) from error
        for number in removed:
            cursor.execute(sql, [*([None] * len(self._types)), number])

    def _quoted(self, name: str) -> str:
        """The name in quotes, for a statement without parameters: SQLAlchemy doubles % for those with some."""
        return self._connection.dialect.identifier_preparer.quote_identifier(name).replace("%%", "%")


def _said(error: Exception) -> str:
    return " ".join(str(error.args[-1] if error.args else error).split()).rstrip(".")


def _text(value: Plain) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, bool) else repr(value)
