"""Flat values as pickles without a memo: what most small objects have.

- Flat are numbers, texts, booleans, None, and lists, tuples and dicts of such, in which no text and no container is met
  twice: as nothing refers back, the opcode that puts each of them into the memo is left out (`MEMOIZE`, a byte).
- There are few texts and containers, and none of these is large: a walk goes through them all.
- The compiled part writes the same.
"""

from __future__ import annotations

import pickle
from typing import Any

MOST = 100  # texts and containers, with the list that is pickled
LARGE = 1000  # items of a container that is not flat

_ATOMS = frozenset({int, float, bool, type(None)})
_NOTED = frozenset({str, list, tuple, dict})


class Collector:
    """A file that only collects what is written; C pickle writes a small pickle in one piece."""

    __slots__ = ("write",)

    def __init__(self, parts: list[Any]):
        self.write = parts.append


def is_flat(values: list[Any]) -> bool:
    """Whether a list is flat."""
    met = {id(values)}
    containers: list[Any] = [values]
    for container in containers:
        if len(container) >= LARGE:
            return False
        for each in [*container, *container.values()] if type(container) is dict else container:
            kind = type(each)
            if kind in _ATOMS or (kind is tuple and not each):  # neither is ever in the memo
                continue
            if kind not in _NOTED or id(each) in met or len(met) == MOST:
                return False
            met.add(id(each))
            if kind is not str:
                containers.append(each)
    return True


class FlatPickler:
    """Pickles lists that are flat, one after the other."""

    __slots__ = ("_parts", "_pickler")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._pickler = pickle.Pickler(Collector(self._parts), 5)
        self._pickler.fast = True  # no memo

    def dump(self, values: list[Any]) -> bytes | None:
        """The pickle of values that are flat; None if it is so large that C pickle writes it in several pieces."""
        self._parts.clear()
        self._pickler.dump(values)
        return self._parts[0] if len(self._parts) == 1 else None
