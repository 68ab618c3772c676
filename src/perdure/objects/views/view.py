"""A view: one thread's or task's sight of a store. It sees what is touched, and moves forward in time.

- Enlisted objects are those that were touched since the last commit or abort. Only they can have changed.
- Everything is read as of `revision`. Inside a transaction it stands still; outside, `refresh` moves it forward, and
  clean objects that others changed become ghosts again, in place.
- Reading what is loaded is open to every thread; writing, and loading a ghost, only to the view's own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from perdure.backends.base import Backend
from perdure.errors import CannotLoad, CorruptRecord, PerdureError, SnapshotTooOld, StoreClosed, WrongView
from perdure.objects.instances import states
from perdure.objects.instances.columns import ExtraFields
from perdure.objects.instances.ghosts import assign_class
from perdure.objects.instances.guests import GuestEntry, is_guest, known_entry
from perdure.objects.instances.persistable import AWAKE, DOZING, GHOST, LOADING, Entry, entry_of
from perdure.objects.payloads.decoding import resolver_for
from perdure.objects.payloads.filling import refill_guest
from perdure.objects.views.memory import CollectionPaused
from perdure.objects.views.napping import Napping
from perdure.objects.views.prefetching import Paths, prefetch
from perdure.objects.views.resting import CACHE_SIZE
from perdure.objects.views.unfinished import Unfinished
from perdure.objects.views.whole import not_found
from perdure.pickling.outside import NO_RESOURCES, Resources
from perdure.records.seal import Key
from perdure.records.values import Record

FEW = 100  # objects whose loading makes no pause in the collection of garbage worth while
TRIES = 20  # to read what others replace and pack at the same time

T = TypeVar("T")


class Open(Protocol):
    """What a view asks of the transaction that is open."""

    def end_if_left(self) -> bool: ...


class _Lent(threading.local):
    """The view that this thread works for, though it is another's; see `perdure.objects.transactions.threads`."""

    view: View | None = None


LENT = _Lent()


class View(Napping):
    """See the module's text. `owns()` tells whether the caller is the thread and task that the view belongs to."""

    def __init__(
        self,
        backend: Backend,
        key: Key | None,
        owns: Callable[[], bool],
        *,
        trust_all: bool = False,
        protocol: int = states.PROTOCOL,
        resources: Resources = NO_RESOURCES,
        cache_size: int = CACHE_SIZE,
        code: str = "recorded",
    ):
        super().__init__(backend, key, trust_all=trust_all, resources=resources, cache_size=cache_size)
        self.code = code  # what the store does about code records
        self.archives.imports = code == "archived"
        self.protocol = protocol
        self.owns = owns
        self._owner = 0  # number of the thread that was found to own it, where the compiled part has asked
        self.lock = threading.RLock()
        _views.add(self)
        self.extra_fields: ExtraFields | None = None  # of the store
        self.in_transaction = False
        self.transaction: Open | None = None
        self.joining: Callable[[object], Any] | None = None  # saves most objects in it; see `Desk.joining`
        self.closed = False
        self.removals = 0  # steps that have removed something
        self.retired = False  # nothing is committed from it any more
        self.stale: dict[int, Entry] = {}  # by number: objects without a ghost class that are to be read anew
        self._behind: set[int] = set()  # numbers of objects with unsaved changes of what others have changed
        self.watch = backend.watch()
        self.unfinished = Unfinished()
        self.mark: object = None  # what the watch gave when this was last seen to be at the newest revision

    def load_one(self, id_: str) -> Any:
        """What `load_many` gives for one id."""
        with self.lock:
            try:
                found = self.read_one(id_)
            except (SnapshotTooOld, CorruptRecord):
                found = self.moving_on(partial(self.read_one, id_))
            self.make_room()
            return found

    def load_many(self, ids: Sequence[str], *, moving: bool = True) -> list[Any]:
        """The objects of those ids, states loaded; raises `NotFound` naming all that are not there.

        Without `moving` the caller calls it by `moving_on`, since the ids are what it found at the view's revision.
        """
        read = partial(self.moving_on, partial(self.read_many, ids)) if moving else partial(self.read_many, ids)
        with self.lock:
            if len(ids) < FEW:
                found = read()
            else:
                with CollectionPaused() as pause:
                    pause.made = len(ids)
                    found = read()
            self.make_room()
            return found

    def prefetch(self, objects: Iterable[Any], paths: Paths) -> None:
        """Load what paths of attributes lead to, from each of the objects on (`perdure.objects.views.prefetching`)."""
        beginning = [*objects]

        def read() -> None:
            self.load_states(beginning)  # those that others have changed since they were loaded
            prefetch(self, beginning, paths)

        with self.lock:
            self.moving_on(read)

    def own_entry(self, obj: Any) -> Entry | None:
        """The entry of `obj`; None if it is new to every store. Raises `WrongView` if another view has it."""
        entry = entry_of(obj)
        if entry is None and is_guest(obj):
            entry = known_entry(obj, self)
        if entry is None or entry.view is self:
            return entry
        raise WrongView(
            f"{entry.id} belongs to another view (another thread or task, or another store).",
            hint="Load it by its id in this one.",
            ids=(entry.id,),
        )

    @property
    def seen(self) -> int:
        """The revision that everything here was read at, for a batch; 0 where something may be older."""
        return 0 if self._behind or self.unfinished else self.revision

    def forget(self, entry: Entry) -> None:
        self._behind.discard(entry.number)
        super().forget(entry)

    # -- moving forward ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Outside a transaction: move to the newest revision; clean objects that others changed become ghosts."""
        if self.closed:
            self.require_open()
        if self.revision < 0:
            self.revision = self.backend.revision()
        if self.unfinished:
            self.finish()
        if self.stale:
            self.reload_stale()
        if self.in_transaction and not (self.transaction is not None and self.transaction.end_if_left()):
            return
        if self._behind:
            self.settle()
        mark = self.watch()  # first: who commits from here on is seen the next time
        if mark != self.mark and self.backend.revision() != self.revision:
            self.move_forward()
            if self.stale:
                self.reload_stale()
        self.mark = None if self._behind else mark
        self.make_room()

    def move_forward(self) -> None:
        """Go to the newest revision; clean objects that others changed become ghosts."""
        with self.lock:
            try:
                newest, numbers = self.backend.changes(self.revision)
            except SnapshotTooOld:  # what has changed since is not known any more: anything may have
                newest, numbers = self.backend.revision(), set(self._entries)
            self.mark = None  # whatever interrupts the rest: the next load goes on with it
            self.unfinished.do(partial(self._go_to, newest, numbers))

    def _go_to(self, newest: int, numbers: set[int]) -> None:
        clean = list(self._clean(self._live(numbers)))
        self.revision = newest  # first: what has no ghost class is read anew at once
        for entry, obj in clean:
            self.let_go(entry, obj)

    def finish(self) -> None:
        """Do what an interruption has cut off."""
        with self.lock:
            self.unfinished.finish()

    def moving_on(self, read: Callable[[], T]) -> T:
        """What `read` gives; it is repeated where others replaced and packed meanwhile what it was about to read.

        For that the view moves forward, and the objects that others changed become ghosts. Inside a transaction, and in
        the past, raises `SnapshotTooOld`.
        """
        for left in reversed(range(TRIES)):
            try:
                try:
                    return read()
                except CorruptRecord as error:
                    self._refuse_forgotten(error)
                    raise
            except SnapshotTooOld:
                before = self.revision
                if self.in_transaction or not left:
                    raise
                self.move_forward()
                if self.revision == before:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _refuse_forgotten(self, error: CorruptRecord) -> None:
        """Raise `SnapshotTooOld` or `NotFound` where what seems damaged was forgotten by others since it was read."""
        try:
            found = self.backend.read(error.ids, self.revision)
        except CorruptRecord:
            return
        gone = [id_ for id_ in error.ids if id_ not in found]
        if gone:
            raise not_found(gone) from error

    def settle(self) -> None:
        """What others have changed, and has no unsaved changes any more, is read anew at the next touch."""
        if not self._behind:
            return
        with self.lock:
            for number in list(self._behind):
                entry = self._entries.get(number)
                obj = entry() if entry is not None else None
                if entry is not None and obj is not None and not self.is_changed(entry, obj):
                    self.let_go(entry, obj)

    def let_go(self, entry: Entry, obj: Any) -> None:
        """Drop the changes of an object. What must be read anew for that, and cannot be now, is before all else."""
        try:
            self.make_ghost(entry, obj)
        except PerdureError:
            self.stale[entry.number] = entry
            self.mark = None

    def reload_stale(self) -> None:
        """Read what `let_go` could not read; raises as that did, if it still cannot be read and somebody holds it."""
        with self.lock:
            for number, entry in list(self.stale.items()):
                obj = entry()
                if obj is not None and entry_of(obj) is entry:
                    self.make_ghost(entry, obj)
                del self.stale[number]

    def retire(self) -> None:
        """Nothing will be committed from here any more: hold no object for it. Ghosts still load, until `close`."""
        self.retired = True
        self.enlisted.clear()
        if self.jar is not None:
            self.jar.changed.clear()

    def close(self) -> None:
        """Retire, and load nothing more."""
        with self.lock:  # a commit that has begun is let end
            self.closed, self.mark = True, None
            self._ahead.forget()
            self.retire()

    def invalidate(self) -> None:
        """Let go of every clean object's state, so that the next touch reads it anew."""
        with self.lock:
            self.end_naps()
            for entry, obj in list(self._clean(list(self._entries.values()))):
                self.let_go(entry, obj)
            if self.stale:
                self.reload_stale()

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

    def _load_state(self, entry: Entry, obj: Any) -> None:
        try:
            super()._load_state(entry, obj)
        except (SnapshotTooOld, CorruptRecord):
            try:
                self.moving_on(partial(super()._load_state, entry, obj))
            except SnapshotTooOld as error:
                if self.in_transaction:
                    error.ids = (entry.id,)
                    error.message = f"{entry.id} cannot be seen as it was when the transaction began. {error.message}"
                raise

    # -- states of an entry ------------------------------------------------------------------------------

    def wake(self, entry: Entry, obj: Any, *, writing: bool = False) -> None:
        """Called by ghost classes: make `obj` an ordinary object, and enlist it."""
        with self.lock:
            if entry.state == AWAKE:
                if type(obj) is entry.facts.ghost:  # an interruption came between the two
                    self._awaken(entry, obj)
                return
            if entry.facts.guest:
                obj._p_activate()
                return
            if entry.state == LOADING:
                raise CannotLoad(
                    f"{entry.id} is used while it is still being loaded"
                    " (by a __hash__ or a constructor that another object needs for loading).",
                    hint="Let such methods use only plain values that their own object holds.",
                    ids=(entry.id,),
                )
            if writing or entry.state == GHOST:
                self.require_own(entry)
            if entry.state == GHOST:
                self.require_open()
                if self.by_id.get(entry.id) is not entry:
                    self.take_back(entry)
                self._load_state(entry, obj)
            cls = entry.facts.cls
            if not self.retired:
                self.enlisted[entry.address] = obj  # first: an interruption must not leave it awake and on no list
            if entry.state != AWAKE:
                entry.state = AWAKE
                assign_class(obj, cls)  # last: only now do other threads see an ordinary object
            if len(self.enlisted) > self._enlisted_limit or len(self.loaded) > self._cache_limit:
                self.make_room(entry)

    def _awaken(self, entry: Entry, obj: Any) -> None:
        """Finish a waking, or take back a falling asleep, that was cut off."""
        cls = entry.facts.cls
        if not self.retired:
            self.enlisted[entry.address] = obj
        assign_class(obj, cls)

    def make_ghost(self, entry: Entry, obj: Any) -> None:
        """Let go of the state; an object without a ghost class is read anew at once."""
        ghost = entry.facts.ghost
        entry.forced = False
        self._behind.discard(entry.number)
        if isinstance(entry, GuestEntry):
            self.guests().make_ghost(entry, obj)
            return
        if ghost is None:
            self._reload(entry, obj)
            return
        assign_class(obj, ghost)
        entry.state = GHOST  # before the state goes: what is left of it by an interruption is nobody's
        try:
            states.clear(obj)
        except BaseException:
            self.half_empty.add(entry.number)
            raise
        self.enlisted.pop(entry.address, None)

    def touch(self, entry: Entry, obj: Any, *, force: bool = False) -> None:
        """Enlist the object; with `force` the next save writes it."""
        self.wake(entry, obj, writing=True)
        entry.forced = entry.forced or force

    def is_changed(self, entry: Entry, obj: Any) -> bool:
        """Whether the object differs from its record; only an awake one can, or one that naps."""
        if entry.state == DOZING and entry.address in self._napping:
            self.wake(entry, obj)
        elif entry.state == AWAKE and type(obj) is entry.facts.ghost:
            self._awaken(entry, obj)
        return super().is_changed(entry, obj)

    def fill_guest(self, entry: Any, obj: Any) -> None:
        """Called by a guest that is touched as a ghost."""
        with self.lock:
            if entry.number not in self._ready:
                self.require_own(entry)
                self.require_open()
            self.moving_on(partial(self.read_guest, entry, obj))

    def changed_guests(self) -> list[tuple[Any, Any]]:
        """The guests that were changed or are new, each with its entry."""
        jar = self.jar
        return [] if jar is None else [(jar.entry_of(obj), obj) for obj in jar.changed.values()]

    def put_back_guest(self, entry: Any, obj: Any, record: Record, objects: Sequence[Any]) -> None:
        """Give a guest an earlier state, as a change; `entry` is None for one that no store knows."""
        if entry is None:
            refill_guest(obj, record, objects, resolver_for(record, self.resources, {}), limits=self.limits)
            return
        stored = entry.revision, entry.references, entry.digest
        self.guests().make_ghost(entry, obj)
        self._ready[entry.number] = record, objects
        obj._p_activate()
        entry.revision, entry.references, entry.digest = stored
        obj._p_changed = True

    def end_guests_step(self) -> None:
        """A commit or an abort is over."""
        if self.jar is not None:
            self.jar.step_ended()

    # -- guards ------------------------------------------------------------------------------------------

    def require_open(self) -> None:
        """Raise `StoreClosed` once the store was closed."""
        if self.closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")

    def require_own(self, entry: Entry) -> None:
        """Raise `WrongView` where the caller is not the thread or task that the view belongs to."""
        if not self.owns() and LENT.view is not self:
            raise WrongView(
                f"{entry.id} belongs to the view of another thread or task, and is not loaded or would be changed.",
                hint="Load it by its id in this one.",
                ids=(entry.id,),
            )


_views: WeakSet[View] = WeakSet()


def all_views() -> list[View]:
    """Those of all stores of this process."""
    return list(_views)


def _free() -> None:
    """In a forked child: a thread of the parent's that was looking at an object gives no lock back here."""
    for view in all_views():
        view.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)
