"""`Persistable`, the mix-in, and the entry that a view keeps for each of its objects.

- The mix-in has no state, no metaclass and no `__init__` of its own to be called; it fits beside any other base.
- What perdure knows of an object stands in its `Entry`, a weak reference, found by the object's address; nothing is
  ever written into the object itself, and its `__eq__` and `__hash__` are never used.
- States of an entry: GHOST (nothing loaded), DOZING (state there, class is the ghost class: the next touch is seen),
  AWAKE (an ordinary object, enlisted in its view), LOADING (its state is being filled in: nobody may look at it yet).
  A new object is AWAKE with revision 0.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from perdure import kernels
from perdure.ids import Id
from perdure.pickling.own.limits import Limits
from perdure.pickling.own.registry import follow

GHOST, DOZING, AWAKE, LOADING = 0, 1, 2, 3
LOADED = (DOZING, AWAKE)


class Persistable:
    """Mix-in for objects that are records of their own in a store, whoever refers to them.

    Further arguments go on to the next base, as in gc3libs; a class need not call this `__init__` at all.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        following = super().__init__
        if type(self).__new__ is object.__new__ or getattr(following, "__objclass__", None) is not object:
            following(*args, **kwargs)  # else a `__new__` has taken the arguments, and `object` would refuse them

    @property
    def persistent_id(self) -> str | None:
        """The id in the store; None as long as it was not saved. Reading it does not load the object."""
        entry = entry_of(self)
        if entry is None:
            return None
        return entry.id if type(entry.id) is Id else Id(entry.id)  # which sorts by number

    @property
    def changed(self) -> bool:
        """Whether saving it would write something; setting it to True makes the next save write it."""
        entry = entry_of(self)
        return True if entry is None else entry.view.is_changed(entry, self)

    @changed.setter
    def changed(self, value: bool) -> None:
        entry = entry_of(self)
        if value and entry is not None:
            entry.view.touch(entry, self, force=True)


follow(Persistable)  # perdure's own reader knows what is built on it


class Sight(Protocol):
    """What an entry asks of its view."""

    limits: Limits

    def wake(self, entry: Entry, obj: Any, *, writing: bool = False) -> None: ...

    def is_changed(self, entry: Entry, obj: Any) -> bool: ...

    def touch(self, entry: Entry, obj: Any, *, force: bool = False) -> None: ...

    def forget(self, entry: Entry) -> None: ...

    def is_lenient(self, entry: Entry) -> bool: ...

    def is_napping(self, entry: Entry) -> bool: ...


# What the record of a revision has in one attribute, a text, a number, a truth value or None: (revision, name, value).
# It is taken when a dozing object is touched, so that the usual change is seen without reading the record again.
Sample = tuple[int, str, Any]


class Facts(Protocol):
    """What an entry tells of the class of its object; see `perdure.objects.instances.classes`."""

    cls: type[Any]
    name: str
    ghost: type[Any] | None
    guest: bool
    direct: bool
    fit: Any
    fit_version: int
    flags: int
    opaque: bool
    plan: Any
    simple: bool
    links: dict[str, None]
    links_to_learn: int

    def learn_links(self, names: Iterable[str]) -> None: ...


class Entry(weakref.ref[Any]):
    """What a view knows of one object; calling it gives the object, or None when it is gone."""

    __slots__ = (
        "address",
        "digest",
        "facts",
        "flags",
        "forced",
        "id",
        "listed",
        "mark",
        "number",
        "references",
        "revision",
        "sample",
        "state",
        "view",
    )

    address: int
    id: str
    number: int
    revision: int  # that the object was read at or written by; 0: not stored yet
    state: int
    facts: Facts
    view: Sight
    digest: int  # hash() of the stored payload, for this process only
    flags: int
    forced: bool
    references: tuple[str, ...]
    listed: int  # number of the last worklist that it was on
    mark: int  # of the last commit that met the object as one that is referred to
    sample: Sample | None  # of the record that was read or written last, or of one before

    @property
    def cls(self) -> type[Any]:
        """The class of the object as its author wrote it."""
        return self.facts.cls


# Address of the object -> its entry; addresses are freed after the entry is gone. Others use `entry_of`, except where
# the call itself would cost more than the look-up.
ENTRIES: dict[int, Entry] = {}


def entry_of(obj: Any) -> Entry | None:
    """The entry of a persistable object; None for one that no store knows."""
    entry = ENTRIES.get(id(obj))
    if entry is not None and entry() is not obj:  # `_gone` was interrupted for the one that was at this address before
        _gone(entry)
        return None
    return entry


def _gone(entry: Any) -> None:
    drop_entry(entry)
    entry.view.forget(entry)


def new_entry(obj: Any, view: Sight, facts: Facts, id_: str, number: int, state: int, flags: int = 0) -> Entry:
    """Make the entry of `obj`, which has none."""
    if kernels.compiled is not None:
        made: Entry = kernels.compiled.new_entry(obj, view, facts, id_, number, state, flags)
        return made
    entry = Entry(obj, _gone)
    entry.address = address = id(obj)
    entry.view = view
    entry.facts = facts
    entry.id = id_
    entry.number = number
    entry.state = state
    entry.revision = 0
    entry.flags = flags
    entry.digest = 0
    entry.forced = False
    entry.references = ()
    entry.mark = entry.listed = 0
    entry.sample = None
    ENTRIES[address] = entry
    return entry


if kernels.built is not None:
    kernels.built.bind_entries(Entry, ENTRIES, _gone)


def drop_entry(entry: Entry) -> None:
    """Forget an entry while its object lives on, as an object that no store knows."""
    if ENTRIES.get(entry.address) is entry:
        del ENTRIES[entry.address]


def in_memory(by_id: Mapping[str, Entry], id_: object) -> Any:
    """The object of that id, if its state is in memory and it is no opaque one; else None."""
    entry = by_id.get(id_) if isinstance(id_, str) else None
    return None if entry is None or entry.state not in LOADED or entry.facts.opaque else entry()
