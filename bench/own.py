"""What is read without a good seal, by perdure's own reader; and what sealing costs where the seal is good.

- "bare" are pickles of small records, read one by one by `loads`; "store" are the same objects of a store whose key is
  away.
- Sealing is compared with a key that seals nothing: hashing is left out, its calls are not.
- All is done in turn, many times, and the fastest of each counts: what is to be told is smaller than the noise.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from work import CPU, Figures, clock, require

import perdure
from perdure import Key, Persistable
from perdure.records.seal import TAG_SIZE

TURNS = 9


class Item(Persistable):
    """A small record."""

    def __init__(self, number: int):
        self.number, self.name, self.price, self.tags = number, f"item {number}", number / 4, ["a", "b"]


class Blank(Key):
    """A key whose seal is sixteen zeros."""

    def __init__(self, secret: bytes):
        super().__init__(secret)
        nothing: Any = SimpleNamespace(update=len, digest=partial(bytes, TAG_SIZE))
        self.fork = lambda: nothing

    def verifies(self, data: bytes, tag: bytes) -> bool:
        return bytes(tag) == bytes(TAG_SIZE)


def read(folder: Path, size: int) -> Figures:
    """Each way of reading; figures are seconds for one record."""
    store = perdure.make_store(f"sqlite:///{folder / 'own.db'}", code="off")
    ids = store.save_many([Item(number) for number in range(size)])
    plain = [pickle.dumps(vars(Item(number))) for number in range(size)]
    figures: Figures = {}
    for _ in range(TURNS):
        _keep(figures, "bare", size, lambda: sum(found["number"] for found in map(perdure.loads, plain)))
        for name, key in (("store", None), ("sealed", store.key)):
            _keep(figures, name, size, partial(_load, store.backend, key, ids))
    store.close()
    return figures


def seal(folder: Path, size: int) -> Figures:
    """Saving and loading with a seal and without one."""
    figures: Figures = {}
    keys = {"seal": Key(bytes(range(32))), "blank": Blank(bytes(range(32)))}
    for _ in range(TURNS):
        for name, key in keys.items():
            store = perdure.make_store("memory:", code="off")
            store = perdure.Store(store.backend, key, code="off")
            items = [Item(number) for number in range(size)]
            ids: list[Any] = []
            _keep(figures, f"{name} save", size, lambda store=store, items=items, ids=ids: _save(store, items, ids))
            _keep(figures, f"{name} load", size, partial(_load, store.backend, key, ids))
    return figures


def _save(store: Any, items: list[Any], ids: list[Any]) -> int:
    ids += store.save_many(items)
    return sum(item.number for item in items)


def _load(backend: Any, key: Any, ids: list[Any]) -> int:
    return sum(item.number for item in perdure.Store(backend, key, code="off").load_many(ids))


def _keep(figures: Figures, name: str, size: int, do: Callable[[], int]) -> None:
    told: Figures = {}
    with clock(told, name):
        found = do()
    require(found, size * (size - 1) // 2)
    for figure in (name, name + CPU):
        figures[figure] = min(told[figure] / size, figures.get(figure, told[figure] / size))


TASKS = {"read": read, "seal": seal}
