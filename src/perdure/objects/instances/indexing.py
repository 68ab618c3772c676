"""What stands in a record's header for queries: values of indexed attributes, as every backend orders them.

- `__indexed__` of a class and of all its bases count. An attribute that an object has not got counts as None.
- The values are taken when the object is saved, properties included; what cannot be a value is `CannotIndex`.
- What one value becomes never depends on the others of its class, so that equal values stay equal, and order is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from enum import Enum
from functools import cached_property
from operator import index
from pathlib import PurePath
from typing import Any

from perdure.errors import CannotIndex
from perdure.objects.instances.guests import id_of_guest, is_guest, is_guest_class
from perdure.objects.instances.persistable import Persistable
from perdure.records.queries import INTEGERS, LONGEST_TEXT, sort_key
from perdure.records.values import Fields, Plain

Take = Callable[[Any], Fields]

DIGITS = 15  # of a Decimal: so many survive as a float, each apart from every other
ALLOWED = (
    "None, bool, int (64 bits), float (no NaN), str (up to 1,000 bytes as UTF-8), datetime, date, Enum, Path,"
    f" Decimal (up to {DIGITS} digits), or a Persistable"
)
_SHORT = LONGEST_TEXT  # characters of ASCII


def indexed_names(cls: type[Any]) -> tuple[str, ...]:
    """The attributes that `__indexed__` of the class and its bases name, each once, those of bases first."""
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        told = base.__dict__.get("__indexed__", ())
        for name in [told] if isinstance(told, str) else told:
            if not isinstance(name, str) or not name.isidentifier():
                raise CannotIndex(
                    f"{base.__qualname__}.__indexed__ names {name!r}, which is no name of an attribute.",
                    hint='Write it as a tuple of names: __indexed__ = ("state", "created").',
                )
            names[name] = None
    return tuple(names)


def taker(class_name: str, names: Iterable[str]) -> Take:
    """A function that gives the fields of an object of that class, which must be awake; raises `CannotIndex`."""
    wanted = tuple(names)

    def take(obj: Any) -> Fields:
        fields: dict[str, Plain] = {}
        for name in wanted:
            value = attribute(obj, class_name, name)
            kind = type(value)
            if (
                value is None
                or kind is bool
                or (kind is int and value in INTEGERS)
                or (kind is str and len(value) <= _SHORT and value.isascii())
            ):
                fields[name] = value
            else:
                try:
                    fields[name] = plain(value)
                except ValueError as error:
                    raise cannot_index(obj, class_name, name, value, error) from error
        return fields

    return take


def attribute(obj: Any, class_name: str, name: str) -> Any:
    """The value of an attribute or property; None if there is none. Raises `CannotIndex` if the property raises."""
    try:
        return getattr(obj, name)
    except Exception as error:  # a property of the user's: anything may come out
        if isinstance(error, AttributeError) and not _is_property(type(obj), name):
            return None
        raise CannotIndex(
            f"{_named(obj, class_name)} cannot be saved: its indexed property {name!r} raised"
            f" {type(error).__name__}: {error}".rstrip(": "),
            hint="Indexed properties are asked whenever the object is saved.",
            ids=_ids(obj),
            attribute=name,
        ) from error


def _is_property(cls: type[Any], name: str) -> bool:
    """Whether the attribute is computed, so that an `AttributeError` does not mean that it is missing."""
    found = next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)
    return isinstance(found, (property, cached_property))


def plain(value: Any, *, unsaved: bool = False) -> Plain:
    """What stands for a value in headers and queries; `ValueError` says why there is nothing.

    With `unsaved`, an object without an id gets a text that equals no other: for comparisons in memory.
    """
    found = _converted(value, unsaved)
    sort_key(found)  # raises for what is too long, too large, NaN
    return found


def _converted(value: Any, unsaved: bool) -> Plain:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        result: Plain = value
        return result
    if issubclass(kind, Persistable) or is_guest_class(kind):
        return _id_of(value, unsaved)
    if issubclass(kind, Enum):
        return _converted(value.value, unsaved) if isinstance(value.value, (bool, int, float, str)) else value.name
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, datetime):
        return _moment(value)
    if issubclass(kind, date):
        return date.isoformat(value)
    if issubclass(kind, PurePath):
        return str(value)
    decimals = sys.modules.get("decimal")  # who has a Decimal has imported it
    if decimals is not None and issubclass(kind, decimals.Decimal):
        return _decimal(value)
    if hasattr(kind, "__index__"):  # int's subclasses, NumPy's integers
        return index(value)
    raise ValueError("no database orders such values")


def _id_of(obj: Any, unsaved: bool) -> str:
    for id_ in _ids(obj):
        return id_
    if unsaved:
        return f"unsaved at {id(obj):x}"
    raise ValueError("it is an object that was not saved, and that nothing refers to which is")


def _moment(value: datetime) -> str:
    """ISO 8601 with microseconds, always as long; with a time zone it is told in UTC."""
    if value.tzinfo is None or value.utcoffset() is None:
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")
    try:
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        raise ValueError("its moment is in no year from 1 to 9999 in UTC") from None


def _decimal(value: Any) -> float:
    if value.is_nan():
        raise ValueError("NaN has no place in any order")
    found = float(value)
    digits = len(value.normalize().as_tuple().digits) if value.is_finite() else 0
    if digits > DIGITS or (value.is_finite() and type(value)(repr(found)) != value):
        raise ValueError(f"a Decimal of more than {DIGITS} digits, or out of the range of float, would lose some")
    return found


def cannot_index(obj: Any, class_name: str, name: str, value: Any, why: ValueError) -> CannotIndex:
    """The error for an attribute whose value cannot stand in an index."""
    kind = type(value)
    return CannotIndex(
        f"{_named(obj, class_name)} cannot be saved: its field {name!r} is a {kind.__qualname__}: {why}.",
        hint=f"Allowed are {ALLOWED}.",
        ids=_ids(obj),
        attribute=name,
    )


def _ids(obj: Any) -> tuple[str, ...]:
    """The id of an object, if it has one; a stand-in for it tells its id as well."""
    id_ = obj.persistent_id if issubclass(type(obj), Persistable) else id_of_guest(obj) if is_guest(obj) else None
    return (str(id_),) if id_ is not None else ()


def _named(obj: Any, class_name: str) -> str:
    return " ".join([*_ids(obj), f"({class_name})"])
