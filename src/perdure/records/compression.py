"""Bytes made smaller where it pays: payloads of records from some KiB on, and parts of large pieces in databases.

- Zstandard, level 1: higher levels were slower by a third to two thirds, and saved no more of what was tried.
- Nothing is stored compressed that does not get smaller by an eighth at least. Of what is large, samples are tried
  first, so that what cannot be compressed costs hardly anything.
- The length of the result is told beside it, under the record's seal or in the backend's table; nothing longer is ever
  unpacked.
- The library is imported when the first such thing is met: small records never pay for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from perdure.errors import CorruptRecord
from perdure.records.buffers import PART, parts_of
from perdure.records.values import Buffer

LEVEL = 1
SMALLEST = 4096  # bytes of a payload from which on it is tried
WORTH = 7 / 8  # of its size is what it must come down to

_SAMPLE = 32 * 1024  # bytes
_SAMPLES = 4

_local = threading.local()  # a compressor must not be used by two threads at a time


def compressed(content: Buffer) -> bytes | None:
    """The content compressed, or None where that is not worth while; at its best for up to some MiB at a time."""
    if not is_promising(content):
        return None
    found: bytes = _compressor().compress(content)
    return found if len(found) <= len(content) * WORTH else None


def is_promising(content: Buffer) -> bool:
    """Whether samples of something large can be compressed; what is not large is worth a try."""
    if len(content) < 2 * _SAMPLE * _SAMPLES:
        return True
    view = memoryview(content)
    step = (len(view) - _SAMPLE) // (_SAMPLES - 1)
    sizes = [len(_compressor().compress(view[at : at + _SAMPLE])) for at in range(0, step * _SAMPLES, step)]
    return sum(sizes) <= _SAMPLE * _SAMPLES * WORTH


def stored_parts(digest: str, content: Buffer, size: int = PART) -> Iterator[tuple[int, bytes | memoryview]]:
    """A large piece as a database keeps it: of each part its true length, and its bytes, compressed where that pays.

    Raises as `parts_of` does.
    """
    promising = is_promising(content)
    for part in parts_of(digest, content, size):
        smaller = compressed(part) if promising else None
        yield len(part), part if smaller is None else smaller


def stored_part(content: bytes, length: int) -> bytes:
    """A part as it was before it was stored; raises `CorruptRecord` if it cannot have been that long."""
    if not 0 <= length <= PART:
        raise CorruptRecord(f"A part of a large piece is said to have {length} bytes, and none has more than {PART}.")
    return content if len(content) == length else decompressed(content, length)


def decompressed(content: Buffer, length: int) -> bytes:
    """What `compressed` was given, `length` bytes of it; raises `CorruptRecord` for anything else."""
    zstandard = _library()
    try:
        if zstandard.frame_content_size(content) == length:
            found: bytes = _decompressor().decompress(content, max_output_size=length)
            if len(found) == length:
                return found
    except zstandard.ZstdError as error:
        raise CorruptRecord(f"What is stored compressed cannot be unpacked: {error}.") from error
    raise CorruptRecord(f"What is stored compressed does not have the {length} bytes that it should have.")


@cache
def _library() -> Any:
    import zstandard  # here, since most programs have nothing but small records

    return zstandard


def _compressor() -> Any:
    found = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = _library().ZstdCompressor(level=LEVEL)
    return found


def _decompressor() -> Any:
    found = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = _library().ZstdDecompressor()
    return found
