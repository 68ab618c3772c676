"""Stores of many objects: what a walk over all of them needs, what one commit costs, and a rename of their class.

- Built by `save_many`, in commits of 10,000, so that the building needs little memory too.
- A walk looks at each object and its parent and lets it go; it is summed as everywhere.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data import CHANGES, PARENTS, expected_sum, weight
from kept import Item, Parent, open_store
from work import Figures, clock, peak_memory, require

from perdure.pickling.renames import Renames
from perdure.upkeep import rename_in_store

BATCH = 10_000


def build(folder: Path, size: int) -> Figures:
    """A store of `size` items; the ids of those that will be changed are written down."""
    figures: Figures = {}
    wanted = {number * size // CHANGES for number in range(CHANGES)}
    noted: list[str] = []
    with open_store(folder) as store:
        parents = [Parent(number) for number in range(PARENTS)]
        with clock(figures, "build"):
            for first in range(0, size, BATCH):
                numbers = range(first, min(first + BATCH, size))
                ids = store.save_many([Item(number, parents[number % PARENTS]) for number in numbers])
                noted += [str(id_) for number, id_ in zip(numbers, ids, strict=True) if number in wanted]
    folder.with_suffix(".json").write_text(json.dumps(noted), encoding="utf-8")
    return figures


def walk(folder: Path, size: int) -> Figures:
    """Every item, one after the other."""
    figures: Figures = {}
    with open_store(folder) as store, clock(figures, "walk"):
        total = sum(weight(item, item.parent) for item in every_item(store))
    require(total, expected_sum(size))
    return {**figures, "walk memory": peak_memory(), "walk each": figures["walk"] / size}


def every_item(store: Any) -> Iterator[Item]:
    """All items of the store, none of them held here."""
    if hasattr(store, "iterate"):
        yield from store.iterate(Item)
        return
    for id_ in store:  # all ids at once, until a store can be gone through in batches
        found = store.load(id_)
        if isinstance(found, Item):
            yield found


def commits(folder: Path, size: int) -> Figures:
    """One attribute of one object, a commit each time."""
    figures: Figures = {}
    with open_store(folder) as store:
        items = store.load_many(json.loads(folder.with_suffix(".json").read_text(encoding="utf-8")))
        with clock(figures, "commits"):
            for item in items:
                with store.transaction():
                    item.priority = 2.0
    return figures


def rewrite(folder: Path, size: int) -> Figures:
    """Every row of the store is read, and written as it is, in one transaction, by `sqlite3` alone."""
    figures: Figures = {}
    connection = sqlite3.connect(folder / "kept.db")
    connection.execute("PRAGMA synchronous = FULL")
    with clock(figures, "rewrite"):
        rows = connection.execute("SELECT number, frame FROM records").fetchall()
        connection.executemany("UPDATE records SET frame = ? WHERE number = ?", ((frame, n) for n, frame in rows))
        connection.commit()
    connection.close()
    return figures


def rename(folder: Path, size: int) -> Figures:
    """The class of all items gets another name, by one commit, which history keeps."""
    figures: Figures = {}
    with open_store(folder) as store:
        with clock(figures, "rename"):
            report = rename_in_store(store, Renames({"kept:Item": "kept:Thing"}))
        require(report.records, size)
    return figures


TASKS = {"build": build, "walk": walk, "commits": commits, "rewrite": rewrite, "rename": rename}
