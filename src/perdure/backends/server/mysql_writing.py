"""The statements of a commit in MySQL and MariaDB.

- Statements go several at a time, in packets that stay well below what the server takes (max_allowed_packet); a small
  commit is one packet. The server leaves out all that follows a statement which failed.
- Its first statement fails unless the store is at the revision that the batch saw: the row of `commits` would have
  NULL for its revision, which a strict mode refuses.
- Values are numbers, or written in hexadecimal: nothing in them can be taken for SQL, in any mode of the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from perdure.backends.base import number_of
from perdure.backends.server.connection import Cursor
from perdure.backends.server.errors import Trouble, mysql_trouble, too_large
from perdure.backends.server.schema import FORMAT, Schema
from perdure.backends.server.uploading import PIECE
from perdure.backends.server.writing import ClassNumbers, Locked, Plan, Writer, plain_text
from perdure.records.compression import stored_parts
from perdure.records.values import Buffer

_PACKET = 1 << 22  # bytes that are sent together, if the server takes as much
_MARGIN = 1 << 10  # bytes of a packet that are no rows

Sql = bytes


class MysqlWriter(Writer):
    """Commits in MySQL and MariaDB; `largest` is the server's max_allowed_packet, in bytes."""

    def __init__(self, schema: Schema, place: str, errors: type[Exception], largest: int):
        super().__init__(schema, place)
        self._errors = errors
        self._largest = largest
        self._packet = min(_PACKET, largest // 2)

    def fits(self, plan: Plan) -> bool:
        size = sum(len(draft.payload) + 1000 for draft in plan.batch.drafts) + len(plan.runs)
        return 2 * size < self._packet

    def at_once(self, cursor: Cursor, plan: Plan) -> int | None:
        revision = plan.batch.seen + 1
        statements = [b"START TRANSACTION", self._guard(plan), *self._written(plan, revision, self.classes)]
        packets = list(self._packets([*statements, b"COMMIT"]))
        plan.sent = True
        try:
            for packet in packets:
                _run(cursor, packet)
        except self._errors as error:
            if mysql_trouble(error) is not Trouble.TAKEN:
                raise
            cursor.execute("ROLLBACK")
            return None
        return revision

    def lock(self, cursor: Cursor, plan: Plan) -> Locked:
        cursor.execute("START TRANSACTION")
        if plan.batch.buffers:
            self.upload(cursor, plan.batch.buffers)
        look = f"revision > {plan.batch.seen} AND token = x'{plan.token.hex()}'" if plan.in_doubt else "false"
        numbers = numbered("number", plan.looked_up)
        meta, done, rows = _run(
            cursor,
            self.schema.spell(
                "SELECT format, revision, store FROM {meta} FOR UPDATE;"
                f" SELECT revision FROM {{commits}} WHERE {look};"
                f" SELECT number, revision, class, id FROM {{records}} WHERE {numbers}"
            ).encode(),
        )
        if plan.batch.buffers:  # one of them may have been there, and have been dropped before the lock was ours
            self.upload(cursor, plan.batch.buffers)
        return Locked.of(meta, done, rows)

    def write(
        self, cursor: Cursor, plan: Plan, revision: int, known: ClassNumbers, new_classes: list[tuple[int, str]]
    ) -> None:
        statements = [
            self._spell(f"INSERT INTO {{classes}} (number, name) VALUES ({number}, ") + self._text(name, "class") + b")"
            for number, name in new_classes
        ]
        statements += [self._spell("INSERT INTO {commits} (revision, time, note, code, numbers, token) VALUES (")]
        statements[-1] += b"%d, " % revision + self._commit_values(plan) + b")"
        statements += self._written(plan, revision, known)
        statements += [sql.encode() for sql in self.trimming(plan)]
        ending = [] if self.columns else [b"COMMIT"]
        *packets, last = self._packets([*statements, *ending])
        for packet in packets:
            _run(cursor, packet)
        if self.columns:
            _run(cursor, last)
            self.columns.write(cursor, (*plan.new, *plan.replaced), plan.removed)
            last = b"COMMIT"
        plan.sent = True
        _run(cursor, last)

    # -- statements --------------------------------------------------------------------------------------

    def _guard(self, plan: Plan) -> Sql:
        """The row of `commits`; it fails unless the store is at the revision that the batch saw."""
        # Aggregates: without a row in `meta` there is one row here, and NULL in it, all the same.
        condition = f"max(m.revision) = {plan.batch.seen} AND max(m.format) <= {FORMAT} AND max({{is_own}})"
        if plan.needed:
            ids = ", ".join(_hex_text(id_).decode() for id_ in plan.needed)
            among = numbered("number", sorted(map(number_of, plan.needed)))
            condition += (
                f" AND (SELECT count(*) FROM {{records}} WHERE {among} AND class <> 0 AND id IN ({ids}))"
                f" = {len(plan.needed)}"
            )
        start = self._spell(
            "INSERT INTO {commits} (revision, time, note, code, numbers, token)"
            f" SELECT IF({condition}, max(m.revision) + 1, NULL), "
        )
        return start + self._commit_values(plan) + self._spell(" FROM {meta} m FOR UPDATE")

    def _commit_values(self, plan: Plan) -> Sql:
        batch = plan.batch
        texts = [self._text(batch.note, "note"), self._text(batch.code, "code"), _hex_text(plan.runs)]
        return b"%s, " % repr(float(batch.time)).encode() + b", ".join(texts) + b", x'%s'" % plan.token.hex().encode()

    def _written(self, plan: Plan, revision: int, known: ClassNumbers) -> Iterator[Sql]:
        """What follows the row of `commits`."""
        batch = plan.batch
        yield self._spell(f"UPDATE {{meta}} SET revision = {revision}")
        if plan.gone:
            gone = numbered("number", sorted(plan.gone))
            yield self._spell(
                "INSERT INTO {superseded} (number, revision, until, class, id, frame)"
                f" SELECT number, revision, {revision}, class, id, coalesce(frame, '') FROM {{records}} WHERE {gone}"
            )
            yield self._spell(f"DELETE FROM {{fields}} WHERE {gone}")
        if plan.removed:
            removed = numbered("number", sorted(plan.removed))
            yield self._spell(f"UPDATE {{records}} SET revision = {revision}, class = 0, frame = NULL WHERE {removed}")
        columns = "INSERT INTO {records} (number, revision, class, id, frame) VALUES "
        update = " ON DUPLICATE KEY UPDATE revision = VALUES(revision), class = VALUES(class), frame = VALUES(frame)"
        for pairs, ending in ((plan.new, ""), (plan.replaced, update)):
            rows = (
                b"(%d, %d, %d, %s, x'%s')" % (number, revision, class_, _hex_text(id_), frame.hex().encode())
                for number, class_, id_, frame in plan.rows(pairs, revision, known)
            )
            yield from self._inserts(columns, rows, ending)
        index_rows = (
            b"(%d, x'%s', %d, x'%s')" % (number, field.hex().encode(), class_, value.hex().encode())
            for number, field, class_, value in plan.index_rows(known)
        )
        yield from self._inserts("INSERT INTO {fields} (number, field, class, value) VALUES ", index_rows)
        # Last, since those who reserve numbers wait for this row.
        first, end = batch.unused
        yield self._spell(
            "UPDATE {counter} SET next_number ="
            f" greatest(IF(next_number = {end}, {first}, next_number), {plan.above})"
        )

    def _inserts(self, start: str, rows: Iterable[bytes], ending: str = "") -> Iterator[Sql]:
        """Statements that insert the rows, each as large as a packet may be."""
        head, tail = self._spell(start), self._spell(ending)
        together: list[bytes] = []
        size = 0
        for row in rows:
            if len(row) + _MARGIN > self._largest:
                raise too_large(self.place, f"it takes {len(row)} bytes, max_allowed_packet is {self._largest}")
            if together and size + len(row) > self._packet:
                yield head + b", ".join(together) + tail
                together, size = [], 0
            together.append(row)
            size += len(row) + 2
        if together:
            yield head + b", ".join(together) + tail

    def _packets(self, statements: Iterable[Sql]) -> Iterator[Sql]:
        """The statements, as many together as a packet may hold."""
        together: list[Sql] = []
        size = 0
        for statement in statements:
            if together and size + len(statement) > self._packet:
                yield b"; ".join(together)
                together, size = [], 0
            together.append(statement)
            size += len(statement) + 2
        yield b"; ".join(together)

    def _claim(self, cursor: Cursor, digest: str, size: int) -> bool:
        sql = self._spell("INSERT IGNORE INTO {buffers} (digest, size) VALUES (")
        cursor.execute(sql + b"%s, %d)" % (_hex_text(digest), size))
        return bool(cursor.rowcount)

    def _write_piece(self, cursor: Cursor, digest: str, content: Buffer) -> None:
        sql = self._spell("INSERT INTO {pieces} (digest, part, length, content) VALUES (")
        size = min(PIECE, self._packet // 2 - _MARGIN)
        for part, (length, piece) in enumerate(stored_parts(digest, content, size)):
            cursor.execute(sql + b"%s, %d, %d, x'%s')" % (_hex_text(digest), part, length, piece.hex().encode()))

    def _spell(self, sql: str) -> Sql:
        return self.schema.spell(sql).encode()

    def _text(self, text: str, what: str) -> Sql:
        return _hex_text(plain_text(text, what, self.place))


def numbered(column: str, listed: Iterable[int]) -> str:
    """The condition that a column is one of these numbers."""
    numbers = sorted({*listed})
    if not numbers:
        return "false"
    if len(numbers) > 2 and numbers[-1] - numbers[0] + 1 == len(numbers):
        return f"{column} BETWEEN {numbers[0]} AND {numbers[-1]}"
    return f"{column} IN ({', '.join(map(str, numbers))})"


def _hex_text(text: str) -> Sql:
    return b"_utf8mb4 x'%s'" % text.encode().hex().encode()


def _run(cursor: Cursor, sql: Sql) -> list[list[Any]]:
    """Several statements in one packet; the rows of each that gives rows."""
    cursor.execute(sql)
    results = [list(cursor.fetchall())] if cursor.description else []
    while cursor.nextset():
        if cursor.description:
            results.append(list(cursor.fetchall()))
    return results
