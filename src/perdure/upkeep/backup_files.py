"""The file of a backup: increments one after another, each of parts; see decision 32.

    line "perdure backup 1" | parts
    part: kind (4 bytes), length of its content (8), CRC-32 of both | content | BLAKE2b-128

    BEGN  JSON: the store's id, its key's id, from which revision on, whether it is encrypted; the first one also the
          oldest revision
    PIEC  a large piece: its digest (32), its content
    RECS  length (4) and frame of each record of the revision that comes next
    REVN  JSON: a revision: its commit, what it removed, how many records before belong to it
    DONE  JSON: up to which revision, the counter, the indexes, when

- The digest of a part is taken over that of the part before it, its own head and its content: no part can be changed,
  taken away or moved unseen.
- An increment counts from its DONE on, which is written when all before it is durable. What follows the last one was
  cut off; a DONE with damage before it is damage, and so is a damaged DONE that something follows.
- Nothing is unpickled. Numbers are little-endian.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple
from zlib import crc32

from perdure.backends.base import numbers_of, runs_of
from perdure.backends.damage import UNREADABLE
from perdure.errors import CorruptBackup, CorruptRecord, NewerFormat, NotFound, PerdureError
from perdure.files import FILE, Files
from perdure.ids import is_id
from perdure.records.buffers import DIGEST_SIZE, digest_of
from perdure.records.frame import parse_unverified
from perdure.records.values import Buffer, Commit, Past
from perdure.upkeep.past import Step

FIRST_LINE = b"perdure backup "
FORMAT = 1
BEGIN, PIECE, RECORDS, REVISION, DONE = b"BEGN", b"PIEC", b"RECS", b"REVN", b"DONE"
TOGETHER = 1 << 20  # bytes that are written at a time, and that frames of one part have, about

_HEAD = Struct("<4sQ")
_CHECK = Struct("<I")
_HEAD_SIZE = _HEAD.size + _CHECK.size
_CHAIN = 16  # bytes of a part's digest
_LENGTH = Struct("<I")


class Increment(NamedTuple):
    """One increment that is whole: from `since` to `revision`, and where it ends in the file."""

    since: int
    revision: int
    time: float
    records: int
    end: int


class Contents(NamedTuple):
    """What is in the file of a backup. `torn` are the bytes after the last whole increment.

    `last` is the newest commit in it. `chain` is the digest that the next part follows on.
    """

    store: str
    key: int
    encrypted: bool
    oldest: int
    next_number: int
    indexes: Mapping[str, list[str]]
    increments: tuple[Increment, ...]
    last: Commit | None
    pieces: frozenset[str]
    torn: int
    chain: bytes

    @property
    def revision(self) -> int:
        """The newest revision in it."""
        return self.increments[-1].revision

    @property
    def end(self) -> int:
        """Where the last whole increment ends, in bytes."""
        return self.increments[-1].end


class Part(NamedTuple):
    """One part whose digest is right: its content, where it ends, and the digest."""

    kind: bytes
    content: memoryview
    end: int
    chain: bytes


class BackupFile:
    """A backup, for reading. Raises `NotFound`, `NewerFormat`, and `CorruptBackup` for a file that is none."""

    def __init__(self, path: str | os.PathLike[str], *, files: Files | None = None):
        self.path = os.path.abspath(path)
        files = files or Files()
        if files.kind(os.path.realpath(self.path)) != FILE:
            raise NotFound(f"There is no file {path}.", hint="Give the file of a backup.", path=self.path)
        data = files.map(os.path.realpath(self.path))
        self._data = memoryview(b"") if data is None else data.toreadonly()
        line, newline, _ = bytes(self._data[:64]).partition(b"\n")
        number = line.removeprefix(FIRST_LINE)
        if not newline or not line.startswith(FIRST_LINE) or not number.isdigit():
            raise CorruptBackup(f"{path} is no backup of perdure.", hint="Give another name.", path=self.path)
        if int(number) > FORMAT:
            raise NewerFormat(
                f"{path} is a backup of format {int(number)}; this release reads up to {FORMAT}.",
                hint="Install a later release.",
                path=self.path,
            )
        self.size = len(self._data)
        self._start = len(line) + 1
        self._first = _chained(b"", memoryview(line))

    def contents(self) -> Contents:
        """Look through all of it, every digest. Raises `CorruptBackup` for damage, and where no increment is whole."""
        with self._readable():
            return self._contents()

    def _contents(self) -> Contents:
        increments: list[Increment] = []
        pieces: set[str] = set()
        new: set[str] = set()
        begun: dict[str, Any] = {}
        first: dict[str, Any] = {}
        done: dict[str, Any] = {}
        last: Commit | None = None
        newest: Commit | None = None
        chain, end = self._first, self._start
        reached = end
        for part in self._parts():
            reached = part.end
            if part.kind == BEGIN:
                begun, records, new = self._json(part), 0, set()
                first = first or begun
                self._expect_same(first, begun, increments)
            elif part.kind == PIECE:
                new.add(bytes(part.content[:DIGEST_SIZE]).hex())
            elif part.kind == REVISION:
                told = self._json(part)
                records += told["records"]
                newest = _commit(told) or newest
            elif part.kind == DONE:
                done = self._json(part)
                increments.append(Increment(begun["since"], done["revision"], done["time"], records, part.end))
                pieces |= new
                last, end, chain = newest, part.end, part.chain
        if not increments:
            raise self.corrupt("has no increment that is whole")
        torn = len(self._data) - end
        if torn:
            self._refuse_damage(end, reached)
        return Contents(
            first["store"], first["key"], first.get("encrypted", False), first["oldest"], done["next"], done["indexes"],
            tuple(increments), last, frozenset(pieces), torn, chain,
        )  # fmt: skip

    def steps(self, until: int) -> Iterator[Step]:
        """Every revision up to the byte `until`, in order; each record has its own checksum verified."""
        with self._readable():
            yield from self._steps(until)

    def _steps(self, until: int) -> Iterator[Step]:
        frames: dict[str, bytes] = {}
        pieces: dict[str, Buffer] = {}
        for part in self._parts(until):
            if part.kind == PIECE:
                digest, content = bytes(part.content[:DIGEST_SIZE]).hex(), part.content[DIGEST_SIZE:]
                if digest_of(content) != digest:
                    raise self.corrupt(f"holds a large piece that is not what its digest {digest[:8]} names")
                pieces[digest] = content
            elif part.kind == RECORDS:
                for frame in self._frames(part.content):
                    frames[parse_unverified(frame).id] = frame
            elif part.kind == REVISION:
                told = self._json(part)
                removed = tuple(told["removed"])
                if len(frames) != told["records"] or not all(map(is_id, (*frames, *removed))):
                    raise self.corrupt(f"does not hold the records of revision {told['revision']}")
                yield Step(Past(told["revision"], _commit(told), frames, removed), pieces)
                frames, pieces = {}, {}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """What a part with a good digest says that no release of perdure writes, is damage like any other."""
        try:
            yield
        except UNREADABLE as error:
            if isinstance(error, PerdureError):
                raise
            raise self.corrupt(f"has a part that cannot be read: {error!r:.80}") from error

    def corrupt(self, what: str) -> CorruptBackup:
        """The error for a file that is not as it was written."""
        return CorruptBackup(f"{self.path} {what}.", path=self.path)

    def _parts(self, until: int | None = None) -> Iterator[Part]:
        """The parts from the beginning on, up to the first that is not right."""
        data, place, chain = self._data, self._start, self._first
        end = len(data) if until is None else until
        while place < end:
            length = self._length_at(place, data)
            stop = place + _HEAD_SIZE + (length or 0) + _CHAIN
            if length is None or stop > end:
                return
            content = data[place + _HEAD_SIZE : stop - _CHAIN]
            chain = _chained(chain, data[place : stop - _CHAIN])
            if chain != data[stop - _CHAIN : stop]:
                return
            yield Part(bytes(data[place : place + 4]), content, stop, chain)
            place = stop

    @staticmethod
    def _length_at(place: int, data: memoryview) -> int | None:
        head = data[place : place + _HEAD_SIZE]
        if len(head) < _HEAD_SIZE or _CHECK.unpack_from(head, _HEAD.size)[0] != crc32(head[: _HEAD.size]):
            return None
        length: int = _HEAD.unpack_from(head)[1]
        return length

    def _refuse_damage(self, end: int, reached: int) -> None:
        """Raise `CorruptBackup` if an increment after that place once was whole: then nobody was cut off here.

        All is right up to `reached`. A DONE that begins there and ends the file may be what a power cut left of it.
        """
        whole = bytes(self._data[end:])
        place = whole.find(DONE)
        while place >= 0:
            length = self._length_at(end + place, self._data)
            stop = end + place + _HEAD_SIZE + (length or 0) + _CHAIN
            may_be_torn = (end + place, stop) == (reached, self.size)
            if length is not None and stop <= self.size and not may_be_torn:
                raise self.corrupt(f"was changed since it was written, after byte {end}")
            place = whole.find(DONE, place + 1)

    def _json(self, part: Part) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(bytes(part.content))
        return found

    def _expect_same(self, first: Mapping[str, Any], begun: Mapping[str, Any], done: list[Increment]) -> None:
        follows = begun["since"] == (done[-1].revision if done else 0)
        if not follows or (begun["store"], begun["key"]) != (first["store"], first["key"]):
            raise self.corrupt("has an increment that does not follow on the one before it")

    def _frames(self, content: memoryview) -> Iterator[bytes]:
        place = 0
        while place < len(content):
            (length,) = _LENGTH.unpack_from(content, place)
            place += _LENGTH.size + length
            yield bytes(content[place - length : place])


class BackupWriter:
    """Appends parts to the file at `path` from byte `end` on; nothing counts before `finish`."""

    def __init__(self, files: Files, path: str, end: int, chain: bytes):
        self._files, self._path, self.end, self._chain = files, path, end, chain
        self._waiting = bytearray()
        self._frames: list[bytes] = []
        self._frames_size = 0

    @classmethod
    def new(cls, files: Files, path: str) -> BackupWriter:
        """Begin a file, or empty it."""
        line = FIRST_LINE + b"%d\n" % FORMAT
        files.write_new(path, line)
        return cls(files, path, len(line), _chained(b"", memoryview(line[:-1])))

    def begin(self, **told: object) -> None:
        """Begin an increment."""
        self._json(BEGIN, told)

    def piece(self, digest: str, length: int, parts: Iterable[Buffer]) -> None:
        """A large piece, part by part. Raises `CorruptRecord` where it is not what its digest names."""
        found = blake2b(digest_size=DIGEST_SIZE)

        def checked() -> Iterator[Buffer]:
            yield bytes.fromhex(digest)
            for part in parts:
                found.update(part)
                yield part

        written = self._part(PIECE, DIGEST_SIZE + length, checked())
        if written != DIGEST_SIZE + length or found.hexdigest() != digest:
            raise CorruptRecord(f"The large piece {digest} is damaged.", hint="See what `perdure check` says of it.")

    def record(self, frame: bytes) -> None:
        """A record of the revision that is told next."""
        self._frames += (_LENGTH.pack(len(frame)), frame)
        self._frames_size += _LENGTH.size + len(frame)
        if self._frames_size >= TOGETHER:
            self._records()

    def revision(self, past: Past) -> None:
        """A revision whose records and pieces were written."""
        self._records()
        commit = past.commit
        told = commit and [commit.time, commit.note, commit.code, runs_of(commit.numbers)]
        self._json(
            REVISION,
            {"revision": past.revision, "commit": told, "removed": past.removed, "records": len(past.frames)},
        )

    def finish(self, **told: object) -> int:
        """End the increment: from now on it counts, durably. Gives the length of the file."""
        self._flush()
        self._files.sync(self._path)
        self._json(DONE, told)
        self._flush()
        self._files.sync(self._path)
        return self.end

    def _records(self) -> None:
        if self._frames:
            self._part(RECORDS, self._frames_size, [b"".join(self._frames)])
        self._frames, self._frames_size = [], 0

    def _json(self, kind: bytes, told: Mapping[str, object]) -> None:
        text = json.dumps(told).encode("ascii")
        self._part(kind, len(text), [text])

    def _part(self, kind: bytes, length: int, contents: Iterable[Buffer]) -> int:
        head = _HEAD.pack(kind, length)
        state = _chaining(self._chain)
        written = -_HEAD_SIZE
        for content in _after(head, contents):
            state.update(content)
            self._put(content)
            written += len(content)
        self._chain = state.digest()
        self._put(self._chain)
        return written

    def _put(self, content: Buffer) -> None:
        if len(content) >= TOGETHER:
            self._flush()
            self._files.write_at(self._path, self.end, memoryview(content).cast("B"))
            self.end += len(content)
            return
        self._waiting += content
        if len(self._waiting) >= TOGETHER:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._files.write_at(self._path, self.end, bytes(self._waiting))
            self.end += len(self._waiting)
            self._waiting = bytearray()


def _after(head: bytes, contents: Iterable[Buffer]) -> Iterator[Buffer]:
    yield head + _CHECK.pack(crc32(head))
    yield from contents


def _chaining(chain: bytes) -> blake2b:
    state = blake2b(digest_size=_CHAIN)
    state.update(chain)
    return state


def _chained(chain: bytes, data: memoryview) -> bytes:
    state = _chaining(chain)
    state.update(data)
    return state.digest()


def _commit(told: Mapping[str, Any]) -> Commit | None:
    if told["commit"] is None:
        return None
    time, note, code, runs = told["commit"]
    return Commit(told["revision"], time, note, code, tuple(numbers_of(runs)))
