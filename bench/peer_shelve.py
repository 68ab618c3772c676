"""The same objects in the standard library's `shelve`, on the `dbm` module that this interpreter opens by itself.

- `sync` after each commit. What that does is up to the `dbm` module: `dbm.dumb` rewrites its index and syncs nothing
  to the disk; `dbm.sqlite3` (Python 3.13) commits each key by itself.
"""

from __future__ import annotations

import shelve
from pathlib import Path
from typing import Any

from limits import Item, Parent
from peer import Pairs, Peer, tasks_of


class Shelve(Peer):
    """A shelf."""

    parent_class, item_class = Parent, Item

    def __init__(self, folder: Path):
        self.shelf = shelve.open(str(folder / "data"), protocol=5)  # noqa: SIM115 (`close` does it)

    def put(self, pairs: Pairs) -> list[Any]:
        for key, obj in pairs:
            self.shelf[str(key)] = obj
        self.shelf.sync()
        return [key for key, _ in pairs]

    def get(self, key: int) -> Any:
        return self.shelf[str(key)]

    def close(self) -> None:
        self.shelf.close()


TASKS = tasks_of(Shelve)
