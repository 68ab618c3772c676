"""Who may use a directory store at the moment: one call of this process at a time, one writing process at a time.

- Both locks are given back by `with` on objects that are not made of Python: no Ctrl-C comes between taking a lock and
  the block that holds it, nor between the block and giving the lock back.
- A call that Ctrl-C cuts off may have taken in half of something: what is known of the store is read anew after it.
- After an error while something was made durable, this process writes no more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from perdure.backends.base import Backend, too_old
from perdure.backends.filesystem.journal import Index
from perdure.backends.filesystem.medium import Medium
from perdure.errors import OutcomeUnknown, ReadOnly, StoreClosed
from perdure.files import Files

P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L", bound="Locking")


def reading(method: Callable[Concatenate[L, P], R]) -> Callable[Concatenate[L, P], R]:
    """The method, with the store's lock held against writers, and all known that was written before."""

    @wraps(method)
    def call(self: L, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._entered():
            if self._is_locked():
                return method(self, *args, **kwargs)
            with self._locked(exclusive=False):
                self._is_whole = True
                return method(self, *args, **kwargs)

    return call


def writing(method: Callable[Concatenate[L, P], R]) -> Callable[Concatenate[L, P], R]:
    """The method, with the store's lock held by nobody else, and all known that was written before."""

    @wraps(method)
    def call(self: L, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._entered():
            self._refuse_to_write()
            if self._is_locked():
                return method(self, *args, **kwargs)
            with self._locked(exclusive=True):
                try:
                    result = method(self, *args, **kwargs)
                except BaseException as error:
                    if isinstance(error, OutcomeUnknown):
                        self._failure = error
                    self._is_whole = isinstance(error, Exception)  # else nobody knows after which line it was cut off
                    raise
                self._is_whole = True
                return result

    return call


class Locking(Backend):
    """The locks of one open store in a directory, and what this process knows of it. `timeout` is in seconds."""

    def __init__(self, directory: str, files: Files, *, read_only: bool, timeout: float):
        self.read_only = read_only
        self.directory = directory
        self._timeout = timeout
        self._files = files
        self._medium = Medium(directory, files)
        self._lock = threading.RLock()
        self._file_lock: Any = None  # the last that was held; it is closed when it was given back
        self._process = os.getpid()
        self._is_whole = True
        self._closed = False
        self._failure: OutcomeUnknown | None = None

    def _known(self, at: int | None = None) -> Index:
        """What is known of the store; `SnapshotTooOld` for a revision that is not kept any more."""
        index = self._medium.index
        if at is not None and at < index.oldest:
            raise too_old(at, index.oldest)
        return index

    def _entered(self) -> threading.RLock:
        """The lock that keeps the threads of this process apart, for a block."""
        if self._process != os.getpid():
            # The lock and what was read may have been in use by another thread at the moment of the fork.
            medium, self._medium = self._medium, Medium(self.directory, self._files)
            self._medium.resemble(medium)
            self._lock, self._file_lock = threading.RLock(), None
            self._process = os.getpid()
        self._refuse_closed()
        return self._lock

    def _is_locked(self) -> bool:
        """Whether this call is part of another one, which has the file's lock."""
        return self._file_lock is not None and not self._file_lock.closed

    def _locked(self, *, exclusive: bool) -> AbstractContextManager[Any]:
        """The lock that keeps processes apart, for a block; all that was written before is known by then."""
        self._refuse_closed()
        self._medium.refuse_gone()
        lock = self._files.lock(self._medium.path("lock"), exclusive=exclusive, timeout=self._timeout)
        try:
            if not self._is_whole:
                self._medium.forget()
            self._is_whole = False
            self._medium.refresh()
            self._file_lock = lock
            return lock
        except BaseException:
            lock.__exit__(None, None, None)
            raise

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")

    def _refuse_to_write(self) -> None:
        if self.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        if self._failure is not None:
            raise OutcomeUnknown(
                f"The store is read-only since an earlier error: {self._failure.message}",
                hint=self._failure.hint,
                path=self._failure.path,
            )
