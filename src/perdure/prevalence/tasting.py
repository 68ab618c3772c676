"""The food taster: a second copy of the system, on which each command is tried before it is journaled.

- What raises there is never journaled, and never touches the real system; the copy is made anew then.
- It costs the memory of a second system, and the time of each command twice.
"""

from __future__ import annotations

import io
from typing import Any

from perdure.prevalence.moments import Moment, local
from perdure.prevalence.pickles import dump_deep, dump_system, load_system
from perdure.prevalence.turns import Ticket
from perdure.prevalence.watching import Watch


class Taster:
    """A second copy of a root."""

    def __init__(self, root: Any, watch: Watch | None = None):
        self._real = root
        self._watch = watch
        self._moment = Moment(self)
        self._copy = _copied(root)

    def taste(self, group: list[Ticket], sequence: int, now: float, seed: bytes) -> list[Ticket]:
        """Try the commands that come after `sequence`; gives those that did not raise, the others have their error."""
        good: list[Ticket] = []
        for ticket in group:
            try:
                self._try(ticket, sequence + len(good) + 1, now, seed)
            except BaseException as error:  # noqa: BLE001 (that is its outcome, as it is without a taster)
                ticket.error = error
                self._copy = _copied(self._real)
                for place, earlier in enumerate(good, sequence + 1):
                    self._try(earlier, place, now, seed)
            else:
                good.append(ticket)
        return good

    def _try(self, ticket: Ticket, sequence: int, now: float, seed: bytes) -> None:
        moment = self._moment
        moment.reset()
        moment.sequence, moment.time, moment.seed = sequence, now, seed
        kind, value = ticket.kind, ticket.kind.copied(ticket.stored)
        try:
            local.moment = moment
            if self._watch is None:
                kind.carry_out(self._copy, ticket.stored.flags, value)
            else:
                self._watch.run(kind, sequence, kind.carry_out, self._copy, ticket.stored.flags, value)
        finally:
            local.moment = None

    def renew(self) -> None:
        """Make the copy anew: the real system did not go the same way."""
        self._copy = _copied(self._real)


def _copied(root: Any) -> Any:
    sink = io.BytesIO()
    try:
        dump_system(root, sink)
    except RecursionError:
        sink = io.BytesIO()
        dump_deep(root, sink)
    return load_system(sink.getvalue(), "of the food taster")
