"""Tells whether anybody has committed to a SQLite database, for the price of comparing 48 bytes.

In WAL mode every commit, of whatever process, ends by writing the header of the log's index (`-shm`), which all of them
map into memory; it holds a counter of commits and the running checksum of the log. See "WAL-Index Header" in
https://www.sqlite.org/walformat.html. As long as its first copy is the same, nobody has committed.

- Only read, and only while a connection of SQLite's to the same database is open in this process: as long as that is
  so, nobody may take the file away or make it shorter.
- POSIX drops a process's locks on a file when *any* of its descriptors of it is closed, SQLite's among them. So ours
  are never closed while the file has a name; it loses that when the last connection of all processes is closed.
- Where this cannot be (no mapping, another system, a network disk), the watch tells something else at each call.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from functools import partial
from operator import getitem
from struct import Struct

from perdure import kernels

_HEADER = slice(0, 48)
_counter = Struct("=8xI36x").unpack
_VERSION = 3007000  # of the header's layout; it has not changed since there is a log
_SIZE = 32768  # bytes that SQLite makes the index long at least

_set = partial.__setstate__  # type: ignore[attr-defined]  # changes what it calls in one step
Identity = tuple[int, int]

_MAPPED: dict[Identity, tuple[int, mmap.mmap]] = {}
_LOCK = threading.Lock()


def identity_of(path: str) -> Identity:
    """Which file a path leads to; raises `OSError`."""
    if hasattr(kernels.compiled, "identity_of"):
        identity: Identity = kernels.compiled.identity_of(path)
        return identity
    status = os.stat(path)
    return status.st_dev, status.st_ino


def new_watch() -> partial[object]:
    """A watch that tells something else at each call."""
    return partial(object)


def start(watch: partial[object], path: str) -> None:
    """Let it watch the database at `path`, to which a connection is open that has read from it."""
    if not sys.platform.startswith("linux"):  # the others are not tested
        return
    with _LOCK:
        mapped = _map(os.path.realpath(path) + "-shm")
        if mapped is not None and int.from_bytes(mapped[:4], sys.byteorder) == _VERSION:
            _set(watch, (getitem, (mapped, _HEADER), {}, {}))


def is_next(before: object, after: object) -> bool:
    """Whether just one commit lies between what a watch gave before and after: its counter has gone on by one."""
    if type(before) is not bytes or type(after) is not bytes:
        return False
    return bool(_counter(after)[0] - _counter(before)[0] & 0xFFFFFFFF == 1)


def stop(watch: partial[object]) -> None:
    """Let it watch nothing, before the connection is closed: who is about to call it will not read the file."""
    _set(watch, (object, (), {}, {}))


def let_go() -> None:
    """Close the files that nobody can use any more."""
    with _LOCK:
        for identity, (descriptor, mapped) in list(_MAPPED.items()):
            if not os.fstat(descriptor).st_nlink:
                del _MAPPED[identity]
                mapped.close()
                os.close(descriptor)


def _map(path: str) -> mmap.mmap | None:
    try:
        status = os.stat(path)
        known = _MAPPED.get((status.st_dev, status.st_ino))
        if known is not None:
            return known[1]
        if status.st_size < _SIZE:
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    status = os.fstat(descriptor)  # from here on it stays open, whatever comes
    try:
        mapped = mmap.mmap(descriptor, _SIZE, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    _MAPPED[status.st_dev, status.st_ino] = descriptor, mapped
    return mapped


def _after_fork(mapped: object) -> None:
    """The lock may have been held by a thread that the child does not have.

    That `mapped` is registered with this keeps the maps until nothing of the interpreter is left. Else they would be
    closed when modules are torn down, perhaps before a connection that somebody left open.
    """
    global _LOCK
    _LOCK = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=partial(_after_fork, _MAPPED))
