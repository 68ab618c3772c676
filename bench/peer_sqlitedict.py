"""The same objects in sqlitedict, with a write-ahead log.

- `synchronous` is raised to FULL; the library itself sets OFF, by which a crash may damage the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limits import Item, Parent
from peer import Pairs, Peer, tasks_of
from sqlitedict import SqliteDict


class Sqlitedict(Peer):
    """A dictionary in a SQLite file, which a thread of its own reads and writes."""

    parent_class, item_class = Parent, Item

    def __init__(self, folder: Path):
        self.dictionary = SqliteDict(str(folder / "data.db"), autocommit=False, journal_mode="WAL")
        self.dictionary.conn.execute("PRAGMA synchronous = FULL")
        if self.dictionary.conn.select_one("PRAGMA synchronous") != (2,):
            raise RuntimeError("sqlitedict has not taken synchronous = FULL")

    def put(self, pairs: Pairs) -> list[Any]:
        self.dictionary.update(pairs)
        self.dictionary.commit()
        return [key for key, _ in pairs]

    def get(self, key: int) -> Any:
        return self.dictionary[key]

    def get_all(self, keys: list[int]) -> list[Any]:
        found = dict(self.dictionary.items())
        return [found[str(key)] for key in keys]

    def close(self) -> None:
        self.dictionary.close()


TASKS = tasks_of(Sqlitedict)
