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

from data import CHANGES, NEW, PARENTS, chosen, expected_sum, fill_item, fill_parent, weight
from work import Figures, bytes_in, clock, peak_memory, require


class Parent:
    """What many items refer to."""

    def __init__(self, number: int):
        fill_parent(self, number)


class Item:
    """A small object; `parent` is its parent's key."""

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


def key_of(number: int) -> int:
    """The key of an item; those of the parents come first."""
    return PARENTS + 1 + number


def new_item(number: int) -> Item:
    return Item(number, 1 + number % PARENTS)


def save(folder: Path, size: int) -> Figures:
    """All objects in one commit."""
    figures: Figures = {}
    objects: list[tuple[int, Any]] = [(1 + number, Parent(number)) for number in range(PARENTS)]
    objects += [(key_of(number), new_item(number)) for number in range(size)]
    connection = open_database(folder)
    with clock(figures, "save"):
        put(connection, objects)
    connection.close()
    return figures | {"bytes": bytes_in(folder) / size}


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


def commits(folder: Path, size: int) -> Figures:
    """New objects, each in a commit of its own."""
    figures: Figures = {}
    items = [(key_of(number), new_item(number)) for number in range(size, size + NEW)]
    connection = open_database(folder)
    with clock(figures, "commits"):
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
    row = connection.execute("SELECT data FROM objects WHERE key = ?", (key_of(size // 2),)).fetchone()
    require(pickle.loads(row[0]).number, size // 2)
    return {"memory": peak_memory()}


TASKS = {
    "save": save, "load": load, "commits": commits, "change": change, "change_one": change_one, "memory": memory,
}  # fmt: skip
