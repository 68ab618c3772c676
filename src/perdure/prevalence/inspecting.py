"""Looking through the directory of a system without importing or unpickling anything of it: what is whole, what is not.

- `verify` reads every file and says all that is wrong, each with file and byte; it never stops at the first.
- `commands_of` tells the commands of the journal: number, time, name, arguments as far as they are plain values.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from perdure.errors import CorruptRecord, NewerFormat, PerdureError, UntrustedRecord
from perdure.pickling.own.reading import read_values
from perdure.prevalence.codes import read_code
from perdure.prevalence.entries import (
    FAILED,
    KEYWORDS,
    NAMES,
    NUMBER,
    PACKED,
    find_entries,
    parse_head,
    records_of,
    starts_of,
)
from perdure.prevalence.folder import CODE, JOURNAL, SNAPSHOT, Folder, Reached
from perdure.prevalence.marks import failed_of, kinds_of
from perdure.prevalence.packing import Unpacker
from perdure.prevalence.pickles import completed
from perdure.prevalence.reading import JournalFile, misfit, read_journal
from perdure.prevalence.snapshots import read_snapshot
from perdure.records.seal import Key


class Wrong(NamedTuple):
    """Something that is not as it should be."""

    path: str
    offset: int
    text: str
    lost: bool  # whether the newest state cannot be had because of it


class Verified(NamedTuple):
    """What was found in a directory."""

    snapshots: list[int]  # those that are good
    journals: int  # files
    first: int  # the oldest command to which it can be taken back
    last: int  # the newest command that can be recovered
    base: int  # the snapshot from which that is; -1: there is none
    lead: list[int]  # the good snapshots from which the journal leads as far
    wrong: list[Wrong]


class Told(NamedTuple):
    """One command of the journal."""

    sequence: int
    time: float
    name: str
    version: int
    bytes: int
    raised: bool
    arguments: Any  # plain values; None where they name classes
    path: str


def verify(folder: Folder, key: Key | None) -> Verified:
    """Everything in the directory, looked through; nothing is raised for what is wrong in its files."""
    wrong: list[Wrong] = []
    try:
        reached = folder.reached()
    except CorruptRecord as error:
        wrong.append(Wrong(error.path, 0, error.message, True))
        reached = Reached()
    good = []
    for number in folder.numbers(SNAPSHOT):
        path = folder.numbered(SNAPSHOT, number)
        try:
            read_snapshot(folder.files, path, folder.id, key)
            good.append(number)
        except (CorruptRecord, UntrustedRecord, NewerFormat) as error:
            wrong.append(Wrong(path, 0, error.message, False))
    files = [_read(folder, key, number, wrong) for number in folder.numbers(JOURNAL)]
    whole = [file for file in files if file is not None]
    base, last = max(((start, _reach(whole, start)) for start in good), key=lambda pair: pair[::-1], default=(-1, -1))
    for before, file in pairwise(whole):
        if why := misfit(before, file):
            wrong.append(Wrong(file.path, 0, f"It {why}.", False))
    _tell_gaps(folder, whole, reached, base, last, wrong)
    _look_at_codes(folder, key, wrong)
    lead = [start for start in good if _reach(whole, start) == last]
    return Verified(good, len(files), lead[0] if lead else -1, last, base, lead, wrong)


def _read(folder: Folder, key: Key | None, number: int, wrong: list[Wrong]) -> JournalFile | None:
    """A journal file, or as much of it as is whole."""
    path = folder.numbered(JOURNAL, number)
    try:
        read = read_journal(folder, key, path)
    except (CorruptRecord, UntrustedRecord, NewerFormat) as error:
        offset = error.details.get("offset", 0)
        wrong.append(Wrong(path, offset, error.message, False))
        return _beginning(folder, key, path, offset)
    if read.found.torn:
        text = f"Its end was cut off: {read.found.torn} bytes after command {read.found.last}."
        wrong.append(Wrong(path, read.found.end, text, False))
    return read


def _beginning(folder: Folder, key: Key | None, path: str, offset: int) -> JournalFile | None:
    """What comes before the damage."""
    data = (folder.files.read(path) or b"")[:offset]
    try:
        head = parse_head(data, path)
        return JournalFile(path, data, head, find_entries(data, head, key, path))
    except (CorruptRecord, UntrustedRecord, NewerFormat):
        return None


def _reach(files: list[JournalFile], start: int) -> int:
    """The last command that can be recovered from a snapshot after command `start`."""
    last = start
    before: JournalFile | None = None
    for file in files:
        if file.found.last <= start:
            continue
        if before is not None and misfit(before, file):
            break
        before = file
        if file.head.first <= last + 1:
            last = max(last, file.found.last)
    return last


def _tell_gaps(
    folder: Folder, files: list[JournalFile], reached: Reached, base: int, last: int, wrong: list[Wrong]
) -> None:
    if base < 0:
        wrong.append(Wrong(folder.directory, 0, "No snapshot is good.", True))
    newest = max((file.found.last for file in files), default=0)
    expected = max(newest, reached.last)
    if last < expected:
        text = f"Commands {last + 1} to {expected} cannot be recovered: command {last + 1} is missing or damaged."
        wrong.append(Wrong(folder.directory, 0, text, True))
    present = folder.numbers(JOURNAL)
    if reached.newest > last + 1 or (reached.newest == last + 1 and reached.newest not in present):
        path = folder.numbered(JOURNAL, reached.newest)
        if reached.newest not in present:
            wrong.append(Wrong(path, 0, "The newest journal file is missing.", True))


def _look_at_codes(folder: Folder, key: Key | None, wrong: list[Wrong]) -> None:
    for name in sorted(folder.files.list(folder.directory)):
        if name.startswith(f"{CODE}-") and not name.endswith(".new"):
            try:
                read_code(folder, key, name.partition("-")[2])
            except (CorruptRecord, UntrustedRecord, ValueError) as error:
                text = error.message if isinstance(error, PerdureError) else str(error)
                wrong.append(Wrong(folder.path(name), 0, text, False))


def commands_of(folder: Folder, key: Key | None, *, after: int = 0) -> Iterator[Told]:
    """The commands of the journal, oldest first, as far as its files are whole."""
    for number in folder.numbers(JOURNAL):
        read = _read(folder, key, number, [])
        if read is None or read.found.last <= after:
            continue
        kinds = kinds_of(read.data, read.head, read.found)
        raised = failed_of(read.data, read.head, read.found) | _told_later(folder, key, number)
        sequence, unpacker = read.head.first - 1, Unpacker(key, read.head.seed)
        for kind, seconds, short in _records(read):
            if kind & NUMBER >= FAILED:
                continue
            sequence += 1
            if sequence > after:
                name, version, _ = kinds[kind & NUMBER]
                arguments = _shown(kind, short, sequence, unpacker)
                yield Told(sequence, seconds, name, version, len(short), sequence in raised, arguments, read.path)


def _told_later(folder: Folder, key: Key | None, number: int) -> set[int]:
    """What the next file tells of the last commands of this one."""
    later = [each for each in folder.numbers(JOURNAL) if each > number]
    read = _read(folder, key, later[0], []) if later else None
    return set() if read is None else failed_of(read.data, read.head, read.found)


def _records(read: JournalFile) -> Iterator[tuple[int, float, bytes]]:
    for start in starts_of(read.data, read.head, read.found):
        yield from records_of(read.data, start)


def _shown(kind: int, short: bytes, sequence: int, unpacker: Unpacker) -> Any:
    if kind & NAMES:
        return None
    try:
        if kind & PACKED:
            short = unpacker.unpack(short, sequence)
        value = read_values(completed(short))
    except PerdureError:
        return None
    return value if not kind & KEYWORDS else {"args": value[0], **value[1]} if isinstance(value, tuple) else None
