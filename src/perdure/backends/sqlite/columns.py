"""Columns that a program adds to the table of records, for other programs to read: `extra_fields` of a store.

- A column that is there is used as it is; one that is not is added when the store is opened for writing.
- They hold what the headers of the user's records tell; a record that does not tell a column has NULL there.
- Nothing of perdure's own reads them, so a release that does not know them may write to the store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perdure.errors import CannotIndex
from perdure.records.values import INTERNAL, Draft

_OWN = {"number", "revision", "class", "frame"}


class SqliteColumns:
    """The columns by their names, each with its type in SQL or None, of the table `records`."""

    def __init__(self, columns: Mapping[str, Any], records: str = "records"):
        self.types = dict(columns)
        self._records = records
        taken = sorted(name for name in columns if name.lower() in _OWN or name.lower() in ("rowid", "oid", "_rowid_"))
        if taken:
            raise CannotIndex(
                f"The table of records has a column {taken[0]!r} of its own.", hint="Give the extra field another name."
            )

    def __bool__(self) -> bool:
        return bool(self.types)

    def add(self, connection: sqlite3.Connection) -> None:
        """Add those that are not there, within the caller's transaction."""
        found = {str(row[1]).lower() for row in connection.execute(f"PRAGMA table_info({self._records})")}
        for name, kind in self.types.items():
            if name.lower() not in found:
                connection.execute(f"ALTER TABLE {self._records} ADD COLUMN {_quoted(name)} {kind or ''}")

    def further(self, connection: sqlite3.Connection) -> list[str]:
        """All that are there, whoever has added them."""
        found = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({self._records})")]
        return [name for name in found if name.lower() not in _OWN]

    def write(self, connection: sqlite3.Connection, drafts: Iterable[Draft], numbers: Sequence[int]) -> None:
        """Put what the drafts tell into the rows, which are there."""
        sets = ", ".join(f"{_quoted(name)} = ?" for name in self.types)
        connection.executemany(
            f"UPDATE {self._records} SET {sets} WHERE number = ?",
            (
                (*map(draft.fields.get, self.types), number)
                for draft, number in zip(drafts, numbers, strict=False)
                if not draft.flags & INTERNAL
            ),
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
