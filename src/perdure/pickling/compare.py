"""Whether a stored state and the live one are the same, by walking both graphs side by side.

- "Same" means that saving again would store nothing new: exact types, bits of numbers, order of lists and dicts,
  members of sets, and which places share one object.
- In doubt the answer is "changed": an object is then written once more, and nothing is lost.
- No `__eq__` or `__hash__` of the user's is called; what `__reduce_ex__` gives is compared instead.
- Whatever the user's classes raise on the way means "changed"; nothing of it comes out.
"""

from __future__ import annotations

import copyreg
import pickle
import types
from collections.abc import Callable, Iterable
from struct import pack
from typing import Any

Reference = Callable[[object], str | None]

_SINGLE = frozenset({type(None), bool, type(...), type(NotImplemented)})
_ATOMS = frozenset({*_SINGLE, int, float, complex, str, bytes})
_BY_NAME = frozenset({type, types.FunctionType, types.ModuleType})
_PLAIN = frozenset({list, tuple, dict, set, frozenset, bytearray, pickle.PickleBuffer})
_KEY_DEPTH = 4
_KEY_WIDTH = 16
_PART = 1 << 18  # bytes of a buffer that are compared at a time


def same_state(stored: object, live: object, reference: Reference) -> bool:
    """Whether `live` is what `stored` was loaded from, so that nothing needs to be written.

    `reference` gives the id of an object that is a record of its own, on either side, and None for anything else.
    """
    try:
        return _Walk(reference).compare(stored, live)
    except Exception:  # noqa: BLE001 - the user's __reduce_ex__ and __getstate__ run here; an error in them is doubt
        return False


class _Walk:
    """One comparison: which object of one side stands for which of the other, and the pairs still to be looked at."""

    def __init__(self, reference: Reference):
        self.reference = reference
        self.live_of: dict[int, Any] = {}
        self.stored_of: dict[int, Any] = {}
        self.pairs: list[tuple[Any, Any]] = []
        self.sets: list[tuple[Any, Any]] = []
        self.alive: list[Any] = []  # states made on the way must live on, else their ids would be given again

    def compare(self, stored: Any, live: Any) -> bool:
        self.pairs.append((stored, live))
        while True:
            while self.pairs:
                if not self._same(*self.pairs.pop()):
                    return False
            # Sets wait until the rest is walked: members that are also elsewhere have found their partners by then.
            if not self.sets:
                return True
            if not self._match_members(*self.sets.pop()):
                return False

    def _same(self, stored: Any, live: Any) -> bool:
        cls = type(stored)
        if cls is not type(live):
            return self._same_reference(stored, live) is True
        if cls in _ATOMS:
            return _same_atoms(cls, stored, live)
        if cls in _BY_NAME:
            return stored is live
        if cls not in _PLAIN:
            same = self._same_reference(stored, live)
            if same is not None:
                return same
        if (cls is tuple or cls is frozenset) and not stored and not live:
            return True  # the interpreter may share empty ones as it likes
        if id(stored) in self.live_of or id(live) in self.stored_of:
            return self.live_of.get(id(stored), self) is live and self.stored_of.get(id(live), self) is stored
        self.live_of[id(stored)] = live
        self.stored_of[id(live)] = stored
        if stored is live:
            return True  # stored by name: a class with a metaclass, a member of an enumeration, a singleton
        return self._same_parts(cls, stored, live)

    def _same_reference(self, stored: Any, live: Any) -> bool | None:
        """Whether both are references to one id; None if neither is a reference."""
        stored_id = None if type(stored) in _ATOMS else self.reference(stored)
        live_id = None if type(live) in _ATOMS else self.reference(live)
        if stored_id is None and live_id is None:
            return None
        return stored_id is not None and live_id is not None and str(stored_id) == str(live_id)

    def _same_parts(self, cls: type, stored: Any, live: Any) -> bool:
        if cls is list or cls is tuple:
            return self._same_items(stored, live)
        if cls is dict:
            return self._same_items(stored.keys(), live.keys()) and self._same_items(stored.values(), live.values())
        if cls is set or cls is frozenset:
            self.sets.append((stored, live))
            return len(stored) == len(live)
        if cls is bytearray:
            return bool(stored == live)
        if cls is pickle.PickleBuffer:
            return _same_buffers(stored, live)
        return self._same_reduction(_reduce(stored), _reduce(live))

    def _same_reduction(self, stored: Any, live: Any) -> bool:
        if type(stored) is not tuple or type(live) is not tuple:
            return False  # a name: then both would be one object, and this is not reached
        if len(stored) != len(live):
            return False
        self.alive.append((stored, live))
        for index, (one, other) in enumerate(zip(stored, live, strict=True)):
            if (one is None) != (other is None):
                return False
            if index in (3, 4) and one is not None:
                one, other = list(one), list(other)
                self.alive.append((one, other))
                if index == 4:
                    one, other = [part for item in one for part in item], [part for item in other for part in item]
                if not self._same_items(one, other):
                    return False
            else:
                self.pairs.append((one, other))
        return True

    def _same_items(self, stored: Iterable[Any], live: Iterable[Any]) -> bool:
        """Atoms are compared here and now; the rest waits, the first item on top."""
        ones, others = list(stored), list(live)
        if len(ones) != len(others):
            return False
        waiting = []
        for one, other in zip(ones, others, strict=True):
            cls = type(one)
            if cls in _ATOMS and cls is type(other):
                if one is not other and not _same_atoms(cls, one, other):
                    return False
            else:
                waiting.append((one, other))
        waiting.reverse()
        self.pairs += waiting
        return True

    # -- members of sets ---------------------------------------------------------------------------------------

    def _match_members(self, stored: Any, live: Any) -> bool:
        """Pair the members by what they hold; where several hold the same, in the order of iteration."""
        lives: dict[Any, list[Any]] = {}
        unpaired = {id(member): member for member in live}
        rest = []
        for member in stored:
            partner = self.live_of.get(id(member), self)
            if partner is self:
                rest.append(member)
            elif unpaired.pop(id(partner), self) is self:
                return False
        for member in unpaired.values():
            lives.setdefault(self._key(member, _KEY_DEPTH), []).append(member)
        for members in lives.values():
            members.reverse()
        for member in rest:
            partners = lives.get(self._key(member, _KEY_DEPTH))
            if not partners:
                return False
            self.pairs.append((member, partners.pop()))
        return True

    def _key(self, member: Any, depth: int) -> Any:
        """A value of builtin types only that is equal for equal members; not exact: `_same` has the last word.

        Classes stand in it by their ids, since a metaclass of the user's may define `__eq__` and `__hash__`.
        """
        cls = type(member)
        if cls in _SINGLE or cls is int or cls is str or cls is bytes:
            return id(cls), member
        if cls is float:
            return id(cls), pack("<d", member)
        if cls is complex:
            return id(cls), pack("<dd", member.real, member.imag)
        if cls in _BY_NAME or issubclass(cls, type):
            return id(cls), id(member)
        if cls not in _PLAIN:
            identity = self.reference(member)
            if identity is not None:
                return "reference", str(identity)
        if depth == 0:
            return id(cls)
        return id(cls), self._key_of_parts(cls, member, depth - 1)

    def _key_of_parts(self, cls: type, member: Any, depth: int) -> Any:
        if cls is set or cls is frozenset:
            return len(member), frozenset(self._key(item, depth) for item in member)
        if cls is list or cls is tuple:
            return len(member), tuple(self._key(item, depth) for item in member[:_KEY_WIDTH])
        if cls is dict:
            items = [part for item in list(member.items())[:_KEY_WIDTH] for part in item]
            return len(member), tuple(self._key(item, depth) for item in items)
        if cls is bytearray or cls is pickle.PickleBuffer:
            return bytes(member)
        reduced = _reduce(member)
        if type(reduced) is not tuple:
            return str(reduced)
        self.alive.append(reduced)
        # The state counts, not the containers that carry it: else the depth would be spent on those.
        return tuple(self._key(part, depth + 1 if type(part) in (tuple, dict) else depth) for part in reduced[:3])


def _same_atoms(cls: type, stored: Any, live: Any) -> bool:
    if cls in _SINGLE:
        return stored is live
    if cls is float:
        return pack("<d", stored) == pack("<d", live)
    if cls is complex:
        return pack("<dd", stored.real, stored.imag) == pack("<dd", live.real, live.imag)
    return bool(stored == live)


def _same_buffers(stored: pickle.PickleBuffer, live: pickle.PickleBuffer) -> bool:
    """Part by part, so that the copies which a comparison at full speed takes stay small."""
    with stored.raw() as one, live.raw() as other:
        if one.readonly != other.readonly or len(one) != len(other):
            return False
        places = [slice(start, start + _PART) for start in range(0, len(one), _PART)]
        return all(one[place].tobytes() == other[place].tobytes() for place in places)


def _reduce(obj: Any) -> Any:
    """Protocol 5: arrays give their memory, not a copy of it."""
    reduce = copyreg.dispatch_table.get(type(obj))
    return obj.__reduce_ex__(5) if reduce is None else reduce(obj)
