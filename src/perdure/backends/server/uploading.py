"""Large pieces on their way to a database server, within the transaction of the commit that brings them.

- Who writes a piece has its row in `buffers` first: whoever else brings the same one waits for that commit.
- A piece that is there is read once by each process, and written again where it was damaged: this transaction locks
  its row before it looks a second time, so that two who repair it do so one after the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from hashlib import blake2b

from perdure.backends.server.connection import Cursor
from perdure.backends.server.schema import Schema
from perdure.errors import CorruptRecord
from perdure.records.buffers import DIGEST_SIZE
from perdure.records.compression import stored_part
from perdure.records.values import Buffer

PIECE = 1 << 20  # bytes of a large piece that one row takes


class Uploads(ABC):
    """What a commit does with the large pieces of its batch."""

    def __init__(self, schema: Schema):
        self.schema = schema
        self._sound: set[str] = set()  # digests of pieces that were looked through, or written by this process

    @abstractmethod
    def _claim(self, cursor: Cursor, digest: str, size: int) -> bool:
        """Insert the row of a piece of that size in bytes; whether it was not there."""

    @abstractmethod
    def _write_piece(self, cursor: Cursor, digest: str, content: Buffer) -> None:
        """Insert the rows of the piece's parts."""

    def upload(self, cursor: Cursor, buffers: Mapping[str, Buffer]) -> None:
        """Write those of the large pieces that are not there, or are damaged."""
        for digest in sorted(buffers):  # in one order, so that two uploads never wait for one another
            content = buffers[digest]
            if self._claim(cursor, digest, len(content)):
                self._write_piece(cursor, digest, content)
                self._sound.add(digest)
            elif digest not in self._sound:
                if self._is_sound(cursor, digest, len(content)):
                    self._sound.add(digest)
                else:
                    self._repair(cursor, digest, content)

    def _repair(self, cursor: Cursor, digest: str, content: Buffer) -> None:
        """Write a piece anew. It counts as sound when it is looked at next: this transaction may come to nothing."""
        spell = self.schema.spell
        cursor.execute(spell("SELECT size FROM {buffers} WHERE digest = %s FOR UPDATE"), (digest,))
        cursor.fetchall()
        if self._is_sound(cursor, digest, len(content)):  # by somebody else meanwhile
            return
        cursor.execute(spell("DELETE FROM {pieces} WHERE digest = %s"), (digest,))
        cursor.execute(spell("UPDATE {buffers} SET size = %s WHERE digest = %s"), (len(content), digest))
        self._write_piece(cursor, digest, content)

    def _is_sound(self, cursor: Cursor, digest: str, size: int) -> bool:
        """Whether a piece has that size, and the content that its digest tells."""
        spell = self.schema.spell
        cursor.execute(spell("SELECT size FROM {buffers} WHERE digest = %s"), (digest,))
        told = [row[0] for row in cursor.fetchall()]
        state, part, found = blake2b(digest_size=DIGEST_SIZE), 0, 0
        while found < size:
            cursor.execute(
                spell("SELECT content, length FROM {pieces} WHERE digest = %s AND part = %s"), (digest, part)
            )
            rows = cursor.fetchall()
            if not rows:
                break
            try:
                content = stored_part(bytes(rows[0][0]), rows[0][1])
            except CorruptRecord:
                return False
            state.update(content)
            part, found = part + 1, found + len(content)
        cursor.execute(spell("SELECT count(*) FROM {pieces} WHERE digest = %s"), (digest,))
        return told == [size] and cursor.fetchall()[0][0] == part and state.hexdigest() == digest
