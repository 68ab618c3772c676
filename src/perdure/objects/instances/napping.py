"""Whether anybody could change the parts of an object without touching the object itself.

- An object whose containers, however deep, are held by nobody else can only be changed through the object.
- In doubt somebody could: parts that are instances of other classes are not looked into.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import getrefcount
from typing import Any

from perdure.objects.instances.guests import is_record

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(...)})
_dict_alone = _part_alone = 0  # reference counts of what nobody else holds


def can_change_unseen(state: dict[str, Any]) -> bool:
    """Whether somebody holds the dict of an object's attributes, or any mutable part of them at any depth."""
    return getrefcount(state) > _dict_alone or _is_any_held(state)


def _is_any_held(state: dict[str, Any]) -> bool:
    todo: list[Iterable[Any]] = [state.values()]
    for values in todo:  # grows
        for value in values:
            kind = type(value)
            if kind in _ATOMS:  # classes may be unhashable, these are not
                continue
            if kind is tuple:
                todo.append(value)
            elif kind is list or kind is dict or kind is set or kind is bytearray:
                if getrefcount(value) > _part_alone:
                    return True
                if kind is dict:
                    todo += (value.keys(), value.values())
                elif kind is not bytearray:
                    todo.append(value)
            elif not is_record(value):
                return True
    return False


class _Sample:
    def __init__(self) -> None:
        self.parts: dict[str, Any] = {"list": [[]], "pair": ({},)}


def _learn() -> None:
    """How many references there are to what nobody else holds is the interpreter's business."""
    global _dict_alone, _part_alone
    sample = _Sample()
    while _is_any_held(object.__getattribute__(sample, "__dict__")):
        _part_alone += 1
    while can_change_unseen(object.__getattribute__(sample, "__dict__")):
        _dict_alone += 1


_learn()
