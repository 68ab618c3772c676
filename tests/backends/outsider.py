"""A backend as somebody outside might write it: all of a store in one pickle file, under a lock, read at each call."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.backends.base import NewKey, no_key
from perdure.backends.memory import MemoryBackend
from perdure.errors import StoreClosed, StoreNotFound

_KEPT = (
    *("_store", "_key_id", "_next_number", "_revision", "_oldest", "_versions", "_ids", "_classes", "_commits"),
    *("_buffers", "_class_names"),
)


class PickleBackend(MemoryBackend):
    """What the backend in memory knows, in the file `path`."""

    def __init__(self, path: Path, *, new_key: NewKey = no_key, create: bool = True, read_only: bool = False):
        self._path = path
        if not path.exists() and not (create and not read_only):
            raise StoreNotFound(f"There is no store at {path}.", hint="Look at the path.")
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            is_new = not path.exists()
            super().__init__(new_key=new_key if is_new else no_key, read_only=read_only)
            if is_new:
                self._write()
        finally:
            os.close(lock)

    def _write(self) -> None:
        new = f"{self._path}.new"
        with open(new, "wb") as file:
            kept = {name: self.__dict__[name] for name in _KEPT}
            kept["_buffers"] = {digest: bytes(content) for digest, content in kept["_buffers"].items()}
            pickle.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)

    @contextmanager
    def _opened(self, *, write: bool = False, at: int | None = None) -> Iterator[None]:
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again.")
        with self.lock:
            lock = os.open(f"{self._path}.lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
                self.__dict__.update(pickle.loads(self._path.read_bytes()))
                super()._opened(write=write, at=at)
                yield
                if write:
                    self._write()
            finally:
                os.close(lock)
