"""Large pieces, in the tables of a database server.

- A piece is cut up into rows, so that neither side ever holds it twice, and no row is larger than a server takes. Each
  is compressed where that pays: then its content is shorter than its `length`.
- It is written by the commit that needs it; commits wait for one another, so it cannot be dropped in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from perdure.backends.base import not_named_in
from perdure.backends.damage import expect, reads, reads_each
from perdure.backends.server.connection import Cursor
from perdure.backends.server.tables import ServerTables
from perdure.errors import CorruptRecord
from perdure.records.buffers import PART, WAY_OUT
from perdure.records.compression import stored_part
from perdure.records.values import Buffer


class Pieces(ServerTables):
    """`buffer`, `buffers` and `drop_buffers`."""

    @reads
    def buffer(self, digest: str) -> Buffer:
        sizes = self._rows("SELECT size FROM {buffers} WHERE digest = %s", (digest,))
        size = expect(int, sizes[0][0]) if sizes else 0
        if not 0 <= size <= self._rows("SELECT count(*) FROM {pieces} WHERE digest = %s", (digest,))[0][0] * PART:
            raise self._not_whole(digest)  # before memory is taken for what is not there
        content = bytearray(size)
        filled = 0
        for part in self.buffer_parts(digest):
            if filled + len(part) <= len(content):
                content[filled : filled + len(part)] = part
            filled += len(part)
        if filled != len(content):
            raise self._not_whole(digest)
        return content

    @reads_each
    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        sql = "SELECT count(*) FROM {pieces} WHERE digest = %s"
        if not self._rows("SELECT size FROM {buffers} WHERE digest = %s", (digest,)):
            raise self._not_whole(digest)
        for part in range(self._rows(sql, (digest,))[0][0]):
            rows = self._rows("SELECT content, length FROM {pieces} WHERE digest = %s AND part = %s", (digest, part))
            if not rows:
                raise self._not_whole(digest)
            yield stored_part(*rows[0])

    def _not_whole(self, digest: str) -> CorruptRecord:
        return CorruptRecord(f"The large piece {digest} is not in {self.place}, or not whole.", hint=WAY_OUT)

    @reads
    def buffers(self) -> dict[str, int]:
        rows = self._rows("SELECT digest, size FROM {buffers}")
        return {expect(str, digest): expect(int, size) for digest, size in rows}

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        self._refuse_write()

        def work(cursor: Cursor) -> list[str]:
            newest = self._lock(cursor)
            gone = not_named_in(sorted(digests), self._later(cursor, seen) if newest > seen else ())
            for digest in gone:
                for table in ("{buffers}", "{pieces}"):
                    cursor.execute(self._schema.spell(f"DELETE FROM {table} WHERE digest = %s"), (digest,))
            cursor.execute("COMMIT")
            return gone

        return self._connection.read(work)
