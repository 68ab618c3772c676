"""What `check` of a whole store costs, beside reading all of its records.

- "read" gives every record as anybody reads it: from the file, its seal verified, its header parsed.
- "bare" is one SELECT of all frames, nothing else.
- "loaded" makes the objects, too.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from work import Figures, clock, require

import perdure
from perdure import Persistable, upkeep
from perdure.records.frame import decode

FACTOR = 5  # as many objects as other stages have: 100,000


class Order(Persistable):
    """A small object with a field in an index, and a reference."""

    __indexed__ = ("state",)

    def __init__(self, number: int, of: Persistable | None):
        self.number, self.state, self.of, self.parts = number, f"state {number % 7}", of, [number, number + 1]


def check(folder: Path, size: int) -> Figures:
    """The same store read and checked, each in turn."""
    figures: Figures = {}
    path, count = folder / "checking.db", FACTOR * size
    with perdure.make_store(f"sqlite:///{path}", code="off") as store:
        first = Order(0, None)
        ids = store.save_many([first, *(Order(number, first) for number in range(1, count))])
        with clock(figures, "bare"):
            with sqlite3.connect(path) as connection:
                rows = connection.execute("SELECT frame FROM records").fetchall()
            connection.close()
        require(len(rows), count)
        del rows
        with clock(figures, "read"):
            found = sum(len(decode(frame, store.key).references) for frame in store.backend.scan())
        require(found, count - 1)
        with clock(figures, "check"):
            problems = upkeep.check(store)
        require(len(problems), 0)
        again = perdure.Store(store.backend, store.key, code="off")
        with clock(figures, "loaded"):
            found = sum(order.parts[0] for order in again.load_many(ids))
        require(found, count * (count - 1) // 2)
    return figures


TASKS = {"check": check}
