"""Conditions, order and limit on the command line: judged by the headers of records, without importing anything.

- `--where NAME=VALUE` means the number and the text VALUE alike; `NAME__gt=VALUE` is as in `store.find`.
- A header's text that is longer than an index takes is judged by its beginning.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice

from perdure.cli.options import Parser, whole_number
from perdure.ids import parse_id
from perdure.records.queries import LONGEST_TEXT, OPERATORS, Condition, Query, arrange, matcher, sort_key
from perdure.records.values import Plain, Record

_WORDS: dict[str, Plain] = {"none": None, "null": None, "true": True, "false": False}


def add_asking(parser: Parser) -> None:
    """`--where`, `--order`, `--limit`."""
    parser.add_argument(
        "--where", action="append", default=[], type=_conditions, metavar="NAME=VALUE",
        help="those whose field has that value; also NAME__ne, __lt, __le, __gt, __ge, __startswith, __in=A,B",
    )  # fmt: skip
    parser.add_argument(
        "--order", action="append", default=[], type=_order, metavar="NAME", help="by this field; -NAME: descending"
    )
    parser.add_argument("--limit", type=whole_number, metavar="N", help="at most so many")


def chosen(records: Iterable[Record], options: argparse.Namespace) -> Iterable[Record]:
    """Those of the records that the options ask for, in their order."""
    query = Query((), tuple(options.where), tuple(options.order), options.limit)
    holds = matcher(query)
    wanted = (record for record in records if holds(_fields(record, query)))
    if not query.order:
        return islice(wanted, query.limit)
    by_id = {record.id: record for record in wanted}
    rows = ((id_, parse_id(id_).number, _fields(record, query)) for id_, record in by_id.items())
    return [by_id[id_] for id_ in arrange(rows, query)]


def _fields(record: Record, query: Query) -> dict[str, Plain]:
    return {name: _short(record.fields.get(name)) for name in query.fields}


def _short(value: Plain) -> Plain:
    try:
        sort_key(value)
    except ValueError:
        if not isinstance(value, str):
            return None  # not a number: it is in no order
        return value.encode(errors="replace")[:LONGEST_TEXT].decode(errors="ignore")
    return value


def _conditions(word: str) -> Condition:
    name, equals, text = word.partition("=")
    field, _, suffix = name.rpartition("__")
    if not field or suffix not in OPERATORS:
        field, suffix = name, "eq"
    if not equals or not field:
        raise argparse.ArgumentTypeError(f"{word!r} is not NAME=VALUE")
    operator = OPERATORS[suffix]
    if operator == "==":
        return Condition(field, "in", _meanings(text))
    if operator == "in":
        return Condition(field, "in", tuple(value for part in text.split(",") for value in _meanings(part)))
    if operator == "prefix":
        return Condition(field, "prefix", text)
    return Condition(field, operator, _meanings(text)[0])


def _meanings(text: str) -> tuple[Plain, ...]:
    """What a word may stand for: a number, None, a bool first, then the text itself."""
    if text.lower() in _WORDS:
        return (_WORDS[text.lower()], _checked(text))
    for kind in (int, float):
        try:
            value = kind(text)
            sort_key(value)
        except (ValueError, OverflowError):
            continue
        return (value, _checked(text))
    return (_checked(text),)


def _checked(text: str) -> str:
    try:
        sort_key(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _order(word: str) -> tuple[str, bool]:
    return word.removeprefix("-"), word.startswith("-")
