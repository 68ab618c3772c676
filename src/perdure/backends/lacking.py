"""The errors for what some kinds of stores cannot do: a backend of somebody else's need not do everything."""

from __future__ import annotations

from perdure.errors import StorageError


def cannot_be_mended() -> StorageError:
    """The error for a backend that has no way to put something in the place of what is damaged."""
    return StorageError("This kind of store cannot be mended.", hint="Restore a backup of it into another place.")


def cannot_be_encrypted() -> StorageError:
    """The error for a backend that has no place to note that what it holds is encrypted."""
    return StorageError("This kind of store cannot be encrypted.", hint="Choose one of perdure's own kinds.")


def cannot_be_filled(revision: int) -> StorageError:
    """The error for a backend that cannot take in a history which does not begin at its beginning."""
    return StorageError(
        f"This kind of store cannot take in a history of which only a part is kept, here at revision {revision}.",
        hint="Choose a store in a directory, in SQLite or on a server.",
    )
