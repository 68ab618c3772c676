"""The commands that every side of the prevalence rows carries out, and how each task counts them.

- A command puts a small object of three attributes under a number: key, name, value.
- Durable: synced before it is answered. What is loaded or replayed is summed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from work import Figures, clock, require

THREADS = 8
READS = 500_000

Put = Callable[[int, str, int], object]


class Thing:
    """What a command puts into the system."""

    def __init__(self, key: int, name: str, value: int):
        self.key, self.name, self.value = key, name, value


def durable(size: int) -> int:
    """How many durable commands are carried out one after the other."""
    return max(100, size // 5)


def many(size: int) -> int:
    """How many commands are replayed, and how many objects are in a snapshot."""
    return size * 10


def one_thread(put: Put, size: int) -> Figures:
    """Durable commands by one thread."""
    figures: Figures = {}
    with clock(figures, "durable"):
        for number in range(durable(size)):
            put(number % 20_000, f"name{number}", number)
    return figures


def eight_threads(put: Put, size: int) -> Figures:
    """Durable commands by eight threads at the same time, twice as many."""
    figures: Figures = {}
    each = durable(size) // 4
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(each):
                put(thread * 10_000_000 + number, f"name{number}", number)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    with clock(figures, "shared"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    require(len(errors), 0)
    return figures


def read(things: dict[int, Thing]) -> Figures:
    """Plain reads."""
    figures: Figures = {}
    total, count = 0, len(things)
    with clock(figures, "read"):
        for number in range(READS):
            total += things[number % count].value
    require(total, sum(number % count for number in range(READS)))
    return figures


def require_all(things: dict[int, Thing], count: int) -> None:
    """Raise unless every thing is there."""
    require(sum(thing.value for thing in things.values()), count * (count - 1) // 2)


def timed(call: Callable[[], object]) -> float:
    """The milliseconds that a call takes."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def size_of(folder: Path, beginning: str) -> int:
    """The bytes of the files there whose names begin so."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.name.startswith(beginning))
