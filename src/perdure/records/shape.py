"""The shape of a state: the names of its attributes, written before their values so that a record can be read alone.

    length of the shape (2 bytes, little-endian) | shape | pickled list of the values, in the order of the names

- A shape is JSON: `[[names of the attributes], [places among them that hold nothing but a reference]]`. For a class
  that declares its attributes, a third list has the places of those that it does not declare, if there are any.
- In the place of such a reference the list has its place among the record's references.
- Many records share a shape, byte by byte: it is made once, and parsed once.
- Values that name nothing (`PLAIN`) are a pickle without the opcodes PROTO and FRAME (11 bytes), where one frame holds
  all of it: a pickle in memory is read without them, and a protocol only tells how names are spelled. Earlier builds
  have written both.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from sys import intern
from typing import NamedTuple

from perdure.errors import CorruptRecord

MOST_NAMES = 200
LONGEST = 0xFFFF  # bytes
_MOST_PARSED = 1000
_PROTO, _FRAME, _START = pickle.PROTO + b"\x05", pickle.FRAME[0], 11  # how they begin, and the size of both
_LEAST_FRAMED = 2 + 4  # bytes


class Shape(NamedTuple):
    """`head` is what stands before the values; `links` are the places of attributes that are references."""

    names: tuple[str, ...]
    links: tuple[int, ...]
    head: bytes


def shape_of(names: Sequence[str], links: Sequence[int], beside: Sequence[int] = ()) -> Shape | None:
    """The shape with those names, `beside` being the places of what is not declared; None if there can be none."""
    if len(names) > MOST_NAMES or any(type(name) is not str for name in names):
        return None
    text = json.dumps([names, links, beside] if beside else [names, links], separators=(",", ":")).encode()
    return Shape(tuple(names), tuple(links), len(text).to_bytes(2, "little") + text) if len(text) <= LONGEST else None


def parse_shape(payload: bytes) -> Shape:
    """The shape that a payload begins with; raises `CorruptRecord` if it is none."""
    head = payload[: 2 + int.from_bytes(payload[:2], "little")]
    found = _PARSED.get(head)
    if found is None:
        if len(_PARSED) >= _MOST_PARSED:
            _PARSED.clear()
        found = _PARSED[head] = _parse(head)
    return found


def without_start(pickled: bytes) -> bytes:
    """A pickle of plain values of protocol 5 without PROTO and FRAME; as it is if one frame does not hold all of it."""
    if pickled[:2] != _PROTO or len(pickled) == 2:
        return pickled
    if pickled[2] != _FRAME:
        return pickled[2:] if len(pickled) < _LEAST_FRAMED else pickled  # too short for a frame
    return pickled[_START:] if int.from_bytes(pickled[3:_START], "little") == len(pickled) - _START else pickled


def declared_names(shape: Shape) -> tuple[str, ...]:
    """The names of the attributes that the class declared, if it declared any."""
    beside = [*json.loads(shape.head[2:]), ()][2]
    return tuple(name for place, name in enumerate(shape.names) if place not in beside)


def _parse(head: bytes) -> Shape:
    try:
        names, links, *rest = json.loads(head[2:])
        count = len(names)
        places = [*links, *(rest[0] if rest else ())]
        if not all(type(name) is str for name in names) or not all(0 <= place < count for place in places):
            raise ValueError("names or places")
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptRecord(f"The names of the record's attributes cannot be read: {error}.") from error
    return Shape(tuple(map(intern, names)), tuple(map(int, links)), head)


_PARSED: dict[bytes, Shape] = {}  # by heads; records share them
