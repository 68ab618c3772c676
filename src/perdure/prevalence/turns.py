"""Whose turn it is: threads and tasks that wait with a command share one write and one sync, without any sleep.

- The first that comes leads: it takes all that wait and carries them out. What comes meanwhile waits; then the first of
  those leads. So a group is as large as what came during the sync before it.
- Order is the order of coming. A task of asyncio cannot lead; a thread that waits for tasks does it for them.
- An interruption (Ctrl-C) may come after any step. Who is interrupted leaves: hands the lead on if it has it, and if
  that was in the middle of a group, lets all have the error. So nobody waits for ever.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections.abc import Callable, Sequence
from typing import Any

from perdure.errors import PerdureError, PrevalenceError
from perdure.prevalence.commands import Kind, Stored


class Leader:
    """Who leads, and how far it came."""

    __slots__ = ("following", "group", "is_done")

    def __init__(self) -> None:
        self.group: list[Ticket] | None = None  # that it has taken
        self.is_done = False  # they were carried out
        self.following: Ticket | None = None  # the next one that leads


class Ticket(Leader):
    """One command that waits, and then its outcome."""

    __slots__ = ("error", "kind", "notify", "result", "stored", "value", "wake")

    def __init__(self, kind: Kind, stored: Stored, value: Any, notify: Callable[[Ticket], None] | None = None):
        self.group, self.is_done, self.following = None, False, None
        self.kind = kind
        self.stored = stored
        self.value = value  # the arguments, which nobody else holds
        self.notify = notify  # a task waits, not a thread
        self.result: Any = None
        self.error: BaseException | None = None
        self.wake: Any = None

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


_COURIER = Leader()  # it is the turn of the thread that leads for tasks


class Turns:
    """Hands groups of tickets to `process`, one group at a time."""

    def __init__(self, process: Callable[[list[Ticket]], None]):
        self.broken: PerdureError | None = None  # nothing more is taken
        self._process = process
        self._gate = allocate_lock()
        self._waiting: list[Ticket] = []
        self._leader: Leader | None = None
        self._courier: threading.Thread | None = None
        self._calls: threading.Semaphore | None = None

    def take(self, ticket: Ticket) -> None:
        """Have it carried out; returns when it is."""
        try:
            with self._gate:
                if self.broken is not None:
                    raise self.broken
                if self._leader is None:
                    self._leader = ticket
                else:
                    ticket.wake = allocate_lock()
                    ticket.wake.acquire()
                self._waiting.append(ticket)
            if ticket.wake is not None:
                ticket.wake.acquire()
            if self._leader is ticket:
                self._lead(ticket)
        except BaseException:
            self._leave(ticket)
            raise

    def take_later(self, ticket: Ticket) -> None:
        """Have it carried out by another thread; its `notify` is called then."""
        try:
            with self._gate:
                if self.broken is not None:
                    raise self.broken
                self._waiting.append(ticket)
                if self._leader is None:
                    self._leader = _COURIER
        finally:
            if self._leader is _COURIER:
                self._call_courier()  # once too often does no harm

    def refuse(self, error: PerdureError) -> None:
        """Take nothing more; what waits gets the error."""
        with self._gate:
            self.broken = error
            waiting, self._waiting = self._waiting, []
        self._tell(waiting, error)

    def _lead(self, leader: Leader) -> None:
        with self._gate:
            leader.group, self._waiting = self._waiting, []
        group = leader.group
        self._process(group)
        leader.is_done = True
        if not self._waiting and len(group) == 1 and group[0] is leader:  # the usual case: nobody else is concerned
            with self._gate:
                if not self._waiting:
                    self._leader = None
                    return
        self._hand_over(leader)

    def _hand_over(self, leader: Leader) -> None:
        """Have the next one lead, and wake those that are done; may be done again where it was cut off."""
        with self._gate:
            if self._leader is leader:
                leader.following = following = self._waiting[0] if self._waiting else None
                self._leader = following if following is None or following.notify is None else _COURIER
        if leader.following is not None:
            if leader.following.notify is None:
                _wake(leader.following)
            else:
                self._call_courier()
        group = leader.group or ()
        if len(group) > 1 or (group and group[0] is not leader):
            self._tell(group, None)

    def _leave(self, ticket: Leader) -> None:
        """Its thread waits no more: take it out if that is still possible, and have nobody wait for it."""
        with self._gate:
            self._waiting = [each for each in self._waiting if each is not ticket]
            if isinstance(ticket, Ticket):
                ticket.notify = _nobody_waits
            if self._leader is not ticket and ticket.group is None:
                return
        if ticket.group is None or ticket.is_done:
            self._hand_over(ticket)
        else:
            self._break(ticket)

    def _break(self, leader: Leader) -> None:
        error = PrevalenceError(
            "The system was interrupted in the middle of a command, and takes no more of them.",
            hint="Close it and open it again: what is in the journal is then carried out.",
        )
        with self._gate:
            self.broken = self.broken or error
            group = (leader.group or []) + self._waiting
            self._waiting, self._leader = [], None
        self._tell(group, error)

    def _tell(self, group: Sequence[Ticket], error: PerdureError | None) -> None:
        """Wake those whose commands are done; with `error`, those whose commands never will be."""
        for ticket in group:
            if error is not None and ticket.error is None:
                ticket.error = error
            if ticket.notify is not None:
                ticket.notify(ticket)
            elif ticket.wake is not None:
                _wake(ticket)

    def _call_courier(self) -> None:
        calls = self._calls
        if calls is None:
            calls = self._calls = threading.Semaphore(0)
        calls.release()
        if self._courier is None:
            courier = threading.Thread(target=self._carry, args=(calls,), name="perdure prevalence", daemon=True)
            courier.start()
            self._courier = courier

    def _carry(self, calls: threading.Semaphore) -> None:
        while True:
            calls.acquire()
            if self.broken is not None:
                return
            leader = Leader()
            with self._gate:
                if self._leader is not _COURIER:
                    continue
                self._leader = leader
            try:
                self._lead(leader)
            except BaseException:
                self._leave(leader)
                raise

    def forked(self, error: PerdureError) -> None:
        """Be of no use any more: the process is a fork, which has none of the threads that hold or wait."""
        self._gate = allocate_lock()
        self._waiting, self._leader, self._calls, self._courier, self.broken = [], None, None, None, error

    def end(self) -> None:
        """Let the thread that leads for tasks end."""
        if self._calls is not None:
            self._calls.release()


def _wake(ticket: Ticket) -> None:
    if ticket.wake.locked():  # its thread has woken already, or was woken: then nobody waits for it
        ticket.wake.release()
