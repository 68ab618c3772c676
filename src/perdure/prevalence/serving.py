"""What the writer does for its standbys: it shows them the journal as it grows, and waits for one if that is wished.

- What is sent is read from the journal files themselves: a standby that is slow costs no memory, and one that comes
  late gets the newest snapshot first, unless what it has goes on in a file that is still here.
- An entry is sent as soon as it is written, beside the writer's own sync. With `sync` its commands are carried out, and
  answered, only after a standby said that it has them durably.
- What a command did (whether it raised) is told afterwards; a standby carries nothing out before.
- Who was deposed takes no more commands, and remembers that.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from perdure.errors import InvalidArgument, PerdureError, StandbyAway, StorageError, WriterDeposed
from perdure.prevalence.entries import has_end
from perdure.prevalence.folder import CODE, JOURNAL, SNAPSHOT, Folder
from perdure.prevalence.lines import Line, listening, parse_address, prove_writer
from perdure.prevalence.reading import read_journal
from perdure.prevalence.settings import Serve
from perdure.prevalence.snapshots import Snapshot, newest_good
from perdure.records.seal import Key

# What is said: by the standby, then by the writer.
HELLO, ACK, DEPOSE = b"H", b"A", b"D"
WELCOME, REFUSED, PART, CODE_FILE, PIECE, PLACE, DONE, ALIVE, DEPOSED = (
    b"W", b"R", b"P", b"C", b"S", b"E", b"O", b".", b"X",
)  # fmt: skip
AT = Struct("<QQ")  # the first command of a journal file, and a byte in it
NUMBER = Struct("<Q")
BEAT = 2.0  # seconds between signs of life
PIECE_BYTES = 1 << 20  # of a snapshot, in one message
SHORT = 1 << 16  # bytes; what a standby says is no longer
MOST_UNPROVEN = 16  # connections that have not proved themselves yet


OnDeposed = Callable[[int, str], None]  # by which epoch, and by whom


class Place(NamedTuple):
    """A byte of a journal file, which is named by its first command."""

    first: int = 0
    end: int = 0


class _Attached:
    """One standby."""

    def __init__(self, line: Line, place: Place, acked: int):
        self.line = line
        self.place = place  # what was sent
        self.acked = acked  # the last command that it has durably
        self.is_current = False  # whether it had everything when it was last heard
        self.is_told = True  # that the writer was deposed; True: it did not ask


class Serving:
    """Serves the journal of one system that is open for writing."""

    def __init__(
        self, folder: Folder, key: Key, given: Serve, epoch: int, last: int, deposed: Callable[[int, str], None]
    ):
        self.said: list[str] = []
        self._folder, self._key, self._given, self._epoch = folder, key, given, epoch
        self._on_deposed = deposed
        self._news = threading.Condition()
        self._place = Place()  # up to where the file is written that is open; nothing was written yet
        self._last = self._done = last
        self._untold: frozenset[int] = frozenset()
        self._attached: list[_Attached] = []
        self._unproven = self._changes = 0
        self._deposed, self._deposed_by = 0, ""  # by which epoch, and by whom, if that is known
        self._is_settled = self._is_closed = self._is_alone = False
        self._away_until = time.monotonic() + given.patience
        self._listener = listening(given.address, MOST_UNPROVEN)
        host, port = self._listener.getsockname()[:2]
        self.address = f"{host}:{port}"
        folder.files.write_new(folder.path("address"), f"{self.address}\n".encode())
        threading.Thread(target=self._listen, name="perdure standbys", daemon=True).start()

    # -- what the system calls while it carries out commands --------------------------------------------------

    def ready(self) -> None:
        """Raise `WriterDeposed`, or `StandbyAway` where a standby must be there and none is; nothing was journaled."""
        with self._news:
            if self._given.sync and self._given.away == "refuse":
                self._news.wait_for(self._is_ready, max(self._away_until - time.monotonic(), 0))
            self._refuse_deposed()
            if self._given.sync and self._given.away == "refuse" and not self._is_ready():
                raise StandbyAway(
                    f"No standby of {self._folder.directory} has the journal, and sync=True wants one; nothing was"
                    " journaled.",
                    hint="Start the standby; or open the system with away='alone'.",
                    path=self._folder.directory,
                    sequence=0,
                )

    def written(self, first: int, end: int, last: int) -> None:
        """What was written can be sent."""
        with self._news:
            self._place, self._last = Place(first, end), last
            self._changes += 1
            self._news.notify_all()

    def wait(self, last: int) -> StandbyAway | None:
        """Wait until a standby has that command durably; an error where none has it.

        Raises `WriterDeposed` where nobody can know whether the one that was promoted has it.
        """
        given = self._given
        if not given.sync:
            return None
        with self._news:
            if given.away == "alone" and not any(each.is_current for each in self._attached):
                self._go_alone(last)
                return None
            self._news.wait_for(lambda: self._has(last) or (self._deposed and not self._attached), given.patience)
            if self._has(last):
                self._is_alone = False
                return None
            self._refuse_deposed()
            if given.away == "alone":
                self._go_alone(last)
                return None
            self._away_until = time.monotonic()
            return StandbyAway(
                f"No standby of {self._folder.directory} has command {last} within {given.patience:g} seconds: it is"
                " durable and carried out here, but a promotion may lose it.",
                hint="Commands are refused until a standby is there.",
                path=self._folder.directory,
                sequence=last,
            )

    def done(self, last: int, untold: Iterable[int]) -> None:
        """Commands up to that one were carried out; `untold` raised, which the journal does not tell yet."""
        with self._news:
            self._done, self._untold = last, frozenset(untold)
            self._changes += 1
            self._news.notify_all()

    def close(self, first: int, end: int) -> None:
        """Let standbys that are there have the end of the journal, and say good-bye."""
        with self._news:
            if first:
                self._place = Place(first, end)
            self._is_closed = True
            self._news.notify_all()
            self._news.wait_for(lambda: not self._attached, BEAT)
            left = list(self._attached)
        for each in left:
            each.line.close()
        self._stop_listening()
        with suppress(StorageError):
            self._folder.files.unlink(self._folder.path("address"))

    def forget(self) -> None:
        """Let go of everything in a fork of the process."""
        self._listener.close()
        for each in self._attached:
            each.line.forget()

    def _stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # else the thread that accepts would not notice
        self._listener.close()

    def _is_ready(self) -> bool:
        return bool(self._deposed) or self._has(self._last)

    def _has(self, last: int) -> bool:
        return any(each.acked >= last for each in self._attached)

    def _go_alone(self, last: int) -> None:
        if not self._is_alone:
            self._is_alone = True
            self.said.append(f"No standby is there: commands from {last} on are answered without one.")
        for each in self._attached:
            each.is_current = False

    def _refuse_deposed(self) -> None:
        if self._deposed:
            raise self._deposed_error()

    def _deposed_error(self) -> WriterDeposed:
        return deposed_error(self._folder.directory, self._deposed)

    # -- those who come ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._is_closed or self._listener.fileno() < 0:
                    return
                time.sleep(0.05)  # no file was left for it, say
                continue
            with self._news:
                is_welcome = self._unproven < MOST_UNPROVEN
                self._unproven += is_welcome
            if is_welcome:
                threading.Thread(target=self._attend, args=(connection,), name="perdure standby", daemon=True).start()
            else:
                connection.close()

    def _attend(self, connection: socket.socket) -> None:
        """One connection, from its greeting to its end. What is wrong with it ends it, and nothing else."""
        with connection:
            try:
                try:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    line = prove_writer(connection, self._key)
                finally:
                    with self._news:
                        self._unproven -= 1
                kind, content = line.hear(SHORT)
                if kind == DEPOSE:
                    if self._stop_for(*_promotion_in(content)):
                        line.say(DEPOSED, NUMBER.pack(self._last))
                    else:
                        self._refuse_promotion(line)
                elif kind == HELLO:
                    self._welcome(line, json.loads(content))
            except (PerdureError, OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, StructError):
                return  # it comes again, if it is one of ours

    def _welcome(self, line: Line, hello: dict[str, Any]) -> None:
        folder = self._folder
        if hello["system"] not in ("", folder.id):
            return _refuse(line, f"{folder.directory} is another system.", again=False)
        if hello["epoch"] > self._epoch:
            self._stop_for(int(hello["epoch"]), "")
        if self._deposed:
            return _refuse(line, self._deposed_error().message, again=True)
        with self._news:
            self._away_until = time.monotonic() + self._given.patience
        place = self._place_of(hello["position"])
        told = {
            "system": folder.id,
            "epoch": self._epoch,
            "key": self._key.id,
            "encrypted": folder.is_encrypted,
            "goes on": place is not None,
        }
        line.say(WELCOME, json.dumps(told).encode())
        attached = _Attached(
            line, self._send_all(line) if place is None else place, 0 if place is None else hello["last"]
        )
        with self._news:
            self._attached.append(attached)
            self._note_current(attached)
        threading.Thread(target=self._tell, args=(attached,), name="perdure standby", daemon=True).start()
        try:
            self._hear(attached)
        finally:
            with self._news:
                if attached in self._attached:
                    self._attached.remove(attached)
                self._away_until = time.monotonic() + self._given.patience
                self._news.notify_all()
        return None

    def _hear(self, attached: _Attached) -> None:
        while True:
            kind, content = attached.line.hear(SHORT)
            if kind == ACK:
                with self._news:
                    attached.acked = max(attached.acked, NUMBER.unpack(content)[0])
                    self._note_current(attached)
            elif kind == DEPOSE:
                epoch, who = _promotion_in(content)
                if self._is_anothers(epoch, who):
                    self._refuse_promotion(attached.line)
                    continue
                attached.is_told = False
                # Not by this thread: a command may wait for what it hears.
                threading.Thread(target=self._stop_for, args=(epoch, who), name="perdure deposed", daemon=True).start()

    def _note_current(self, attached: _Attached) -> None:
        attached.is_current |= attached.acked >= self._last
        self._news.notify_all()

    def _stop_for(self, epoch: int, who: str) -> bool:
        """Take no more commands, as one of that epoch does; returns when the last one is done.

        Whether that is so: one promotion only may have an epoch.
        """
        if epoch <= self._epoch:
            return True
        with self._news:
            if self._is_anothers(epoch, who):
                return False
            if epoch > self._deposed:
                self._deposed, self._deposed_by = epoch, who
            self._news.notify_all()
        self._on_deposed(epoch, who)
        with self._news:
            self._is_settled = True
            self._news.notify_all()
        return True

    def _is_anothers(self, epoch: int, who: str) -> bool:
        return bool(who) and self._deposed >= epoch and self._deposed_by != who

    def _refuse_promotion(self, line: Line) -> None:
        _refuse(line, f"another standby was promoted before{told_by(self._deposed_by)}.", again=False)

    # -- what they are told -----------------------------------------------------------------------------------

    def _tell(self, attached: _Attached) -> None:
        """Send what there is, as it comes."""
        told: tuple[int, frozenset[int]] | None = None
        line, seen = attached.line, -1
        try:
            while True:
                with self._news:
                    if self._changes == seen and not self._is_ending(attached):
                        self._news.wait(BEAT)
                    seen, place, now = self._changes, self._place, (self._done, self._untold)
                    is_ending = self._is_ending(attached)
                sent = False
                while (part := self._next_part(attached.place, place)) is not None:
                    line.say(PART, AT.pack(part[0].first, part[0].end), part[1])
                    attached.place, sent = Place(part[0].first, part[0].end + len(part[1])), True
                if told != now:
                    told, sent = now, True
                    line.say(DONE, json.dumps([now[0], sorted(now[1])]).encode())
                if not sent:
                    line.say(ALIVE)
                if is_ending and not sent:
                    break
            if not attached.is_told:
                line.say(DEPOSED, NUMBER.pack(self._last))
            line.finish()  # the other side closes it when it has heard all
        except PerdureError:
            line.close()

    def _is_ending(self, attached: _Attached) -> bool:
        return self._is_closed or (self._is_settled and not attached.is_told)

    def _next_part(self, at: Place, written: Place) -> tuple[Place, bytes] | None:
        """What comes after a place: where it begins, and whole entries; None if nothing does yet."""
        folder = self._folder
        while True:
            path = folder.numbered(JOURNAL, at.first)
            if at.first == written.first and at.first:
                data = folder.files.read(path, at.end, written.end - at.end) if at.end < written.end else b""
                return (at, data) if data else None
            if at.first and folder.files.kind(path) is not None:
                read = read_journal(folder, self._key, path)
                if read.found.crc and at.end < read.found.end:
                    return at, read.data[at.end : read.found.end]
            later = [number for number in folder.numbers(JOURNAL) if number > at.first]
            if not later or (written.first and later[0] > written.first):
                return None
            at = Place(later[0], 0)

    def _place_of(self, position: dict[str, Any] | None) -> Place | None:
        """Where a standby is in the journal; None if it has something else, or what is not here any more."""
        if position is None:
            return None
        first, end = int(position["first"]), int(position["end"])
        if first not in self._folder.numbers(JOURNAL):
            return None
        read = read_journal(self._folder, self._key, self._folder.numbered(JOURNAL, first))
        if read.head.seed.hex() != position["seed"]:
            return None
        if end <= read.head.end:
            return Place(first, 0)  # a file without commands may have been written anew
        return Place(first, end) if has_end(read.data, read.head, read.found, end, int(position["crc"])) else None

    def _send_all(self, line: Line) -> Place:
        """The newest snapshot, and what belongs to it; gives where the journal goes on after it."""
        folder, files = self._folder, self._folder.files
        found = next((number for number, each in newest_good(folder, self._key) if isinstance(each, Snapshot)), None)
        if found is None:
            raise StorageError(f"No snapshot in {folder.directory} is good.", path=folder.directory)
        for name in sorted(files.list(folder.directory)):
            if name.startswith(f"{CODE}-") and not name.endswith(".new"):
                line.say(CODE_FILE, name.encode() + b"\0" + (files.read(folder.path(name)) or b""))
        path = folder.numbered(SNAPSHOT, found)
        at = 0
        while data := files.read(path, at, PIECE_BYTES):
            line.say(PIECE, data)
            at += len(data)
        line.say(PLACE, NUMBER.pack(found))
        numbers = folder.numbers(JOURNAL)
        if found + 1 in numbers:
            return Place(found + 1)
        return Place(max((number for number in numbers if number <= found), default=0))


def promotion_of(epoch: int, who: str) -> bytes:
    """What a message `DEPOSE` has: the new epoch, and who is promoted."""
    return NUMBER.pack(epoch) + who.encode()


def _promotion_in(content: bytes) -> tuple[int, str]:
    return NUMBER.unpack_from(content)[0], content[NUMBER.size :].decode()


def told_by(who: str) -> str:
    """For a message: who was promoted, if that is known."""
    return f" ({who})" if who else ""


def _refuse(line: Line, why: str, *, again: bool) -> None:
    line.say(REFUSED, json.dumps({"why": why, "again": again}).encode())


def checked_serve(address: str | None, sync: bool, away: str, patience: float) -> Serve | None:
    """What was asked for; raises `InvalidArgument` for what makes no sense."""
    if away not in ("refuse", "alone"):
        raise InvalidArgument(f"away is 'refuse' or 'alone', not {away!r:.60}.")
    if address is None:
        if sync:
            raise InvalidArgument("sync=True waits for a standby, and none can come.", hint='serve="127.0.0.1:7007"')
        return None
    if not isinstance(address, str):
        raise InvalidArgument(f"serve is an address, not {address!r:.60}.", hint='serve="127.0.0.1:7007"')
    if isinstance(patience, bool) or not isinstance(patience, (int, float)) or not patience >= 0:
        raise InvalidArgument(f"patience is a number of seconds, not {patience!r:.60}.")
    parse_address(address)
    return Serve(address, sync, "refuse" if away == "refuse" else "alone", patience)


def deposed_error(directory: str, epoch: int) -> WriterDeposed:
    """What a deposed writer's commands get."""
    return WriterDeposed(
        f"A standby of {directory} was promoted (epoch {epoch}), and writes the system now; nothing is taken here.",
        path=directory,
        epoch=epoch,
    )
