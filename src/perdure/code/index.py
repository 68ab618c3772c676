"""Reads git's index: which files are tracked, with which content, and which of them differ in the work tree.

- It is only read, and the files of the work tree are: no filter, hook or monitor takes part.
- A file is as the index has it if size and time say so, and it is not as young as the index; else its bytes decide.
- What a configuration makes of a file (line ends aside) is not known: such a file, once touched, counts as changed.
- Shapes of an index that are rare (version 4, split, sparse) are not read: None.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from perdure import kernels

_BYTES_TO_COMPARE = 16 << 20  # a larger file whose times were touched counts as changed, unread
_KIND = stat.S_IFMT(0xFFFF)  # which bits of a mode say what kind of file it is
_SUBMODULE, _LINK, _DIRECTORY = 0o160000, 0o120000, 0o040000
_ASSUME_VALID, _EXTENDED, _STAGE = 0x8000, 0x4000, 0x3000
_SKIP_WORK_TREE, _INTENT_TO_ADD = 0x4000, 0x2000
_HEAD = Struct(">4sII")
_INDEXES_KEPT = 8  # of repositories


class Tracked(NamedTuple):
    """A file as the index has it. `told` is False where its place in the work tree is not to be looked at."""

    mode: int
    raw: bytes
    size: int
    seconds: int
    nanoseconds: int
    told: bool
    settled: bool

    @property
    def id(self) -> str:
        """The id of its blob."""
        return self.raw.hex()


class Index(NamedTuple):
    """Tracked files by path, when the index was written (nanoseconds), and the tree that it holds, if it says so."""

    files: Mapping[str, Tracked]
    written: int
    tree: str = ""


def read_index(path: str, *, id_size: int = 20) -> Index | None:
    """The index in that file; an empty one where there is none, None where it is of a shape that is not read here.

    A file that was read before, and that nobody has replaced since, is not parsed again.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            signature = status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns, id_size
            known = _known.get(path)
            if known is not None and known[0] == signature:
                return known[1]
            data = file.read()
    except FileNotFoundError:
        return Index({}, 0)
    except OSError:
        return None
    found = _parsed(data, status.st_mtime_ns, id_size)
    while len(_known) >= _INDEXES_KEPT:
        _known.pop(next(iter(_known)), None)
    _known[path] = signature, found
    return found


_known: dict[str, tuple[tuple[int, ...], Index | None]] = {}


def _parsed(data: bytes, written: int, id_size: int) -> Index | None:
    try:
        signature, version, count = _HEAD.unpack_from(data)
        if signature != b"DIRC" or version not in (2, 3):
            return None
        found = _entries(data, count, id_size)
        if found is None:
            return None
        files, place = found
        tree = _tree_in(data, place, id_size)
        return None if tree is None else Index(files, written, tree)
    except (StructError, ValueError, IndexError):
        return None


def _entries(data: bytes, count: int, id_size: int) -> tuple[dict[str, Tracked], int] | None:
    """The files by path, and where they end; None for a sparse index."""
    if kernels.compiled is not None:
        found = kernels.compiled.tracked_files(data, _HEAD.size, count, id_size, Tracked)
        if found is not NotImplemented:
            known: tuple[dict[str, Tracked], int] = found
            return known
    entry = Struct(f">8x2I8xI8xI{id_size}sH")
    unpack, size, find = entry.unpack_from, entry.size, data.index
    files: dict[str, Tracked] = {}
    new, encoding, errors = tuple.__new__, sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    place = _HEAD.size
    for _ in range(count):
        seconds, nanoseconds, mode, length, id_, flags = unpack(data, place)
        begin = place + size
        more = 0
        if flags & _EXTENDED:
            more = int.from_bytes(data[begin : begin + 2], "big")
            begin += 2
        end = find(b"\0", begin)
        if mode == _DIRECTORY:
            return None  # sparse
        told = not (flags & _ASSUME_VALID or more & _SKIP_WORK_TREE)
        settled = not (flags & _STAGE or more & _INTENT_TO_ADD)
        name = data[begin:end].decode(encoding, errors)
        files[name] = new(Tracked, (mode, id_, length, seconds, nanoseconds, told, settled))
        place += (end - place + 8) & ~7
    return files, place


def _tree_in(data: bytes, place: int, id_size: int) -> str | None:
    """The tree that the extensions tell, "" for none; None for an index that is split or sparse."""
    tree = ""
    while place + 8 <= len(data) - id_size:
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "big")
        if kind in (b"link", b"sdir"):
            return None
        if kind == b"TREE":
            counts, _, rest = data[place + 9 : place + 8 + length].partition(b"\n")
            tree = "" if counts.startswith(b"-") else rest[:id_size].hex()
        place += 8 + length
    return tree


def changed_files(root: str, index: Index) -> list[str]:
    """The tracked files, submodules left out, whose content in the work tree below `root` is another, or gone."""
    files = index.files
    return [
        path for path in _doubtful(root, index) if not files[path].settled or not _has_blob(root, path, files[path])
    ]


def _doubtful(root: str, index: Index) -> list[str]:
    """Those that do not look as the index has them."""
    begin, written = os.path.join(root, ""), index.written
    if hasattr(kernels.compiled, "doubtful_files"):
        found: list[str] = kernels.compiled.doubtful_files(begin, index.files, *divmod(written, 1_000_000_000))
        return found
    doubtful = []
    lstat = os.lstat
    for path, tracked in index.files.items():
        mode, _, size, seconds, nanoseconds, told, settled = tracked
        if not settled:
            doubtful.append(path)
        elif told and mode != _SUBMODULE:
            try:
                status = lstat(begin + path)
            except OSError:
                doubtful.append(path)
                continue
            time = status.st_mtime_ns
            as_told = time == seconds * 1_000_000_000 + nanoseconds if nanoseconds else time // 1_000_000_000 == seconds
            same = status.st_size == size and as_told and time < written
            if not same or (status.st_mode ^ mode) & _KIND:
                doubtful.append(path)
    return doubtful


def submodules(index: Index) -> dict[str, str]:
    """The commits that submodules are meant to be at, by path."""
    return {path: tracked.id for path, tracked in index.files.items() if tracked.mode == _SUBMODULE}


def has_content(path: str, id_: str) -> bool:
    """Whether the regular file has the bytes of that blob, line ends aside."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES_TO_COMPARE:
            return False
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return False
    return id_ in (blob_id(content, len(id_)), blob_id(content.replace(b"\r\n", b"\n"), len(id_)))


def blob_id(content: bytes, length: int = 40) -> str:
    """The id that git gives to a file's bytes; `length` 64 in repositories of the SHA-256 format."""
    make = hashlib.sha256 if length == 64 else hashlib.sha1
    return make(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_one_of(id_: str, contents: Iterable[bytes]) -> bool:
    """Whether the blob of that id is one of the contents."""
    return any(blob_id(content, len(id_)) == id_ for content in contents)


def _has_blob(root: str, path: str, tracked: Tracked) -> bool:
    if tracked.mode != _LINK:
        return has_content(os.path.join(root, path), tracked.id)
    try:
        target = os.readlink(os.path.join(root, path))
    except OSError:
        return False
    return blob_id(os.fsencode(target), len(tracked.id)) == tracked.id
