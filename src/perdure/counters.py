"""The counter of this machine: numbers for id factories that are used without a store.

- A number is given once, whatever process asks; the file is durable before `reserve` returns.
- A damaged counter is an error, never a fresh start: numbers would come back.
"""

from __future__ import annotations

import os
import threading
from zlib import crc32

from perdure.errors import CorruptRecord
from perdure.files import Files


class Counter:
    """A counter in one file, shared by every process that names the same file."""

    def __init__(self, path: str | os.PathLike[str], files: Files | None = None, *, timeout: float = 60.0):
        self.path = os.path.abspath(path)
        self._files = files or Files()
        self._timeout = timeout
        self._lock = threading.Lock()

    def reserve(self, n: int = 1) -> int:
        """The first of `n` numbers that nobody else will get; they begin with 1."""
        if n < 0:
            raise ValueError(f"cannot reserve {n} numbers")
        self._files.make_directories(os.path.dirname(self.path))
        with self._lock, self._files.lock(f"{self.path}.lock", create=True, timeout=self._timeout):
            first = self._next()
            text = f"{first + n}"
            self._files.replace_durably(self.path, f"{text} {crc32(text.encode()):08x}\n".encode())
        return first

    def _next(self) -> int:
        data = self._files.read(self.path)
        if data is None:
            return 1
        number, _, check = data.decode("ascii", "replace").strip().partition(" ")
        if not number.isascii() or not number.isdigit() or check != f"{crc32(number.encode()):08x}":
            raise CorruptRecord(
                f"The counter {self.path} is damaged.",
                hint="Write a number and its checksum from a backup; numbers below it may be in use.",
                path=self.path,
            )
        return int(number)


def machine_counter() -> Counter:
    """The counter in the user's data directory."""
    from platformdirs import user_data_path  # only factories without a store need it

    return Counter(user_data_path("perdure", appauthor=False) / "counter")
