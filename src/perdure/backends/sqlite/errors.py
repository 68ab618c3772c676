"""What SQLite's errors mean, in perdure's own words.

- "The database is busy" is told apart from every other failure, so that the caller can wait and try again.
- A failed commit is told apart by whether it can have reached the disk.
"""

from __future__ import annotations

import errno
import os
import sqlite3

from perdure.errors import (
    AccessDenied,
    DiskFull,
    InvalidArgument,
    NotAStore,
    OutcomeUnknown,
    PerdureError,
    StorageError,
    StoreNotFound,
)

_LONGEST_NAME = 255  # bytes, on most file systems
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DENIED = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection is in the way, so that the same call may succeed later."""
    return _code(error) & 0xFF in _BUSY


def leaves_outcome_unknown(error: sqlite3.Error) -> bool:
    """Whether a COMMIT that failed so may nevertheless be found in the file after a crash.

    A failed write cut the commit short, and the checksums of SQLite's log hide what is short; after a failed fsync,
    or a failure in the log's index, the commit may be whole.
    """
    code = _code(error)
    return code & 0xFF == sqlite3.SQLITE_IOERR and code != sqlite3.SQLITE_IOERR_WRITE


def outcome_unknown(path: str) -> OutcomeUnknown:
    """The error for a commit to `path` that may or may not be there, and for every write after it."""
    return OutcomeUnknown(
        f"An error came while a commit to {path!r} was being made durable; nobody knows whether it is there.",
        hint="Look after the disk, then open the store anew and look which revision it has.",
    )


def moved(path: str) -> StorageError:
    """The error for a database file whose path now leads to another file, or to none."""
    return StorageError(f"{path!r} was moved, removed or replaced while it was open.", hint="Open it again.", path=path)


def translate(error: sqlite3.Error, path: str) -> PerdureError:
    """The error of perdure's that says the same as SQLite's `error` about the database file `path`."""
    code = _code(error)
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"No space is left for {path!r}; nothing of this commit was kept.", hint="Make room.")
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return moved(path)
    if primary in _DENIED:
        return _denied(path)
    if primary == sqlite3.SQLITE_CANTOPEN:
        return _cannot_open(path)
    if primary == sqlite3.SQLITE_NOTADB:
        return NotAStore(f"{path!r} is not a SQLite database.", hint="Give the file of a store, or a new name.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return StorageError(f"{path!r} is damaged: {error}.", hint="Go back to a backup.")
    if primary == sqlite3.SQLITE_TOOBIG:
        return StorageError(f"A record is too large for {path!r}: SQLite takes up to 1 GB.", hint="Split the object.")
    if code == sqlite3.SQLITE_IOERR_WRITE:
        return StorageError(
            f"{path!r} could not be written; nothing of this commit was kept.",
            hint="A quota, a limit on the size of files, or the disk itself is in the way.",
        )
    return StorageError(
        f"SQLite failed on {path!r}: {error} ({_name(error)}).", hint="Look at the disk, and at what `check` says."
    )


def no_store(path: str) -> StoreNotFound:
    """The error for a file that is not there, and is not made."""
    return StoreNotFound(f"There is no store at {path!r}.", hint="Look at the path; opened for writing, it is made.")


def is_directory(path: str) -> NotAStore:
    """The error for a directory where a file is expected."""
    return NotAStore(
        f"{path!r} is a directory, not a SQLite database.",
        hint="Give the path alone for a store in a directory, or the path of a file in it.",
    )


def not_reached(error: OSError, path: str) -> PerdureError:
    """The error of perdure's that says what the operating system says of a file on the way to a store's."""
    if isinstance(error, PermissionError):
        return AccessDenied(
            f"This user may not get to {path!r}.", hint="Change the permissions of the directories that it is in."
        )
    if error.errno == errno.ENAMETOOLONG:
        return _too_long(path)
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ELOOP:
        return StoreNotFound(
            f"There is no way to {path!r}: {error.strerror}.", hint="Look at the path, and at the links in it."
        )
    return StorageError(f"{path!r} cannot be looked at: {error.strerror}.", hint="Check the disk.", path=path)


def _too_long(path: str) -> InvalidArgument:
    return InvalidArgument(
        f"{os.path.basename(path)[:40]}… is too long for the name of a database, beside which SQLite makes others.",
        hint=f"Take a name of at most {_LONGEST_NAME - len('-journal')} bytes.",
    )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", type(error).__name__)


def _denied(path: str) -> AccessDenied:
    return AccessDenied(
        f"This user may not write {path!r}, or the directory that it is in.",
        hint="Change the permissions, or open the store with read_only=True.",
    )


def _cannot_open(path: str) -> PerdureError:
    directory = os.path.dirname(path)
    if os.path.isdir(path):
        return is_directory(path)
    if len(os.fsencode(os.path.basename(path))) + len("-journal") > _LONGEST_NAME:
        return _too_long(path)
    if not os.path.exists(directory):
        return StoreNotFound(f"There is no directory {directory!r}.", hint="Make it first.")
    if not os.path.isdir(directory):
        return StoreNotFound(f"{directory!r} is no directory.", hint="Look at the path.")
    if not os.path.exists(path) and os.access(directory, os.W_OK | os.X_OK):
        return no_store(path)
    return AccessDenied(
        f"This user may not open {path!r}.", hint="Change the permissions of the file or its directory."
    )
