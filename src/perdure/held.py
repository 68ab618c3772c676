"""A file that stays open while it is written to, for what is written too often to be opened each time.

- Errors are those of `perdure.files`: `DiskFull` and so on for a write, `OutcomeUnknown` for what is made durable.
- The file must be there; a forked child has lost it, and its writes are refused by the operating system.
"""

from __future__ import annotations

import errno

from perdure.files import Files
from perdure.refusals import error_for, named, unknown_outcome


class HeldFile:
    """One open file; nothing is written at its end by itself: every write says where."""

    def __init__(self, files: Files, path: str):
        self.path = path
        self._disk = files.disk
        with named(path, "open"):
            self._token = self._disk.hold(path)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` from `offset` on; not durable before `sync`."""
        try:
            taken = self._disk.write_held(self._token, offset, data)
            while taken < len(data):
                more = self._disk.write_held(self._token, offset + taken, memoryview(data)[taken:])
                if not more:
                    raise OSError(errno.ENOSPC, "nothing more was taken", self.path)
                taken += more
        except OSError as error:
            raise error_for(error, self.path, "write") from error

    def sync(self) -> None:
        """Make the content durable."""
        try:
            self._disk.sync_held(self._token)
        except OSError as error:
            raise unknown_outcome(error, self.path) from error

    def close(self) -> None:
        """Close it; what was not synced may still be lost with the power."""
        with named(self.path, "close"):
            self._disk.let_go(self._token)
