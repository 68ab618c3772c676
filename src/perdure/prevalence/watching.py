"""A time limit for commands: one that does not end gets `CommandTimeout` in its thread, and is undone as if it raised.

- The interpreter delivers it between two steps of Python code; a call of C code that does not come back is not cut off.
- It is delivered inside the command or not at all: never in the code around it. A command that stops it with an
  `except BaseException` is cut off again, and when it ends it is undone all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from perdure.errors import CommandTimeout
from perdure.prevalence.commands import Kind

SHORTEST = 0.05  # seconds between two attempts to cut one command off


class Watch:
    """Watches the command that is carried out, from a thread of its own."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._gate = threading.Condition()
        self._deadline: float | None = None
        self._thread = 0
        self._fired = False
        self._watcher: threading.Thread | None = None

    def run(self, kind: Kind, sequence: int, call: Callable[..., Any], *args: Any) -> Any:
        """What the call gives; cut off after the time, it raises `CommandTimeout` that names the command."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._run, name="perdure time limit", daemon=True)
            self._watcher.start()
        self._begin()
        try:
            try:
                answer = call(*args)
            finally:
                fired = self._end()
        except _Cut:
            self._end()
            raise self._timeout(kind, sequence) from None
        if fired:
            raise self._timeout(kind, sequence)
        return answer

    def _begin(self) -> None:
        with self._gate:
            self._thread, self._fired = threading.get_ident(), False
            self._deadline = time.monotonic() + self._seconds
            self._gate.notify()

    def _end(self) -> bool:
        """Cut nothing off any more; whether it was done. What was not delivered yet comes here."""
        with self._gate:
            self._deadline, fired = None, self._fired
        if fired:
            for _ in range(100):  # to take it back would leave the interpreter looking for it for ever
                pass
        return fired

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
                self._fired, self._deadline = True, time.monotonic() + max(self._seconds, SHORTEST)
                _raise_in(self._thread, _Cut)


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Have the interpreter raise `error` in that thread."""
    import ctypes  # only who sets a limit needs it

    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Cut(BaseException):
    """Raised in the middle of a command that took too long; no ordinary `except` stops it."""
