"""A disk in memory that knows what a power cut may leave, and a search through all that it may leave.

The model is pessimistic, as POSIX allows:

- A file's content is durable after `sync` of that file, a name after `sync_directory` of its directory; no sooner.
- What was written since may be there or not, in any choice and order; one write may be torn at any byte, the rest of it
  missing, zeros or rubbish. Names made, replaced or removed since may be there or not, whatever the content is.
- Only a rename is one step: the new name and the lost old one come together.
- The same seed gives the same images.
"""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from perdure.files import DIRECTORY, FILE, Disk

SECTOR = 512


class Image(NamedTuple):
    """A disk as a power cut left it: directories, and files with their content."""

    directories: frozenset[str]
    files: tuple[tuple[str, bytes], ...]


class _NameChange(NamedTuple):
    operation: str  # name, unname, directory
    path: str
    node: int = 0
    source: str = ""  # of a rename


class _DataChange(NamedTuple):
    node: int
    offset: int
    data: bytes | None  # None: the file was cut at `offset`


class SimulatedDisk(Disk):
    """A disk in memory; `after` is called after every operation that changes it."""

    def __init__(self, image: Image | None = None):
        self.after: Callable[[], None] | None = None
        self.last = ""  # the operation done last, for messages
        self._directories = {"/", *(image.directories if image else ())}
        self._names: dict[str, int] = {}
        self._data: dict[int, bytearray] = {}
        for path, data in image.files if image else ():
            self._names[path] = len(self._data)
            self._data[len(self._data)] = bytearray(data)
        self._durable_directories = set(self._directories)
        self._durable_names = dict(self._names)
        self._durable_data = {node: bytes(data) for node, data in self._data.items()}
        self._name_changes: list[_NameChange] = []
        self._data_changes: list[_DataChange] = []

    # -- what a disk does --------------------------------------------------------------------------------

    def kind(self, path: str) -> str | None:
        return DIRECTORY if path in self._directories else FILE if path in self._names else None

    def size(self, path: str) -> int:
        return len(self._data[self._node(path)])

    def stamp(self, path: str) -> tuple[int, ...]:
        return self._node(path), len(self._data[self._node(path)])

    def list(self, path: str) -> list[str]:
        if path not in self._directories:
            raise _missing(path)
        found = {*self._directories, *self._names} - {"/"}
        return sorted(os.path.basename(name) for name in found if os.path.dirname(name) == path)

    def read(self, path: str, offset: int = 0, size: int = -1) -> bytes:
        data = self._data[self._node(path)]
        return bytes(data[offset:] if size < 0 else data[offset : offset + size])

    def map(self, path: str) -> memoryview:
        return memoryview(bytearray(self._data[self._node(path)]))

    def write(
        self, path: str, offset: int, data: bytes | memoryview, *, create: bool = False, mode: int = 0o666
    ) -> int:
        if create and path not in self._names:
            self._need_parent(path)
            node = len(self._data)
            self._data[node], self._durable_data[node], self._names[path] = bytearray(), b"", node
            self._name_changes.append(_NameChange("name", path, node))
        elif create:
            self._change(_DataChange(self._node(path), 0, None))
        self._change(_DataChange(self._node(path), offset, bytes(data)))
        self._done(f"write {path}")
        return len(data)

    def truncate(self, path: str, size: int) -> None:
        self._change(_DataChange(self._node(path), size, None))
        self._done(f"truncate {path}")

    def sync(self, path: str) -> None:
        node = self._node(path)
        self._durable_data[node] = bytes(self._data[node])
        self._data_changes = [change for change in self._data_changes if change.node != node]
        self._done(f"sync {path}")

    def hold(self, path: str) -> int:
        return self._node(path)

    def write_held(self, token: int, offset: int, data: bytes | memoryview) -> int:
        self._change(_DataChange(token, offset, bytes(data)))
        self._done(f"write held {self._name_of(token)}")
        return len(data)

    def sync_held(self, token: int) -> None:
        self._durable_data[token] = bytes(self._data[token])
        self._data_changes = [change for change in self._data_changes if change.node != token]
        self._done(f"sync held {self._name_of(token)}")

    def let_go(self, token: int) -> None:
        """Nothing is open on a simulated disk."""

    def _name_of(self, node: int) -> str:
        return next((path for path, found in self._names.items() if found == node), "")

    def sync_directory(self, path: str) -> None:
        if path not in self._directories:
            raise _missing(path)
        held = [change for change in self._name_changes if os.path.dirname(change.path) == path]
        for change in held:
            _apply_name(change, self._durable_names, self._durable_directories)
        self._name_changes = [change for change in self._name_changes if change not in held]
        self._done(f"sync_directory {path}")

    def sync_all(self, path: str) -> bool:
        self._durable_names, self._durable_directories = dict(self._names), set(self._directories)
        self._durable_data = {node: bytes(data) for node, data in self._data.items()}
        self._name_changes, self._data_changes = [], []
        self._done("sync_all")
        return True

    def rename(self, source: str, target: str) -> None:
        node = self._node(source)
        self._need_parent(target)
        self._rename(_NameChange("name", target, node, source))

    def link(self, source: str, target: str) -> None:
        node = self._node(source)
        self._need_parent(target)
        if target in self._names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        self._rename(_NameChange("name", target, node))

    def unlink(self, path: str) -> None:
        self._node(path)
        self._rename(_NameChange("unname", path))

    def make_directory(self, path: str, mode: int = 0o777) -> None:
        self._need_parent(path)
        if self.kind(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._rename(_NameChange("directory", path))

    def lock(self, path: str, *, exclusive: bool, create: bool) -> AbstractContextManager[Any]:
        if create and path not in self._names:
            self.write(path, 0, b"", create=True)
        self._node(path)
        return io.BytesIO()  # nothing waits on a simulated disk; it closes as a file does

    # -- what a power cut leaves -------------------------------------------------------------------------

    def image(self) -> Image:
        """Everything as programs see it now: what a killed process leaves while the power stays on."""
        return _image(self._directories, self._names, self._data)

    def images(self, chance: random.Random, count: int) -> Iterator[Image]:
        """Up to `count` disks that a power cut may leave now: the extremes, then a choice by `chance`."""
        everything = tuple(range(len(self._name_changes)))
        all_data = tuple(range(len(self._data_changes)))
        for names, data in (((), ()), (everything, ()), ((), all_data), (everything, all_data)):
            yield self._left(names, data, None)
        for _ in range(count - 4):
            names, data = _choose(everything, chance), _choose(all_data, chance)
            yield self._left(names, data, chance if data and chance.random() < 0.5 else None)

    def _left(self, names: tuple[int, ...], data: tuple[int, ...], tear: random.Random | None) -> Image:
        left_names, left_directories = dict(self._durable_names), set(self._durable_directories)
        for number in names:
            _apply_name(self._name_changes[number], left_names, left_directories)
        left_data = {node: bytearray(content) for node, content in self._durable_data.items()}
        torn = tear.choice(data) if tear else None
        for number in data:
            change = self._data_changes[number]
            _apply_data(_tear(change, tear) if tear and number == torn else change, left_data)
        return _image(left_directories, left_names, left_data)

    def _node(self, path: str) -> int:
        if path not in self._names:
            raise _missing(path)
        return self._names[path]

    def _need_parent(self, path: str) -> None:
        if os.path.dirname(path) not in self._directories:
            raise _missing(path)

    def _change(self, change: _DataChange) -> None:
        if change.data != b"":
            _apply_data(change, self._data)
            self._data_changes.append(change)

    def _rename(self, change: _NameChange) -> None:
        _apply_name(change, self._names, self._directories)
        self._name_changes.append(change)
        self._done(f"{change.operation} {change.path}")

    def _done(self, operation: str) -> None:
        self.last = operation
        if self.after is not None:
            self.after()


class Explorer:
    """Runs a program on a simulated disk and checks what a power cut may leave after each of its operations.

    `check` gets an image and raises if recovery from it is not right; `where` then says which operation came last.
    `images` counts the different ones that were checked.
    """

    def __init__(self, check: Callable[[Image], None], *, images_a_step: int = 24, seed: int = 1):
        self.disk = SimulatedDisk()
        self.disk.after = self._cut_power
        self.where = ""
        self.images = 0
        self.steps = 0
        self._check = check
        self._count = images_a_step
        self._chance = random.Random(seed)
        self._seen: set[tuple[Image, object]] = set()
        self.context: Callable[[], object] = lambda: None  # an image is checked again when this has changed

    def _cut_power(self) -> None:
        self.steps += 1
        self.where = f"step {self.steps}: {self.disk.last}"
        for image in self.disk.images(self._chance, self._count):
            case = (image, self.context())
            if case not in self._seen:
                self._seen.add(case)
                self.images += 1
                self._check(image)


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _apply_name(change: _NameChange, names: dict[str, int], directories: set[str]) -> None:
    if change.operation == "directory":
        directories.add(change.path)
    elif change.operation == "unname":
        names.pop(change.path, None)
    else:
        names[change.path] = change.node
        if change.source and names.get(change.source) == change.node:
            del names[change.source]


def _apply_data(change: _DataChange, data: dict[int, bytearray]) -> None:
    content = data[change.node]
    if change.data is None:
        del content[change.offset :]
        return
    content.extend(b"\0" * (change.offset + len(change.data) - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def _tear(change: _DataChange, chance: random.Random) -> _DataChange:
    data = change.data
    if data is None or len(data) < 2:
        return change
    sectors = range(SECTOR - change.offset % SECTOR, len(data), SECTOR)
    cut = chance.choice([1, 4, 15, 16, 17, len(data) // 2, len(data) - 1, *sectors])
    cut = min(cut, len(data) - 1)
    rest = len(data) - cut
    torn = chance.choice([data[:cut], data[:cut] + b"\0" * rest, b"\0" * cut + data[cut:], data[:cut] + b"\xff" * rest])
    return change._replace(data=torn)


def _choose(numbers: tuple[int, ...], chance: random.Random) -> tuple[int, ...]:
    way = chance.randrange(5)
    if not numbers or way == 0:
        return numbers
    one = chance.choice(numbers)
    if way == 1:
        return (one,)
    if way == 2:
        return tuple(number for number in numbers if number != one)
    if way == 3:
        return numbers[: one + 1]
    return tuple(number for number in numbers if chance.random() < 0.5)


def _image(directories: set[str], names: dict[str, int], data: dict[int, bytearray]) -> Image:
    # A directory that was lost takes all below it along.
    reached = {path for path in directories if all(above in directories for above in _above(path))}
    files = ((path, bytes(data[node])) for path, node in names.items() if os.path.dirname(path) in reached)
    return Image(frozenset(reached), tuple(sorted(files)))


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path
