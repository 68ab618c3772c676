"""Large pieces of a payload, taken out when an object is pickled and put in again when it is loaded.

- C pickle writes large bytes by a call of their own, with the very object: nothing is copied on the way out.
- On the way in each piece is fetched when the pickle comes to it: buffers as the backend gives them (memory-mapped, or
  read into memory once), bytes part by part into the object that is being made.
- What is read into memory is compared with its digest. What is memory-mapped is not, since nothing of it was read yet:
  `check` does.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple, Protocol

from perdure.errors import CorruptRecord
from perdure.records.buffers import (
    DIGEST_SIZE,
    LARGE,
    OUTSIDE,
    OUTSIDE_FIXED,
    PART,
    Piece,
    changed_piece,
    digest_of,
    pack_table,
    read_table,
    shortened_piece,
    table_size,
)
from perdure.records.values import BUFFERED, Buffer, Draft, Record

_PROTO, _FRAME = 0x80, 0x95  # opcodes that what C pickle writes may begin with


class Given(NamedTuple):
    """A buffer that an object gave away while it was pickled; None where it is small, and stands in the pickle."""

    content: memoryview | None


Part = bytes | bytearray | memoryview | Given  # a pickler in Python writes its frames as memoryviews


class Source(Protocol):
    """Where pieces come from: a backend, or what is in memory anyway."""

    def buffer(self, digest: str) -> Buffer: ...

    def buffer_parts(self, digest: str) -> Iterator[Buffer]: ...


class Pieced(bytes):
    """A payload with large pieces that knows where they are; for everybody else, the bytes that it is."""

    source: Source
    id = ""  # of the object whose payload it is

    @property
    def contents(self) -> Mapping[str, Buffer]:
        """The pieces by their digests, where they are in memory, because the payload was just made."""
        return self.source.contents if isinstance(self.source, Present) else {}

    def __reduce__(self) -> tuple[type[bytes], tuple[bytes]]:
        return bytes, (bytes(self),)


def pieced(payload: bytes, source: Source) -> Pieced:
    """The payload, whose pieces are to come from `source`."""
    made = Pieced(payload)
    made.source = source
    return made


def attached(record: Record, source: Source) -> Record:
    """The record, whose large pieces, if it has any, are to come from `source`."""
    if not record.flags & BUFFERED:
        return record
    payload = pieced(record.payload, source)
    payload.id = record.id
    return record._replace(payload=payload)


def contents_of(drafts: Iterable[Draft]) -> dict[str, Buffer]:
    """The large pieces of payloads that were just made, by their digests."""
    payloads = [draft.payload for draft in drafts if draft.flags & BUFFERED]
    return {
        digest: content
        for payload in payloads
        if isinstance(payload, Pieced)
        for digest, content in payload.contents.items()
    }


def lasting(payload: bytes) -> bytes:
    """The payload with copies of its pieces, so that it stays what it is when arrays are written to."""
    if not isinstance(payload, Pieced):
        return payload
    return pieced(payload, Present({digest: bytes(content) for digest, content in payload.contents.items()}))


# -- out -------------------------------------------------------------------------------------------------------------


def has_large(parts: Sequence[Part]) -> bool:
    """Whether something of what was pickled is to be kept by itself; see `taken_out`."""
    return any(part.content is not None if isinstance(part, Given) else _is_large(part) for part in parts)


def joined(parts: Iterable[Part]) -> bytes:
    """The payload of an object without large pieces."""
    return b"".join(part for part in parts if not isinstance(part, Given))


def taken_out(parts: Iterable[Part]) -> Pieced:
    """The payload, table first, and its large pieces."""
    pieces: list[Piece] = []
    rest: list[Buffer] = []
    contents: dict[str, Buffer] = {}
    position = 0
    for part in parts:
        content: Buffer | None
        if isinstance(part, Given):
            content = part.content
            place = OUTSIDE_FIXED if content is None or content.readonly else OUTSIDE
        else:
            content, place = part if _is_large(part) else None, position
            if content is None:
                rest.append(part)
                position += len(part)
        if content is not None:
            digest = digest_of(content)
            contents.setdefault(digest, content)
            pieces.append(Piece(digest, len(content), place))
    return pieced(b"".join((pack_table(pieces), *rest)), Present(contents))


def _is_large(part: Buffer) -> bool:
    """Whether it is bytes or a text of the object's, and not many small things, which C pickle writes as a frame."""
    if len(part) < LARGE or isinstance(part, memoryview):
        return False
    start = 2 if part[0] == _PROTO else 0
    told = int.from_bytes(part[start + 1 : start + 9], "little")
    return part[start] != _FRAME or told != len(part) - start - 9


def laid_over(record: Record, payload: bytes) -> Record | None:
    """The record, its large pieces being those of a payload that was just made; None if they differ.

    They are compared by their digests alone, and none is loaded. What was bytes in one may be a buffer in the other (an
    array with gaps has none when it is saved, and has one when it was loaded): the graphs tell the difference.
    """
    stored = read_table(record.payload) if record.flags & BUFFERED else []
    made = read_table(payload) if isinstance(payload, Pieced) else []
    if len(stored) != len(made) or not all(map(_may_be_same, sorted(stored), sorted(made))):
        return None
    return attached(record, payload.source) if isinstance(payload, Pieced) else record


def _may_be_same(one: Piece, other: Piece) -> bool:
    is_alike = one.place == other.place or not (one.is_outside and other.is_outside)  # both writable, or neither
    return one.digest == other.digest and is_alike


# -- in --------------------------------------------------------------------------------------------------------------


def opened(payload: Pieced) -> tuple[Spliced, Iterator[Buffer]]:
    """The pickle in a payload as a file, and the buffers that it will ask for."""
    pieces = read_table(payload)
    rest = memoryview(payload)[table_size(payload) :]
    inside = [piece for piece in pieces if not piece.is_outside]
    if any(piece.place > len(rest) for piece in inside) or inside != sorted(inside, key=lambda piece: piece.place):
        raise CorruptRecord("A record's table of large pieces names places that it does not have.")
    return Spliced(rest, inside, payload), (_fetched(piece, payload) for piece in pieces if piece.is_outside)


@contextmanager
def _whose(payload: Pieced) -> Iterator[None]:
    """What is damaged is told with the object that needs it."""
    try:
        yield
    except CorruptRecord as error:
        if payload.id and not error.ids:
            error.ids = (payload.id,)
            error.message = f"{payload.id} cannot be loaded. {error.message}"
        raise


def _fetched(piece: Piece, payload: Pieced) -> Buffer:
    """A buffer for an object that is being loaded, writable if the one was that was saved."""
    with _whose(payload):
        return _buffer(piece, payload.source)


def _buffer(piece: Piece, source: Source) -> Buffer:
    content = source.buffer(piece.digest)
    if len(content) != piece.length:
        raise shortened_piece(piece.digest, len(content), piece.length)
    if not isinstance(source, Present) and not is_mapped(content) and digest_of(content) != piece.digest:
        raise changed_piece(piece.digest)
    if piece.place == OUTSIDE and memoryview(content).readonly:
        return bytearray(content)
    return content


def is_mapped(content: Buffer) -> bool:
    """Whether it is a file's content, of which nothing was read yet."""
    return isinstance(content, memoryview) and isinstance(content.obj, mmap.mmap)


class Spliced:
    """A pickle as a file to be read once: the bytes that stand in the record, and large pieces at their places."""

    def __init__(self, rest: memoryview, pieces: Sequence[Piece], payload: Pieced):
        self._payload = payload
        self._chunks = self._all(rest, pieces)
        self._chunk = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """That many bytes, or what is left of them; all for a negative size."""
        found = []
        while size and self._advance():
            taken = self._chunk if size < 0 else self._chunk[:size]
            found.append(bytes(taken))
            self._chunk = self._chunk[len(taken) :]
            size -= len(taken) if size > 0 else 0
        return b"".join(found)

    def readline(self) -> bytes:
        """Up to the end of the line."""
        found = []
        while self._advance():
            byte = self.read(1)
            found.append(byte)
            if byte == b"\n":
                break
        return b"".join(found)

    def readinto(self, target: bytearray | memoryview) -> int:
        """Fill `target`; gives how many bytes there were for it."""
        view = memoryview(target).cast("B")
        filled = 0
        while filled < len(view) and self._advance():
            taken = self._chunk[: len(view) - filled]
            view[filled : filled + len(taken)] = taken
            self._chunk = self._chunk[len(taken) :]
            filled += len(taken)
        return filled

    def _advance(self) -> bool:
        while not self._chunk:
            following = next(self._chunks, None)
            if following is None:
                return False
            self._chunk = memoryview(following)
        return True

    def _all(self, rest: memoryview, pieces: Sequence[Piece]) -> Iterator[Buffer]:
        start = 0
        for piece in pieces:
            yield rest[start : piece.place]
            start = piece.place
            with _whose(self._payload):
                yield from self._verified(piece)
        yield rest[start:]

    def _verified(self, piece: Piece) -> Iterator[Buffer]:
        state, length = blake2b(digest_size=DIGEST_SIZE), 0
        for part in self._payload.source.buffer_parts(piece.digest):
            state.update(part)
            length += len(part)
            if length > piece.length:
                break  # nothing more of what is not as it was told
            yield part
        if length != piece.length:
            raise shortened_piece(piece.digest, length, piece.length)
        if state.hexdigest() != piece.digest:
            raise changed_piece(piece.digest)


class Present:
    """Pieces that are in memory: a stored state is built over them where it is only compared, so nothing is read."""

    def __init__(self, contents: Mapping[str, Buffer]):
        self.contents = contents

    def buffer(self, digest: str) -> Buffer:
        return self.contents[digest]

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        view = memoryview(self.contents[digest]).cast("B")
        yield from (view[start : start + PART] for start in range(0, len(view), PART))
