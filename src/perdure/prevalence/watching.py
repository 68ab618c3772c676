"""A time limit for commands: one that does not end gets `CommandTimeout` in its thread, and is undone as if it raised.

- The interpreter delivers it between two steps of Python code; a call of C code that does not come back is not cut off.
- It is delivered inside the command or not at all: never in the code around it. A command that stops it with an
  `except BaseException` is cut off again, and when it ends it is undone all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perdure.errors import CommandTimeout
from perdure.prevalence.commands import Kind


class Watch:
    """Watches the command that is carried out, from a thread of its own."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._gate = threading.Condition()
        self._deadline: float | None = None
        self._thread = 0
        self._fired = False
        self._watcher: threading.Thread | None = None

    @contextmanager
    def over(self, kind: Kind, sequence: int) -> Iterator[None]:
        """Cut what is in the block off after the time; raises `CommandTimeout` that names the command."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._run, name="perdure time limit", daemon=True)
            self._watcher.start()
        with self._gate:
            self._thread, self._fired = threading.get_ident(), False
            self._deadline = time.monotonic() + self._seconds
            self._gate.notify()
        try:
            yield
        except _Cut:
            raise self._timeout(kind, sequence) from None
        finally:
            with self._gate:
                self._deadline = None
                fired = self._fired
                if fired:  # it may not have been delivered yet
                    _raise_in(self._thread, None)
        if fired:
            raise self._timeout(kind, sequence)

    def _timeout(self, kind: Kind, sequence: int) -> CommandTimeout:
        return CommandTimeout(
            f"Command {sequence} ({kind.title}) did not end within {self._seconds:g} seconds; its changes are undone.",
            hint="Does it wait for something, or go round in a circle? time_limit= of prevalence.open is the limit.",
            sequence=sequence,
        )

    def _run(self) -> None:
        while True:
            with self._gate:
                if self._deadline is None:
                    self._gate.wait()
                    continue
                left = self._deadline - time.monotonic()
                if left > 0:
                    self._gate.wait(left)
                    continue
                self._fired, self._deadline = True, time.monotonic() + self._seconds
                _raise_in(self._thread, _Cut)


def _raise_in(thread: int, error: Any) -> None:
    """Have the interpreter raise `error` in that thread; None takes back what was not delivered yet."""
    import ctypes  # only who sets a limit needs it

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), error if error is None else ctypes.py_object(error)
    )


class _Cut(BaseException):
    """Raised in the middle of a command that took too long; no ordinary `except` stops it."""
