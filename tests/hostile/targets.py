"""What hostile bytes are given to, by tests and by fuzzing: whatever comes out is a `PerdureError`, or a value to use.

Frames are tried with a checksum, and with a seal, that are made right: else nothing behind them would ever be reached.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import victim  # the classes that the records name

import perdure
from perdure.errors import PerdureError
from perdure.pickling.renames import Renames
from perdure.pickling.rewriting import rewritten
from perdure.records.frame import decode, decoder, parse_unverified
from perdure.records.seal import Key

LIMITS = perdure.Limits(bytes=1 << 20, unpacked=1 << 22, printed=100_000)
KEY = Key(bytes(range(32)))
RENAMES = Renames({"victim:Item": "victim:Thing", "os:system": "posix:system"}, {"collections": "elsewhere"})


def read(data: bytes) -> None:
    """By perdure's own reader."""
    victim.use(perdure.loads(data, key=KEY, limits=LIMITS))


def look(data: bytes) -> None:
    """By `inspect`."""
    str(perdure.inspect(data, key=KEY, limits=LIMITS))


def rewrite(data: bytes) -> None:
    """By the rewriter of names; what it gives is as good as what it got."""
    result = rewritten(data, RENAMES)
    assert rewritten(result.data, RENAMES).data == result.data


def frame(data: bytes) -> None:
    """By the parsers of frames, each of which gives the same."""
    body = data + zlib.crc32(data).to_bytes(4, "little")
    for tag in (bytes(16), KEY.tag(body)):
        look(body + tag)
        try:
            record = parse_unverified(body + tag)
            found = decode(body + tag, KEY, foreign=(LIMITS.unpacked, LIMITS.ratio))
        except PerdureError:
            return  # so that nothing that is too large is tried with a seal
        assert (found.id, found.class_name, found.references) == (record.id, record.class_name, record.references)
        if any(tag):
            parts = decoder(KEY)(body + tag)
            assert parts[:2] == found[:2]
            assert parts[3:8] == found[3:8]


TARGETS: dict[str, Callable[[bytes], Any]] = {each.__name__: each for each in (read, look, rewrite, frame)}


def once(data: bytes, *names: str) -> None:
    """Give one input to each, or to those that are named."""
    for name in names or TARGETS:
        try:
            TARGETS[name](data)
        except (PerdureError, EOFError):  # there is nothing at all
            continue
