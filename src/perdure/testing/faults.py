"""A disk that fails at one chosen operation, for tests of whatever writes files.

- Operations are counted in the order in which they are called; the same program meets the same fault at the same place.
- A fault happens once; a killed process does nothing more at all.
"""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from typing import Any

from perdure.files import Disk

READING = frozenset({"kind", "size", "stamp", "list", "read", "map", "lock", "hold"})


class Killed(BaseException):
    """The simulated process ended at this point: nothing but a test may catch it."""


class FaultyDisk(Disk):
    """Passes everything on to `disk`, but operation number `at` fails with `error`, after half a write if `short`.

    With `kill` the operation is not done, and the process ends. `writing_only` counts only what changes the disk.
    """

    def __init__(
        self,
        disk: Disk,
        at: int = -1,
        *,
        error: int = errno.EIO,
        short: bool = False,
        kill: bool = False,
        writing_only: bool = True,
    ):
        self.disk = disk
        self.at = at
        self.error = error
        self.short = short
        self.kill = kill
        self.writing_only = writing_only
        self.steps: list[str] = []
        self.dead = False
        self._halved = False
        self._held: dict[int, str] = {}

    def kind(self, path: str) -> str | None:
        self._step("kind", path)
        return self.disk.kind(path)

    def size(self, path: str) -> int:
        self._step("size", path)
        return self.disk.size(path)

    def stamp(self, path: str) -> tuple[int, ...]:
        self._step("stamp", path)
        return self.disk.stamp(path)

    def list(self, path: str) -> list[str]:
        self._step("list", path)
        return self.disk.list(path)

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        self._step("read", path)
        return self.disk.read(path, offset, size)

    def map(self, path: str) -> memoryview:
        self._step("map", path)
        return self.disk.map(path)

    def write(
        self, path: str, offset: int, data: bytes | memoryview, *, create: bool = False, mode: int = 0o666
    ) -> int:
        if self._halves(len(data)):
            self.steps.append(f"write {path}, half of it")
            return self.disk.write(path, offset, data[: len(data) // 2], create=create, mode=mode)
        self._step("write", path)
        return self.disk.write(path, offset, data, create=create, mode=mode)

    def truncate(self, path: str, size: int) -> None:
        self._step("truncate", path)
        self.disk.truncate(path, size)

    def sync(self, path: str) -> None:
        self._step("sync", path)
        self.disk.sync(path)

    def hold(self, path: str) -> int:
        self._step("hold", path)
        token = self.disk.hold(path)
        self._held[token] = path
        return token

    def write_held(self, token: int, offset: int, data: bytes | memoryview) -> int:
        if self._halves(len(data)):
            self.steps.append(f"write held {self._held[token]}, half of it")
            return self.disk.write_held(token, offset, data[: len(data) // 2])
        self._step("write held", self._held[token])
        return self.disk.write_held(token, offset, data)

    def sync_held(self, token: int) -> None:
        self._step("sync held", self._held[token])
        self.disk.sync_held(token)

    def let_go(self, token: int) -> None:
        self.disk.let_go(token)

    def sync_directory(self, path: str) -> None:
        self._step("sync_directory", path)
        self.disk.sync_directory(path)

    def sync_all(self, path: str) -> bool:
        self._step("sync_all", path)
        return self.disk.sync_all(path)

    def rename(self, source: str, target: str) -> None:
        self._step("rename", target)
        self.disk.rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._step("link", target)
        self.disk.link(source, target)

    def unlink(self, path: str) -> None:
        self._step("unlink", path)
        self.disk.unlink(path)

    def make_directory(self, path: str, mode: int = 0o777) -> None:
        self._step("make_directory", path)
        self.disk.make_directory(path, mode)

    def lock(self, path: str, *, exclusive: bool, create: bool) -> AbstractContextManager[Any]:
        self._step("lock", path)
        return self.disk.lock(path, exclusive=exclusive, create=create)

    def _halves(self, size: int) -> bool:
        """Whether only half of that write is taken: then the rest of it is what fails."""
        if not self.short or self._halved or len(self.steps) != self.at or not size:
            return False
        self._halved = True
        self.at += 1
        return True

    def _step(self, operation: str, path: str) -> None:
        if self.dead:
            raise Killed(f"dead since {self.steps[-1]}")
        if self.writing_only and operation in READING:
            return
        self.steps.append(f"{operation} {path}")
        if len(self.steps) - 1 != self.at:
            return
        if self.kill:
            self.dead = True
            raise Killed(self.steps[-1])
        raise OSError(self.error, os.strerror(self.error), path)
