"""Rows of a store's SQLite tables: numbers to look for, and the ids inside frames.

- A row's id is in its frame; what cannot be read is told as damage, or left out where the caller says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.backends.base import number_of, numbers_of
from perdure.backends.damage import expect
from perdure.backends.frames import readable_id
from perdure.errors import CorruptRecord
from perdure.records.values import Commit, Version

HEAD = 320  # so many bytes of a frame hold its id
LISTED = "json_each(?) CROSS JOIN"  # joins a list of numbers, in its order; the fastest for thousands of them

# Number and head of what was there at a revision: of numbers, revision, the same numbers, and twice the revision.
HEADS_AT = (
    f"SELECT number, substr(frame, 1, {HEAD}) FROM {LISTED} records ON number = value WHERE revision <= ?"
    f" UNION ALL SELECT number, substr(frame, 1, {HEAD}) FROM {LISTED} superseded ON number = value"
    " WHERE typeof(frame) NOT IN ('null', 'text')"
    " AND revision = (SELECT max(revision) FROM superseded WHERE number = value AND revision <= ?)"
    " AND NOT EXISTS (SELECT 1 FROM records WHERE records.number = value AND records.revision <= ?)"
)


def as_json(ids: Iterable[str]) -> str:
    """The numbers of these ids, for `LISTED`."""
    return str([number_of(id_) for id_ in ids])


def id_in(head: bytes | str | None, number: int) -> str:
    """The id in the frame, or in its beginning, or in place of one (see `versions_in`).

    Raises `CorruptRecord` if it cannot be that of row `number`.
    """
    id_ = head if isinstance(head, str) else readable_id(head)
    if not id_.endswith(f".{number}"):
        raise CorruptRecord(f"The record with number {number} is damaged: its id cannot be read.")
    return id_


def commit_in(row: Any) -> Commit:
    """The commit in a row of `commits`: revision, time, note, code, numbers."""
    revision, time, note, code, text = row
    numbers = tuple(numbers_of(text))
    return Commit(expect(int, revision), expect(float, time), expect(str, note), expect(str, code), numbers)


def versions_in(rows: list[Any], number: int, id_: str) -> list[Version]:
    """The versions of an object in rows of revision and frame, newest first; none if the rows are another id's.

    In place of a frame, the row of a removal holds the id; in older stores it holds nothing.
    """
    found = next((frame for _, frame in rows if frame is not None), None)
    if found is None or id_in(found, number) != id_:
        return []
    return [
        Version(expect(int, revision), None if frame is None or isinstance(frame, str) else expect(bytes, frame))
        for revision, frame in rows
    ]


def is_dense(first: int, last: int, count: int) -> bool:
    """Whether so many numbers, from `first` to `last`, leave hardly a gap."""
    return count <= last - first + 1 <= count + count // 4
