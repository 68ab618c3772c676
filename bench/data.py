"""The data that every side keeps: small objects of ten attributes, and what a sum over all of them must be.

- The same number always makes the same object.
- Each side has classes of its own and calls `fill_parent` and `fill_item` in their constructors.
- The sum asks every object and its parent, so that nothing is left unloaded.
- Read by Python 3.9 too, which the oldest of the peers needs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PARENTS = 100
NEW = 300  # objects that are committed one by one
CHANGED = 2_000  # objects that are changed in one commit
CHANGES = 100  # commits of one change while all others are held

APPLICATIONS = ("gamess", "rosetta", "codeml")


@dataclass
class Need:
    """What a job asks for: the inner one of two nested dataclasses."""

    cores: int
    memory: float


@dataclass
class Place:
    """Where a job runs: the outer one."""

    host: str
    need: Need


def fill_parent(parent: Any, number: int) -> None:
    """What an object has that many others refer to."""
    parent.name, parent.owner, parent.quota = f"batch-{number:03d}", "owner", number


def fill_item(item: Any, number: int, parent: object) -> None:
    """Ten attributes: text, numbers, a list of five, a dict of three, a parent (or its key)."""
    chance = random.Random(number)
    item.number = number
    item.name = f"job-{number:06d}"
    item.application = chance.choice(APPLICATIONS)
    item.state = "NEW"
    item.exit_code = chance.randrange(256)
    item.priority = chance.random()
    item.submitted = 1.6e9 + chance.random() * 1e7
    item.history = [chance.randrange(10_000) for _ in range(5)]
    item.environment = {
        "HOST": f"node{chance.randrange(500):03d}",
        "CORES": chance.randrange(64),
        "SCRATCH": f"scratch/{chance.randrange(10_000)}",
    }
    item.parent = parent


def labels() -> list[str]:
    """Strings that many objects share, each made while the program runs, so that nothing has interned them."""
    return ["-".join(("label", "of", str(number))) for number in range(PARENTS)]


def enrich(item: Any, label: str) -> None:
    """Three attributes more: a set, a nested dataclass, and a string that is there three times, shared with others."""
    number = item.number
    item.tags = {f"tag-{number % 7}", f"tag-{number % 11}", item.application}
    item.place = Place(item.environment["HOST"], Need(item.environment["CORES"], number / 8))
    item.label, item.labels = label, [label, label]


def weight(item: Any, parent: Any) -> int:
    """One object's part of the sum."""
    return int(
        item.number + item.exit_code + item.history[4] + item.environment["CORES"] + parent.quota + len(parent.name)
    )


def expected_sum(size: int) -> int:
    """The sum over the first `size` objects and their parents."""
    parents = [_Plain() for _ in range(PARENTS)]
    for number, parent in enumerate(parents):
        fill_parent(parent, number)
    item, total = _Plain(), 0
    for number in range(size):
        parent = parents[number % PARENTS]
        fill_item(item, number, parent)
        total += weight(item, parent)
    return total


def rich_weight(items: Iterable[Any]) -> int:
    """The sum over what `enrich` gave: every part of every object is asked."""
    return sum(
        len(item.tags) + item.place.need.cores + int(item.place.need.memory) + len(item.label) + len(item.labels)
        for item in items
    )


def expected_rich_sum(size: int) -> int:
    """What `rich_weight` must give for the first `size` objects."""
    item, shared, total = _Plain(), labels(), 0
    for number in range(size):
        fill_item(item, number, None)
        enrich(item, shared[number % PARENTS])
        total += rich_weight([item])
    return total


def chosen(size: int) -> list[int]:
    """The numbers of the objects that are changed: at most `CHANGED`, spread over all."""
    return sorted(random.Random(1).sample(range(size), min(CHANGED, size)))


class _Plain:
    """An object with attributes."""
