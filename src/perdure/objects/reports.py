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


class Upgraded(NamedTuple):
    """What was written anew (or would be) of how many `objects`, how many could not be, and why: the first of them."""

    written: int
    objects: int
    failures: int
    problems: tuple[Problem, ...]


class Planned(NamedTuple):
    """Records of one class, version and shape: how many there are now, and how many older versions in the history.

    `attributes` are those that the records tell; None where they do not. `nested`: values inside of records, which
    count once for each record that holds some. `example` is the id of one.
    """

    class_name: str
    version: int
    attributes: tuple[str, ...] | None
    nested: bool
    records: int
    older: int
    example: str
