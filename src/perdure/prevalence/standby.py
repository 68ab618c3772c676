"""A standby: another process that has the journal durably as well, carries it out, is read, and can be promoted.

- What comes is verified and made durable before it is acknowledged, and carried out only when the writer has done so.
- It begins with what it has itself. Where that does not go on in the writer's journal, it gets the newest snapshot, and
  what it had goes into a folder `replaced`. While that is done it is marked as not whole, and cannot be promoted.
- Its root stays the same object for ever; `steady()` is for reading several things that belong together.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perdure.errors import PerdureError, PrevalenceError, ReadOnly, ReplayDiffers, StandbyAway, StoreClosed
from perdure.keys import KeyRing
from perdure.prevalence.commands import SYSTEMS, Kind
from perdure.prevalence.copies import Copy, Entry
from perdure.prevalence.ends import ALIVE, leave_closed
from perdure.prevalence.entries import Found
from perdure.prevalence.folder import FILLING, Folder, Standing
from perdure.prevalence.lines import listening
from perdure.prevalence.marks import failed_of
from perdure.prevalence.moments import Moment, local
from perdure.prevalence.promoting import depose, name_here, not_promoted, promoted, refuse_unfit
from perdure.prevalence.receiving import Receiver
from perdure.prevalence.recovery import Recovered, recover
from perdure.prevalence.replaying import FileReplay, Raised
from perdure.prevalence.serving import checked_serve
from perdure.prevalence.settings import Settings
from perdure.prevalence.snapshotting import TakesSnapshots
from perdure.prevalence.system import System
from perdure.prevalence.undo import put_state
from perdure.records.seal import Key


class Standby(TakesSnapshots):
    """A system that follows its writer; `prevalence.standby` gives it."""

    _journal: Copy

    def __init__(self, folder: Folder, given: Key | None, of: str, settings: Settings, lock: contextlib.ExitStack):
        self.root: Any = None  # until the first snapshot is here
        self.said: list[str] = []
        self.error: PerdureError | None = None  # why it does not follow any more
        self.directory = folder.directory
        self._folder, self._settings, self._lock = folder, settings, lock
        self._work = threading.RLock()
        self._news = threading.Condition(self._work)
        self._moment = Moment(self)
        self._sequence, self._time, self._base = 0, 0.0, 0
        self._modules: set[str] = set()
        self._taking = None
        self._snapshot = self._snapshot_bytes = 0
        self._spent = 0.0
        self._is_closed = False
        standing = folder.standing()
        self._standing = Standing(standing.role, standing.epoch, of)
        if folder.exists() and standing.role != FILLING:
            folder.identify()
            self._key = given or KeyRing(files=folder.files).require(folder.key_id)
            self.begin(self._key)
        self._receiver = Receiver(self, folder, given, self._standing)
        ALIVE.add(self)
        self._receiver.start()

    # -- what users call --------------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The number of the last command that was carried out here."""
        return self._sequence

    @property
    def is_connected(self) -> bool:
        """Whether the writer is there."""
        return self._receiver.is_connected

    @contextmanager
    def steady(self) -> Iterator[Any]:
        """Nothing is carried out inside the block."""
        with self._work:
            yield self.root

    def wait_for(self, sequence: int = 0, timeout: float = 60.0) -> None:
        """Wait until that command is carried out here, at least the first snapshot is; `StandbyAway` after `timeout`.

        Raises the error for which it does not follow any more.
        """
        with self._news:
            self._news.wait_for(lambda: self._is_there(sequence) or self.error or self._is_closed, timeout)
            if self._is_there(sequence):
                return
            if self.error is not None:
                raise self.error
        trouble = self._receiver.trouble
        raise StandbyAway(
            f"{self.directory} did not get command {sequence} from {self._standing.of} within {timeout:g} seconds"
            + (f": {trouble}" if trouble else "."),
            path=self.directory,
            sequence=sequence,
        ) from trouble

    def _is_there(self, sequence: int) -> bool:
        return self.root is not None and self._sequence >= sequence

    def submit(self, kind: Kind, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Refuse a command."""
        raise ReadOnly(
            f"{self.directory} is a standby; {kind.title} would change it.",
            hint="Have the process that writes carry it out, or promote this one.",
            path=self.directory,
        )

    def execute(self, command: Any, /, *args: Any, **keywords: Any) -> Any:
        """Refuse a command."""
        raise ReadOnly(f"{self.directory} is a standby.", path=self.directory)

    def promote(
        self,
        *,
        serve: str | None = None,
        sync: bool = False,
        away: str = "refuse",
        patience: float = 10.0,
    ) -> System[Any]:
        """Become the writer: the old one is told to stop, and what it still has is taken over; gives the open system.

        A writer that does not answer is told when it comes back; `.said` names it. This standby is closed, the root
        stays the same object. Raises what made it stop following, `PrevalenceError` if it is not whole.
        """
        settings = self._settings._replace(serve=checked_serve(serve, sync, away, patience))
        if self.error is not None:
            raise self.error
        refuse_unfit(self._receiver.standing, self.directory)
        if self._is_closed:
            raise StoreClosed(f"{self.directory} was closed.", hint="Open it again.")
        if self.root is None:
            raise PrevalenceError(f"{self.directory} has nothing to be promoted with.", path=self.directory)
        if serve is not None:
            listening(serve, 1).close()  # rather before the old writer is told than after it
        fenced, refusal = self._depose(self._receiver.standing.epoch + 1, patience)
        if refusal:
            raise not_promoted(self.directory, refusal)
        self._let_go()
        standing = self._receiver.standing
        with self._work:
            self._allowed = sys.maxsize
            try:
                self._carry_out()
            except ReplayDiffers:  # the last commands: nobody told that they raised
                self.begin(self._key, frozenset(self._known | self._failed))
            copy, raised = self._journal, frozenset(self._untold)
            copy.close()
            recovered = Recovered(
                self.root, self._sequence, self._time, self._snapshot, copy.previous(), None, None, self.said,
                frozenset(self._known), raised, self._spent,
            )  # fmt: skip
        return promoted(self._folder, self._key, standing, recovered, settings, self._lock, fenced=fenced)

    def _depose(self, epoch: int, patience: float) -> tuple[bool, str]:
        """Have the writer stop: it sends the rest, or is told from elsewhere. Whether it knows; why it refuses."""
        receiver = self._receiver
        if receiver.ask_to_depose(epoch, name_here(self._folder), patience):
            return True, ""
        if receiver.refusal:
            return False, receiver.refusal
        return depose(receiver.standing.of, self._folder, self._key, epoch)

    def close(self) -> None:
        """Follow no more; calling it twice is fine."""
        if not self._is_closed:
            self._let_go()
            self._lock.close()
            if self.root is not None:
                leave_closed(self.root, StoreClosed(f"{self.directory} was closed.", hint="Open it again."))

    def _let_go(self) -> None:
        """End all that this standby does, and keep the lock."""
        self._receiver.end()
        taking = self._taking
        if taking is not None:
            taking.done.wait()
        with self._news:
            self._is_closed = True
            self._news.notify_all()
            if self.root is not None:
                self._journal.close()
        ALIVE.discard(self)

    def __enter__(self) -> Standby:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Standby {self.directory} after command {self._sequence}>"

    def forked(self, _error: PrevalenceError) -> None:
        """Be of no use in this process, which is a fork."""
        self._work = threading.RLock()
        self._news = threading.Condition(self._work)
        self._is_closed = True
        self._receiver.forget()

    # -- what the receiver calls ------------------------------------------------------------------------------

    def begin(self, key: Key, raised: frozenset[int] = frozenset()) -> None:
        """Have the system as it is in the directory, in place of what there was before."""
        with self._news:
            if self.root is not None:
                self._journal.close()
            found = recover(self._folder, key, raised=raised, freeze=self.root is None and self._settings.freeze)
            if found.torn is not None:
                self._folder.files.truncate(found.torn[0], found.torn[1])
                self._folder.files.sync(found.torn[0])
            self._key = key
            self._take_over(found)
            self._journal = Copy(self._folder, key, found.sequence, found.newest)
            self._replay: FileReplay | None = None
            if found.newest is not None:
                self._replay = self._replay_of(found.newest)
                self._replay.run(self._sequence, self._time)  # it is done: only what numbers mean is learnt
            self._pending: list[Entry] = []
            self._allowed = self._sequence
            self._news.notify_all()

    def _take_over(self, found: Recovered) -> None:
        if self.root is None:
            self.root = found.root
            SYSTEMS[id(self.root)] = self
        else:
            put_state(self.root, found.root)
        self._sequence, self._time, self._base = found.sequence, found.time, found.snapshot
        self._snapshot, self._spent = found.snapshot, found.seconds
        self._known, self._failed = set(found.failed), set[int]()
        self._untold = set(found.discovered)

    @property
    def copy(self) -> Copy | None:
        """Its journal, if it has one."""
        return self._journal if self.root is not None else None

    def received(self, entries: list[Entry]) -> None:
        """Carry these out when they may be."""
        with self._news:
            self._pending += entries
            for entry in entries:
                if b"raised" in entry.data:
                    whole = Found(len(entry.data), 0, 0, 0, 0)
                    self._learn(failed_of(entry.data, entry.file.head._replace(end=0), whole))
            self._carry_out()

    def told(self, done: int, untold: list[int]) -> None:
        """Carry out what the writer has carried out; of that, `untold` raised, and the journal does not say so yet."""
        with self._news:
            self._untold = set(untold)
            self._learn(self._untold)
            self._allowed = done
            self._carry_out()
            self._news.notify_all()
        if self._pending == []:
            self._snapshot_if_due()

    def fail(self, error: PerdureError) -> None:
        """Follow no more."""
        with self._news:
            self.error = error
            self._news.notify_all()

    def _learn(self, raised: set[int]) -> None:
        """Know that these commands raised; if one of them was carried out here after a start, take it back."""
        self._failed |= {number for number in raised if number > self._sequence}
        late = {number for number in raised - self._known if self._base < number <= self._sequence}
        if late:
            self.begin(self._key, frozenset(self._known | late))

    def _carry_out(self) -> None:
        """Carry out the entries that the writer is done with."""
        began = time.perf_counter()
        count = 0
        while count < len(self._pending) and self._pending[count].last <= self._allowed:
            count += 1
        ready, self._pending = self._pending[:count], self._pending[count:]
        local.moment = self._moment
        try:
            for entry in ready:
                if self._replay is None or self._replay.file.head != entry.file.head:
                    self._replay = self._replay_of(entry.file)
                    self._replay.begin(self._sequence, self._time)
                self._sequence, self._time = self._replay.go_on([entry.data[4:]])
        except Raised as error:
            raise ReplayDiffers(
                f"Command {error.sequence} ({error.kind.title}) raises {type(error.error).__name__} here:"
                f" {error.error}. Where it was written, it did not.",
                hint="Does the standby have the same program, and do its commands ask for nothing else?",
                path=error.path,
                sequence=error.sequence,
            ) from error.error
        finally:
            local.moment = None
        past = {number for number in self._failed if number <= self._sequence}
        self._known |= past
        self._failed -= past
        self._spent += time.perf_counter() - began

    def _replay_of(self, file: Any) -> FileReplay:
        return FileReplay(file, self.root, self._moment, self._failed, sys.maxsize - 1, float("inf"), None, self._key)
