"""The same objects in diskcache.

- `synchronous` is raised to FULL (its own setting is NORMAL), and nothing is evicted (else it would be, at 1 GiB).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diskcache import Cache
from limits import Item, Parent
from peer import Pairs, Peer, tasks_of

FULL = 2  # SQLite's number for it


class Diskcache(Peer):
    """A cache that keeps everything."""

    parent_class, item_class = Parent, Item

    def __init__(self, folder: Path):
        self.cache = Cache(str(folder), sqlite_synchronous=FULL, eviction_policy="none", cull_limit=0)

    def put(self, pairs: Pairs) -> list[Any]:
        with self.cache.transact():
            for key, obj in pairs:
                self.cache[key] = obj
        return [key for key, _ in pairs]

    def get(self, key: int) -> Any:
        return self.cache[key]

    def close(self) -> None:
        self.cache.close()


TASKS = tasks_of(Diskcache)
