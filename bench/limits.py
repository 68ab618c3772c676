"""The limit that objects are measured against: plain pickle and `sqlite3`, by hand and in bulk.

- `pickle.dumps(obj, 5)` of each instance, its parent as a key; one `executemany`, one commit.
- Write-ahead log, `synchronous=FULL`: a commit is durable. Neither seal nor history nor identity of references.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data import (
    CHANGES,
    NEW,
    PARENTS,
    chosen,
    enrich,
    expected_rich_sum,
    expected_sum,
    fill_item,
    fill_parent,
    labels,
    rich_weight,
    weight,
)  # fmt: skip
from work import Figures, bytes_in, clock, peak_memory, require


class Parent:
    """What many items refer to."""

    def __init__(self, number: int):
        fill_parent(self, number)


class Item:
    """A small object; `parent` is its parent's key."""

    number: int
    parent: int
    state: str
    exit_code: int

    def __init__(self, number: int, parent: int):
        fill_item(self, number, parent)


Rows = Iterable[tuple[int, Any]]


def open_database(folder: Path) -> sqlite3.Connection:
    """The database of this side, made if it is not there."""
    connection = sqlite3.connect(folder / "limit.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS objects (key INTEGER PRIMARY KEY, data BLOB)")
    return connection


def put(connection: sqlite3.Connection, items: Rows) -> None:
    """Write objects under their keys, in one commit."""
    dumps = pickle.dumps
    rows = ((key, dumps(item, 5)) for key, item in items)
    connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?)", rows)
    connection.commit()


def read_all(connection: sqlite3.Connection) -> dict[int, Any]:
    """Every object, by key."""
    loads = pickle.loads
    return {key: loads(data) for key, data in connection.execute("SELECT key, data FROM objects")}


def read_one(connection: sqlite3.Connection, key: int) -> Any:
    """The object under a key."""
    return pickle.loads(connection.execute("SELECT data FROM objects WHERE key = ?", (key,)).fetchone()[0])


def key_of(number: int) -> int:
    """The key of an item; those of the parents come first."""
    return PARENTS + 1 + number


def new_item(number: int) -> Item:
    return Item(number, 1 + number % PARENTS)


def new_objects(size: int) -> list[tuple[int, Any]]:
    """The parents and `size` items, with their keys."""
    objects: list[tuple[int, Any]] = [(1 + number, Parent(number)) for number in range(PARENTS)]
    return objects + [(key_of(number), new_item(number)) for number in range(size)]


def new_rich_items(numbers: range) -> list[tuple[int, Item]]:
    """Items that have a set, a nested dataclass and a shared string more."""
    shared, items = labels(), [(key_of(number), new_item(number)) for number in numbers]
    for _, item in items:
        enrich(item, shared[item.number % PARENTS])
    return items


def save(folder: Path, size: int) -> Figures:
    """All objects in one commit."""
    figures: Figures = {}
    objects = new_objects(size)
    connection = open_database(folder)
    with clock(figures, "save"):
        put(connection, objects)
    connection.close()
    return figures | {"bytes": bytes_in(folder) / size}


def save_rich(folder: Path, size: int) -> Figures:
    """All objects in one commit, with three attributes more."""
    figures: Figures = {}
    objects = new_objects(0) + new_rich_items(range(size))
    connection = open_database(folder)
    with clock(figures, "save rich"):
        put(connection, objects)
    return figures


def load(folder: Path, size: int) -> Figures:
    """All objects, cold; then each of them and its parent is looked at."""
    figures: Figures = {}
    keys = [key_of(number) for number in range(size)]
    with clock(figures, "touch"):
        with clock(figures, "load"):
            connection = open_database(folder)
            live = read_all(connection)
            items = [live[key] for key in keys]
        total = sum(weight(item, live[item.parent]) for item in items)
    require(total, expected_sum(size))

    def look_up(key: int) -> Any:
        return live[key]

    with clock(figures, "again"):
        for key in keys:
            look_up(key)
    return figures


def load_each(folder: Path, size: int) -> Figures:
    """All objects, cold, by a `SELECT` for each."""
    figures: Figures = {}
    keys = [key_of(number) for number in range(size)]
    with clock(figures, "load each"):
        connection = open_database(folder)
        parents: dict[int, Any] = {}
        total = 0
        for key in keys:
            item = read_one(connection, key)
            if item.parent not in parents:
                parents[item.parent] = read_one(connection, item.parent)
            total += weight(item, parents[item.parent])
    require(total, expected_sum(size))
    return figures


def commits(folder: Path, size: int) -> Figures:
    """New objects, each in a commit of its own."""
    return commit_each(folder, "commits", [(key_of(number), new_item(number)) for number in range(size, size + NEW)])


def commits_rich(folder: Path, size: int) -> Figures:
    """The same with three attributes more, once those that were saved have been looked at."""
    connection = open_database(folder)
    require(rich_weight(item for item in read_all(connection).values() if type(item) is Item), expected_rich_sum(size))
    connection.close()
    return commit_each(folder, "commits rich", new_rich_items(range(size, size + NEW)))


def commit_each(folder: Path, name: str, items: Iterable[tuple[int, Item]]) -> Figures:
    """Write each of the items in a commit of its own."""
    figures: Figures = {}
    connection = open_database(folder)
    with clock(figures, name):
        for pair in items:
            put(connection, [pair])
    return figures


def change(folder: Path, size: int) -> Figures:
    """One attribute of many objects, in one commit: first cold, then another one of the same objects, held."""
    figures: Figures = {}
    keys = [key_of(number) for number in chosen(size)]
    with clock(figures, "change cold"):
        connection = open_database(folder)
        found = connection.execute(
            "SELECT key, data FROM objects WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
        )
        live = {key: pickle.loads(data) for key, data in found}
        for item in live.values():
            item.state = "RUNNING"
        put(connection, live.items())
    with clock(figures, "change warm"):
        for item in live.values():
            item.exit_code = -1
        put(connection, live.items())
    items = [item for item in read_all(connection).values() if type(item) is Item]
    require(sum(item.state == "RUNNING" and item.exit_code == -1 for item in items), len(keys))
    return figures


def change_one(folder: Path, size: int) -> Figures:
    """One attribute of one object, a commit each time, while all others are held."""
    figures: Figures = {}
    connection = open_database(folder)
    live = read_all(connection)
    keys = [key_of(number * size // CHANGES) for number in range(CHANGES)]
    with clock(figures, "change one"):
        for key in keys:
            live[key].priority = 2.0
            connection.execute("UPDATE objects SET data = ? WHERE key = ?", (pickle.dumps(live[key], 5), key))
            connection.commit()
    return figures


def memory(folder: Path, size: int) -> Figures:
    """What a process needs that opens the database and loads one object."""
    connection = open_database(folder)
    require(read_one(connection, key_of(size // 2)).number, size // 2)
    return {"memory": peak_memory()}


TASKS = {
    "save": save, "load": load, "load_each": load_each, "commits": commits, "change": change,
    "change_one": change_one, "memory": memory, "save_rich": save_rich, "commits_rich": commits_rich,
}  # fmt: skip
