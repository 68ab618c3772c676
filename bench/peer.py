"""What every rival is asked to do: the tasks of `limits.py` and `kept.py` over a few calls that each of them answers.

- A rival is written as its own guide says, with the best bulk calls that it has, and durable where it can be.
- `open` is within the clock of a cold load; imports are not.
- What is loaded is summed, as on the other sides: nobody wins by leaving something unloaded.
- Read by Python 3.9 too, which the oldest of the peers needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
    labels,
    rich_weight,
    weight,
)  # fmt: skip
from work import Figures, Task, bytes_in, clock, peak_memory, require

Pairs = list[tuple[Any, Any]]  # keys and objects


class Peer:
    """An open store of another library; by default a mapping from keys to pickles, as plain as the limit's."""

    parent_class: type
    item_class: type
    refers = False  # whether `item.parent` is the parent itself; else it is its key

    def __init__(self, folder: Path):
        """Open the store in that folder; it is made if it is not there."""
        raise NotImplementedError

    def put(self, pairs: Pairs) -> list[Any]:
        """Write new objects, durably, in one commit where that can be; gives the keys under which they are found."""
        raise NotImplementedError

    def keep(self, pairs: Pairs) -> None:
        """Write objects that were loaded and changed, likewise."""
        self.put(pairs)

    def get(self, key: Any) -> Any:
        """The object under a key."""
        raise NotImplementedError

    def get_many(self, keys: list[Any]) -> list[Any]:
        """Some objects, in bulk if the library can."""
        return [self.get(key) for key in keys]

    def get_all(self, keys: list[Any]) -> list[Any]:
        """All objects there are, in bulk if the library can."""
        return self.get_many(keys)

    def close(self) -> None:
        """Close the store."""


def new_pairs(peer: type[Peer], numbers: range) -> tuple[Pairs, Pairs]:
    """New parents, and new items that refer to them; the keys are those of the limit."""
    parents = [(1 + number, peer.parent_class(number)) for number in range(PARENTS)]
    return parents, new_items(peer, numbers, [obj if peer.refers else key for key, obj in parents])


def new_items(peer: type[Peer], numbers: range, parents: list[Any]) -> Pairs:
    """New items; `parents` are what they refer to: objects, or keys."""
    return [(PARENTS + 1 + number, peer.item_class(number, parents[number % PARENTS])) for number in numbers]


def enrich_all(pairs: Pairs) -> None:
    """Give all items a set, a nested dataclass and a shared string more."""
    shared = labels()
    for _, item in pairs:
        enrich(item, shared[item.number % PARENTS])


def total_of(store: Peer, items: Iterable[Any]) -> int:
    """The sum over items and their parents, each parent fetched once if it is referred to by its key."""
    if store.refers:
        return sum(weight(item, item.parent) for item in items)
    parents: dict[Any, Any] = {}
    total = 0
    for item in items:
        if item.parent not in parents:
            parents[item.parent] = store.get(item.parent)
        total += weight(item, parents[item.parent])
    return total


def noted_keys(folder: Path, kind: str) -> list[Any]:
    """The keys that a process before this one wrote down."""
    noted: dict[str, list[Any]] = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
    return noted[kind]


def save_as(peer: type[Peer], folder: Path, size: int, name: str, rich: bool) -> Figures:
    """All objects, in one commit where that can be; how many bytes they take is counted once the store is closed."""
    figures: Figures = {}
    parents, items = new_pairs(peer, range(size))
    if rich:
        enrich_all(items)
    store = peer(folder)
    with clock(figures, name):
        keys = store.put(parents + items)
    store.close()
    noted = json.dumps({"parents": keys[:PARENTS], "items": keys[PARENTS:]})
    folder.with_suffix(".json").write_text(noted, encoding="utf-8")
    figures["bytes rich" if rich else "bytes"] = bytes_in(folder) / size
    return figures


def load(peer: type[Peer], folder: Path, size: int) -> Figures:
    """All objects, cold, and each of them and its parent is looked at; then again by key."""
    figures: Figures = {}
    keys = noted_keys(folder, "items")
    with clock(figures, "touch"):
        store = peer(folder)
        items = store.get_all(keys)
        total = total_of(store, items)
    require(total, expected_sum(size))
    with clock(figures, "again"):
        for key in keys:
            store.get(key)
    store.close()
    return figures


def load_each(peer: type[Peer], folder: Path, size: int) -> Figures:
    """All objects, cold, one by one."""
    figures: Figures = {}
    keys = noted_keys(folder, "items")
    with clock(figures, "load each"):
        store = peer(folder)
        total = total_of(store, (store.get(key) for key in keys))
    require(total, expected_sum(size))
    store.close()
    return figures


def commit_each(peer: type[Peer], folder: Path, size: int, name: str, rich: bool) -> Figures:
    """New objects, each in a commit of its own; first those that were saved with more attributes are looked at."""
    figures: Figures = {}
    keys = noted_keys(folder, "parents")
    store = peer(folder)
    if rich:
        require(rich_weight(store.get_all(noted_keys(folder, "items"))), expected_rich_sum(size))
    parents = store.get_many(keys) if store.refers else keys
    items = new_items(peer, range(size, size + NEW), parents)
    if rich:
        enrich_all(items)
    with clock(figures, name):
        for pair in items:
            store.put([pair])
    store.close()
    return figures


def change(peer: type[Peer], folder: Path, size: int) -> Figures:
    """One attribute of many objects, in one commit where that can be: first cold, then another one, held."""
    figures: Figures = {}
    keys = noted_keys(folder, "items")
    wanted = [keys[number] for number in chosen(size)]
    with clock(figures, "change cold"):
        store = peer(folder)
        pairs = list(zip(wanted, store.get_many(wanted)))  # noqa: B905 (Python 3.9 knows no `strict`)
        for _, item in pairs:
            item.state = "RUNNING"
        store.keep(pairs)
    with clock(figures, "change warm"):
        for _, item in pairs:
            item.exit_code = -1
        store.keep(pairs)
    store.close()
    store = peer(folder)
    found = store.get_all(keys)
    require(sum(item.state == "RUNNING" and item.exit_code == -1 for item in found), len(wanted))
    store.close()
    return figures


def change_one(peer: type[Peer], folder: Path, size: int) -> Figures:
    """One attribute of one object, a commit each time, while all others are held."""
    figures: Figures = {}
    keys = noted_keys(folder, "items")
    store = peer(folder)
    items = store.get_all(keys)
    total_of(store, items)  # none of them is a ghost
    with clock(figures, "change one"):
        for number in range(CHANGES):
            at = number * size // CHANGES
            items[at].priority = 2.0
            store.keep([(keys[at], items[at])])
    store.close()
    return figures


def memory(peer: type[Peer], folder: Path, size: int) -> Figures:
    """What a process needs that opens the store and loads one object."""
    store = peer(folder)
    require(store.get(noted_keys(folder, "items")[size // 2]).number, size // 2)
    store.close()
    return {"memory": peak_memory()}


def tasks_of(peer: type[Peer]) -> Mapping[str, Task]:
    """The tasks of one rival."""
    return {
        "save": lambda folder, size: save_as(peer, folder, size, "save", False),
        "load": lambda folder, size: load(peer, folder, size),
        "load_each": lambda folder, size: load_each(peer, folder, size),
        "memory": lambda folder, size: memory(peer, folder, size),
        "change_one": lambda folder, size: change_one(peer, folder, size),
        "change": lambda folder, size: change(peer, folder, size),
        "commits": lambda folder, size: commit_each(peer, folder, size, "commits", False),
        "save_rich": lambda folder, size: save_as(peer, folder, size, "save rich", True),
        "commits_rich": lambda folder, size: commit_each(peer, folder, size, "commits rich", True),
    }
