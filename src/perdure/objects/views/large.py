"""How much of large pieces is in memory: each object that was loaded with some, the longest ago first.

- Objects may be gone, or be ghosts again, and still be counted: that is found out when room is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from perdure.records.buffers import digests_of
from perdure.records.frame import Parts, record_of
from perdure.records.values import BUFFERED, Record

AT_MOST = 256 << 20  # bytes of large pieces that stay in memory


class LargeLoaded:
    """The numbers of those objects, with the bytes of their pieces."""

    def __init__(self) -> None:
        self.limit = AT_MOST
        self.bytes = 0
        self._sizes: dict[int, tuple[int, int]] = {}  # number -> bytes, and which load it was
        self._loads = 0
        self._last_round = 0  # the last load before it

    def add(self, number: int, record: Record) -> bool:
        """An object was loaded; whether there is too much now."""
        self._loads += 1
        self.drop(number)
        size = sum(digests_of(record).values())
        self._sizes[number] = size, self._loads
        self.bytes += size
        return self.bytes > self.limit

    def drop(self, number: int) -> None:
        """What that object had is not in memory any more."""
        self.bytes -= self._sizes.pop(number, (0, 0))[0]

    def round(self, most: int) -> Iterator[int]:
        """The numbers to be let go, until it is enough; not of what came since the last round: it is about to be used.

        What the caller does not `drop` goes to the end of the line.
        """
        before, self._last_round = self._last_round, self._loads
        had = self.bytes
        for number, (_, load) in list(islice(self._sizes.items(), most)):
            if self.bytes <= self.limit or load > before:
                break
            yield number
            if number in self._sizes:
                self._sizes[number] = self._sizes.pop(number)
        else:
            if self.bytes == had:
                self.limit = 2 * self.bytes  # all of them are in use
        if self.bytes <= AT_MOST:
            self.limit = AT_MOST


def size_of(parts: Parts) -> int:
    """The bytes of the large pieces of a record."""
    return sum(digests_of(record_of(parts)).values()) if parts[2] & BUFFERED else 0


def begun(records: Mapping[str, Parts], within: int) -> dict[str, Parts]:
    """The first of the records, up to so many bytes of large pieces; at least one, if there is any."""
    found: dict[str, Parts] = {}
    for id_, parts in records.items():
        within -= size_of(parts)
        if found and within < 0:
            break
        found[id_] = parts
    return found
