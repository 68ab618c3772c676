"""A transaction: everything that is touched between its begin and its end becomes one revision, or none of it.

- It sees the store as it was at its beginning, whatever others commit.
- When it is aborted, objects are as they were when it began, changes included that were not saved by then; what was
  new then is new again.
- One that is opened inside another is a part of it: an exception undoes the part, the end of the whole commits it.
- `async with` does the same on a worker thread, for the view of the task.
- A process that was forked inside a transaction never commits it; no other thread or task does, either.
- However its end goes, and be it interrupted: after it no transaction is open.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from perdure.errors import ConflictError, PerdureError, StorageError, StoreBusy, TransactionError, WrongView
from perdure.objects.bounds import note_text
from perdure.objects.instances.guests import is_record
from perdure.objects.transactions.blocks import Blocked, BlockEnd, part_was_left, was_inherited
from perdure.objects.transactions.commits import Commit, Desk
from perdure.objects.transactions.savepoints import Image, Savepoint
from perdure.objects.transactions.threads import in_thread
from perdure.objects.views.unfinished import ATTEMPTS
from perdure.objects.views.view import LENT, View, all_views


class Transaction(Blocked):
    """`with store.transaction(note=…) as tx`: commits at the end of the block, aborts on an exception.

    After the block `tx.revision` is the revision that the commit made (or the present one, if nothing was changed).
    Inside another transaction's block it is a part of that one: on an exception the objects are as they were at its
    beginning, and the outer block may go on; its revision and its note are those of the outer one.

    `commit()` and `abort()` end it by hand, inside the block: what is done in the rest of the block is outside of any
    transaction, as after the block. A transaction is begun once, by the thread or task that made it; only that one can
    use it (`WrongView`).
    """

    def __init__(self, desk: Desk, note: str = "", *, keeps_earlier: bool = False):
        self.note = note_text(note)
        self.revision: int | None = None
        self.is_inherited = False  # from the process that this one was forked from
        self._desk = desk
        self._commit: Commit | None = None
        self._beginning: Image | None = None  # what had been changed before, and not saved
        self._savepoints: list[Savepoint] = []
        self._parts: list[Transaction] = []
        self._keeps_earlier = keeps_earlier  # on a conflict, what had been changed before it began
        self._whole: Transaction | None = None  # that this one is a part of
        self._way_back: Savepoint | None = None
        self._failures = 0  # to abort it

    def __enter__(self) -> Transaction:
        self._require_own()
        if self.is_begun:
            raise TransactionError("This transaction was begun before.", hint="Make another by store.transaction().")
        self.begin_block()
        desk = self._desk
        desk.require_idle()
        desk.end_left()
        whole = desk.transaction
        if whole is None:
            pass
        elif whole.is_inherited:
            whole.abort()
        elif isinstance(whole, Transaction):
            self._way_back = whole.savepoint()
            self._whole, self.is_begun = whole, True
            whole._parts.append(self)
            return self
        view = desk.view
        view.refresh()
        self._beginning = desk.image(lenient=True) if view.enlisted or view.changed_guests() else None
        try:
            self._commit, self.is_begun = Commit(desk, self.note), True
            desk.transaction, view.transaction, view.in_transaction = self, self, True
        except BaseException:  # interrupted: no block begins that would end it
            self._end()
            raise
        return self

    @BlockEnd
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._whole is None and self._commit is None:
            if self.is_inherited and kind is None and self.revision is None:
                raise was_inherited()
            return  # ended by hand
        if self._whole is not None and self._way_back is None:
            return
        try:
            self.block = None  # from here on it ends, whatever interrupts it; until here its block being gone tells
            if kind is not None:
                self.abort()
            else:
                self.commit()
        except BaseException:
            self.abort()  # if it was interrupted before it was over
            raise

    async def __aenter__(self) -> Transaction:
        try:
            await in_thread(self._desk, self.__enter__)
        except BaseException:  # cancelled, and begun all the same
            if self._commit is not None or self._way_back is not None:
                await in_thread(self._desk, self.abort)
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await in_thread(self._desk, self.__exit__, kind, error, trace)

    @property
    def is_open(self) -> bool:
        return self._commit is not None or self._way_back is not None

    @property
    def step(self) -> Commit:
        """What has been asked for so far; raises once the transaction is over."""
        if self._whole is not None:
            return self._whole.step
        if self.is_inherited:
            raise was_inherited()
        if self._commit is None:
            raise TransactionError("The transaction is over.", hint="Open another one.")
        return self._commit

    def savepoint(self) -> Savepoint:
        """A point to which everything can be taken back: `sp.rollback()`, or `with tx.savepoint():`.

        It costs a look at every object that was touched since the last one, and the memory of those of them that
        differ from what is stored. Raises `CannotPickle` for a changed object that could not be saved.
        """
        if self._whole is not None:
            return self._whole.savepoint()
        step = self.step
        self._require_own()
        others = [*(value for _, value in step.values), *(obj for _, obj, _ in step.copies)]
        savepoint = Savepoint(self, self._desk.image(others), step.pending())
        self._savepoints.append(savepoint)
        return savepoint

    def read_current(self, obj: Any) -> None:
        """Let the commit fail, with `ConflictError`, if another one changes or removes `obj` before.

        For what a decision depends on but what is not written itself; what is written is compared anyway.
        """
        step = self.step
        self._require_own()
        entry = self._desk.view.own_entry(obj) if is_record(obj) else None
        if entry is None:
            if is_record(obj):
                return  # new: nobody else has it
            raise TypeError(f"read_current takes an object of the store, not a {type(obj).__name__}")
        self._desk.view.wake(entry, obj)
        if entry.revision:
            step.checks.setdefault(entry.id, entry.revision)

    def commit(self) -> None:
        """Write everything that changed as one revision. On failure everything is aborted.

        Raises `StoreClosed` if the store was closed meanwhile, and what `Store.save` raises.
        """
        self._require_own()
        if self._whole is not None:
            self._leave_whole(undo=False)
            return
        if self.is_inherited:
            self.abort()
        step, view = self.step, self._desk.view
        if self._parts and any(part.is_left for part in self._parts):
            self.abort()
            raise part_was_left()
        earlier = self._beginning.changed_ids() if self._keeps_earlier and self._beginning is not None else set()
        try:
            view.require_open()  # closing has dropped what was to be written
            step.note = self._notes()
            view.end_naps()
            if view.enlisted or view.changed_guests() or not step.is_empty:
                self.revision = step.run(everything=True)
            else:
                self.revision = view.revision
        except ConflictError as error:
            self.abort()
            if lost := earlier.intersection(error.ids):
                error.details["changed_before"] = tuple(sorted(lost))
            # What is touched next is what the others have written.
            let_go(view, [id_ for id_ in error.ids if id_ not in lost])
            raise
        except BaseException:
            self.abort()  # unless it was interrupted when it was written
            raise
        self._end()

    def abort(self) -> None:
        """Drop everything: objects are as they were when the transaction began, new ones are new again."""
        if self._whole is not None:
            if self._way_back is not None:
                self._require_own()
            self._leave_whole(undo=True)
            return
        if self._commit is None:
            return
        self._require_own()
        if self._commit.receipt is not None:  # it was interrupted when it was written
            self.revision = self._commit.receipt.revision
            self._end()
            return
        view = self._desk.view
        view.mark = None  # if it is interrupted, whatever comes next goes on with it, and be it a load
        with view.lock:
            view.unfinished.do(self._take_back)

    def _take_back(self) -> None:
        if self._commit is None:
            return  # done
        try:
            (self._beginning or Image.of_nothing(self._desk.view)).restore()
        except Exception as error:
            self._failures += 1
            if self._failures == ATTEMPTS or isinstance(error, PerdureError):  # a class refuses the state that it gave
                self._close()
            raise
        self._close()

    def _close(self) -> None:
        view = self._desk.view
        view.end_guests_step()
        view.end_naps()
        self._desk.naming.numbers.give_back()
        self._end()

    # -- savepoints and parts ------------------------------------------------------------------------------

    def holds(self, savepoint: Savepoint) -> bool:
        """Whether one can still go back to it."""
        return self._commit is not None and any(each is savepoint for each in self._savepoints)

    def roll_back(self, savepoint: Savepoint) -> None:
        """See `Savepoint.rollback`. If a class refuses the state that it gave, the whole transaction is aborted."""
        step = self.step
        self._require_own()
        if not self.holds(savepoint):
            raise TransactionError(
                "The savepoint is gone: its block has ended, or an earlier one was gone back to.",
                hint="Make another one by tx.savepoint().",
            )
        self._desk.require_idle()
        while self._savepoints[-1] is not savepoint:
            self._savepoints.pop()
        try:
            savepoint.image.restore()
            step.go_back(savepoint.pending, savepoint.image.value)
        except BaseException:
            self.abort()
            raise

    def release(self, savepoint: Savepoint) -> None:
        """Let a savepoint go, and those that were made after it."""
        while self.holds(savepoint):
            self._savepoints.pop()

    def _leave_whole(self, *, undo: bool) -> None:
        whole, way_back = self._whole, self._way_back
        assert whole is not None
        self._way_back = None
        if way_back is None:
            if not undo:
                raise TransactionError("The transaction is over.", hint="Open another one.")
            return
        if undo:
            whole._parts.remove(self)
            if whole.holds(way_back):
                whole.roll_back(way_back)
        elif not whole.holds(way_back):
            raise TransactionError("The transaction that this one is a part of is over, or went back behind it.")
        whole.release(way_back)

    def _notes(self) -> str:
        """The note, and after it those of the parts, each once."""
        if not self._parts:
            return note_text(self.note)
        return "; ".join(dict.fromkeys(filter(None, map(note_text, [self.note, *(part.note for part in self._parts)]))))

    def _require_own(self) -> None:
        """Raise `WrongView` where the caller is not the thread or task that the transaction is of."""
        view = self._desk.view
        if not self.is_inherited and not view.owns() and LENT.view is not view:
            raise WrongView(
                "The transaction belongs to another thread or task.",
                hint="Each thread or task makes its own by store.transaction().",
            )

    def _end(self) -> None:
        desk = self._desk
        view = desk.view  # the next line first: whatever interrupts the rest, it is over
        desk.transaction, view.transaction, view.in_transaction, view.joining = None, None, False, None
        self._commit = self._beginning = None
        self._savepoints.clear()
        for part in self._parts:
            part.revision = self.revision


def _inherit() -> None:
    """In a forked child: the open transactions are those of the parent."""
    for view in all_views():
        if isinstance(view.transaction, Transaction):
            view.transaction.is_inherited, view.joining = True, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherit)


def let_go(view: View, ids: Iterable[str]) -> None:
    """What was read is out of date: the next touch reads it anew."""
    for id_ in ids:
        entry = view.entry(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None and entry.revision:
            view.let_go(entry, obj)
    with suppress(StorageError, StoreBusy):  # the next load moves on
        view.refresh()
