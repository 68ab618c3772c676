"""What the filesystem backend writes beside the frames: entries of its journal, lines of its log, and their index.

- An entry is a commit, or a reservation of numbers (revision 0). Entries are numbered without a gap (`sequence`).
- In the journal an entry carries its frames; the log keeps the entry alone, once its frames are durable files.
- Both carry a CRC-32 each; what does not verify, or does not follow on, ends the part that is valid.
- The index is a pure function of the entries; no text from the files becomes an id unchecked.
- A log that was packed begins with an entry of sequence 0, which tells the oldest revision that is kept whole; below
  it revisions may be missing, and the entries that are there name only what is still kept. Its note is a number that
  each packing raises, so that no two logs of one store begin alike.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from perdure.backends.base import number_of, numbers_of, runs_of
from perdure.errors import CorruptRecord
from perdure.ids import is_id
from perdure.records.frame import MAGIC as FRAME
from perdure.records.frame import WIDE_HEAD
from perdure.records.values import Commit

MAGIC = b"\xb7PJ\x01"
_HEAD = Struct("<4sIQI")  # magic, CRC of all that follows it, length of the whole entry, length of its text
_COVERED = 8  # the CRC covers what follows these bytes

_ALWAYS = 8  # values of an entry that are always written

Written = tuple[str, bool, Sequence[str]]  # class name, internal or not, ids


class Entry(NamedTuple):
    """A commit or a reservation: `next_number` is the counter after it, `written` groups the ids by class.

    `time` is None where versions are kept, but not the commit that wrote them; `forgotten` are the numbers (see
    `runs_of`) of which it is no more told. From an entry with `oldest` on nothing older can be seen; `lean`: the older
    commits are forgotten, too. `flipped` are numbers whose file is not in the folder that their flags call for.
    """

    sequence: int
    next_number: int
    revision: int = 0
    time: float | None = 0.0
    note: str = ""
    code: str = ""
    written: Sequence[Written] = ()
    removed: Sequence[str] = ()
    oldest: int = 0
    lean: bool = False
    erased: Sequence[str] = ()
    forgotten: str = ""
    flipped: Sequence[int] = ()

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
    values = list(entry)
    while len(values) > _ALWAYS and not values[-1]:
        values.pop()  # most entries say nothing of what is forgotten
    return json.dumps(values, separators=(",", ":")).encode()


def _entry(text: bytes) -> Entry:
    try:
        values = json.loads(text)
        entry = Entry(*values)
        if all(map(is_id, entry.ids())) and all(map(is_id, (*entry.removed, *entry.erased))):
            return entry
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"The store's log cannot be read: {error}.") from error
    raise CorruptRecord("The store's log names ids that are none.", hint="Take the store from a backup.")


class Index:
    """Which versions of which objects there are, from every entry so far."""

    def __init__(self) -> None:
        self.sequence = 0
        self.revision = 0
        self.oldest = 0
        self.base = 0  # what the log began with as its oldest revision
        self.packings = 0  # how often the log was packed
        self.next_number = 1
        self.commits: list[Commit] = []
        self.ids: dict[int, str] = {}
        self.versions: dict[int, list[int]] = {}  # revisions, oldest first
        self.removals: dict[int, list[int]] = {}  # revisions, oldest first
        self.removed: dict[int, int] = {}  # those that are not there now: the revision of the removal
        self.classes: dict[int, str] = {}
        self.internal: set[int] = set()
        self.own: set[int] = set()  # kept in perdure's own folder: those that were internal when they were new
        self.forgotten = 0  # how many versions were
        self.dropped: list[tuple[int, int]] = []  # number and revision of those that the medium still has
        self._flipped: frozenset[int] = frozenset()

    def add(self, entry: Entry) -> None:
        """Take in the next entry."""
        self.sequence = entry.sequence
        self.next_number = entry.next_number
        if entry.revision:
            self._add_commit(entry)
        elif not entry.sequence:
            self.base, self._flipped = entry.oldest, frozenset(entry.flipped)
            told = str(entry.note)[:18]  # the first packings wrote no number
            self.packings = int(told) if told.isdecimal() else 0
        for id_ in entry.erased:
            self._keep_from(number_of(id_), self.removed[number_of(id_)])
        if entry.oldest > self.oldest:
            self._forget_before(entry.oldest, entry.lean)

    def _add_commit(self, entry: Entry) -> None:
        self.revision = entry.revision
        numbers = list(numbers_of(entry.forgotten))
        for class_name, internal, ids in entry.written:
            for id_ in ids:
                number = number_of(id_)
                numbers.append(number)
                self.ids[number] = id_
                self.classes[number] = class_name
                if not self.versions.get(number):
                    (self.own.add if internal != (number in self._flipped) else self.own.discard)(number)
                self.versions.setdefault(number, []).append(entry.revision)
                self.removed.pop(number, None)
                (self.internal.add if internal else self.internal.discard)(number)
        for id_ in entry.removed:
            number = number_of(id_)
            numbers.append(number)
            self.ids[number] = id_
            self.versions.setdefault(number, [])
            self.removals.setdefault(number, []).append(entry.revision)
            self.removed[number] = entry.revision
        if entry.time is not None:
            self.commits.append(Commit(entry.revision, entry.time, entry.note, entry.code, tuple(sorted(numbers))))

    def _forget_before(self, oldest: int, lean: bool) -> None:
        """Forget what cannot be seen from revision `oldest` on: all of it was replaced by a commit since the last."""
        first, end = self.position(self.oldest + 1), self.position(oldest + 1)
        self.oldest = oldest
        for number in {number for commit in self.commits[first:end] for number in commit.numbers}:
            if number in self.versions:
                seen = [r for r in (*self.versions[number], *self.removals.get(number, ())) if r <= oldest]
                self._keep_from(number, max(seen, default=0))
        needed: set[int] = set()
        if not lean:
            for revisions in (*self.versions.values(), *self.removals.values()):
                needed.update(revisions)
        self.commits = [each for each in self.commits if each.revision >= oldest or each.revision in needed]

    def _keep_from(self, number: int, revision: int) -> None:
        """Forget the versions and removals of a number that are older than that."""
        versions, removals = self.versions[number], self.removals.get(number, [])
        gone = [each for each in versions if each < revision]
        self.dropped += ((number, each) for each in gone)
        self.versions[number] = versions[len(gone) :]
        past = sum(each < revision for each in removals)
        if past:
            self.removals[number] = removals[past:]
        self.forgotten += len(gone) + past

    def position(self, revision: int) -> int:
        """Where in `commits` those from that revision on begin."""
        return bisect_left(self.commits, revision, key=attrgetter("revision"))

    def later(self, seen: int, *, present: bool = False) -> list[tuple[int, int]]:
        """Number and revision of what was written after revision `seen`: every version, or only what is there."""
        numbers: Iterable[int] = self.versions
        if seen >= self.oldest:  # else not every commit since then is kept
            numbers = {number for commit in self.commits[self.position(seen + 1) :] for number in commit.numbers}
        found = []
        for number in numbers:
            revisions = [self.version(number)] if present else self.versions.get(number, ())
            found += [(number, revision) for revision in revisions if revision > seen]
        return found

    def trimmed(self, before: float) -> int:
        """The revision of the last of the oldest commits that were made before that time; 0 if there is nothing new."""
        last = self.oldest
        for position in range(self.position(self.oldest), len(self.commits)):
            if self.commits[position].time >= before:
                break
            last = self.commits[position].revision
        return last if last > self.oldest else 0

    def current(self, id_: str) -> int:
        """The revision of the object's present version; 0 if there is none."""
        number = number_of(id_) if is_id(id_) else -1
        return self.version(number) if self.ids.get(number) == id_ else 0

    def version(self, number: int, at: int | None = None) -> int:
        """The revision of the version that was there at revision `at` (None: now); 0 if there was none."""
        versions = self.versions.get(number)
        if not versions:
            return 0
        if at is None:
            return 0 if number in self.removed else versions[-1]
        position = bisect_right(versions, at)
        revision = versions[position - 1] if position else 0
        removals = self.removals.get(number)
        if removals and revision:
            removal = bisect_right(removals, at)
            if removal and removals[removal - 1] > revision:
                return 0
        return revision

    def is_present(self, number: int, revision: int) -> bool:
        """Whether that version is the present one, in a file under the object's own name."""
        return self.version(number) == revision


def packed(index: Index) -> Iterator[Entry]:
    """The fewest entries that make the same index: the lines of a log that was packed."""
    written: dict[int, dict[tuple[str, bool], list[str]]] = {}
    removed: dict[int, list[str]] = {}
    flipped = []
    for number, versions in index.versions.items():
        id_, own, internal = index.ids[number], number in index.own, number in index.internal
        for place, revision in enumerate(versions):
            # Of older versions the frame tells the class; the first one tells the folder.
            group = (index.classes[number], internal) if revision == versions[-1] else ("", own and not place)
            written.setdefault(revision, {}).setdefault(group, []).append(id_)
        if len(versions) == 1 and own != internal:
            flipped.append(number)
        for revision in index.removals.get(number, ()):
            removed.setdefault(revision, []).append(id_)
    commits = {commit.revision: commit for commit in index.commits}
    revisions = sorted({*written, *removed, *commits})
    yield Entry(0, index.next_number, note=f"{index.packings + 1}", oldest=index.oldest, flipped=sorted(flipped))
    for sequence, revision in enumerate(revisions, index.sequence - len(revisions) + 1):
        commit = commits.get(revision)
        groups: list[Written] = [(*group, ids) for group, ids in written.get(revision, {}).items()]
        gone = removed.get(revision, [])
        told = {number_of(id_) for _, _, ids in groups for id_ in ids}.union(map(number_of, gone))
        if commit is None:
            yield Entry(sequence, index.next_number, revision, None, "", "", groups, gone)
            continue
        forgotten = runs_of(set(commit.numbers).difference(told))
        parts = (commit.time, commit.note, commit.code, groups, gone)
        yield Entry(sequence, index.next_number, revision, *parts, forgotten=forgotten)
