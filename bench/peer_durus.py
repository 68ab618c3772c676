"""The same objects in Durus: its own `Persistent` classes, a BTree by key, FileStorage.

- The cache has room for every object; bulk loading is its `get_crawler`.
- Each commit is synced to the disk; its FileStorage by itself only writes. Records are compressed by zlib.
- What it logs of every commit is switched off.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from data import fill_item, fill_parent
from durus.btree import BTree
from durus.connection import Connection
from durus.file_storage import FileStorage
from durus.persistent import Persistent
from peer import Pairs, Peer, tasks_of

CACHE = 1_000_000  # objects


logging.getLogger("durus").setLevel(logging.WARNING)


class Parent(Persistent):  # type: ignore[misc]
    """What many items refer to."""

    def __init__(self, number: int):
        fill_parent(self, number)


class Item(Persistent):  # type: ignore[misc]
    """A small object; `parent` is its parent."""

    def __init__(self, number: int, parent: Parent):
        fill_item(self, number, parent)


class Durus(Peer):
    """A Durus connection to a file."""

    parent_class, item_class = Parent, Item
    refers = True

    def __init__(self, folder: Path):
        self.storage = FileStorage(str(folder / "data.durus"))
        self.connection = Connection(self.storage, cache_size=CACHE)
        root = self.connection.get_root()
        if "objects" not in root:
            root["objects"] = BTree()
        self.objects = root["objects"]

    def put(self, pairs: Pairs) -> list[Any]:
        for key, obj in pairs:
            self.objects[key] = obj
        self.commit()
        return [key for key, _ in pairs]

    def keep(self, pairs: Pairs) -> None:
        self.commit()  # a Persistent object has said itself that an attribute was set

    def commit(self) -> None:
        self.connection.commit()
        self.storage.shelf.get_file().fsync()

    def get(self, key: int) -> Any:
        return self.objects[key]

    def get_all(self, keys: list[int]) -> list[Any]:
        self.crawled = list(self.connection.get_crawler())  # held, or the cache lets them go
        return self.get_many(keys)

    def close(self) -> None:
        self.storage.close()


TASKS = tasks_of(Durus)
