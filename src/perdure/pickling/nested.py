"""Finds pickles inside the texts and bytes of a pickle: they are data there, and what they name is not changed.

- What holds an old name as mere text is no pickle and no matter; what is read as a pickle that names something which
  is to be changed makes the whole uncertain.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence

from perdure.errors import CannotRename, CorruptRecord
from perdure.pickling.machine import HIGHEST_PROTOCOL, Machine
from perdure.pickling.opcodes import Op, read_opcodes
from perdure.pickling.renames import Renames
from perdure.pickling.slots import Followed

MOST_BEGINNINGS = 100  # in one content; more are looked at as if one of them were a pickle
DEEPEST = 5


def refuse_nested(runs: Sequence[Followed], renames: Renames) -> None:
    """Raise `CannotRename` for the first content that holds a pickle which names what is to be changed."""
    for run in runs:
        for op, content in _contents(run, renames):
            if holds_old_name(content, renames):
                raise CannotRename(
                    f"{op.name} at position {op.start} holds another pickle, which names what is to be renamed.",
                    position=op.start,
                    opcode=op.name,
                )


def holds_old_name(content: bytes, renames: Renames, depth: int = 0) -> bool:
    """Whether there is a pickle in these bytes that names, or may name, what is to be changed."""
    if not renames.may_be_in(content):
        return False
    beginnings = list(_beginnings(content))
    if depth >= DEEPEST or len(beginnings) > MOST_BEGINNINGS:
        return True
    for start in beginnings:
        position = start
        while position < len(content):
            try:
                code = read_opcodes(content, position)
                found = Machine(renames).run(code)
            except CorruptRecord:
                break
            except CannotRename:
                return True
            if any(lookup.old != lookup.new for lookup in found.lookups):
                return True
            if any(holds_old_name(inner, renames, depth + 1) for _, inner in _contents(found, renames)):
                return True
            position = code.end
    return False


def _contents(run: Followed, renames: Renames) -> Iterator[tuple[Op, bytes]]:
    for op in run.contents:
        raw = run.code.data[op.operand : op.end]
        if renames.may_be_in(raw):
            yield op, raw
            encode = _AS_BYTES.get(op.code)
            if encode is not None and (b"\\" in raw or not raw.isascii()):
                yield op, encode(raw)


def _text_as_bytes(raw: bytes) -> bytes:
    """Below protocol 3 bytes are texts of as many characters."""
    return raw.decode("utf-8", "replace").encode("latin-1", "replace")


def _line_as_bytes(raw: bytes) -> bytes:
    return raw[:-1].decode("raw_unicode_escape", "replace").encode("latin-1", "replace")


def _quoted_as_bytes(raw: bytes) -> bytes:
    """What Python 2 wrote as a line: between quotation marks, with its escapes."""
    return _ESCAPED.sub(lambda match: _meant(match[1]), raw.strip()[1:-1])


def _meant(escape: bytes) -> bytes:
    return bytes([int(escape[1:], 16)]) if escape[:1] == b"x" else _ESCAPES.get(escape, escape)


def _beginnings(content: bytes) -> Iterator[int]:
    """Where a pickle may begin: at the beginning, and wherever a protocol is told."""
    yield 0
    start = content.find(b"\x80")
    while start >= 0:
        if start and content[start + 1 : start + 2] in _PROTOCOLS:
            yield start
        start = content.find(b"\x80", start + 1)


_PROTOCOLS = {bytes([number]) for number in range(HIGHEST_PROTOCOL + 1)}
_ESCAPED = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_AS_BYTES = {
    pickle.UNICODE[0]: _line_as_bytes, pickle.BINUNICODE[0]: _text_as_bytes, pickle.SHORT_BINUNICODE[0]: _text_as_bytes,
    pickle.BINUNICODE8[0]: _text_as_bytes, pickle.STRING[0]: _quoted_as_bytes,
}  # fmt: skip
