"""NumPy's arrays, scalars and types, of plain kinds: made of the bytes that are there, by NumPy's public functions.

- NumPy is used if the program has imported it, never imported for a pickle.
- Kinds: booleans, numbers, texts, bytes, times; and, in an array, plain values where it says objects.
- Shape and kind must fit the bytes exactly; nothing of NumPy's own that takes a pickled state is called.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

from perdure.pickling.own.limits import Refused, Wrong
from perdure.pickling.own.stack import Callee, Pending

_KIND = re.compile(r"(b1|[iu][1248]|f[248]|f16|c8|c16|c32|[SU][0-9]{1,9}|[mM]8|O8)")
_UNIT = re.compile(rb"(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic)")
_MOST_AXES = 64
_LONGEST = 1 << 62  # of one axis
_MOST_EMPTY = 1_000_000  # items without any bytes, which NumPy gives one each
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


class Lent:
    """A constructor that needs another package, where that is."""

    def __init__(
        self,
        name: str,
        build: Callable[..., Any] | None,
        *,
        new: Callable[..., Any] | None = None,
        takes_names: bool = False,
        gets_builder: bool = False,
        module: str = "numpy",
    ):
        self._callee = Callee(name, build, new=new, takes_names=takes_names, gets_builder=gets_builder, copies=True)
        self._module = module

    def here(self) -> Callee:
        """The constructor. Raises `Refused` where the package was not imported."""
        module = self._module
        if module not in sys.modules:
            raise Refused(
                f"it names {module}'s {self._callee.name}", f"Import {module} before: nothing is imported for it."
            )
        return self._callee


def _numpy() -> Any:
    return sys.modules["numpy"]


def _dtype(kind: Any, *_: Any) -> Pending:
    if type(kind) is not str or not _KIND.fullmatch(kind):
        raise Refused(f"{kind!r:.40} is no plain kind of array")

    def finish(state: Any) -> Any:
        if type(state) is not tuple or len(state) not in (8, 9) or state[1] not in ("<", ">", "|", "="):
            raise Wrong("a kind of array has a state of eight parts")
        if state[2:5] != (None, None, None):
            raise Refused("an array has fields, or arrays in it")
        unit = _unit(state[8]) if len(state) == 9 else ""
        return _numpy().dtype(f"{state[1]}{kind}{unit}")

    return Pending(finish)


def _unit(told: Any) -> str:
    parts = told[1] if type(told) is tuple and len(told) == 2 and not told[0] else None
    if type(parts) is not tuple or len(parts) != 4 or type(parts[0]) is not bytes or not _UNIT.fullmatch(parts[0]):
        raise Refused("times have a unit")
    if type(parts[1]) is not int or not 0 < parts[1] < 1 << 31 or parts[2:] != (1, 1):
        raise Refused("times have a unit")
    return "" if parts[0] == b"generic" else f"[{parts[1]}{parts[0].decode()}]"


def _require_dtype(dtype: Any, *, objects: bool = False) -> None:
    if not isinstance(dtype, _numpy().dtype) or (dtype.hasobject and not objects):
        raise Refused("an array is of no plain kind")


def _filled(content: Any, dtype: Any, shape: Any, order: str) -> Any:
    """An array of bytes that are there."""
    _require_shape(shape)
    try:
        size = memoryview(content).nbytes
    except TypeError as error:
        raise Wrong("an array is made of bytes") from error
    if math.prod(shape) * dtype.itemsize != size:
        raise Wrong(f"an array of that shape does not have {size} bytes")
    if not dtype.itemsize:
        _require_few(math.prod(shape))
        return _numpy().zeros(shape, dtype)
    return _numpy().frombuffer(content, dtype).reshape(shape, order=order)


def _require_shape(shape: Any) -> None:
    if type(shape) is not tuple or not all(type(length) is int and 0 <= length < _LONGEST for length in shape):
        raise Wrong("the shape of an array is of whole numbers")
    if len(shape) > _MOST_AXES:
        raise Wrong(f"an array has more than {_MOST_AXES} axes")


def _require_few(count: int) -> None:
    if count > _MOST_EMPTY:
        raise Refused(f"an array has more than {_MOST_EMPTY} items without any bytes")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any = "C", *rest: Any) -> Any:
    _require_dtype(dtype)
    if order not in ("C", "F") or rest:
        raise Refused("an array has axes in another order")
    return _filled(content, dtype, shape, order)


def _reconstruct(kind: Any, *_: Any) -> Pending:
    if type(kind) is not Callee or kind.name != "ndarray":
        raise Refused("an array is of a class of its own")

    def finish(state: Any) -> Any:
        if type(state) is not tuple or len(state) != 5:
            raise Wrong("an array has a state of five parts")
        _, shape, dtype, is_fortran, content = state
        order = "F" if is_fortran is True else "C"
        _require_dtype(dtype, objects=True)
        if dtype.hasobject:
            return _of_objects(content, dtype, shape, order)
        if type(content) is not bytes:
            raise Wrong("an array is made of bytes")
        return _filled(bytearray(content), dtype, shape, order)

    return Pending(finish)


def _of_objects(items: Any, dtype: Any, shape: Any, order: str) -> Any:
    if type(items) is not list or not _PLAIN.issuperset(map(type, items)):
        raise Refused("an array of objects holds more than texts and numbers")
    _require_shape(shape)
    if math.prod(shape) != len(items):
        raise Wrong(f"an array of that shape does not have {len(items)} items")
    made = _numpy().empty(len(items), dtype)
    made[:] = items
    return made.reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> Any:
    _require_dtype(dtype)
    if type(content) is not bytes:
        raise Wrong("a number of NumPy's is made of bytes")
    return _filled(content, dtype, (), "C")[()]


def _rows() -> dict[tuple[str, str], Lent]:
    table = {("numpy", "dtype"): Lent("dtype", _dtype), ("numpy", "ndarray"): Lent("ndarray", None)}
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = Lent("_reconstruct", _reconstruct, takes_names=True)
        table[f"{core}.multiarray", "scalar"] = Lent("scalar", _scalar)
        table[f"{core}.numeric", "_frombuffer"] = Lent("_frombuffer", _from_buffer)
    return table


TABLE = _rows()
