"""What becomes of a ghost whose record is of another class by now: one of that class, or nothing of its id any more."""

from __future__ import annotations

from perdure.errors import CannotLoad
from perdure.objects.classes import ClassFacts
from perdure.objects.ghosts import assign_class
from perdure.objects.guests import GuestEntry
from perdure.objects.persistable import Entry
from perdure.records.frame import Parts


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
