"""Journal files as they are found: read, verified, in order, without a gap.

- A torn tail of the newest file is told in what is found; anything else that is missing or damaged is `CorruptJournal`,
  with file and byte.
- A file names the one before it, and the CRC of its last entry: one of another past of the same system is met.
- Nothing is unpickled and nothing is written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from perdure.errors import CorruptJournal
from perdure.prevalence.entries import Found, Head, find_entries, parse_head
from perdure.prevalence.folder import JOURNAL, Folder, Reached
from perdure.records.seal import Key


class JournalFile(NamedTuple):
    """A journal file that was read and verified."""

    path: str
    data: bytes
    head: Head
    found: Found


def read_journal(folder: Folder, key: Key | None, path: str) -> JournalFile:
    """One journal file, verified; raises `CorruptJournal`, `UntrustedRecord` or `NewerFormat`."""
    data = folder.files.read(path)
    if data is None:
        raise CorruptJournal(f"The journal file {path} is missing.", path=path, offset=0)
    head = parse_head(data, path)
    if head.system != folder.id:
        raise CorruptJournal(
            f"The journal file {path} is of another system ({head.system}).",
            hint="Take it out of the directory, and put its own file there.",
            path=path,
            offset=0,
        )
    return JournalFile(path, data, head, find_entries(data, head, key, path))


def place_of(read: JournalFile) -> tuple[int, int]:
    """What the file after this one says of it; a file without entries is replaced, and its own words are handed on."""
    return (read.head.first, read.found.crc) if read.found.crc else read.head.previous


def misfit(before: JournalFile, read: JournalFile) -> str:
    """Why a file is not one that was written after that other one; "" if it may be."""
    if read.head.epoch < before.head.epoch:
        return f"was written by a writer that had been deposed (epoch {read.head.epoch}, after {before.head.epoch})"
    told = read.head.previous
    if told not in (place_of(before), (0, 0)) and told[0] != read.head.first:
        return f"does not follow on {before.path}: one of them is of another past of the system"
    return ""


def journal_files(
    folder: Folder, key: Key | None, after: int, until: int | None = None, reached: Reached | None = None
) -> Iterator[JournalFile]:
    """The files with the commands after that one, in order, without a gap; raises `CorruptJournal` where one is."""
    numbers = folder.numbers(JOURNAL)
    reached = folder.reached() if reached is None else reached
    if reached.newest and reached.newest not in numbers and max(reached) > after:
        raise _missing(folder, reached.newest, f"{folder.path('reached')} tells of it")
    started = [number for number in numbers if number <= after]
    wanted = [number for number in numbers if number > after]
    if not wanted or wanted[0] != after + 1:
        wanted = started[-1:] + wanted
    following = 0
    before: JournalFile | None = None
    for place, number in enumerate(wanted):
        if until is not None and number > until:
            return
        path = folder.numbered(JOURNAL, number)
        read = read_journal(folder, key, path)
        if read.head.first != number:
            raise CorruptJournal(f"The journal file {path} begins with command {read.head.first}.", path=path, offset=0)
        if number > max(following, after + 1):
            raise _missing(folder, max(following, after + 1), f"{path} follows")
        is_last = place == len(wanted) - 1
        if not is_last and read.found.last + 1 < wanted[place + 1] and wanted[place + 1] > after + 1:
            raise CorruptJournal(
                f"The journal file {path} ends at byte {read.found.end}, after command {read.found.last};"
                f" the next file begins with {wanted[place + 1]}.",
                hint="Take the file from a backup; perdure prevalence verify DIR says what is whole.",
                path=path,
                offset=read.found.end,
                sequence=read.found.last + 1,
            )
        if is_last and read.found.last < reached.last and reached.last > after:
            raise CorruptJournal(
                f"The journal file {path} ends at byte {read.found.end}, after command {read.found.last};"
                f" command {reached.last} was durable once.",
                hint="Take the file from a backup; perdure prevalence verify DIR says what is whole.",
                path=path,
                offset=read.found.end,
                sequence=read.found.last + 1,
            )
        why = "" if before is None else misfit(before, read)
        if why:
            raise CorruptJournal(
                f"The journal file {path} {why}.",
                hint="Have all files come from one backup? perdure prevalence verify DIR says what is whole.",
                path=path,
                offset=0,
                sequence=number,
            )
        before = read
        following = read.found.last + 1
        yield read


def _missing(folder: Folder, command: int, why: str) -> CorruptJournal:
    path = folder.numbered(JOURNAL, command)
    return CorruptJournal(
        f"The journal file with command {command} is missing: {why}.",
        hint="Put it back from a backup; perdure prevalence verify DIR says what is whole.",
        path=path,
        offset=0,
        sequence=command,
    )
