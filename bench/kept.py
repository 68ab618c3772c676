"""The same objects kept by perdure in SQLite: sealed, durable, with their history, references as references.

- Saved by `save_many` or by a transaction's block; loaded by `load_many`, one by one by id, or by touching ghosts.
- Every public call is as a user would write it.
"""

from __future__ import annotations

import json
import warnings
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

from perdure import Id, Persistable, make_store


class Parent(Persistable):
    """What many items refer to."""

    def __init__(self, number: int):
        fill_parent(self, number)


class Item(Persistable):
    """A small object; `parent` is its parent."""

    number: int
    parent: Parent

    def __init__(self, number: int, parent: Parent):
        fill_item(self, number, parent)


class Shelf(Persistable):
    """What refers to all items."""

    def __init__(self, items: list[Item]):
        self.items = items


def open_store(folder: Path) -> Any:
    """The store of this side, made if it is not there."""
    return make_store(f"sqlite:///{folder / 'kept.db'}")


def new_objects(size: int) -> tuple[list[Parent], list[Item]]:
    parents = [Parent(number) for number in range(PARENTS)]
    return parents, [Item(number, parents[number % PARENTS]) for number in range(size)]


def enrich_all(items: list[Item]) -> None:
    """Give all items a set, a nested dataclass and a shared string more."""
    shared = labels()
    for item in items:
        enrich(item, shared[item.number % PARENTS])


def note_ids(folder: Path, parents: list[Parent], items: list[Item]) -> None:
    """Write down the ids, for the processes that load; one of them alone, for the one that needs no other."""
    ids = {"parents": [obj.persistent_id for obj in parents], "items": [obj.persistent_id for obj in items]}
    folder.with_suffix(".json").write_text(json.dumps(ids), encoding="utf-8")
    folder.with_suffix(".id").write_text(ids["items"][len(items) // 2], encoding="utf-8")


def noted_ids(folder: Path, kind: str) -> list[Id[Any]]:
    noted = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
    return [Id(text) for text in noted[kind]]


def save_many(folder: Path, size: int) -> Figures:
    """All objects in one commit, by `save_many`."""
    figures: Figures = {}
    parents, items = new_objects(size)
    with open_store(folder) as store:
        with clock(figures, "save_many"):
            store.save_many(items)
        note_ids(folder, parents, items)
    return figures | {"bytes": bytes_in(folder) / size}


def save_off(folder: Path, size: int) -> Figures:
    """How many bytes an object takes where history is off; no figure while no store knows that argument."""
    parents, items = new_objects(size)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            store = make_store(f"sqlite:///{folder / 'kept.db'}", history="off")
        except UserWarning:  # an argument that is not known
            return {}
    with store:
        store.save_many(items)
        note_ids(folder, parents, items)
    with open_store(folder) as store:
        found = store.load_many(noted_ids(folder, "items"))
        require(sum(weight(item, item.parent) for item in found), expected_sum(size))
    return {"bytes off": bytes_in(folder) / size}


def save_rich(folder: Path, size: int) -> Figures:
    """All objects in one commit, by `save_many`, with three attributes more."""
    figures: Figures = {}
    parents, items = new_objects(size)
    enrich_all(items)
    with open_store(folder) as store:
        with clock(figures, "save rich"):
            store.save_many(items)
        note_ids(folder, parents, items)
    return figures


def save_in_transaction(folder: Path, size: int) -> Figures:
    """All objects in one commit, each saved within a transaction's block; then what refers to all of them."""
    figures: Figures = {}
    parents, items = new_objects(size)
    with open_store(folder) as store:
        with clock(figures, "transaction"), store.transaction():
            for item in items:
                store.save(item)
        note_ids(folder, parents, items)
        store.roots["shelf"] = Shelf(items)
    return figures


def load_many(folder: Path, size: int) -> Figures:
    """All objects, cold, by `load_many`; then each of them and its parent is looked at; then again by id."""
    figures: Figures = {}
    parent_ids, item_ids = noted_ids(folder, "parents"), noted_ids(folder, "items")
    with clock(figures, "touch"):
        with clock(figures, "load_many"):
            store = open_store(folder)
            items = store.load_many(parent_ids + item_ids)[len(parent_ids) :]
        total = sum(weight(item, item.parent) for item in items)
    require(total, expected_sum(size))
    with clock(figures, "again"):
        for id_ in item_ids:
            store.load(id_)
    with clock(figures, "again many"):
        store.load_many(item_ids)
    store.close()
    return figures


def load_ghosts(folder: Path, size: int) -> Figures:
    """All objects, cold, one by one: each is loaded when it is touched."""
    figures: Figures = {}
    with clock(figures, "ghosts"):
        store = open_store(folder)
        total = sum(weight(item, item.parent) for item in store.roots["shelf"].items)
    require(total, expected_sum(size))
    store.close()
    return figures


def load_each(folder: Path, size: int) -> Figures:
    """All objects, cold, one by one by their ids."""
    figures: Figures = {}
    ids = noted_ids(folder, "items")
    with clock(figures, "load each"):
        store = open_store(folder)
        items = [store.load(id_) for id_ in ids]
        total = sum(weight(item, item.parent) for item in items)
    require(total, expected_sum(size))
    store.close()
    return figures


def commits(folder: Path, size: int) -> Figures:
    """New objects, each in a commit of its own."""
    figures: Figures = {}
    with open_store(folder) as store:
        parents = store.load_many(noted_ids(folder, "parents"))
        items = [Item(number, parents[number % PARENTS]) for number in range(size, size + NEW)]
        with clock(figures, "commits"):
            for item in items:
                store.save(item)
    return figures


def commits_rich(folder: Path, size: int) -> Figures:
    """The same with three attributes more, once those that were saved have been looked at."""
    figures: Figures = {}
    with open_store(folder) as store:
        require(rich_weight(store.load_many(noted_ids(folder, "items"))), expected_rich_sum(size))
    with open_store(folder) as store:
        parents = store.load_many(noted_ids(folder, "parents"))
        items = [Item(number, parents[number % PARENTS]) for number in range(size, size + NEW)]
        enrich_all(items)
        with clock(figures, "commits rich"):
            for item in items:
                store.save(item)
    return figures


def change(folder: Path, size: int) -> Figures:
    """One attribute of many objects, in one commit: first cold, then another one of the same objects, held."""
    figures: Figures = {}
    ids = noted_ids(folder, "items")
    wanted = [ids[number] for number in chosen(size)]
    with clock(figures, "change cold"):
        store = open_store(folder)
        with store.transaction():
            items = store.load_many(wanted)
            for item in items:
                item.state = "RUNNING"
    with clock(figures, "change warm"), store.transaction():
        for item in items:
            item.exit_code = -1
    store.close()
    with open_store(folder) as store:
        found = store.load_many(ids)
        require(sum(item.state == "RUNNING" and item.exit_code == -1 for item in found), len(wanted))
    return figures


def change_one(folder: Path, size: int) -> Figures:
    """One attribute of one object, a commit each time, while all others are held."""
    figures: Figures = {}
    with open_store(folder) as store:
        items = store.load_many(noted_ids(folder, "items"))
        some = [items[number * size // CHANGES] for number in range(CHANGES)]
        with clock(figures, "change one"):
            for item in some:
                with store.transaction():
                    item.priority = 2.0
    return figures


def memory(folder: Path, size: int) -> Figures:
    """What a process needs that opens the store and loads one object. (A list of all ids would take 3 MiB more.)"""
    id_ = Id[Any](folder.with_suffix(".id").read_text(encoding="utf-8"))
    with open_store(folder) as store:
        require(store.load(id_).number, size // 2)
    return {"memory": peak_memory()}


TASKS = {
    "save_many": save_many, "transaction": save_in_transaction, "load_many": load_many, "ghosts": load_ghosts,
    "load_each": load_each, "commits": commits, "change": change, "change_one": change_one, "memory": memory,
    "save_off": save_off, "save_rich": save_rich, "commits_rich": commits_rich,
}  # fmt: skip
