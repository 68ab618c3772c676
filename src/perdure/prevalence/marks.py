"""Records of a journal file that are no commands: what its kinds are called, and which commands raised.

- A kind is told in the first entry that has a command of it, before the command.
- That a command raised is told in a later entry; a power cut may lose that, and then a replay finds it out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from perdure.prevalence.entries import (
    DEFINES,
    FAILED,
    RECORD,
    Found,
    Head,
    pack_record,
    records_of,
    starts_of,
)

Told = tuple[str, int, str]  # name, version, form


def encode_kind(number: int, name: str, version: int, form: str) -> bytes:
    """The record that tells what a number means."""
    text = json.dumps([number, name, version, form], separators=(",", ":")).encode()
    return pack_record(len(text), DEFINES, 0.0) + text


def encode_failed(numbers: Iterable[int], seed: bytes) -> bytes:
    """The record that tells which commands raised; it is found by the file's seed, which nothing else has."""
    text = _RAISED + seed + json.dumps(sorted(numbers), separators=(",", ":")).encode()
    return pack_record(len(text), FAILED, 0.0) + text


def kinds_of(data: bytes, head: Head, found: Found) -> dict[int, Told]:
    """What the numbers of a file mean."""
    kinds: dict[int, Told] = {}
    for start in starts_of(data, head, found):
        for kind, _, text in records_of(data, start):
            if kind == DEFINES:
                number, told = decode_kind(text)
                kinds[number] = told
    return kinds


def decode_kind(text: bytes) -> tuple[int, Told]:
    """What a record of `encode_kind` tells."""
    number, name, version, form = json.loads(text)
    return int(number), (str(name), int(version), str(form))


def failed_of(data: bytes, head: Head, found: Found) -> set[int]:
    """The commands that a file tells to have raised."""
    raised: set[int] = set()
    pattern = _RAISED + head.seed
    at = data.find(pattern, head.end, found.end)
    while at >= 0:
        length, _, _ = RECORD.unpack_from(data, at - RECORD.size)
        raised.update(json.loads(data[at + len(pattern) : at + length]))
        at = data.find(pattern, at + length, found.end)
    return raised


_RAISED = b"raised"
