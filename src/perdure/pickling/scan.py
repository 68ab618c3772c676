"""Checks a pickle opcode by opcode, without carrying any out: does it hold plain values only?

- Allowed is what builds plain values; whatever makes, calls or names something else raises `UntrustedRecord`.
- The stack is followed with slots in the place of values, so that a call is only seen of a plain value's constructor,
  and only containers which the pickle itself made are filled.
- Lengths, memo indexes and the cost of hashing keys are bounded by the size of the input.
- Just the bytes of one pickle are taken from the source, which is left at the byte after its STOP.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from perdure.errors import CannotLoad, CorruptRecord, UntrustedRecord

HIGHEST_PROTOCOL = 5
DEEPEST_KEY = 500
FREE_KEY_WORK = 1_000_000
KEY_WORK_PER_BYTE = 20
_CHUNK = 1 << 20
_MOST_WEIGHT = 1 << 40
_FREE_MEMO = 1000
_LONGEST_NAME = 40

PLAIN_GLOBALS = frozenset(
    f"{module}\n{name}".encode()
    for module in ("builtins", "__builtin__")
    for name in ("set", "frozenset", "complex", "bytes", "bytearray")
) | {b"_codecs\nencode"}


class Source(Protocol):
    """What is read from: a binary file, or anything with these two methods."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""

    def readline(self) -> bytes:
        """The bytes up to the next line feed, with it."""


def scan(source: Source, *, has_buffers: bool = False, further: frozenset[bytes] = frozenset()) -> bytes:
    """The bytes of the next pickle in `source`, which holds plain values only.

    `further` are globals (`module`, line feed, `name`) that may be called besides those of plain values.
    Raises `UntrustedRecord` with `.position` and `.opcode` for anything else, `CorruptRecord` for what is no pickle.
    """
    return _Scan(source, has_buffers, PLAIN_GLOBALS | further).run()


class _Slot(NamedTuple):
    """What is known of a value on the stack; weight and depth are those of hashing it as a key."""

    kind: str
    weight: int = 1
    depth: int = 0
    text: bytes = b""


_ATOM = _Slot("value")
_LIST = _Slot("list")
_DICT = _Slot("dict")
_SET = _Slot("set")
_BUFFER = _Slot("buffer")
_EMPTY_TUPLE = _Slot("tuple")
_REFUSED = {
    b"b": "BUILD",
    b"i": "INST",
    b"o": "OBJ",
    b"\x81": "NEWOBJ",
    b"\x92": "NEWOBJ_EX",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"P": "PERSID",
    b"Q": "BINPERSID",
}


class _Scan:
    """Goes through the opcodes of one pickle with a stack of slots, and keeps the bytes that it read."""

    def __init__(self, source: Source, has_buffers: bool, callables: frozenset[bytes]):
        self.source = source
        self.has_buffers = has_buffers
        self.callables = callables
        self.chunks: list[bytes] = []
        self.position = 0
        self.start = 0
        self.stack: list[_Slot] = []
        self.marks: list[list[_Slot]] = []
        self.memo: dict[int, _Slot] = {}
        self.key_work = 0

    def run(self) -> bytes:
        """The bytes of the pickle, up to its STOP, after all its opcodes were found harmless."""
        while True:
            self.start = self.position
            opcode = self.take(1)
            if opcode == pickle.STOP:
                break
            action = _ACTIONS.get(opcode)
            if action is None:
                self.refuse_opcode(opcode)
            else:
                action(self)
        self.pop_value()
        if self.stack or self.marks:
            raise self.corrupt("values are left over at its end")
        return b"".join(self.chunks)

    def refuse_opcode(self, opcode: bytes) -> None:
        if opcode in _REFUSED:
            raise self.untrusted(_REFUSED[opcode], "makes more than a plain value")
        raise self.corrupt(f"{opcode!r} is no opcode")

    def corrupt(self, reason: str) -> CorruptRecord:
        return CorruptRecord(f"This is no whole pickle: {reason} (position {self.start}).", position=self.start)

    def untrusted(self, opcode: str, reason: str) -> UntrustedRecord:
        return UntrustedRecord(
            f"The pickle holds more than plain values: {opcode} at position {self.start} {reason}.",
            hint="If you know where it comes from, load it with trust='all'.",
            position=self.start,
            opcode=opcode,
        )

    # -- input -------------------------------------------------------------------------------------------------

    def take(self, size: int) -> bytes:
        data = self.source.read(min(size, _CHUNK))
        while len(data) < size:  # a length that lies must not reserve memory
            more = self.source.read(min(size - len(data), _CHUNK + len(data)))
            if not more:
                raise self.corrupt(f"it ends after {self.position + len(data)} bytes")
            data += more
        self.chunks.append(data)
        self.position += size
        return data

    def take_line(self) -> bytes:
        line = self.source.readline()
        if not line.endswith(b"\n"):
            raise self.corrupt(f"it ends after {self.position + len(line)} bytes")
        self.chunks.append(line)
        self.position += len(line)
        return line[:-1]

    def take_index(self, size: int) -> int:
        """The index of a memo entry: decimal digits in a line, or `size` bytes."""
        if size:
            return int.from_bytes(self.take(size), "little")
        line = self.take_line()
        if not line.isdigit() or len(line) > 10:
            raise self.corrupt("the index of a memo entry is no number")
        return int(line)

    # -- the stack ---------------------------------------------------------------------------------------------

    def top(self) -> _Slot:
        if not self.stack:
            raise self.corrupt("its stack is empty")
        return self.stack[-1]

    def pop_value(self) -> _Slot:
        slot = self.top()
        self.check_values((slot,))
        return self.stack.pop()

    def pop_mark(self) -> list[_Slot]:
        """The values above the last mark."""
        if not self.marks:
            raise self.corrupt("a mark is missing")
        items, self.stack = self.stack, self.marks.pop()
        self.check_values(items)
        return items

    def check_values(self, items: Iterable[_Slot]) -> None:
        if any(slot.kind == "call" for slot in items):
            raise self.untrusted("GLOBAL", "stands where a value is expected")

    def check_target(self, target: _Slot, opcode: str) -> None:
        """What is extended must be a container that this pickle made: foreign buffers have methods of their own."""
        if self.top() is not target:
            raise self.untrusted(opcode, f"does not extend a {target.kind}")

    def check_keys(self, keys: Iterable[_Slot]) -> None:
        for key in keys:
            if key.kind == "tuple":
                self.key_work += key.weight
                if key.depth > DEEPEST_KEY or self.key_work > FREE_KEY_WORK + KEY_WORK_PER_BYTE * self.position:
                    raise self.untrusted("a tuple as a key", "is nested too deeply")

    # -- opcodes -----------------------------------------------------------------------------------------------

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def drop_to_mark(self) -> None:
        self.pop_mark()

    def duplicate(self) -> None:
        self.stack.append(self.top())

    def put(self, size: int) -> None:
        index = self.take_index(size)
        if index > self.position + _FREE_MEMO:
            raise self.corrupt(f"the memo index {index} is out of all proportion")
        self.memo[index] = self.top()

    def memoize(self) -> None:
        self.memo[len(self.memo)] = self.top()

    def get(self, size: int) -> None:
        index = self.take_index(size)
        if index not in self.memo:
            raise self.corrupt(f"nothing was put at memo index {index}")
        self.stack.append(self.memo[index])

    def protocol(self) -> None:
        number = self.take(1)[0]
        if number > HIGHEST_PROTOCOL:
            raise self.corrupt(f"{number} is no known protocol")

    def frame(self) -> None:
        self.take(8)

    def tuple_of(self, count: int) -> None:
        self.make_tuple([self.pop_value() for _ in range(count)])

    def tuple_to_mark(self) -> None:
        self.make_tuple(self.pop_mark())

    def make_tuple(self, items: list[_Slot]) -> None:
        weight = 1 + sum(slot.weight for slot in items)
        depth = 1 + max((slot.depth for slot in items), default=0)
        self.stack.append(_Slot("tuple", min(weight, _MOST_WEIGHT), depth))

    def list_to_mark(self) -> None:
        self.pop_mark()
        self.stack.append(_LIST)

    def dict_to_mark(self) -> None:
        self.check_pairs(self.pop_mark())
        self.stack.append(_DICT)

    def frozenset_to_mark(self) -> None:
        self.check_keys(self.pop_mark())
        self.stack.append(_ATOM)

    def append(self) -> None:
        self.pop_value()
        self.check_target(_LIST, "APPEND")

    def appends(self) -> None:
        self.pop_mark()
        self.check_target(_LIST, "APPENDS")

    def set_item(self) -> None:
        self.pop_value()
        self.check_keys((self.pop_value(),))
        self.check_target(_DICT, "SETITEM")

    def set_items(self) -> None:
        self.check_pairs(self.pop_mark())
        self.check_target(_DICT, "SETITEMS")

    def check_pairs(self, items: list[_Slot]) -> None:
        if len(items) % 2:
            raise self.corrupt("a key has no value")
        self.check_keys(items[::2])

    def add_items(self) -> None:
        self.check_keys(self.pop_mark())
        self.check_target(_SET, "ADDITEMS")

    def global_line(self) -> None:
        self.push_global(self.take_line() + b"\n" + self.take_line(), "GLOBAL")

    def global_stack(self) -> None:
        name, module = self.pop_value(), self.pop_value()
        if name.kind != "text" or module.kind != "text":
            raise self.untrusted("STACK_GLOBAL", "has a name that is made up")
        self.push_global(module.text + b"\n" + name.text, "STACK_GLOBAL")

    def push_global(self, name: bytes, opcode: str) -> None:
        if name not in self.callables:
            shown = name.decode("ascii", "backslashreplace").replace("\n", ".")[:80]
            raise self.untrusted(opcode, f"names {shown}")
        self.stack.append(_Slot("call", text=name))

    def reduce(self) -> None:
        arguments, function = self.pop_value(), self.top()
        if function.kind != "call" or arguments.kind != "tuple":
            raise self.untrusted("REDUCE", "calls something")
        self.stack[-1] = _ATOM

    def next_buffer(self) -> None:
        if not self.has_buffers:
            raise CannotLoad("The pickle refers to buffers beside it.", hint="Give them as buffers=…")
        self.stack.append(_BUFFER)

    def read_only_buffer(self) -> None:
        if self.top() is not _BUFFER:
            raise self.corrupt("something else than a buffer is marked as read-only")


Action = Callable[[_Scan], None]


def _fixed(size: int, slot: _Slot = _ATOM) -> Action:
    def action(scan: _Scan) -> None:
        if size:
            scan.take(size)
        scan.stack.append(slot)

    return action


def _line(scan: _Scan) -> None:
    scan.take_line()
    scan.stack.append(_ATOM)


def _counted(size: int, *, signed: bool = False, is_text: bool = False) -> Action:
    def action(scan: _Scan) -> None:
        length = int.from_bytes(scan.take(size), "little", signed=signed)
        if length < 0:
            raise scan.corrupt("a length is negative")
        content = scan.take(length) if length else b""
        scan.stack.append(_Slot("text", text=content) if is_text and length <= _LONGEST_NAME else _ATOM)

    return action


def _sized(method: Callable[[_Scan, int], None], size: int) -> Action:
    return lambda scan: method(scan, size)


_ACTIONS: dict[bytes, Action] = {
    pickle.NONE: _fixed(0),
    pickle.NEWTRUE: _fixed(0),
    pickle.NEWFALSE: _fixed(0),
    pickle.BININT: _fixed(4),
    pickle.BININT1: _fixed(1),
    pickle.BININT2: _fixed(2),
    pickle.BINFLOAT: _fixed(8),
    pickle.INT: _line,
    pickle.LONG: _line,
    pickle.FLOAT: _line,
    pickle.STRING: _line,
    pickle.UNICODE: _line,
    pickle.LONG1: _counted(1),
    pickle.LONG4: _counted(4, signed=True),
    pickle.BINSTRING: _counted(4, signed=True),
    pickle.SHORT_BINSTRING: _counted(1),
    pickle.BINUNICODE: _counted(4, is_text=True),
    pickle.SHORT_BINUNICODE: _counted(1, is_text=True),
    pickle.BINUNICODE8: _counted(8, is_text=True),
    pickle.BINBYTES: _counted(4),
    pickle.SHORT_BINBYTES: _counted(1),
    pickle.BINBYTES8: _counted(8),
    pickle.BYTEARRAY8: _counted(8),
    pickle.EMPTY_TUPLE: _fixed(0, _EMPTY_TUPLE),
    pickle.EMPTY_LIST: _fixed(0, _LIST),
    pickle.EMPTY_DICT: _fixed(0, _DICT),
    pickle.EMPTY_SET: _fixed(0, _SET),
    pickle.TUPLE: _Scan.tuple_to_mark,
    pickle.TUPLE1: _sized(_Scan.tuple_of, 1),
    pickle.TUPLE2: _sized(_Scan.tuple_of, 2),
    pickle.TUPLE3: _sized(_Scan.tuple_of, 3),
    pickle.LIST: _Scan.list_to_mark,
    pickle.DICT: _Scan.dict_to_mark,
    pickle.FROZENSET: _Scan.frozenset_to_mark,
    pickle.APPEND: _Scan.append,
    pickle.APPENDS: _Scan.appends,
    pickle.SETITEM: _Scan.set_item,
    pickle.SETITEMS: _Scan.set_items,
    pickle.ADDITEMS: _Scan.add_items,
    pickle.MARK: _Scan.mark,
    pickle.POP: _Scan.pop,
    pickle.POP_MARK: _Scan.drop_to_mark,
    pickle.DUP: _Scan.duplicate,
    pickle.PUT: _sized(_Scan.put, 0),
    pickle.BINPUT: _sized(_Scan.put, 1),
    pickle.LONG_BINPUT: _sized(_Scan.put, 4),
    pickle.MEMOIZE: _Scan.memoize,
    pickle.GET: _sized(_Scan.get, 0),
    pickle.BINGET: _sized(_Scan.get, 1),
    pickle.LONG_BINGET: _sized(_Scan.get, 4),
    pickle.PROTO: _Scan.protocol,
    pickle.FRAME: _Scan.frame,
    pickle.GLOBAL: _Scan.global_line,
    pickle.STACK_GLOBAL: _Scan.global_stack,
    pickle.REDUCE: _Scan.reduce,
    pickle.NEXT_BUFFER: _Scan.next_buffer,
    pickle.READONLY_BUFFER: _Scan.read_only_buffer,
}
