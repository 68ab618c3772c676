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
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from perdure.errors import CorruptJournal, PerdureError, ReplayDiffers
from perdure.prevalence.folder import JOURNAL, SNAPSHOT, Folder
from perdure.prevalence.marks import failed_of
from perdure.prevalence.moments import Moment, local
from perdure.prevalence.reading import JournalFile, journal_files, place_of, read_journal
from perdure.prevalence.replaying import FileReplay, Raised
from perdure.prevalence.snapshots import Snapshot, newest_good
from perdure.records.seal import Key

Progress = Callable[[int, int], None]


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
    freeze: bool = False,
) -> Recovered:
    """The system in that directory; with `strict` no command may raise that is not told to have raised.

    With `oldest` it begins with the oldest good snapshot, for a longer replay; with `freeze` the garbage collector does
    not look at it any more.
    Raises `CorruptJournal`, `UntrustedRecord`, `ClassNotFound`, `CannotLoad`, `ReplayDiffers`.
    """
    with _without_collecting(freeze):
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
    failed = frozenset[int]().union(*(failed_of(file.data, file.head, file.found) for file in files))
    try:
        return _Replay(folder, key, sequence, None, Limits(), None, False).go_on(
            files, root, sequence, seconds, failed, 0
        )
    except Raised:
        return None


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
        failed = told = raised.union(*(failed_of(file.data, file.head, file.found) for file in known))
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
            except Raised as again:
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
        previous = place_of(newest) if newest else (0, 0)
        took = time.perf_counter() - began
        return Recovered(root, sequence, seconds, self.start, previous, torn, newest, said, failed, discovered, took)

    def go_on(
        self, files: list[JournalFile], root: Any, sequence: int, seconds: float, failed: frozenset[int], total: int
    ) -> tuple[int, float]:
        """Carry out what comes after that command; gives the last one, and its time."""
        local.moment = moment = Moment(self)
        until = sys.maxsize - 1 if self.limits.until is None else self.limits.until
        before = float("inf") if self.limits.before is None else self.limits.before
        start, progress = self.start, self.progress
        report = None if progress is None else lambda done: progress(done - start, total)
        try:
            for file in files:
                replay = FileReplay(file, root, moment, failed, until, before, report, self.key)
                sequence, seconds = replay.run(sequence, seconds)
                if replay.is_over:
                    break
        except Raised as raised:
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
        written = [file for file in files if file.found.crc]
        if not written or self.folder.numbers(JOURNAL)[-1] != files[-1].head.first:
            return float("inf")
        return written[-1].found.last_entry


@contextmanager
def _without_collecting(freeze: bool) -> Iterator[None]:
    """No garbage collection while millions of objects are made; what is there then is left alone by later ones."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
        if freeze:
            gc.freeze()
    finally:
        if was_on:
            gc.enable()
