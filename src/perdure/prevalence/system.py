"""A prevalent system: one root in memory, a journal of commands before it, snapshots beside it.

- Order of a command: pickled, and its copy made; journaled; made durable; carried out with the copy; answered. What
  fails before it is journaled has left nothing.
- One lock (`_work`) is held while commands are journaled and carried out, while a fork is made and while an undo reads
  the state again. Reading the root takes none.
- A command that raises is undone, and the journal is told so with the next entry, or at the end.
- After an error whose outcome nobody can know, nothing more is taken; what is in memory can still be read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from perdure.errors import ClockWentBack, PerdureError, PrevalenceError, StoreClosed, WriterDeposed
from perdure.prevalence.changes import Changes
from perdure.prevalence.commands import SYSTEMS, Kind, kind_of_method, kind_of_object
from perdure.prevalence.ends import ALIVE, leave_closed
from perdure.prevalence.entries import ALONE, MOST_KINDS, pack_record
from perdure.prevalence.folder import DEPOSED, Folder, Standing
from perdure.prevalence.journal import Journal, MarkMet
from perdure.prevalence.marks import encode_failed, encode_kind
from perdure.prevalence.moments import Moment, local
from perdure.prevalence.recovery import Limits, Recovered, recover
from perdure.prevalence.serving import Serving, deposed_error
from perdure.prevalence.settings import Every, Settings
from perdure.prevalence.snapshotting import TakesSnapshots
from perdure.prevalence.taking import Taking
from perdure.prevalence.tasting import Taster
from perdure.prevalence.tracking import changes_of
from perdure.prevalence.turns import Ticket, Turns
from perdure.prevalence.undo import put_state
from perdure.prevalence.watching import Watch
from perdure.records.seal import Key

Root = TypeVar("Root")


ATTEMPTS = 3  # to put the state back while interruptions come


class System(TakesSnapshots, Generic[Root]):
    """A system that is open for writing; `prevalence.open` gives it. `root` is read as any other object."""

    _journal: Journal

    def __init__(self, folder: Folder, key: Key, recovered: Recovered, settings: Settings, lock: contextlib.ExitStack):
        self.root: Root = recovered.root
        self.said = recovered.said  # what was not as it should be when it was opened, and could be helped
        self.directory = folder.directory
        self._folder = folder
        self._key = key
        self._settings = settings
        self._lock = lock
        self._work = threading.RLock()
        self._turns = Turns(self._process)
        self._steady: list[int] = []  # the thread that is in a block of `steady`, for each that it is in
        newest = recovered.newest
        epoch = max(folder.standing().epoch, newest.head.epoch if newest is not None else 0)
        self._journal = Journal(
            folder,
            key,
            recovered.sequence + 1,
            recovered.previous,
            code=self._code,
            now=settings.clock.now,
            step=0 if settings.durability == "none" else settings.step,
            file_bytes=settings.file_bytes,
            epoch=epoch,
            compress=settings.compress,
        )
        self._sequence = recovered.sequence
        self._time = recovered.time
        self._moment = Moment(self)
        self._numbers: dict[Kind, int] = {}
        self._raised = set(recovered.discovered)  # not told in the journal yet
        self._modules: set[str] = set()
        self._snapshot = recovered.snapshot
        self._snapshot_bytes = 0  # of journal when the last snapshot was made
        self._spent = recovered.seconds  # carrying out what came since
        self._taking: Taking | None = None
        self._closed = False
        self._always = settings.durability == "always"
        self._watch = Watch(settings.time_limit) if settings.time_limit else None
        self._taster = Taster(self.root, self._watch) if settings.food_taster else None
        self._serving: Serving | None = None
        if settings.serve is not None:
            try:
                self._serving = Serving(folder, key, settings.serve, epoch, self._sequence, self._deposed)
            except PerdureError:
                lock.close()
                raise
            self._serving.done(self._sequence, self._raised)
        SYSTEMS[id(self.root)] = self
        ALIVE.add(self)
        if isinstance(settings.durability, Every):
            self._ending = threading.Event()
            self._syncing = threading.Thread(target=self._sync_often, name="perdure prevalence sync", daemon=True)
            self._syncing.start()

    # -- what users call -------------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The number of the last command that was carried out; the first one has 1."""
        return self._sequence

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def address(self) -> str:
        """Where standbys are served, "host:port"; "" if they are not."""
        return "" if self._serving is None else self._serving.address

    def execute(self, command: Any, /, *args: Any, **keywords: Any) -> Any:
        """Carry out an object with `apply(root)`, or a method under `@command` with its arguments; give its answer.

        What the command raises comes out, and its changes are undone. Raises `CannotPickle`, `DiskFull` and so on with
        nothing journaled, `OutcomeUnknown` if the disk failed in the middle.
        """
        kind, args = _called(command, args)
        return self.submit(kind, args, keywords)

    async def execute_async(self, command: Any, /, *args: Any, **keywords: Any) -> Any:
        """The same for asyncio: the loop goes on meanwhile. Tasks that wait share one sync, and one thread for all."""
        import asyncio

        self._refuse_here("execute_async")
        kind, args = _called(command, args)
        loop = asyncio.get_running_loop()
        waiting: Any = loop.create_future()

        def told(ticket: Ticket) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(lambda: waiting.done() or waiting.set_result(None))

        ticket = self._ticket(kind, args, keywords, told)
        self._turns.take_later(ticket)
        await waiting
        return ticket.outcome()

    def sync(self) -> None:
        """Make durable what was carried out so far; with durability "always" it is already."""
        with self._work:
            self._journal.sync()

    @contextmanager
    def steady(self) -> Iterator[Root]:
        """No command is carried out inside the block, and none is taken there: for reading what belongs together."""
        with self._work:
            before = self._steady
            try:
                self._steady = [*before, get_ident()]
                yield self.root
            finally:
                self._steady = before

    def check_replay(self) -> None:
        """Replay the journal beside the system and compare; `ReplayDiffers` names the first command that differs.

        No command is carried out meanwhile; it takes the memory of a second system.
        """
        from perdure.prevalence.determinism import compare_with_replay  # only who asks pays for it

        self._refuse_inside("check_replay")
        with self._work:
            compare_with_replay(self._folder, self._key, self.root, self._sequence)

    def close(self) -> None:
        """Make everything durable, and let another process write; calling it twice is fine."""
        if self._closed:
            return
        self._refuse_inside("close")
        taking = self._taking
        if taking is not None:
            taking.done.wait()
        closed = StoreClosed(f"{self.directory} was closed.", hint="Open it again.")
        self._turns.refuse(closed)
        self._turns.end()
        if isinstance(self._settings.durability, Every):
            self._ending.set()
            self._syncing.join()
        with self._work:
            self._closed = True
            try:
                self._end_journal()
            finally:
                if self._serving is not None:
                    self._serving.close(*self._journal.place)
                self._lock.close()
                ALIVE.discard(self)
                leave_closed(self.root, closed)

    def __enter__(self) -> System[Root]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<System {self.directory} after command {self._sequence}>"

    def forked(self, error: PrevalenceError) -> None:
        """Be of no use in this process, which is a fork of the one that writes."""
        self._turns.forked(error)
        if self._serving is not None:
            self._serving.forget()
        self._work = threading.RLock()
        self._closed = True

    # -- one command -----------------------------------------------------------------------------------------

    def submit(self, kind: Kind, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Carry out one command, and give its answer."""
        if local.moment is not None or self._steady:
            self._refuse_here("execute")
        ticket = self._ticket(kind, args, keywords)
        self._turns.take(ticket)
        if ticket.error is not None:
            return ticket.outcome()
        return ticket.result

    def _refuse_here(self, what: str) -> None:
        """Raise where a command would wait for what only ends after it."""
        self._refuse_inside(what)
        if get_ident() in self._steady:
            raise PrevalenceError(
                f"{what}() was called inside a block of steady(), in which no command is carried out.",
                hint="Call it after the block.",
            )

    def _ticket(
        self,
        kind: Kind,
        args: tuple[Any, ...],
        keywords: dict[str, Any],
        notify: Callable[[Ticket], None] | None = None,
    ) -> Ticket:
        stored = kind.store(args, keywords)
        return Ticket(kind, stored, kind.copied(stored), notify)

    def _process(self, group: list[Ticket]) -> None:
        """Journal the commands of a group together, make them durable, carry them out."""
        serving, unheld = self._serving, None
        with self._work:
            try:
                if serving is not None:
                    serving.ready()
                now = self._next_time()
                if self._taster is not None:
                    group = self._taster.taste(group, self._sequence, now, self._begin(group))
                    if not group:
                        return
                self._record(group, now)
                if serving is not None:
                    unheld = serving.wait(self._journal.following - 1)
            except PerdureError as error:
                for ticket in group:
                    ticket.error = ticket.error or error
                return
            self._carry_out(group, now)
            if serving is not None:
                serving.done(self._sequence, self._raised)
            for ticket in group if unheld is not None else ():
                ticket.error = ticket.error or unheld
        self._snapshot_if_due()

    def _next_time(self) -> float:
        now = self._settings.clock.now()
        if now >= self._time:
            return now
        if self._time - now > self._settings.clock_tolerance:
            raise ClockWentBack(
                f"The clock of this machine is {self._time - now:.0f} seconds behind the last command of"
                f" {self.directory}; nothing was journaled.",
                hint="Set the clock right; or open the system with a larger clock_tolerance, and its time stands still"
                " until the clock is there.",
                path=self.directory,
            )
        return self._time

    def _begin(self, group: list[Ticket]) -> bytes:
        """Have a journal file with room; gives the seed of its commands."""
        journal = self._journal
        if journal.is_full:
            self._tell_raised()
            journal.rotate()
        if journal.is_new:
            self._numbers.clear()
            self._modules.update(ticket.kind.module for ticket in group)
        return journal.begin()

    def _record(self, group: list[Ticket], now: float) -> None:
        try:
            self._write(group, now)
        except MarkMet:
            self._tell_raised()
            self._journal.rotate()
            self._write(group, now)
        if self._always:
            self._journal.sync()

    def _write(self, group: list[Ticket], now: float) -> None:
        seed, numbers = self._begin(group), self._numbers
        marks = [encode_failed(self._raised, seed)] if self._raised else []
        parts: list[bytes] = []
        new: list[Kind] = []
        for ticket in group:
            kind = ticket.kind
            if kind not in numbers:
                numbers[kind] = len(numbers)
                new.append(kind)
                marks.append(encode_kind(numbers[kind], kind.name, kind.version, kind.form))
        alone = ALONE if len(group) == 1 and not marks else 0
        journal = self._journal
        for place, ticket in enumerate(group):
            flags, short = journal.packed(ticket.stored, place)
            parts += (pack_record(len(short), numbers[ticket.kind] | flags | alone, now), short)
        try:
            if len(numbers) > MOST_KINDS:
                raise PrevalenceError(f"One journal file has at most {MOST_KINDS} kinds of commands.")
            journal.write(b"".join(marks + parts), len(group))
        except (PerdureError, MarkMet):
            for kind in new:
                del numbers[kind]
            raise
        self._raised.clear()
        if self._serving is not None:
            self._serving.written(*self._journal.place, self._journal.following - 1)

    def _carry_out(self, group: list[Ticket], now: float) -> None:
        moment, watch, root = self._moment, self._watch, self.root
        moment.time, moment.seed = now, self._journal.seed
        began = time.perf_counter()
        sequence = self._sequence
        self._time = now
        try:
            local.moment = moment
            for ticket in group:
                sequence += 1
                moment.sequence = sequence
                noted = changes_of(root)
                try:
                    call, stored = ticket.kind.carry_out_noting, ticket.stored
                    if watch is None:
                        ticket.result = call(root, stored.flags, ticket.value, noted)
                    else:
                        ticket.result = watch.run(ticket.kind, sequence, call, root, stored.flags, ticket.value, noted)
                except BaseException as error:  # noqa: BLE001 (whatever it raised is its outcome)
                    self._raised.add(sequence)
                    ticket.error = error
                    is_noted = isinstance(error, Exception) and not noted.lost
                    undo = self._take_back if is_noted else self._read_again
                    refusal = undo(ticket, sequence, noted)
                    if refusal is not None:
                        for each in group[group.index(ticket) + 1 :]:
                            each.error = refusal
                        break
                ticket.value = None
                self._sequence = sequence
        finally:
            local.moment = None
        self._spent += time.perf_counter() - began

    def _take_back(self, ticket: Ticket, sequence: int, noted: Changes) -> PrevalenceError | None:
        """Undo what a command that raised has changed, change by change."""
        try:
            noted.take_back()
        except BaseException as error:  # noqa: BLE001 (a key of the user's class, say, or an interruption)
            ticket.error = ticket.error if isinstance(error, Exception) else error
            return self._read_again(ticket, sequence, noted)
        if self._taster is not None:
            self._taster.renew()
        return None

    def _read_again(self, ticket: Ticket, sequence: int, _noted: Changes) -> PrevalenceError | None:
        """Have the state from before a command that raised; if that cannot be had, nothing more is taken."""
        local.moment = None
        limits, raised = Limits(until=sequence - 1), frozenset(self._raised)
        for left in reversed(range(ATTEMPTS)):
            try:
                put_state(self.root, recover(self._folder, self._key, limits=limits, raised=raised, strict=True).root)
                if self._taster is not None:
                    self._taster.renew()
                local.moment = self._moment
                return None
            except BaseException as error:  # noqa: BLE001 (half a change must never be built upon)
                if left and not isinstance(error, Exception):
                    ticket.error = error  # an interruption, in the middle of it
                    continue
                refusal = PrevalenceError(
                    f"Command {sequence} raised, and its changes could not be undone: {error}",
                    hint="Close the system and open it again.",
                    path=self.directory,
                )
                self._turns.refuse(refusal)
                return refusal
        return None

    def _deposed(self, epoch: int, who: str) -> None:
        """A standby was promoted: take nothing more, and remember that."""
        with self._work:
            self._turns.refuse(deposed_error(self.directory, epoch))
            self._folder.note_standing(Standing(DEPOSED, epoch, who))

    # -- journal and snapshots -------------------------------------------------------------------------------

    def _tell_raised(self) -> None:
        """Say in the journal file that is written which commands raised: none of the others did."""
        if self._journal.is_open:
            self._journal.write(encode_failed(self._raised, self._journal.seed), 0)
            self._raised.clear()

    def _end_journal(self) -> None:
        try:
            if not self._journal.is_broken:
                # What nobody carried out to its end, because of an interruption, got an error.
                self._raised.update(range(self._sequence + 1, self._journal.following))
                self._tell_raised()
        except WriterDeposed:
            if self._journal.is_behind:  # else nothing is lost by it
                raise
        finally:
            self._journal.close()

    def _sync_often(self) -> None:
        every = self._settings.durability
        assert isinstance(every, Every)
        while not self._ending.wait(every.seconds):
            with self._work:
                try:
                    self._journal.sync()
                except PerdureError as error:
                    self._turns.refuse(error)
                    return


def _called(command: Any, args: tuple[Any, ...]) -> tuple[Kind, tuple[Any, ...]]:
    if not isinstance(command, type) and hasattr(command, "__perdure_command__") and hasattr(command, "__qualname__"):
        return kind_of_method(command), args
    return kind_of_object(command), (command, *args)
