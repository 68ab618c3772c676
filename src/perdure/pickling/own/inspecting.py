"""`inspect`: what is in bytes that need not be trusted, and what loading them would call; nothing of it is executed.

- Frames of perdure's are taken apart as records are; anything else is a file of bare pickles, of any protocol.
- What cannot be followed to its end is shown as far as it goes, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

from perdure.errors import CorruptRecord, InvalidArgument, NewerFormat, PerdureError
from perdure.keys import KeyRing
from perdure.pickling.own.limits import LIMITS, Limits
from perdure.pickling.own.looking import Beside, Call, Looking, Made, Named
from perdure.pickling.own.machine import Machine
from perdure.pickling.own.tree import escaped, lines_of
from perdure.records.frame import MAGIC, parse_unverified, sealed_by, unpacked
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.shape import parse_shape
from perdure.records.values import BUFFERED, ENCRYPTED, KIND_BITS, LINKED, REDUCED, SHAPED, STATE, Record

GOOD, BAD, NONE = "good", "not good", "none"
MOST_LINES = 200
_UNTOLD = ("perdure:_", "copyreg:_reconstructor", "copy_reg:_reconstructor", "builtins:object", "__builtin__:object")
MOST_PICKLES = 1000  # of one file


class Inspection:
    """What was found. `str()` gives it as a tree of at most 200 lines.

    `record` is the header of a frame (None of a bare pickle), `seal` is `good`, `not good` or `none`. `calls` is what
    loading would call, in order, `names` what it would look up. `values` is what is in it: plain values, and stand-ins
    for all others; `problem` says why it could not be followed further, if so.
    """

    def __init__(self, record: Record | None, seal: str, key: str = ""):
        self.record = record
        self.seal = seal
        self.key = key  # that the frame names
        self.values: list[Any] = []
        self.calls: tuple[Call, ...] = ()
        self.problem = ""
        self.misplaced: tuple[str, ...] = ()
        self.names: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """All of it, line by line."""
        yield from self._head()
        for place, value in enumerate(self.values):
            yield from lines_of(f"pickle {place}" if len(self.values) > 1 else "", value)
        found: dict[tuple[str, str], int] = {}
        for call in self.calls:
            found[call.name, call.known] = found.get((call.name, call.known), 0) + 1
        yield "Loading it would call:" if found else "Loading it would call nothing."
        for (name, known), count in found.items():
            yield f"  {escaped(name)}" + (f", {count} times" if count > 1 else "") + f" ({known})"
        called = {call.name for call in self.calls}
        yield from (f"  {escaped(name)} is looked up, not called" for name in self.names if name not in called)
        yield from (f"  {escaped(each)}" for each in dict.fromkeys(self.misplaced))
        if self.problem:
            yield f"It cannot be followed further: {escaped(self.problem)}"

    def _head(self) -> Iterator[str]:
        record = self.record
        if record is None:
            yield "A bare pickle, without a seal"
            return
        version = f", version {record.class_version}" if record.class_version else ""
        yield f"{escaped(record.id or 'A value')}: {escaped(record.class_name)}{version}, revision {record.revision}"
        yield f"seal: {self.seal} (of the key {self.key})"
        for name, value in [*record.fields.items()][:50]:
            yield f"field {escaped(name)}: {escaped(repr(value))}"
        if record.references:
            shown = ", ".join(map(escaped, record.references[:10]))
            yield f"refers to: {shown}" + (f" and {len(record.references) - 10} more" * (len(record.references) > 10))

    def __str__(self) -> str:
        found: list[str] = []
        for line in self.lines():
            if len(found) == MOST_LINES:
                found.append("… (`lines()` gives all)")
                break
            found.append(line)
        return "\n".join(found)


def inspect(data: bytes | bytearray | memoryview, *, key: Key | None = None, limits: Limits = LIMITS) -> Inspection:
    """What is in `data`, a frame of perdure's or any file of pickles, without loading anything of it.

    The seal of a frame is compared with `key`, by default the user's own. Raises `CorruptRecord` for bytes that are
    neither, `NewerFormat`; what is wrong further in is told by `.problem`.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgument(
            f"What is inspected is bytes, not {type(data).__name__}.", hint="Give the file's content."
        )
    content = bytes(data)
    if content[: len(MAGIC)] != MAGIC:
        return _of_pickles(content, limits)
    return inspect_frame(content, key or _personal_key(), limits=limits)


def inspect_frame(frame: bytes, key: Key | None, source: Any = None, *, limits: Limits = LIMITS) -> Inspection:
    """What is in a frame. `source` gives a payload's bytes, and its buffers, where large pieces are kept apart."""
    good = key is not None and key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:])
    record = parse_unverified(frame)
    found = Inspection(record, GOOD if good else BAD, sealed_by(frame))
    looking = Looking(record.references)
    if record.flags & ENCRYPTED:
        found.problem = "it is encrypted, and was not opened: that takes its store, and the key."
        return found
    try:
        record = unpacked(record, limits.unpacking)
        found.values = [_of_record(record, looking, source, limits)]
    except (CorruptRecord, NewerFormat, PerdureError, ValueError) as error:
        found.problem = error.message if isinstance(error, PerdureError) else str(error)
    _note(found, looking)
    return found


def _machine(data: bytes, looking: Looking, limits: Limits, buffers: Iterable[Any] | None = None) -> Machine:
    looking.machine = machine = Machine(
        data, looking, limits=limits, buffers=buffers or repeat(Beside()), encoding="latin-1"
    )
    return machine


def _of_pickles(data: bytes, limits: Limits) -> Inspection:
    """All pickles in a file, one after the other."""
    found, looking = Inspection(None, NONE), Looking()
    position = 0
    try:
        while position < len(data) and len(found.values) < MOST_PICKLES:
            machine = _machine(data, looking, limits)
            machine.position = position
            found.values.append(machine.load())
            position = machine.position
        if not data:
            raise CorruptRecord("There are no bytes.")
    except PerdureError as error:
        if not found.values and not looking.calls and not _has_begun(looking):
            raise
        found.problem = error.message
    _note(found, looking)
    return found


def _note(found: Inspection, looking: Looking) -> None:
    found.calls, found.misplaced = tuple(looking.calls), tuple(looking.misplaced)
    found.names = tuple(name for name in looking.names if not name.startswith(_UNTOLD))


def _has_begun(looking: Looking) -> bool:
    """Whether anything could be followed."""
    machine = getattr(looking, "machine", None)
    return machine is not None and machine.at > machine.begun


def _of_record(record: Record, looking: Looking, source: Any, limits: Limits) -> Any:
    """A payload by its kind, as an object or a value."""
    flags, payload = record.flags, record.payload
    shape = parse_shape(payload) if flags & SHAPED else None
    buffers: Iterable[Any] | None = None
    if flags & BUFFERED:
        if source is None:
            raise CorruptRecord("Its large pieces are kept apart, in a store.")
        payload, buffers = source(record)
    elif shape is not None:
        payload = payload[len(shape.head) :]
    machine = _machine(payload, looking, limits, buffers)
    first = machine.load()
    made = Made(Named(record.class_name))
    kind = flags & KIND_BITS
    if shape is not None:
        values: Sequence[Any] = first if type(first) is list else [first]
        made.states.append(dict(zip(shape.names, values, strict=False)))
    elif kind == STATE:
        made.states.append(first[0] if flags & LINKED and type(first) is tuple and first else first)
    elif kind == REDUCED:
        second = machine.load()
        if type(first) is tuple and len(first) == 3 and type(first[1]) is tuple:
            made.args = first[1]
        if type(second) is tuple and len(second) == 4:
            made.states += [] if second[0] is None else [second[0]]
            made.items = second[1] if type(second[1]) is list else []
            made.states += [] if second[2] is None else [second[2]]
    else:
        made = first
    machine.require_end()
    return made


def _personal_key() -> Key | None:
    ring = KeyRing()
    return ring.personal() if (ring.directory / "personal").exists() else None
