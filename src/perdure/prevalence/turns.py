"""Whose turn it is: threads and tasks that wait with a command share one write and one sync, without any sleep.

- The first that comes leads: it takes all that wait and carries them out. What comes meanwhile waits; then the first of
  those leads. So a group is as large as what came during the sync before it.
- Order is the order of coming. A task of asyncio cannot lead; a thread that waits for tasks does it for them.
- An interruption (Ctrl-C) in the middle lets nobody wait for ever: all get the error.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from perdure.errors import PerdureError, PrevalenceError
from perdure.prevalence.commands import Kind, Stored


class Ticket:
    """One command that waits, and then its outcome."""

    __slots__ = ("error", "kind", "leads", "notify", "result", "stored", "value", "wake")

    def __init__(self, kind: Kind, stored: Stored, value: Any, notify: Callable[[Ticket], None] | None = None):
        self.kind = kind
        self.stored = stored
        self.value = value  # the arguments, which nobody else holds
        self.notify = notify  # a task waits, not a thread
        self.result: Any = None
        self.error: BaseException | None = None
        self.wake: Any = None
        self.leads = False

    def outcome(self) -> Any:
        """What the command gave; raises what it raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                del self  # else the traceback keeps it alive
        return self.result


def _nobody_waits(ticket: Ticket) -> None:
    """The thread that waited was interrupted."""


class Turns:
    """Hands groups of tickets to `process`, one group at a time."""

    def __init__(self, process: Callable[[list[Ticket]], None]):
        self.broken: PerdureError | None = None  # nothing more is taken
        self._process = process
        self._gate = allocate_lock()
        self._waiting: list[Ticket] = []
        self._led = False
        self._courier: threading.Thread | None = None
        self._calls: threading.Semaphore | None = None

    def take(self, ticket: Ticket) -> None:
        """Have it carried out; returns when it is."""
        with self._gate:
            if self.broken is not None:
                raise self.broken
            self._waiting.append(ticket)
            leads = not self._led
            if leads:
                self._led = True
            else:
                ticket.wake = allocate_lock()
                ticket.wake.acquire()
        if not leads:
            try:
                ticket.wake.acquire()
            except BaseException:
                self._abandon(ticket)
                raise
            if not ticket.leads:
                return
        self._lead()

    def _abandon(self, ticket: Ticket) -> None:
        """Its thread waits no more (Ctrl-C): take it out if that is still possible, and have another one lead."""
        with self._gate:
            kept = [each for each in self._waiting if each is not ticket]
            was_waiting, self._waiting = len(kept) < len(self._waiting), kept
            ticket.notify = _nobody_waits
            leads = ticket.leads
        if leads and not was_waiting:
            self._call_courier()

    def take_later(self, ticket: Ticket) -> None:
        """Have it carried out by another thread; its `notify` is called then."""
        with self._gate:
            if self.broken is not None:
                raise self.broken
            self._waiting.append(ticket)
            if self._led:
                return
            self._led = True
        self._call_courier()

    def refuse(self, error: PerdureError) -> None:
        """Take nothing more; what waits gets the error."""
        with self._gate:
            self.broken = error
            waiting, self._waiting = self._waiting, []
        self._tell(waiting, error)

    def _lead(self) -> None:
        group: list[Ticket] = []
        try:
            with self._gate:
                group, self._waiting = self._waiting, []
            self._process(group)
            with self._gate:
                following = self._waiting[0] if self._waiting else None
                if following is None:
                    self._led = False
                else:
                    following.leads = following.notify is None
        except BaseException:
            self._break(group)
            raise
        if following is not None:
            if following.leads:
                following.wake.release()
            else:
                self._call_courier()
        if len(group) > 1 or (group and group[0].notify is not None):
            self._tell(group, None)

    def _break(self, group: list[Ticket]) -> None:
        error = PrevalenceError(
            "The system was interrupted in the middle of a command, and takes no more of them.",
            hint="Close it and open it again: what is in the journal is then carried out.",
        )
        with self._gate:
            self.broken = self.broken or error
            group = group + self._waiting
            self._waiting, self._led = [], False
        self._tell(group, error)

    def _tell(self, group: list[Ticket], error: PerdureError | None) -> None:
        """Wake those whose commands are done; with `error`, those whose commands never will be."""
        for ticket in group:
            if error is not None and ticket.error is None:
                ticket.error = error
            if ticket.notify is not None:
                ticket.notify(ticket)
            elif ticket.wake is not None and not ticket.leads and ticket.wake.locked():
                ticket.wake.release()

    def _call_courier(self) -> None:
        if self._calls is None:
            self._calls = threading.Semaphore(0)
            self._courier = threading.Thread(target=self._carry, name="perdure prevalence", daemon=True)
            self._courier.start()
        self._calls.release()

    def _carry(self) -> None:
        assert self._calls is not None
        while True:
            self._calls.acquire()
            if self.broken is not None:
                return
            self._lead()

    def forked(self, error: PerdureError) -> None:
        """Be of no use any more: the process is a fork, which has none of the threads that hold or wait."""
        self._gate = allocate_lock()
        self._waiting, self._led, self._calls, self.broken = [], False, None, error

    def end(self) -> None:
        """Let the thread that leads for tasks end."""
        if self._calls is not None:
            self._calls.release()
