"""Large pieces, in the tables of a database server.

- A piece is cut up into rows, so that neither side ever holds it twice, and no row is larger than a server takes.
- It is written by the commit that needs it; commits wait for one another, so it cannot be dropped in between.
"""

from __future__ import annotations

from collections.abc import Collection

from perdure.backends.server_connection import Cursor
from perdure.backends.server_tables import ServerTables
from perdure.errors import CorruptRecord
from perdure.records.values import Buffer


class Pieces(ServerTables):
    """`buffer`, `buffers` and `drop_buffers`."""

    def buffer(self, digest: str) -> Buffer:
        sizes = self._rows("SELECT size FROM {buffers} WHERE digest = %s", (digest,))
        content = bytearray(sizes[0][0] if sizes else 0)
        length = part = 0
        while sizes and length < len(content):
            sql = "SELECT content FROM {pieces} WHERE digest = %s AND part = %s"
            rows = self._rows(sql, (digest, part))
            if not rows or length + len(rows[0][0]) > len(content):
                break
            content[length : length + len(rows[0][0])] = rows[0][0]
            length += len(rows[0][0])
            part += 1
        if not sizes or length < len(content):
            raise CorruptRecord(
                f"The large piece {digest} is not in {self.place}, or not whole.", hint="Take it from a backup."
            )
        return content

    def buffers(self) -> dict[str, int]:
        return dict(self._rows("SELECT digest, size FROM {buffers}"))

    def drop_buffers(self, digests: Collection[str], seen: int) -> bool:
        self._refuse_write()

        def work(cursor: Cursor) -> bool:
            is_there = self._lock(cursor) == seen
            for digest in sorted(digests) if is_there else ():
                for table in ("{buffers}", "{pieces}"):
                    cursor.execute(self._schema.spell(f"DELETE FROM {table} WHERE digest = %s"), (digest,))
            cursor.execute("COMMIT")
            return is_there

        return self._connection.read(work)
