"""Who drives a run, or writes a system in a store: host, process, its start time, and a lock that dies with it.

- The lock file has a name of its own for each ownership, in the user's state directory, and goes with it. Who sees
  that directory, but no such file or a free one, knows that the owner is gone, even if its process lives on.
- Who sees another directory (another user, a container) goes by the process table.
- An owner on another host cannot be looked at from here: it counts as living, and the error says so.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs

from perdure.errors import StorageError, StoreBusy
from perdure.files import Files


class Owner(NamedTuple):
    """The process that drives it. `process_start` is in the units of the system's process table; 0: unknown."""

    host: str
    pid: int
    process_start: int
    token: str
    place: str

    def lives(self) -> bool:
        """Whether that process still drives it."""
        if self.host != host_name():
            return True
        if self.place != _place():
            return self.process_start != 0 and process_start(self.pid) == self.process_start
        try:
            with Files().lock(_lock_path(self.token), exclusive=False, timeout=0):  # shared: who looks is no owner
                return False
        except StoreBusy:
            return True
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise

    def forget(self) -> None:
        """Take away the lock file that an owner left who was killed."""
        if not self.lives():
            Files().unlink(_lock_path(self.token))

    def header(self) -> str:
        """The owner as text, for the header of a record."""
        return " ".join(map(str, self))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def owner_of(text: str) -> Owner | None:
    """The owner in a record's header, as `Owner.header` wrote it; None where there is none."""
    parts = text.split(" ")
    return Owner(parts[0], int(parts[1]), int(parts[2]), *parts[3:]) if len(parts) == 5 else None


@contextmanager
def ownership() -> Iterator[Owner]:
    """Be an owner, for as long as the block lasts or this process lives."""
    token = uuid.uuid4().hex
    files = Files()
    path = _lock_path(token)
    files.make_directories(os.path.dirname(path), mode=0o700)
    with files.lock(path, exclusive=True, create=True, timeout=0):
        try:
            yield Owner(host_name(), os.getpid(), process_start(os.getpid()) or 0, token, _place())
        finally:
            files.unlink(path)


def host_name() -> str:
    """This machine's name, as attempts note it."""
    return socket.gethostname().replace(" ", "-") or "localhost"


def process_start(pid: int) -> int | None:
    """When a process was started, in the kernel's own units; None if there is no such process, or no way to tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])  # field 22 of proc(5), counted behind the name in parentheses


def _directory() -> Path:
    return Path(platformdirs.user_state_dir("perdure", appauthor=False)) / "runs"


def _lock_path(token: str) -> str:
    return str(_directory() / f"{token}.lock")


def _place() -> str:
    """What tells the directory of the lock files from others of its name; empty where there is none."""
    try:
        found = _directory().stat()
    except OSError:
        return ""
    return f"{found.st_dev:x}-{found.st_ino:x}"
