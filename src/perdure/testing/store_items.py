"""What the state machine of stores keeps in them, and the plain values that it compares them with.

- Each kind has a value, a log that only grows, and others that it refers to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from perdure.objects.instances.persistable import Persistable


class Item(Persistable):
    """What the machine keeps: a number, a list, and references to others."""

    def __init__(self, value: int, others: list[Item]):
        self.value = value
        self.log: list[int] = []
        self.others = others


class Queue(list[Any], Persistable):  # type: ignore[misc]  # the one slot, __weakref__, is in no way
    """The same on a base without ghosts; its items are its log."""

    def __init__(self, value: int = 0, others: list[Any] | None = None):
        super().__init__()
        self.value = value
        self.others = others or []

    @property
    def log(self) -> Queue:
        """Itself."""
        return self


class Tally(Item):
    """An item whose changes go together with those of others."""

    @staticmethod
    def _resolve_conflict(old: Tally, stored: Tally, mine: Tally) -> Tally:
        mine.value += stored.value - old.value
        mine.log = stored.log + mine.log[len(old.log) :]
        if _ids(mine) == _ids(old):
            mine.others = stored.others
        return mine


class State(NamedTuple):
    """What an object is to be like; `revision` is that of the commit that wrote it."""

    value: int
    log: tuple[int, ...]
    others: tuple[str, ...]
    revision: int = 0


def shown(obj: Any) -> State:
    """What an object is like."""
    return State(obj.value, tuple(obj.log), _ids(obj))


def merged(old: State, stored: State, mine: State) -> State:
    """What `Tally` makes of three states."""
    log = stored.log + mine.log[len(old.log) :]
    return State(
        stored.value + mine.value - old.value, log, stored.others if mine.others == old.others else mine.others
    )


def _ids(obj: Any) -> tuple[str, ...]:
    return tuple(str(other.persistent_id) for other in obj.others)


def is_alike(state: State, other: State | None) -> bool:
    """Whether both show the same, whenever they were written."""
    return other is not None and state[:3] == other[:3]


def revision_of(state: State | None) -> int:
    """The revision that wrote it; 0 for what is not there."""
    return 0 if state is None else state.revision
