"""Taking snapshots while commands go on, and dropping what no kept snapshot needs.

- By `fork`: the child has the system as it was at that moment, pickles it, and writes it in synced slices; the pause is
  that of the fork. The child does nothing else: no locks, no logs, and it ends by `_exit`.
- "here": written by this process while commands wait, where there is no safe fork, and where the child failed.
- Journals go back to the oldest kept snapshot, so that any of them can be recovered from. Snapshots go first, durably,
  then journals, the oldest first: no gap is ever made.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from perdure.errors import CorruptRecord, StorageError, UntrustedRecord
from perdure.files import Disk, Files
from perdure.prevalence.folder import JOURNAL, SNAPSHOT, Folder
from perdure.prevalence.settings import Keep
from perdure.prevalence.snapshots import SLICE, Told, put_in_place, read_snapshot, write_snapshot
from perdure.records.seal import Key

CHILD_TIME = 3600.0  # seconds that a child may take
STILL = 60.0  # seconds for which a child may write nothing


class Taken(NamedTuple):
    """A snapshot that was made."""

    sequence: int  # the last command in it
    path: str
    bytes: int
    pause: float  # seconds for which commands waited
    seconds: float  # that it took in all


def how_here(folder: Folder) -> str:
    """Whether a child can write the snapshot: on Linux, to a real disk, from which it goes into a store."""
    disk = folder.files.disk
    return "fork" if sys.platform.startswith("linux") and (type(disk) is Disk or disk.is_store) else "here"


class Taking:
    """One snapshot under way: begun while commands wait, finished beside them."""

    def __init__(self, folder: Folder, key: Key, root: Any, told: Told, how: str, began: float):
        self.folder, self.key, self.root, self.told, self.how, self.began = folder, key, root, told, how, began
        self.path = f"{folder.numbered(SNAPSHOT, told.sequence)}.new"
        self.child = 0
        self.aside = ""  # a file of this machine that the child writes, where the snapshot goes into a store
        self.pause = 0.0
        self.taken: Taken | None = None
        self.error: Exception | None = None
        self.done = threading.Event()

    def begin(self) -> None:
        """What has to happen while no command is carried out."""
        try:
            if self.how == "fork":
                self.child = self._fork()
            else:
                write_snapshot(self.folder.files, self.path, self.root, self.told, self.key)
        finally:
            self.pause = time.perf_counter() - self.began

    def finish(self, again: Callable[[], Taking]) -> None:
        """Wait for the child, verify, give the file its name. `again` makes the same here, if the child failed."""
        try:
            if self.child and not self._child_succeeded():
                following = again()
                following.finish(again)
                self.taken, self.error = following.taken, following.error
                return
            if self.aside:
                self._carry_over()
            put_in_place(self.folder, self.path, self.told.sequence, self.key)
            path = self.folder.numbered(SNAPSHOT, self.told.sequence)
            seconds = time.perf_counter() - self.began
            size = self.folder.files.size(path) or 0
            self.taken = Taken(self.told.sequence, path, size, self.pause, seconds)
        except Exception as error:  # noqa: BLE001 (told to whoever waits for it)
            self.error = error
            with suppress(StorageError):
                self.folder.files.unlink(self.path)
        finally:
            if self.aside:
                Files().unlink(self.aside)

    def abandon(self) -> None:
        """Let nobody wait for it: it was interrupted before anybody could finish it."""
        if self.child:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.child, 9)
                os.waitpid(self.child, 0)
        self.done.set()

    def _carry_over(self) -> None:
        """Copy what the child has written into the store, slice by slice."""
        local, files, at = Files(), self.folder.files, 0
        files.write_new(self.path, b"")
        while data := local.read(self.aside, at, SLICE):
            files.write_at(self.path, at, data)
            files.sync(self.path)
            at += len(data)

    def _fork(self) -> int:
        files, path = self.folder.files, self.path
        if files.disk.is_store:
            descriptor, self.aside = tempfile.mkstemp(prefix="perdure-snapshot-")
            os.close(descriptor)
            files, path = Files(), self.aside
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # for threads: the child needs none of their locks
            child = os.fork()
        if child:
            return child
        status = 1
        try:
            gc.disable()  # it would touch, and so copy, every page
            write_snapshot(files, path, self.root, self.told, self.key)
            status = 0
        finally:
            os._exit(status)

    def _child_succeeded(self) -> bool:
        """Wait for the child; one that writes nothing for long waits for what only its parent has, such as a lock."""
        files, path = (Files(), self.aside) if self.aside else (self.folder.files, self.path)
        began = moved = looked = time.monotonic()
        pause, size = 0.001, -1
        while True:
            found, status = os.waitpid(self.child, os.WNOHANG)
            if found:
                return status == 0
            now = time.monotonic()
            if now - looked > STILL / 60:
                looked, before = now, size
                size = files.size(path) or 0
                moved = now if size != before else moved
            if now - moved > STILL or now - began > CHILD_TIME:
                os.kill(self.child, 9)
                os.waitpid(self.child, 0)
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)


def drop_old(folder: Folder, keep: Keep, now: float, key: Key | None) -> list[str]:
    """Remove snapshots that the policy does not keep, and journals before the oldest one kept; gives their paths."""
    if keep is None:
        return []
    snapshots = folder.numbers(SNAPSHOT)
    oldest = _oldest_kept(folder, snapshots, keep, now, key)
    gone = [folder.numbered(SNAPSHOT, number) for number in snapshots if number < oldest]
    for path in gone:
        folder.files.unlink(path)
    if gone:
        folder.files.sync_directory(folder.directory)
    journals = folder.numbers(JOURNAL)
    for number, following in pairwise(journals):
        if following > oldest + 1:
            break
        path = folder.numbered(JOURNAL, number)
        folder.files.unlink(path)
        gone.append(path)
    return gone


def _oldest_kept(folder: Folder, snapshots: list[int], keep: int | timedelta, now: float, key: Key | None) -> int:
    """The oldest snapshot that stays. The newest good one stays always, and what is not good counts for nothing."""
    good: list[int] = []
    for number in reversed(snapshots):
        try:
            told = read_snapshot(folder.files, folder.numbered(SNAPSHOT, number), folder.id, key).told
        except (CorruptRecord, UntrustedRecord):
            continue
        if isinstance(keep, timedelta):
            if good and told.made < now - keep.total_seconds():
                break
        elif len(good) == keep:
            break
        good.append(number)
    return good[-1] if good else 0
