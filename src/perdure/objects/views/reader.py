"""Reads records into objects: one id is one object, as long as it lives; what it refers to comes as ghosts.

- Objects are held weakly, by the number of their id; those that were touched are enlisted, and held strongly.
- Everything is read as of `revision`. A record is opened only if its seal is good, or if all are trusted.
- A state is filled into the object before anybody sees it awake; if that fails, it is a ghost as before.
- Classes without a ghost class are made whole at once, with all that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from perdure.backends.base import Backend, number_of
from perdure.errors import CannotLoad, ClassNotFound, NotFound
from perdure.objects.instances import states
from perdure.objects.instances.classes import ClassFacts, Lost, facts_of
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.guests import GuestEntry, Jar, Owner, is_guest_class, oid_of
from perdure.objects.instances.persistable import (
    AWAKE,
    GHOST,
    LOADING,
    Entry,
    Persistable,
    drop_entry,
    entry_of,
    new_entry,
)
from perdure.objects.payloads.decoding import ObjectUnpickler, resolver_for, state_of, together
from perdure.objects.payloads.direct import fill_directly, note_read
from perdure.objects.payloads.filling import refill, refill_guest, user_code
from perdure.objects.payloads.pieces import attached
from perdure.objects.views.ahead import ReadAhead
from perdure.objects.views.replaced import Following, Records
from perdure.pickling.classes import find
from perdure.pickling.outside import BATCHED, NO_RESOURCES, Resolver, Resources
from perdure.records.frame import Parts, decoder, record_of
from perdure.records.seal import Key
from perdure.records.values import BUFFERED, KIND_BITS, OUTSIDE, STATE, VALUE, Record

_new = object.__new__

_NOT_DIRECT = KIND_BITS | OUTSIDE | BUFFERED

NO_RECORDS: Records = {}


class Reader(Following):
    """What is in memory of a store, and how the rest gets there; `View` adds touching, moving on and letting go."""

    def __init__(
        self, backend: Backend, key: Key | None, *, trust_all: bool = False, resources: Resources = NO_RESOURCES
    ):
        super().__init__()
        self.resources = resources
        self.backend = backend
        self.key = key
        self.trust_all = trust_all
        self.revision = -1  # not asked for yet: a view is made without waiting for the backend
        self._ahead = ReadAhead(backend)
        self._decoders: dict[bool, Callable[[bytes], Parts]] = {}  # by whether all records are trusted
        self._classes: dict[str, ClassFacts] = {}
        self.jar: Jar | None = None  # as soon as there are guests
        self._ready: dict[int, tuple[Record, Sequence[Any]]] = {}  # what guests are about to be filled with, by number

    # -- entries -----------------------------------------------------------------------------------------

    def enrol(self, obj: Any, facts: ClassFacts, id_: str, number: int | None = None) -> Entry:
        """The entry of an object that is new to the store."""
        number = number_of(id_) if number is None else number
        if facts.guest:
            guest: Entry = self.guests().adopt(obj, facts, id_, number)
            return guest
        entry = self.by_id[id_] = self._entries[number] = new_entry(
            obj, self, facts, id_, number, AWAKE, 0, facts.flags
        )
        self.enlisted[entry.address] = obj
        return entry

    def expect(self, id_: str, cls: type[Any]) -> Any:
        """The ghost of a record of that class which the step that is being put together will write."""
        entry = self.entry(id_)
        obj = entry() if entry is not None else None
        return self._ghost(facts_of(cls), id_) if obj is None else obj

    def dismiss(self, entry: Entry) -> None:
        """Forget an object that lives on as if it had never been saved; its state must be there."""
        if isinstance(entry, GuestEntry):
            self.guests().dismiss(entry)
            return
        drop_entry(entry)
        self.forget(entry)
        obj = self.enlisted.pop(entry.address, None)
        obj = entry() if obj is None else obj
        if obj is not None and entry.state != AWAKE:
            entry.state = AWAKE
            assign_class(obj, entry.cls)

    # -- many at a time ------------------------------------------------------------------------------------

    def read_many(self, ids: Sequence[str]) -> list[Any]:
        """The objects of those ids, states loaded, in one read; raises `NotFound` naming all that are not there."""
        found = dict(self._present(ids))
        missing = [id_ for id_ in ids if id_ not in found] if found else ids
        if missing:
            records = self.records(missing)
            if len(records) < len(missing):
                absent = [id_ for id_ in missing if id_ not in records]
                if absent:
                    raise not_found(absent)
            found.update(self._materialize(records))
        return [found[id_] for id_ in ids]

    def _present(self, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Those of the ids whose objects are in memory with their states."""
        known = self.by_id
        for id_ in ids if known else ():
            entry = known.get(id_)
            if entry is not None and entry.state != GHOST:
                obj = entry()
                if obj is not None:
                    yield id_, obj

    def records(self, ids: Iterable[str]) -> Records:
        """The records of those ids, as far as they are there, their seals verified."""
        frames = self.backend.read(ids, self.revision)
        return dict(zip(frames, map(self.decoder(), frames.values()), strict=True))

    def made_of(self, records: Records) -> list[Any]:
        """The objects of records that were read at the view's revision, states loaded; in the same order."""
        made = self._materialize(records)
        return [made[id_] for id_ in records]

    def load_states(self, objects: Sequence[Any]) -> None:
        """Load those of the objects that are ghosts, in one read; what is not there any more stays a ghost."""
        entries = [entry_of(obj) for obj in objects]
        ghosts = [entry.id for entry in entries if entry is not None and entry.state == GHOST and entry.view is self]
        if ghosts:
            self._materialize(self.records(ghosts))

    def decoder(self) -> Callable[[bytes], Parts]:
        found = self._decoders.get(self.trust_all)
        if found is None:
            found = self._decoders[self.trust_all] = decoder(self.key, trust_all=self.trust_all)
        return found

    def objects_of(self, ids: Sequence[str]) -> list[Any]:
        """The objects that a record refers to, as ghosts where they are not in memory."""
        held = self._held(ids)
        return [held[id_] for id_ in ids]

    def _held(self, ids: Iterable[str], records: Records = NO_RECORDS) -> dict[str, Any]:
        """Each of the ids with its object; what is in `records` only is made a ghost of the class named there."""
        held: dict[str, Any] = {}
        missing: dict[str, str | None] = {}  # id -> class name, if known
        known = self.by_id
        for id_ in ids:
            entry = known.get(id_)
            obj = entry() if entry is not None else None
            if obj is not None:
                held[id_] = obj
            else:
                missing[id_] = records[id_][3] if id_ in records else None
        if missing:
            held.update(self._make_ghosts(missing))
        return held

    def _materialize(self, records: Records) -> dict[str, Any]:
        """Objects with their states, of records that were just read. The loop is run for each of them: no detours."""
        if self.by_id:
            self._follow_classes(records)
        # Whatever the records refer to is kept in memory by this until the states do.
        held = self._held({id_ for parts in records.values() for id_ in parts[6]}, records)
        made: dict[str, Any] = {}
        outside = together(records.values(), self.resources) if BATCHED else {}  # what was resolved for these records
        known, entries, classes, loaded = self.by_id, self._entries, self._classes, self.loaded
        for id_, parts in records.items():
            own_id, _, flags, class_name, _, _, references, _, _, _ = parts
            if own_id != id_:
                raise CannotLoad(f"The record under {id_} says that it is {own_id}.", ids=(id_,))
            if flags & KIND_BITS == VALUE:
                record = attached(record_of(parts), self.backend)
                resolver = resolver_for(record, self.resources, outside)
                made[id_] = state_of(record, [held[target] for target in references], resolver)
                continue
            entry = known.get(id_)
            obj = entry() if entry is not None else None
            if entry is None or obj is None:
                facts = classes.get(class_name) or self.facts_named(class_name, id_)
                if facts.ghost is None:
                    made.update(self._make_guest(id_, parts) if facts.guest else self._make_eager({id_: parts}))
                    continue
                obj = _new(facts.ghost)
                number = int(id_[id_.rindex(".") + 1 :])
                entry = known[id_] = entries[number] = new_entry(obj, self, facts, id_, number, GHOST)
            made[id_] = obj
            if entry.state != GHOST:
                continue  # another one's state has asked for it
            loaded.append(entry)
            if not entry.facts.direct or flags & _NOT_DIRECT != STATE:
                record = attached(record_of(parts), self.backend)
                self._put_state(entry, obj, record, [held[target] for target in references], outside)
                continue
            fill_directly(entry, obj, parts, held)
        return made

    def _make_ghosts(self, names: dict[str, str | None]) -> dict[str, Any]:
        """Ghosts for ids with the names of their classes, which are looked up where they are not known."""
        unnamed = [id_ for id_, name in names.items() if name is None]
        if unnamed:
            names = {**names, **self.backend.classes(unnamed, self.revision)}
        made: dict[str, Any] = {}
        eager = []
        for id_, name in names.items():
            try:
                facts = self.facts_named(name, id_) if name is not None else facts_of(Lost)
            except ClassNotFound:
                facts = facts_of(Lost)
            if facts.eager:
                eager.append(id_)
            else:
                made[id_] = self._ghost(facts, id_)
        if eager:
            made.update(self._make_eager(self.records(eager)))
        return made

    def _ghost(self, facts: ClassFacts, id_: str) -> Any:
        if facts.guest:
            return self.guests().ghost(facts, id_)
        assert facts.ghost is not None
        obj = _new(facts.ghost)
        number = number_of(id_)
        self.by_id[id_] = self._entries[number] = new_entry(obj, self, facts, id_, number, GHOST)
        return obj

    def facts_named(self, class_name: str, id_: str) -> ClassFacts:
        facts = self._classes.get(class_name)
        if facts is None:
            try:
                cls = find(class_name)
            except ClassNotFound as error:
                error.ids = (id_,)
                error.message = f"{id_} is of a class that cannot be found here. {error.message}"
                raise
            if not isinstance(cls, type) or not (issubclass(cls, Persistable) or is_guest_class(cls)):
                raise ClassNotFound(
                    f"{class_name}, the class of {id_}, is not a Persistable here.",
                    hint="Something that others refer to was replaced by a plain value, or its code changed.",
                    ids=(id_,),
                )
            facts = self._classes[class_name] = facts_of(cls)
        return facts

    # -- one at a time -------------------------------------------------------------------------------------

    def _load_state(self, entry: Entry, obj: Any) -> None:
        id_ = entry.id
        parts = self._record(id_)
        if parts[3] != entry.facts.name:
            self._require_class(entry, obj, parts)
        if entry.facts.direct and parts[2] & _NOT_DIRECT == STATE and parts[0] == id_:
            self._fill_one(entry, obj, parts)
            return
        self._materialize({id_: parts})

    def read_one(self, id_: str) -> Any:
        """What `read_many` gives for one id, which waits for those that come after it."""
        entry = self.by_id.get(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None and entry.state != GHOST:
            return obj
        parts = self._record(id_)
        facts = self._classes.get(parts[3])
        if obj is not None or facts is None or not facts.direct or parts[2] & _NOT_DIRECT != STATE or parts[0] != id_:
            return self._materialize({id_: parts})[id_]
        obj = self._ghost(facts, parts[0])
        self._fill_one(self.by_id[id_], obj, parts)
        return obj

    def _fill_one(self, entry: Entry, obj: Any, parts: Parts) -> None:
        known, held = self.by_id, {}
        for id_ in parts[6]:
            near = known.get(id_)
            target = near() if near is not None else None
            if target is None:
                held = self._held(parts[6])
                break
            held[id_] = target
        self.loaded.append(entry)
        fill_directly(entry, obj, parts, held)

    def _record(self, id_: str) -> Parts:
        frame = self._ahead.read(id_, self.revision)
        if frame is None:
            raise not_found([id_])
        return self.decoder()(frame)

    def _put_state(
        self, entry: Entry, obj: Any, record: Record, objects: Sequence[Any], outside: dict[str, Any]
    ) -> None:
        """Fill a ghost of a class that takes part in its own pickling; afterwards it dozes."""
        if entry.facts.guest:
            self._ready[entry.number] = record, objects
            obj._p_activate()
            return
        if entry.cls is Lost:
            self._find_again(entry, obj, record)
        ghost, entry.state = entry.facts.ghost, LOADING
        try:
            self._build(entry, obj, record, objects, resolver_for(record, self.resources, outside))
        finally:
            if entry.state == LOADING:
                if ghost is not None:
                    assign_class(obj, ghost)
                    states.clear(obj)
                entry.state = GHOST
        note_read(entry, record)

    def _find_again(self, entry: Entry, obj: Any, record: Record) -> None:
        """Make a ghost of the right class of one whose class was not there before; raises if it still is not."""
        facts = self.facts_named(record.class_name, entry.id)
        try:
            assign_class(obj, facts.ghost or facts.cls)
        except TypeError as error:
            raise CannotLoad(
                f"{entry.id} is seen as an object without a class, and cannot become a {facts.cls.__qualname__}.",
                hint="Let go of what refers to it, and load that again.",
                ids=(entry.id,),
            ) from error
        entry.facts = facts

    def _build(self, entry: Entry, obj: Any, record: Record, objects: Sequence[Any], resolver: Resolver | None) -> None:
        """Bare object made, moved over, then filled."""
        with user_code(record):
            if record.flags & KIND_BITS == STATE:
                making, filling = states.BARE, states.Filling(state_of(record, objects, resolver), None, None, None)
            else:
                unpickler = ObjectUnpickler(record.payload, objects, resolver)
                making = states.Making(*unpickler.load())
                filling = None
            bare = states.make(entry.cls, making)
            assign_class(obj, entry.cls)
            states.move(bare, obj)
            if filling is None:
                filling = states.Filling(*unpickler.load())
            states.fill(obj, filling)
        entry.facts = facts_of(type(obj))  # a __setstate__ may have made another class of it
        entry.state = AWAKE
        self.doze(entry, obj)

    # -- guests ------------------------------------------------------------------------------------------

    def guests(self) -> Jar:
        """The jar of this view's guests."""
        if self.jar is None:
            self.jar = Jar(cast(Owner, self), self._entries, self.by_id)
        return self.jar

    def _make_guest(self, id_: str, parts: Parts) -> dict[str, Any]:
        """A guest that was not in memory, with its state."""
        obj = self._ghost(self.facts_named(parts[3], id_), id_)
        self._ready[self.by_id[id_].number] = attached(record_of(parts), self.backend), self.objects_of(parts[6])
        obj._p_activate()
        return {id_: obj}

    def read_guest(self, entry: Any, obj: Any) -> None:
        """Fill the ghost of a guest; its own C code calls this, and knows it as loaded afterwards."""
        ready = self._ready.pop(entry.number, None)
        if ready is None:
            parts = self.records([entry.id]).get(entry.id)
            if parts is None:
                raise not_found([entry.id])
            if parts[3] != entry.facts.name:
                self._require_class(entry, obj, parts)
            ready = attached(record_of(parts), self.backend), self.objects_of(parts[6])
        record, objects = ready
        refill_guest(obj, record, objects, resolver_for(record, self.resources, {}))
        note_read(entry, record)
        obj._p_serial = oid_of(record.revision)

    # -- classes without ghosts ----------------------------------------------------------------------------

    def _make_eager(self, records: Records) -> dict[str, Any]:
        """First every bare object, with all that they need, then the states."""
        made: dict[str, Any] = {}
        outside: dict[str, Any] = {}
        waiting: list[tuple[Entry, Any, Record, ObjectUnpickler]] = []
        queue = dict(records)
        while queue:
            id_, parts = queue.popitem()
            record = attached(record_of(parts), self.backend)
            facts = self.facts_named(record.class_name, id_)
            with user_code(record):
                # References are looked up late: an eager object may refer to another that is made after it.
                resolver = resolver_for(record, self.resources, outside)
                unpickler = ObjectUnpickler(record.payload, _Late(self, record.references), resolver)
                bare = states.make(facts.cls, states.Making(*unpickler.load()))
            entry = new_entry(bare, self, facts, id_, number_of(id_), AWAKE)
            self.by_id[id_] = self._entries[entry.number] = entry
            self.enlisted[entry.address] = made[id_] = bare
            note_read(entry, record)
            waiting.append((entry, bare, record, unpickler))
            queue.update(self._eager_among(record.references))
        for entry, bare, record, unpickler in waiting:
            with user_code(record):
                states.fill(bare, states.Filling(*unpickler.load()))
            entry.facts = facts_of(type(bare))
        return made

    def _eager_among(self, ids: Iterable[str]) -> Records:
        unknown = [id_ for id_ in ids if self.entry(id_) is None]
        names = self.backend.classes(unknown, self.revision)
        wanted = []
        for id_, name in names.items():
            try:
                if self.facts_named(name, id_).eager:
                    wanted.append(id_)
            except ClassNotFound:
                continue  # a ghost will say so when it is touched
        return self.records(wanted) if wanted else {}

    def _reload(self, entry: Entry, obj: Any) -> None:
        """Read an object without a ghost class anew, in place; one that was removed, or is another now, is let go."""
        parts = self.records([entry.id]).get(entry.id)
        if parts is None or (parts[3] != entry.facts.name and not self._follow_class(entry, obj, parts)):
            self.dismiss(entry)
            return
        record = attached(record_of(parts), self.backend)
        refill(obj, entry.cls, record, _Late(self, record.references), resolver_for(record, self.resources, {}))
        note_read(entry, record)


def not_found(ids: Sequence[str]) -> NotFound:
    """The error for ids that are not in the store."""
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return NotFound(f"There is no {shown} in the store.", ids=ids)


class _Late(Sequence[Any]):
    """References of a record, looked up one by one when the payload asks for them."""

    def __init__(self, reader: Reader, ids: Sequence[str]):
        self._reader, self._ids = reader, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: Any) -> Any:
        return self._reader.objects_of([self._ids[place]])[0]
