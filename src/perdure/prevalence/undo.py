"""Putting a system back to what it was before a command that raised: in place, so that its root stays the same object.

- What the command may have changed is not known here, so the state is read again: snapshot, and journal up to the one
  before. That costs as much as opening the system, and nothing for commands that do not raise.
- The root keeps its identity; objects inside it are new ones. What a class of C code keeps besides attributes can be
  put back only if it is one of those below; a system with another root is not opened for writing.
"""

from __future__ import annotations

import copyreg
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from types import BuiltinFunctionType
from typing import Any

from perdure.errors import PrevalenceError


def put_state(root: Any, fresh: Any) -> None:
    """Give `root` the state of `fresh`, which nobody else holds and which is used up; raises `PrevalenceError`."""
    if type(root) is not type(fresh):
        raise PrevalenceError(f"The root was a {type(fresh).__qualname__} and is a {type(root).__qualname__} now.")
    for base in _bases_in_c(type(root)):
        _WAYS[base](root, fresh)
    attributes = getattr(root, "__dict__", None)
    if attributes is not None:
        attributes.clear()
        attributes.update(fresh.__dict__)
    for name in _slots(type(root)):
        if hasattr(fresh, name):
            object.__setattr__(root, name, getattr(fresh, name))
        elif hasattr(root, name):
            object.__delattr__(root, name)


def require_puttable(root: Any) -> None:
    """Raise `PrevalenceError` for a root whose state cannot be put back after a command that raised."""
    cls = type(root)
    strange = [base.__qualname__ for base in _bases_in_c(cls) if base not in _WAYS]
    if strange or not (hasattr(root, "__dict__") or _slots(cls) or _bases_in_c(cls)):
        raise PrevalenceError(
            f"A {cls.__qualname__} cannot be the root of a system: what a {(strange or [cls.__qualname__])[0]} holds"
            " cannot be put back after a command that raised.",
            hint="Make a class for the root, and have it as one of its attributes.",
        )


def _put_dict(root: Any, fresh: Any) -> None:
    cls: Any = OrderedDict if isinstance(root, OrderedDict) else dict
    cls.clear(root)
    for key, value in cls.items(fresh):
        cls.__setitem__(root, key, value)
    if isinstance(root, defaultdict):
        root.default_factory = fresh.default_factory


def _put_set(root: Any, fresh: Any) -> None:
    set.clear(root)
    set.update(root, fresh)


def _put_deque(root: Any, fresh: Any) -> None:
    deque.clear(root)
    deque.extend(root, deque.__iter__(fresh))


_WAYS: dict[type, Callable[[Any, Any], Any]] = {
    dict: _put_dict,
    list: lambda root, fresh: list.__setitem__(root, slice(None), fresh),
    set: _put_set,
    deque: _put_deque,
    bytearray: lambda root, fresh: bytearray.__setitem__(root, slice(None), fresh),
    random.Random.__mro__[1]: lambda root, fresh: random.Random.setstate(root, random.Random.getstate(fresh)),
}


def _bases_in_c(cls: type[Any]) -> list[type[Any]]:
    """Those of its bases that keep something in C code: they are made by a `__new__` of their own."""
    bases = [base for base in cls.__mro__ if type(vars(base).get("__new__")) is BuiltinFunctionType]
    return [base for base in bases if base is not object]


def _slots(cls: type[Any]) -> list[str]:
    names: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    return names
