"""What the index of a directory store says to a question, and to a batch.

- Only an id that the index knows, letter by letter, is ever found: whatever shape the text has that somebody asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from perdure.backends.base import mismatches, number_of, number_taken, refuse_absent, refuse_conflicts, refuse_referred
from perdure.backends.filesystem.journal import Index
from perdure.backends.filesystem.medium import Medium
from perdure.errors import IdInUse
from perdure.records.values import INTERNAL, Batch, Draft


def known_number(index: Index, id_: str) -> int | None:
    """The number of an id that the index knows; None for any other text."""
    # Whole texts are compared, so that whatever shape `id_` has, only an id of the log gets through.
    tail = id_.rpartition(".")[2]
    number = int(tail) if tail.isascii() and tail.isdigit() and len(tail) < 20 else -1
    return number if index.ids.get(number) == id_ else None


def comes_back(draft: Draft, index: Index) -> bool:
    """Whether the draft's object is not there, and its base is the revision that removed it."""
    number = number_of(draft.id)
    return index.removed.get(number) == draft.base and index.ids[number] == draft.id


def revision_at(index: Index, id_: str, at: int | None) -> int:
    """The revision of the version of that id which was there at revision `at` (None: now); 0 if there was none."""
    number = known_number(index, id_)
    return 0 if number is None else index.version(number, at)


def next_number(batch: Batch, index: Index) -> int:
    """The counter after the batch."""
    free = batch.unused[0] if batch.unused[1] == index.next_number else index.next_number
    ids: Collection[str] = [*(draft.id for draft in batch.drafts), *batch.removals]
    return max([free, *(number_of(id_) + 1 for id_ in ids)])


def chosen(index: Index, class_name: str | None, internal: bool | None, after: int) -> list[int]:
    """The numbers above `after` of what is there now, in order; of one class, or only the user's or perdure's own."""
    return sorted(
        number
        for number in index.versions
        if number > after
        and number not in index.removed
        and (class_name is None or index.classes[number] == class_name)
        and (internal is None or internal == (number in index.internal))
    )


def refuse_names(batch: Batch, medium: Medium) -> None:
    """Raise `IdInUse` for a new draft whose number, or whose name on disk, is taken."""
    index = medium.index
    for draft in batch.drafts:
        if draft.base and not (comes_back(draft, index) and medium.is_settled(draft.base)):
            continue  # before its removal is settled, the file of an object that comes back may still be there
        if not draft.base and number_of(draft.id) in index.ids:
            raise number_taken(draft.id, number_of(draft.id))
        why = medium.refuse_name(draft.id, bool(draft.flags & INTERNAL))
        if why:
            raise IdInUse(f"{draft.id} cannot be new: {why}.", hint="Move that file away.", ids=(draft.id,))


def refuse(batch: Batch, medium: Medium, kept: Callable[[int, int], bytes]) -> None:
    """Raise what stands against the batch, as the reference in memory does; also for names that are taken on disk.

    `kept` gives the frame of a number at a revision.
    """
    index = medium.index
    back = {draft.id for draft in batch.drafts if draft.base and comes_back(draft, index)}
    refuse_names(batch, medium)
    expected = {
        **{draft.id: draft.base for draft in batch.drafts if draft.base},
        **batch.removals,
        **batch.checks,
    }
    found = {id_: index.current(id_) for id_ in expected}
    found.update((draft.id, draft.base) for draft in batch.drafts if draft.id in back)
    refuse_conflicts(mismatches(expected, found))
    refuse_absent(batch, [id_ for id_ in batch.needed if index.current(id_)])
    if batch.unreferred:
        refuse_referred(batch, (kept(*version) for version in index.later(batch.seen, present=True)))
