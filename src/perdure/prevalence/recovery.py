"""Recovery: the newest good snapshot, then the journal, command by command.

- A torn tail of the newest journal file is left out, and said. Whatever else is wrong (a gap between files, damage
  before something good, a file that was there once) stops, with file and byte.
- A snapshot that is not good is said, and the one before it is taken, with the longer journal.
- Commands that raised when they were first carried out are passed over; the journal tells which, in the entry after
  theirs. One of the very last entry that raises now makes the recovery begin again without it; one before it did not
  raise then, so it is `ReplayDiffers`.
- Nothing is written here.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from perdure.errors import CannotLoad, CorruptJournal, PerdureError, ReplayDiffers
from perdure.prevalence.commands import Kind, find_kind, load_stored
from perdure.prevalence.entries import (
    ENTRY,
    FAILED,
    KEYWORDS,
    NAMES,
    NUMBER,
    RECORD,
)
from perdure.prevalence.folder import JOURNAL, SNAPSHOT, Folder
from perdure.prevalence.marks import failed_of, kinds_of
from perdure.prevalence.moments import Moment, local
from perdure.prevalence.pickles import load_short
from perdure.prevalence.reading import JournalFile, journal_files, read_journal
from perdure.prevalence.snapshots import Snapshot, newest_good
from perdure.records.seal import Key

Progress = Callable[[int, int], None]
LONG = 512  # commands between two reports of progress


class Recovered(NamedTuple):
    """A system as it was found."""

    root: Any
    sequence: int  # of the last command
    time: float  # of that command
    snapshot: int  # the snapshot that it began with
    previous: tuple[int, int]  # the newest journal file's first command, and the CRC of its last entry
    torn: tuple[str, int, int] | None  # file, byte from which it was left out, how many bytes
    newest: JournalFile | None
    said: list[str]  # what was not as it should be, and could be helped
    failed: frozenset[int]  # commands that raised
    discovered: frozenset[int]  # those of them of which the journal does not tell it
    seconds: float  # that the replay took


class Limits(NamedTuple):
    """How far to go."""

    until: int | None = None  # a command
    before: float | None = None  # a time: commands after it are left out


def recover(
    folder: Folder,
    key: Key | None,
    *,
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    progress: Progress | None = None,
    raised: frozenset[int] = frozenset(),
    strict: bool = False,
    oldest: bool = False,
) -> Recovered:
    """The system in that directory; with `strict` no command may raise that is not told to have raised.

    With `oldest` it begins with the oldest good snapshot, for a longer replay.
    Raises `CorruptJournal`, `UntrustedRecord`, `ClassNotFound`, `CannotLoad`, `ReplayDiffers`.
    """
    with _without_collecting():
        said: list[str] = []
        until = limits.until
        snapshots = newest_good(folder, key, until)
        for sequence, snapshot in reversed(list(snapshots)) if oldest else snapshots:
            if isinstance(snapshot, PerdureError):
                said.append(f"{snapshot.message} The one before it is used.")
                continue
            if limits.before is not None and snapshot.told.time > limits.before:
                continue
            replay = _Replay(folder, key, sequence, snapshot, limits, progress, strict)
            return replay.run(said, raised)
    raise CorruptJournal(
        f"There is no snapshot in {folder.directory} that is good"
        + (f" and not after command {until}." if until is not None else "."),
        hint="\n".join(said) or "Earlier ones are not kept; see keep= of prevalence.open.",
        path=folder.directory,
        offset=0,
    )


def replay_more(folder: Folder, key: Key | None, root: Any, sequence: int, seconds: float) -> tuple[int, float] | None:
    """Carry out what came after that command; gives the last one, and its time. None: the root has to be read anew."""
    files = list(journal_files(folder, key, sequence))
    failed = frozenset[int]().union(*(failed_of(file.data, file.found) for file in files))
    try:
        return _Replay(folder, key, sequence, None, Limits(), None, False).go_on(
            files, root, sequence, seconds, failed, 0
        )
    except _Raised:
        return None


class _Raised(Exception):
    """A command raised while it was replayed."""

    def __init__(self, sequence: int, kind: Kind, error: BaseException, path: str):
        super().__init__(sequence)
        self.sequence, self.kind, self.error, self.path = sequence, kind, error, path
        self.is_last = False  # whether no entry follows, in which it would be told that it raised


class _Replay:
    """One recovery from one snapshot."""

    def __init__(
        self,
        folder: Folder,
        key: Key | None,
        start: int,
        snapshot: Snapshot | None,
        limits: Limits,
        progress: Progress | None,
        strict: bool,
    ):
        self.folder, self.key, self.start, self.snapshot = folder, key, start, snapshot
        self.limits, self.progress = limits, progress
        self.strict = strict
        self.untold_from = float("inf")

    def run(self, said: list[str], raised: frozenset[int]) -> Recovered:
        files = list(journal_files(self.folder, self.key, self.start, self.limits.until))
        known = [*files, *self._following(files)]
        failed = told = raised.union(*(failed_of(file.data, file.found) for file in known))
        self.untold_from = self._untold_from(known)
        torn = None
        if files and files[-1].found.torn:
            last = files[-1]
            torn = (last.path, last.found.end, last.found.torn)
            said.append(
                f"The last write to {last.path} was cut off: {last.found.torn} bytes from byte {last.found.end} on are"
                f" left out; the last whole command is {last.found.last}."
            )
        while True:
            try:
                return self._attempt(files, failed, failed - told, torn, said)
            except _Raised as again:
                if self.strict or not again.is_last:
                    raise ReplayDiffers(
                        f"Command {again.sequence} ({again.kind.title}) raises {type(again.error).__name__} now:"
                        f" {again.error}. When it was first carried out, it did not.",
                        hint="Has its code changed, or does it ask for something that is not in the system?",
                        path=again.path,
                        sequence=again.sequence,
                    ) from again.error
                failed |= {again.sequence}
                said.append(
                    f"Command {again.sequence} ({again.kind.title}) raised {type(again.error).__name__} again, and"
                    " is left out, as it was then."
                )

    def _attempt(
        self,
        files: list[JournalFile],
        failed: frozenset[int],
        discovered: frozenset[int],
        torn: tuple[str, int, int] | None,
        said: list[str],
    ) -> Recovered:
        path = self.folder.numbered(SNAPSHOT, self.start)
        assert self.snapshot is not None
        root = self.snapshot.load(path)
        sequence, seconds = self.start, self.snapshot.told.time
        began = time.perf_counter()
        total = max(files[-1].found.last - self.start, 0) if files else 0
        sequence, seconds = self.go_on(files, root, sequence, seconds, failed, total)
        newest = files[-1] if files else None
        previous = (newest.head.first, newest.found.crc) if newest else (0, 0)
        took = time.perf_counter() - began
        return Recovered(root, sequence, seconds, self.start, previous, torn, newest, said, failed, discovered, took)

    def go_on(
        self, files: list[JournalFile], root: Any, sequence: int, seconds: float, failed: frozenset[int], total: int
    ) -> tuple[int, float]:
        """Carry out what comes after that command; gives the last one, and its time."""
        local.moment = moment = Moment(self)
        try:
            for file in files:
                sequence, seconds, is_over = self._replay(file, root, sequence, seconds, failed, moment, total)
                if is_over:
                    break
        except _Raised as raised:
            raised.is_last = raised.sequence >= self.untold_from
            raise
        finally:
            local.moment = None
        return sequence, seconds

    def _following(self, files: list[JournalFile]) -> list[JournalFile]:
        """The file after those that are wanted: it may tell which of their last commands raised."""
        if self.limits.until is None or not files:
            return []
        later = [number for number in self.folder.numbers(JOURNAL) if number > files[-1].head.first]
        try:
            return [read_journal(self.folder, self.key, self.folder.numbered(JOURNAL, number)) for number in later[:1]]
        except PerdureError:
            return []  # a system is often taken back just because what comes later is damaged

    def _untold_from(self, files: list[JournalFile]) -> float:
        """The first command of the very last entry: no entry follows that would tell that it raised."""
        written = [file for file in files if file.found.starts]
        if not written or self.folder.numbers(JOURNAL)[-1] != files[-1].head.first:
            return float("inf")
        number: int = ENTRY.unpack_from(written[-1].data, written[-1].found.starts[-1])[4]
        return written[-1].head.first + number

    def _replay(
        self,
        file: JournalFile,
        root: Any,
        done: int,
        seconds: float,
        failed: frozenset[int],
        moment: Moment,
        total: int,
    ) -> tuple[int, float, bool]:
        """Carry out the commands of one file after `done`; gives the last one, its time, whether it is over."""
        data, moment.seed = file.data, file.head.seed
        unpack, unpack_entry, head_size, entry_size = RECORD.unpack_from, ENTRY.unpack_from, RECORD.size, ENTRY.size
        calls = _Calls(file, root)
        call = calls.call
        until = file.found.last if self.limits.until is None else self.limits.until
        before = float("inf") if self.limits.before is None else self.limits.before
        sequence = file.head.first - 1
        report = done + LONG if self.progress else file.found.last + 1
        for start in file.found.starts:
            at = start + entry_size
            end = at + unpack_entry(data, start)[3]
            while at < end:
                length, kind, when = unpack(data, at)
                at += head_size
                payload = data[at : at + length]
                at += length
                if kind & NUMBER >= FAILED:
                    continue
                sequence += 1
                if sequence <= done:
                    continue
                if sequence > until or when > before:
                    return sequence - 1, seconds, True
                seconds = when
                if sequence in failed:
                    continue
                moment.sequence, moment.time = sequence, when
                try:
                    call[kind](payload)
                except Exception as error:  # noqa: BLE001 (the user's code runs here)
                    failure = calls.failure(error, sequence, kind, at - length)
                    raise failure from (failure.__cause__ or error)
                if sequence >= report and self.progress is not None:
                    self.progress(sequence - self.start, total)
                    report = sequence + LONG
        return max(sequence, done), seconds, False


class _Calls:
    """What carries out the commands of one file, by their kinds there."""

    def __init__(self, file: JournalFile, root: Any):
        self.file = file
        self.root = root
        self.kinds: dict[int, tuple[Kind, int]] = {}
        self.call: dict[int, Callable[[bytes], Any]] = _Missing(self._make)
        self._told = kinds_of(file.data, file.found)

    def _make(self, number: int) -> Callable[[bytes], Any]:
        """The function for one kind with its flags; a usual one takes a short way."""
        name, version, form = self._told[number & NUMBER]
        kind = find_kind(name, form)
        self.kinds[number] = (kind, version)
        root, target = self.root, kind.target
        if version == kind.version and form == "method" and not number & (KEYWORDS | NAMES):
            load = load_short
            return lambda short: target(root, *load(short))

        def call(short: bytes) -> Any:
            try:
                flags, value = load_stored(kind, version, number, short)
            except Exception as error:
                raise _Unloadable from error
            return kind.carry_out(root, flags, value)

        return call

    def failure(self, error: Exception, sequence: int, number: int, at: int) -> Exception:
        """What to raise for a command that did not end: it raised as it did then, or it cannot be called at all."""
        known = self.kinds.get(number)
        if known is not None and not isinstance(error, _Unloadable):
            return _Raised(sequence, known[0], error, self.file.path)
        cause = error.__cause__ if isinstance(error, _Unloadable) else error
        where = f"It is command {sequence} in {self.file.path}, at byte {at}."
        if isinstance(cause, PerdureError):
            cause.message = f"{cause.message} {where}"
            cause.details = {**cause.details, "offset": at, "sequence": sequence}
            return cause
        return CannotLoad(
            f"A command cannot be loaded: {type(cause).__name__}: {cause}. {where}",
            hint="Its class refused the stored arguments.",
            path=self.file.path,
            offset=at,
            sequence=sequence,
        )


class _Unloadable(Exception):
    """The arguments of a command cannot be made."""


class _Missing(dict[int, Any]):
    """A dictionary that makes what it lacks."""

    def __init__(self, make: Callable[[int], Any]):
        super().__init__()
        self._make = make

    def __missing__(self, key: int) -> Any:
        found = self[key] = self._make(key)
        return found


@contextmanager
def _without_collecting() -> Iterator[None]:
    """No garbage collection while millions of objects are made; what is there then is left alone by later ones."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
