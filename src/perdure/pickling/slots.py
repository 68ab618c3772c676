"""What is known of the values in a pickle, and of what it does with them, while nothing is carried out."""

from __future__ import annotations

import pickle
from enum import Enum
from typing import NamedTuple

from perdure.pickling.opcodes import Op, Opcodes
from perdure.pickling.renames import Name

NO_NAME = ("", "")


class Kind(Enum):
    """What is known of a value."""

    OTHER = "other"
    TEXT = "text"
    CLASS = "class"  # or a function: what was looked up by a name
    NAMED = "named"  # the same, looked up by a call of `perdure._named`
    TUPLE = "tuple"
    MODULE = "module"  # imported by a call


class Slot:
    """A value. `uses` counts the events that take it; `wanted` are the texts that look-ups need in its place."""

    __slots__ = ("code", "kind", "name", "new", "op", "parts", "text", "uses", "wanted")

    def __init__(
        self, code: Opcodes, op: int, kind: Kind = Kind.OTHER, name: Name = NO_NAME, parts: tuple[Slot, ...] = ()
    ):
        self.code = code
        self.op = op  # the place of the opcode that made it
        self.kind = kind
        self.name = self.new = name  # now, and after the renames
        self.parts = parts
        self.uses = 0
        self.wanted: set[str] | tuple[()] = ()
        self.text: str | None = None  # of a text that is a name by itself: what it is to be

    def want(self, text: str) -> None:
        """A look-up needs that text in the place of this one."""
        self.wanted = {*self.wanted, text}


class Event(NamedTuple):
    """What one opcode does: with which values, and what it makes. `told` are values that it takes as mere texts."""

    op: Op
    takes: tuple[Slot, ...]
    makes: Slot | None = None
    told: object = None


class Lookup(NamedTuple):
    """Where a name is used: by the opcode at which place, and how the pickle is to spell it.

    `texts` are the operands, if they are values on the stack, with what is needed in their places. `args` are all
    that a call takes, with what is needed in the places of names.
    """

    op: int
    old: str
    new: str
    spelled: Name
    protocol: int
    texts: tuple[tuple[Slot, str], ...] = ()
    args: tuple[tuple[Slot, str | None], ...] = ()


class Followed(NamedTuple):
    """What one pickle does.

    `dropped` are classes that are needed no more, if nothing else takes them. `kept` are such as stay what they are,
    if nothing else takes them, since what is taken from them stays: each with that look-up.
    """

    code: Opcodes
    events: list[Event]
    lookups: list[Lookup]
    contents: list[Op]
    dropped: list[Slot]
    kept: list[tuple[Lookup, list[Slot]]]
    top: Slot


def use(slot: Slot) -> None:
    """Note that an event takes the value; what is in a tuple is taken with it, once."""
    slot.uses += 1
    if slot.parts and slot.uses == 1:
        waiting = [*slot.parts]
        while waiting:
            part = waiting.pop()
            part.uses += 1
            if part.uses == 1:
                waiting += part.parts


def text_of(slot: Slot) -> str | None:
    """The text of a literal; None for `str` of Python 2, for what is kept elsewhere, and for what is no text."""
    op = slot.code.ops[slot.op]
    if op.hole or op.code in _NATIVE:
        return None
    raw = slot.code.data[op.operand : op.end]
    try:
        return raw[:-1].decode("raw_unicode_escape") if op.code == _LINE_TEXT else raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def plain_value(slot: Slot) -> object:
    """A value that stands in the pickle by itself: a number, text, bytes, or a tuple of such; None for any other."""
    op = slot.code.ops[slot.op]
    if slot.kind is Kind.TEXT:
        return text_of(slot)
    if slot.kind is Kind.TUPLE:
        parts = tuple(map(plain_value, slot.parts))
        return None if None in parts else parts
    return (op.code, slot.code.data[op.operand : op.end]) if op.code in _PLAIN and not op.hole else None


_PLAIN = {code[0] for code in (
    pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.BINFLOAT,
    pickle.INT, pickle.LONG, pickle.FLOAT, pickle.LONG1, pickle.LONG4, pickle.SHORT_BINBYTES, pickle.BINBYTES,
)}  # fmt: skip
_LINE_TEXT = pickle.UNICODE[0]
_NATIVE = {pickle.STRING[0], pickle.BINSTRING[0], pickle.SHORT_BINSTRING[0]}
