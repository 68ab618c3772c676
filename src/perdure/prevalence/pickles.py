"""Pickles of arguments and of whole systems: what names they use, and how those are found again.

- A class of the running script is named after the script, as in the records of a store; all names are looked up by
  `perdure.pickling.classes`.
- A stored pickle of arguments lacks the two opcodes that a short one does without (protocol and frame: 11 bytes).
- What is under a good seal is loaded by C pickle; nothing else ever is, unless the opener trusts all.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import Any, Protocol

from perdure.errors import CannotLoad, CorruptRecord, PerdureError
from perdure.pickling import outside
from perdure.pickling.classes import MAIN, find_global, name_of
from perdure.pickling.deep import DeepPickler
from perdure.pickling.outside import REGISTERED, Resolver, reduction
from perdure.pickling.references import named
from perdure.pickling.writers import payload_of

PROTOCOL = 5
_START = pickle.PROTO + bytes([PROTOCOL])
_FRAME = pickle.FRAME[0]
_NAMING = pickle.STACK_GLOBAL  # a pickle of this protocol names nothing without it
_MAIN = MAIN.encode()
_ATOMS = frozenset((str, int, float, bool, bytes, type(None)))


class _Naming:
    """Names what belongs to the running script by the script's own name."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == MAIN:
            return named, (name_of(obj),)
        return reduction(obj) if REGISTERED else NotImplemented


class _Pickler(_Naming, pickle.Pickler):
    pass


class _DeepPickler(_Naming, DeepPickler):
    pass


class Sink(Protocol):
    """Where a pickle is written to."""

    def write(self, data: bytes, /) -> Any: ...


def dump_system(root: Any, sink: Sink) -> None:
    """Write a whole system as one pickle, in many small writes; user's exceptions come out as they are.

    What is too deep for C pickle raises `RecursionError`: see `dump_deep`.
    """
    _Pickler(sink, PROTOCOL).dump(root)


def dump_deep(root: Any, sink: Sink) -> None:
    """The same for a system of any depth, more slowly."""
    _DeepPickler(sink, PROTOCOL).dump(root)


def is_plain(value: Any) -> bool:
    """Whether it is a tuple of what never changes and names nothing: such a value is its own copy."""
    return type(value) is tuple and _ATOMS.issuperset(map(type, value))


def dump_arguments(value: Any, name: str) -> tuple[bytes, bytes, bool]:
    """The pickle of arguments: whole, as it is stored, and whether it names classes or functions.

    Raises `CannotPickle`, whose path begins with `name`.
    """
    plain = is_plain(value)
    whole = pickle.dumps(value, PROTOCOL) if plain else payload_of(value, name)
    names = not plain and _NAMING in whole
    if names and _MAIN in whole:
        sink = io.BytesIO()
        _Pickler(sink, PROTOCOL).dump(value)
        whole = sink.getvalue()
    short = whole[2:]
    if whole[2] == _FRAME and int.from_bytes(whole[3:11], "little") == len(whole) - 11:
        short = whole[11:]
    return whole, short, names


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if global_name == outside.NAME and module_name == outside.MODULE:
            return Resolver(outside.NO_RESOURCES)
        return find_global(module_name, global_name)


def completed(short: bytes) -> bytes:
    """A complete pickle of what is stored."""
    return _START + short


def load_arguments(short: bytes, names: bool) -> Any:
    """What `dump_arguments` stored."""
    if not names:
        return pickle.loads(_START + short)
    return _Unpickler(io.BytesIO(_START + short)).load()


def load_system(data: bytes | memoryview, path: str) -> Any:
    """The system in a snapshot whose seal was verified; raises `ClassNotFound`, `CannotLoad` or `CorruptRecord`."""
    try:
        return _Unpickler(io.BytesIO(data)).load()
    except (PerdureError, MemoryError):
        raise
    except (pickle.UnpicklingError, EOFError) as error:
        raise CorruptRecord(f"The snapshot {path} cannot be read: {error}.", path=path) from error
    except Exception as error:  # the user's classes run here, and what they raise is why it cannot be loaded
        raise CannotLoad(
            f"The snapshot {path} cannot be loaded: {type(error).__name__}: {error}.",
            hint="A class in it refused its stored state; the exception that it raised is the cause of this one.",
            path=path,
        ) from error


load_short = pickle.loads  # what `dump_arguments` stored, where it names nothing: then it needs no protocol
