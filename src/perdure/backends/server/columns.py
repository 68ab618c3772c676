"""Columns that a program adds to a store's table on a server, for other programs to read: `extra_fields` of a store.

- A column that is there is used as it is; one that is not is added when the store is opened for writing.
- They hold what the headers of the user's records tell; a record that does not tell a column has NULL there.
- Values go as texts, which the server turns into whatever the column holds; what it refuses fails the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from perdure.backends.server.connection import Cursor
from perdure.errors import CannotIndex
from perdure.records.queries import LONGEST_TEXT
from perdure.records.values import INTERNAL, Draft, Plain

Columns = Mapping[str, str | None]
NO_COLUMNS: Columns = {}

_ANY = f"VARCHAR({LONGEST_TEXT})"  # of a column whose type nobody told


class ServerColumns:
    """The columns by their names, each with its type in SQL or None, of the table `records` (quoted, as `quote` does).

    Raises `CannotIndex` where the table has a column of that name for itself (`own`).
    """

    def __init__(self, columns: Columns, own: set[str], records: str, quote: Callable[[str], str]):
        self._types = dict(columns)
        self._records = records
        self._quote = quote
        taken = sorted(name for name in columns if name.lower() in own)
        if taken:
            raise CannotIndex(
                f"The table of records has a column {taken[0]!r} of its own.", hint="Give the extra field another name."
            )

    def __bool__(self) -> bool:
        return bool(self._types)

    def adding(self, found: set[str]) -> list[str]:
        """The statements that add those which are not among the columns that were found."""
        there = {name.lower() for name in found}
        return [
            f"ALTER TABLE {self._records} ADD COLUMN {self._quote(name)} {kind or _ANY}"
            for name, kind in self._types.items()
            if name.lower() not in there
        ]

    def write(self, cursor: Cursor, pairs: Sequence[tuple[int, Draft]], removed: Sequence[int]) -> None:
        """Put what drafts tell into their rows, which are there, within the transaction that writes them.

        The rows of removed objects stay, and lose what they told.
        """
        sets = ", ".join(f"{self._quote(name).replace('%', '%%')} = %s" for name in self._types)
        for number, draft in pairs:
            if not draft.flags & INTERNAL:
                values = [_text(draft.fields.get(name)) for name in self._types]
                cursor.execute(f"UPDATE {self._records} SET {sets} WHERE number = %s", [*values, number])
        for number in removed:
            values = [None] * len(self._types)
            cursor.execute(f"UPDATE {self._records} SET {sets} WHERE number = %s", [*values, number])


def _text(value: Plain) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, bool) else repr(value)
