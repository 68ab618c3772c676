"""A commit: everything that is to be written becomes one batch, one `apply`, one revision; or nothing does.

- `Commit` is the one way down, for a transaction as for a bare `save`: worklist, batch, receipt.
- When it fails, objects that were new are new again, and the store is as it was.
- A `Desk` is what the commits of one view share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from perdure import kernels
from perdure.backends.base import mismatches, number_of, refuse_conflicts
from perdure.clock import Clock
from perdure.errors import (
    ConflictError,
    KeyMissing,
    NotFound,
    PerdureError,
    ReadOnly,
    SnapshotTooOld,
    StorageError,
    StoreBusy,
)
from perdure.objects.bounds import clock_time
from perdure.objects.instances.persistable import GHOST, Entry
from perdure.objects.transactions.blocks import was_left
from perdure.objects.transactions.checking import needed_by, refuse_dangling, refuse_two_versions, was_busy
from perdure.objects.transactions.conflicts import resolve
from perdure.objects.transactions.naming import Naming
from perdure.objects.transactions.removing import dismiss, wake
from perdure.objects.transactions.savepoints import Image
from perdure.objects.transactions.worklist import CodeOf, Needs, Worklist
from perdure.objects.views.memory import CollectionPaused
from perdure.objects.views.view import View
from perdure.records.frame import Encoder, encoder, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import INTERNAL, Batch, Buffer, Draft, Receipt

LOOKED_AT = 20  # commits at a time
ROUNDS = 20  # attempts of one commit: each meets another commit that came in between


def _ghosts(entries: Iterable[Entry]) -> list[str]:
    return [entry.id for entry in entries if entry.state == GHOST]


class Open(Protocol):
    """What a desk asks of the transaction that is open; see `perdure.objects.transactions.transaction`."""

    is_inherited: bool

    @property
    def step(self) -> Commit: ...

    def abort(self) -> None: ...

    def end_if_left(self) -> bool: ...


class OfThread(threading.local):
    """What one thread has of a store."""

    desk: Desk | None = None
    view: View | None = None


class Desk:
    """What the commits of one view share: where they go, how new objects are named, what time it is."""

    def __init__(self, view: View, naming: Naming, code_of: CodeOf, clock: Clock, threads: OfThread):
        self.view = view
        self.threads = threads
        self.turn = threading.Lock()  # of the worker threads
        self.naming = naming
        self.code_of = code_of
        self.clock = clock
        self.transaction: Open | None = None
        self.keep: float | None = None  # seconds for which replaced versions stay; None: until they are packed
        self.is_looking = False  # at objects, for a savepoint: nothing may be saved meanwhile
        self.worklist: Worklist | None = None  # the one that is being worked off
        self.names: frozenset[str] = frozenset()  # classes and functions in the payloads of the last commit
        self._sealing: tuple[Key, Encoder] | None = None

    def now(self) -> float:
        """The time, in seconds since 1970; raises `InvalidArgument` where the store's clock does not tell one."""
        return clock_time(self.clock.now())

    @property
    def is_in_transaction(self) -> bool:
        """Whether one is open that this process may commit."""
        return self.transaction is not None and not self.transaction.is_inherited

    @property
    def removed(self) -> Mapping[str, int]:
        """What the open transaction has removed."""
        return {} if self.transaction is None or self.transaction.is_inherited else self.transaction.step.removals

    def saved_ids(self) -> list[str]:
        """The ids that the open transaction has given to the user's objects and values, but for those it removed."""
        if self.transaction is None or self.transaction.is_inherited:
            return []
        step = self.transaction.step
        entries = [self.view.own_entry(obj) for obj in step.saved]
        new = [each.id for each in entries if each is not None and not each.revision and not each.flags & INTERNAL]
        ids = dict.fromkeys([*new, *(id_ for id_, _ in step.values)])
        return [id_ for id_ in ids if id_ not in step.removals]

    def image(self, others: Iterable[Any] = (), *, lenient: bool = False) -> Image:
        """What the view's changed objects are like now; see `Image`."""
        self.require_idle()
        try:
            self.is_looking = True
            return Image(self.view, others, lenient=lenient)
        finally:
            self.is_looking = False

    def end_left(self) -> bool:
        """Finish what an interruption has cut off; whether a transaction was aborted since its block is over."""
        if self.view.unfinished:
            self.view.finish()
        return self.transaction is not None and self.transaction.end_if_left()

    def require_idle(self) -> None:
        """Raise if objects are being pickled: whoever calls does so from within their state methods."""
        if self.worklist is not None or self.is_looking:
            raise was_busy()

    def joining(self, transaction: Open, step: Commit) -> Callable[[object], Any] | None:
        """What gives a new object that `step` shall save its id, or None where Python has to see to it: in C."""
        view = self.view
        if kernels.compiled is None or view.key is None or view.backend.read_only or not self.naming.counts:
            return None
        self.naming.numbers.check_process()
        lists, into = (step.saved, view.unfinished), (view.by_id, view._entries, view.enlisted)
        made: Callable[[object], Any] = kernels.compiled.Joining(self, transaction, self.naming, view, lists, into)
        return made

    def require_writable(self) -> None:
        """Raise before anything is done if this store cannot be written."""
        self.require_idle()
        view = self.view
        if self.transaction is not None and self.transaction.is_inherited:
            self.transaction.abort()  # that of the process which this one was forked from: only that one commits it
        if (view.unfinished or self.transaction is not None) and self.end_left():
            raise was_left()
        if view.revision < 0:
            view.refresh()
        self.naming.numbers.check_process()
        if view.backend.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        self.require_key()

    def require_key(self) -> Key:
        """The key to seal with; raises `KeyMissing`."""
        if self.view.key is None:
            raise KeyMissing(
                f"The key {self.view.backend.describe().key:08x} of this store is not on this machine,"
                " so nothing can be sealed.",
                hint="Bring it here with `perdure key import FILE`; where the store was made,"
                " `perdure key export` writes that file.",
            )
        return self.view.key

    def encoder(self) -> Encoder:
        """What seals with the key of now; raises `KeyMissing`."""
        key = self.require_key()
        if self._sealing is None or self._sealing[0] is not key:
            self._sealing = key, encoder(key, compress=True)
        return self._sealing[1]


class Pending(NamedTuple):
    """What a step was asked for up to a savepoint."""

    note: str
    saved: list[Any]
    values: list[tuple[str, Any]]
    copies: list[tuple[str, Any, int]]
    removals: dict[str, int]
    checks: dict[str, int]
    drafts: list[Draft]


class Commit:
    """One step that is being put together."""

    def __init__(self, desk: Desk, note: str = ""):
        self.desk = desk
        self.note = note
        self.saved: list[Any] = []
        self.values: list[tuple[str, Any]] = []
        self.copies: list[tuple[str, Any, int]] = []
        self.removals: dict[str, int] = {}  # with the revision read; 0: it was saved in this very step
        self.checks: dict[str, int] = {}  # what was only read, and must still be as it was
        self.drafts: list[Draft] = []  # made elsewhere (by a job's worker), committed with the rest
        self.indexed: dict[str, tuple[str, ...]] = {}  # of the classes of those drafts, as in `Batch`
        self.buffers: dict[str, Buffer] = {}  # large pieces that they name
        self._merged: set[str] = set()  # written otherwise than it is in memory
        self.receipt: Receipt | None = None  # once it is written
        self._offered: Batch | None = None  # while the backend has it
        self._worklist: Worklist | None = None  # until what it looked at dozes

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for; objects that were changed may be there all the same."""
        return not (self.saved or self.values or self.copies or self.removals or self.checks or self.drafts)

    def drop_value(self, id_: str) -> bool:
        """Do not write the plain value that was to get this id; whether there was one."""
        kept = [each for each in self.values if each[0] != id_]
        found, self.values = len(kept) < len(self.values), kept
        return found

    def drop_copies(self, id_: str) -> None:
        """Do not write what was to replace the object of that id."""
        self.copies = [copy for copy in self.copies if copy[0] != id_]

    def pending(self) -> Pending:
        """What was asked for so far."""
        return Pending(
            self.note, [*self.saved], [*self.values], [*self.copies], {**self.removals}, {**self.checks}, [*self.drafts]
        )

    def go_back(self, to: Pending, as_it_was: Callable[[Any], Any]) -> None:
        """Ask for what was asked for then; plain values as `as_it_was` gives them."""
        self.note = to.note
        self.saved[:], self.drafts = to.saved, [*to.drafts]  # the list stays: see `Desk.joining`
        self.values = [(id_, as_it_was(value)) for id_, value in to.values]
        self.copies = [(id_, as_it_was(obj), base) for id_, obj, base in to.copies]
        self.removals, self.checks = {**to.removals}, {**to.checks}

    def run(self, *, everything: bool) -> int:
        """Write it; gives the revision (the present one if there was nothing to write)."""
        desk, view = self.desk, self.desk.view
        with view.lock, CollectionPaused() as pause:
            view.require_open()
            if view.unfinished:
                view.finish()
            if view.stale:
                view.reload_stale()
            if self.removals:
                wake(view, self.removals)
            worklist = self._worklist = Worklist(view, desk.naming, desk.code_of, self.saved, everything=everything)
            try:
                desk.worklist = worklist
                batch = self._batch(worklist)
                if batch is None:
                    worklist.release()  # what it has pickled last is not held by it any more
                    worklist.rest()
                    dismiss(view, self.removals)
                    view.settle()
                    desk.worklist = None
                    return view.revision
                pause.made = len(batch.drafts)
                receipt = self.receipt = self._apply(batch)
                # It holds arrays, and whoever is held by nothing else may doze.
                desk.worklist = batch = self._offered = None
                worklist.release()
                desk.names = frozenset(worklist.names)
                self._learn()
            except BaseException as error:
                desk.worklist = None
                if isinstance(error, PerdureError):  # then it is not written
                    self._offered = None
                view.unfinished.append(self._end)
                worklist.release()
                view.finish()
                raise
            return receipt.revision

    def _batch(self, worklist: Worklist) -> Batch | None:
        """What is to be written; None if that is nothing."""
        worklist.removed = self.removals
        worklist.add_kept(self.saved)
        worklist.run()
        if self.values or self.copies:
            for id_, value in self.values:
                worklist.add_value(id_, value)
            for id_, obj, base in self.copies:
                worklist.add_copy(id_, obj, base)
            worklist.run()
        removals = {id_: base for id_, base in self.removals.items() if base} if self.removals else {}
        worklist.sign(removals=removals)
        if not worklist.drafts and not removals:
            self._check_only()
            self._check_saved()
            return None
        batch = worklist.batch(self.desk.now(), self.note, self.desk.keep, self._needs(worklist, removals))
        if self.drafts:  # read at other revisions than this view's: each base is compared
            indexed, buffers = {**self.indexed, **batch.indexed}, {**batch.buffers, **self.buffers}
            drafts = batch.drafts + self.drafts
            batch = batch._replace(drafts=drafts, seen=-1, counted=False, indexed=indexed, buffers=buffers)
        return batch

    def _needs(self, worklist: Worklist, removals: Mapping[str, int]) -> Needs:
        """What must hold where it is written: what it removes, what was only read, what must be there."""
        view, drafts = self.desk.view, worklist.drafts
        if self.copies:
            refuse_two_versions(drafts, [copy[0] for copy in self.copies])
        if len(removals) < len(self.removals):
            refuse_dangling(view, drafts, self.removals.keys() - removals.keys())
        checks: Mapping[str, int] = self.checks if view.jar is None else {**view.jar.relied_on, **self.checks}
        if checks:
            written = {draft.id for draft in drafts}.union(removals)
            checks = {id_: base for id_, base in checks.items() if id_ not in written}
        needed: Collection[str] = ()
        doubted: Collection[str] = ()
        if worklist.refers_to_stored and (self.values or self.copies or worklist.refers_anew()):
            needed, doubted = needed_by(view, drafts, self.drafts)
        if len(drafts) < len(self.saved):  # some are as they were: they must be there all the same
            same = self._saved_before({draft.id for draft in drafts})
            needed, doubted = {*needed, *(each.id for each in same)}, [*doubted, *_ghosts(same)]
        return removals, checks, needed, doubted

    def _check_only(self) -> None:
        """Nothing is to be written, but what was to be checked must be as it was read."""
        if self.checks:
            found = self.desk.view.backend.read(self.checks)
            refuse_conflicts(
                mismatches(self.checks, {id_: parse_unverified(frame).revision for id_, frame in found.items()})
            )

    def _saved_before(self, written: Collection[str] = ()) -> list[Entry]:
        """The entries of objects that were to be saved, and are not written."""
        entries = map(self.desk.view.own_entry, self.saved)
        return [
            entry
            for entry in entries
            if entry is not None
            and (entry.revision or entry.state == GHOST)
            and entry.id not in written
            and entry.id not in self.removals
        ]

    def _check_saved(self) -> None:
        """Nothing is to be written; but what others have removed is not saved by that. Raises `NotFound`."""
        view, saved = self.desk.view, self._saved_before()
        doubtful = _ghosts(saved)
        if saved and view.watch() != view.mark and view.backend.revision() != view.revision:
            doubtful = [entry.id for entry in saved]
        gone = sorted(set(doubtful).difference(view.backend.classes(doubtful))) if doubtful else ()
        if gone:
            raise NotFound(
                f"{', '.join(gone[:5])} cannot be saved: another commit has removed it.",
                hint="To keep what it holds, save a new object that has it.",
                ids=tuple(gone),
            )

    def _compare(self, bases: Mapping[str, int]) -> None:
        """Raise `ConflictError` where the newest revision is another than the one that was read."""
        frames = self.desk.view.backend.read(bases)
        found = {id_: parse_unverified(frame).revision for id_, frame in frames.items()}
        refuse_conflicts(mismatches(bases, found))

    def _apply(self, batch: Batch) -> Receipt:
        """Apply the batch; what conflicts is merged where its class can do so, and offered again."""
        view = self.desk.view
        encode = self.desk.encoder()  # what was read without a key may have been changed in a transaction
        for left in reversed(range(ROUNDS)):
            try:
                ready = self._for_removals(batch) if batch.removals else batch
                self._offered = ready
                return view.backend.apply(ready, encode)
            except ConflictError as error:
                if left == 0:
                    raise
                if error.ids:
                    batch, merged = resolve(view, batch, error)
                    self._merged.update(merged)
                elif not batch.removals:
                    raise
        raise AssertionError("the last round returns or raises")

    def _for_removals(self, batch: Batch) -> Batch:
        """The batch, with the revision at which nothing else referred to what it removes."""
        view = self.desk.view
        bases = {draft.id: draft.base for draft in batch.drafts if draft.base} | {**batch.removals, **batch.checks}
        try:
            newest, numbers = view.backend.changes(view.revision)
        except SnapshotTooOld:  # what has changed since is not known any more
            newest = view.backend.revision()
        else:
            if batch.seen == view.revision:
                bases = {id_: base for id_, base in bases.items() if number_of(id_) in numbers}
        if bases:
            frames = view.backend.read(bases)
            refuse_conflicts(
                mismatches(bases, {id_: parse_unverified(frame).revision for id_, frame in frames.items()})
            )
        refuse_dangling(view, batch.drafts, batch.removals)
        return batch._replace(seen=newest, unreferred=batch.removals.keys())

    def _end(self) -> None:
        """It failed, or an interruption came: was it written?"""
        if self.receipt is None and self._offered is not None:
            with suppress(PerdureError):  # then nobody can tell, and others' changes are met as conflicts
                self.receipt = self._found(self._offered)
        self._offered = None
        if self.receipt is not None:
            self._learn()
        elif self._worklist is not None:
            self._worklist.forget_new()

    def _found(self, batch: Batch) -> Receipt | None:
        """The receipt of what an interruption kept from telling one; None if it is not written."""
        view = self.desk.view
        numbers = {number_of(id_) for id_ in (*(draft.id for draft in batch.drafts), *batch.removals)}
        wanted = batch.time, batch.note, batch.code
        before: int | None = None
        while commits := view.backend.commits(before, LOOKED_AT):
            for each in commits:
                if each.revision <= view.revision:
                    return None
                if (each.time, each.note, each.code) == wanted and numbers == set(each.numbers):
                    return Receipt(each.revision)
            before = commits[-1].revision
        return None

    def _learn(self) -> None:
        """It is written: the view learns it. The second time nothing dozes, which may have been changed since."""
        view, receipt, worklist = self.desk.view, self.receipt, self._worklist
        assert receipt is not None
        if worklist is not None:
            worklist.finish(receipt.revision)
            self._worklist = None
            worklist.rest()
        if self.removals:
            dismiss(view, self.removals)
        if receipt.revision == view.revision + 1:
            view.revision = receipt.revision
            if receipt.mark is not None:
                view.mark = receipt.mark
        else:  # what others wrote meanwhile, and what was merged with it, is read anew
            with suppress(StorageError, StoreBusy):  # the commit is there; the next load moves on
                view.move_forward()
        if self._merged or self.copies or self.drafts:
            for id_ in (*self._merged, *(copy[0] for copy in self.copies), *(draft.id for draft in self.drafts)):
                self._expire(id_)
        view.settle()

    def _expire(self, id_: str) -> None:
        """What this view holds of an object that was written past it is read anew at the next touch."""
        entry = self.desk.view.entry(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None and entry.state != GHOST:
            self.desk.view.let_go(entry, obj)
