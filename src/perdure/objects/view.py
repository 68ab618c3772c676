"""A view: one thread's or task's sight of a store. It keeps identity, loads, and knows what was touched.

- One id is one object in a view, as long as the object lives; the view holds it weakly, but strongly while enlisted.
- Enlisted objects are those that were touched since the last commit or abort. Only they can have changed.
- Everything is read as of `revision`. Inside a transaction it stands still; outside, `refresh` moves it forward, and
  clean objects that others changed become ghosts again, in place.
- Reading what is loaded is open to every thread; writing, and loading a ghost, only to the view's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from perdure.backends.base import Backend, number_of
from perdure.errors import (
    CannotLoad,
    ClassNotFound,
    NotFound,
    PerdureError,
    StoreClosed,
    WrongView,
)
from perdure.objects import states
from perdure.objects.classes import ClassFacts, facts_of
from perdure.objects.decoding import ObjectUnpickler, StoredReference, comparable, refused, state_of
from perdure.objects.encoding import Encoded, Encoder
from perdure.objects.ghosts import assign_class, ghost_class
from perdure.objects.persistable import (
    AWAKE,
    DOZING,
    GHOST,
    Entry,
    Persistable,
    drop_entry,
    entry_of,
    new_entry,
)
from perdure.pickling.classes import find
from perdure.pickling.compare import same_state
from perdure.records.frame import decode
from perdure.records.seal import Key
from perdure.records.values import KIND_BITS, STATE, VALUE, Record

ENLISTED_AT_MOST = 10_000  # outside a transaction; beyond, clean objects are let go again
_new = object.__new__


class Lost(Persistable):
    """What a reference becomes whose record or class is not there: the error comes when it is touched."""


class View:
    """See the module's text. `owns()` tells whether the caller is the thread and task that the view belongs to."""

    def __init__(
        self,
        backend: Backend,
        key: Key | None,
        owns: Callable[[], bool],
        *,
        trust_all: bool = False,
        protocol: int = states.PROTOCOL,
    ):
        self.backend = backend
        self.key = key
        self.trust_all = trust_all
        self.protocol = protocol
        self.owns = owns
        self.lock = threading.RLock()
        self.revision = backend.revision()
        self.in_transaction = False
        self.closed = False
        self.retired = False  # nothing is committed from it any more
        self.enlisted: dict[int, Any] = {}  # address -> object, held strongly
        self._entries: dict[int, Entry] = {}  # number -> entry
        self._loading: set[int] = set()
        self._behind: set[int] = set()  # numbers of objects with unsaved changes of what others have changed
        self._classes: dict[str, ClassFacts] = {}
        self._enlisted_limit = ENLISTED_AT_MOST

    # -- entries -----------------------------------------------------------------------------------------

    def entry(self, id_: str) -> Entry | None:
        """The entry of an id whose object is in memory."""
        entry = self._entries.get(number_of(id_))
        return entry if entry is not None and entry.id == id_ and entry() is not None else None

    def own_entry(self, obj: Any) -> Entry | None:
        """The entry of `obj`; None if it is new to every store. Raises `WrongView` if another view has it."""
        entry = entry_of(obj)
        if entry is None or entry.view is self:
            return entry
        raise WrongView(
            f"{entry.id} belongs to another view (another thread or task, or another store).",
            hint="Load it by its id in this one.",
            ids=(entry.id,),
        )

    def enrol(self, obj: Any, facts: ClassFacts, id_: str) -> Entry:
        """The entry of an object that is new to the store."""
        entry = new_entry(obj, self, facts.cls, id_, number_of(id_), AWAKE, flags=facts.flags)
        self._entries[entry.number] = entry
        self.enlisted[entry.address] = obj
        return entry

    def expect(self, id_: str, cls: type[Any]) -> Any:
        """The ghost of a record of that class which the step that is being put together will write."""
        entry = self.entry(id_)
        obj = entry() if entry is not None else None
        if obj is None:
            facts = facts_of(cls)
            assert facts.ghost is not None
            obj = _new(facts.ghost)
            self._enter(obj, facts, id_)
        return obj

    def dismiss(self, entry: Entry) -> None:
        """Forget an object that lives on as if it had never been saved; its state must be there."""
        drop_entry(entry)
        self.forget(entry)
        obj = self.enlisted.pop(entry.address, None) or entry()
        if obj is not None and entry.state != AWAKE:
            entry.state = AWAKE
            assign_class(obj, entry.cls)

    @property
    def seen(self) -> int:
        """The revision that everything here was read at, for a batch; 0 where something may be older."""
        return 0 if self._behind else self.revision

    def forget(self, entry: Entry) -> None:
        self._behind.discard(entry.number)
        if self._entries.get(entry.number) is entry:
            del self._entries[entry.number]

    # -- moving forward ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Outside a transaction: move to the newest revision; clean objects that others changed become ghosts."""
        self._require_open()
        if self.in_transaction:
            return
        if self.backend.revision() != self.revision:
            with self.lock:
                newest, numbers = self.backend.changes(self.revision)
                clean = list(self._clean(self._live(numbers)))
                self.revision = newest  # first: what has no ghost class is read anew at once
                for entry, obj in clean:
                    self.make_ghost(entry, obj)
        if len(self.enlisted) > self._enlisted_limit:
            self.rest_unchanged()

    def retire(self) -> None:
        """Nothing will be committed from here any more: hold no object for it. Ghosts still load, until `close`."""
        self.retired = True
        self.enlisted.clear()

    def close(self) -> None:
        self.closed = True
        self.retire()

    def invalidate(self) -> None:
        """Let go of every clean object's state, so that the next touch reads it anew."""
        with self.lock:
            for entry, obj in list(self._clean(list(self._entries.values()))):
                self.make_ghost(entry, obj)

    def _live(self, numbers: set[int]) -> Iterator[Entry]:
        few = numbers if len(numbers) < len(self._entries) else numbers.intersection(list(self._entries))
        for number in few:
            entry = self._entries.get(number)
            if entry is not None:
                yield entry

    def _clean(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Any]]:
        """Those whose state can be read anew. Unsaved changes stay; the commit will meet the conflict."""
        for entry in entries:
            obj = entry()
            if obj is None or entry.state == GHOST or not entry.revision:
                continue
            if entry.state == AWAKE and self.is_changed(entry, obj):
                self._behind.add(entry.number)
            else:
                yield entry, obj

    def rest_unchanged(self) -> None:
        """Outside a transaction: let go of enlisted objects that were only looked at."""
        with self.lock:
            for obj in list(self.enlisted.values()):
                entry = entry_of(obj)
                if entry is not None and entry.revision and not self.is_changed(entry, obj):
                    self.doze(entry, obj)
            self._enlisted_limit = max(ENLISTED_AT_MOST, 2 * len(self.enlisted))

    # -- states of an entry ------------------------------------------------------------------------------

    def wake(self, entry: Entry, obj: Any, *, writing: bool = False) -> None:
        """Called by ghost classes: make `obj` an ordinary object, and enlist it."""
        with self.lock:
            if entry.state == AWAKE:
                return
            if writing or entry.state == GHOST:
                self._require_own(entry)
            if entry.state == GHOST:
                self._require_open()
                self._load_state(entry, obj)
            if entry.state != AWAKE:
                entry.state = AWAKE
                assign_class(obj, entry.cls)  # last: only now do other threads see an ordinary object
            if not self.retired:
                self.enlisted[entry.address] = obj

    def doze(self, entry: Entry, obj: Any) -> None:
        """Keep the state, but see the next touch. Objects without a ghost class stay awake and enlisted."""
        ghost = ghost_class(entry.cls)
        if ghost is None:
            return
        entry.state = DOZING
        assign_class(obj, ghost)
        self.enlisted.pop(entry.address, None)

    def make_ghost(self, entry: Entry, obj: Any) -> None:
        """Let go of the state; an object without a ghost class is read anew at once."""
        ghost = ghost_class(entry.cls)
        entry.forced = False
        self._behind.discard(entry.number)
        if ghost is None:
            self._reload(entry, obj)
            return
        assign_class(obj, ghost)
        states.clear(obj)
        entry.state = GHOST
        self.enlisted.pop(entry.address, None)

    def touch(self, entry: Entry, obj: Any, *, force: bool = False) -> None:
        self.wake(entry, obj, writing=True)
        entry.forced = entry.forced or force

    def is_changed(self, entry: Entry, obj: Any) -> bool:
        """Whether the object differs from its record; only an awake one can."""
        if entry.revision == 0 or entry.forced or type(obj) is not entry.cls:
            return entry.state == AWAKE
        if entry.state != AWAKE:
            return False
        encoded = self._probe().encode(obj, facts_of(entry.cls))
        return not is_as_stored(entry, encoded) and bool(self.differing([(entry, encoded)]))

    def differing(self, doubtful: Sequence[tuple[Entry, Encoded]]) -> list[tuple[Entry, Encoded]]:
        """Those of the pairs whose graph is not that of the record that was read: bytes alone do not tell."""
        frames = self.backend.read([entry.id for entry, _ in doubtful], self.revision)
        changed = []
        for entry, encoded in doubtful:
            frame = frames.get(entry.id)
            if frame is not None:
                record = decode(frame, self.key, trust_all=self.trust_all)
                if record.revision == entry.revision and same_state(comparable(record), encoded.graph, _reference):
                    note_stored(entry, encoded)  # these bytes, too, mean unchanged
                    continue
            changed.append((entry, encoded))
        return changed

    def _probe(self) -> Encoder:
        """An encoder that only looks: objects that are new get no id by it."""

        def known(obj: Any) -> Any:
            return self.own_entry(obj) or _Unsaved

        return Encoder(known, self.protocol)

    # -- loading -----------------------------------------------------------------------------------------

    def load_many(self, ids: Sequence[str]) -> list[Any]:
        """The objects of those ids, states loaded, in one read; raises `NotFound` naming all that are not there."""
        with self.lock:
            found = [self._present(id_) for id_ in ids]
            missing = [id_ for id_, obj in zip(ids, found, strict=True) if obj is None]
            if not missing:
                return found
            records = self._read(missing)
            absent = [id_ for id_ in missing if id_ not in records]
            if absent:
                raise self._not_found(absent)
            loaded = self._materialize(records)
            return [loaded[id_] if obj is None else obj for id_, obj in zip(ids, found, strict=True)]

    def objects_of(self, ids: Sequence[str]) -> list[Any]:
        """The objects that a record refers to, as ghosts where they are not in memory."""
        found = []
        for id_ in ids:
            entry = self._entries.get(number_of(id_))
            found.append(entry() if entry is not None and entry.id == id_ else None)
        if any(obj is None for obj in found):
            missing = [id_ for id_, obj in zip(ids, found, strict=True) if obj is None]
            made = self._make_ghosts(missing)
            return [made[id_] if obj is None else obj for id_, obj in zip(ids, found, strict=True)]
        return found

    def _present(self, id_: str) -> Any:
        """The object if it is in memory with its state."""
        entry = self._entries.get(number_of(id_))
        if entry is None or entry.id != id_ or entry.state == GHOST:
            return None
        return entry()

    def _read(self, ids: Iterable[str]) -> dict[str, Record]:
        frames = self.backend.read(ids, self.revision)
        key, trust_all = self.key, self.trust_all
        return {id_: decode(frame, key, trust_all=trust_all) for id_, frame in frames.items()}

    def _materialize(self, records: dict[str, Record]) -> dict[str, Any]:
        """Objects with their states, of records that were just read."""
        self._make_referenced(records.values())
        made: dict[str, Any] = {}
        eager: dict[str, Record] = {}
        for id_, record in records.items():
            if record.id != id_:
                raise CannotLoad(f"The record under {id_} says that it is {record.id}.", ids=(id_,))
            if record.flags & KIND_BITS == VALUE:
                made[id_] = state_of(record, self.objects_of(record.references))
                continue
            entry = self._entries.get(number_of(id_))
            obj = entry() if entry is not None else None
            if entry is None or obj is None:
                facts = self._facts(record.class_name, id_)
                if facts.ghost is None:
                    eager[id_] = record
                    continue
                obj = _new(facts.ghost)
                entry = self._enter(obj, facts, id_)
            made[id_] = obj
            if entry.state == GHOST:
                self._put_state(entry, obj, record)
        if eager:
            made.update(self._make_eager(eager))
        return made

    def _make_referenced(self, records: Iterable[Record]) -> None:
        """One look-up of the classes of everything that the records refer to and that is not in memory."""
        entries = self._entries
        unknown = {
            id_ for record in records for id_ in record.references if int(id_[id_.rindex(".") + 1 :]) not in entries
        }
        self._held = list(self._make_ghosts(unknown).values()) if unknown else []

    def _make_ghosts(self, ids: Iterable[str]) -> dict[str, Any]:
        ids = list(ids)
        names = self.backend.classes(ids, self.revision)
        made: dict[str, Any] = {}
        eager = []
        for id_ in ids:
            name = names.get(id_)
            try:
                facts = self._facts(name, id_) if name is not None else facts_of(Lost)
            except ClassNotFound:
                facts = facts_of(Lost)
            if facts.ghost is None:
                eager.append(id_)
                continue
            made[id_] = _new(facts.ghost)
            self._enter(made[id_], facts, id_)
        if eager:
            made.update(self._make_eager(self._read(eager)))
        return made

    def _enter(self, obj: Any, facts: ClassFacts, id_: str) -> Entry:
        number = number_of(id_)
        entry = new_entry(obj, self, facts.cls, id_, number, GHOST)
        self._entries[number] = entry
        return entry

    def _facts(self, class_name: str, id_: str) -> ClassFacts:
        facts = self._classes.get(class_name)
        if facts is None:
            try:
                cls = find(class_name)
            except ClassNotFound as error:
                error.ids = (id_,)
                error.message = f"{id_} is of a class that cannot be found here. {error.message}"
                raise
            if not isinstance(cls, type):
                raise ClassNotFound(f"{class_name}, the class of {id_}, is no class here.", ids=(id_,))
            facts = self._classes[class_name] = facts_of(cls)
        return facts

    def _load_state(self, entry: Entry, obj: Any) -> None:
        if entry.number in self._loading:
            raise CannotLoad(
                f"{entry.id} is used while it is still being loaded"
                " (by a __hash__ or a constructor that another object needs for loading).",
                hint="Let such methods use only plain values that their own object holds.",
                ids=(entry.id,),
            )
        record = self._read([entry.id]).get(entry.id)
        if record is None:
            raise self._not_found([entry.id])
        self._put_state(entry, obj, record)

    def _find_again(self, entry: Entry, obj: Any, record: Record) -> None:
        """Make a ghost of the right class of one whose class was not there before; raises if it still is not."""
        facts = self._facts(record.class_name, entry.id)
        try:
            assign_class(obj, facts.ghost or facts.cls)
        except TypeError as error:
            raise CannotLoad(
                f"{entry.id} is seen as an object without a class, and cannot become a {facts.cls.__qualname__}.",
                hint="Let go of what refers to it, and load that again.",
                ids=(entry.id,),
            ) from error
        entry.cls = facts.cls

    def _put_state(self, entry: Entry, obj: Any, record: Record) -> None:
        """Fill a ghost from its record; afterwards it dozes, or is awake where its class wants to run methods."""
        if entry.cls is Lost:
            self._find_again(entry, obj, record)
        facts = facts_of(entry.cls)
        objects = self.objects_of(record.references) if record.references else ()
        self._loading.add(entry.number)
        try:
            if facts.simple and facts.plain_new and record.flags & KIND_BITS == STATE:
                states.put_simple_state(obj, state_of(record, objects))
                entry.state = DOZING
            else:
                self._build(entry, obj, record, objects)
        except BaseException:
            if facts.ghost is not None:
                assign_class(obj, facts.ghost)
                states.clear(obj)
            raise
        finally:
            self._loading.discard(entry.number)
        entry.revision, entry.flags, entry.references = record.revision, record.flags, record.references
        entry.digest = hash(record.payload)

    def _build(self, entry: Entry, obj: Any, record: Record, objects: Sequence[Any]) -> None:
        """Fill a ghost of a class that takes part in its own pickling: bare object made, moved over, then filled."""
        with _user_code(record):
            if record.flags & KIND_BITS == STATE:
                making, filling = states.BARE, states.Filling(state_of(record, objects), None, None, None)
            else:
                unpickler = ObjectUnpickler(record.payload, objects)
                making = states.Making(*unpickler.load())
                filling = None
            bare = states.make(entry.cls, making)
            assign_class(obj, entry.cls)
            states.move(bare, obj)
            if filling is None:
                filling = states.Filling(*unpickler.load())
            states.fill(obj, filling)
        entry.cls = type(obj)  # a __setstate__ may have made another class of it
        entry.state = AWAKE
        self.doze(entry, obj)

    def _make_eager(self, records: dict[str, Record]) -> dict[str, Any]:
        """Objects of classes without ghosts, whole: first every bare one, with all that they need, then the states."""
        made: dict[str, Any] = {}
        waiting: list[tuple[Entry, Any, Record, ObjectUnpickler]] = []
        queue = dict(records)
        while queue:
            id_, record = queue.popitem()
            facts = self._facts(record.class_name, id_)
            with _user_code(record):
                # References are looked up late: an eager object may refer to another that is made after it.
                objects = _Late(self, record.references)
                unpickler = ObjectUnpickler(record.payload, objects)
                bare = states.make(facts.cls, states.Making(*unpickler.load()))
            entry = new_entry(bare, self, facts.cls, id_, number_of(id_), AWAKE, record.revision, record.flags)
            self._entries[entry.number] = entry
            self.enlisted[entry.address] = made[id_] = bare
            entry.references, entry.digest = record.references, hash(record.payload)
            waiting.append((entry, bare, record, unpickler))
            queue.update(self._eager_among(record.references))
        for entry, bare, record, unpickler in waiting:
            with _user_code(record):
                states.fill(bare, states.Filling(*unpickler.load()))
            entry.cls = type(bare)
        return made

    def _eager_among(self, ids: Iterable[str]) -> dict[str, Record]:
        unknown = [id_ for id_ in ids if self.entry(id_) is None]
        names = self.backend.classes(unknown, self.revision)
        wanted = []
        for id_, name in names.items():
            try:
                if self._facts(name, id_).ghost is None:
                    wanted.append(id_)
            except ClassNotFound:
                continue  # a ghost will say so when it is touched
        return self._read(wanted) if wanted else {}

    def _reload(self, entry: Entry, obj: Any) -> None:
        """Read an object without a ghost class anew, in place; one that was removed is let go."""
        record = self._read([entry.id]).get(entry.id)
        if record is None:
            self.dismiss(entry)
            return
        with _user_code(record):
            unpickler = ObjectUnpickler(record.payload, _Late(self, record.references))
            bare = states.make(entry.cls, states.Making(*unpickler.load()))
            states.clear(obj)
            states.move(bare, obj)
            if isinstance(obj, BaseException):
                obj.args = bare.args
            states.fill(obj, states.Filling(*unpickler.load()))
        entry.revision, entry.flags, entry.references = record.revision, record.flags, record.references
        entry.digest = hash(record.payload)

    # -- guards ------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self.closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")

    def _require_own(self, entry: Entry) -> None:
        if not self.owns():
            raise WrongView(
                f"{entry.id} belongs to the view of another thread or task, and is not loaded or would be changed.",
                hint="Load it by its id in this one.",
                ids=(entry.id,),
            )

    def _not_found(self, ids: Sequence[str]) -> NotFound:
        shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        return NotFound(f"There is no {shown} in the store.", ids=ids)


def is_as_stored(entry: Entry, encoded: Encoded) -> bool:
    """Whether the payload has the bytes of the record, and its places mean the same objects."""
    return hash(encoded.payload) == entry.digest and encoded.references == entry.references


def note_stored(entry: Entry, encoded: Encoded) -> None:
    """Remember the payload as one that means what is stored."""
    entry.digest, entry.references = hash(encoded.payload), encoded.references


class _Unsaved:
    """Stands for the entry of an object that was never saved."""

    id = "new.0"


class _Late(Sequence[Any]):
    """References of a record, looked up one by one when the payload asks for them."""

    def __init__(self, view: View, ids: Sequence[str]):
        self._view, self._ids = view, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: Any) -> Any:
        return self._view.objects_of([self._ids[place]])[0]


def _reference(obj: object) -> str | None:
    """The id that an object stands for in a comparison; None for what is compared by its state."""
    if isinstance(obj, Persistable):
        entry = entry_of(obj)
        return "new.0" if entry is None else entry.id
    return obj.id if isinstance(obj, StoredReference) else None


@contextmanager
def _user_code(record: Record) -> Iterator[None]:
    """What comes out of constructors and state methods of users' classes becomes `CannotLoad`, with the record."""
    try:
        yield
    except PerdureError:
        raise
    except Exception as error:  # the user's own code ran: anything may come out
        raise refused(record, error) from error
