"""A batch becomes one commit of a SQLite store."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from perdure.backends.base import number_of, runs_of
from perdure.backends.sqlite.buffers import SqlitePieces, put_pieces
from perdure.backends.sqlite.columns import SqliteColumns
from perdure.backends.sqlite.index import INDEXED_FORMAT, SqliteIndex
from perdure.backends.sqlite.packing import trim
from perdure.backends.sqlite.schema import NEWEST_FORMAT, refuse_newer
from perdure.backends.sqlite.writing import (
    COUNT,
    ClassNumbers,
    any_twice,
    drafted,
    insert,
    name_classes,
    refuse_absent_in,
    refuse_conflicts_in,
    refuse_referred_in,
    refuse_taken,
    refuse_twice,
    supersede,
)
from perdure.errors import StorageError
from perdure.records.frame import Encoder
from perdure.records.values import Batch, Receipt

Meta = dict[str, Any]  # what the table says

_new_tuple = tuple.__new__  # in a third of the time that names take
_COUNTERS = "key", "revision", "next_number", "oldest"


class SqliteApplying(SqlitePieces):
    """`apply`."""

    path: str
    _index: SqliteIndex
    _columns: SqliteColumns
    _class_numbers: ClassNumbers
    _last: tuple[object, Meta]  # what the last commit left in `meta`, as long as the watch tells this

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        before, meta, known = self._connection.write(partial(self._commit, batch, encode))
        self._class_numbers = known  # only now: a commit that failed took its new classes back
        mark = self._connection.mark_after(before)
        changes_more = batch.indexed or batch.buffers or batch.keep is not None
        self._last = None if changes_more else mark, meta
        return _new_tuple(Receipt, (meta["revision"], mark))

    def _meta(self, connection: sqlite3.Connection) -> Meta:
        """What `meta` says; raises `NewerFormat`, `StorageError`."""
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        format_ = meta.get("format")
        if type(format_) is not int or format_ > NEWEST_FORMAT:
            refuse_newer((format_,), self.path)
        for name in _COUNTERS:
            if type(meta.get(name)) is not int:
                raise StorageError(
                    f"{self.path!r} is damaged: it does not tell its {name}.", hint="Go back to a backup."
                )
        return meta

    def _commit(
        self, batch: Batch, encode: Encoder, connection: sqlite3.Connection
    ) -> tuple[object, Meta, ClassNumbers]:
        """Write the batch within a transaction that has begun.

        Gives what the watch gave before, what `meta` then says, and the numbers of classes.
        """
        before, known = self._connection.begin_commit(), self._class_numbers.copy()
        last, meta = self._last
        if before != last:
            meta = self._meta(connection)
        return before, self._apply(connection, batch, encode, known, meta), known

    def _apply(
        self, connection: sqlite3.Connection, batch: Batch, encode: Encoder, known: ClassNumbers, meta: Meta
    ) -> Meta:
        """Write the batch as the next revision, within the caller's transaction; gives what `meta` then says."""
        revision: int = meta["revision"] + 1
        numbers, replaced, kinds = drafted(batch.drafts)
        removed = {number_of(id_): str(id_) for id_ in batch.removals} if batch.removals else {}
        if len(numbers) > 1 and any_twice(numbers):
            refuse_twice(batch.drafts)
        is_alone = 0 < batch.seen == revision - 1
        self._refuse(connection, batch, numbers, is_alone=is_alone, replaces=bool(replaced))
        name_classes(connection, kinds, known)
        format_: int = meta["format"]
        if batch.buffers:
            format_ = put_pieces(connection, batch.buffers, format_, self._index, self._sound)
        if batch.indexed or format_ >= INDEXED_FORMAT:
            self._index.apply(connection, batch, format_, numbers, [*replaced, *removed], known)
        if replaced or removed:
            supersede(connection, replaced, removed, revision)
        insert(connection, batch.drafts, numbers, known, encode, revision, replaces=bool(replaced))
        if self._columns.types:
            self._columns.write(connection, batch.drafts, numbers)
        numbers += removed
        next_number = self._count(connection, meta, batch, revision, numbers)
        if batch.keep is not None:
            trim(connection, batch.time - batch.keep)
        return {**meta, "revision": revision, "next_number": next_number}

    @staticmethod
    def _refuse(
        connection: sqlite3.Connection, batch: Batch, numbers: list[int], *, is_alone: bool, replaces: bool
    ) -> None:
        """Raise if the batch cannot be written; where the store is still as it was seen, hardly anything is asked."""
        if not batch.counted:
            drafts = zip(batch.drafts, numbers, strict=True)
            refuse_taken(connection, {number: draft.id for draft, number in drafts if not draft.base})
        if not is_alone:
            refuse_conflicts_in(connection, batch, replaces=replaces)
        if batch.needed and (batch.doubted is None or batch.doubted or not is_alone):
            refuse_absent_in(connection, batch)
        if batch.unreferred and not is_alone:
            refuse_referred_in(connection, batch)

    @staticmethod
    def _count(connection: sqlite3.Connection, meta: Meta, batch: Batch, revision: int, numbers: list[int]) -> int:
        """Note the commit; gives the number that the next new object can have."""
        told = revision, batch.time, batch.note, batch.code, runs_of(numbers)
        connection.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", told)
        before: int = meta["next_number"]
        next_number = batch.unused[0] if batch.unused[1] == before else before
        highest = numbers[0] if len(numbers) == 1 else max(numbers, default=0)
        if highest >= next_number:
            next_number = highest + 1
        if next_number == before:
            connection.execute("UPDATE meta SET value = ? WHERE name = 'revision'", (revision,))
        else:
            connection.execute(COUNT, (revision, next_number))
        return next_number
