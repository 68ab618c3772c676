"""What becomes of a ghost whose record is of another class by now: one of that class, or nothing of its id any more."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from perdure.errors import CannotLoad
from perdure.objects.instances.classes import ClassFacts, Lost
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.guests import GuestEntry, Jar
from perdure.objects.instances.persistable import GHOST, Entry
from perdure.objects.views.identity import IdentityMap
from perdure.records.frame import Parts
from perdure.records.values import KIND_BITS, VALUE

Records = dict[str, Parts]


class Following(IdentityMap):
    """An identity map whose ghosts follow their records from class to class."""

    @abstractmethod
    def facts_of_record(self, parts: Parts) -> ClassFacts: ...

    @abstractmethod
    def guests(self) -> Jar: ...

    def _follow_classes(self, records: Records) -> None:
        """Let ghosts be of the classes that their records are of by now; those that cannot are no longer of their ids.

        Without this, a state would be filled into an object of another class, and saved again as that.
        """
        known = self.by_id
        for id_, parts in records.items():
            entry = known.get(id_)
            if entry is not None and entry.facts.name != parts[3] and entry.state == GHOST:
                obj = entry()
                if obj is not None and not self._follow_class(entry, obj, parts):
                    self._part_with(entry)

    def _require_class(self, entry: Entry, obj: Any, parts: Parts) -> None:
        """Let a ghost that is touched be of the class that its record names; raises `CannotLoad` if it cannot be."""
        if entry.cls is Lost and parts[2] & KIND_BITS == VALUE:
            self.facts_of_record(parts)  # raises: it is a plain value by now
        if not self._follow_class(entry, obj, parts):
            if not isinstance(entry, GuestEntry):  # whose own C code is about to fill it
                self._part_with(entry)
            raise replaced(entry, parts)

    def _part_with(self, entry: Entry) -> None:
        """Let the id of a ghost be another object's; who refers to the ghost still refers to the id."""
        if isinstance(entry, GuestEntry):
            self.guests().part_with(entry)
        else:
            self.forget(entry)

    def take_back(self, entry: Entry) -> None:
        """Let the id of a ghost that had parted with it be its own again; raises `CannotLoad` if another has it."""
        if self.entry(entry.id) is not None:
            raise CannotLoad(
                f"{entry.id} was replaced for a while, and is another object here since.",
                hint="Load it by its id, or let go of what refers to this one and load that again.",
                ids=(entry.id,),
            )
        self.by_id[entry.id] = self._entries[entry.number] = entry

    def _follow_class(self, entry: Entry, obj: Any, parts: Parts) -> bool:
        """Make a ghost one of the class that its record names; whether that can be."""
        if entry.cls is Lost:
            return True  # looked for again when its state is filled in
        if parts[2] & KIND_BITS == VALUE:
            return False
        return become(entry, obj, self.facts_of_record(parts))


def become(entry: Entry, obj: object, facts: ClassFacts) -> bool:
    """Make a ghost one of the class that `facts` are of; whether that can be. Otherwise it stays as it is."""
    if facts.cls is entry.cls:
        return True  # its record has another name for the class
    if isinstance(entry, GuestEntry) or facts.ghost is None or entry.facts.ghost is None:
        return False
    try:
        assign_class(obj, facts.ghost)
    except TypeError:  # the layouts of the two classes differ
        return False
    entry.facts = facts
    return True


def replaced(entry: Entry, parts: Parts) -> CannotLoad:
    """The error for the ghost of an object in whose place there is one of a class that it cannot become."""
    return CannotLoad(
        f"{entry.id} was a {entry.cls.__qualname__} when this object was made; by now it was replaced by one of"
        f" {parts[3]}, which this object cannot become.",
        hint="Load it by its id, or let go of what refers to it and load that again.",
        ids=(entry.id,),
    )
