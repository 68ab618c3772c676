"""What a journal file is, byte by byte (format 1).

    head | text | tag || entry | records | tag || entry | records | tag || … | zeros

- An entry is what one sync makes durable: the commands that waited for it, each a record.
- A tag is keyed BLAKE2b over the whole file before it, earlier tags included: the last good tag vouches for all.
- Each entry has a CRC-32 of its own and that of the entry before, so that damage is found, and placed, without a key.
- An entry tells up to which byte the file was durable when it was written. So a bad entry that was durable (damage)
  can be told from one that a power cut has left half-written (a torn tail).
- The mark, with which every entry of a file begins, is found nowhere else in its entries: a file is split by it.
- Pure functions: nothing here reads or writes a file.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple
from zlib import crc32

from perdure.errors import CorruptJournal, NewerFormat, UntrustedRecord
from perdure.records.seal import TAG_SIZE, Key

MAGIC = b"\xb7PV"
FORMAT = 1
HEAD = Struct("<3sBII")  # magic, format, CRC of the text, length of the text
ENTRY = Struct("<IIIIII")  # mark, CRC of all that follows, CRC before, length, number, durable up to which byte
RECORD = Struct("<IHd")  # length of the payload, kind, time
_BEGIN = Struct("<II")
_TAIL = Struct("<IIII")
_MARK_AND_LENGTH = Struct("<I8xI")
_COVERED = 8  # bytes of an entry before those that its CRC covers

NUMBER = 0x0FFF  # of the kind: which command it is, as a definition in the same file says
KEYWORDS = 0x8000  # the payload has positional and keyword arguments
NAMES = 0x4000  # the payload names classes or functions
PACKED = 0x1000  # the payload is compressed, or encrypted, or both: see `packing`
ALONE = 0x2000  # the only record of its entry
DEFINES, FAILED = 0x0FFF, 0x0FFE  # records that are no commands
MOST_KINDS = FAILED  # of one file
LARGEST = 1 << 30  # bytes of the arguments of a command

pack_record = RECORD.pack


class Head(NamedTuple):
    """What the beginning of a journal file tells."""

    system: str
    first: int  # number of the first command in it
    mark: int  # what its entries begin with
    seed: bytes  # from which the chance of its commands is derived
    time: float
    code: str
    previous: tuple[int, int]  # of the file before it: its first command, and the CRC of its last entry; (0, 0): none
    end: int
    epoch: int = 0  # counts promotions of standbys: the writer of a lower one was deposed


class Found(NamedTuple):
    """The valid part of a journal file."""

    end: int
    last: int  # number of the last command
    last_entry: int  # number of the first command that is not before the last entry
    crc: int  # of the last entry; 0: there is none
    torn: int  # bytes after the end that are neither entries nor zeros


def encode_head(head: Head) -> bytes:
    """The beginning of a file, without its tag."""
    plain = {**head._asdict(), "seed": head.seed.hex()}
    del plain["end"]
    if not head.epoch:
        del plain["epoch"]
    text = json.dumps(plain, separators=(",", ":")).encode()
    return HEAD.pack(MAGIC, FORMAT, crc32(text), len(text)) + text


def parse_head(data: bytes, path: str) -> Head:
    """What the file tells of itself; raises `CorruptJournal` or `NewerFormat`. The tag is not verified."""
    try:
        magic, format_, crc, length = HEAD.unpack_from(data)
        if magic == MAGIC and format_ > FORMAT:
            raise NewerFormat(
                f"The journal file {path} has format {format_}; this release reads up to {FORMAT}.",
                hint="Install a later release.",
                path=path,
            )
        text = data[HEAD.size : HEAD.size + length]
        if magic != MAGIC or crc32(text) != crc or len(data) < HEAD.size + length + TAG_SIZE:
            raise ValueError("its checksum is wrong")
        plain: dict[str, Any] = json.loads(text)
        plain["seed"], plain["previous"] = bytes.fromhex(plain["seed"]), tuple(plain["previous"])
        return Head(**plain, end=HEAD.size + length + TAG_SIZE)
    except NewerFormat:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, StructError) as error:
        raise CorruptJournal(
            f"The head of the journal file {path} is damaged (byte 0): {error}.",
            hint="perdure prevalence verify says what is lost; take the file from a backup.",
            path=path,
            offset=0,
        ) from error


def encode_entry(mark: int, before: int, number: int, durable: int, records: bytes) -> tuple[bytes, int]:
    """An entry without its tag, and its CRC; `number` counts the commands of the file before it."""
    tail = _TAIL.pack(before, len(records), number, durable) + records
    crc = crc32(tail)
    return _BEGIN.pack(mark, crc) + tail, crc


def records_of(data: bytes, start: int) -> Iterator[tuple[int, float, bytes]]:
    """Kind, time and payload of each record of the entry that begins there."""
    at = start + ENTRY.size
    end = at + ENTRY.unpack_from(data, start)[3]
    while at < end:
        length, kind, seconds = RECORD.unpack_from(data, at)
        at += RECORD.size
        yield kind, seconds, data[at : at + length]
        at += length


def is_sealed(data: bytes, end: int, key: Key) -> bool:
    """Whether the tag that ends at `end` is good: then all before it is as it was written."""
    state = key.fork()
    state.update(memoryview(data)[: end - TAG_SIZE])
    return state.digest() == data[end - TAG_SIZE : end]


def find_entries(data: bytes, head: Head, key: Key | None, path: str) -> Found:
    """The valid entries. Raises `CorruptJournal` where one that was durable is not valid any more.

    With a key every byte of them is under a good seal, or it is `UntrustedRecord`; without one CRCs must do.
    """
    at = data.rfind(mark_of(head), head.end)
    end = head.end if at < 0 else at + ENTRY.size + ENTRY.unpack_from(data.ljust(at + ENTRY.size), at)[3] + TAG_SIZE
    if key is None or end > len(data) or not is_sealed(data, end, key) or data[end:].strip(b"\0"):
        starts, end = _checked(data, head, _walk(data, head)[0], key, path)
        at = starts[-1] if starts else -1
    last, last_entry, crc = head.first - 1, head.first, 0
    if at >= 0:
        _, crc, _, _, number, _ = ENTRY.unpack_from(data, at)
        last_entry = head.first + number
        last = last_entry + sum(kind & NUMBER < FAILED for kind, _, _ in records_of(data, at)) - 1
    rest = data[end:].rstrip(b"\0")
    if rest:
        _refuse_damage(data, head, end, end + len(rest), last, path)
    return Found(end, last, last_entry, crc, len(rest))


def take_entries(data: bytes, at: int, head: Head, before: int, sealer: Any) -> Iterator[tuple[int, int, int, int]]:
    """Start, end, CRC and number of commands of each entry from `at` on; all of `data` must be entries.

    `sealer` has seen the file up to there, and goes on. Raises `UntrustedRecord` at the first that does not follow on.
    """
    while at < len(data):
        entry = _valid(data, at)
        end = 0 if entry is None else at + ENTRY.size + entry[3] + TAG_SIZE
        if entry is None or entry[0] != head.mark or entry[2] != before or not _goes_on(sealer, data, at, end):
            raise UntrustedRecord(f"What came for the journal is no entry that follows on the others (byte {at}).")
        before = entry[1]
        yield at, end, before, sum(kind & NUMBER < FAILED for kind, _, _ in records_of(data, at))
        at = end


def has_end(data: bytes, head: Head, found: Found, end: int, crc: int) -> bool:
    """Whether an entry with that CRC ends there."""
    for start in starts_of(data, head, found):
        entry = ENTRY.unpack_from(data, start)
        if start + ENTRY.size + entry[3] + TAG_SIZE == end:
            return bool(entry[1] == crc)
    return False


def begins_sealed(data: bytes, head: Head, key: Key) -> Any:
    """What has seen the head of a file, and its good tag; raises `UntrustedRecord`."""
    sealer = key.fork()
    if not _goes_on(sealer, data, 0, head.end):
        raise UntrustedRecord(f"The head of a journal file does not carry a good seal of the key {key.name}.")
    return sealer


def mark_of(head: Head) -> bytes:
    """What the entries of that file begin with."""
    return head.mark.to_bytes(4, "little")


def new_mark() -> int:
    """A mark of four different bytes, so that it cannot begin within itself."""
    while True:
        mark = secrets.token_bytes(4)
        if len({*mark}) == len(mark):
            return int.from_bytes(mark, "little")


def starts_of(data: bytes, head: Head, found: Found) -> list[int]:
    """Where the valid entries begin."""
    return _walk(data[: found.end], head)[0]


def _walk(data: bytes, head: Head) -> tuple[list[int], int]:
    """Where entries seem to begin, by their marks and lengths alone, and where the last one ends."""
    starts, at, unpack, mark = [], head.end, _MARK_AND_LENGTH.unpack_from, head.mark
    last = len(data) - ENTRY.size - TAG_SIZE
    while at <= last:
        found, length = unpack(data, at)
        following = at + ENTRY.size + length + TAG_SIZE
        if found != mark or following > len(data):
            break
        starts.append(at)
        at = following
    return starts, at


def _checked(data: bytes, head: Head, starts: Sequence[int], key: Key | None, path: str) -> tuple[list[int], int]:
    """Those of them up to the first whose CRC or tag is wrong, or that does not follow on, and where they end."""
    good, end, before = [], head.end, 0
    sealer = None if key is None else key.fork()
    if sealer is not None and not _goes_on(sealer, data, 0, head.end):
        raise UntrustedRecord(
            f"The head of the journal file {path} (byte 0) does not carry a good seal of the system's key.",
            hint="Take the file from a backup; if you know where it comes from, open it with trust='all'.",
            path=path,
            offset=0,
        )
    for at in starts:
        entry = _valid(data, at)
        if entry is None or entry[2] != before:
            break
        following = at + ENTRY.size + entry[3] + TAG_SIZE
        if sealer is not None and not _goes_on(sealer, data, at, following):
            break
        good.append(at)
        end, before = following, entry[1]
    return good, end


def _goes_on(sealer: Any, data: bytes, start: int, end: int) -> bool:
    """Whether the tag at the end is good; the sealer has then seen all up to it."""
    view = memoryview(data)
    sealer.update(view[start : end - TAG_SIZE])
    is_good: bool = sealer.digest() == data[end - TAG_SIZE : end]
    sealer.update(view[end - TAG_SIZE : end])
    return is_good


def _valid(data: bytes, at: int) -> tuple[int, ...] | None:
    """The head of the entry at that place, if its CRC is right."""
    if at + ENTRY.size > len(data):
        return None
    entry: tuple[int, ...] = ENTRY.unpack_from(data, at)
    end = at + ENTRY.size + entry[3]
    if end + TAG_SIZE > len(data) or crc32(memoryview(data)[at + _COVERED : end]) != entry[1]:
        return None
    return entry


def _refuse_damage(data: bytes, head: Head, end: int, stop: int, last: int, path: str) -> None:
    """Raise if a later entry tells that what should be at `end` was durable; else the rest is a torn tail."""
    mark = head.mark.to_bytes(4, "little")
    at = data.find(mark, end, stop)
    while at >= 0:
        entry = _valid(data, at)
        if entry is not None and entry[5] > end:
            raise CorruptJournal(
                f"The journal file {path} is damaged at byte {end}: command {last + 1} cannot be read,"
                f" yet command {head.first + entry[4]} after it can, at byte {at}.",
                hint="perdure prevalence verify DIR says what is whole; take the file from a backup, or repair.",
                path=path,
                offset=end,
                sequence=last + 1,
            )
        at = data.find(mark, at + 1, stop)
