"""What of a view stays in memory: objects that were only looked at rest, and the states of those left alone go.

- At rest means dozing: the next touch is seen, and only whoever refers to the object keeps it in memory.
- Nothing rests, and no state goes, of what was changed, or of which somebody else holds a part, however deep: that part
  could change, or be read, without the object.
- Every round looks at a few objects, the longest loaded first, so that no load waits for all of them.
- What counts are objects, and the bytes of large pieces.
"""

from __future__ import annotations

import gc
import threading
import types
from abc import abstractmethod
from collections.abc import Iterable
from enum import Enum
from itertools import islice
from sys import getrefcount
from typing import Any

from perdure.backends.base import Backend
from perdure.objects.instances import states
from perdure.objects.instances.guests import is_guest_class
from perdure.objects.instances.holding import is_held_by_buffers
from perdure.objects.instances.persistable import AWAKE, DOZING, Entry, Persistable, entry_of
from perdure.objects.payloads.encoding import Encoded
from perdure.objects.views.comparing import Comparing, is_as_stored
from perdure.objects.views.large import LargeLoaded
from perdure.pickling.outside import NO_RESOURCES, Resources
from perdure.records.seal import Key
from perdure.records.values import PLAIN, Record

CACHE_SIZE = 50_000  # objects whose states stay in memory
ENLISTED_AT_MOST = 30_000  # beyond, objects that were only looked at rest
ROUND = 200  # objects that one round looks at
NOW = -1  # a limit that says that the next load or touch makes a round, since there is too much of large pieces


class Resting(Comparing):
    """A reader that lets go of what is not needed; `cache_size` is how many states it keeps, if it can."""

    lock: threading.RLock

    def __init__(
        self,
        backend: Backend,
        key: Key | None,
        *,
        trust_all: bool = False,
        resources: Resources = NO_RESOURCES,
        cache_size: int = CACHE_SIZE,
    ):
        super().__init__(backend, key, trust_all=trust_all, resources=resources)
        self.cache_size = cache_size
        self._cache_limit = cache_size
        self._enlisted_limit = min(ENLISTED_AT_MOST, cache_size)
        self._large = LargeLoaded()
        self._limit_before = cache_size  # while the limit is `NOW`
        self._is_resting = False
        self._woken: Entry | None = None
        self._napping: dict[int, Any] = {}  # address -> what a savepoint keeps of it; some have been touched since

    @abstractmethod
    def make_ghost(self, entry: Entry, obj: Any) -> None:
        """Let go of the state."""

    def make_room(self, woken: Entry | None = None) -> None:
        """A round, if more is in memory than should be: called after each loading of states.

        What is `woken` just now stays awake: else the touch that wakes it would find it at rest, for ever.
        """
        if self._is_resting or (len(self.enlisted) <= self._enlisted_limit and len(self.loaded) <= self._cache_limit):
            return
        with self.lock:
            self._is_resting = True  # state methods of the user's may load more
            self._woken = woken
            try:
                if self._cache_limit == NOW:
                    self._cache_limit = self._limit_before
                    self._let_large_go()
                if len(self.enlisted) > self._enlisted_limit:
                    self._rest_longest_enlisted()
                if len(self.loaded) > self._cache_limit:
                    self._let_longest_loaded_go()
            finally:
                self._is_resting, self._woken = False, None

    def is_napping(self, entry: Entry) -> bool:
        """Whether the object may doze with unsaved changes; or did so, and was touched since."""
        return entry.address in self._napping

    def note_large(self, entry: Entry, record: Record) -> None:
        if self._large.add(entry.number, record) and self._cache_limit != NOW:
            self._limit_before, self._cache_limit = self._cache_limit, NOW

    def rest(self, objects: Iterable[Any]) -> int:
        """Let those that were only looked at doze; gives how many did. The others are enlisted as if touched now."""
        unchanged, others, doubtful = self._sort(objects)
        for entry, encoded in doubtful:
            obj = entry()
            (others if self.differing([(entry, encoded)]) else unchanged).append((entry, obj))
        rested = 0
        for entry, obj in unchanged:
            if _is_held(entry, obj):
                others.append((entry, obj))
            else:
                self.doze(entry, obj)
                rested += 1
        for entry, obj in others:
            if self.enlisted.pop(entry.address, None) is not None:
                self.enlisted[entry.address] = obj
        return rested

    def _sort(self, objects: Iterable[Any]) -> tuple[_Pairs, _Pairs, list[tuple[Entry, Encoded]]]:
        """Those that have the bytes of their records, those that have changed, and those with other bytes."""
        unchanged, changed, doubtful = [], [], []
        probe = self.probe()
        for obj in objects:
            entry = entry_of(obj)
            if entry is None or entry.state != AWAKE:
                continue
            facts: Any = entry.facts
            stays = not entry.revision or entry.forced or entry.address in self._napping or entry is self._woken
            if stays or facts.ghost is None or type(obj) is not facts.cls:
                changed.append((entry, obj))
                continue
            try:
                encoded = probe.encode(obj, facts)
            except Exception:  # noqa: BLE001 - the user's state methods run here; who saves it will be told
                changed.append((entry, obj))
                probe = self.probe()
                continue
            if is_as_stored(entry, encoded):
                unchanged.append((entry, obj))
            else:
                doubtful.append((entry, encoded))
        probe.release()
        return unchanged, changed, doubtful

    def _rest_longest_enlisted(self) -> None:
        longest = list(islice(self.enlisted.values(), min(ROUND, len(self.enlisted) // 2)))
        rested = self.rest(longest)
        least = min(ENLISTED_AT_MOST, self.cache_size)
        if 2 * rested < len(longest):
            self._enlisted_limit = 2 * len(self.enlisted)  # most were changed, or are held
        elif len(self.enlisted) <= least:
            self._enlisted_limit = least

    def _let_longest_loaded_go(self) -> None:
        loaded, gone, awake, stay = self.loaded, 0, [], []
        for _ in range(min(max(ROUND, len(loaded) - self._cache_limit), len(loaded) // 2)):
            entry = loaded.popleft()
            obj = entry()
            if obj is None or entry.state not in (DOZING, AWAKE) or entry.facts.ghost is None:
                gone += 1
            elif entry.state == AWAKE or not entry.revision:
                awake.append(obj)
                stay.append(entry)
            elif entry.address in self._napping or _is_held(entry, obj):
                stay.append(entry)
            else:
                self.make_ghost(entry, obj)
                gone += 1
        rested = self.rest(awake)  # the next round finds them dozing, unless they were touched again
        loaded.extend(stay)
        if not gone and not rested:
            self._cache_limit = 2 * len(loaded)
        elif len(loaded) <= self.cache_size:
            self._cache_limit = self.cache_size

    def _let_large_go(self) -> None:
        for number in self._large.round(ROUND):
            entry = self._entries.get(number)
            obj = entry() if entry is not None else None
            if entry is None or obj is None or entry.state not in (DOZING, AWAKE) or entry.facts.ghost is None:
                self._large.drop(number)
                continue
            if entry.address in self._napping or not entry.revision or _is_held(entry, obj):
                continue
            if entry.state == AWAKE and not self.rest([obj]):
                continue
            self.make_ghost(entry, obj)
            self._large.drop(number)


_Pairs = list[tuple[Entry, Any]]
_ATOMS = frozenset(map(id, (str, int, float, bool, type(None), bytes, complex, type(...))))  # metaclasses: no hash
_LEFT_OUT = (Persistable, type, Enum, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_UNCHANGING = frozenset({"datetime", "decimal", "fractions", "uuid", "pathlib", "ipaddress", "re"})
_module_of = type.__dict__["__module__"].__get__


def _is_held(entry: Entry, obj: Any) -> bool:
    return is_held_within(obj) or (not entry.flags & PLAIN and is_held_by_buffers(obj))


def is_held_within(obj: Any) -> bool:
    """Whether somebody else holds something, however deep in the object's state, that can change by itself.

    In doubt it is held. What is a record of its own does not count, nor what is in it.
    """
    return _is_held_in([value for _, value in states.attributes(obj)], _ONE)


def _is_held_in(values: list[Any], one: int) -> bool:
    waiting = [values]
    while waiting:
        for value in waiting.pop():
            kind = type(value)
            if id(kind) in _ATOMS or issubclass(kind, _LEFT_OUT) or is_guest_class(kind):
                continue
            if kind is not tuple and kind is not frozenset:
                if _module_of(kind) in _UNCHANGING:
                    continue
                if getrefcount(value) > one:
                    return True
            waiting.append(_within(kind, value))
    return False


def _within(kind: type[Any], part: Any) -> list[Any]:
    """What is directly in a container or in any other object: always a new list, so that each has one more holder."""
    if kind is dict:
        return [*part.keys(), *part.values()]
    if kind is list or kind is tuple or kind is set or kind is frozenset:
        return [*part]
    return gc.get_referents(part)


def _count_one() -> int:
    """The reference count that `_is_held_in` sees of what nobody else holds: the interpreter's business."""
    parts: list[Any] = [[[]]]
    count = 1
    while _is_held_in([*parts], count):
        count += 1
    return count


_ONE = _count_one()
