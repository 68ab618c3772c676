"""The statements of a commit in PostgreSQL.

- A small commit is one statement: every part of it hangs on the row of `meta` that its first part changed, so all of it
  happens or nothing. Its text depends only on which parts there are, so that it is prepared once.
- A large one is a transaction, and its rows go by COPY, in the binary format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any

from psycopg.errors import UniqueViolation

from perdure.backends.base import number_of
from perdure.backends.server.connection import Cursor
from perdure.backends.server.schema import FORMAT, Schema
from perdure.backends.server.uploading import PIECE
from perdure.backends.server.writing import ClassNumbers, Locked, Plan, Writer, plain_text
from perdure.records.compression import stored_parts
from perdure.records.values import Buffer

_AT_ONCE = 200  # records of a commit that goes as one statement
_AT_ONCE_BYTES = 1 << 22  # of their payloads
_BLOCK = 1 << 18  # bytes that COPY is given at a time

# COPY's binary format: a header, rows with the number of their columns, a length before each value, and -1 at the end.
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + b"\0" * 8
_COPY_END = b"\xff\xff"
_RECORD = Struct("!hiqiqiii")  # of 5 columns: number, revision, class; the length of the id
_FIELD = Struct("!hiqiii")  # of 4 columns: number, class; the length of the field's name
_PIECE = Struct("!hiiiii")  # of 4 columns: part, length; the length of the digest
_LENGTH = Struct("!i")

_COUNT = (
    "UPDATE {counter} SET next_number = greatest("
    "CASE WHEN next_number = %(end)s THEN %(first)s ELSE next_number END, %(above)s)"
)


class PostgresqlWriter(Writer):
    """Commits in PostgreSQL."""

    def __init__(self, schema: Schema, place: str):
        super().__init__(schema, place)
        self._statements: dict[tuple[bool, ...], str] = {}

    def fits(self, plan: Plan) -> bool:
        drafts = plan.batch.drafts
        return len(drafts) <= _AT_ONCE and sum(len(draft.payload) for draft in drafts) <= _AT_ONCE_BYTES

    def at_once(self, cursor: Cursor, plan: Plan) -> int | None:
        values = self._values(plan, plan.batch.seen) | self._record_values(plan, plan.batch.seen + 1, self.classes)
        sql = self._statement(plan, whole=True)
        plan.sent = True
        try:
            cursor.execute(sql, values)
        except UniqueViolation:  # a number that was given before: the long way finds out which
            return None
        row = cursor.fetchone()
        return None if row is None else int(row[0])

    def lock(self, cursor: Cursor, plan: Plan) -> Locked:
        cursor.execute("BEGIN")
        if plan.batch.buffers:
            self.upload(cursor, plan.batch.buffers)
        spell = self.schema.spell
        look = f"revision > {plan.batch.seen} AND token = '\\x{plan.token.hex()}'" if plan.in_doubt else "false"
        meta, done, rows = run(
            cursor,
            spell("SELECT format, revision, store FROM {meta} FOR UPDATE;")
            + spell("SELECT revision FROM {commits} WHERE ") + look
            + spell("; SELECT number, revision, class, id FROM {records} WHERE number = ANY('")
            + array(plan.looked_up) + "'::bigint[])",
        )  # fmt: skip
        if plan.batch.buffers:  # one of them may have been there, and have been dropped before the lock was ours
            self.upload(cursor, plan.batch.buffers)
        return Locked.of(meta, done, rows)

    def write(
        self, cursor: Cursor, plan: Plan, revision: int, known: ClassNumbers, new_classes: list[tuple[int, str]]
    ) -> None:
        for number, name in new_classes:
            text = plain_text(name, "name of a class", self.place)
            cursor.execute(self.schema.spell("INSERT INTO {classes} (number, name) VALUES (%s, %s)"), (number, text))
        values = self._values(plan, revision - 1)
        if self.fits(plan):
            values |= self._record_values(plan, revision, known)
            cursor.execute(self._statement(plan, whole=True), values)
        else:
            cursor.execute(self._statement(plan, whole=False), values)
            self._copy_records(cursor, plan, revision, known)
            # Last, since those who reserve numbers wait for this row.
            cursor.execute(self.schema.spell(_COUNT), values)
        for sql in self.trimming(plan):
            cursor.execute(sql)
        if self.columns:
            self.columns.write(cursor, (*plan.new, *plan.replaced), plan.removed)
        plan.sent = True
        cursor.execute("COMMIT")

    def _statement(self, plan: Plan, *, whole: bool) -> str:
        """One commit, to revision `seen + 1`; its one row is that revision, or there is none and nothing happened."""
        shape = (
            whole, bool(plan.new), bool(plan.replaced), bool(plan.removed), bool(plan.gone), bool(plan.batch.indexed),
            bool(plan.needed),
        )  # fmt: skip
        if shape not in self._statements:
            self._statements[shape] = self.schema.spell(_commit_statement(*shape))
        return self._statements[shape]

    def _values(self, plan: Plan, seen: int) -> dict[str, Any]:
        batch = plan.batch
        return {
            "seen": seen,
            "time": batch.time,
            "note": plain_text(batch.note, "note", self.place),
            "code": plain_text(batch.code, "code", self.place),
            "runs": plan.runs,
            "token": plan.token,
            "first": batch.unused[0],
            "end": batch.unused[1],
            "above": plan.above,
            "removed": array(plan.removed),
            "gone": array(plan.gone),
            "needed": plan.needed,
            "needed_numbers": array(map(number_of, plan.needed)),
            "needed_count": len(plan.needed),
        }

    def _record_values(self, plan: Plan, revision: int, known: ClassNumbers) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for prefix, pairs in (("new", plan.new), ("old", plan.replaced)):
            if pairs:
                numbers, classes, ids, frames = zip(*plan.rows(pairs, revision, known), strict=True)
                values |= {
                    f"{prefix}_numbers": array(numbers),
                    f"{prefix}_classes": array(classes),
                    f"{prefix}_ids": list(ids),
                    f"{prefix}_frames": list(frames),
                }
        if plan.batch.indexed:
            rows = plan.index_rows(known)
            values |= {
                "f_numbers": array(row[0] for row in rows),
                "f_fields": [row[1] for row in rows],
                "f_classes": array(row[2] for row in rows),
                "f_values": [row[3] for row in rows],
            }
        return values

    def _copy_records(self, cursor: Cursor, plan: Plan, revision: int, known: ClassNumbers) -> None:
        spell = self.schema.spell
        if plan.replaced:
            numbers = array(number for number, _ in plan.replaced)
            cursor.execute(spell("DELETE FROM {records} WHERE number = ANY(%s::bigint[])"), (numbers,))

        def rows() -> Iterator[bytes]:
            pack, length = _RECORD.pack, _LENGTH.pack
            for number, class_, id_, frame in plan.rows((*plan.new, *plan.replaced), revision, known):
                id_bytes = id_.encode()
                yield pack(5, 8, number, 8, revision, 4, class_, len(id_bytes)) + id_bytes + length(len(frame)) + frame

        copy(cursor, spell("COPY {records} (number, revision, class, id, frame)"), rows())
        index_rows = plan.index_rows(known)
        if index_rows:
            pack, length = _FIELD.pack, _LENGTH.pack
            copy(
                cursor,
                spell("COPY {fields} (number, class, field, value)"),
                (
                    pack(4, 8, number, 4, class_, len(field)) + field + length(len(value)) + value
                    for number, field, class_, value in index_rows
                ),
            )

    def _claim(self, cursor: Cursor, digest: str, size: int) -> bool:
        sql = "INSERT INTO {buffers} (digest, size) VALUES (%s, %s) ON CONFLICT DO NOTHING"
        cursor.execute(self.schema.spell(sql), (digest, size))
        return bool(cursor.rowcount)

    def _write_piece(self, cursor: Cursor, digest: str, content: Buffer) -> None:
        sql = self.schema.spell("COPY {pieces} (part, length, digest, content)")
        copy(cursor, sql, _piece_rows(digest, content))


def _piece_rows(digest: str, content: Buffer) -> Iterator[bytes | memoryview]:
    key = digest.encode()
    for part, (length, piece) in enumerate(stored_parts(digest, content, PIECE)):
        yield _PIECE.pack(4, 4, part, 4, length, len(key)) + key + _LENGTH.pack(len(piece))
        yield piece


def _commit_statement(
    whole: bool, new: bool, replaced: bool, removed: bool, gone: bool, indexed: bool, needed: bool
) -> str:
    """The text of a commit; what is not `whole` leaves the counter, and the rows of drafts, to other statements."""
    there = (
        " AND (SELECT count(*) FROM {records} WHERE number = ANY(%(needed_numbers)s::bigint[]) AND class <> 0"
        " AND id = ANY(%(needed)s::text[])) = %(needed_count)s"
    )
    first = (
        "m AS (UPDATE {meta} SET revision = revision + 1"
        f" WHERE revision = %(seen)s AND format <= {FORMAT} AND {{is_own}}{there if needed else ''} RETURNING revision)"
    )
    told = (
        "c AS (INSERT INTO {commits} (revision, time, note, code, numbers, token)"
        " SELECT revision, %(time)s, %(note)s, %(code)s, %(runs)s, %(token)b FROM m)"
    )
    parts = [first, told]
    if whole:
        parts.append(f"n AS ({_COUNT} FROM m)")
    if gone:
        parts.append(
            "s AS (INSERT INTO {superseded} (number, revision, until, class, id, frame)"
            " SELECT r.number, r.revision, m.revision, r.class, r.id, coalesce(r.frame, '') FROM m, {records} r"
            " WHERE r.number = ANY(%(gone)s::bigint[]))"
        )
        kept = (
            " AND NOT EXISTS (SELECT 1 FROM unnest(%(f_numbers)s::bigint[], %(f_fields)b::bytea[]) d (number, field)"
            " WHERE d.number = f.number AND d.field = f.field)"
        )
        parts.append(
            "g AS (DELETE FROM {fields} f USING m WHERE f.number = ANY(%(gone)s::bigint[])"
            + (kept if whole and indexed else "") + ")"
        )  # fmt: skip
    if removed:
        parts.append(
            "x AS (UPDATE {records} r SET revision = m.revision, class = 0, frame = NULL FROM m"
            " WHERE r.number = ANY(%(removed)s::bigint[]))"
        )
    if whole and replaced:
        parts.append(
            "u AS (UPDATE {records} r SET revision = m.revision, class = d.class, frame = d.frame FROM m,"
            " unnest(%(old_numbers)s::bigint[], %(old_classes)s::int[], %(old_frames)b::bytea[]) d"
            " (number, class, frame) WHERE r.number = d.number)"
        )
    if whole and new:
        parts.append(
            "i AS (INSERT INTO {records} (number, revision, class, id, frame)"
            " SELECT d.number, m.revision, d.class, d.id, d.frame FROM m,"
            " unnest(%(new_numbers)s::bigint[], %(new_classes)s::int[], %(new_ids)s::text[], %(new_frames)b::bytea[]) d"
            " (number, class, id, frame))"
        )
    if whole and indexed:
        parts.append(
            "f AS (INSERT INTO {fields} (number, field, class, value)"
            " SELECT d.number, d.field, d.class, d.value FROM m,"
            " unnest(%(f_numbers)s::bigint[], %(f_fields)b::bytea[], %(f_classes)s::int[], %(f_values)b::bytea[]) d"
            " (number, field, class, value)"
            " ON CONFLICT (number, field) DO UPDATE SET class = excluded.class, value = excluded.value)"
        )
    return f"WITH {', '.join(parts)} SELECT revision FROM m"


def array(numbers: Iterable[int]) -> str:
    """Numbers as the text of an array."""
    return "{" + ",".join(map(str, numbers)) + "}"


def run(cursor: Any, sql: str) -> list[list[Any]]:
    """Statements without values, in one round trip; the rows of each that gives rows."""
    cursor.execute(sql, binary=False)
    results: list[list[Any]] = []
    more: bool | None = True
    while more:
        if cursor.description is not None:
            results.append(cursor.fetchall())
        more = cursor.nextset()
    return results


def copy(cursor: Any, target: str, rows: Iterable[bytes | memoryview]) -> None:
    """Send rows in the binary format of COPY; small ones together, large ones without a copy."""
    with cursor.copy(f"{target} FROM STDIN (FORMAT BINARY)") as sending:
        block = bytearray(_COPY_HEAD)
        for row in rows:
            if len(row) >= _BLOCK:
                sending.write(block)
                sending.write(row)
                block = bytearray()
                continue
            block += row
            if len(block) >= _BLOCK:
                sending.write(block)
                block = bytearray()
        sending.write(bytes(block) + _COPY_END)
