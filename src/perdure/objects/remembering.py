"""The face of a store for what it remembers: commits, versions, the past, undo, packing, and work on all of it.

- What is looked at or taken back is named by a revision, or by a time.
- Work on a whole store is done above this floor; the front door says where (`WORK`).
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from typing import Any, cast
from weakref import WeakSet

from perdure.backends.base import Backend
from perdure.backends.past import PastBackend
from perdure.clock import Clock
from perdure.errors import InvalidArgument, PerdureError
from perdure.ids import parse_id
from perdure.objects.history import Keep, ObjectVersion, commits_between, revision_at, versions_of
from perdure.objects.reports import BackedUp, Collected, Packed, Problem, Repaired
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.undoing import undo
from perdure.objects.views.view import View
from perdure.pickling.own.limits import LIMITS, Limits
from perdure.records.seal import Key
from perdure.records.values import Commit

RECENT = 60.0  # seconds for which a store without history keeps what was replaced, for who is reading it

WORK: dict[str, str] = {}  # name of a function that takes a store -> the module that it is in
_OPEN: WeakSet[HistoryFace] = WeakSet()  # the stores of this process

Progress = Callable[[int, int], None]  # called with what is done, and of how many


class HistoryFace:
    """What a `Store` has for its history."""

    backend: Backend
    desk: Callable[[], Desk]
    _require_open: Callable[[], None]
    _key: Key | None
    _trust_all: bool
    _limits: Limits
    _clock: Clock
    _views: WeakSet[View]
    _over: Callable[[Backend], Any]  # a store like this one over another backend

    def transactions(self, limit: int | None = None, *, before: int | None = None) -> builtins.list[Commit]:
        """Commits, newest first, below revision `before` only; at most `limit`.

        Each has `.revision`, `.time` (seconds since 1970, UTC), `.note`, `.code`, `.numbers`. Of commits that are
        older than what was packed only those are there which wrote something that is kept.
        """
        self._require_open()
        return commits_between(self.backend, before, limit)

    def history(self, id_: str, limit: int | None = None, *, before: int | None = None) -> builtins.list[ObjectVersion]:
        """Every kept version of an object, newest first, below revision `before` only; at most `limit`.

        Raises `NotFound` for an id that never was, `UntrustedRecord`, `CorruptRecord`.
        """
        self._require_open()
        return versions_of(
            self.backend, parse_id(id_), self._key, self._limits, trust_all=self._trust_all, limit=limit, before=before
        )

    def inspect(self, id_: str) -> Any:
        """What is in the record of that id, as it is stored, without loading anything of it; see `perdure.inspect`.

        Raises `NotFound`, `CorruptRecord`, `NewerFormat`.
        """
        self._require_open()
        from perdure.objects.looking import inspect_record  # here: most programs never look

        return inspect_record(self.backend, parse_id(id_), self._key, limits=self._limits)

    def at(self, when: int | datetime) -> Any:
        """The store as it was at a revision or a time, for reading only; a `Store` with views of its own.

        A time means the newest commit that is not later, before the first one the empty store; without a zone it is
        local time. Writing raises `ReadOnly`; closing it leaves this store open; queries look through all records.
        Raises `NotFound` for a revision that is still to come, `SnapshotTooOld` for one that was packed.
        """
        self._require_open()
        return self._over(PastBackend(self.backend, revision_at(self.backend, when)))

    def undo(self, revision: int, *, note: str = "") -> int:
        """Take back the commit that made `revision`; gives the revision of the undo, which can be undone as well.

        What it changed gets its state from before, what it made is removed, what it removed comes back under its id.
        Objects that are loaded follow. Raises `ConflictError` where a later commit changed one of the objects
        (`.revisions`: id -> (revision, the later one)) or removed what one that comes back refers to, `StillReferred`
        where others refer to what the commit made, `SnapshotTooOld` where the state before is not kept any more,
        `NotFound` for no such commit, `TransactionError` inside a transaction.
        """
        return undo(self.desk(), revision, note)

    def pack(self, keep: Keep = 1) -> Packed:
        """Forget what is older than what is to be kept; what is there now always stays. Gives what was forgotten.

        `keep` is a timedelta (what could be seen within that time), a datetime (since then), or a number of revisions
        (the newest so many). What a transaction that is open in this process sees stays as well; other processes'
        get `SnapshotTooOld`. Others go on meanwhile; when it is cut off, the next call does the rest.
        """
        self._require_open()
        return cast(Packed, _work("pack")(self, keep, self._views_of_process()))

    def backup(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> BackedUp:
        """Write the store as it is now, with its history, into one file; what is in that already is not written again.

        Others may go on with the store meanwhile. The key is not in the file, only its id. `perdure.restore` makes a
        store of it. Raises `CorruptRecord` or `UntrustedRecord` for a record that would be no good in a backup,
        `CorruptBackup` for a file that was changed or is none, `InvalidArgument` for another store's, `SnapshotTooOld`
        where the store is packed all the time; the file is then as it was.
        """
        self._require_open()
        return cast(BackedUp, _work("backup")(self, path, progress=progress))

    def check(self) -> builtins.list[Problem]:
        """Everything that is wrong with the store, best an empty list; nothing is unpickled or changed."""
        return cast("builtins.list[Problem]", _work("check")(self))

    def repair(
        self,
        *,
        source: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Repaired:
        """Put right what can be put right without guessing; no healthy record is touched, and none is removed.

        Indexes and the counter are made right by what the records tell. Damaged or missing versions of objects, and
        large pieces, come back from the backup `source`, if that has them; what was in their place is kept in `folder`
        (of a directory or a SQLite file, one beside it, if none is named). With `dry_run` nothing is written.
        """
        return cast(Repaired, _work("repair")(self, source=source, folder=folder, dry_run=dry_run, progress=progress))

    def collect(self, *, dry_run: bool = False, progress: Progress | None = None) -> Collected:
        """Remove what nothing refers to any more: neither roots, nor what was saved by name or by `save`.

        With `dry_run` nothing is removed. Raises `TransactionError` inside a transaction, `ConflictError` if others
        commit all the time; what was removed by then stays removed.
        """
        return cast(Collected, _work("collect")(self, dry_run=dry_run, progress=progress))

    def forget(self, id_: str, *, backups: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Remove an object for good: also from history, and from the files; its id is never given again.

        `backups` are files that `backup` wrote of this store: they are brought up to date, and written anew without it.
        For a `Source` (the text of a module) the code records tell afterwards that it was erased. Raises `NotFound`
        for an id that never was, `StillReferred` naming what refers to the object, `TransactionError` inside a
        transaction.
        """
        _work("forget")(self, id_, backups)

    def _views_of_process(self) -> builtins.list[View]:
        """The views of every store of this process that is the same one."""
        store = self.backend.describe().store
        views = builtins.list(self._views)
        for other in builtins.list(_OPEN):
            if other is not self:
                with suppress(PerdureError):  # what cannot be read any more has nothing to lose
                    if other.backend.describe().store == store:
                        views += other._views
        return views

    def _remember(self) -> None:
        """Be counted among the open stores."""
        _OPEN.add(self)


def seconds_kept(history: str) -> float | None:
    """For how many seconds replaced versions are kept at least; None: until they are packed."""
    if history not in ("on", "off"):
        raise InvalidArgument(f"history is 'on' or 'off', not {history!r}")
    return RECENT if history == "off" else None


def checked_limits(limits: Limits | None) -> Limits:
    """What records without a good seal may take. Raises `InvalidArgument` for what are no limits."""
    if limits is not None and not isinstance(limits, Limits):
        raise InvalidArgument(f"limits is a perdure.Limits, not {limits!r:.60}.", hint="Write limits=Limits(depth=50).")
    return LIMITS if limits is None else limits


def _work(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(WORK[name]), name)
    return function
