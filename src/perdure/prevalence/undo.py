"""Putting a system back to what it was before a command that raised: in place, so that its root stays the same object.

- What the command may have changed is not known here, so the state is read again: snapshot, and journal up to the one
  before. That costs as much as opening the system, and nothing for commands that do not raise.
- The root keeps its identity; objects inside it are new ones.
"""

from __future__ import annotations

import copyreg
from typing import Any

from perdure.errors import PrevalenceError


def put_state(root: Any, fresh: Any) -> None:
    """Give `root` the state of `fresh`, which nobody else holds and which is used up; raises `PrevalenceError`."""
    if type(root) is not type(fresh):
        raise PrevalenceError(f"The root was a {type(fresh).__qualname__} and is a {type(root).__qualname__} now.")
    if isinstance(root, dict):
        dict.clear(root)
        dict.update(root, fresh)
    elif isinstance(root, list):
        list.__setitem__(root, slice(None), fresh)
    elif isinstance(root, set):
        set.clear(root)
        set.update(root, fresh)
    attributes = getattr(root, "__dict__", None)
    if attributes is not None:
        attributes.clear()
        attributes.update(fresh.__dict__)
    for name in _slots(type(root)):
        if hasattr(fresh, name):
            object.__setattr__(root, name, getattr(fresh, name))
        elif hasattr(root, name):
            object.__delattr__(root, name)


def can_be_put(root: Any) -> bool:
    """Whether a root of that class has a state that can be put back."""
    return isinstance(root, (dict, list, set)) or hasattr(root, "__dict__") or bool(_slots(type(root)))


def _slots(cls: type[Any]) -> list[str]:
    names: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    return names
