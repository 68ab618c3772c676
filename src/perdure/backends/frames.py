"""Frames in rows of SQL tables, and the ids inside them."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.records.frame import NARROW_HEAD, id_of


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
