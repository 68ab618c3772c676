"""What it means when the operating system refuses something with a file: perdure's errors, with path and advice.

- No `OSError` leaves a block under `named` or `durable`.
- An error while data is made durable is `OutcomeUnknown`: what is on the disk then, nobody can tell.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.errors import AccessDenied, DiskFull, OutcomeUnknown, StorageError, StoreBusy

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def named(path: str, doing: str) -> Iterator[None]:
    """What is refused in this block is an error of perdure's that says so."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreBusy):
            raise
        raise error_for(error, path, doing) from error


@contextmanager
def durable(path: str) -> Iterator[None]:
    """What is refused in this block leaves the disk in a state that nobody knows: `OutcomeUnknown`."""
    try:
        yield
    except OSError as error:
        raise unknown_outcome(error, path) from error


def unknown_outcome(error: OSError, path: str) -> StorageError:
    """The error for a file that the operating system could not make durable."""
    if error.errno in _DENIED:  # it could not even be opened
        return error_for(error, path, "make durable")
    return OutcomeUnknown(
        f"The operating system could not make {path} durable: {error.strerror}.",
        hint="Check the disk, then open the store again and look what is there.",
        path=path,
    )


def error_for(error: OSError, path: str, doing: str) -> StorageError:
    """The error for what the operating system did not do with that file."""
    if error.errno in _FULL:
        return DiskFull(f"No space is left to {doing} {path}.", hint="Free some space, then try again.", path=path)
    if error.errno in _DENIED:
        return AccessDenied(
            f"This user may not {doing} {path}: {error.strerror}.",
            hint="Change its permissions, or choose another place; to only look, open it with read_only=True.",
            path=path,
        )
    if error.errno == errno.ELOOP:
        return AccessDenied(
            f"{path} is a symbolic link, which perdure does not follow.", hint="Put the file itself there.", path=path
        )
    return StorageError(f"Could not {doing} {path}: {error.strerror}.", hint="Check the disk.", path=path)
