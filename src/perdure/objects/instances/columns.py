"""`extra_fields`: values that a store takes of every object of the user's, where other programs can read them.

- They stand in the headers of records on every store, and on SQL stores in columns of the table of records too.
- An accessor that raises gives None, with one warning; a value that the column cannot hold is `CannotIndex`.
- Columns are SQLAlchemy's, or anything else with a `name` and a `type`; nothing of SQLAlchemy is imported here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from perdure.errors import CannotIndex, InvalidArgument
from perdure.objects.instances.classes import ClassFacts
from perdure.objects.instances.indexing import cannot_index, plain
from perdure.records.values import INTERNAL, NO_FIELDS, Fields, Plain

Accessor = Callable[[Any], Any]


class Column(NamedTuple):
    """A column as the key of its accessor told it: type in SQL (None: any), in Python, longest text in characters.

    The type is a text, or SQLAlchemy's, which each database spells in its own way.
    """

    name: str
    sql: Any = None
    kinds: tuple[type[Any], ...] = ()
    length: int | None = None

    def refusal(self, value: Plain) -> str | None:
        """Why the column cannot hold the value; None if it can."""
        if value is None:
            return None
        if self.kinds and not isinstance(value, self.kinds):
            return f"the column holds {self.sql}"
        if self.length is not None and isinstance(value, str) and len(value) > self.length:
            return f"its {len(value)} characters are more than the {self.length} that the column holds"
        return None


class ExtraFields:
    """What `extra_fields=` of a store was given: a function of the object for each column (a name, or a `Column`)."""

    def __init__(self, given: Mapping[Any, Accessor]):
        self._taken: list[tuple[Column, Accessor]] = []
        self._warned: set[str] = set()
        for key, accessor in given.items():
            if not callable(accessor):
                raise InvalidArgument(
                    f"extra_fields[{key!r}] is a function of an object, not {type(accessor).__name__}"
                )
            self._taken.append((_column(key), accessor))
        if len({name.lower() for name in self.names}) < len(self.names):  # to SQLite and MySQL case is no difference
            raise InvalidArgument(f"extra_fields names a column twice: {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, which are those of the fields in headers."""
        return tuple(column.name for column, _ in self._taken)

    @property
    def columns(self) -> dict[str, Any]:
        """The type of each column, as in `Column`; None where any will do."""
        return {column.name: column.sql for column, _ in self._taken}

    def of(self, obj: Any, class_name: str, *, unsaved: bool = False) -> dict[str, Plain]:
        """The values for an object that is awake, of that class; `unsaved` as in `plain`. Raises `CannotIndex`."""
        found: dict[str, Plain] = {}
        for column, accessor in self._taken:
            try:
                value = accessor(obj)
            except Exception as error:  # noqa: BLE001 (a function of the user's: anything may come out)
                self._warn(column.name, class_name, error)
                value = None
            try:
                told = plain(value, unsaved=unsaved)
                refusal = column.refusal(told)
                if refusal:
                    raise ValueError(refusal)
            except ValueError as error:
                raise cannot_index(obj, class_name, column.name, value, error) from error
            found[column.name] = told
        return found

    def _warn(self, name: str, class_name: str, error: Exception) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"The extra field {name!r} is left empty where its function raises, as for {class_name}:"
                f" {type(error).__name__}: {error}",
                stacklevel=2,
            )


def header_fields(obj: Any, facts: ClassFacts, extra: ExtraFields | None) -> Fields:
    """What the header of a record tells of an object that is awake. Raises `CannotIndex`."""
    fields = facts.fields(obj) if facts.fields is not None else NO_FIELDS
    if extra is None or facts.flags & INTERNAL:
        return fields
    return {**fields, **extra.of(obj, facts.name)}


def indexed_fields(names: Iterable[str], extra: ExtraFields | None) -> tuple[str, ...]:
    """The fields that queries may ask for, of a class with these indexed attributes."""
    return tuple(names) if extra is None else tuple(dict.fromkeys((*names, *extra.names)))


def _column(key: Any) -> Column:
    name: Any
    if isinstance(key, str):
        name, found = key, Column(key)
    else:
        name, type_ = getattr(key, "name", None), getattr(key, "type", None)
        compiled = getattr(type_, "compile", None)
        if not isinstance(name, str) or compiled is None:
            raise InvalidArgument(f"extra_fields is keyed by names or SQLAlchemy columns, not by {key!r:.60}")
        sql = "TEXT" if str(type_) == "VARCHAR" else type_  # of any length: not every database has such a VARCHAR
        found = Column(name, sql, _kinds(type_), getattr(type_, "length", None))
    if not name or not name.isprintable():
        raise CannotIndex(f"extra_fields names a column {name!r}.", hint="Give it a name that can be printed.")
    return found


def _kinds(type_: Any) -> tuple[type[Any], ...]:
    """The Python types of values that a column of SQLAlchemy's type holds; () where it does not tell, or any may do."""
    try:
        told = type_.python_type
    except NotImplementedError:
        return ()
    return {str: (str,), int: (int,), bool: (bool, int), float: (int, float)}.get(told, ())
