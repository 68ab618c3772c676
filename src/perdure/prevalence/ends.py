"""What is left of a system that was closed, or that is open in the process of which this one is a fork.

- Its root can still be read; a command on it is refused, and never taken for an ordinary call.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from perdure.errors import PrevalenceError, StoreClosed
from perdure.prevalence.commands import SYSTEMS, Kind


class Alive(Protocol):
    """A system that is open for writing."""

    directory: str

    def forked(self, error: PrevalenceError) -> None: ...


ALIVE: weakref.WeakSet[Any] = weakref.WeakSet()


class _Closed:
    """Refuses the commands of a root whose system was closed, for as long as the root lives."""

    def __init__(self, root: Any, error: StoreClosed):
        address = id(root)
        self._root = weakref.ref(root, lambda _: SYSTEMS.pop(address, None))
        self._error = error

    @property
    def root(self) -> Any:
        return self._root()

    def submit(self, kind: Kind, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        raise self._error


def leave_closed(root: Any, error: StoreClosed) -> None:
    """Have the commands of that root refused from now on."""
    try:
        SYSTEMS[id(root)] = _Closed(root, error)
    except TypeError:  # nothing tells when it is gone
        del SYSTEMS[id(root)]


def _after_fork() -> None:
    for system in list(ALIVE):
        system.forked(
            PrevalenceError(
                f"{system.directory} is open in another process, of which this one is a fork.",
                hint="Open it here with read_only=True to look at it.",
            )
        )
    ALIVE.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
