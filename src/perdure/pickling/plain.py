"""Reads pickles from anywhere, of protocols 0 to 5 and Python 2's too, as long as they hold plain values only.

- Plain: None, booleans, numbers, str, bytes, bytearray, list, tuple, dict, set, frozenset, and references among them.
- Nothing is imported and nothing foreign is called: every opcode is checked before the first one is carried out.
- References to the outside are shown (as `OutsideReference`) to who asks for it, and refused else; none is resolved.
- The few globals that old protocols need for plain values are replaced by constructors of this module.
- What can be built is bounded by the size of the input: lengths, memo indexes and the cost of hashing keys.
- What is not plain raises `UntrustedRecord`, what is no pickle `CorruptRecord`; nothing else comes out.
"""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable, Iterable
from typing import Any

from perdure.errors import CannotLoad, CorruptRecord, UntrustedRecord
from perdure.pickling.outside import MODULE, NAME, OutsideReference
from perdure.pickling.scan import DEEPEST_KEY, FREE_KEY_WORK, KEY_WORK_PER_BYTE, PLAIN_GLOBALS, Source, scan


def load_plain(
    data: bytes,
    *,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    show_outside: bool = False,
) -> object:
    """The plain value that is pickled in `data`, all of it. `encoding` and `errors` are for `str` of Python 2.

    With `show_outside` it may hold references to the outside, which come as `OutsideReference`.
    Raises `UntrustedRecord` for anything that is not plain, `CorruptRecord` for damage and trailing bytes.
    """
    source = io.BytesIO(data)
    value = load_plain_from(source, encoding=encoding, errors=errors, buffers=buffers, show_outside=show_outside)
    if source.read(1):
        raise CorruptRecord(f"Bytes follow the end of the pickle at position {source.tell() - 1}.")
    return value


def load_plain_from(
    source: Source,
    *,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
    show_outside: bool = False,
) -> object:
    """The plain value of the next pickle in `source`, which is left at the byte after it; see `load_plain`."""
    if encoding != "bytes":
        codecs.lookup(encoding)  # the caller's mistake is not the pickle's
    data = scan(source, has_buffers=buffers is not None, further=_OUTSIDE if show_outside else frozenset())
    try:
        return _Builder(io.BytesIO(data), encoding=encoding, errors=errors, buffers=buffers).load()
    except UntrustedRecord:
        raise
    except UnicodeDecodeError as error:
        raise CannotLoad(
            f"A text in the pickle cannot be decoded: {error}.",
            hint="For a pickle written by Python 2, give encoding='utf-8', 'latin-1' or 'bytes'.",
        ) from error
    # What C pickle raises for pickles that are sound in form and wrong in content, such as a list for a key.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise CorruptRecord(f"The pickle cannot be read: {error}.") from error
    except (AttributeError, RecursionError, MemoryError) as error:
        raise CorruptRecord(f"The pickle cannot be read: {type(error).__name__} {error}.") from error


# -- constructors ------------------------------------------------------------------------------------------


class _Constructor:
    """Stands for a global in the pickle; made anew for each load, so that a pickle cannot change it for good."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., object]):
        self._build = build

    def __call__(self, *args: object) -> object:
        return self._build(*args)


def _members(items: object) -> list[Any]:
    if type(items) not in (list, tuple):
        raise ValueError("the members of a set must come as a list")
    members: list[Any] = list(items)  # type: ignore[call-overload] # it is a list or a tuple
    _check_hashing(members)
    return members


def _check_hashing(members: list[Any]) -> None:
    """Raise ValueError if hashing the members takes more steps, or goes deeper, than their number explains."""
    left = FREE_KEY_WORK + KEY_WORK_PER_BYTE * len(members)
    waiting = [(member, 0) for member in members if type(member) is tuple]
    while waiting:
        part, depth = waiting.pop()
        left -= len(part)
        if left < 0 or depth > DEEPEST_KEY:
            raise ValueError("the members of a set are nested too deeply")
        waiting += [(nested, depth + 1) for nested in part if type(nested) is tuple]


def _set(items: object = ()) -> set[Any]:
    return set(_members(items))


def _frozenset(items: object = ()) -> frozenset[Any]:
    return frozenset(_members(items))


def _complex(real: object, imaginary: object) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise ValueError("the parts of a complex number must be floats")
    return complex(real, imaginary)


def _encode(text: object, encoding: object) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes must come as a text in Latin-1")
    return text.encode("latin-1")


def _bytes() -> bytes:
    return b""


def _bytearray(content: object = b"", encoding: object = "latin-1") -> bytearray:
    if type(content) is str:
        content = _encode(content, encoding)
    if type(content) is not bytes:
        raise ValueError("the content of a bytearray must be bytes")
    return bytearray(content)


def _outside(tag: object, key: object) -> OutsideReference:
    if type(tag) is not str:
        raise ValueError("the tag of a reference to the outside must be a text")
    return OutsideReference(tag, key)


_OUTSIDE = frozenset({f"{MODULE}\n{NAME}".encode()})
_CONSTRUCTORS: dict[str, Callable[..., object]] = {
    "set": _set,
    "frozenset": _frozenset,
    "complex": _complex,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "encode": _encode,
    NAME: _outside,  # only met where `scan` lets it through
}


class _Builder(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if f"{module_name}\n{global_name}".encode() not in PLAIN_GLOBALS | _OUTSIDE:
            raise UntrustedRecord(f"The pickle names {module_name}.{global_name}, which is no plain value.")
        return _Constructor(_CONSTRUCTORS[global_name])

    def persistent_load(self, pid: Any) -> Any:
        raise UntrustedRecord("The pickle holds a persistent id, which is no plain value.")
