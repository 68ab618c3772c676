"""What commands may ask of the world: the time, chance and UUIDs, so that a replay gets the same answers.

- Inside a command the time is the one in the journal; it stands still, and never goes back from command to command.
- Chance is derived from a secret in the head of the journal file and the number of the command: nothing more is stored.
- Outside of commands these functions are the ordinary ones.
"""

from __future__ import annotations

import hashlib
import random as _random
import threading
import time
import uuid
from datetime import UTC, datetime
from struct import Struct

from perdure.prevalence.entries import ENTRY

_TIME, _TIME_AT = Struct("<d"), ENTRY.size - 4 + 6  # in an entry of one record, after its mark


class Moment:
    """The command that a thread carries out now, as the functions below see it."""

    __slots__ = ("_made", "_made_by", "_source", "_source_of", "chunk", "seed", "sequence", "system", "time")

    def __init__(self, system: object = None):
        self.system = system
        self.sequence = 0
        self.time = 0.0
        self.chunk = b""  # an entry without its mark that has the time; empty: the time is `time`
        self.seed = b""
        self.reset()

    def reset(self) -> None:
        """Be as if no command of this number had been here."""
        self._source: _random.Random | None = None
        self._source_of = self._made_by = self._made = -1

    def seconds(self) -> float:
        """The time of this command."""
        return _TIME.unpack_from(self.chunk, _TIME_AT)[0] if self.chunk else self.time

    def source(self) -> _random.Random:
        """The generator of this command."""
        if self._source is None or self._source_of != self.sequence:
            self._source = _random.Random(int.from_bytes(self._digest(b"random", 0), "little"))
            self._source_of = self.sequence
        return self._source

    def gives(self, source: _random.Random) -> bool:
        """Whether that is its generator, which no other command gets."""
        return source is self._source

    def uuid4(self) -> uuid.UUID:
        """The next UUID of this command."""
        if self._made_by != self.sequence:
            self._made_by, self._made = self.sequence, 0
        self._made += 1
        return uuid.UUID(bytes=self._digest(b"uuid4", self._made)[:16], version=4)

    def _digest(self, use: bytes, number: int) -> bytes:
        text = self.sequence.to_bytes(8, "little") + number.to_bytes(8, "little")
        return hashlib.blake2b(text, key=self.seed, digest_size=32, person=use).digest()


class _Local(threading.local):
    moment: Moment | None = None  # of the command that this thread carries out


local = _Local()


def now() -> datetime:
    """The time at which the running command was accepted, in UTC; outside of a command, the time it is."""
    moment = local.moment
    return datetime.fromtimestamp(time.time() if moment is None else moment.seconds(), UTC)


def random() -> float:
    """A number from 0 up to 1, the same one again on replay."""
    moment = local.moment
    return _random.random() if moment is None else moment.source().random()


def random_source() -> _random.Random:
    """A generator for `choice`, `shuffle` and so on, which gives the same again on replay by the same Python."""
    moment = local.moment
    return _random.Random() if moment is None else moment.source()


def uuid4() -> uuid.UUID:
    """A random UUID, the same one again on replay."""
    moment = local.moment
    return uuid.uuid4() if moment is None else moment.uuid4()
