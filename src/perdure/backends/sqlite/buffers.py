"""Large pieces in a SQLite store: rows of some MiB each, written in the transaction of the commit that brings them.

- The tables are made with the first piece; from then on the store has format 3, which older releases refuse.
- Each part is compressed where that makes it smaller by an eighth (see `records.compression`): its row tells its true
  size, and one that differs from the length of the content means "compressed".
- To read takes one statement a part, so that nothing stays open in between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from hashlib import blake2b

from perdure.backends.base import Backend, not_named_in
from perdure.backends.damage import UNREADABLE, damaged, expect, reads
from perdure.backends.sqlite.connection import SqliteConnection
from perdure.backends.sqlite.index import INDEXED_FORMAT, SqliteIndex
from perdure.backends.sqlite.schema import raise_format
from perdure.backends.sqlite.writing import later
from perdure.errors import CorruptRecord, PerdureError
from perdure.records.buffers import DIGEST_SIZE, PART, missing_piece, shortened_piece
from perdure.records.compression import stored_part, stored_parts
from perdure.records.values import Buffer

PIECES_FORMAT = 3  # of a store that has large pieces

_TABLES = """
    CREATE TABLE IF NOT EXISTS buffers (
        number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS buffer_parts (
        buffer INTEGER NOT NULL, place INTEGER NOT NULL, size INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (buffer, place)
    );
"""


class SqlitePieces(Backend):
    """What a SQLite store does with its large pieces."""

    path: str
    place: str
    _connection: SqliteConnection
    _sound: set[str]  # digests of pieces that were looked through

    def buffer(self, digest: str) -> Buffer:
        return whole(self._connection, digest)

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        return parts(self._connection, digest)

    @reads
    def buffers(self) -> dict[str, int]:
        return self._connection.read(sizes)

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        return self._connection.write(lambda connection: drop(connection, digests, seen))


def put_pieces(
    connection: sqlite3.Connection, buffers: Mapping[str, Buffer], format_: int, index: SqliteIndex, sound: set[str]
) -> int:
    """Write those pieces that are not there, or are damaged, within the caller's transaction.

    Gives the format of the store. What is there is looked through once, and then is one of `sound`.
    """
    if format_ < INDEXED_FORMAT:
        index.create(connection)  # each format has all that those below it have
    raise_format(connection, PIECES_FORMAT)
    for statement in _TABLES.strip().split(";"):  # one by one: `executescript` would commit
        connection.execute(statement)
    for digest, content in buffers.items():
        if connection.execute("SELECT 1 FROM buffers WHERE digest = ?", (digest,)).fetchone() is not None:
            if digest in sound or is_sound(connection, digest, len(content)):
                sound.add(digest)
                continue
            delete(connection, digest)
        row = connection.execute("INSERT INTO buffers (digest, size) VALUES (?, ?)", (digest, len(content)))
        connection.executemany(
            "INSERT INTO buffer_parts VALUES (?, ?, ?, ?)",
            ((row.lastrowid, place, *part) for place, part in enumerate(stored_parts(digest, content))),
        )
    return max(format_, PIECES_FORMAT)


def whole(connection: SqliteConnection, digest: str) -> bytearray:
    """A piece, read into memory that is taken once; raises `CorruptRecord` if it is not whole."""
    _, size, count = connection.read(lambda opened: find(opened, digest))
    if not 0 <= size <= count * PART:
        raise shortened_piece(digest, count * PART, size)  # before memory is taken for what is not there
    found, filled = bytearray(size), 0
    for part in parts(connection, digest):
        if filled + len(part) <= size:
            found[filled : filled + len(part)] = part
        filled += len(part)
    if filled != size:
        raise shortened_piece(digest, filled, size)
    return found


def parts(connection: SqliteConnection, digest: str) -> Iterator[bytes]:
    """A piece, part by part; raises `CorruptRecord` if it is not there."""
    try:
        number, _, count = connection.read(lambda opened: find(opened, digest))
        for place in range(count):
            yield connection.read(partial(read_part, digest=digest, number=number, place=place))
    except PerdureError:
        raise
    except UNREADABLE as error:
        raise damaged(repr(connection.path), error, path=connection.path) from error


def find(connection: sqlite3.Connection, digest: str) -> tuple[int, int, int]:
    """The number of a piece, its size in bytes, and how many parts it has; raises `CorruptRecord` if there is none."""
    row = None
    if has_tables(connection):
        row = connection.execute(
            "SELECT number, size, (SELECT count(*) FROM buffer_parts WHERE buffer = number) FROM buffers"
            " WHERE digest = ?",
            (digest,),
        ).fetchone()
    if row is None:
        raise missing_piece(digest)
    number, size, count = row
    return expect(int, number), expect(int, size), expect(int, count)


def read_part(connection: sqlite3.Connection, digest: str, number: int, place: int) -> bytes:
    """One part of a piece; raises `CorruptRecord` if it is not as it was written."""
    row = connection.execute(
        "SELECT size, content FROM buffer_parts WHERE buffer = ? AND place = ?", (number, place)
    ).fetchone()
    if row is None:
        raise missing_piece(digest)
    size, content = expect(int, row[0]), expect(bytes, row[1])
    try:
        return stored_part(content, size)
    except CorruptRecord as error:
        error.message = f"The large piece {digest} is damaged. {error.message}"
        raise


def sizes(connection: sqlite3.Connection) -> dict[str, int]:
    """The digests of all pieces, with their sizes in bytes."""
    if not has_tables(connection):
        return {}
    rows = connection.execute("SELECT digest, size FROM buffers").fetchall()
    return {expect(str, digest): expect(int, size) for digest, size in rows}


def drop(connection: sqlite3.Connection, digests: Collection[str], seen: int) -> list[str]:
    """Delete those pieces that nothing written after revision `seen` names, within the caller's transaction."""
    gone = not_named_in(digests, later(connection, seen))
    for digest in gone if has_tables(connection) else ():
        delete(connection, digest)
    return gone


def delete(connection: sqlite3.Connection, digest: str) -> None:
    """Delete a piece, within the caller's transaction."""
    for (number,) in connection.execute("SELECT number FROM buffers WHERE digest = ?", (digest,)).fetchall():
        connection.execute("DELETE FROM buffer_parts WHERE buffer = ?", (number,))
        connection.execute("DELETE FROM buffers WHERE number = ?", (number,))


def is_sound(connection: sqlite3.Connection, digest: str, length: int) -> bool:
    """Whether a piece that is there has that length, and the content that its digest tells."""
    number, size, count = find(connection, digest)
    state = blake2b(digest_size=DIGEST_SIZE)
    try:
        for place in range(count):
            state.update(read_part(connection, digest, number, place))
    except CorruptRecord:
        return False
    return size == length and state.hexdigest() == digest


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether there ever was a large piece in the store."""
    sql = "SELECT count(*) FROM sqlite_master WHERE name IN ('buffers', 'buffer_parts')"
    return bool(connection.execute(sql).fetchone()[0] == 2)
