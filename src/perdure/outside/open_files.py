"""Open files by name, mode and position: reopened when what holds them is loaded.

- Nothing of this is on until `open_files()` is called: by default an open file in a state is `CannotPickle`.
- Reopening never makes, empties or shortens a file: one that is gone, or ends before the position, is `CannotResolve`.
- Only what was opened from a path that still leads to it is stored: no pipes, terminals, sockets, removed files.
- What is in the file's own buffer is written out before the position is taken.
"""

from __future__ import annotations

import io
import os
from functools import partial
from typing import Any

from perdure.pickling.outside import Resources, reference

_CLASSES: tuple[type[Any], ...] = (
    io.TextIOWrapper,
    io.BufferedReader,
    io.BufferedWriter,
    io.BufferedRandom,
    io.FileIO,
)
_MAKES_OR_EMPTIES = os.O_CREAT | os.O_TRUNC | os.O_EXCL
_BYTES = (1 << 64) - 1  # the part of a text file's position that counts bytes


def open_files() -> None:
    """Let open files be stored, from now on in this process, by absolute path, mode, encoding and position.

    A loaded one is a new file object, yours to close. What it was opened with for `newline=` is not known to anybody,
    so a text file is reopened with the default. A file that cannot be stored in this way is `CannotPickle` as before.
    """
    for cls in _CLASSES:
        open_it = _open_text if cls is io.TextIOWrapper else partial(_open_binary, cls)
        reference(f"perdure.{cls.__name__}", cls, key=partial(_key, cls), shared=False)(open_it)


def _key(cls: type[Any], file: Any) -> tuple[Any, ...]:
    if type(file) is not cls:
        raise ValueError(f"it is a {type(file).__name__}, which cannot be opened again by its name")
    if file.closed:
        raise ValueError("the file is closed")
    raw = _raw(file)
    path = _path(raw)
    if file.writable():
        file.flush()
    where = path, raw.mode, file.tell()  # the position of a text in mid-iteration is not told: OSError
    return (*where, file.encoding, file.errors, file.line_buffering) if cls is io.TextIOWrapper else where


def _raw(file: Any) -> io.FileIO:
    inner = file.buffer if type(file) is io.TextIOWrapper else file
    inner = getattr(inner, "raw", inner)
    if type(inner) is not io.FileIO:
        raise ValueError(f"it stands on a {type(inner).__name__}, not on a file of its own")
    return inner


def _path(raw: io.FileIO) -> str:
    if not isinstance(raw.name, (str, bytes)):
        raise ValueError("it was opened without a name")
    path = os.path.abspath(os.fsdecode(raw.name))
    try:
        same = os.path.samestat(os.fstat(raw.fileno()), os.stat(path))
    except OSError:
        same = False
    if not same:
        raise ValueError(f"{raw.name!r} does not lead to it (any more)")
    if not raw.seekable():
        raise ValueError("it has no position")
    return path


def _open_text(key: tuple[str, str, int, str, str, bool], resources: Resources) -> Any:
    path, mode, position, encoding, errors, by_lines = key
    buffering = 1 if by_lines else -1
    file = open(path, mode.replace("b", ""), buffering, encoding, errors, opener=_open_as_it_is)  # noqa: SIM115 # theirs
    return _placed(file, position, position & _BYTES)


def _open_binary(cls: type[Any], key: tuple[str, str, int], resources: Resources) -> Any:
    path, mode, position = key
    file = open(path, mode, 0 if cls is io.FileIO else -1, opener=_open_as_it_is)  # noqa: SIM115 # as above
    return _placed(file, position, position)


def _open_as_it_is(path: str, flags: int) -> int:
    """Open a file that is there, whatever its mode would otherwise do to it."""
    return os.open(path, flags & ~_MAKES_OR_EMPTIES)


def _placed(file: Any, position: int, count: int) -> Any:
    try:
        size = os.fstat(file.fileno()).st_size
        if size < count:
            raise ValueError(f"{file.name} has {size} bytes, and its position was {count}: it was shortened")
        file.seek(position)
    except BaseException:
        file.close()
        raise
    return file
