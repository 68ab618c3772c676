"""Opcodes that push plain values: numbers, texts, bytes, each with its length compared with what is there."""

from __future__ import annotations

import codecs
import pickle
import re
from collections.abc import Callable
from struct import unpack
from typing import Any

from perdure.pickling.own.limits import LIMIT_HINT, Refused, Wrong
from perdure.pickling.own.stack import Stack

Action = Callable[[Stack], None]

_NUMBER = re.compile(rb"[+-]?[0-9]+")
_BITS_PER_DIGIT = 3.33
WIDE = 100  # bytes of a number from which on hashing it costs more than it costs for others


def _constant(value: Any) -> Action:
    def action(machine: Stack) -> None:
        machine.stack.append(value)

    return action


def _byte(machine: Stack) -> None:
    position = machine.position
    machine.stack.append(machine.data[position])
    machine.position = position + 1


def _integer(length: int, *, signed: bool = False) -> Action:
    def action(machine: Stack) -> None:
        machine.stack.append(int.from_bytes(machine.take(length), "little", signed=signed))

    return action


def _float(machine: Stack) -> None:
    machine.stack.append(unpack(">d", machine.take(8))[0])


def _long(width: int, *, signed: bool) -> Action:
    def action(machine: Stack) -> None:
        length = _length(machine, width, signed=signed)
        if length * 8 > machine.limits.integer:
            raise Refused(f"a number has more than {machine.limits.integer} bits", LIMIT_HINT)
        machine.has_wide_numbers |= length > WIDE
        machine.stack.append(int.from_bytes(machine.take(length), "little", signed=True))

    return action


def _length(machine: Stack, width: int, *, signed: bool = False) -> int:
    length = int.from_bytes(machine.take(width), "little", signed=signed)
    if length < 0:
        raise Wrong("a length is negative")
    return length


def _decimal(machine: Stack, line: bytes) -> int:
    if not _NUMBER.fullmatch(line):
        raise Wrong(f"{line[:40]!r} is no number")
    if len(line) * _BITS_PER_DIGIT > machine.limits.integer:
        raise Refused(f"a number has more than {machine.limits.integer} bits", LIMIT_HINT)
    machine.has_wide_numbers |= len(line) > WIDE
    try:
        return int(line)
    except ValueError as error:  # more digits than the interpreter reads
        raise Wrong(f"{error}") from error


def _line_integer(machine: Stack) -> None:
    line = machine.line()
    machine.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _decimal(machine, line))


def _line_long(machine: Stack) -> None:
    machine.stack.append(_decimal(machine, machine.line().removesuffix(b"L")))


def _line_float(machine: Stack) -> None:
    line = machine.line()
    try:
        if b"_" in line:
            raise ValueError
        machine.stack.append(float(line))
    except ValueError:
        raise Wrong(f"{line[:40]!r} is no number") from None


def _line_string(machine: Stack) -> None:
    line = machine.line().strip(b" \t\r")
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"\"'":
        raise Wrong("a text is not in quotes")
    _check_string(machine, len(line))
    try:
        content = codecs.escape_decode(line[1:-1])[0]
    except ValueError as error:
        raise Wrong(f"a text cannot be read: {error}") from error
    assert isinstance(content, bytes)
    machine.stack.append(_of_python_2(machine, content))


def _line_unicode(machine: Stack) -> None:
    line = machine.line()
    _check_string(machine, len(line))
    try:
        machine.stack.append(line.decode("raw-unicode-escape"))
    except UnicodeDecodeError as error:
        raise Wrong(f"a text cannot be read: {error.reason}") from error


def _of_python_2(machine: Stack, content: bytes) -> Any:
    return content if machine.encoding == "bytes" else content.decode(machine.encoding, machine.errors)


def _check_string(machine: Stack, length: int) -> None:
    if length > machine.limits.string:
        raise Refused(f"a text, or bytes, are longer than {machine.limits.string}", LIMIT_HINT)
    machine.longest = max(machine.longest, length)


def _short_text(machine: Stack) -> None:
    data, start = machine.data, machine.position + 1
    end = machine.position = start + data[start - 1]
    if end > machine.size:
        raise Wrong(f"it ends after {machine.size} bytes, in the middle of an opcode")
    machine.stack.append(str(data[start:end], "utf-8", "surrogatepass"))


def _counted(width: int, make: Callable[[Stack, bytes], Any], *, signed: bool = False) -> Action:
    def action(machine: Stack) -> None:
        length = _length(machine, width, signed=signed)
        _check_string(machine, length)
        machine.stack.append(make(machine, machine.take(length)))

    return action


def _text(machine: Stack, content: bytes) -> str:
    return str(content, "utf-8", "surrogatepass")


def _bytes(machine: Stack, content: bytes) -> bytes:
    return content


def _bytearray(machine: Stack, content: bytes) -> bytearray:
    machine.count_made()
    return bytearray(content)


ACTIONS: dict[int, Action] = {
    pickle.NONE[0]: _constant(None),
    pickle.NEWTRUE[0]: _constant(True),
    pickle.NEWFALSE[0]: _constant(False),
    pickle.BININT1[0]: _byte,
    pickle.BININT2[0]: _integer(2),
    pickle.BININT[0]: _integer(4, signed=True),
    pickle.BINFLOAT[0]: _float,
    pickle.LONG1[0]: _long(1, signed=False),
    pickle.LONG4[0]: _long(4, signed=True),
    pickle.INT[0]: _line_integer,
    pickle.LONG[0]: _line_long,
    pickle.FLOAT[0]: _line_float,
    pickle.STRING[0]: _line_string,
    pickle.UNICODE[0]: _line_unicode,
    pickle.SHORT_BINUNICODE[0]: _short_text,
    pickle.BINUNICODE[0]: _counted(4, _text),
    pickle.BINUNICODE8[0]: _counted(8, _text),
    pickle.SHORT_BINSTRING[0]: _counted(1, _of_python_2),
    pickle.BINSTRING[0]: _counted(4, _of_python_2, signed=True),
    pickle.SHORT_BINBYTES[0]: _counted(1, _bytes),
    pickle.BINBYTES[0]: _counted(4, _bytes),
    pickle.BINBYTES8[0]: _counted(8, _bytes),
    pickle.BYTEARRAY8[0]: _counted(8, _bytearray),
}
