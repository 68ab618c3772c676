"""The limit of prevalence: pickle, `os.write` and `os.fdatasync` by hand, on a file that was filled with zeros.

- No seal, no undo, no validation, no reopening; a record has its length, a CRC and a number.
- Eight threads share syncs by a leader, as short as it can be written.
"""

from __future__ import annotations

import gc
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands import Thing, eight_threads, many, one_thread, read, require_all
from work import Figures, clock

HEAD = struct.Struct("<IIQ")
NUMBER = struct.Struct("<Q")
ZEROS = 16 << 20


class Put:
    """A command as an object."""

    def __init__(self, key: int, name: str, value: int):
        self.key, self.name, self.value = key, name, value

    def apply(self, things: dict[int, Thing]) -> None:
        things[self.key] = Thing(self.key, self.name, self.value)


def put_thing(things: dict[int, Thing], key: int, name: str, value: int) -> None:
    """The same as a function."""
    things[key] = Thing(key, name, value)


def framed(number: int, payload: bytes) -> bytes:
    """A record."""
    return HEAD.pack(len(payload), zlib.crc32(payload, zlib.crc32(NUMBER.pack(number))), number) + payload


@contextmanager
def zeros(folder: Path) -> Iterator[int]:
    """A file full of zeros, open at its beginning."""
    descriptor = os.open(folder / "journal", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(descriptor, bytes(ZEROS))
    os.fsync(descriptor)
    os.lseek(descriptor, 0, os.SEEK_SET)
    yield descriptor
    os.close(descriptor)


def run_durable(folder: Path, size: int) -> Figures:
    with zeros(folder) as file:
        things: dict[int, Thing] = {}
        numbers = iter(range(1 << 60))

        def put(key: int, name: str, value: int) -> None:
            command = Put(key, name, value)
            os.write(file, framed(next(numbers), pickle.dumps(command, 5)))
            os.fdatasync(file)
            command.apply(things)

        return one_thread(put, size)


class Group:
    """Callers pickle; the first of those that wait writes and syncs for all, and carries out."""

    def __init__(self, file: int):
        self.file, self.things, self.number = file, {}, 0
        self.gate = threading.Lock()
        self.batch: list[tuple[int, bytes, Put, Any]] = []
        self.leading = False
        self.promoted: Any = None

    def put(self, key: int, name: str, value: int) -> None:
        command = Put(key, name, value)
        payload = pickle.dumps(command, 5)
        with self.gate:
            self.number += 1
            leads = not self.leading
            wake = None
            if leads:
                self.leading = True
            else:
                wake = threading.Lock()
                wake.acquire()
            self.batch.append((self.number, payload, command, wake))
        if wake is not None:
            wake.acquire()
            if self.promoted is not wake:
                return
            self.promoted = None
        self.lead()

    def lead(self) -> None:
        with self.gate:
            batch, self.batch = self.batch, []
        os.write(self.file, b"".join([framed(number, payload) for number, payload, _, _ in batch]))
        os.fdatasync(self.file)
        for _, _, command, _ in batch:
            command.apply(self.things)
        with self.gate:
            following = self.batch[0][3] if self.batch else None
            if following is None:
                self.leading = False
            else:
                self.promoted = following
        if following is not None:
            following.release()
        for _, _, _, wake in batch:
            if wake is not None and wake.locked():
                wake.release()


def run_shared(folder: Path, size: int) -> Figures:
    with zeros(folder) as file:
        return eight_threads(Group(file).put, size)


def replay(folder: Path, size: int) -> Figures:
    """Read, check, unpickle and apply, the garbage collector off; then unpickle and apply alone, all in memory."""
    figures: Figures = {}
    payloads = [pickle.dumps((number, f"name{number}", number), 5) for number in range(many(size))]
    (folder / "commands").write_bytes(b"".join(map(framed, range(many(size)), payloads)))
    loads: Callable[[bytes], Any] = pickle.loads
    crc, unpack, head = zlib.crc32, HEAD.unpack_from, HEAD.size
    gc.disable()
    things: dict[int, Thing] = {}
    with clock(figures, "replay"):
        data = memoryview((folder / "commands").read_bytes())
        at, end, following = 0, len(data), 0
        while at + head <= end:
            length, check, number = unpack(data, at)
            payload = data[at + head : at + head + length]
            if number != following or crc(payload, crc(data[at + 8 : at + head])) != check:
                break
            put_thing(things, *loads(payload))
            at += head + length
            following += 1
    require_all(things, many(size))
    things = {}
    with clock(figures, "apply"):
        for each in payloads:
            put_thing(things, *loads(each))
    require_all(things, many(size))
    return figures


def build(folder: Path, size: int) -> Figures:
    """A pickle of many objects in a file."""
    count = many(size)
    things = {number: Thing(number, f"name{number}", number) for number in range(count)}
    with open(folder / "snapshot", "wb") as file:
        pickle.dump(things, file, 5)
    return {}


def load(folder: Path, size: int) -> Figures:
    """Bare unpickling with the garbage collector off; then plain reads."""
    figures: Figures = {}
    gc.disable()
    with clock(figures, "open"), open(folder / "snapshot", "rb") as file:
        things = pickle.load(file)
    gc.enable()
    require_all(things, many(size))
    figures |= read(things)
    return figures


TASKS = {"durable": run_durable, "shared": run_shared, "replay": replay, "build": build, "load": load}
