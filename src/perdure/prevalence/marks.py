"""Records of a journal file that are no commands: what its kinds are called, and which commands raised.

- A kind is told in the first entry that has a command of it, before the command.
- That a command raised is told in a later entry; a power cut may lose that, and then a replay finds it out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from perdure.errors import CorruptJournal
from perdure.prevalence.entries import DEFINES, ENTRY, FAILED, RECORD, Found, pack_record

Told = tuple[str, int, str]  # name, version, form


def encode_kind(number: int, name: str, version: int, form: str) -> bytes:
    """The record that tells what a number means."""
    text = json.dumps([number, name, version, form], separators=(",", ":")).encode()
    return pack_record(len(text), DEFINES, 0.0) + text


def encode_failed(numbers: Iterable[int]) -> bytes:
    """The record that tells which commands raised."""
    text = json.dumps(sorted(numbers), separators=(",", ":")).encode()
    return pack_record(len(text), FAILED, 0.0) + text


def kinds_of(data: bytes, found: Found) -> dict[int, Told]:
    """What the numbers of a file mean."""
    kinds: dict[int, Told] = {}
    for text in _marks(data, found, DEFINES):
        number, name, version, form = json.loads(text)
        kinds[number] = (str(name), int(version), str(form))
    return kinds


def failed_of(data: bytes, found: Found) -> set[int]:
    """The commands that a file tells to have raised."""
    return {int(number) for text in _marks(data, found, FAILED) for number in json.loads(text)}


def _marks(data: bytes, found: Found, wanted: int) -> Iterable[bytes]:
    """The payloads of the records of that sort. They come first in their entries, so that others cost one look."""
    unpack = RECORD.unpack_from
    for start in found.starts:
        at = start + ENTRY.size
        end = at + ENTRY.unpack_from(data, start)[3]
        while at < end:
            length, kind, _ = unpack(data, at)
            if kind < FAILED or kind > DEFINES:
                break
            at += RECORD.size
            if kind == wanted:
                yield data[at : at + length]
            at += length
        if at > end:
            raise CorruptJournal("A record of the journal is longer than its entry.", offset=start)
