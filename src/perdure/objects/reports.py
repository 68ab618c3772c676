"""What work on a whole store reports."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """Something that is wrong: the id that it is about (empty: the store as a whole), and what it is."""

    id: str
    what: str


class Packed(NamedTuple):
    """What was forgotten: versions and large pieces; `bytes` is what the store became smaller by, None if unknown.

    `oldest` is the oldest revision that is kept whole now.
    """

    oldest: int
    versions: int
    pieces: int
    bytes: int | None


class Collected(NamedTuple):
    """What was collected: how many of how many `objects`, and the ids of the first of them."""

    removed: int
    objects: int
    ids: tuple[str, ...]
