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


class BackedUp(NamedTuple):
    """What was written into a backup: what came after revision `since`, up to `revision`.

    `anew`: the file was begun anew, since the store was packed beyond what it held. `cut` are the bytes of an earlier
    attempt that was cut off; `bytes` is what was written, `size` the length of the file.
    """

    since: int
    revision: int
    records: int
    pieces: int
    bytes: int
    size: int
    anew: bool
    cut: int


class Restored(NamedTuple):
    """A store that was filled from a backup, or from another store, and read again: all of it is as it was there.

    `written` are the revisions that were not there yet, of all up to `revision`. `sealed` is whether every seal was
    found good; None where the key is not on this machine. `torn` are the bytes of a backup that were left aside.
    `unfilled` are extra fields of the store that not every record told: columns have NULL there.
    """

    revision: int
    written: int
    records: int
    pieces: int
    sealed: bool | None
    torn: int = 0
    unfilled: tuple[str, ...] = ()


class Repaired(NamedTuple):
    """What was wrong with a store, what was done about it (or would be), and what is still wrong.

    `folder` is where all that was taken out of the store is kept; empty where nothing was.
    """

    found: tuple[Problem, ...]
    done: tuple[Problem, ...]
    left: tuple[Problem, ...]
    folder: str
