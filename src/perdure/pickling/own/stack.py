"""What a machine has while it reads: the bytes, how far it is, its stack, marks and memo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from perdure.pickling.own.limits import LIMIT_HINT, LIMITS, Limits, Refused, Wrong, untrusted

FREE_WORK, WORK_PER_BYTE = 1_000_000, 20
FREE_COPIES, COPIES_PER_BYTE = 1 << 20, 4  # items, or bytes


class Owed:
    """Something that must not become part of a value: it is to be called, or to be finished, first."""

    __slots__ = ()


class Callee(Owed):
    """What a name stands for that is called: `build` makes the value, of arguments that it checks.

    `new` makes it where the pickle says NEWOBJ. With `takes_names` other names may stand among its arguments; with
    `gets_builder` the builder is the first of them. What it is given is counted if it `copies` it.
    """

    __slots__ = ("build", "copies", "gets_builder", "name", "new", "takes_names")

    def __init__(
        self,
        name: str,
        build: Callable[..., Any] | None = None,
        *,
        new: Callable[..., Any] | None = None,
        takes_names: bool = False,
        gets_builder: bool = False,
        copies: bool = False,
    ):
        self.name = name
        self.build = build
        self.new = new
        self.takes_names = takes_names
        self.gets_builder = gets_builder
        self.copies = copies


class Pending(Owed):
    """A value that is made when its state comes."""

    __slots__ = ("finish", "place")

    def __init__(self, finish: Callable[[Any], Any]):
        self.finish = finish
        self.place = -1  # of the memo entry that it will have, as pickle writes it


class Arguments(Owed):
    """A tuple in which such things stand."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Any, ...]):
        self.items = items


class Handed(Owed):
    """Something that only another constructor takes."""

    __slots__ = ("content",)

    def __init__(self, content: Any):
        self.content = content


OWED = frozenset({Callee, Pending, Arguments, Handed})


def require_values(items: Iterable[Any]) -> None:
    """Raise `Refused` if one of these is no value."""
    if not OWED.isdisjoint(map(type, items)):
        raise Refused("a constructor, or something unfinished, stands in the place of a value")


class Stack:
    """The state of a machine."""

    def __init__(
        self,
        data: bytes,
        *,
        limits: Limits = LIMITS,
        buffers: Iterable[Any] | None = None,
        encoding: str = "ASCII",
        errors: str = "strict",
        position: int = 0,
        memo: dict[int, Any] | None = None,
    ):
        self.data = data
        self.size = len(data)
        self.limits = limits
        self.buffers: Iterator[Any] | None = None if buffers is None else iter(buffers)
        self.encoding, self.errors = encoding, errors
        self.position = position
        self.at = position  # where the opcode begins that is carried out
        self.memo: dict[int, Any] = {} if memo is None else memo
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.made = 0
        self.taken = self.size  # bytes of this stream, so far
        self.work = 0  # beyond that of the opcodes: see `spend`
        self.copied = 0
        self.longest = 0  # text or bytes of at least 256
        self.has_wide_numbers = False  # of which hashing costs more than of others
        self.hashes: dict[int, tuple[Any, dict[int, int]]] = {}  # by address: a container, and its keys by their hashes
        if self.size > limits.bytes:
            raise untrusted(f"there are more than {limits.bytes} bytes", 0, "PROTO", LIMIT_HINT)

    def take(self, length: int) -> bytes:
        """The next bytes."""
        start = self.position
        end = self.position = start + length
        if end > self.size:
            raise Wrong(f"it ends after {self.size} bytes, in the middle of an opcode")
        return self.data[start:end]

    def line(self) -> bytes:
        """The bytes up to the end of the line."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Wrong("it ends in the middle of a line")
        line = self.data[self.position : end]
        self.position = end + 1
        return line

    def to_mark(self) -> list[Any]:
        """The values above the last mark."""
        if not self.marks:
            raise Wrong("a mark is missing")
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def count_made(self) -> None:
        """One more container or object."""
        self.made += 1
        if self.made > self.limits.objects:
            raise Refused(f"there are more than {self.limits.objects} objects", LIMIT_HINT)

    def spend(self, units: int) -> None:
        """Count work beyond that of the opcodes; a unit is about what hashing a member of a tuple costs."""
        self.work += units
        if self.work > FREE_WORK + WORK_PER_BYTE * self.taken:
            raise Refused("what it is made of takes too long to compute")

    def copy(self, amount: int) -> None:
        """Count what a constructor copies, which a pickle may give it again and again."""
        self.copied += amount
        if self.copied > FREE_COPIES + COPIES_PER_BYTE * self.taken:
            raise Refused("it has the same content copied again and again")

    def hashes_in(self, container: Any) -> dict[int, int]:
        """How many keys of each hash are in a container, of those whose hashes can be chosen."""
        known = self.hashes.get(id(container))
        if known is None:  # which is held from here on, so that no other one gets its address
            known = self.hashes[id(container)] = container, {}
        return known[1]

    def value(self) -> Any:
        """Pop a value."""
        value = self.stack.pop()
        if type(value) in OWED:
            raise Refused("a constructor, or something unfinished, stands in the place of a value")
        return value
