"""The same objects in ZODB's FileStorage: `persistent.Persistent` classes, a BTree of integers that holds them all.

- The cache has room for every object, so that none is loaded twice.
- FileStorage syncs each commit to the disk by itself, and keeps history until it is packed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transaction
import ZODB
from BTrees.IOBTree import IOBTree
from data import fill_item, fill_parent
from peer import Pairs, Peer, tasks_of
from persistent import Persistent
from ZODB.FileStorage import FileStorage

CACHE = 1_000_000  # objects


class Parent(Persistent):
    """What many items refer to."""

    def __init__(self, number: int):
        fill_parent(self, number)


class Item(Persistent):
    """A small object; `parent` is its parent."""

    def __init__(self, number: int, parent: Parent):
        fill_item(self, number, parent)


class Zodb(Peer):
    """A ZODB database; another kind of storage is another `open_storage`."""

    parent_class, item_class = Parent, Item
    refers = True

    def __init__(self, folder: Path):
        self.database = ZODB.DB(self.open_storage(folder), cache_size=CACHE)
        self.connection = self.database.open()
        root = self.connection.root()
        if "objects" not in root:
            root["objects"] = IOBTree()
        self.objects = root["objects"]

    def open_storage(self, folder: Path) -> Any:
        return FileStorage(str(folder / "data.fs"))

    def put(self, pairs: Pairs) -> list[Any]:
        self.objects.update(pairs)
        transaction.commit()
        return [key for key, _ in pairs]

    def keep(self, pairs: Pairs) -> None:
        transaction.commit()  # a Persistent object has said itself that an attribute was set

    def get(self, key: int) -> Any:
        return self.objects[key]

    def get_many(self, keys: list[int]) -> list[Any]:
        found = [self.objects[key] for key in keys]  # ghosts
        self.connection.prefetch(found)
        return found

    def close(self) -> None:
        transaction.abort()
        self.connection.close()
        self.database.close()


TASKS = tasks_of(Zodb)
