"""The same objects kept by perdure in PostgreSQL, in a database of its own.

- The calls are those of `kept.py`: `save_many` and `load_many`.
- What `make_store` would import for such a URL is imported here: imports are outside the clock on every side.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from data import expected_sum, weight
from kept import new_objects, note_ids, noted_ids
from postgresql import own_url
from work import Figures, clock, require

from perdure import make_store

for name in ("psycopg", "sqlalchemy.dialects.postgresql.psycopg", "perdure.backends.server.postgresql"):
    import_module(name)


def save(folder: Path, size: int) -> Figures:
    """All objects in one commit."""
    figures: Figures = {}
    parents, items = new_objects(size)
    with make_store(own_url()) as store:
        with clock(figures, "save"):
            store.save_many(items)
        note_ids(folder, parents, items)
    return figures


def load(folder: Path, size: int) -> Figures:
    """All objects, cold; then each of them and its parent is looked at."""
    figures: Figures = {}
    parent_ids, item_ids = noted_ids(folder, "parents"), noted_ids(folder, "items")
    with clock(figures, "touch"):
        with clock(figures, "load"):
            store = make_store(own_url())
            items = store.load_many(parent_ids + item_ids)[len(parent_ids) :]
        total = sum(weight(item, item.parent) for item in items)
    require(total, expected_sum(size))
    store.close()
    return figures


TASKS = {"save": save, "load": load}
