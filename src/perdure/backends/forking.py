"""Locks that are held while the process forks, so that a child never inherits one from a thread that it has not got.

- A fork waits until every thread has left what such a lock guards, and no longer than `PATIENCE` for each.
- In the child the locks are free again: the thread that forked holds them, and lives on there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

PATIENCE = 10.0  # seconds that a fork waits for one lock: for ever, where what holds it waits for the forking thread


class HeldOverForks:
    """Takes the locks that `locks()` gives before each fork, and lets go of them after it, on both sides."""

    def __init__(self, locks: Callable[[], Iterable[threading.RLock]]):
        self._locks = locks
        self._turn = threading.RLock()  # of threads that fork at the same time
        self._held: list[threading.RLock] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._take, after_in_parent=self._let_go, after_in_child=self._let_go)

    def _take(self) -> None:
        self._turn.acquire()
        for lock in self._locks():
            if lock.acquire(timeout=PATIENCE):
                self._held.append(lock)

    def _let_go(self) -> None:
        while self._held:
            self._held.pop().release()
        self._turn.release()
