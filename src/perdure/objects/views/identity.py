"""The identity map of a view: one id is one object, as long as it lives.

- Objects are held weakly, found by id and by number; those that were touched are enlisted, and held strongly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.persistable import DOZING, Entry
from perdure.records.values import Record


class IdentityMap(ABC):
    """What is in memory of a store."""

    def __init__(self) -> None:
        self.enlisted: dict[int, Any] = {}  # address -> object, held strongly
        self.by_id: dict[str, Entry] = {}
        self.loaded: deque[Entry] = deque()  # in the order in which their states came; some may be gone since
        self._entries: dict[int, Entry] = {}  # number -> entry

    # -- what an entry asks of its view --------------------------------------------------------------------

    @abstractmethod
    def wake(self, entry: Entry, obj: Any, *, writing: bool = False) -> None: ...

    @abstractmethod
    def is_changed(self, entry: Entry, obj: Any) -> bool: ...

    @abstractmethod
    def touch(self, entry: Entry, obj: Any, *, force: bool = False) -> None: ...

    @abstractmethod
    def is_lenient(self, entry: Entry) -> bool: ...

    @abstractmethod
    def is_napping(self, entry: Entry) -> bool: ...

    @abstractmethod
    def note_large(self, entry: Entry, record: Record) -> None:
        """Called with each record of an object that has large pieces, once they are loaded."""

    def forget(self, entry: Entry) -> None:
        """The object of the entry is gone, or is no longer this store's."""
        if self._entries.get(entry.number) is entry:
            del self._entries[entry.number]
            self.by_id.pop(entry.id, None)

    # -- entries -----------------------------------------------------------------------------------------

    def entry(self, id_: str) -> Entry | None:
        """The entry of an id whose object is in memory."""
        entry = self.by_id.get(id_)
        return entry if entry is not None and entry() is not None else None

    def doze(self, entry: Entry, obj: Any) -> None:
        """Keep the state, but see the next touch. Objects without a ghost class stay awake and enlisted."""
        ghost = entry.facts.ghost
        if ghost is None:
            return
        assign_class(obj, ghost)  # first: an interruption may come after each line, and no touch may go unseen
        entry.state = DOZING
        self.enlisted.pop(entry.address, None)
