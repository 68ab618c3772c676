"""The directory of a prevalent system: what its files are called, who it is, and how far it once came.

    directory/system                 format, id and key of the system; comes last, so that half a system is none
    directory/lock                   held by the one writer; names its process
    directory/reached                the newest journal file, and a command that is known to have been durable
    directory/standing               whether it may be written: only of a system that has, or was, a standby
    directory/address                where the writer serves standbys, for those on this machine
    directory/code-DIGEST            a code record
    directory/journal-0…017          begins with command 17
    directory/snapshot-0…016         the system after command 16

- Nothing that is missing or shortened at the end passes unnoticed: `reached` tells what there was at least.
- A file is complete before it has its name; what is left of one that was not finished ends in `.new`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from zlib import crc32

from perdure.errors import (
    AccessDenied,
    CorruptJournal,
    CorruptRecord,
    NewerFormat,
    NotAStore,
    StorageError,
    StoreBusy,
    SystemNotFound,
)
from perdure.files import DIRECTORY, FILE, Files

FORMAT = 1
JOURNAL, SNAPSHOT, CODE = "journal", "snapshot", "code"
_NUMBERED = re.compile(r"(journal|snapshot)-(\d{19})")


class Reached(NamedTuple):
    """What there was at least: the first command of the newest journal file, and a command that was durable."""

    newest: int = 0
    last: int = 0


WRITER, STANDBY, FILLING, DEPOSED = "writer", "standby", "filling", "deposed"


class Standing(NamedTuple):
    """What a directory is: the writer's own, a standby's copy (whole, or being filled), or a deposed writer's."""

    role: str = WRITER
    epoch: int = 0
    of: str = ""  # of a standby: where its writer is; of a deposed writer: who was promoted


class Folder:
    """The directory of one system."""

    def __init__(self, directory: str, files: Files):
        self.directory = directory if files.disk.is_store else os.path.abspath(directory)
        self.files = files
        self.id = ""
        self.key_id = 0
        self.is_encrypted = False

    def path(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.directory, name)

    def numbered(self, kind: str, number: int) -> str:
        """The path of a journal file or a snapshot."""
        return self.path(f"{kind}-{number:019d}")

    def numbers(self, kind: str) -> list[int]:
        """The numbers of all journal files or snapshots, ascending."""
        found = map(_NUMBERED.fullmatch, self.files.list(self.directory))
        return sorted(int(match[2]) for match in found if match and match[1] == kind)

    # -- who it is -------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether there is a system; half of one that was being made is none."""
        return self.files.kind(self.path("system")) is not None

    def make(self, new_key: Callable[[], int]) -> None:
        """Begin to make the system, which is there once `finish` was called; called with the lock held."""
        others = set(self.files.list(self.directory)) - {"lock"}
        strange = sorted(name for name in others if not _is_own(name))
        if strange:
            raise self._no_system(f"it has files of others, such as {strange[0]}")
        if any(name.startswith((JOURNAL, "reached")) for name in others):
            raise self._no_system("its file `system` was taken away")
        self.id, self.key_id = secrets.token_hex(16), new_key()

    def finish(self) -> None:
        """Make the system be there, durably: its first snapshot is."""
        told = {"perdure prevalence": FORMAT, "system": self.id, "key": self.key_id}
        text = json.dumps({**told, "encrypted": True} if self.is_encrypted else told)
        self.files.replace_durably(self.path("system"), _checked(text))
        with suppress(AccessDenied):  # whoever may not read the folder above did not make this one either
            self.files.sync_directory(os.path.dirname(self.directory))

    def identify(self) -> None:
        """Learn id and key; raises `SystemNotFound`, `NotAStore`, `NewerFormat` or `CorruptRecord`."""
        path = self.path("system")
        data = self.files.read(path)
        if data is None:
            if self.files.kind(self.directory) == FILE:
                raise self._no_system("it is no directory")
            raise SystemNotFound(
                f"There is no prevalent system in {self.directory}.",
                hint="Check the path; opened for writing, with a class for its root, it is made.",
                path=self.directory,
            )
        text = _text_of(data)
        try:
            told = json.loads(data.partition(b" ")[2])
            format_ = int(told["perdure prevalence"])
            self.id, self.key_id = str(told["system"]), int(told["key"])
            self.is_encrypted = bool(told.get("encrypted", False))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._no_system("its file `system` says nothing that perdure knows") from error
        if format_ > FORMAT:
            raise NewerFormat(
                f"The system {self.directory} has format {format_}; this release of perdure reads up to {FORMAT}.",
                hint="Install a later release.",
                path=self.directory,
            )
        if text is None:
            raise CorruptRecord(f"{path} is damaged.", hint="Take it from a backup.", path=path)

    def _no_system(self, why: str) -> NotAStore:
        return NotAStore(
            f"{self.directory} is no prevalent system: {why}.", hint="Give a directory of its own.", path=self.directory
        )

    # -- one writer ------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, timeout: float) -> Iterator[None]:
        """Be the one writer; `StoreBusy` names the process that is it already."""
        self.files.make_directories(self.directory)
        if self.files.kind(self.directory) != DIRECTORY:
            raise self._no_system("it is no directory")
        try:
            lock = self.files.lock(self.path("lock"), create=True, timeout=timeout)
        except StoreBusy as error:
            holder = (self.files.read(self.path("lock")) or b"").strip().decode("ascii", "replace")[:100]
            holder = f"process {holder}" if holder.isdecimal() else holder
            raise StoreBusy(
                f"{self.directory} is open for writing in another place" + (f" ({holder})." if holder else "."),
                hint="One process at a time writes; to look meanwhile, open it with read_only=True.",
                path=self.directory,
            ) from error
        with lock:
            with suppress(StorageError):  # only for the message above
                self.files.write_new(self.path("lock"), f"{os.getpid()}\n".encode())
            yield

    # -- how far it came -------------------------------------------------------------------------------------

    def reached(self) -> Reached:
        """What there was at least; raises `CorruptJournal` if the file that tells it is damaged or missing."""
        path = self.path("reached")
        data = self.files.read(path)
        if data is None:
            return Reached()
        found = re.fullmatch(r"(\d{1,19}) (\d{1,19})", _text_of(data) or "", re.ASCII)
        if found is None:
            raise CorruptJournal(f"{path} is damaged.", hint="perdure prevalence repair makes it anew.", path=path)
        return Reached(int(found[1]), int(found[2]))

    def note(self, reached: Reached) -> None:
        """Note, durably, what there is at least."""
        self.files.replace_durably(self.path("reached"), _checked(f"{reached.newest} {reached.last}"))

    # -- who may write ---------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """Whether it may be written; raises `CorruptJournal` if the file that tells it is damaged."""
        path = self.path("standing")
        data = self.files.read(path)
        if data is None:
            return Standing()
        found = re.fullmatch(
            r"(writer|standby|filling|deposed) (\d{1,19}) (.*)", _text_of(data) or "", re.ASCII | re.DOTALL
        )
        if found is None:
            raise CorruptJournal(f"{path} is damaged.", hint="Take it from a backup.", path=path)
        return Standing(found[1], int(found[2]), found[3])

    def note_standing(self, standing: Standing) -> None:
        """Note it, durably."""
        self.files.replace_durably(self.path("standing"), _checked(f"{standing.role} {standing.epoch} {standing.of}"))

    def remove_leftovers(self) -> None:
        """Remove what was not finished."""
        for name in self.files.list(self.directory):
            if name.endswith(".new") and _is_own(name):
                self.files.unlink(self.path(name))


def _is_own(name: str) -> bool:
    plain = name.removesuffix(".new")
    return bool(
        _NUMBERED.fullmatch(plain)
        or plain in ("system", "lock", "reached", "standing", "address")
        or re.fullmatch("code-[0-9a-f]{16,64}", plain)
    )


def _checked(text: str) -> bytes:
    return f"{crc32(text.encode()):08x} {text}\n".encode()


def _text_of(data: bytes) -> str | None:
    """The text of a small file with its checksum before it; None if it is damaged."""
    check, _, text = data.removesuffix(b"\n").partition(b" ")
    if check != b"%08x" % crc32(text):
        return None
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None
