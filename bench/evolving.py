"""What evolution costs who does not need it: the same objects loaded of a class with a version and fields, and of none.

- "off" is a plain class with the same attributes: nothing is compared while it loads.
- Both load in turn, many times, and the fastest of each counts: what is to be told is smaller than the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from work import CPU, Figures, clock, require

import perdure
from perdure import Persistable

TURNS = 15


class Plain(Persistable):
    """Without a version, without fields."""

    def __init__(self, number: int, title: str, price: float, parts: list[int]):
        self.number, self.title, self.price, self.parts = number, title, price, parts


@perdure.versioned("bench.Order", version=2)
@dataclass
class Order(Persistable):
    """The same attributes, declared, and a version."""

    number: int
    title: str
    price: float
    parts: list[int]


perdure.upgrade(Order, 1, add={"price": 1.0})


def load(folder: Path, size: int) -> Figures:
    """All objects of each class, cold, by `load_many`."""
    figures: Figures = {}
    store = perdure.make_store(f"sqlite:///{folder / 'evolving.db'}", code="off")
    ids = {}
    for name, cls in (("off", Plain), ("on", Order)):
        ids[name] = store.save_many([cls(n, f"order {n}", n / 4, [n, n + 1]) for n in range(size)])
    for turn in range(TURNS):
        for name in sorted(ids, reverse=bool(turn % 2)):  # neither is always the second
            found = []  # those of the turn before go now, not while the next are loaded
            again = perdure.Store(store.backend, store.key, code="off")
            told: Figures = {}
            with clock(told, name):
                found = again.load_many(ids[name])
            require(sum(order.parts[1] for order in found), size * (size + 1) // 2)
            for figure in (name, name + CPU):
                figures[figure] = min(told[figure], figures.get(figure, told[figure]))
    store.close()
    return figures


TASKS = {"load": load}
