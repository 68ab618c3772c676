"""Whether somebody else holds an array or a table that is an attribute of an object: it may change unseen.

- Asked only of objects that gave a buffer away when they were pickled: they are few, and looking takes its time.
- An array counts as held when a variable, another array that is a view of it, or the array that it is a view of leads
  to its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from sys import getrefcount
from typing import Any

_dict_of = object.__getattribute__

_TABLES = ("__array__", "__dataframe__")  # data frames, series, tensors: what holds its memory further in
_NEVER_WRITTEN = "pyarrow"  # the package whose tables cannot be changed


def is_held_by_buffers(obj: Any) -> bool:
    """Whether an attribute that can be written to through a buffer is referred to from elsewhere, too."""
    try:
        values = _dict_of(obj, "__dict__").values()
    except AttributeError:
        return False  # slots only
    return _most_references(values) > _ONLY_ATTRIBUTE


def _most_references(values: Iterable[Any]) -> int:
    """The largest reference count among what can be written to; what this loop holds itself is counted as well."""
    most = 0
    for value in values:
        if _is_written_to(value):
            most = max(most, getrefcount(value), _references_of_base(value))
    return most


def _is_written_to(value: Any) -> bool:
    """Whether it gives a writable buffer, or is a table of things that do."""
    kind = type(value)
    if kind is str or kind is int or kind is float or kind is bytes:
        return False
    try:
        with memoryview(value) as view:
            return not view.readonly
    except (TypeError, ValueError, BufferError):  # it gives none, or none that can be described
        if str(kind.__module__).partition(".")[0] == _NEVER_WRITTEN:
            return False
        return any(name in base.__dict__ for base in kind.__mro__ for name in _TABLES)


def _references_of_base(value: Any) -> int:
    """How many hold the array that `value` is a view of, counted as `_most_references` counts; 0 if it is none."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray):
        return 0
    base = value.base  # one reference here takes the place of that from the attribute
    return getrefcount(base) if isinstance(base, numpy.ndarray) else 0


class _Alone:
    """An object with a buffer that nothing else holds: how many references there are is the interpreter's business."""

    def __init__(self) -> None:
        self.part = bytearray()


_ONLY_ATTRIBUTE = _most_references(_Alone().__dict__.values())
