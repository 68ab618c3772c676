"""Pickles as lists of opcodes: where each begins and ends, and what its operand is. Nothing is carried out.

- Every length is compared with what is there before anything is taken.
- Large contents that are kept elsewhere (`holes`, by their places) count with their lengths, and take no bytes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import NamedTuple

from perdure.errors import CorruptRecord

LINE, TWO_LINES, NO_OPCODE = -1, -2, -3
COUNTED = {"B1": (1, False), "B4": (4, False), "B8": (8, False), "S4": (4, True)}  # bytes of the length, signed

_LAYOUTS: dict[bytes, int | str] = {
    **dict.fromkeys(
        (
            pickle.MARK, pickle.STOP, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.NONE, pickle.BINPERSID,
            pickle.REDUCE, pickle.APPEND, pickle.BUILD, pickle.DICT, pickle.EMPTY_DICT, pickle.APPENDS, pickle.LIST,
            pickle.EMPTY_LIST, pickle.OBJ, pickle.SETITEM, pickle.TUPLE, pickle.EMPTY_TUPLE, pickle.SETITEMS,
            pickle.NEWOBJ, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.NEWTRUE, pickle.NEWFALSE,
            pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.NEWOBJ_EX, pickle.STACK_GLOBAL,
            pickle.MEMOIZE, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
        ),
        0,
    ),
    **dict.fromkeys((pickle.PROTO, pickle.BININT1, pickle.BINGET, pickle.BINPUT, pickle.EXT1), 1),
    **dict.fromkeys((pickle.BININT2, pickle.EXT2), 2),
    **dict.fromkeys((pickle.BININT, pickle.LONG_BINGET, pickle.LONG_BINPUT, pickle.EXT4), 4),
    **dict.fromkeys((pickle.BINFLOAT, pickle.FRAME), 8),
    **dict.fromkeys(
        (pickle.FLOAT, pickle.INT, pickle.LONG, pickle.PERSID, pickle.STRING, pickle.UNICODE, pickle.GET, pickle.PUT),
        LINE,
    ),
    **dict.fromkeys((pickle.GLOBAL, pickle.INST), TWO_LINES),
    **dict.fromkeys((pickle.LONG1, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES, pickle.SHORT_BINUNICODE), "B1"),
    **dict.fromkeys((pickle.BINBYTES, pickle.BINUNICODE), "B4"),
    **dict.fromkeys((pickle.BINBYTES8, pickle.BINUNICODE8, pickle.BYTEARRAY8), "B8"),
    **dict.fromkeys((pickle.LONG4, pickle.BINSTRING), "S4"),
}  # fmt: skip
LAYOUTS: list[int | str] = [_LAYOUTS.get(bytes([code]), NO_OPCODE) for code in range(256)]


class Op(NamedTuple):
    """One opcode: its byte, where it begins, where its operand begins (behind any length), where both end."""

    code: int
    start: int
    operand: int
    end: int
    hole: int = 0  # the length of an operand that is kept elsewhere

    @property
    def name(self) -> str:
        """As `pickletools` calls it."""
        return NAMES[self.code]


class Frame(NamedTuple):
    """A FRAME opcode by its place in the list, and the place of the first opcode behind the frame."""

    op: int
    end: int


class Opcodes(NamedTuple):
    """One pickle: `data` from `start` on; `end` is behind its STOP."""

    data: bytes
    ops: list[Op]
    frames: list[Frame]
    start: int
    end: int


def read_opcodes(data: bytes, start: int = 0, holes: Mapping[int, int] | None = None) -> Opcodes:
    """The opcodes of the pickle that begins at `start`; raises `CorruptRecord` with `.position`."""
    ops: list[Op] = []
    frames: list[Frame] = []
    layouts, size, add, new = LAYOUTS, len(data), ops.append, tuple.__new__  # half the time that Op(…) takes
    position, framed_until, framed_by = start, -1, -1
    code = -1
    while code != _STOP:
        if position == framed_until:
            frames.append(Frame(framed_by, len(ops)))
            framed_until = -1
        if position >= size:
            raise corrupt(position, "it ends before its STOP")
        code = data[position]
        layout = layouts[code]
        operand = end = position + 1
        hole = 0
        if isinstance(layout, str):
            operand, end, hole = _counted(data, position, COUNTED[layout], holes or {})
        elif layout >= 0:
            end += layout
        else:
            end = _behind_lines(data, position, -layout)
        if end > size:
            raise corrupt(position, "it ends in the middle of an opcode")
        if position < framed_until < end:
            raise corrupt(position, "an opcode crosses the end of a frame")
        if code == _FRAME:
            if framed_until >= 0:
                raise corrupt(position, "a frame begins inside a frame")
            framed_until, framed_by = end + int.from_bytes(data[operand:end], "little"), len(ops)
        add(new(Op, (code, position, operand, end, hole)))
        position = end
    if framed_until >= 0:
        if framed_until != position:
            raise corrupt(ops[framed_by].start, "a frame does not end where the pickle ends, or before")
        frames.append(Frame(framed_by, len(ops)))
    return Opcodes(data, ops, frames, start, position)


def _behind_lines(data: bytes, position: int, count: int) -> int:
    if count == -NO_OPCODE:
        raise corrupt(position, f"{data[position : position + 1]!r} is no opcode")
    end = position + 1
    for _ in range(count):
        end = data.find(b"\n", end) + 1 or len(data) + 1
    return end


def _counted(data: bytes, position: int, kind: tuple[int, bool], holes: Mapping[int, int]) -> tuple[int, int, int]:
    width, signed = kind
    operand = position + 1 + width
    if operand > len(data):
        raise corrupt(position, "it ends in the middle of an opcode")
    length = int.from_bytes(data[position + 1 : operand], "little", signed=signed)
    if length < 0:
        raise corrupt(position, "a length is negative")
    if operand in holes:
        if holes[operand] != length:
            raise corrupt(position, "a large piece does not have the length that the pickle tells")
        return operand, operand, length
    return operand, operand + length, 0


def corrupt(position: int, reason: str) -> CorruptRecord:
    """The error for what is no whole pickle."""
    return CorruptRecord(f"This is no whole pickle: {reason} (position {position}).", position=position)


_FRAME, _STOP = pickle.FRAME[0], pickle.STOP[0]
NAMES = {getattr(pickle, name)[0]: name for name in dir(pickle) if name.isupper() and getattr(pickle, name) in _LAYOUTS}
