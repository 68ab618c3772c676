"""Taking back one commit: another commit that brings everything which it wrote to what it was before.

- It is done only if nothing later builds on it: each object is as that commit left it (or was brought back to that by
  other undos), no object that it made is referred to by others, and what comes back refers to nothing that is gone.
- Records go back as they are; nothing is unpickled, so it works where classes are missing, too.
- What others do meanwhile is no matter, unless it stands against this: then all of it is looked up again.
- Code records and texts of modules that it made stay: later commits name those that they find.
- Large pieces of what comes back go with it: a pack by another process may be dropping them at this very moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.backends.base import Backend, number_of, too_old
from perdure.errors import (
    ClassNotFound,
    ConflictError,
    CorruptRecord,
    InvalidArgument,
    NotFound,
    SnapshotTooOld,
    StillReferred,
    TransactionError,
)
from perdure.objects.bounds import note_text, revision_of
from perdure.objects.instances.columns import indexed_fields
from perdure.objects.instances.indexing import indexed_names
from perdure.objects.instances.persistable import GHOST, Entry
from perdure.objects.transactions.commits import ROUNDS, Desk
from perdure.objects.transactions.removing import dismiss, wake
from perdure.objects.transactions.signing import signing
from perdure.objects.views.naming import class_named
from perdure.objects.views.view import View
from perdure.records.buffers import digests_of
from perdure.records.frame import decode
from perdure.records.values import (
    CODE,
    INTERNAL,
    KIND_BITS,
    SOURCE,
    SYSTEM_FILE,
    SYSTEM_PIECE,
    VALUE,
    Batch,
    Buffer,
    Commit,
    Draft,
    Record,
)


def undo(desk: Desk, revision: int, note: str = "") -> int:
    """Take back the commit that made that revision; gives the revision of the undo. See `Store.undo`."""
    desk.require_writable()
    revision, note = revision_of(revision), note_text(note)
    if desk.is_in_transaction:
        raise TransactionError("An undo is a commit of its own.", hint="Call it outside of the transaction.")
    view = desk.view
    for left in reversed(range(ROUNDS)):
        view.refresh()
        batch = _batch(desk, _commit(view.backend, revision), note)
        with view.lock:
            wake(view, batch.removals)
            clean = _clean(view, batch)  # looked at now, while all that they refer to is there
            try:
                with signing(desk) as apply:
                    receipt = apply(batch)
            except ConflictError as error:
                written = {draft.id for draft in batch.drafts}.union(batch.removals)
                if not left or not written.issuperset(error.ids):
                    raise
                continue  # looked up again, which tells what is in the way
            dismiss(view, batch.removals)
            view.move_forward()
            for entry, obj in clean:
                view.let_go(entry, obj)
        return receipt.revision
    raise AssertionError("the last round returns or raises")


def _commit(backend: Backend, revision: int) -> Commit:
    described = backend.describe()
    if isinstance(revision, bool) or not isinstance(revision, int):
        raise InvalidArgument(f"what is undone is named by its revision, not by {type(revision).__name__}")
    if not 0 < revision <= described.revision:
        raise NotFound(f"There is no commit {revision}; the newest is {described.revision}.")
    if revision <= described.oldest:
        raise too_old(revision - 1, described.oldest)
    return backend.commits_of([revision])[revision]


def _batch(desk: Desk, commit: Commit, note: str) -> Batch:
    view = desk.view
    backend, seen, revision = view.backend, view.revision, commit.revision
    before = _records(desk, backend.ids_of(commit.numbers, revision - 1), revision - 1)
    after = _records(desk, backend.ids_of(commit.numbers, revision), revision)
    _refuse_systems(commit, [*before.values(), *after.values()])
    _refuse_erased(commit, before, after)
    after = {id_: record for id_, record in after.items() if id_ in before or record.class_name not in (CODE, SOURCE)}
    bases = _bases(desk, {*before, *after}, after, revision)
    drafts = [Draft(*record)._replace(base=bases[id_]) for id_, record in before.items()]
    removals = {id_: bases[id_] for id_ in after if id_ not in before}
    if removals:
        _refuse_referred(backend, removals, before)
    needed = {target for draft in drafts for target in draft.references}.difference(before)
    indexed = {draft.class_name: _indexed(view, draft) for draft in drafts if draft.fields}
    return Batch(
        drafts, removals, {}, seen, desk.now(), note or f"undo of revision {revision}",
        needed=needed, unreferred=[*removals], indexed=indexed, buffers=_pieces(backend, drafts, revision),
        keep=desk.keep,
    )  # fmt: skip


def _pieces(backend: Backend, drafts: Iterable[Draft], revision: int) -> dict[str, Buffer]:
    digests = {digest for draft in drafts for digest in digests_of(draft)}
    try:
        return {digest: backend.buffer(digest) for digest in digests}
    except CorruptRecord as error:
        oldest = backend.describe().oldest
        if revision <= oldest:  # packed since it was looked at
            raise too_old(revision - 1, oldest) from error
        raise


def _records(desk: Desk, ids: list[str], at: int) -> dict[str, Record]:
    view = desk.view
    frames = view.backend.read(ids, at)
    return {id_: decode(frame, view.key, trust_all=view.trust_all) for id_, frame in frames.items()}


def _refuse_systems(commit: Commit, records: Iterable[Record]) -> None:
    if any(record.class_name in (SYSTEM_FILE, SYSTEM_PIECE) for record in records):
        raise TransactionError(
            f"Revision {commit.revision} is of a prevalent system, whose journal is not undone.",
            hint="prevalence.open(store, until=…) shows the system as it was.",
        )


def _refuse_erased(commit: Commit, before: dict[str, Record], after: dict[str, Record]) -> None:
    missing = set(commit.numbers).difference(map(number_of, (*before, *after)))
    if missing:
        raise SnapshotTooOld(
            f"Revision {commit.revision} cannot be undone: what it did to {len(missing)} objects was erased.",
            hint="Make the change by hand.",
        )


def _bases(desk: Desk, ids: set[str], after: dict[str, Record], revision: int) -> dict[str, int]:
    """The present revision of each object, or that of its removal.

    Raises `ConflictError` where it is not as the commit left it.
    """
    backend = desk.view.backend
    present = _records(desk, sorted(ids), desk.view.revision)
    bases, later = {}, {}
    for id_ in ids:
        found = present.get(id_)
        bases[id_] = found.revision if found is not None else backend.history(id_)[0].revision
        left = after.get(id_)
        if (found and found._replace(revision=0)) != (left and left._replace(revision=0)):
            later[id_] = (revision, bases[id_])
    if later:
        shown = ", ".join(f"{id_} (revision {found})" for id_, (_, found) in sorted(later.items())[:5])
        raise ConflictError(
            f"Revision {revision} cannot be undone: later commits changed {shown}.",
            hint="Undo those first, or make the change by hand.",
            ids=sorted(later),
            revisions=later,
        )
    return bases


def _refuse_referred(backend: Backend, removals: dict[str, int], restored: dict[str, Record]) -> None:
    """Raise `StillReferred` where others refer to what the commit made; those that it takes back do not count."""
    for target, found in backend.referrers(removals.keys()).items():
        by = [id_ for id_ in found if id_ not in removals and id_ not in restored]
        if by:
            raise StillReferred(
                f"{target} was made by the commit, and {', '.join(by[:5])} refer{'s' if len(by) == 1 else ''} to it.",
                hint="Take the reference away first.",
                ids=(target,),
                referrers=tuple(by),
            )


def _indexed(view: View, draft: Draft) -> tuple[str, ...]:
    """The fields of the draft's class that queries may ask for; where the class is missing, all that it has."""
    if draft.flags & INTERNAL:
        return ()
    if draft.flags & KIND_BITS == VALUE:
        return indexed_fields((), view.extra_fields)
    try:
        cls = class_named(draft.class_name, draft.fields)
    except ClassNotFound:
        return tuple(draft.fields)
    return indexed_fields(indexed_names(cls), view.extra_fields)


def _clean(view: View, batch: Batch) -> list[tuple[Entry, Any]]:
    """What is loaded of the objects that come back, and was not changed: it is to be read anew."""
    entries = (view.entry(draft.id) for draft in batch.drafts)
    loaded = [(entry, obj) for entry in entries if entry is not None and (obj := entry()) is not None]
    return [(entry, obj) for entry, obj in loaded if entry.state != GHOST and not view.is_changed(entry, obj)]
