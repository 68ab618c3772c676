"""What follows in a file, a frame or a bare pickle: just its bytes are taken; a length that lies reserves nothing."""

from __future__ import annotations

import pickle
from typing import Protocol

from perdure.pickling.opcodes import COUNTED, LAYOUTS, NO_OPCODE, corrupt
from perdure.records.frame import MAGIC, NARROW_HEAD, WIDE_HEAD, frame_length, refuse_newer

_CHUNK = 1 << 20
_STOP = pickle.STOP[0]


class Source(Protocol):
    """What is read from: a binary file, or anything with these two methods."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""

    def readline(self) -> bytes:
        """The bytes up to the next line feed, with it."""


class Next:
    """A file whose next byte was looked at, to find out what follows."""

    def __init__(self, file: Source):
        self.file = file
        self.first = file.read(1)
        if not isinstance(self.first, bytes):
            raise TypeError("the file must be opened in binary mode ('rb')")
        if not self.first:
            raise EOFError("Ran out of input")
        self.is_frame = self.first == MAGIC[:1]

    def read(self, size: int, /) -> bytes:
        if not self.first or size == 0:
            return self.file.read(size)
        first, self.first = self.first, b""
        return first + self.file.read(size - 1) if size > 1 else first

    def readline(self) -> bytes:
        first, self.first = self.first, b""
        return first if first == b"\n" else first + self.file.readline()

    def read_frame(self) -> bytes:
        """The bytes of the frame, or as many as are there."""
        head = self._take(NARROW_HEAD)
        if len(head) < NARROW_HEAD or head[: len(MAGIC)] != MAGIC:
            return head
        refuse_newer(head[len(MAGIC)])
        length = frame_length(head)
        if length is None:
            head += self._take(WIDE_HEAD - NARROW_HEAD)
            length = frame_length(head)
        return head if length is None else head + self._take(length - len(head))

    def _take(self, size: int) -> bytes:
        chunks = []
        while size:
            chunk = self.read(min(size, _CHUNK))  # a length that lies must not reserve memory
            if not chunk:
                break
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)


def take_pickle(source: Source) -> bytes:
    """The bytes of the next bare pickle, up to its STOP, whatever it holds; the source is left behind it.

    Raises `CorruptRecord` where it ends before.
    """
    chunks: list[bytes] = []
    position = 0
    while True:
        start = position
        opcode = source.read(1)
        if not opcode:
            raise corrupt(start, "it ends before its STOP")
        chunks.append(opcode)
        position += 1
        code = opcode[0]
        if code == _STOP:
            return b"".join(chunks)
        layout = LAYOUTS[code]
        if isinstance(layout, str):
            width, signed = COUNTED[layout]
            told = _exactly(source, width, start)
            length = int.from_bytes(told, "little", signed=signed)
            if length < 0:
                raise corrupt(start, "a length is negative")
            operand = told + _exactly(source, length, start)
        elif layout >= 0:
            operand = _exactly(source, layout, start) if layout else b""
        elif layout == NO_OPCODE:
            raise corrupt(start, f"{opcode!r} is no opcode")
        else:
            operand = b"".join(_line(source, start) for _ in range(-layout))
        chunks.append(operand)
        position += len(operand)


def _exactly(source: Source, size: int, start: int) -> bytes:
    data = source.read(min(size, _CHUNK)) if size else b""
    while len(data) < size:
        more = source.read(min(size - len(data), _CHUNK + len(data)))
        if not more:
            raise corrupt(start, "it ends in the middle of an opcode")
        data += more
    return data


def _line(source: Source, start: int) -> bytes:
    line = source.readline()
    if not line.endswith(b"\n"):
        raise corrupt(start, "it ends in the middle of an opcode")
    return line
