"""Carrying out the commands of one journal file, one after the other, as fast as Python goes.

- The file is split by its mark; of an entry with one command and plain arguments nothing is looked at but its kind.
- What raises is told with its number and place; whether it may raise is not decided here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence, Set
from typing import Any

from perdure.errors import CannotLoad, PerdureError
from perdure.prevalence.commands import LATE, METHOD, Kind, find_kind, late_error, load_stored
from perdure.prevalence.entries import (
    ALONE,
    DEFINES,
    ENTRY,
    FAILED,
    KEYWORDS,
    NAMES,
    NUMBER,
    PACKED,
    RECORD,
    mark_of,
)
from perdure.prevalence.marks import decode_kind
from perdure.prevalence.moments import Moment
from perdure.prevalence.packing import Unpacker
from perdure.prevalence.pickles import load_short
from perdure.prevalence.reading import JournalFile
from perdure.records.seal import TAG_SIZE, Key

LONG = 512  # commands between two reports of progress
_AT = ENTRY.size - 4  # where the first record of an entry begins, its mark taken off
_KIND = slice(_AT + 4, _AT + 6)
_PAYLOAD = slice(_AT + RECORD.size, -TAG_SIZE)


class Raised(Exception):
    """A command raised while it was replayed."""

    def __init__(self, sequence: int, kind: Kind, error: BaseException, path: str):
        super().__init__(sequence)
        self.sequence, self.kind, self.error, self.path = sequence, kind, error, path
        self.is_last = False  # whether no entry follows, in which it would be told that it raised


class FileReplay:
    """The replay of one file. `is_over`: what comes after it is not wanted."""

    def __init__(
        self,
        file: JournalFile,
        root: Any,
        moment: Moment,
        failed: Set[int],
        until: int,
        before: float,
        report: Callable[[int], None] | None,
        key: Key | None = None,
    ):
        self.file, self.root, self.moment = file, root, moment
        self.failed, self.until, self.before, self.report = failed, until, before, report
        self.is_over = False
        self.sequence = file.head.first - 1
        self.seconds = 0.0
        self._done = 0
        self._unpacker = Unpacker(key, file.head.seed)
        self._told: dict[int, tuple[str, int, str]] = {}  # what numbers mean
        self._kinds: dict[int, tuple[Kind, int]] = {}
        self._calls: dict[int, Callable[[bytes], Any]] = {}
        self._plain: dict[bytes, Callable[..., Any]] = {}  # bare functions, by the bytes of their kinds

    def run(self, done: int, seconds: float) -> tuple[int, float]:
        """Carry out what comes after command `done`; gives the last one, and its time."""
        self.begin(done, seconds)
        file = self.file
        chunks = file.data[file.head.end : file.found.end].split(mark_of(file.head))
        del chunks[0]
        return self.go_on(chunks)

    def begin(self, done: int, seconds: float) -> None:
        """Be about to carry out what comes after command `done`."""
        self._done, self.seconds = done, seconds

    def go_on(self, chunks: Sequence[bytes]) -> tuple[int, float]:
        """The same with the next entries of the file, each without its mark."""
        moment, root = self.moment, self.root
        moment.seed = self.file.head.seed
        plain, load, kind_at, payload_at = self._plain.get, load_short, _KIND, _PAYLOAD
        sequence, stop = self.sequence, self._next_stop() - 1
        chunk, answer = b"", None
        try:
            for chunk in chunks:
                target = plain(chunk[kind_at])
                if target is None or sequence >= stop:
                    self.sequence = sequence
                    self._carry_out(chunk)
                    answer = None
                    if self.is_over:
                        break
                    sequence, stop = self.sequence, self._next_stop() - 1
                else:
                    moment.chunk = chunk
                    moment.sequence = sequence = sequence + 1
                    answer = target(root, *load(chunk[payload_at]))
            if type(answer) in LATE:  # of all but the last one it is told that they raised
                raise late_error(self._kinds[int.from_bytes(chunk[kind_at], "little")][0], answer)
        except (Raised, PerdureError) as error:
            if not isinstance(error, Raised) and not moment.chunk:
                raise
            raise error if isinstance(error, Raised) else self._raised(error, chunk) from error
        except Exception as error:  # the user's code runs here
            raise self._raised(error, chunk) from error
        if moment.chunk:
            self.seconds, moment.chunk = moment.seconds(), b""
        self.sequence = max(self.sequence, sequence)
        return max(sequence, self._done), self.seconds

    def _next_stop(self) -> int:
        """The next command that has to be looked at more closely."""
        following = self.sequence + 1
        if following <= self._done or self.before != float("inf"):
            return 0
        stop = min((number for number in self.failed if number >= following), default=sys.maxsize)
        if self.report is not None:
            stop = min(stop, following + LONG - 1)
        return min(stop, self.until + 1)

    def _carry_out(self, chunk: bytes) -> None:
        """The records of one entry, whatever they are."""
        moment = self.moment
        if moment.chunk:
            self.seconds, moment.chunk = moment.seconds(), b""
        at, end = _AT, len(chunk) - TAG_SIZE
        while at < end:
            length, kind, when = RECORD.unpack_from(chunk, at)
            at += RECORD.size
            payload = chunk[at : at + length]
            at += length
            if kind == DEFINES:
                number, told = decode_kind(payload)
                self._told[number] = told
            if kind & NUMBER >= FAILED:
                continue
            following = self.sequence + 1
            if following > self._done:
                if following > self.until or when > self.before:
                    self.is_over = True
                    return
                self.seconds = when
                if following not in self.failed:
                    moment.sequence, moment.time = following, when
                    self._call(kind, payload, following, chunk)
                if self.report is not None:
                    self.report(following)
            self.sequence = following

    def _call(self, kind: int, payload: bytes, sequence: int, chunk: bytes) -> None:
        try:
            call = self._calls.get(kind)
            if call is None:
                call = self._calls[kind] = self._made(kind)
            answer = call(payload)
            if type(answer) in LATE:
                raise late_error(self._kinds[kind][0], answer)
        except Exception as error:  # noqa: BLE001 (the user's code runs here)
            failure = self._failure(error, sequence, kind, chunk)
            raise failure from (failure.__cause__ or error)

    def _made(self, number: int) -> Callable[[bytes], Any]:
        """The function for one kind with its flags; a usual one takes the short way from now on."""
        if number & PACKED:
            plain = self._made(number & ~PACKED)
            self._kinds[number] = self._kinds[number & ~PACKED]
            return lambda stored: plain(self._unpacked(stored))
        name, version, form = self._told[number & NUMBER]
        kind = find_kind(name, form)
        self._kinds[number] = (kind, version)
        root, target = self.root, kind.target
        if version == kind.version and form == METHOD and not number & (KEYWORDS | NAMES):
            self._plain[(number | ALONE).to_bytes(2, "little")] = target
            self._kinds[number | ALONE] = (kind, version)
            return lambda short: target(root, *load_short(short))

        def call(short: bytes) -> Any:
            try:
                flags, value = load_stored(kind, version, number, short)
            except Exception as error:
                raise _Unloadable from error
            return kind.carry_out(root, flags, value)

        return call

    def _unpacked(self, stored: bytes) -> bytes:
        try:
            return self._unpacker.unpack(stored, self.moment.sequence)
        except PerdureError as error:
            raise _Unloadable from error

    def _raised(self, error: Exception, chunk: bytes) -> Exception:
        number = int.from_bytes(chunk[_KIND], "little")
        return self._failure(error, self.moment.sequence, number, chunk)

    def _failure(self, error: Exception, sequence: int, number: int, chunk: bytes) -> Exception:
        """What to raise for a command that did not end: it raised as it did then, or it cannot be called at all."""
        path = self.file.path
        known = self._kinds.get(number)
        if known is not None and not isinstance(error, _Unloadable):
            return Raised(sequence, known[0], error, path)
        cause = error.__cause__ if isinstance(error, _Unloadable) else error
        at = max(self.file.data.find(chunk) - 4, 0)  # a standby has only a part of the file in memory
        where = f"It is command {sequence} in {path}, at byte {at}."
        if isinstance(cause, PerdureError):
            cause.message = f"{cause.message} {where}"
            cause.details = {**cause.details, "offset": at, "sequence": sequence}
            return cause
        return CannotLoad(
            f"A command cannot be loaded: {type(cause).__name__}: {cause}. {where}",
            hint="Its class refused the stored arguments.",
            path=path,
            offset=at,
            sequence=sequence,
        )


class _Unloadable(Exception):
    """The arguments of a command cannot be made."""
