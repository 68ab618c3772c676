"""How a standby gets the journal: one thread that reaches the writer, hears it, and comes again when the line is lost.

- What is lost with a line is nothing: the next one begins where the copy ends.
- What another attempt cannot help (a program that differs, a disk whose state nobody knows) ends it, with its error.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Protocol

from perdure.errors import (
    ConnectionLost,
    CorruptJournal,
    OutcomeUnknown,
    PerdureError,
    PrevalenceError,
    StandbyAway,
    StorageError,
    UntrustedRecord,
)
from perdure.keys import KeyRing
from perdure.prevalence.copies import Copy, Entry
from perdure.prevalence.folder import CODE, FILLING, JOURNAL, SNAPSHOT, STANDBY, WRITER, Folder, Standing
from perdure.prevalence.lines import Line, connected, parse_address, prove_standby
from perdure.prevalence.serving import (
    ACK,
    ALIVE,
    AT,
    CODE_FILE,
    DEPOSE,
    DEPOSED,
    DONE,
    HELLO,
    NUMBER,
    PART,
    PIECE,
    PLACE,
    REFUSED,
    WELCOME,
    promotion_of,
)
from perdure.prevalence.snapshots import put_in_place
from perdure.records.seal import Key

PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to reach the writer
REPLACED = "replaced"


class Follows(Protocol):
    """The standby, as its receiver sees it."""

    @property
    def copy(self) -> Copy | None: ...

    def begin(self, key: Key) -> None: ...

    def received(self, entries: list[Entry]) -> None: ...

    def told(self, done: int, untold: list[int]) -> None: ...

    def fail(self, error: PerdureError) -> None: ...


class Receiver:
    """Keeps one standby supplied."""

    def __init__(self, standby: Follows, folder: Folder, given: Key | None, standing: Standing):
        self.trouble: PerdureError | None = None  # why the last line ended
        self.is_connected = False
        self.standing = standing
        self.refusal = ""  # why the writer does not hand over
        self.handed_over = threading.Event()  # the writer has said that it takes no more, and that this is all
        self._standby, self._folder, self._given = standby, folder, given
        self._line: Line | None = None
        self._connection: socket.socket | None = None
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure standby", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def end(self) -> None:
        """Follow no more; returns when nothing is written any more."""
        self._is_ended.set()
        line = self._line
        if line is not None:
            line.close()
        self._thread.join()

    def forget(self) -> None:
        """Let go of the connection in a fork of the process."""
        self._is_ended.set()
        if self._line is not None:
            self._line.forget()

    def ask_to_depose(self, epoch: int, who: str, patience: float) -> bool:
        """Have the writer stop and send the rest; whether it has confirmed it. A call under way is waited for."""
        deadline, self.refusal = time.monotonic() + patience, ""
        while not self.is_connected and self.trouble is None and time.monotonic() < deadline:
            time.sleep(0.01)
        line = self._line
        if line is not None and self.is_connected:
            with suppress(ConnectionLost):
                line.say(DEPOSE, promotion_of(epoch, who))
                while (
                    self._line is line
                    and not self.refusal
                    and time.monotonic() < deadline
                    and not self.handed_over.wait(0.02)
                ):
                    pass
        return self.handed_over.is_set()

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        attempt = 0
        while not self._is_ended.is_set():
            try:
                self._follow()
                attempt = 0
            except OutcomeUnknown as error:
                self._standby.fail(error)
                return
            except (ConnectionLost, UntrustedRecord, CorruptJournal, StorageError, StandbyAway) as error:
                attempt = 0 if self.is_connected else attempt + 1
                self.trouble = error
            except PerdureError as error:
                self._standby.fail(error)
                return
            finally:
                line, self._line, self.is_connected = self._line, None, False
                if line is not None:
                    line.close()
            if self.handed_over.is_set():
                return
            self._is_ended.wait(PAUSES[min(attempt, len(PAUSES) - 1)])

    def _follow(self) -> None:
        """One line, until it is lost."""
        connection = connected(address_of(self.standing.of, self._folder))
        with connection:
            line, key = prove_standby(connection, self._key_of)
            self._line = line
            copy = self._standby.copy
            hello = {
                "system": "" if copy is None else self._folder.id,
                "epoch": self.standing.epoch,
                "position": None if copy is None else copy.position(),
                "last": 0 if copy is None else copy.last,
            }
            line.say(HELLO, json.dumps(hello).encode())
            told = self._welcomed(line, key)
            if not told["goes on"]:
                self._begin_anew(line, key, told)
            elif told["encrypted"] and not self._folder.is_encrypted:
                self._folder.is_encrypted = True
                self._folder.finish()
            if self.standing.epoch != told["epoch"] or self._folder.standing().role != STANDBY:
                self._note(STANDBY, told["epoch"])
            self.is_connected, self.trouble = True, None
            self._acknowledge(line)
            while not self._is_ended.is_set() and not self.handed_over.is_set():
                self._take(line, *line.hear())

    def _welcomed(self, line: Line, key: Key) -> dict[str, Any]:
        kind, content = line.hear()
        told: dict[str, Any] = json.loads(content)
        if kind == REFUSED:
            refusal = StandbyAway if told["again"] else PrevalenceError
            raise refusal(f"{self.standing.of} does not serve {self._folder.directory}: {told['why']}")
        if kind != WELCOME or told["key"] != key.id:
            raise UntrustedRecord("The writer did not answer as one of this release does.")
        if self.standing.role == WRITER and self._standby.copy is not None and told["epoch"] <= self.standing.epoch:
            raise PrevalenceError(
                f"{self._folder.directory} is a writer's own, of the same epoch as {self.standing.of}.",
                hint="Give the standby a directory of its own; to have it follow, promote the other one first.",
                path=self._folder.directory,
            )
        return told

    def _take(self, line: Line, kind: bytes, content: bytes) -> None:
        if kind == PART:
            first, at = AT.unpack_from(content)
            copy = self._standby.copy
            assert copy is not None
            entries = copy.add(first, at, content[AT.size :])
            self._acknowledge(line)
            self._standby.received(entries)
        elif kind == DONE:
            done, untold = json.loads(content)
            self._standby.told(done, untold)
        elif kind == ALIVE:
            self._acknowledge(line)
        elif kind == DEPOSED:
            self.handed_over.set()
        elif kind == REFUSED:
            self.refusal = str(json.loads(content)["why"])

    def _acknowledge(self, line: Line) -> None:
        copy = self._standby.copy
        assert copy is not None
        line.say(ACK, NUMBER.pack(copy.last))

    # -- beginning anew ---------------------------------------------------------------------------------------

    def _begin_anew(self, line: Line, key: Key, told: dict[str, Any]) -> None:
        """Receive a snapshot, and then put it in place of all that was here."""
        folder, files = self._folder, self._folder.files
        path = folder.path("snapshot-0000000000000000000.new")
        files.write_new(path, b"")
        end, codes = 0, []
        while True:
            kind, content = line.hear()
            if kind == PIECE:
                files.write_at(path, end, content)
                end += len(content)
            elif kind == CODE_FILE:
                name, _, data = content.partition(b"\0")
                codes.append((name.decode(), data))
            elif kind == PLACE:
                break
        files.sync(path)
        self._note(FILLING, told["epoch"])
        self._put_aside()
        folder.id, folder.key_id = str(told["system"]), key.id
        folder.is_encrypted = bool(told["encrypted"])
        for code, data in codes:
            if re.fullmatch(f"{CODE}-[0-9a-f]{{16,64}}", code):
                files.replace_durably(folder.path(code), data)
        put_in_place(folder, path, NUMBER.unpack(content)[0], key)
        folder.finish()
        self._standby.begin(key)
        self._note(STANDBY, told["epoch"])

    def _put_aside(self) -> None:
        """Move what does not go on into a folder, in place of what was there."""
        folder, files = self._folder, self._folder.files
        aside = folder.path(REPLACED)
        old = [folder.numbered(kind, number) for kind in (JOURNAL, SNAPSHOT) for number in folder.numbers(kind)]
        if not old:
            return
        files.make_directories(aside)
        for name in files.list(aside):
            files.unlink(f"{aside}/{name}")
        files.unlink(folder.path("reached"))
        for path in old:
            files.rename(path, f"{aside}/{path[len(folder.directory) + 1 :]}")
        files.sync_directory(aside)
        files.sync_directory(folder.directory)

    def _note(self, role: str, epoch: int) -> None:
        self.standing = Standing(role, epoch, self.standing.of)
        self._folder.note_standing(self.standing)

    def _key_of(self, key_id: int) -> Key:
        return self._given or KeyRing(files=self._folder.files).require(key_id)


def is_address(of: str, folder: Folder) -> bool:
    """Whether that is an address; else it is a directory on this machine."""
    return ":" in of and folder.files.kind(of) is None


def address_of(of: str, folder: Folder) -> tuple[str, int]:
    """Where the writer listens: at an address, or at the one that stands in its directory on this machine."""
    if is_address(of, folder):
        return parse_address(of)
    data = folder.files.read(Folder(of, folder.files).path("address"))
    if data is None:
        raise ConnectionLost(
            f"The system in {of} is not served now.", hint="Open it with serve='127.0.0.1:0'.", path=of
        )
    return parse_address(data.decode("ascii", "replace").strip())
