"""What the filesystem backend writes beside the frames: entries of its journal, lines of its log, and their index.

- An entry is a commit, or a reservation of numbers (revision 0). Entries are numbered without a gap (`sequence`).
- In the journal an entry carries its frames; the log keeps the entry alone, once its frames are durable files.
- Both carry a CRC-32 each; what does not verify, or does not follow on, ends the part that is valid.
- The index is a pure function of the entries; no text from the files becomes an id unchecked.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from perdure.backends.base import number_of
from perdure.errors import CorruptRecord
from perdure.ids import is_id
from perdure.records.frame import MAGIC as FRAME
from perdure.records.frame import WIDE_HEAD
from perdure.records.values import Commit

MAGIC = b"\xb7PJ\x01"
_HEAD = Struct("<4sIQI")  # magic, CRC of all that follows it, length of the whole entry, length of its text
_COVERED = 8  # the CRC covers what follows these bytes

Written = tuple[str, bool, Sequence[str]]  # class name, internal or not, ids


class Entry(NamedTuple):
    """A commit or a reservation: `next_number` is the counter after it, `written` groups the ids by class."""

    sequence: int
    next_number: int
    revision: int = 0
    time: float = 0.0
    note: str = ""
    code: str = ""
    written: Sequence[Written] = ()
    removed: Sequence[str] = ()

    def ids(self) -> Iterator[str]:
        """The ids that it wrote, in the order of its frames."""
        for _, _, ids in self.written:
            yield from ids


class Placed(NamedTuple):
    """Where an entry and its frames are in the journal: (offset, length) of each frame, end of the entry."""

    entry: Entry
    frames: list[tuple[int, int]]
    end: int


def encode_entry(entry: Entry, frames: Sequence[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
    """The entry as the journal keeps it, and the place of each frame in it."""
    text = _text(entry)
    lengths = Struct(f"<{len(frames)}Q").pack(*map(len, frames))
    start = _HEAD.size + len(text) + len(lengths)
    places = []
    for frame in frames:
        places.append((start, len(frame)))
        start += len(frame)
    body = b"".join((_HEAD.pack(MAGIC, 0, start, len(text)), text, lengths, *frames))
    return body[:4] + checksum(memoryview(body)[_COVERED:]).to_bytes(4, "little") + body[_COVERED:], places


def parse_journal(data: bytes, offset: int) -> Iterator[Placed]:
    """The valid entries at the beginning of `data`, which was read from `offset` on."""
    position = 0
    while position + _HEAD.size <= len(data):
        magic, crc, length, text_length = _HEAD.unpack_from(data, position)
        end = position + length
        if magic != MAGIC or length < _HEAD.size + text_length or end > len(data):
            return
        if checksum(memoryview(data)[position + _COVERED : end]) != crc:
            return
        start = position + _HEAD.size + text_length
        entry = _entry(data[position + _HEAD.size : start])
        count = sum(len(ids) for _, _, ids in entry.written)
        lengths = Struct(f"<{count}Q").unpack_from(data, start)
        start += 8 * count
        frames = []
        for size in lengths:
            frames.append((offset + start, size))
            start += size
        yield Placed(entry, frames, offset + end)
        position = end


def encode_line(entry: Entry) -> bytes:
    """The entry as the log keeps it: a checksum and JSON, one line."""
    text = _text(entry)
    return b"%08x %s\n" % (checksum(text), text)


def parse_log(data: bytes) -> Iterator[tuple[Entry, int]]:
    """The valid entries at the beginning of `data`, each with the position of its end."""
    position = 0
    while (end := data.find(b"\n", position)) >= 0:
        text = data[position + 9 : end]
        if data[position : position + 9] != b"%08x " % checksum(text):
            return
        position = end + 1
        yield _entry(text), position


def checksum(data: bytes | memoryview) -> int:
    """The CRC-32 of `data`."""
    return crc32(data)


def revision_of(frame: bytes) -> int | None:
    """The revision in a frame's head, unverified; None for what is no frame."""
    if len(frame) < WIDE_HEAD or not frame.startswith(FRAME):
        return None
    return int.from_bytes(frame[12:16], "little")


def _text(entry: Entry) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode()


def _entry(text: bytes) -> Entry:
    try:
        values = json.loads(text)
        entry = Entry(*values)
        if all(map(is_id, entry.ids())) and all(map(is_id, entry.removed)):
            return entry
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"The store's log cannot be read: {error}.") from error
    raise CorruptRecord("The store's log names ids that are none.", hint="Take the store from a backup.")


class Index:
    """Which versions of which objects there are, from every entry so far."""

    def __init__(self) -> None:
        self.sequence = 0
        self.revision = 0
        self.next_number = 1
        self.commits: list[Commit] = []
        self.ids: dict[int, str] = {}
        self.versions: dict[int, list[int]] = {}  # revisions, oldest first
        self.removed: dict[int, int] = {}
        self.classes: dict[int, str] = {}
        self.internal: set[int] = set()
        self.own: set[int] = set()  # kept in perdure's own folder: those that were internal when they were new

    def add(self, entry: Entry) -> None:
        """Take in the next entry."""
        self.sequence = entry.sequence
        self.next_number = entry.next_number
        if not entry.revision:
            return
        self.revision = entry.revision
        numbers = []
        for class_name, internal, ids in entry.written:
            for id_ in ids:
                number = number_of(id_)
                numbers.append(number)
                self.ids[number] = id_
                self.classes[number] = class_name
                if internal and number not in self.versions:
                    self.own.add(number)
                self.versions.setdefault(number, []).append(entry.revision)
                (self.internal.add if internal else self.internal.discard)(number)
        for id_ in entry.removed:
            numbers.append(number_of(id_))
            self.removed[numbers[-1]] = entry.revision
        self.commits.append(Commit(entry.revision, entry.time, entry.note, entry.code, tuple(sorted(numbers))))

    def current(self, id_: str) -> int:
        """The revision of the object's present version; 0 if there is none."""
        number = number_of(id_) if is_id(id_) else -1
        return self.version(number) if self.ids.get(number) == id_ else 0

    def version(self, number: int, at: int | None = None) -> int:
        """The revision of the version that was there at revision `at` (None: now); 0 if there was none."""
        versions = self.versions.get(number)
        if not versions:
            return 0
        removed = self.removed.get(number)
        if removed is not None and (at is None or at >= removed):
            return 0
        if at is None:
            return versions[-1]
        position = bisect_right(versions, at)
        return versions[position - 1] if position else 0

    def is_present(self, number: int, revision: int) -> bool:
        """Whether that version is the present one, in a file under the object's own name."""
        return self.version(number) == revision
