"""A transaction: everything that is touched between `begin` and `commit` becomes one revision, or none of it.

- `Commit` is the one way down: worklist, one batch, one `apply`, one receipt. A bare `save` takes it as well.
- When it fails, objects that were new are new again, and the store is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perdure.clock import Clock
from perdure.errors import ConflictError, KeyMissing, NotFound, ReadOnly, StillReferred, TransactionError
from perdure.objects.classes import facts_of
from perdure.objects.memory import CollectionPaused
from perdure.objects.persistable import AWAKE, ENTRIES, GHOST, Persistable, entry_of
from perdure.objects.view import View
from perdure.objects.worklist import CodeOf, Naming, Worklist, require_idle
from perdure.records.frame import decode, encoder
from perdure.records.values import Batch, Draft, Receipt


class Desk:
    """What the commits of one view share: where they go, how new objects are named, what time it is."""

    def __init__(self, view: View, naming: Naming, code_of: CodeOf, clock: Clock):
        self.view = view
        self.naming = naming
        self.code_of = code_of
        self.clock = clock
        self.transaction: Transaction | None = None
        self.worklist: Worklist | None = None  # the one that is being worked off
        self.names: frozenset[str] = frozenset()  # classes and functions in the payloads of the last commit

    def require_writable(self) -> None:
        """Raise before anything is done if this store cannot be written."""
        require_idle(self.worklist)
        self.naming.numbers.check_process()
        if self.view.backend.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        if self.view.key is None:
            raise KeyMissing(
                f"The key {self.view.backend.describe().key:08x} of this store is not on this machine,"
                " so nothing can be sealed.",
                hint="Bring it here with `perdure key import FILE`; where the store was made,"
                " `perdure key export` writes that file.",
            )


class Commit:
    """One step that is being put together."""

    def __init__(self, desk: Desk, note: str = ""):
        self.desk = desk
        self.note = note
        self.saved: list[Any] = []
        self.values: list[tuple[str, Any]] = []
        self.copies: list[tuple[str, Any, int]] = []
        self.removals: dict[str, int] = {}
        self.drafts: list[Draft] = []  # made elsewhere (by a job's worker), committed with the rest

    def run(self, *, everything: bool) -> int:
        """Write it; gives the revision (the present one if there was nothing to write)."""
        view = self.desk.view
        with view.lock, CollectionPaused() as pause:
            worklist = self.desk.worklist = Worklist(view, self.desk.naming, self.desk.code_of, everything=everything)
            try:
                batch = self._batch(worklist)
                if batch is None:
                    worklist.release()  # what it has pickled last is not held by it any more
                    worklist.rest()
                    return view.revision
                pause.made = len(batch.drafts)
                receipt = self._apply(batch)
            except BaseException:
                worklist.forget_new()
                raise
            finally:
                self.desk.worklist = None
                worklist.release()
            self.desk.names = frozenset(worklist.names)
            self._finish(worklist, receipt)
            return receipt.revision

    def _batch(self, worklist: Worklist) -> Batch | None:
        worklist.removed = self.removals
        worklist.explain_from(self.saved)
        worklist.add_kept(self.saved)
        worklist.run()
        for id_, value in self.values:
            worklist.add_value(id_, value)
        for id_, obj, base in self.copies:
            worklist.add_copy(id_, obj, base)
        worklist.run()
        batch = worklist.batch(removals=self.removals, time=self.desk.clock.now(), note=self.note)
        if batch is not None:
            self._refuse_lost(batch)
        if batch is not None and self.drafts:  # read at other revisions than this view's: each base is compared
            batch = batch._replace(drafts=batch.drafts + self.drafts, seen=-1)
        if batch is not None and batch.removals:
            self._refuse_dangling(batch)
        return batch

    def _apply(self, batch: Batch) -> Receipt:
        key = self.desk.view.key
        assert key is not None
        return self.desk.view.backend.apply(batch, encoder(key))

    def _finish(self, worklist: Worklist, receipt: Receipt) -> None:
        view = self.desk.view
        worklist.finish(receipt.revision)
        for id_ in self.removals:
            entry = view.entry(id_)
            if entry is not None:
                view.dismiss(entry)
        for id_, _, _ in self.copies:
            self._expire(id_)
        for draft in self.drafts:
            self._expire(draft.id)
        if receipt.revision == view.revision + 1:
            view.revision = receipt.revision
        elif not view.in_transaction:
            view.refresh()

    def _expire(self, id_: str) -> None:
        """What this view holds of an object that was written past it is read anew at the next touch."""
        entry = self.desk.view.entry(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None and entry.state != GHOST:
            self.desk.view.make_ghost(entry, obj)

    def _refuse_lost(self, batch: Batch) -> None:
        """No draft may bring a new reference to what another commit has removed meanwhile."""
        view = self.desk.view
        wanted = {id_ for draft in batch.drafts for id_ in draft[6]}
        for id_, base, *_ in batch.drafts if wanted else ():
            if base and (entry := view.entry(id_)) is not None:
                wanted.difference_update(entry.references)  # those that it had already are nobody's fault now
        wanted.difference_update([draft[0] for draft in (*batch.drafts, *self.drafts)])
        if not wanted:
            return
        if view.backend.revision() == view.revision:  # what is loaded was there at this revision
            wanted = {id_ for id_ in wanted if (entry := view.entry(id_)) is None or entry.state == GHOST}
        absent = sorted(wanted.difference(view.backend.classes(wanted))) if wanted else []
        if absent:
            raise ConflictError(
                f"{', '.join(absent[:5])} was removed by another commit, and what is saved refers to it.",
                hint="Take the reference away, and repeat the change.",
                ids=absent,
                revisions=dict.fromkeys(absent, (view.revision, 0)),
            )

    def _refuse_dangling(self, batch: Batch) -> None:
        """No removal may leave a reference behind, be it stored or in this very batch."""
        removed = batch.removals.keys()
        drafted = {draft.id: draft.references for draft in batch.drafts}
        stored = self.desk.view.backend.referrers(removed)
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


class Transaction:
    """`with store.transaction(note=…) as tx`: commits at the end of the block, aborts on an exception.

    After the block `tx.revision` is the revision that the commit made (or the present one, if nothing was changed).
    """

    def __init__(self, desk: Desk, note: str = ""):
        self.note = note
        self.revision: int | None = None
        self._desk = desk
        self._commit: Commit | None = None

    def __enter__(self) -> Transaction:
        if self._desk.transaction is not None:
            raise TransactionError(
                "A transaction is already open in this thread or task.", hint="Its block takes in everything inside it."
            )
        view = self._desk.view
        view.refresh()
        view.in_transaction = True
        self._desk.transaction = self
        self._commit = Commit(self._desk, self.note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._desk.transaction is not self:
            return  # aborted by hand
        if kind is not None:
            self.abort()
        else:
            self.commit()

    @property
    def step(self) -> Commit:
        """What has been asked for so far; raises once the transaction is over."""
        if self._commit is None:
            raise TransactionError("The transaction is over.", hint="Open another one.")
        return self._commit

    def commit(self) -> None:
        """Write everything that changed as one revision. On failure everything is aborted."""
        step = self.step
        step.note = self.note
        if self._desk.view.enlisted or step.saved or step.values or step.copies or step.removals:
            try:
                self.revision = step.run(everything=True)
            except ConflictError:
                self.abort()
                self._desk.view.refresh()  # what is touched next is what the others have written
                raise
            except BaseException:
                self.abort()
                raise
        else:
            self.revision = self._desk.view.revision
        self._end()

    def abort(self) -> None:
        """Drop everything: objects are as they were when the transaction began, new ones are new again."""
        if self._commit is None:
            return
        view = self._desk.view
        with view.lock:
            for obj in list(view.enlisted.values()):
                entry = entry_of(obj)
                if entry is None:
                    continue
                if entry.revision == 0 and entry.state == AWAKE:
                    view.dismiss(entry)
                else:
                    view.make_ghost(entry, obj)
            self._desk.naming.numbers.give_back()
        self._end()

    def _end(self) -> None:
        self._commit = None
        self._desk.transaction = None
        self._desk.view.in_transaction = False


def save_many(desk: Desk, objects: Sequence[Any]) -> list[str]:
    """Save objects as one step, or with the transaction that is open; gives their ids in order."""
    desk.require_writable()
    if desk.transaction is not None:
        return [_join(desk, desk.transaction.step, obj) for obj in objects]
    step = Commit(desk)
    step.saved = [obj for obj in objects if isinstance(obj, Persistable)]
    values = {}  # place -> id
    if len(step.saved) < len(objects):
        values = {
            place: desk.naming.new_value(obj) for place, obj in enumerate(objects) if not isinstance(obj, Persistable)
        }
        step.values = [(id_, objects[place]) for place, id_ in values.items()]
    try:
        step.run(everything=False)
    except ConflictError as error:
        _let_go(desk.view, error.ids)
        raise
    if not values:
        return [ENTRIES[id(obj)].id for obj in objects]
    return [values.get(place) or ENTRIES[id(obj)].id for place, obj in enumerate(objects)]


def _let_go(view: View, ids: Iterable[str]) -> None:
    """What was read is out of date: the next touch reads it anew."""
    for id_ in ids:
        entry = view.entry(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None:
            view.make_ghost(entry, obj)
    view.refresh()


def _join(desk: Desk, step: Commit, obj: Any) -> str:
    """Let the open transaction save `obj`; its id is given at once."""
    if not isinstance(obj, Persistable):
        id_ = desk.naming.new_value(obj)
        step.values.append((id_, obj))
        return id_
    entry = desk.view.own_entry(obj)
    if entry is None:
        facts = facts_of(type(obj))
        entry = desk.view.enrol(obj, facts, *desk.naming.new(obj, facts))
    step.saved.append(obj)
    return entry.id


def replace(desk: Desk, id_: str, obj: Any) -> None:
    """Store a copy of `obj` under `id_`, in place of what is there."""
    desk.require_writable()
    base = _stored(desk, id_)[1]
    step = desk.transaction.step if desk.transaction is not None else Commit(desk)
    step.copies.append((id_, obj, base))
    if desk.transaction is None:
        step.run(everything=False)


def remove(desk: Desk, id_: str) -> None:
    """Remove the object of that id; it lives on in memory as one that was never saved."""
    desk.require_writable()
    view = desk.view
    entry = view.entry(id_)
    obj = entry() if entry is not None else None
    _, revision = _stored(desk, id_)
    if entry is not None and obj is not None and entry.state == GHOST:
        view.wake(entry, obj)  # whoever holds it keeps its state
    if entry is not None and entry.revision:
        revision = entry.revision
    if desk.transaction is not None:
        desk.transaction.step.removals[id_] = revision
    else:
        step = Commit(desk)
        step.removals[id_] = revision
        step.run(everything=False)


def _stored(desk: Desk, id_: str) -> tuple[bytes, int]:
    view = desk.view
    frame = view.backend.read([id_], view.revision).get(id_)
    if frame is None or (desk.transaction is not None and id_ in desk.transaction.step.removals):
        raise NotFound(f"There is no {id_} in the store.", ids=(id_,))
    return frame, decode(frame, view.key, trust_all=view.trust_all).revision
