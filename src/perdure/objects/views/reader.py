"""Reads records into objects: one id is one object, as long as it lives; what it refers to comes as ghosts.

- Objects are held weakly, by the number of their id; those that were touched are enlisted, and held strongly.
- Everything is read as of `revision`. A record is unpickled only if its seal is good, or if all are trusted; else it is
  read by perdure's own reader, and its class is one that the program has registered.
- A state is filled into the object before anybody sees it awake; if that fails, it is a ghost as before.
- Classes without a ghost class are made whole at once, with all that they need.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from perdure import kernels
from perdure.backends.base import Backend, chunks, number_of
from perdure.backends.frames import in_order
from perdure.errors import CannotLoad, ClassNotFound, UntrustedRecord
from perdure.objects.instances import states
from perdure.objects.instances.classes import ClassFacts, Lost, facts_of
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.guests import GuestEntry
from perdure.objects.instances.opaque import fill_opaque
from perdure.objects.instances.persistable import (
    AWAKE,
    DOZING,
    GHOST,
    LOADING,
    Entry,
    drop_entry,
    entry_of,
    new_entry,
)
from perdure.objects.payloads.decoding import parts_to_make, resolver_for, state_of, together
from perdure.objects.payloads.direct import fill_directly, note_read
from perdure.objects.payloads.filling import user_code
from perdure.objects.payloads.pieces import attached
from perdure.objects.views.ahead import ReadAhead
from perdure.objects.views.large import begun
from perdure.objects.views.memory import MANY, CollectionPaused
from perdure.objects.views.replaced import Records
from perdure.objects.views.whole import Whole, not_found
from perdure.pickling.outside import BATCHED, NO_RESOURCES, Resolver, Resources
from perdure.pickling.own.limits import LIMITS
from perdure.records.frame import Parts, decoder, record_of
from perdure.records.seal import Key
from perdure.records.values import BUFFERED, KIND_BITS, OUTSIDE, STATE, VALUE, Record

_new = object.__new__

_NOT_DIRECT = KIND_BITS | OUTSIDE | BUFFERED

NO_RECORDS: Records = {}


class Reader(Whole):
    """What is in memory of a store, and how the rest gets there; `View` adds touching, moving on and letting go."""

    def __init__(
        self, backend: Backend, key: Key | None, *, trust_all: bool = False, resources: Resources = NO_RESOURCES
    ):
        super().__init__()
        self.resources = resources
        self.limits = LIMITS  # for what has no good seal; of the store
        self.backend = backend
        self.key = key
        self.trust_all = trust_all
        self.revision = -1  # not asked for yet: a view is made without waiting for the backend
        self._ahead = ReadAhead(backend)
        self._decoders: dict[bool, Callable[[bytes], Parts]] = {}  # by whether all records are trusted
        self._strict: dict[bool, Callable[[bytes], Parts]] = {}
        self.half_empty: set[int] = set()  # numbers of ghosts that an interruption left a part of their state

    # -- entries -----------------------------------------------------------------------------------------

    def enrol(self, obj: Any, facts: ClassFacts, id_: str, number: int | None = None) -> Entry:
        """The entry of an object that is new to the store."""
        number = number_of(id_) if number is None else number
        if facts.guest:
            guest: Entry = self.guests().adopt(obj, facts, id_, number)
            return guest
        entry = self.by_id[id_] = self._entries[number] = new_entry(obj, self, facts, id_, number, AWAKE, facts.flags)
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
        obj, cls = entry(), entry.facts.cls
        if obj is not None and (entry.state != AWAKE or type(obj) is entry.facts.ghost):
            entry.state = AWAKE
            assign_class(obj, cls)
        self.forget(entry)
        drop_entry(entry)
        self.enlisted.pop(entry.address, None)  # last: if this is cut off, it is found there and done again

    # -- many at a time ------------------------------------------------------------------------------------

    def read_many(self, ids: Sequence[str], *, within: int | None = None) -> list[Any]:
        """The objects of those ids, states loaded; raises `NotFound` naming all that are not there.

        With `within` so many bytes of large pieces are enough: of the first ids only, if need be; always of one.
        """
        found = dict(self._present(ids))
        missing = [id_ for id_ in ids if id_ not in found] if found else ids
        absent: set[str] = set()
        for some in _parts_of(missing) if within is None else [missing]:
            records = self.records(some)
            if len(records) < len(some):
                absent.update(id_ for id_ in some if id_ not in records)
            if absent:
                continue  # only what else is not there is still to be told
            if within is not None:
                records = begun({id_: records[id_] for id_ in some}, within)
            found.update(self._materialize(records))
        if absent:
            raise not_found([id_ for id_ in missing if id_ in absent])
        return [found[id_] for id_ in (ids if within is None else takewhile(found.__contains__, ids))]

    def _present(self, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Those of the ids whose objects are in memory with their states."""
        known = self.by_id
        for id_ in ids if known else ():
            entry = known.get(id_)
            if entry is not None and entry.state != GHOST:
                obj = entry()
                if obj is not None and not (entry.facts.opaque and self._heal(entry, obj)):
                    yield id_, obj

    def records(self, ids: Iterable[str]) -> Records:
        """The records of those ids, as far as they are there; those without a good seal are `FOREIGN`."""
        frames = self.backend.read(ids, self.revision)
        return dict(zip(frames, map(self.opener(), frames.values()), strict=True))

    def made_of(self, records: Records) -> list[Any]:
        """The objects of records that were read at the view's revision, states loaded; in the same order."""
        made = self._materialize(records)
        return [made[id_] for id_ in records]

    def load_states(self, objects: Sequence[Any]) -> None:
        """Load those of the objects that are ghosts; what is not there any more stays a ghost."""
        entries = [entry_of(obj) for obj in objects]
        ghosts = [entry.id for entry in entries if entry is not None and entry.state == GHOST and entry.view is self]
        for some in _parts_of(ghosts):
            self._materialize(self.records(some))

    def decoder(self) -> Callable[[bytes], Parts]:
        """What opens a record if its seal is good, or all are trusted; raises `UntrustedRecord` else."""
        found = self._strict.get(self.trust_all)
        if found is None:
            found = decoder(self.key, trust_all=self.trust_all)
            found = self._strict[self.trust_all] = self.archives.guarded(found)
        return found

    def opener(self) -> Callable[[bytes], Parts]:
        """What opens any record; one without a good seal is `FOREIGN`."""
        found = self._decoders.get(self.trust_all)
        if found is None:
            found = decoder(self.key, trust_all=self.trust_all, foreign=self.limits.unpacking)
            found = self._decoders[self.trust_all] = self.archives.guarded(found)
        return found

    def objects_of(self, ids: Sequence[str]) -> list[Any]:
        """The objects that a record refers to, as ghosts where they are not in memory."""
        held = self._held(ids)
        return [held[id_] for id_ in ids]

    def _held(self, ids: Iterable[str], records: Records = NO_RECORDS) -> dict[str, Any]:
        """Each of the ids with its object; what is in `records` only is made a ghost of the class named there."""
        held: dict[str, Any] = {}
        missing: dict[str, Parts | None] = {}  # id -> record, if known
        known = self.by_id
        for id_ in ids:
            entry = known.get(id_)
            obj = entry() if entry is not None else None
            if obj is not None:
                held[id_] = obj
            else:
                missing[id_] = records.get(id_)
        if missing:
            held.update(self._make_ghosts(missing))
        return held

    def _held_by_one(self, ids: Sequence[str]) -> dict[str, Any]:
        """What one object refers to, which may be all that there is."""
        if len(ids) < MANY or not gc.isenabled():
            return self._held(ids)
        with CollectionPaused() as pause:
            pause.made = len(ids)
            return self._held(ids)

    def _materialize(self, records: Records) -> dict[str, Any]:
        """Objects with their states; what is not here is looked for in their code records, if that is allowed."""
        try:
            if self._lenient and self.archives.imports:
                with self.strictly():  # what can be had of the code record is not opaque
                    return self._made(records)
            return self._made(records)
        except ClassNotFound as error:
            if self._is_provided(error):
                return self._materialize(records)
            if not self._lenient:
                raise
        return self._made(records)

    def _made(self, records: Records) -> dict[str, Any]:
        """Objects with their states, of records that were just read. The loop is run for each of them: no detours."""
        if self.by_id:
            self._follow_classes(records)
        # Whatever the records refer to is kept in memory by this until the states do.
        held = self._held({id_ for parts in records.values() for id_ in parts[6]}, records)
        made: dict[str, Any] = {}
        outside = together(records.values(), self.resources) if BATCHED else {}  # what was resolved for these records
        known, entries, classes, loaded = self.by_id, self._entries, self._classes, self.loaded
        id_ = ""
        try:
            for id_, parts in self._unusual(records, held, made):
                own_id, _, flags, class_name, version, _, references, _, _, shape = parts
                if own_id != id_:
                    raise CannotLoad(f"The record under {id_} says that it is {own_id}.", ids=(id_,))
                if flags & KIND_BITS == VALUE:
                    made[id_] = self._value(parts, [held[target] for target in references], outside)
                    continue
                entry = known.get(id_)
                obj = entry() if entry is not None else None
                if entry is None or obj is None:
                    facts = classes.get(class_name) or self.facts_of_record(parts)
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
                known_facts = entry.facts
                is_direct = known_facts.direct or (shape is known_facts.fit and version == known_facts.fit_version)
                if flags & _NOT_DIRECT != STATE or not (is_direct or _fits(known_facts, parts)):
                    record = attached(record_of(parts), self.backend)
                    self._put_state(entry, obj, record, [held[target] for target in references], outside)
                    continue
                fill_directly(entry, obj, parts, held)
        except ClassNotFound as error:
            raise self.explained(error, id_, records[id_]) from error.__cause__
        return made

    def _unusual(self, records: Records, held: dict[str, Any], made: dict[str, Any]) -> Iterable[tuple[str, Parts]]:
        """Those of the records that are not filled into their objects by the compiled part: without it, all."""
        if kernels.compiled is None:
            return records.items()
        into = self.by_id, self._entries, self._classes, self.loaded.append
        filling: Iterable[tuple[str, Parts]] = kernels.compiled.Filling(self, records, held, made, *into)
        return filling

    def _value(self, parts: Parts, objects: Sequence[Any], outside: dict[str, Any]) -> Any:
        """A plain value."""
        record = attached(record_of(parts), self.backend)
        lenient = self.opaque or number_of(record.id) in self._lenient
        resolver = resolver_for(record, self.resources, outside)
        return state_of(record, objects, resolver, lenient=lenient, limits=self.limits)

    def _make_ghosts(self, records: dict[str, Parts | None]) -> dict[str, Any]:
        """Ghosts for ids with their records; where those are not known, the list of classes is asked."""
        unnamed = [id_ for id_, parts in records.items() if parts is None]
        told = self.facts_told(self.backend.classes(unnamed, self.revision)) if unnamed else {}
        facts_by_id = {
            id_: told.get(id_) or (facts_of(Lost) if parts is None else self._facts_for_ghost(parts))
            for id_, parts in records.items()
        }
        made: dict[str, Any] = {}
        left: Iterable[str] = facts_by_id
        if kernels.compiled is not None:
            left = kernels.compiled.make_ghosts(self, self.by_id, self._entries, facts_by_id, made)
        eager = [id_ for id_ in left if facts_by_id[id_].eager]
        for id_ in left:
            if not facts_by_id[id_].eager:
                made[id_] = self._ghost(facts_by_id[id_], id_)
        if eager:
            made.update(self._make_eager(self.records(eager)))
        return made

    def _facts_for_ghost(self, parts: Parts) -> ClassFacts:
        """The facts for a ghost whose record was read."""
        try:
            return self.facts_of_record(parts)
        except (ClassNotFound, UntrustedRecord):
            return facts_of(Lost)  # it will say so when it is touched

    def _ghost(self, facts: ClassFacts, id_: str) -> Any:
        if facts.guest:
            return self.guests().ghost(facts, id_)
        assert facts.ghost is not None
        obj = _new(facts.ghost)
        number = number_of(id_)
        self.by_id[id_] = self._entries[number] = new_entry(obj, self, facts, id_, number, GHOST)
        return obj

    # -- one at a time -------------------------------------------------------------------------------------

    def _load_state(self, entry: Entry, obj: Any) -> None:
        id_ = entry.id
        parts = self._record(id_)
        if parts[3] != entry.facts.name:
            self._require_class(entry, obj, parts)
        if parts[2] & _NOT_DIRECT == STATE and parts[0] == id_ and (entry.facts.direct or _fits(entry.facts, parts)):
            self._fill_one(entry, obj, parts)
            return
        self._materialize({id_: parts})

    def read_one(self, id_: str) -> Any:
        """What `read_many` gives for one id, which waits for those that come after it."""
        entry = self.by_id.get(id_)
        obj = entry() if entry is not None else None
        if entry is not None and obj is not None and entry.state != GHOST:
            healed = entry.facts.opaque and self._heal(entry, obj)
            if not healed:
                return obj
            obj = None  # `_materialize` finds it again, if it is still of the id
        parts = self._record(id_)
        facts = self._classes.get(parts[3])
        if id_ in self.by_id or facts is None or parts[2] & _NOT_DIRECT != STATE or parts[0] != id_:
            return self._materialize({id_: parts})[id_]
        if not facts.direct and not _fits(facts, parts):
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
                held = self._held_by_one(parts[6])
                break
            held[id_] = target
        self.loaded.append(entry)
        if entry.state != GHOST:
            return  # a `__del__` has touched it meanwhile
        try:
            fill_directly(entry, obj, parts, held)
        except ClassNotFound as error:
            explained = self.explained(error, entry.id, parts)
            if not self.archives.provide(explained):
                raise explained from error.__cause__
            self._materialize({entry.id: parts})

    def _record(self, id_: str) -> Parts:
        frame = self._ahead.read(id_, self.revision)
        if frame is None:
            raise not_found([id_])
        return self.opener()(frame)

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
        ghost = entry.facts.ghost
        if entry.state != GHOST:
            return  # a `__del__` has touched it meanwhile
        try:
            entry.state = LOADING
            if entry.number in self.half_empty:
                states.clear(obj)
                self.half_empty.discard(entry.number)
            self._build(entry, obj, record, objects, resolver_for(record, self.resources, outside))
        finally:
            if entry.state == LOADING:
                if ghost is not None:
                    assign_class(obj, ghost)
                    self.half_empty.add(entry.number)
                entry.state = GHOST
                if ghost is not None:
                    states.clear(obj)
                    self.half_empty.discard(entry.number)
        if record.flags & BUFFERED:
            self.note_large(entry, record)

    def _build(self, entry: Entry, obj: Any, record: Record, objects: Sequence[Any], resolver: Resolver | None) -> None:
        """Everything is read; then the bare object is made, moved over, and filled."""
        facts: Any = entry.facts
        with user_code(record):
            lenient = self.is_lenient(entry)
            making, filling = parts_to_make(facts, record, objects, resolver, lenient=lenient, limits=self.limits)
            if facts.opaque:
                assign_class(obj, entry.cls)
                fill_opaque(obj, record, objects, making.args, filling.state, filling.items or filling.pairs)
            else:
                bare = states.make(entry.cls, making)
                assign_class(obj, entry.cls)
                states.move(bare, obj)
                states.fill(obj, filling)
        entry.facts = facts = facts_of(type(obj))  # a __setstate__ may have made another class of it
        note_read(entry, record)
        if facts.ghost is not None:
            assign_class(obj, facts.ghost)
        entry.state = AWAKE if facts.ghost is None else DOZING  # last: interrupted before, it is a ghost again


def _parts_of(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """The ids in parts, each of which is read at once: the frames of many take more memory than their objects.

    They go by numbers, as the records lie in the store.
    """
    return chunks(ids if len(ids) <= MANY else in_order(ids), MANY)


def _fits(facts: Any, parts: Parts) -> bool:
    """Whether a record of a class with declared attributes, or a version, can be filled in as it is; remembered."""
    if not facts.simple or facts.plan is None or not facts.plan.fits(parts):
        return False
    facts.fit, facts.fit_version = parts[9], parts[4]
    return True
