"""A store under a name of its own in a SQLite database that also holds other things.

- All SQL is written with the usual names of the tables. A connection of a named store says `shop` for `records`,
  `shop_commits` for `commits` and so on, in each statement; the store without a name has none of this.
- The name in place of `records` is the store's own, as on database servers; quoted, as it may be a word of SQL.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from perdure.backends.naming import checked_name
from perdure.errors import NotAStore, UnknownScheme

_USUAL = re.compile(
    r"(')?\b(meta|classes|class_names|records|internal_records|superseded|commits"
    r"|indexes|indexed|indexed_by_number|buffers|buffer_parts)\b"
)
_PARTS = "('meta', 'classes', 'records', 'superseded', 'commits', 'indexes', 'indexed', 'buffers', 'buffer_parts')"


@lru_cache(maxsize=1000)
def _spelled(sql: str, name: str) -> str:
    def own(found: re.Match[str]) -> str:
        text, usual = found[1] or "", found[2]
        if usual != "records":
            return f"{text}{name}_{usual}"
        return text + name if text else f'"{name}"'  # in a text it stands as it is

    return _USUAL.sub(own, sql)


@lru_cache(maxsize=100)
def connection_class(name: str | None) -> type[sqlite3.Connection]:
    """The class of connections of the store with that name; of the usual one without."""
    if name is None:
        return sqlite3.Connection
    own = checked_name(name)
    if own.lower().startswith("sqlite_"):
        raise UnknownScheme(
            f"{own} cannot be the name of a table: SQLite keeps sqlite_ for itself.", hint="Take another."
        )

    class NamedConnection(sqlite3.Connection):
        table_name = own

        def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
            return super().execute(_spelled(sql, own), parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
            return super().executemany(_spelled(sql, own), parameters)

    return NamedConnection


def name_of(connection: sqlite3.Connection) -> str | None:
    """The name of the connection's store; None for the usual one."""
    return getattr(connection, "table_name", None)


def stores_in(connection: sqlite3.Connection) -> list[str]:
    """The names of the stores in the database that have one."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    parts = ("_meta", "_classes", "_superseded", "_commits")
    return sorted(name for name in tables if all(name + part in tables for part in parts))


def is_absent(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the named store is not in the database; raises `NotAStore` where its tables are another program's."""
    found = {row[0] for row in connection.execute(f"SELECT name FROM sqlite_master WHERE name IN {_PARTS}")}
    name = name_of(connection)
    if not found:
        return True
    columns = {row[1] for row in connection.execute("PRAGMA table_info(meta)")}
    if columns != {"name", "value"} or name not in found:
        raise NotAStore(
            f"{path!r} has tables of another program: {', '.join(sorted(found))}.", hint="Name another table."
        )
    return False
