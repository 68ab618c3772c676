"""Time as a value that is passed in, so that tests can fix it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Gives the time of day, in seconds since 1970 (UTC)."""

    def now(self) -> float: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
