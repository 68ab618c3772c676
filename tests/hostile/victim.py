"""A program that is given hostile bytes: reads each in a process of its own with limits, uses what it got, and tells.

Called with a file of pickled pairs (name, bytes), it prints one line of JSON for each. Whatever is executed, imported,
opened or called by way of the bytes is heard by an audit hook, or springs one of the traps below.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import zstandard  # noqa: F401  # which perdure imports when it first meets what is compressed

import perdure

SECONDS = 8  # of the processor, for some records
SMALL, TOGETHER = 1000, 20  # bytes; records
MEMORY = 400 << 20  # bytes, beyond what the program has anyway
SPRUNG: list[str] = []
HEARD: list[str] = []
HARMLESS = {"builtins.id"}


class Item(perdure.Persistable):
    """A class that the program has."""

    label: str = "none"


class Guarded(perdure.Persistable):
    """One that takes its state itself."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


@perdure.register_class
@dataclasses.dataclass
class Point:
    x: int
    y: int


@perdure.register_class
class Stack(list):  # type: ignore[type-arg]
    """A list with attributes."""


@perdure.register_class
class Colour(enum.Enum):
    RED = 1


@perdure.register_class
class Grade(enum.IntEnum):
    ONE = 1


@perdure.register_class
class Slotted:
    __slots__ = ("left",)


class Trap:
    """Nobody has registered it: whatever is called of it springs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        SPRUNG.append("__new__")
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        SPRUNG.append("__init__")

    def __setstate__(self, state: Any) -> None:
        SPRUNG.append("__setstate__")


def spring(*args: Any, **kwargs: Any) -> None:
    SPRUNG.append("spring")


def hear(event: str, args: tuple[Any, ...]) -> None:
    if LISTENING and event not in HARMLESS:
        HEARD.append(event)


LISTENING: list[bool] = []
sys.addaudithook(hear)


def use(value: Any) -> None:
    """What a program does with what it loaded."""
    for what in (repr, hash, lambda value: value == value, lambda value: value == [value]):
        try:
            what(value)
        except (TypeError, ValueError, RecursionError):  # what cannot be hashed, numbers too long to print, deep ones
            continue


def tried(read: Callable[[bytes], Any], data: bytes) -> dict[str, Any]:
    """What comes of one record."""
    modules = set(sys.modules)
    SPRUNG.clear()
    HEARD.clear()
    LISTENING.append(True)
    started = time.process_time()
    try:
        value = read(data)
        use(value)
        outcome = "loaded"
    except perdure.PerdureError as error:
        outcome = type(error).__name__
        str(error)
    except BaseException as error:  # noqa: BLE001 (that is the question)
        outcome = f"escaped: {type(error).__name__}: {error}"
    LISTENING.clear()
    return {
        "outcome": outcome, "sprung": [*SPRUNG], "heard": [*HEARD], "imported": sorted(set(sys.modules) - modules),
        "seconds": time.process_time() - started,
    }  # fmt: skip


def apart(read: Callable[[bytes], Any], some: list[bytes]) -> list[dict[str, Any]]:
    """The same for some, in a process of their own; if that dies, each in one of its own."""
    end, begin = os.pipe()
    child = os.fork()
    if child == 0:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        with os.fdopen(begin, "wb") as out:
            out.write(json.dumps([tried(read, data) for data in some]).encode())
        os._exit(0)
    os.close(begin)
    with os.fdopen(end, "rb") as file:
        told = file.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return json.loads(told)
    if len(some) > 1:
        return [line for data in some for line in apart(read, [data])]
    return [{"outcome": f"died: {status}", "sprung": [], "heard": [], "imported": []}]


def batches(records: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Small ones together, large ones alone."""
    some: list[tuple[str, bytes]] = []
    for pair in records:
        if len(pair[1]) > SMALL:
            yield [pair]
        else:
            some.append(pair)
    yield from (some[start : start + TOGETHER] for start in range(0, len(some), TOGETHER))


def main() -> None:
    reads: dict[str, Callable[[bytes], Any]] = {
        "load": perdure.loads, "inspect": lambda data: str(perdure.inspect(data)),
    }  # fmt: skip
    key = perdure.Key(bytes(range(32)))
    for read in reads.values():  # whatever is imported or opened by the first use is not the record's doing
        read(b"N.")
        read(perdure.dumps(Item(), key=key))
        for first in (b"Pfirst\n.", b"\x80\x04\x8c\x01x\x8c\x01y\x93)R."):
            with suppress(perdure.PerdureError):
                read(first)
    with open(sys.argv[1], "rb") as file:
        records = pickle.load(file)
    for some in batches(records):
        for how, read in reads.items():
            for (name, _), line in zip(some, apart(read, [data for _, data in some]), strict=True):
                sys.stdout.write(json.dumps({"name": name, "how": how, **line}) + "\n")


if __name__ == "__main__":
    main()
