"""Questions about the fields in headers, and the order in which values of fields stand: the same on every backend.

- A field's value is None, a number (a bool counts as 0 or 1) or a text; None stands before numbers, numbers before
  texts. Texts are ordered by their UTF-8 bytes (that is, by code points), in no language's order.
- `sort_key` gives bytes that compare, byte by byte, as the values do: what a database indexes, whatever its collation.
- A range holds for values of its own kind only: `size > 5` is never true of a text or of None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isnan
from struct import pack, unpack
from typing import Any, Literal, NamedTuple

from perdure.errors import CorruptRecord
from perdure.records.values import Fields, Plain

LONGEST_TEXT = 1000  # bytes of UTF-8; the longest that an index of each database takes
INTEGERS = range(-(2**63), 2**63)

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "prefix"]
OPERATORS: dict[str, Operator] = {  # by what a user writes after a field's name
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "in": "in", "startswith": "prefix",
}  # fmt: skip

_NONE, _NUMBER, _TEXT = b"\x10", b"\x20", b"\x30"
_SIGN = 1 << 63


MOST_VALUES = 10_000  # of all conditions together; SQLite takes 32,766 parameters, PostgreSQL 65,535
MOST_FIELDS = 50  # each is a join; MariaDB takes 61 tables, SQLite 64


class Condition(NamedTuple):
    """`field operator value`; for `in` the value is a tuple of plain values, for `prefix` a text."""

    field: str
    operator: Operator
    value: Any


class Query(NamedTuple):
    """Which objects of these classes (by their names in records), in which order, how many.

    All conditions hold for each object. `order` names fields with True for descending; what is equal so far, and
    everything without an order, stands in the order of numbers.
    """

    classes: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    limit: int | None = None
    offset: int = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that must be known of each object, each once."""
        named = [*(condition.field for condition in self.conditions), *(field for field, _ in self.order)]
        return tuple(dict.fromkeys(named))

    @property
    def is_wide(self) -> bool:
        """Whether it asks for more than one statement of SQL can ask for on every database."""
        values = sum(len(condition.value) if condition.operator == "in" else 2 for condition in self.conditions)
        return values > MOST_VALUES or len(self.fields) > MOST_FIELDS


class Found(NamedTuple):
    """What a backend answers: the ids, as of `revision`."""

    revision: int
    ids: list[str]


def sort_key(value: Plain) -> bytes:
    """Bytes that sort as the values do. Raises `ValueError` saying why a value cannot be indexed."""
    if value is None:
        return _NONE
    if isinstance(value, str):
        try:
            text = value.encode()
        except UnicodeEncodeError:
            raise ValueError("a text with half of a surrogate pair has no UTF-8") from None
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"a text of {len(text)} bytes is longer than the {LONGEST_TEXT} that an index takes")
        return _TEXT + text
    if not isinstance(value, (int, float)):
        raise ValueError(f"{type(value).__name__} is neither None, a number nor a text")
    if isinstance(value, float):
        if isnan(value):
            raise ValueError("NaN has no place in any order")
        return _NUMBER + _float_key(value) + _rest(0)
    if value not in INTEGERS:
        raise ValueError("the integer does not fit in 64 bits")
    nearest = float(value)
    return _NUMBER + _float_key(nearest) + _rest(value - int(nearest))


def stored_key(fields: Fields, field: str) -> bytes:
    """The key of what a header tells; None if it tells nothing. Raises `CorruptRecord` for what no release writes."""
    try:
        return sort_key(fields.get(field))
    except ValueError as error:
        raise CorruptRecord(f"A record tells as {field!r} what cannot be compared: {error}.") from error


def matches(fields: Fields, query: Query) -> bool:
    """Whether the conditions hold for an object with these fields; a field that it lacks counts as None."""
    return matcher(query)(fields)


def matcher(query: Query) -> Callable[[Fields], bool]:
    """`matches` for many objects: what the conditions ask for is made a key once."""
    tests = [(condition.field, _test(condition)) for condition in query.conditions]

    def holds(fields: Fields) -> bool:
        return all(test(stored_key(fields, field)) for field, test in tests)

    return holds


def arrange(found: Iterable[tuple[str, int, Fields]], query: Query) -> list[str]:
    """The ids of (id, number, fields), put into the query's order and cut to its limit."""
    rows = sorted(found, key=lambda row: row[1])
    for field, descending in reversed(query.order):
        rows.sort(key=lambda row: stored_key(row[2], field), reverse=descending)
    end = None if query.limit is None else query.offset + query.limit
    return [id_ for id_, _, _ in rows[query.offset : end]]


def bounds(condition: Condition) -> tuple[bytes, bytes]:
    """The keys of a range or prefix, as `first <= key < end` (for every operator but `==`, `!=` and `in`)."""
    key = sort_key(condition.value)
    kind = key[:1]
    first, end = kind, bytes([kind[0] + 1])
    match condition.operator:
        case "<":
            return first, key
        case "<=":
            return first, key + b"\0"
        case ">":
            return key + b"\0", end
        case ">=":
            return key, end
        case "prefix":
            return key, _after_prefix(key)
    raise ValueError(f"{condition.operator!r} is no range")


def _test(condition: Condition) -> Callable[[bytes], bool]:
    """Whether the condition holds for a value with that key."""
    match condition.operator:
        case "==":
            return sort_key(condition.value).__eq__
        case "!=":
            return sort_key(condition.value).__ne__
        case "in":
            return {sort_key(each) for each in condition.value}.__contains__
    first, end = bounds(condition)
    return lambda key: first <= key < end


def _after_prefix(key: bytes) -> bytes:
    """The least key above all that begin with `key`: UTF-8 has no byte 255."""
    return key[:-1] + bytes([key[-1] + 1])


def _float_key(value: float) -> bytes:
    """IEEE 754 doubles in the order of their values: sign flipped, and all bits of negative ones."""
    bits: int = unpack(">Q", pack(">d", value or 0.0))[0]  # minus zero is zero
    return pack(">Q", bits ^ (_SIGN if bits < _SIGN else 2**64 - 1))


def _rest(difference: int) -> bytes:
    """What is missing from the nearest double to an integer of 64 bits: at most 1,024 either way."""
    return pack(">H", difference + 0x8000)
