"""Classes with indexes, and questions about them, for the tests of queries."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import persistent

from perdure import Persistable


class State(Enum):
    NEW = "new"
    FAILED = "failed"


class Job(Persistable):
    __indexed__ = ("state", "size")

    def __init__(self, state: Any, size: Any = 0):
        self.state, self.size = state, size
        self.note = "not indexed"


class WideJob(Job):
    """A subclass that adds an index, of a property."""

    __indexed__ = ("area",)

    def __init__(self, state: Any, size: Any = 0, width: int = 1):
        super().__init__(state, size)
        self.width = width

    @property
    def area(self) -> int:
        return self.size * self.width


class Customer(Persistable):
    def __init__(self, name: str):
        self.name = name


class Order(Persistable):
    __indexed__ = "customer", "placed"

    def __init__(self, customer: Any, placed: Any = datetime(2026, 1, 1, tzinfo=UTC)):
        self.customer, self.placed = customer, placed


class Bare(Persistable):
    """A class without an index."""

    def __init__(self, name: str):
        self.name = name


class Slotted(Persistable):
    __slots__ = ("state",)
    __indexed__ = ("state",)

    def __init__(self, state: Any):
        self.state = state


class Stack(list, Persistable):
    """Loads eagerly."""

    __indexed__ = "depth"

    @property
    def depth(self) -> int:
        return len(self)


class Guest(persistent.Persistent):
    """A class of ZODB's kind."""

    __indexed__ = ("state", "owner")

    def __init__(self, state: Any, owner: Any = None):
        self.state, self.owner = state, owner


class Counter(Persistable):
    """Merges what others have counted."""

    __indexed__ = ("count", "owner")

    def __init__(self, count: int, owner: Any = None):
        self.count, self.owner = count, owner

    @staticmethod
    def _resolve_conflict(old: Counter, stored: Counter, mine: Counter) -> Counter:
        mine.count += stored.count - old.count
        return mine
