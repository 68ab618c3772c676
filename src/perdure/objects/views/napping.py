"""Objects that doze within a transaction though they may have been changed: a savepoint has what they were like."""

from __future__ import annotations

from typing import Any

from perdure.objects.instances.persistable import Entry
from perdure.objects.views.resting import Resting


class Napping(Resting):
    """A view whose enlisted objects may nap until their next touch, or until the transaction ends."""

    def nap(self, entry: Entry, obj: Any, kept: Any) -> None:
        """In a transaction: let an enlisted object, maybe a changed one, doze until its next touch; it is held.

        `kept` is what a savepoint has of it: with `.obj` and `.entry`.
        """
        self._napping[entry.address] = kept  # first: an interruption must not leave it dozing and on no list
        self.doze(entry, obj)

    def still_napping(self) -> dict[int, Any]:
        """Those that nap and were not touched since."""
        napping = self._napping
        for address in self.enlisted if napping else ():
            napping.pop(address, None)
        return napping.copy()

    def end_naps(self) -> None:
        """What naps is enlisted again."""
        if not self._napping:
            return
        with self.lock:
            for kept in self.still_napping().values():
                self.wake(kept.entry, kept.obj)
            self._napping.clear()
