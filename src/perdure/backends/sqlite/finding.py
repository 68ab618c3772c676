"""Answers queries from the index of a SQLite store, within a snapshot of the caller's.

- One row source drives: the condition that fewest records meet, or the order, so that a limit ends the search early.
  Every other field is looked up by the record's number. The joins say CROSS, which SQLite takes as the order to go in.
- What the index cannot answer (a field of a class that has none) gives None: the caller looks at the records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from perdure.backends.sqlite.index import INDEXED_FORMAT, Places, SqliteIndex
from perdure.backends.sqlite.rows import HEAD, LISTED, id_in
from perdure.records.queries import Condition, Query, bounds, sort_key

T = TypeVar("T")

FEW = 1000  # records that are rather sorted than found by walking through the order
LACKING = 500  # ids that `lacking` gives at most

_COMPARED = {"==": "=", "!=": "<>"}


class _Source(NamedTuple):
    """The rows of one field: its places in the index (one a class), and what holds for the key."""

    alias: str
    places: tuple[int, ...]
    sql: str  # on `{alias}.key`, beginning with AND; empty for any key
    values: tuple[object, ...]
    selective: bool

    @property
    def rows(self) -> tuple[str, list[object]]:
        """The condition for its rows, places and keys."""
        marks = ", ".join("?" * len(self.places))
        return f"{self.alias}.place IN ({marks}){self.sql}", [*self.places, *self.values]


class SqliteFinding:
    """`find`, `count` and `lacking` through an index."""

    def __init__(self, index: SqliteIndex):
        self._index = index

    def find(self, connection: sqlite3.Connection, query: Query) -> list[str] | None:
        """The ids that answer the query, in its order; None where only the records can tell."""
        planned = self.statement(connection, query)
        if planned is None:
            return None
        numbers = [number for number, *_ in connection.execute(*planned)]
        heads = dict(
            connection.execute(
                f"SELECT number, substr(frame, 1, {HEAD}) FROM {LISTED} {self._index.records} ON number = value",
                (str(numbers),),
            )
        )
        return [id_in(heads.get(number), number) for number in numbers]

    def count(self, connection: sqlite3.Connection, query: Query) -> int | None:
        """How many answer the query; None where only the records can tell."""
        planned = self.statement(connection, query._replace(order=(), limit=None, offset=0))
        if planned is None:
            return None
        found: int = connection.execute(f"SELECT count(*) FROM ({planned[0]})", planned[1]).fetchone()[0]
        return found

    def lacking(self, connection: sqlite3.Connection, query: Query) -> list[str]:
        """Some of the ids of the query's classes that are not in the index of each of its fields."""
        classes, places = self._classes(connection, query), self._index.places(connection)
        if not classes or self._is_complete(connection, classes, query.fields, places):
            return []
        absent = [
            " OR ".join(
                f"NOT EXISTS (SELECT 1 FROM {self._index.indexed} each WHERE each.number = present.number"
                f" AND each.place = {place})"
                for place in (places.get((number, field), 0) for field in query.fields)
            )
            for number in classes
        ]
        lacks = " OR ".join(f"class = {number} AND ({sql})" for number, sql in zip(classes, absent, strict=True) if sql)
        if not lacks:
            return []
        rows = connection.execute(
            f"SELECT number, substr(frame, 1, {HEAD}) FROM {self._index.records} present"
            f" WHERE class IN ({', '.join(map(str, classes))}) AND ({lacks}) LIMIT {LACKING}"
        )
        return [id_in(head, number) for number, head in rows]

    def _is_complete(
        self, connection: sqlite3.Connection, classes: Sequence[int], fields: Sequence[str], places: Places
    ) -> bool:
        """Whether there are as many rows as records: counting takes a quarter of the time of looking for what lacks."""
        sql = f"SELECT class, count(*) FROM {self._index.records} WHERE class IN ({', '.join(map(str, classes))})"
        for number, count in connection.execute(f"{sql} GROUP BY class").fetchall():
            for field in fields:
                rows = connection.execute(
                    f"SELECT count(*) FROM {self._index.indexed} WHERE place = ?", (places.get((number, field), 0),)
                )
                if rows.fetchone()[0] < count:
                    return False
        return True

    def statement(self, connection: sqlite3.Connection, query: Query) -> tuple[str, list[Any]] | None:
        """The SELECT whose first column is the numbers, in order, and its values; None where no index has them."""
        classes = self._classes(connection, query)
        limits = [-1 if query.limit is None else query.limit, query.offset]
        if not query.fields:
            sql = f"SELECT number FROM {self._index.records} WHERE class IN ({', '.join(map(str, classes))})"
            return f"{sql} ORDER BY number LIMIT ? OFFSET ?", limits
        sources = None if query.is_wide else self._sources(query, classes, self._index.places(connection))
        if sources is None:
            return None
        driver = self._driver(connection, query, sources)
        others = [source for field, source in sources.items() if field != driver]
        ordered = bool(query.order) and query.order[0][0] == driver
        columns = "".join(f", {sources[field].alias}.key" for field, _ in query.order)
        first = sources[driver]
        # Each class has its own part of the index: in an order, the parts are merged, so that a limit ends all early.
        parts = [first._replace(places=(place,)) for place in first.places] if ordered and query.limit else [first]
        selects, values = [], []
        for part in parts:
            where, given = part.rows
            sql = f"SELECT {part.alias}.number{columns} FROM {self._index.indexed} {part.alias}"
            for other in others:
                condition, more = other.rows
                sql += f" CROSS JOIN {self._index.indexed} {other.alias}"
                sql += f" ON {other.alias}.number = {part.alias}.number AND {condition}"
                values += more
            selects.append(f"{sql} WHERE {where}")
            values += given
        order = [f"{place} DESC" if down else f"{place}" for place, (_, down) in enumerate(query.order, 2)]
        ending = f" ORDER BY {', '.join([*order, '1'])} LIMIT ? OFFSET ?"
        return " UNION ALL ".join(selects) + ending, [*values, *limits]

    # -- parts of a statement ------------------------------------------------------------------------------

    def _classes(self, connection: sqlite3.Connection, query: Query) -> list[int]:
        names = list(dict.fromkeys(query.classes))
        sql = f"SELECT number FROM {self._index.classes} WHERE name IN ({', '.join('?' * len(names))})"
        return [number for (number,) in connection.execute(sql, names)]

    def _sources(self, query: Query, classes: Sequence[int], known: Places) -> dict[str, _Source] | None:
        """For each field of the query its rows; None where a class has no index of it."""
        if any((number, field) not in known for number in classes for field in query.fields):
            return None
        sources = {}
        for count, field in enumerate(query.fields):
            alias = f"field_{count}"
            conditions = [each for each in query.conditions if each.field == field]
            told = [_key_condition(alias, condition) for condition in conditions]
            sources[field] = _Source(
                alias,
                tuple(known[number, field] for number in classes),
                "".join(sql for sql, _ in told),
                tuple(value for _, values in told for value in values),
                any(condition.operator != "!=" for condition in conditions),
            )
        return sources

    def _driver(self, connection: sqlite3.Connection, query: Query, sources: dict[str, _Source]) -> str:
        """The field whose rows are gone through."""
        chosen = [field for field, source in sources.items() if source.selective]
        order = query.order[0][0] if query.order and query.limit is not None else None
        if not chosen:
            return order or next(iter(sources))
        if chosen == [order] or len(sources) == 1:
            return chosen[0]
        sizes = {field: self._size(connection, sources[field]) for field in chosen}
        best = min(chosen, key=sizes.__getitem__)
        return order if order is not None and sizes[best] > FEW else best

    def _size(self, connection: sqlite3.Connection, source: _Source) -> int:
        """How many rows the source has, counted up to a few."""
        where, values = source.rows
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {self._index.indexed} {source.alias} WHERE {where} LIMIT {FEW + 1})"
        found: int = connection.execute(sql, values).fetchone()[0]
        return found


def in_snapshot(
    connection: sqlite3.Connection,
    meta: Callable[[sqlite3.Connection], dict[str, Any]],
    work: Callable[[sqlite3.Connection], T | None],
) -> tuple[int, T | None]:
    """The revision, and what `work` gives in one snapshot with it; None for a store without an index."""
    connection.execute("BEGIN")
    try:
        told = meta(connection)
        return told["revision"], work(connection) if told["format"] >= INDEXED_FORMAT else None
    finally:
        connection.execute("ROLLBACK")


def _key_condition(alias: str, condition: Condition) -> tuple[str, tuple[object, ...]]:
    if condition.operator == "in":
        keys = {sort_key(each) for each in condition.value}
        return f" AND {alias}.key IN ({', '.join('?' * len(keys))})", tuple(keys)
    if condition.operator in _COMPARED:
        return f" AND {alias}.key {_COMPARED[condition.operator]} ?", (sort_key(condition.value),)
    return f" AND {alias}.key >= ? AND {alias}.key < ?", bounds(condition)
