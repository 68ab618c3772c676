"""Large pieces of a payload: kept by content beside the records, and named by a table at the payload's beginning.

    number of pieces (4 bytes) | for each: digest (32), length (8), place (8) | the rest of the payload

- A digest is BLAKE2b-256 of the piece alone; texts and mappings name it by 64 hexadecimal digits.
- `place` is where in the rest the piece belongs; `OUTSIDE` and `OUTSIDE_FIXED` stand for a buffer that the pickle asks
  for (writable or read-only), in the order of the table.
- The table is under the record's seal, so that other content in place of a piece is found out.
- Numbers are little-endian. Nothing here unpickles anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from perdure.errors import CorruptRecord, TransactionError
from perdure.records.values import BUFFERED, Buffer, Draft, Record

LARGE = 64 * 1024  # bytes from which on a piece is kept by itself
PART = 1 << 20  # bytes of a piece that are in hand at a time; no row of a database has more

WAY_OUT = "Take it from a backup, or save its content once more: that puts it in place again."
DIGEST_SIZE = 32
OUTSIDE, OUTSIDE_FIXED = 2**64 - 1, 2**64 - 2

_COUNT = Struct("<I")
_ROW = Struct(f"<{DIGEST_SIZE}sQQ")


class Piece(NamedTuple):
    """One row of the table; `length` in bytes."""

    digest: str
    length: int
    place: int

    @property
    def is_outside(self) -> bool:
        """Whether the pickle asks for it as a buffer; else it belongs into the pickle's bytes."""
        return self.place >= OUTSIDE_FIXED


def digest_of(content: Buffer) -> str:
    """The name of that content."""
    return blake2b(content, digest_size=DIGEST_SIZE).hexdigest()


def pack_table(pieces: Iterable[Piece]) -> bytes:
    """The table that a payload with those pieces begins with."""
    rows = [_ROW.pack(bytes.fromhex(piece.digest), piece.length, piece.place) for piece in pieces]
    return b"".join((_COUNT.pack(len(rows)), *rows))


def table_size(payload: bytes) -> int:
    """How many bytes of a buffered payload are its table; raises `CorruptRecord` if it cannot be one."""
    size = _COUNT.size + _COUNT.unpack_from(payload)[0] * _ROW.size if len(payload) >= _COUNT.size else 0
    if not 0 < size <= len(payload):
        raise CorruptRecord("A record's table of large pieces was cut short.")
    return size


def read_table(payload: bytes) -> list[Piece]:
    """The pieces of a buffered payload, in order; raises `CorruptRecord` for what is no table."""
    rows = memoryview(payload)[_COUNT.size : table_size(payload)]
    return [Piece(digest.hex(), length, place) for digest, length, place in _ROW.iter_unpack(rows)]


def digests_of(record: Record | Draft) -> dict[str, int]:
    """The digests of the large pieces that a record names, with their lengths; nothing is unpickled or verified."""
    if not record.flags & BUFFERED:
        return {}
    return {piece.digest: piece.length for piece in read_table(record.payload)}


def parts_of(digest: str, content: Buffer, size: int = PART) -> Iterator[bytes | memoryview]:
    """The content in parts of at most `size` bytes, for a backend that stores it under that digest.

    What somebody may change meanwhile (an array, by another thread) is copied part by part, and the copies are hashed:
    after the last part `TransactionError` is raised if they are not what the digest names. So a backend must not make
    anything durable before the iteration has ended.
    """
    view = memoryview(content).cast("B")
    if isinstance(content, bytes):
        yield from (view[start : start + size] for start in range(0, len(view), size))
        return
    state = blake2b(digest_size=DIGEST_SIZE)
    for start in range(0, len(view), size):
        part = bytes(view[start : start + size])
        state.update(part)
        yield part
    if state.hexdigest() != digest:
        raise TransactionError(
            "A large array or buffer was changed while the object that holds it was being saved.",
            hint="Let no other thread, and no state method, write into it until the save returns; then save again.",
        )


def missing_piece(digest: str) -> CorruptRecord:
    """The error for a piece that a backend does not have."""
    return CorruptRecord(f"The large piece {digest} is not in the store.", hint=WAY_OUT)


def shortened_piece(digest: str, found: int, length: int) -> CorruptRecord:
    """The error for a piece that has another length, in bytes, than it was stored with."""
    return CorruptRecord(f"The large piece {digest} has {found} bytes; {length} were stored.", hint=WAY_OUT)


def changed_piece(digest: str) -> CorruptRecord:
    """The error for a piece whose content is not what its digest tells."""
    return CorruptRecord(f"The large piece {digest} is damaged: it has other content.", hint=WAY_OUT)
