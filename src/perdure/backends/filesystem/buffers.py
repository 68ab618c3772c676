"""Large pieces in a directory store: a file each, named by its digest, never changed.

    directory/.perdure/buffers/ab/abcdef…

- A file gets its name when its content is durable, and the name is durable before the commit that needs it. What a
  crash leaves is whole and has the right name, or lies aside, where the next piece replaces it.
- Files are not compressed: they are memory-mapped as they are.
- Only what looks like a digest is ever joined to a path.
- `put` and `drop` are called with the store's lock held exclusively; to read needs no lock.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b

from perdure.backends.base import not_named_in
from perdure.backends.filesystem.locking import Locking, reading, writing
from perdure.errors import OutcomeUnknown, PerdureError, StorageError
from perdure.files import DIRECTORY, FILE, Files
from perdure.records.buffers import DIGEST_SIZE, PART, missing_piece, parts_of
from perdure.records.values import Buffer

FOLDER = "buffers"
_ASIDE = os.path.join("aside", "piece")
_DIGEST = re.compile("[0-9a-f]{64}")
_REMEMBERED = 10_000  # files of pieces that are known to be sound


class FilesystemPieces(Locking):
    """What a directory store does with its large pieces."""

    _pieces: PieceFiles

    @abstractmethod
    def _kept(self, number: int, revision: int) -> bytes: ...

    def buffer(self, digest: str) -> Buffer:
        with self._entered():
            return self._pieces.map(digest)

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        with self._entered():
            parts = self._pieces.parts(digest)
        yield from parts

    @reading
    def buffers(self) -> dict[str, int]:
        return self._pieces.sizes()

    @writing
    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        gone = not_named_in(digests, (self._kept(*version) for version in self._known().later(seen)))
        self._pieces.drop(gone)
        return gone


class PieceFiles:
    """The large pieces below perdure's own folder `own`."""

    def __init__(self, own: str, files: Files):
        self._own = own
        self._files = files
        self._sound: dict[str, tuple[int, ...]] = {}  # digests of files that were looked through, with their stamps

    @contextmanager
    def put(self, buffers: Mapping[str, Buffer]) -> Iterator[None]:
        """Make those pieces durable that are not there yet, or are damaged; in the block is the commit that needs them.

        If it fails those that are new are removed, unless it may be there all the same: after an unknown outcome, and
        where Ctrl-C came between.
        """
        new: list[str] = []
        folders = set()
        try:
            for digest, content in buffers.items():
                path = self._path(digest)
                folders.add(os.path.dirname(path))
                size = self._files.size(path)
                if size != len(content) or not self._is_sound(path, digest):
                    self._write(path, digest, content)
                    new += () if size is not None else (digest,)
            for folder in sorted(folders):  # a name that is there may be one that a killed process left undurable
                self._files.sync_directory(folder)
            yield
        except OutcomeUnknown:
            raise
        except PerdureError:
            for digest in new:  # what cannot be removed is left to `drop_unnamed`
                with suppress(StorageError):
                    self._files.unlink(self._path(digest))
            raise

    def _is_sound(self, path: str, digest: str) -> bool:
        """Whether a file that is there has the content that its name tells; each is looked through once."""
        stamp = self._files.stamp(path)
        if stamp is not None and self._sound.get(digest) == stamp:
            return True
        state = blake2b(digest_size=DIGEST_SIZE)
        for part in self.parts(digest):
            state.update(part)
        if state.hexdigest() != digest:
            return False
        if len(self._sound) >= _REMEMBERED:
            self._sound.clear()
        if stamp is not None:
            self._sound[digest] = stamp
        return True

    def map(self, digest: str) -> memoryview:
        """The piece, memory-mapped copy on write; raises `CorruptRecord` where it is not there."""
        found = self._files.map(self._path(digest))
        if found is None:
            raise missing_piece(digest)
        return found

    def parts(self, digest: str) -> Iterator[Buffer]:
        """The piece, part by part, without memory-mapping it."""
        path, start = self._path(digest), 0
        while True:
            part = self._files.read(path, start, PART)
            if part is None:
                raise missing_piece(digest)
            if not part:
                return
            yield part
            start += len(part)

    def sizes(self) -> dict[str, int]:
        """The digests of all pieces, with their lengths in bytes."""
        found = {}
        root = os.path.join(self._own, FOLDER)
        for folder in sorted(self._files.list(root)) if self._files.kind(root) == DIRECTORY else ():
            inside = os.path.join(root, folder)
            for name in sorted(self._files.list(inside)) if self._files.kind(inside) == DIRECTORY else ():
                path = os.path.join(inside, name)
                size = self._files.size(path) if _DIGEST.fullmatch(name) and name.startswith(folder) else None
                if size is not None and self._files.kind(path) == FILE:
                    found[name] = size
        return found

    def drop(self, digests: Collection[str]) -> None:
        """Remove those pieces, and what a crash left aside."""
        self._files.unlink(os.path.join(self._own, _ASIDE))
        for digest in digests:
            self._files.unlink(self._path(digest))

    def _write(self, path: str, digest: str, content: Buffer) -> None:
        self._files.make_directories(os.path.dirname(path))
        aside = os.path.join(self._own, _ASIDE)
        try:
            self._files.write_parts(aside, parts_of(digest, content))
            self._files.sync(aside)
            self._files.rename(aside, path)
        except BaseException:
            with suppress(StorageError):
                self._files.unlink(aside)
            raise

    def _path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise missing_piece(digest)
        return os.path.join(self._own, FOLDER, digest[:2], digest)
