"""What must hold for a batch as a whole, beyond the revisions that its parts were read at.

- What it newly refers to must be there when it is written; what it removes, nothing may refer to.
- Nothing has two versions at one revision.
- Nothing is saved from within the pickling of another object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from operator import itemgetter

from perdure.errors import StillReferred, TransactionError
from perdure.objects.instances.persistable import GHOST
from perdure.objects.views.view import View
from perdure.records.values import Draft

_ID = itemgetter(0)  # of a draft


def needed_by(
    view: View, drafts: Collection[Draft], others: Collection[Draft]
) -> tuple[Collection[str], Collection[str]]:
    """What drafts newly refer to, which must still be there when they are written; and what of it is in doubt.

    What is loaded was there at the view's revision: of what others remove, a view that moves on makes ghosts.
    """
    needed: set[str] = set()
    for draft in drafts:
        needed.update(draft[6])
    for draft in drafts:
        if draft[1] and needed:
            needed.difference_update(_had(view, draft[0], draft[1]))  # those that it had are nobody's fault now
    needed.difference_update(map(_ID, drafts), map(_ID, others))
    doubted = []
    for id_ in needed:
        entry = view.entry(id_)
        if entry is None or entry.state == GHOST:
            doubted.append(id_)
    return needed, doubted


def _had(view: View, id_: str, base: int) -> tuple[str, ...]:
    """What an object referred to at the revision that its draft is made from, as far as that was read."""
    entry = view.entry(id_)
    return entry.references if entry is not None and entry.revision == base else ()


def refuse_dangling(view: View, drafts: Collection[Draft], removed: Collection[str]) -> None:
    """Raise `StillReferred`: no removal may leave a reference behind, be it stored or in this very batch."""
    drafted = {draft.id: draft.references for draft in drafts}
    stored = view.backend.referrers(removed)
    for target in removed:
        by = [id_ for id_ in stored.get(target, ()) if id_ not in removed and id_ not in drafted]
        by += [id_ for id_, references in drafted.items() if target in references]
        if by:
            shown = ", ".join(by[:5]) + (f" and {len(by) - 5} more" if len(by) > 5 else "")
            raise StillReferred(
                f"{target} cannot be removed: {shown} refer" + ("s" if len(by) == 1 else "") + " to it.",
                hint="Take the reference away or remove the referring object first, or in the same transaction.",
                ids=(target,),
                referrers=tuple(by),
            )


def refuse_two_versions(drafts: Collection[Draft], copies: Collection[str]) -> None:
    """Raise `TransactionError` for what was replaced and also changed: which of the two is meant?"""
    times = Counter(draft.id for draft in drafts)
    twice = [id_ for id_ in copies if times[id_] > 1]
    if twice:
        raise TransactionError(
            f"{', '.join(twice)} was replaced, and the object itself was changed or saved, in one transaction.",
            hint="Do one of them only, or the second after the commit.",
            ids=tuple(twice),
        )


def was_busy() -> TransactionError:
    """The error for what would save while objects are being pickled: it comes from within the pickling of one."""
    return TransactionError(
        "A save was started from within __getstate__ or __reduce__ of an object that is being saved.",
        hint="State methods may only look; save afterwards.",
    )
