"""Guests: `persistent.Persistent` objects and `BTrees`, kept as records of their own by their own protocol.

- They are no `Persistable`: their ghosts, their notice of changes and their way to sleep are the C code's of the
  package `persistent`, which asks a *jar* (`IPersistentDataManager` there). Each view is one.
- BTrees take no weak references; so a view finds its guests in a `persistent.PickleCache`, which forgets an object when
  nobody else holds it, and makes ghosts of the least used beyond its size.
- A guest is changed when it says so (`_p_changed`); what was only read costs nothing at a commit. What it says it has
  relied on (`readCurrent`: the inner nodes of a tree on the way to a change) is checked at the commit.
- Nothing here imports `persistent`: as long as nobody else has, there can be no guest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Protocol

from perdure.backends.base import number_of
from perdure.errors import CannotLoad, WrongView
from perdure.objects.instances.persistable import AWAKE, DOZING, GHOST, Facts, Persistable, Sight

OFTEN = 200  # guests that are filled before the cache is looked at in the midst of a step
KEPT_ENTRIES = 1000  # entries of guests that are gone, before they are looked for and let go of

CACHE_SIZE = 10_000  # guests with their states in one view

_Guest = Any


def guest_base() -> type[Any] | None:
    """`persistent.Persistent`, if a part of the program has imported it."""
    module = sys.modules.get("persistent")
    return getattr(module, "Persistent", None)


def is_guest(obj: object) -> bool:
    """Whether the object is a record of its own by the protocol of `persistent`."""
    base = guest_base()
    return base is not None and isinstance(obj, base)


def is_record(obj: object) -> bool:
    """Whether a store keeps the object as a record of its own, whoever refers to it."""
    return isinstance(obj, Persistable) or is_guest(obj)


def is_guest_class(cls: type[Any]) -> bool:
    """Whether instances of the class are guests."""
    base = guest_base()
    return base is not None and issubclass(cls, base)


class GuestEntry:
    """What a view knows of one guest: as an `Entry`, but found by number; its state is what the guest itself says."""

    __slots__ = (
        "address", "digest", "facts", "flags", "forced", "id", "jar", "listed", "mark", "number", "oid", "references",
        "revision", "view",
    )  # fmt: skip

    def __init__(self, jar: Jar, obj: _Guest, facts: Facts, id_: str, number: int):
        self.jar = jar
        self.view: Owner = jar.view
        self.address = id(obj)
        self.facts = facts
        self.id = id_
        self.number = number
        self.oid = oid_of(number)
        self.revision = 0  # until its state is here
        self.flags = facts.flags
        self.digest = 0
        self.forced = False
        self.references: tuple[str, ...] = ()
        self.listed = self.mark = 0

    def __call__(self) -> _Guest | None:
        return self.jar.cache.get(self.oid)

    @property
    def cls(self) -> type[Any]:
        """The class of the guest."""
        return self.facts.cls

    @property
    def state(self) -> int:
        """GHOST, DOZING (its state is here, and unchanged) or AWAKE (changed, or not stored yet)."""
        obj = self()
        if obj is None or obj._p_changed is None:
            return GHOST
        return AWAKE if obj._p_changed or not self.revision else DOZING


class Owner(Sight, Protocol):
    """What a jar asks of its view."""

    retired: bool

    def fill_guest(self, entry: GuestEntry, obj: _Guest) -> None: ...

    def require_own(self, entry: Any) -> None: ...


class Jar:
    """The data manager of one view's guests. `entries` and `by_id` are the view's own; guests' are among them."""

    def __init__(self, view: Owner, entries: dict[int, Any], by_id: dict[str, Any], size: int = CACHE_SIZE):
        self.view = view
        self.cache: Any = sys.modules["persistent"].PickleCache(self, size)  # where a guest is at the door, it is there
        self.changed: dict[bytes, _Guest] = {}  # enlisted: changed or new, held until the commit
        self.relied_on: dict[str, int] = {}  # id -> revision that was read, of what must not change meanwhile
        self._entries, self._by_id = entries, by_id
        self._filled = 0
        self._guests: set[int] = set()  # numbers of the entries that are guests'
        self._look_at = KEPT_ENTRIES

    # -- what the guests' C code asks ----------------------------------------------------------------------

    def setstate(self, obj: _Guest) -> None:
        """Fill a ghost."""
        self.view.fill_guest(self.entry_of(obj), obj)
        self._filled += 1
        if self._filled % OFTEN == 0:
            self._shorten()

    def register(self, obj: _Guest) -> None:
        """Note that the guest changes; what this raises stops the change."""
        entry = self.entry_of(obj)
        self.view.require_own(entry)
        if not self.view.retired:
            self.changed[entry.oid] = obj

    def readCurrent(self, obj: _Guest) -> None:  # noqa: N802 (named by `persistent`)
        """Note that a change relies on the guest being as it was read."""
        entry = self.entry_of(obj)
        if entry.revision:
            self.relied_on[entry.id] = entry.revision

    # -- entries -------------------------------------------------------------------------------------------

    def entry_of(self, obj: _Guest) -> Any:
        """The entry of a guest of this jar. Raises `CannotLoad` for one whose id belongs to another object by now."""
        entry = self._entries.get(int.from_bytes(obj._p_oid, "big"))
        if entry is None or entry() is not obj:
            raise CannotLoad(
                f"In the place of this {type(obj).__qualname__} the store has an object of another class by now.",
                hint="Let go of what refers to it, and load that again.",
            )
        return entry

    def adopt(self, obj: _Guest, facts: Facts, id_: str, number: int) -> Any:
        """The entry of a guest that is new to every store."""
        entry = GuestEntry(self, obj, facts, id_, number)
        obj._p_jar = self
        obj._p_oid = entry.oid
        self.cache[entry.oid] = obj
        self._note(entry)
        self.changed[entry.oid] = obj
        return entry

    def ghost(self, facts: Facts, id_: str) -> _Guest:
        """The ghost of a stored guest that is not in memory."""
        cls: Any = facts.cls
        obj = cls.__new__(cls)
        entry = GuestEntry(self, obj, facts, id_, number_of(id_))
        self.cache.new_ghost(entry.oid, obj)
        self._note(entry)
        return obj

    def dismiss(self, entry: GuestEntry) -> None:
        """Forget a guest that lives on as one that no store knows; its state must be there."""
        obj = entry()
        if obj is not None:
            obj._p_activate()
            obj._p_changed = False
        self._forget(entry)
        if obj is not None:
            del self.cache[entry.oid]
            del obj._p_jar
            del obj._p_oid

    def part_with(self, entry: GuestEntry) -> None:
        """Forget a ghost whose id is an object of another class by now; whoever touches it is told so."""
        self._forget(entry)
        if self.cache.get(entry.oid) is not None:
            del self.cache[entry.oid]

    def settle(self, entries: Iterable[Any]) -> None:
        """Those of the entries that are guests' are stored as they are now: at their revisions."""
        for entry in entries:
            if isinstance(entry, GuestEntry) and entry.revision:
                obj = self.changed.pop(entry.oid, None)
                obj = entry() if obj is None else obj
                if obj is not None:
                    obj._p_serial = oid_of(entry.revision)
                    obj._p_changed = False

    def make_ghost(self, entry: GuestEntry, obj: _Guest) -> None:
        """Let go of the state, changed or not."""
        obj._p_invalidate()  # first: as long as it is in the list, who is interrupted here finds it again
        self.changed.pop(entry.oid, None)
        self.relied_on.pop(entry.id, None)

    def step_ended(self) -> None:
        """A commit or an abort is over: nothing is relied on; the least used beyond the size become ghosts."""
        self.relied_on.clear()
        self.cache.incrgc()
        self._forget_gone()

    def _shorten(self) -> None:
        """In a long walk: let go of the nodes of trees that were used least. What lies in them can be held and changed.

        Other guests wait for the end of the step: whoever is about to change a list in one of them must find it there.
        """
        too_many = self.cache.cache_non_ghost_count - self.cache.cache_size
        for _, obj in self.cache.lru_items() if too_many > 0 else ():
            if too_many <= 0:
                break
            if not type(obj).__dictoffset__:
                obj._p_deactivate()  # does nothing to one that is changed or in use
                too_many -= 1
        self._forget_gone()

    def _forget_gone(self) -> None:
        if len(self._guests) > self._look_at:
            gone = [number for number in self._guests if self._entries[number]() is None]
            for number in gone:
                self._drop(self._entries[number])
            self._look_at = KEPT_ENTRIES + 2 * len(self._guests)

    def _note(self, entry: GuestEntry) -> None:
        self._entries[entry.number] = self._by_id[entry.id] = entry
        self._guests.add(entry.number)

    def _forget(self, entry: GuestEntry) -> None:
        self.changed.pop(entry.oid, None)
        self._drop(entry)

    def _drop(self, entry: GuestEntry) -> None:
        self._guests.discard(entry.number)
        if self._entries.get(entry.number) is entry:
            del self._entries[entry.number]
            self._by_id.pop(entry.id, None)


def known_entry(obj: _Guest, view: object) -> Any:
    """The `GuestEntry` of a guest in that view; None if no store knows it. Raises `WrongView` if it is another's."""
    jar = obj._p_jar
    if jar is None:
        return None
    if not isinstance(jar, Jar):
        raise WrongView(
            f"This {type(obj).__qualname__} belongs to a database of ZODB.",
            hint="Copy it (copy.deepcopy of its content, or an export), and save the copy.",
        )
    entry = jar.entry_of(obj)
    if jar.view is not view:
        raise WrongView(
            f"{entry.id} belongs to another view (another thread or task, or another store).",
            hint="Load it by its id in this one.",
            ids=(entry.id,),
        )
    return entry


def id_of_guest(obj: _Guest) -> str | None:
    """The id of a guest; None if no store knows it."""
    jar = obj._p_jar
    return str(jar.entry_of(obj).id) if isinstance(jar, Jar) else None


def oid_of(number: int) -> bytes:
    """A number in the form that ZODB gives to its object ids and serials: 8 bytes, big-endian."""
    return number.to_bytes(8, "big")
