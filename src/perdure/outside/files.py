"""Files by path and content: the record has path, digest and size, the content stays where it is.

- Loading does not look at the file: opening it does, and verifying. What was opened is what was verified.
- A relative path is looked up in the folder that is given as the resource `"files"`; without it, in the working
  directory.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path
from typing import IO, Any, BinaryIO

from perdure.errors import CannotResolve, FileChanged
from perdure.pickling.outside import Kind, Resources, outside, register_own

TAG = "perdure.file"
FILES = "files"  # the resource
DIGEST_SIZE = 32  # bytes, of BLAKE2b

PathLike = str | os.PathLike[str]


class File:
    """A file as it is now, by its path, the BLAKE2b digest of its content (hexadecimal) and its size in bytes.

    The whole file is read for that. A relative `path` is in `folder` (the working directory if none is given). Raises
    `CannotResolve` if there is no such file. Files with the same path, digest and size are equal.
    """

    __slots__ = ("__weakref__", "_digest", "_folder", "_path", "_size")

    def __init__(self, path: PathLike, folder: PathLike | None = None):
        self._path = os.fspath(path)
        if type(self._path) is not str or not self._path:
            raise TypeError(f"a path is a str that is not empty, not {path!r:.60}")
        self._folder = None if folder is None else os.fspath(folder)
        with self._opened() as file:
            self._digest, self._size = digest_of(file), file.tell()

    @classmethod
    def _stored(cls, path: str, digest: str, size: int, folder: PathLike | None) -> File:
        made = cls.__new__(cls)
        made._path, made._digest, made._size = path, digest, size
        made._folder = None if folder is None else os.fspath(folder)
        return made

    @property
    def path(self) -> Path:
        """Where the file is looked for."""
        return Path(self._path) if self._folder is None else Path(self._folder, self._path)

    @property
    def digest(self) -> str:
        """The BLAKE2b digest of the content, 64 hexadecimal digits."""
        return self._digest

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self._size

    def verify(self) -> None:
        """Read the file; raises `CannotResolve` if it is not there, `FileChanged` if its content is another."""
        with self.open():
            pass

    def open(self, mode: str = "rb", encoding: str | None = None, errors: str | None = None) -> IO[Any]:
        """The verified file, open for reading (`"r"` or `"rb"`), at its beginning; raises as `verify` does."""
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"a file that is kept by its digest is only read ('r' or 'rb'), not opened with {mode!r}")
        file = self._opened()
        try:
            size = os.fstat(file.fileno()).st_size
            if size != self._size:
                raise self._changed(f"{size} bytes instead of {self._size}")
            if digest_of(file) != self._digest:
                raise self._changed("other content of the same size")
            file.seek(0)
            return file if mode == "rb" else io.TextIOWrapper(file, encoding, errors)
        except BaseException:
            file.close()
            raise

    def _opened(self) -> BinaryIO:
        path = self.path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise self._gone("it is no regular file")
            return path.open("rb")
        except (OSError, ValueError) as error:
            raise self._gone(str(error)) from error

    def _gone(self, why: str) -> CannotResolve:
        return CannotResolve(
            f"The file {self.path} cannot be read: {why}.",
            hint="Bring it back, or give the folder that it is in: make_store(url, resources={'files': …}).",
            tag=TAG,
            key=self._path,
        )

    def _changed(self, how: str) -> FileChanged:
        return FileChanged(
            f"The file {self.path} is not what it was when it was stored: {how}.",
            hint="Bring the former content back, or store a new File of it.",
            tag=TAG,
            key=self._path,
        )

    def __outside__(self) -> tuple[str, tuple[str, str, int]]:
        return TAG, (self._path, self._digest, self._size)

    def __reduce__(self) -> tuple[Any, ...]:
        return outside, self.__outside__()

    def __copy__(self) -> File:
        return self

    def __deepcopy__(self, memo: Any) -> File:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and other.__outside__() == self.__outside__()

    def __hash__(self) -> int:
        return hash(self.__outside__())

    def __repr__(self) -> str:
        return f"<File {self._path!r}, {self._size} bytes, {self._digest[:12]}…>"


def digest_of(file: BinaryIO) -> str:
    """The digest of what is in an open file from here to its end."""
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_SIZE)).hexdigest()  # type: ignore[arg-type]


def _file(key: tuple[str, str, int], resources: Resources) -> File:
    path, digest, size = key
    return File._stored(path, digest, size, resources.get(FILES))


register_own(Kind(TAG, File, lambda file: file.__outside__()[1], _file, False))
