"""Forgetting, in the tables of a database server.

- First the store says what its oldest revision is from now on; then rows go, some at a time, while others commit.
- The row of a removed object stays, so that its number is never given again.
"""

from __future__ import annotations

from collections.abc import Collection

from perdure.backends.base import chunks, number_of
from perdure.backends.server.connection import Cursor
from perdure.backends.server.tables import ServerTables

_TOGETHER = 5_000  # rows that packing forgets in one step, about


class Forgetting(ServerTables):
    """`pack` and `erase`."""

    def pack(self, oldest: int) -> int:
        self._refuse_write()

        def begin(cursor: Cursor) -> None:
            newest = self._lock(cursor)
            if oldest > newest:
                raise ValueError(f"the newest revision is {newest}; {oldest} cannot be the oldest")
            cursor.execute(self._schema.spell("UPDATE {meta} SET oldest = %s WHERE oldest < %s"), (oldest, oldest))
            cursor.execute("COMMIT")

        def forget(cursor: Cursor) -> int:
            some = "SELECT until FROM {superseded} WHERE until <= %s ORDER BY until LIMIT %s"
            cursor.execute(self._schema.spell(f"SELECT max(until) FROM ({some}) s"), (oldest, _TOGETHER))
            cursor.execute(self._schema.spell("DELETE FROM {superseded} WHERE until <= %s"), cursor.fetchone())
            return cursor.rowcount

        def forget_commits(cursor: Cursor) -> None:
            kept = "SELECT revision FROM {records} UNION SELECT revision FROM {superseded}"
            sql = f"DELETE FROM {{commits}} WHERE revision < %s AND revision NOT IN ({kept})"
            cursor.execute(self._schema.spell(sql), (oldest,))

        self._connection.read(begin)
        forgotten = 0
        while count := self._connection.read(forget):
            forgotten += count
        if oldest > 0:
            self._connection.read(forget_commits)
        return forgotten

    def erase(self, ids: Collection[str]) -> None:
        self._refuse_write()
        wanted = set(ids)

        def work(cursor: Cursor) -> None:
            self._lock(cursor)
            for chunk in chunks(wanted):
                among, values = self._among("number", map(number_of, chunk))
                cursor.execute(self._schema.spell(f"SELECT number, class, id FROM {{records}} WHERE {among}"), values)
                rows = [row for row in cursor.fetchall() if row[2] in wanted]
                for _, class_, id_ in rows:
                    if class_:
                        raise ValueError(f"{id_} is still there: it must be removed first")
                among, values = self._among("number", [number for number, *_ in rows])
                cursor.execute(self._schema.spell(f"DELETE FROM {{superseded}} WHERE {among}"), values)
            cursor.execute("COMMIT")

        self._connection.read(work)
