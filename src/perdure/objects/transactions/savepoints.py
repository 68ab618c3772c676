"""Savepoints: what a view's changed objects were like at one moment, and the way back to it.

- An image keeps payloads of the objects that are enlisted and differ from their records, and of new ones that these
  refer to; of enlisted objects that are as stored it keeps only that they are. Nothing else is looked at or read.
- Going back is done in place: an object stays the same object, its containers are new ones. What is as it was then
  is left alone, containers and all; what was touched since is a ghost again; what was saved since is new again.
- Taking an image reads nothing from the store, and writes nothing.
- What is in an image and can only be changed through itself naps: its next touch is seen, and the next image needs no
  look at it. So many savepoints in one transaction cost what was touched in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from perdure.errors import CannotLoad, PerdureError
from perdure.objects.instances.classes import ClassFacts, facts_of
from perdure.objects.instances.guests import is_record
from perdure.objects.instances.napping import can_change_unseen
from perdure.objects.instances.persistable import AWAKE, Entry, entry_of
from perdure.objects.instances.states import simple_state
from perdure.objects.payloads.decoding import StoredReference, comparable, resolver_for, state_of
from perdure.objects.payloads.encoding import Encoded, Encoder
from perdure.objects.payloads.filling import refill
from perdure.objects.payloads.pieces import lasting
from perdure.objects.views.comparing import is_as_stored
from perdure.objects.views.view import View
from perdure.pickling.compare import same_state
from perdure.pickling.outside import Resolver, identity
from perdure.records.values import REDUCED, STATE, VALUE, Record


class _Kept(NamedTuple):
    """One object as it was: with its entry then (None: new to the store), and its state (None: as stored).

    `objects` are those that the state refers to, in the order of its references.
    """

    obj: Any
    facts: ClassFacts
    entry: Entry | None
    flags: int
    forced: bool
    state: Encoded | None
    objects: tuple[Any, ...]


class _Unnamed:
    """Stands for the entry of an object that has no id yet."""

    def __init__(self, number: int):
        self.id = f"unnamed.{number}"
        self.mark = 0


class Image:
    """The changed objects of a view at one moment. `others`: what is to be written besides, by `save` or `replace`.

    An object that cannot be pickled raises `CannotPickle`; where `lenient`, it goes back to what is stored of it.
    """

    def __init__(self, view: View, others: Iterable[Any] = (), *, lenient: bool = False):
        self._view = view
        self._lenient = lenient
        self._objects: dict[str, Any] = {}  # what the states refer to, held
        self._unnamed: dict[int, _Unnamed] = {}  # by address, for new objects; they are held as well
        self._values: dict[int, tuple[Any, Encoded]] = {}  # plain values, by address
        self._encoder = Encoder(self._entry_of, view.protocol)
        with view.lock:
            self._kept: dict[int, _Kept] = {**view.still_napping()}  # by address
            self._queue: list[Any] = [*view.enlisted.values(), *(obj for _, obj in view.changed_guests())]
            touched = len(view.enlisted)
            for value in others:
                if is_record(value):
                    self._entry_of(value)
                else:
                    self._values[id(value)] = (value, _lasting(self._encoder.encode_value(value)))
            for obj in self._queue:  # grows: new objects that these refer to
                self._keep(obj)
            self._encoder.release()
            for obj in () if lenient else self._queue[:touched]:
                self._let_nap(obj)

    @classmethod
    def of_nothing(cls, view: View) -> Image:
        """What a view is like where nothing is changed; to make it so takes all its changes away."""
        image = cls.__new__(cls)
        image._view = view
        image._objects, image._unnamed, image._kept, image._values, image._queue = {}, {}, {}, {}, []
        return image

    def restore(self) -> None:
        """Make everything as it was. Raises `CannotLoad` if a class refuses the state that it gave itself."""
        view = self._view
        with view.lock:
            asleep = view.still_napping()  # since this image: nothing happened to them
            for address, later in [*asleep.items()]:
                if self._kept.get(address) is not later:
                    view.wake(later.entry, later.obj)
            awake = [kept for address, kept in self._kept.items() if asleep.get(address) is not kept]
            for kept in awake:
                entry = view.own_entry(kept.obj)
                if kept.entry is None and entry is not None:
                    view.dismiss(entry)  # saved since
            self._encoder = Encoder(self._entry_of, view.protocol)
            changed = [kept for kept in awake if not self._is_as_kept(kept)]
            self._encoder.release()
            for address, obj in list(view.enlisted.items()):
                entry = entry_of(obj)
                if entry is None or address in self._kept:
                    continue
                if entry.revision == 0 and entry.state == AWAKE:
                    view.dismiss(entry)
                else:
                    view.let_go(entry, obj)
            for entry, obj in view.changed_guests():
                if id(obj) in self._kept:
                    continue
                if entry.revision == 0:
                    view.dismiss(entry)
                else:
                    view.let_go(entry, obj)
            self._put_all_back(changed)

    def _put_all_back(self, changed: Iterable[_Kept]) -> None:
        """What a class refuses is let go; the first refusal is raised once all others are back."""
        failed: list[PerdureError] = []
        for kept in changed:
            try:
                self._put_back(kept)
            except PerdureError as error:
                failed.append(error)
                if kept.entry is not None:
                    self._view.let_go(kept.entry, kept.obj)
        if failed:
            raise failed[0]

    def changed_ids(self) -> set[str]:
        """The ids of stored objects that had unsaved changes."""
        return {kept.entry.id for kept in self._kept.values() if kept.entry is not None and kept.state is not None}

    def value(self, value: Any) -> Any:
        """A plain value as it was: itself, or a copy of what it was if it was changed since."""
        found = self._values.get(id(value))
        if found is None:
            return value
        encoder = Encoder(self._entry_of, self._view.protocol)
        try:
            now = encoder.encode_value(value)
        except PerdureError:
            now = None  # what cannot be pickled is not what could be
        finally:
            encoder.release()
        record = self._record(found[1], None, None)
        if now is not None and self._is_same(record, now, None):
            return value
        return state_of(record, [self._objects[id_] for id_ in record.references], self._outside(record))

    def _entry_of(self, obj: Any) -> Any:
        """What an encoder asks: the entry of an object, which is noted and, if it is new, kept as well."""
        entry: Any = self._view.own_entry(obj)
        if entry is None:
            entry = self._unnamed.get(id(obj))
        if entry is None:
            entry = self._unnamed[id(obj)] = _Unnamed(len(self._unnamed))
            self._queue.append(obj)
        self._objects.setdefault(entry.id, obj)
        return entry

    def _keep(self, obj: Any) -> None:
        entry = self._view.own_entry(obj)
        if entry is not None and entry.state != AWAKE:
            return
        if entry is not None and type(obj) is entry.facts.ghost:
            self._view.wake(entry, obj)  # an interruption came while it was to doze
        facts = facts_of(type(obj))
        try:
            state = _without_graph(self._encoder.encode(obj, facts))
        except PerdureError:
            if self._lenient:
                return
            raise
        objects = tuple([self._objects[id_] for id_ in state[1]])
        if entry is None:
            self._kept[id(obj)] = _Kept(obj, facts, None, 0, False, _lasting(state), objects)
            return
        if entry.revision and not entry.forced and entry.facts is facts and is_as_stored(entry, state):
            self._kept[id(obj)] = _Kept(obj, facts, entry, entry.flags, False, None, objects)
        else:
            self._kept[id(obj)] = _Kept(obj, facts, entry, entry.flags, entry.forced, _lasting(state), objects)

    def _let_nap(self, obj: Any) -> None:
        """Unless somebody could change it unseen, or it refers to what has no id and so is in no list of anybody's."""
        kept = self._kept.get(id(obj))
        if kept is None or kept.entry is None or not kept.facts.simple or kept.facts.ghost is None:
            return
        if any(id(other) in self._unnamed for other in kept.objects):
            return
        if not can_change_unseen(simple_state(obj)):
            self._view.nap(kept.entry, obj, kept)

    def _is_as_kept(self, kept: _Kept) -> bool:
        obj, facts, entry, flags, forced, state, _ = kept
        if entry is not None:
            if entry.state != AWAKE:
                return state is None  # it was let go, and will be read anew
            entry.flags, entry.forced = flags, forced
        if type(obj) is not facts.cls:
            return False
        try:
            now = self._encoder.encode(obj, facts)
            if state is None:
                return entry is not None and (is_as_stored(entry, now) or not self._view.differing([(entry, now)]))
        except PerdureError:
            return False  # what cannot be pickled, or compared, is not what could be
        return self._is_same(self._record(state, facts, entry), now, facts)

    def _put_back(self, kept: _Kept) -> None:
        obj, facts, entry, flags, forced, state, objects = kept
        view = self._view
        if entry is not None and state is None:
            view.let_go(entry, obj)
            return
        assert state is not None
        record = self._record(state, facts, entry)
        if facts.guest:
            view.put_back_guest(entry, obj, record, objects)
            return
        if entry is not None:
            entry.state, entry.facts, entry.flags, entry.forced = AWAKE, facts, flags, forced
            view.enlisted[entry.address] = obj
        refill(obj, facts.cls, record, objects, self._outside(record))

    def _is_same(self, then: Record, now: Encoded, facts: ClassFacts | None) -> bool:
        payload, references, graph, _ = now
        if (payload, references) == (then.payload, then.references):
            return True
        try:
            stored = comparable(then, facts)
        except CannotLoad:  # state methods that look at what they refer to have met a stand-in
            return False
        return same_state(stored, graph, self._id_of)

    def _outside(self, record: Record) -> Resolver | None:
        return resolver_for(record, self._view.resources, {})

    def _id_of(self, obj: object) -> str | None:
        """What a comparison asks: the id of what is a record of its own."""
        if is_record(obj):
            entry: Any = self._entry_of(obj)
            return str(entry.id)
        return obj.id if isinstance(obj, StoredReference) else identity(obj)

    @staticmethod
    def _record(state: Encoded, facts: ClassFacts | None, entry: Entry | None) -> Record:
        payload, references, _, flags = state
        kind = VALUE if facts is None else STATE if facts.simple else REDUCED
        name, version = ("", 0) if facts is None else (facts.name, facts.version)
        return Record("" if entry is None else entry.id, 0, kind | flags, name, version, "", references, {}, payload)


def _without_graph(encoded: Encoded) -> Encoded:
    """The graph would hold containers of the object, which then looked as if somebody else held them."""
    payload, references, _, flags = encoded
    return payload, references, None, flags


def _lasting(encoded: Encoded) -> Encoded:
    """Large pieces are copied: arrays are written to in place."""
    payload, references, _, flags = encoded
    return lasting(payload), references, None, flags


class Owner(Protocol):
    """What a savepoint asks of its transaction."""

    def roll_back(self, savepoint: Savepoint) -> None: ...

    def release(self, savepoint: Savepoint) -> None: ...

    def holds(self, savepoint: Savepoint) -> bool: ...


class Savepoint:
    """`sp = tx.savepoint()`, later `sp.rollback()`, as often as wanted; or `with tx.savepoint():`.

    The block rolls back on an exception, which goes on its way; at its end the savepoint is let go. Rolling back to a
    savepoint ends those that were made after it. Once it is gone, or its transaction over, `rollback` raises
    `TransactionError`.
    """

    def __init__(self, owner: Owner, image: Image, pending: Any):
        self._owner = owner
        self.image = image
        self.pending = pending

    def rollback(self) -> None:
        """Make every object as it was here, and forget what was saved, replaced or removed since."""
        self._owner.roll_back(self)

    def __enter__(self) -> Savepoint:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not self._owner.holds(self):
            return  # rolled back past it, or the transaction was ended by hand
        if kind is not None:
            self._owner.roll_back(self)
        self._owner.release(self)
