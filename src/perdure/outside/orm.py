"""Instances of SQLAlchemy's mapped classes by primary key: the row stays in its database.

- The class that a record names is looked for among those of the base that this process has registered, nowhere else.
- An instance comes from the session that the program gives as a resource, which keeps one object for each row.
- SQLAlchemy is imported by those who use this, and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from perdure.pickling.classes import shown_name
from perdure.pickling.outside import Resources, reference

AT_ONCE = 500  # keys in one query


def mapped(base: type[Any], *, tag: str = "sqlalchemy", session: str = "session") -> None:
    """Let instances of `base` (a declarative base, or one mapped class) be stored by class and primary key.

    They are loaded from the resource named `session`: a SQLAlchemy `Session`, or a function that gives it, as a
    `scoped_session` does. An instance that is in no session, or has no row yet, is `CannotPickle`; a row that is gone
    is `CannotResolve`. Two bases need two tags.
    """
    reference(tag, base, key=_key, many=partial(_find_many, base, session))(partial(_find, base, session))


def _key(obj: Any) -> tuple[Any, ...]:
    from sqlalchemy import inspect

    state = inspect(obj)
    if not state.persistent:
        raise ValueError(_what_is_wrong(state))
    return shown_name(type(obj)), *(_plain(value) for value in state.identity)


def _what_is_wrong(state: Any) -> str:
    if state.detached:
        return "it is detached from its session; add it to one (session.add, session.merge)"
    if state.transient:
        return "it was never added to a session, and has no row"
    if state.pending:
        return "it has no row yet; flush its session first"
    return "its row was deleted"


@cache
def _texts() -> dict[str, tuple[type[Any], Callable[[Any], str], Callable[[str], Any]]]:
    """What primary keys are made of besides plain values, each as its name and a text."""
    from datetime import date, datetime, time
    from decimal import Decimal
    from uuid import UUID

    return {
        "uuid": (UUID, str, UUID),
        "decimal": (Decimal, str, Decimal),
        "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
        "date": (date, date.isoformat, date.fromisoformat),
        "time": (time, time.isoformat, time.fromisoformat),
    }


def _plain(value: Any) -> Any:
    for name, (cls, text, _) in _texts().items():
        if type(value) is cls:
            return name, text(value)
    return value


def _value(part: Any) -> Any:
    return _texts()[part[0]][2](part[1]) if type(part) is tuple else part


def _session(resource: str, resources: Resources) -> Any:
    given = resources[resource]
    return given() if callable(given) else given


def _find(base: type[Any], resource: str, key: tuple[Any, ...], resources: Resources) -> Any:
    name, *parts = key
    found = _session(resource, resources).get(_class(base, name), tuple(_value(part) for part in parts))
    if found is None:
        raise LookupError("there is no such row")
    return found


def _find_many(base: type[Any], resource: str, keys: list[Any], resources: Resources) -> dict[Any, Any]:
    """Rows with a key of one column, some hundred in a query; others are left to `_find`."""
    from sqlalchemy import inspect, select

    session = _session(resource, resources)
    names: dict[str, list[Any]] = {}
    for name, *parts in keys:
        if len(parts) == 1:
            names.setdefault(name, []).append(_value(parts[0]))
    found: dict[Any, Any] = {}
    for name, values in names.items():
        cls = _class(base, name)
        column = inspect(cls).primary_key[0]
        for start in range(0, len(values), AT_ONCE):
            rows = session.scalars(select(cls).where(column.in_(values[start : start + AT_ONCE])))
            found.update((_key(row), row) for row in rows.unique())
    return found


def _class(base: type[Any], name: str) -> type[Any]:
    from sqlalchemy import inspect

    registry = getattr(base, "registry", None) or inspect(base).registry
    for mapper in registry.mappers:
        cls: type[Any] = mapper.class_
        if issubclass(cls, base) and shown_name(cls) == name:
            return cls
    raise LookupError(f"no class {name} is mapped here under {base.__qualname__}; import the module that it is in")
