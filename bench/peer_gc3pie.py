"""The same objects in gc3pie's store of files (`gc3libs.persistence`), the nearest relative: one file for each object.

- Neither syncs to the disk nor commits several objects at once: what it does is less than what the others do.
- Its SQL stores are left out: they commit each object by itself, and 20,000 of them take minutes.
- Needs Python 3.9 or older, so this file is read by it too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("GC3PIE_ID_FILE", os.path.join(os.environ.get("XDG_DATA_HOME", "."), "gc3pie-next-id"))

from data import fill_item, fill_parent
from gc3libs.persistence import Persistable, make_store
from peer import Pairs, Peer, tasks_of


class Parent(Persistable):  # type: ignore[misc]
    """What many items refer to."""

    def __init__(self, number: int):
        super().__init__()
        fill_parent(self, number)


class Item(Persistable):  # type: ignore[misc]
    """A small object; `parent` is its parent."""

    def __init__(self, number: int, parent: Parent):
        super().__init__()
        fill_item(self, number, parent)


class Gc3pie(Peer):
    """A folder of files."""

    parent_class, item_class = Parent, Item
    refers = True

    def __init__(self, folder: Path):
        self.store = make_store(f"file://{folder}")

    def put(self, pairs: Pairs) -> list[Any]:
        return [str(self.store.save(obj)) for _, obj in pairs]

    def keep(self, pairs: Pairs) -> None:
        for key, obj in pairs:
            self.store.replace(key, obj)

    def get(self, key: str) -> Any:
        return self.store.load(key)


TASKS = tasks_of(Gc3pie)
