"""The SQL of queries on a database server: conditions on rows of `fields`, one join for each field.

- The revision comes with the ids, from one statement and so from one snapshot.
- Values are compared as the bytes that `sort_key` gives, so the order is the same on every server.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.backends.base import number_of
from perdure.records.queries import Condition, Query, bounds, sort_key

_OPERATORS = {"==": "=", "!=": "<>"}
_ALL = 2**63 - 1  # rows; MySQL has no offset without a limit

Values = list[object]


def find_statement(query: Query, classes: Sequence[int]) -> tuple[str, Values]:
    """Rows of (revision, id), in the query's order; one row without an id where nothing answers."""
    source, values = _source(query, classes)
    aliases = {field: f"f{place}" for place, field in enumerate(query.fields)}
    keys = [f"{aliases[field]}.value AS k{place}" for place, (field, _) in enumerate(query.order)]
    inner = [f"{aliases[field]}.value{' DESC' if down else ''}" for field, down in query.order]
    outer = [f"q.k{place}{' DESC' if down else ''}" for place, (_, down) in enumerate(query.order)]
    limit = _ALL if query.limit is None else query.limit
    sql = (
        f"SELECT m.revision, q.id FROM {{meta}} m LEFT JOIN (SELECT {', '.join(['r.id', 'r.number', *keys])} {source}"
        f" ORDER BY {', '.join([*inner, 'r.number'])} LIMIT {limit} OFFSET {query.offset}) q ON true"
        f" ORDER BY {', '.join([*outer, 'q.number'])}"
    )
    return sql, values


def count_statement(query: Query, classes: Sequence[int]) -> tuple[str, Values]:
    """One row: the revision, and how many objects answer."""
    source, values = _source(query, classes)
    return f"SELECT m.revision, (SELECT count(*) {source}) FROM {{meta}} m", values


def lacking_statement(query: Query, classes: Sequence[int]) -> tuple[str, Values]:
    """Ids of some objects of these classes that have no row for one of the query's fields."""
    missing = "NOT EXISTS (SELECT 1 FROM {fields} f WHERE f.number = r.number AND f.field = %s)"
    any_missing = " OR ".join([missing] * len(query.fields)) or "false"
    sql = f"SELECT r.id FROM {{records}} r WHERE r.class IN ({_listed(classes)}) AND ({any_missing}) LIMIT 100"
    return sql, [field.encode() for field in query.fields]


def in_order(ids: Sequence[str]) -> list[str]:
    """The ids in the order of their numbers."""
    return sorted(ids, key=number_of)


def _source(query: Query, classes: Sequence[int]) -> tuple[str, Values]:
    values: Values = []
    joins, wheres = [], [f"r.class IN ({_listed(classes)})"]
    for place, field in enumerate(query.fields):
        alias = f"f{place}"
        joins.append(
            f" JOIN {{fields}} {alias} ON {alias}.number = r.number AND {alias}.class = r.class AND {alias}.field = %s"
        )
        values.append(field.encode())
    aliases = {field: f"f{place}" for place, field in enumerate(query.fields)}
    for condition in query.conditions:
        text, more = _condition(condition, f"{aliases[condition.field]}.value")
        wheres.append(text)
        values += more
    return f"FROM {{records}} r{''.join(joins)} WHERE {' AND '.join(wheres)}", values


def _condition(condition: Condition, column: str) -> tuple[str, Values]:
    if condition.operator in _OPERATORS:
        return f"{column} {_OPERATORS[condition.operator]} %s", [sort_key(condition.value)]
    if condition.operator == "in":
        keys: Values = [sort_key(value) for value in condition.value]
        return (f"{column} IN ({', '.join(['%s'] * len(keys))})" if keys else "1 = 0"), keys
    return f"{column} >= %s AND {column} < %s", list(bounds(condition))


def _listed(classes: Sequence[int]) -> str:
    return ", ".join(map(str, classes)) or "NULL"
