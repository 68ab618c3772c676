"""Objects that are made whole at once, or by their own C code: those of classes without ghosts, and guests."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from perdure.backends.base import number_of
from perdure.errors import ClassNotFound, NotFound
from perdure.objects.instances import states
from perdure.objects.instances.classes import ClassFacts, facts_of
from perdure.objects.instances.guests import Jar, Owner, oid_of
from perdure.objects.instances.persistable import AWAKE, Entry, drop_entry, new_entry
from perdure.objects.payloads.decoding import begun, resolver_for, upgraded
from perdure.objects.payloads.direct import note_read
from perdure.objects.payloads.filling import refill, refill_guest, user_code
from perdure.objects.payloads.pieces import attached
from perdure.objects.views.naming import Classes
from perdure.objects.views.replaced import Records
from perdure.pickling.outside import Resources
from perdure.pickling.own.limits import Limits
from perdure.records.frame import Parts, record_of
from perdure.records.values import Record

_Waiting = tuple[Entry, Any, Record, Callable[[type[Any]], states.Filling]]  # an object without its state


class Whole(Classes):
    """What a reader does with them."""

    revision: int
    resources: Resources
    limits: Limits

    def __init__(self) -> None:
        super().__init__()
        self.jar: Jar | None = None  # as soon as there are guests
        self._ready: dict[int, tuple[Record, Sequence[Any]]] = {}  # what guests are about to be filled with, by number

    @abstractmethod
    def objects_of(self, ids: Sequence[str]) -> list[Any]: ...

    @abstractmethod
    def dismiss(self, entry: Entry) -> None: ...

    @abstractmethod
    def _ghost(self, facts: ClassFacts, id_: str) -> Any: ...

    # -- guests ------------------------------------------------------------------------------------------

    def guests(self) -> Jar:
        """The jar of this view's guests."""
        if self.jar is None:
            self.jar = Jar(cast(Owner, self), self._entries, self.by_id)
        return self.jar

    def _make_guest(self, id_: str, parts: Parts) -> dict[str, Any]:
        """A guest that was not in memory, with its state."""
        obj = self._ghost(self.facts_of_record(parts), id_)
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
        lenient = self.is_lenient(entry)
        try:
            resolver = resolver_for(record, self.resources, {})
            refill_guest(obj, record, objects, resolver, lenient=lenient, limits=self.limits)
        except ClassNotFound as error:
            explained = self.explained(error, entry.id, record)
            if not self.archives.provide(explained):
                raise explained from error.__cause__
            self._ready[entry.number] = record, objects
            self.read_guest(entry, obj)
            return
        note_read(entry, record)
        obj._p_serial = oid_of(record.revision)

    # -- classes without ghosts ----------------------------------------------------------------------------

    def _make_eager(self, records: Records) -> dict[str, Any]:
        """First every bare object, with all that they need, then the states; none is kept if one cannot be made."""
        waiting: list[_Waiting] = []
        try:
            return self._fill_eager(records, waiting)
        except BaseException:
            for entry, *_ in waiting:
                drop_entry(entry)
                self.forget(entry)
                self.enlisted.pop(entry.address, None)
            raise

    def _fill_eager(self, records: Records, waiting: list[_Waiting]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        outside: dict[str, Any] = {}
        queue = dict(records)
        while queue:
            id_, parts = queue.popitem()
            record = attached(record_of(parts), self.backend)
            facts = self.facts_of_record(parts)
            lenient = self.opaque or number_of(id_) in self._lenient
            with user_code(record):
                # References are looked up late: an eager object may refer to another that is made after it.
                resolver = resolver_for(record, self.resources, outside)
                late = _Late(self, record.references)
                making, fill = begun(record, late, resolver, lenient=lenient, limits=self.limits)
                bare = states.make(facts.cls, making)
            entry = new_entry(bare, self, facts, id_, number_of(id_), AWAKE)
            self.by_id[id_] = self._entries[entry.number] = entry
            self.enlisted[entry.address] = made[id_] = bare
            note_read(entry, record)
            waiting.append((entry, bare, record, fill))
            queue.update(self._eager_among(record.references))
        for entry, bare, record, fill in waiting:
            with user_code(record):
                states.fill(bare, upgraded(facts_of(type(bare)), record, fill(type(bare))))
            entry.facts = facts_of(type(bare))
        return made

    def _eager_among(self, ids: Iterable[str]) -> Records:
        unknown = [id_ for id_ in ids if self.entry(id_) is None]
        told = self.facts_told(self.backend.classes(unknown, self.revision))
        wanted = [id_ for id_, facts in told.items() if facts.eager]
        return self.records(wanted) if wanted else {}

    def _reload(self, entry: Entry, obj: Any) -> None:
        """Read an object without a ghost class anew, in place; one that was removed, or is another now, is let go."""
        parts = self.records([entry.id]).get(entry.id)
        if parts is None or (parts[3] != entry.facts.name and not self._follow_class(entry, obj, parts)):
            self.dismiss(entry)
            return
        record = attached(record_of(parts), self.backend)
        resolver = resolver_for(record, self.resources, {})
        refill(obj, entry.cls, record, _Late(self, record.references), resolver, limits=self.limits)
        note_read(entry, record)


def not_found(ids: Sequence[str]) -> NotFound:
    """The error for ids that are not in the store."""
    shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return NotFound(f"There is no {shown} in the store.", ids=ids)


class _Late(Sequence[Any]):
    """References of a record, looked up one by one when the payload asks for them."""

    def __init__(self, reader: Whole, ids: Sequence[str]):
        self._reader, self._ids = reader, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: Any) -> Any:
        return self._reader.objects_of([self._ids[place]])[0]
