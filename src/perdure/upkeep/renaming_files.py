"""Changes names of classes and modules in a file of pickles; nothing is imported or unpickled.

- A backup, `FILE.bak`, is made and durable before the file is replaced, and no file is ever overwritten for it.
- The file is replaced as a whole or stays as it was. To run it again after it was cut off does the rest.
- A file in which one pickle cannot be changed with certainty is left alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from perdure.errors import CannotRename, CorruptRecord, NotFound, StorageError
from perdure.files import FILE, Files
from perdure.pickling.renames import Renames
from perdure.pickling.rewriting import read_pickles, rewritten
from perdure.records.frame import MAGIC

ASIDE = ".perdure-rename"  # ends the name of a file that is being written; nobody else's is called so
SQLITE = b"SQLite format 3\0"


class FileReport(NamedTuple):
    """What was changed in a file, or would be: names by (old, new); how many pickles it has; where the backup is."""

    pickles: int
    names: Counter[tuple[str, str]]
    backup: str | None


def rename_in_file(
    path: str | os.PathLike[str],
    renames: Renames,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
    files: Files | None = None,
) -> FileReport:
    """Change names in the pickles of a file, of any protocol, one or several behind one another.

    Raises `CannotRename` (`.position`, `.opcode`) and `CorruptRecord` for what it cannot follow, `StorageError` where
    the backup would overwrite something else; then the file stays as it was.
    """
    files = files or Files()
    place = os.path.realpath(path)  # where a link leads is what is replaced, not the link
    data = files.read(place)
    if data is None:
        raise NotFound(f"There is no file {os.fspath(path)}.", hint="Look at the path.", path=place)
    try:
        _refuse_others(data)
        result = rewritten(data, renames, progress=progress)
        count = len(read_pickles(data))
    except (CannotRename, CorruptRecord) as error:
        error.path, error.message = place, f"{os.fspath(path)} is left as it is. {error.message}"
        raise
    if dry_run or result.data == data:
        return FileReport(count, result.changed, None)
    backup, mode = f"{place}.bak", os.stat(place).st_mode & 0o777
    _back_up(files, backup, data, mode)
    _put(files, place, result.data, mode)
    return FileReport(count, result.changed, backup)


def _back_up(files: Files, backup: str, data: bytes, mode: int) -> None:
    """Write the backup, durably; one with the same content is there where an earlier run was cut off."""
    kind = files.kind(backup)
    if kind is None:
        _put(files, backup, data, mode)
    elif kind != FILE or files.read(backup) != data:
        raise StorageError(
            f"{backup} is there already, and is not overwritten.",
            hint="Move it to another place, or remove it, and run this again.",
            path=backup,
        )
    else:
        files.sync(backup)
        files.sync_directory(os.path.dirname(backup))


def _put(files: Files, path: str, data: bytes, mode: int) -> None:
    """Put a file in place of the old one, or where none was: all of it or nothing, durable when it returns."""
    aside = f"{path}{ASIDE}"
    try:
        files.write_new(aside, data, mode=mode)
        files.sync(aside)
        files.rename(aside, path)
    except StorageError:
        with suppress(StorageError):
            files.unlink(aside)
        raise
    files.sync_directory(os.path.dirname(path))


def _refuse_others(data: bytes) -> None:
    if data.startswith(SQLITE):
        raise CorruptRecord("This is a SQLite database.", hint="Give the store in it by its URL: sqlite:///shop.db.")
    if data.startswith(MAGIC):
        raise CorruptRecord(
            "It holds dumps of perdure, which are sealed.", hint="Load them, and dump them again by the new names."
        )
