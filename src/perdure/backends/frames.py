"""Frames in rows of SQL tables, the ids inside them, and the numbers of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perdure import kernels
from perdure.backends.base import number_of
from perdure.records.frame import NARROW_HEAD, id_of


def by_id(rows: Iterable[tuple[bytes]]) -> dict[str, bytes]:
    """The frames under the ids in them; one whose id cannot be read is left out."""
    if kernels.compiled is not None:
        found: dict[str, bytes] = kernels.compiled.frames_by_id(rows)
        if found is not NotImplemented:
            return found
    try:
        # `id_of` written out for the common head: this line is run for every record of a bulk load.
        return {
            (frame[NARROW_HEAD : NARROW_HEAD + frame[16]].decode() if frame[5] < 0x80 else id_of(frame)): frame
            for (frame,) in rows
        }
    except (IndexError, UnicodeDecodeError):
        return {id_: frame for (frame,) in rows if (id_ := readable_id(frame))}


def names_by_id(rows: list[tuple[int, bytes | None]], names: Mapping[int, str], wanted: set[str]) -> dict[str, str]:
    """Names of classes by the ids that are wanted; rows have a class's number and the beginning of a frame."""
    if kernels.compiled is not None:
        found: dict[str, str] = kernels.compiled.names_by_id(rows, names, wanted)
        if found is not NotImplemented:
            return found
    return {id_: names[number] for number, head in rows if (id_ := readable_id(head)) in wanted}


def numbers_in(ids: Iterable[str]) -> list[int]:
    """The numbers of ids whose shape was checked before."""
    listed = [*ids]
    if kernels.compiled is not None:
        found: list[int] = kernels.compiled.numbers_in(listed)
        if found is not NotImplemented:
            return found
    return [number_of(id_) for id_ in listed]


def in_order(ids: Iterable[str]) -> list[str]:
    """Ids, whose shape was checked before, in the order of their numbers."""
    listed = [*ids]
    numbers = iter(numbers_in(listed))
    return sorted(listed, key=lambda _: next(numbers))  # keys are asked for one after the other


def readable_id(head: bytes | None) -> str:
    """The id in the frame, or in its beginning; empty if it cannot be read. SQLite's `substr` of no bytes is None."""
    try:
        return id_of(head) if head else ""
    except (IndexError, UnicodeDecodeError):
        return ""
