"""Lengthens a SQLite database's log ahead of small commits, which makes the fsync of each of them shorter.

To append to a file and fsync it writes the file's new length too, on most file systems through a journal of their own;
to write over bytes that are there does not. So where small commits follow each other, the log gets some zeros at its
end once in a while, and the commits go over them.

- SQLite itself writes into logs that are longer than their content, whenever it begins one anew after a checkpoint. It
  knows by salts and a checksum in the head of each frame where the content ends, after a crash too. See
  https://www.sqlite.org/walformat.html.
- Only who has begun to write (`BEGIN IMMEDIATE`) may do this: nobody else can append then.
- What cannot be (a full disk, a quota, another system) is left: the commit appends, as it would have without.
"""

from __future__ import annotations

import os
from struct import Struct

_ZEROS = [bytes(4096)] * 64
STEP = 4096 * len(_ZEROS)  # bytes at once: twice as many, or half, make no difference that could be measured
SMALL = 64 * 1024  # bytes that a small commit takes at most; as many are kept ready

_HEADER = 32  # bytes before the first frame of a log
_FRAME_HEAD = 24  # bytes before each page in it
# The size of a page, the number of frames and the salts of the log, in the header of its index.
_told = Struct("=14xHI12x8s8x").unpack

_NONE = 1 << 62  # an end that is never reached


class LogRoom:
    """The room at the end of the log that belongs to the database at `path`, an absolute path."""

    def __init__(self, path: str):
        self._log = os.path.realpath(path) + "-wal"
        self._salts: bytes | None = None  # of the log that the rest is about
        self._end = self._used = 0  # bytes

    def provide(self, header: object) -> None:
        """Lengthen the log where the next small commit needs it. `header` is what the watch tells within a transaction.

        Nothing is done for the first commit that is seen of a log, nor after a large one: others may never follow.
        """
        if not isinstance(header, bytes):
            return
        page, frames, salts = _told(header)
        before, self._used = self._used, _HEADER + frames * (_FRAME_HEAD + (page if page > 1 else 65536))
        if salts != self._salts:
            self._salts, self._end = salts, 0
        elif self._used + SMALL > self._end and self._used - before <= SMALL:
            self._end = self._lengthen()

    def _lengthen(self) -> int:
        """Where the log then ends, if there is room by then."""
        try:
            with open(self._log, "r+b", buffering=0) as log:
                descriptor = log.fileno()
                if os.pread(descriptor, 8, 16) != self._salts:  # somebody has put another file in its place
                    return _NONE
                end = os.fstat(descriptor).st_size
                if end >= self._used + SMALL:
                    return end
                if _append(descriptor, end):
                    return end + STEP
                os.ftruncate(descriptor, end)  # the database may need what is left
        except OSError:
            pass
        return _NONE


def _append(descriptor: int, end: int) -> bool:
    try:
        return os.pwritev(descriptor, _ZEROS, end) == STEP
    except OSError:
        return False
