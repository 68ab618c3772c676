"""The only place that writes, renames, locks and fsyncs files.

- `Disk` is the operating system, one method a call, raising `OSError`; a simulated or failing one can take its place.
- `Files` is what the rest of perdure uses: no `OSError` leaves it, every error names the path and what to do.
- An error while data is made durable is `OutcomeUnknown`: what is on the disk then, nobody can tell.
- Nothing stays open between calls but what is held on purpose (see `perdure.held`), and a forked child lets go of it;
  a lock is gone when its process is.
- Symbolic links are not followed when a file's content is read or written.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import random
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from perdure.errors import StorageError, StoreBusy
from perdure.refusals import durable, named

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl
    import resource

DIRECTORY, FILE, LINK = "directory", "file", "link"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_locks_held: weakref.WeakSet[io.FileIO] = weakref.WeakSet()
_opening = threading.RLock()  # no fork comes between opening a lock's file and noting it: the child would keep it open
_lock_paths: dict[int, str] = {}  # descriptors that were those of locks, which may be others' by now
_held: set[int] = set()  # files that stay open while they are appended to
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # those that are alive, where each holds a file open
MOST_MAPS = 256
_chance = random.SystemRandom()  # not the common one, which programs seed to repeat their runs


def _forget_inherited() -> None:
    # A forked child shares the parent's open files; kept open, they would hold the lock after the parent's death.
    for lock in _locks_held:
        lock.close()
    for descriptor, path in _lock_paths.items():
        with suppress(OSError):  # a thread that closes a lock has given its number up before the system has
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.close(descriptor)
    _lock_paths.clear()
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_forget_inherited)


class Disk:
    """The operating system's files; every method is one point where a fault can be injected."""

    is_store = False  # whether it is a store of perdure that acts as a disk, and no file of this machine

    def kind(self, path: str) -> str | None:
        """What is at `path`, itself and not what it links to: directory, file, link, or None."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        return DIRECTORY if stat.S_ISDIR(mode) else LINK if stat.S_ISLNK(mode) else FILE

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def stamp(self, path: str) -> tuple[int, ...]:
        """What differs when another file has taken the place of this one, or something was written to it."""
        status = os.stat(path)
        return status.st_ino, status.st_mtime_ns, status.st_size

    def list(self, path: str) -> list[str]:
        return os.listdir(path)

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | _COMMON)
        with open(descriptor, "rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            return file.readall() if size < 0 else _read_up_to(file.read, size)

    def write(
        self, path: str, offset: int, data: bytes | memoryview, *, create: bool = False, mode: int = 0o666
    ) -> int:
        """Write at `offset` and say how many bytes were taken; `create` makes the file, or empties it."""
        flags = os.O_CREAT | os.O_TRUNC if create else 0
        descriptor = os.open(path, os.O_WRONLY | flags | _NO_FOLLOW | _COMMON, mode)
        try:
            if offset:
                os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def map(self, path: str) -> memoryview:
        """The content as memory: nothing is read before it is touched, and what is written to it stays in memory.

        An empty file is no memory at all; one for which there is no room in the table of open files is read.
        """
        descriptor = os.open(path, os.O_RDONLY | _NO_FOLLOW | _COMMON)
        with open(descriptor, "rb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            found = _mapped(descriptor) if size else None
            if found is not None:
                return memoryview(found)
            content = bytearray(size)
            filled = 0
            while filled < size and (part := file.readinto(memoryview(content)[filled:])):
                filled += part
            return memoryview(content)[:filled]

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def sync(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | _NO_FOLLOW | _COMMON)
        try:
            if sys.platform == "darwin":  # fsync alone stops at the drive's cache there; untested
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def hold(self, path: str) -> int:
        """Open a file that is there and keep it open; what it returns is for the three calls below."""
        descriptor = os.open(path, os.O_RDWR | _NO_FOLLOW | _COMMON)
        _held.add(descriptor)
        return descriptor

    def write_held(self, token: int, offset: int, data: bytes | memoryview) -> int:
        if sys.platform == "win32":  # written for, untested
            os.lseek(token, offset, os.SEEK_SET)
            return os.write(token, data)
        return os.pwrite(token, data, offset)

    def sync_held(self, token: int) -> None:
        """Make the content durable, and of what the system knows of the file, what is needed to read it back."""
        if sys.platform == "darwin":  # untested
            fcntl.fcntl(token, fcntl.F_FULLFSYNC)
        elif hasattr(os, "fdatasync"):
            os.fdatasync(token)
        else:
            os.fsync(token)

    def let_go(self, token: int) -> None:
        if token in _held:  # else a forked child, which let go of it already
            _held.discard(token)
            os.close(token)

    def sync_directory(self, path: str) -> None:
        if sys.platform == "win32":
            return  # directories cannot be opened there, and NTFS keeps a journal of them
        descriptor = os.open(path, os.O_RDONLY | _COMMON)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, path: str) -> bool:
        """Make everything on the file system of `path` durable by one call; False where there is no such call."""
        if not sys.platform.startswith("linux"):
            return False
        import ctypes  # only large commits need it

        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "syncfs"):
            return False
        descriptor = os.open(path, os.O_RDONLY | _COMMON)
        try:
            if library.syncfs(descriptor) == 0:
                return True
            number = ctypes.get_errno()
        finally:
            os.close(descriptor)
        if number == errno.ENOSYS:
            return False
        raise OSError(number, os.strerror(number), path)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=os.link not in os.supports_follow_symlinks)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_directory(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)

    def lock(self, path: str, *, exclusive: bool, create: bool) -> AbstractContextManager[Any]:
        """Take the lock at once or raise `BlockingIOError`. The end of what it returns gives it back.

        That is the file itself: `with` closes it without a line of Python, before which an interruption could come.
        """
        flags = os.O_RDWR if exclusive else os.O_RDONLY
        with _opening:
            descriptor = os.open(path, flags | (os.O_CREAT if create else 0) | _NO_FOLLOW | _COMMON, 0o666)
            # It is closed when nobody has it: an interruption loses it.
            token = io.FileIO(descriptor, "r+" if exclusive else "r")
            _locks_held.add(token)
            _lock_paths[descriptor] = path
        try:
            if sys.platform == "win32":  # written for, untested: there is no shared lock, readers take turns
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(token, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return token
        except BaseException as error:
            token.close()
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EDEADLK, errno.EAGAIN):
                raise BlockingIOError(errno.EAGAIN, "locked", path) from error
            raise


class Files:
    """Files with perdure's errors: `DiskFull`, `AccessDenied`, `OutcomeUnknown`, else `StorageError`."""

    def __init__(self, disk: Disk | None = None):
        self.disk = disk or Disk()

    def kind(self, path: str) -> str | None:
        """What is at `path` itself: directory, file, link, or None."""
        with named(path, "look at"):
            return self.disk.kind(path)

    def size(self, path: str) -> int | None:
        """The size in bytes; None where there is nothing."""
        with named(path, "look at"):
            try:
                return self.disk.size(path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def stamp(self, path: str) -> tuple[int, ...] | None:
        """What differs when the file was written to or replaced; None where there is nothing."""
        with named(path, "look at"):
            try:
                return self.disk.stamp(path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, path: str) -> list[str]:
        """The names in a directory, in no order."""
        with named(path, "list"):
            return self.disk.list(path)

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes | None:
        """What is in the file, from `offset`; None where there is no file."""
        with named(path, "read"):
            try:
                return self.disk.read(path, offset, size)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def map(self, path: str) -> memoryview | None:
        """The content, memory-mapped copy on write; None where there is no file. The file must not become shorter."""
        with named(path, "read"):
            try:
                return self.disk.map(path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write_parts(self, path: str, parts: Iterable[bytes | memoryview], *, mode: int = 0o666) -> int:
        """Make the file, or empty it, and fill it part by part; gives its length. Not durable before `sync`."""
        self.write_new(path, b"", mode=mode)
        end = 0
        for part in parts:
            self.write_at(path, end, part)
            end += len(part)
        return end

    def write_new(self, path: str, data: bytes, *, mode: int = 0o666) -> None:
        """Make the file, or empty it, and fill it; not durable before `sync`."""
        with named(path, "write"):
            written = self.disk.write(path, 0, data, create=True, mode=mode)
            self._write_rest(path, 0, data, written)

    def write_at(self, path: str, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` from `offset` on; not durable before `sync`."""
        with named(path, "write"):
            self._write_rest(path, offset, data, self.disk.write(path, offset, data))

    def truncate(self, path: str, size: int) -> None:
        """Cut the file after `size` bytes; not durable before `sync`."""
        with named(path, "shorten"):
            self.disk.truncate(path, size)

    def sync(self, path: str) -> bool:
        """Make the content durable; False where there is no file any more. Errors are `OutcomeUnknown`."""
        with durable(path):
            try:
                self.disk.sync(path)
            except FileNotFoundError:
                return False
            return True

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable. Errors are `OutcomeUnknown`."""
        with durable(path):
            self.disk.sync_directory(path)

    def sync_many(self, paths: Iterable[str], *, directory: str, few: int = 128) -> None:
        """Make the content of many files below `directory` durable; those that are gone are passed over."""
        wanted = list(paths)
        if len(wanted) > few:
            with durable(directory):
                if self.disk.sync_all(directory):
                    return
        for path in wanted:
            self.sync(path)

    def rename(self, source: str, target: str) -> None:
        """Give the file another name, in place of what had it; not durable before `sync_directory`."""
        with named(target, "replace"):
            self.disk.rename(source, target)

    def link(self, source: str, target: str) -> bool:
        """Give the file a second name (a durable copy where there are no links); False where there is no file."""
        with named(target, "make"):
            try:
                self.disk.link(source, target)
            except FileExistsError:
                return True
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return True
        data = self.read(source)
        if data is None:
            return False
        self.replace_durably(target, data)
        return True

    def unlink(self, path: str) -> None:
        """Remove the name; nothing happens where there is none."""
        with named(path, "remove"), suppress(FileNotFoundError):
            self.disk.unlink(path)

    def make_directories(self, path: str, *, mode: int = 0o777) -> None:
        """Make a directory and what is missing above it, durably; fine if it is there."""
        missing = []
        while self.kind(path) is None:
            missing.append(path)
            path = os.path.dirname(path)
        for new in reversed(missing):
            with named(new, "make"), suppress(FileExistsError):
                self.disk.make_directory(new, mode)
            self.sync_directory(os.path.dirname(new))

    @contextmanager
    def beside(self, path: str) -> Iterator[str]:
        """The name of a file that the block fills and makes durable, and that then is `path`; else it is taken away."""
        aside = f"{path}.new"
        try:
            yield aside
            self.rename(aside, path)
        except BaseException:
            with suppress(StorageError):
                self.unlink(aside)
            raise
        self.sync_directory(os.path.dirname(path))

    def replace_durably(self, path: str, data: bytes, *, mode: int = 0o666) -> None:
        """Put a file in place of the old one: all of it, or the old one stays; durable when it returns."""
        with self.beside(path) as aside:
            self.write_new(aside, data, mode=mode)
            self.sync(aside)

    def lock(
        self, path: str, *, exclusive: bool = True, create: bool = False, timeout: float = 60.0
    ) -> AbstractContextManager[Any]:
        """The lock file, taken, for a block; waits for others for at most `timeout` seconds, then `StoreBusy`."""
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while True:
            with named(path, "lock"):
                try:
                    return self.disk.lock(path, exclusive=exclusive, create=create)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StoreBusy(
                            f"Another process kept {path} locked for {timeout:g} seconds.",
                            hint="Try again, or give a longer timeout.",
                            path=path,
                        ) from None
            time.sleep(pause * _chance.uniform(0.5, 1.5))
            pause = min(pause * 1.5, 0.02)

    def _write_rest(self, path: str, offset: int, data: bytes | memoryview, written: int) -> None:
        view = memoryview(data)
        while written < len(data):
            taken = self.disk.write(path, offset + written, view[written:])
            if not taken:
                raise OSError(errno.ENOSPC, "nothing more was taken", path)
            written += taken


def _mapped(descriptor: int) -> mmap.mmap | None:
    """The file, mapped copy on write; None where that would take more open files than a program can spare."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY, trackfd=False)
    if len(_maps) >= _most_maps():  # until 3.12 each map keeps a file open, of which a process may have but so many
        return None
    try:
        found = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return None  # others have them: it can be read all the same
    _maps.add(found)
    return found


def _most_maps() -> int:
    """A quarter of the files that this process may have open, and not too many."""
    if sys.platform == "win32":
        return MOST_MAPS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_MAPS if soft == resource.RLIM_INFINITY else min(MOST_MAPS, soft // 4)


def _read_up_to(read: Callable[[int], bytes | None], size: int) -> bytes:
    parts = []
    while size > 0 and (part := read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
