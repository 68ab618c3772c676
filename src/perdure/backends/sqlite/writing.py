"""The statements of one commit, within the transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import repeat
from operator import itemgetter

from perdure import kernels
from perdure.backends.base import (
    CHUNK,
    FEW,
    mismatches,
    number_of,
    number_taken,
    numbers_of,
    refuse_absent,
    refuse_conflicts,
    refuse_referred,
)
from perdure.backends.frames import numbers_in, readable_id
from perdure.backends.sqlite.rows import HEAD, LISTED, as_json, id_in
from perdure.errors import IdInUse
from perdure.records.frame import Encoder
from perdure.records.values import INTERNAL, Batch, Draft

ClassNumbers = dict[tuple[str, int], int]  # (class name, INTERNAL or 0) -> its number in `classes`
Kind = tuple[int, str]  # flags and name of a class

COUNT = "UPDATE meta SET value = CASE name WHEN 'revision' THEN ? ELSE ? END WHERE name IN ('revision', 'next_number')"
UPSERT = (
    " ON CONFLICT (number) DO UPDATE SET revision = excluded.revision, class = excluded.class, frame = excluded.frame"
)
_KIND = itemgetter(2, 3)  # of a draft
_TOGETHER = 40  # rows that one INSERT takes: 21 ms for 20,000 of them, 33 ms one by one
_INSERT = [
    f"INSERT INTO records (number, revision, class, frame) VALUES {', '.join(['(?, ?, ?, ?)'] * count)}"
    for count in range(_TOGETHER + 1)
]  # made once, so that sqlite3 finds the statement by a text whose hash is known
_UPSERT = [sql + UPSERT for sql in _INSERT]
_UPDATE = "UPDATE records SET revision = ?2, class = ?3, frame = ?4 WHERE number = ?1"
_SUPERSEDE = "INSERT INTO superseded SELECT number, revision, frame FROM"
_SUPERSEDE_ONE = f"{_SUPERSEDE} records WHERE number = ?"


def refuse_taken(connection: sqlite3.Connection, new: dict[int, str]) -> None:
    """Raise `IdInUse` if one of these new ids, by number, has a number that an object has or had."""
    if not new:
        return
    first, last = min(new), max(new)
    taken = connection.execute(
        "SELECT number FROM records WHERE number BETWEEN ? AND ?"
        " UNION ALL SELECT number FROM superseded WHERE number BETWEEN ? AND ? LIMIT 1",
        (first, last, first, last),
    ).fetchall()
    if taken:  # somewhere in the range; now exactly
        numbers = str(list(new))
        sql = f"SELECT number FROM {LISTED} records ON number = value UNION"
        sql += f" SELECT number FROM {LISTED} superseded ON number = value ORDER BY number LIMIT 1"
        taken = connection.execute(sql, (numbers, numbers)).fetchall()
    for (number,) in taken:
        raise number_taken(new[number], number)


def drafted(drafts: list[Draft]) -> tuple[list[int], list[int], set[Kind]]:
    """The numbers of drafts, those of them that replace what is there, and flags and names of their classes."""
    if kernels.compiled is not None:
        found = kernels.compiled.drafted(drafts)
        if found is not NotImplemented:
            told: tuple[list[int], list[int], set[Kind]] = found
            return told
    numbers = numbers_in([draft.id for draft in drafts])
    replaced = [number for number, draft in zip(numbers, drafts, strict=True) if draft.base]
    return numbers, replaced, set(map(_KIND, drafts))


def any_twice(numbers: list[int]) -> bool:
    """Whether a number is there twice. A set of them would take more memory than the rows of most commits."""
    found = NotImplemented if kernels.compiled is None else kernels.compiled.any_twice(numbers)
    return len(set(numbers)) < len(numbers) if found is NotImplemented else bool(found)


def refuse_twice(drafts: list[Draft]) -> None:
    """Raise `IdInUse` if a new draft has the number of another one."""
    seen: dict[int, Draft] = {}
    for draft in drafts:
        other = seen.setdefault(number_of(draft.id), draft)
        if other is not draft and not (draft.base and other.base):
            new, there = (draft, other) if not draft.base else (other, draft)
            raise IdInUse(
                f"{new.id} cannot be new: {there.id} of the same commit has its number.",
                hint="The factory of ids must never give a number twice.",
                ids=(new.id, there.id),
            )


def refuse_conflicts_in(connection: sqlite3.Connection, batch: Batch, *, replaces: bool) -> None:
    """Raise `ConflictError` if what the batch was read at is not what is stored. `replaces`: not all drafts are new."""
    expected = {draft.id: draft.base for draft in batch.drafts if draft.base} if replaces else {}
    expected.update(batch.removals)
    expected.update(batch.checks)
    sql = f"SELECT number, revision, substr(frame, 1, {HEAD}) FROM {LISTED} records ON number = value"
    rows = connection.execute(sql, (as_json(expected),)).fetchall() if expected else []
    differing = mismatches(expected, {id_in(head, number): revision for number, revision, head in rows})
    for draft in batch.drafts if differing else ():
        if draft.base and draft.id in differing and removal_of(connection, draft.id) == draft.base:
            del differing[draft.id]  # an object that was removed then comes back
    refuse_conflicts(differing)


def removal_of(connection: sqlite3.Connection, id_: str) -> int:
    """The revision by which the object was removed, if it is not there; else 0."""
    number = number_of(id_)
    sql = "SELECT revision, frame FROM superseded WHERE number = ? ORDER BY revision DESC LIMIT 2"
    rows = connection.execute(sql, (number,)).fetchall()
    if not rows or isinstance(rows[0][1], bytes):
        return 0
    if connection.execute("SELECT 1 FROM records WHERE number = ?", (number,)).fetchone():
        return 0
    known = next((readable_id(frame) if isinstance(frame, bytes) else frame for _, frame in rows if frame), "")
    return int(rows[0][0]) if known == id_ else 0


def refuse_referred_in(connection: sqlite3.Connection, batch: Batch) -> None:
    """Raise `ConflictError` if something that was written after `batch.seen` refers to what must be unreferred."""
    refuse_referred(batch, later(connection, batch.seen, present=True))


def refuse_absent_in(connection: sqlite3.Connection, batch: Batch) -> None:
    """Raise `ConflictError` if an id that drafts newly refer to is not there."""
    sql = f"SELECT number, substr(frame, 1, {HEAD}) FROM {LISTED} records ON number = value"
    rows = connection.execute(sql, (as_json(batch.needed),)).fetchall()
    refuse_absent(batch, {id_in(head, number) for number, head in rows})


def later(connection: sqlite3.Connection, seen: int, *, present: bool = False) -> Iterator[bytes]:
    """The frames that were written after revision `seen`: of every version, or only of what is there."""
    (oldest,) = connection.execute("SELECT value FROM meta WHERE name = 'oldest'").fetchone()
    among, numbers = "", [""]
    if seen >= oldest:  # else not every commit since then is kept
        rows = connection.execute("SELECT numbers FROM commits WHERE revision > ?", (seen,)).fetchall()
        listed = sorted({number for (text,) in rows for number in numbers_of(text)})
        among = "number IN (SELECT value FROM json_each(?)) AND "
        numbers = [str(listed[start : start + CHUNK]) for start in range(0, len(listed), CHUNK)]
    for table in ("records",) if present else ("records", "superseded"):
        sql = f"SELECT frame FROM {table} WHERE {among}revision > ? AND typeof(frame) = 'blob'"
        for chunk in numbers:
            for (frame,) in connection.execute(sql, (chunk, seen) if among else (seen,)):
                yield frame


def supersede(connection: sqlite3.Connection, replaced: list[int], removed: dict[int, str], revision: int) -> None:
    """Keep the present versions of those numbers as old ones, and note the removals with their ids."""
    numbers = [*replaced, *removed]
    if len(numbers) <= FEW:
        for number in numbers:
            connection.execute(_SUPERSEDE_ONE, (number,))
    else:
        connection.execute(f"{_SUPERSEDE} {LISTED} records ON number = value", (str(numbers),))
    if removed:
        connection.executemany("DELETE FROM records WHERE number = ?", zip(removed))
        rows = zip(removed, repeat(revision), removed.values())
        connection.executemany("INSERT INTO superseded VALUES (?, ?, ?)", rows)


def insert(
    connection: sqlite3.Connection,
    drafts: list[Draft],
    numbers: list[int],
    known: ClassNumbers,
    encode: Encoder,
    revision: int,
    *,
    replaces: bool,
) -> None:
    """Put the drafts into `records`; each frame is made when its turn comes, so that never many are held."""
    statements, end = _UPSERT if replaces else _INSERT, len(drafts)
    for start in range(0, end, _TOGETHER):
        count = _TOGETHER if end - start > _TOGETHER else end - start
        values = row_values(encode, drafts, numbers, known, revision, start, start + count)
        if replaces and end == 1 and connection.execute(_UPDATE, values).rowcount == 1:
            return  # in half the time; else it was removed, and comes back
        connection.execute(statements[count], values)


def row_values(
    encode: Encoder,
    drafts: list[Draft],
    numbers: list[int],
    known: ClassNumbers,
    revision: int,
    start: int,
    stop: int,
) -> tuple[object, ...]:
    """Number, revision, class and frame of the drafts from `start` to `stop`, one after the other.

    Frames are bytearrays: for `bytes`, sqlite3 looks for an adapter first, which takes longer than to write them.
    """
    if kernels.compiled is not None:
        values: tuple[object, ...]
        values = kernels.compiled.row_values(encode, drafts, numbers, known, revision, start, stop)
        return values
    made: list[object] = []
    for draft, number in zip(drafts[start:stop], numbers[start:stop], strict=True):
        class_number = known[draft[3], draft[2] & INTERNAL]
        made += number, revision, class_number, bytearray(encode(draft, revision))
    return tuple(made)


def name_classes(connection: sqlite3.Connection, kinds: set[Kind], known: ClassNumbers) -> None:
    """Put a number for each class of the drafts (flags, name) into `known`: the table's, or a new one."""
    for flags, name in sorted(kinds):
        internal = flags & INTERNAL
        if (name, internal) in known:
            continue
        sign, next_number = ("<", "min(number) - 1, -1") if internal else (">", "max(number) + 1, 1")
        sql = f"SELECT number FROM classes WHERE name = ? AND number {sign} 0"
        row = connection.execute(sql, (name,)).fetchone()
        if row is None:
            row = connection.execute(f"SELECT ifnull({next_number}) FROM classes WHERE number {sign} 0").fetchone()
            connection.execute("INSERT INTO classes VALUES (?, ?)", (row[0], name))
        known[name, internal] = row[0]
