"""A history that comes from elsewhere, written into a server's tables: see `Backend.begin` and `Backend.replay`."""

from __future__ import annotations

from perdure.backends.damage import expect, reads
from perdure.backends.server.connection import Cursor
from perdure.backends.server.schema import ENCRYPTED_FORMAT
from perdure.backends.server.tables import ServerTables
from perdure.backends.server.writing import Plan
from perdure.records.values import Batch, Past


class Replaying(ServerTables):
    """`removals`, `columns`, `begin`, `mark_encrypted` and `replay_part`."""

    @reads
    def removals(self) -> dict[str, int]:
        rows = self._rows("SELECT id, revision FROM {records} WHERE class = 0")
        return {expect(str, id_): expect(int, revision) for id_, revision in rows}

    @reads
    def columns(self) -> list[str]:
        own = self._schema.columns[self.table_name]
        found = self._connection.read(self._found_columns)
        return sorted(column for table, column in found if table == self.table_name and column not in own)

    def begin(self, oldest: int, key: int) -> None:
        self._refuse_write()

        def work(cursor: Cursor) -> None:
            revision = self._lock(cursor)
            if revision:
                raise ValueError(f"the store is at revision {revision}")
            cursor.execute(self._schema.spell(f"UPDATE {{meta}} SET oldest = {oldest}, sealed_by = {key}"))
            cursor.execute("COMMIT")

        self._connection.read(work)

    def mark_encrypted(self) -> None:
        self._refuse_write()

        def work(cursor: Cursor) -> None:
            revision = self._lock(cursor)
            if revision:
                raise ValueError(f"the store is at revision {revision}")
            cursor.execute(self._schema.spell(f"UPDATE {{meta}} SET format = {ENCRYPTED_FORMAT}"))
            cursor.execute("COMMIT")

        self._connection.read(work)

    def replay_part(self, past: Past, batch: Batch) -> None:
        self._refuse_write()

        def work(cursor: Cursor) -> None:
            plan = Plan(batch, lambda draft, _: past.frames[draft.id])  # anew, should the connection break
            self._writer.replay(cursor, plan, past)

        self._connection.read(work)
