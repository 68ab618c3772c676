"""Rows of a store's SQLite tables: numbers to look for, and the ids inside frames.

- A row's id is in its frame; what cannot be read is told as damage, or left out where the caller says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.backends.base import number_of
from perdure.errors import CorruptRecord
from perdure.records.frame import NARROW_HEAD, id_of

HEAD = 320  # so many bytes of a frame hold its id
LISTED = "json_each(?) CROSS JOIN"  # joins a list of numbers, in its order; the fastest for thousands of them


def as_json(ids: Iterable[str]) -> str:
    """The numbers of these ids, for `LISTED`."""
    return str([number_of(id_) for id_ in ids])


def id_in(head: bytes | str | None, number: int) -> str:
    """The id in the frame, or in its beginning, or in place of one (see `is_frame`).

    Raises `CorruptRecord` if it cannot be that of row `number`.
    """
    id_ = head if isinstance(head, str) else readable_id(head)
    if not id_.endswith(f".{number}"):
        raise CorruptRecord(f"The record with number {number} is damaged: its id cannot be read.")
    return id_


def by_id(rows: Iterable[tuple[bytes]]) -> dict[str, bytes]:
    """The frames under the ids in them; one whose id cannot be read is left out."""
    try:
        # `id_of` written out for the common head: this line is run for every record of a bulk load.
        return {
            (frame[NARROW_HEAD : NARROW_HEAD + frame[16]].decode() if frame[5] < 0x80 else id_of(frame)): frame
            for (frame,) in rows
        }
    except (IndexError, UnicodeDecodeError):
        return {id_: frame for (frame,) in rows if (id_ := readable_id(frame))}


def readable_id(head: bytes | None) -> str:
    """The id in the frame, or in its beginning; empty if it cannot be read. SQLite's `substr` of no bytes is None."""
    try:
        return id_of(head) if head else ""
    except (IndexError, UnicodeDecodeError):
        return ""


def is_frame(value: object) -> bool:
    """Whether a row holds a frame: that of a removal holds the id, or in older stores nothing."""
    return value is not None and not isinstance(value, str)
