"""What removed objects are for those who still hold them: loaded, and as if they had never been saved."""

from __future__ import annotations

from collections.abc import Collection

from perdure.objects.instances.persistable import GHOST
from perdure.objects.views.view import View


def wake(view: View, removed: Collection[str]) -> None:
    """Load those of the objects that are held as ghosts: whoever holds what is to be removed keeps its state.

    Once one is loaded, others may be held by it, as ghosts; so this ends when none of them is a ghost any more.
    """
    found = True
    while found:
        found = False
        for id_ in removed:
            entry = view.entry(id_)
            obj = entry() if entry is not None else None
            if entry is not None and obj is not None and entry.state == GHOST:
                view.wake(entry, obj)
                found = True


def dismiss(view: View, removed: Collection[str]) -> None:
    """Let removed objects, which were woken before, live on in memory as ones that were never saved."""
    view.removals += bool(removed)  # first, since the rest may be cut off
    for id_ in removed:
        entry = view.entry(id_)
        if entry is not None:
            view.dismiss(entry)
