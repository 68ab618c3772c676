"""The store: the facade that a user opens. It parses what it is given, and calls the floor below."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import update_wrapper
from typing import Any, Literal, TypeVar, get_args, overload
from weakref import WeakKeyDictionary, WeakSet, finalize, ref

from perdure import kernels
from perdure.backends.base import Backend
from perdure.clock import Clock, SystemClock
from perdure.errors import InvalidArgument, NotFound, PerdureError, StoreClosed
from perdure.ids import Id, IdFactory, parse_id
from perdure.objects.asking import Asking
from perdure.objects.bounds import whole_number
from perdure.objects.coding import CodeRecorder
from perdure.objects.finding import Finding
from perdure.objects.instances.columns import ExtraFields
from perdure.objects.instances.persistable import in_memory
from perdure.objects.instances.states import PROTOCOL
from perdure.objects.remembering import HistoryFace, checked_limits, seconds_kept
from perdure.objects.roots import Roots, refuse_names
from perdure.objects.transactions import running, steps
from perdure.objects.transactions.commits import Desk, OfThread
from perdure.objects.transactions.naming import Naming, Numbers
from perdure.objects.transactions.transaction import Transaction
from perdure.objects.views.prefetching import Paths
from perdure.objects.views.resting import CACHE_SIZE
from perdure.objects.views.view import View
from perdure.pickling.outside import Resources, resources_of
from perdure.pickling.own.limits import Limits
from perdure.records.seal import Key

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Trust = Literal["all"]
Missing = Literal["opaque"]
CodeChoice = Literal["recorded", "archived", "commits", "off"]
HistoryChoice = Literal["on", "off"]
CODE_CHOICES: tuple[CodeChoice, ...] = get_args(CodeChoice)

_modules = sys.modules


class _Here(threading.local):
    """What tells the running thread from all others: the number of one that has ended is given again."""

    def __init__(self) -> None:
        self.token = object()


_HERE = _Here()


def _at_hand_first(load: F) -> F:
    """`Store.load`, called only for what is not at hand where the compiled part is used: what is, is found in C."""
    if kernels.built is None:
        return load
    quick: F = kernels.built.Quick(load, vars(kernels))
    update_wrapper(quick, load)
    return quick


class Store(Asking, HistoryFace):
    """Keeps objects under ids; made by `make_store`. Every thread and every asyncio task has its own view of it."""

    url: str = ""

    def __init__(
        self,
        backend: Backend,
        key: Key | None,
        *,
        idfactory: IdFactory | None = None,
        trust: Trust | None = None,
        protocol: int = PROTOCOL,
        clock: Clock | None = None,
        code: CodeChoice = "recorded",
        resources: Mapping[str, Any] | None = None,
        extra_fields: ExtraFields | None = None,
        cache_size: int = CACHE_SIZE,
        history: HistoryChoice = "on",
        limits: Limits | None = None,
    ):
        if whole_number("cache_size", cache_size) < 1:
            raise InvalidArgument(f"cache_size is a number of objects, at least 1, not {cache_size!r}")
        self.backend = backend
        self.extra_fields = extra_fields
        self._finding = Finding(backend, extra_fields)
        self._cache_size = cache_size
        self._key = key
        self._factory = idfactory
        self._trust_all = _trusts_all(trust)
        self._protocol = protocol
        self._clock = clock or SystemClock()
        self._resources = resources_of(resources)
        self._code = _checked_code(code)
        self._keep = seconds_kept(history)
        self._limits = checked_limits(limits)
        self._threads = OfThread()
        self._tasks: WeakKeyDictionary[Any, Desk] = WeakKeyDictionary()
        self._views: WeakSet[View] = WeakSet()
        self._numbers: WeakSet[Numbers] = WeakSet()
        self._closed = False
        self._remember()
        self.roots = Roots(self.desk)

    # -- one object --------------------------------------------------------------------------------------

    def save(self, obj: T) -> Id[T]:
        """Save `obj` and every new or changed `Persistable` reachable from it, through what is loaded, as one step.

        Gives its id; an object that was saved before keeps it, a plain value gets a new one each time. Raises
        `ConflictError` (another commit was first), `NotFound` (it removed the object), `CannotPickle`, `WrongView`,
        `ReadOnly`, `KeyMissing`.
        """
        # What is new, and saved in the transaction of a thread, is named and put on the list without any other call.
        view = self._threads.view
        if view is not None and view.joining is not None:
            joined: Id[T] | None = view.joining(obj)
            if joined is not None:
                return joined
        return steps.save_many(self.desk(), [obj])[0]

    @overload
    def load(self, id_: Id[T], *, trust: Trust | None = None, prefetch: Paths = (), missing: None = None) -> T: ...
    @overload
    def load(
        self, id_: str, *, trust: Trust | None = None, prefetch: Paths = (), missing: Missing | None = None
    ) -> Any: ...
    @_at_hand_first
    def load(
        self, id_: str, *, trust: Trust | None = None, prefetch: Paths = (), missing: Missing | None = None
    ) -> Any:
        """The object of that id; in one view always the same one. What it refers to loads when it is touched.

        What `prefetch` leads to (`"items.owner"`, or several such paths) is loaded at once, with one read a step;
        `NoSuchPath` if that is nowhere. With `missing="opaque"` an object, or a part of it, whose class is not here is
        an `Opaque`; loaded again once its class can be found, it is of that.
        Raises `NotFound`, `InvalidId`, `UntrustedRecord` (unless `trust="all"` is given here or at opening),
        `CorruptRecord`, `ClassNotFound`, `CannotLoad`.
        """
        if kernels.compiled is None and trust is None and missing is None and not prefetch:
            obj = self._at_hand(id_)
            if obj is not None:
                return obj
        if prefetch:
            return self.load_many((id_,), trust=trust, prefetch=prefetch, missing=missing)[0]
        return self._load(id_, trust, missing)

    def _at_hand(self, id_: str) -> Any:
        """What is in memory, in a thread's view that is at the newest revision: found without any other call."""
        asyncio = _modules.get("asyncio")
        if asyncio is None or asyncio._get_running_loop() is None:
            view = self._threads.view
            if view is not None and view.watch() == view.mark:
                return in_memory(view.by_id, id_)
        return None

    def _load(self, id_: str, trust: Trust | None, missing: Missing | None) -> Any:
        desk = self.desk()
        checked = id_ if type(id_) is Id else parse_id(id_)
        desk.view.refresh()
        if desk.transaction is not None:
            self._refuse_removed(desk, (checked,))
        if trust is None and missing is None:
            return desk.view.load_one(checked)
        with _allowing(desk.view, trust, missing, (checked,)):
            return desk.view.load_one(checked)

    def replace(self, id_: str, obj: object) -> None:
        """Store a copy of `obj` under an id that exists; `obj` itself keeps the id that it had, or none.

        Inside a transaction the copy is seen, by `load` and by `find`, after the commit; until then they give what it
        replaces. Raises `NotFound`, and `TransactionError` for an object that the same transaction has saved.
        """
        id_ = parse_id(id_)
        refuse_names(id_, "replaced")
        steps.replace(self.desk(), id_, obj)

    def remove(self, id_: str) -> None:
        """Remove the object of that id. Raises `NotFound`, and `StillReferred` naming what refers to it.

        Saved again in the same transaction, it stays, under the same id.
        """
        id_ = parse_id(id_)
        refuse_names(id_, "removed")
        desk = self.desk()
        desk.view.refresh()
        steps.remove(desk, id_)

    # -- many objects ------------------------------------------------------------------------------------

    def save_many(self, objects: Iterable[T]) -> list[Id[T]]:
        """Save many objects as one step; gives their ids in order."""
        return steps.save_many(self.desk(), list(objects))

    @overload
    def load_many(
        self, ids: Iterable[Id[T]], *, trust: Trust | None = None, prefetch: Paths = (), missing: None = None
    ) -> builtins.list[T]: ...
    @overload
    def load_many(
        self, ids: Iterable[str], *, trust: Trust | None = None, prefetch: Paths = (), missing: Missing | None = None
    ) -> builtins.list[Any]: ...
    def load_many(
        self, ids: Iterable[str], *, trust: Trust | None = None, prefetch: Paths = (), missing: Missing | None = None
    ) -> builtins.list[Any]:
        """The objects of those ids, read at once. Raises as `load` does; `NotFound` names all that are missing."""
        desk = self.desk()
        checked: builtins.list[str] = [id_ if type(id_) is Id else parse_id(id_) for id_ in ids]
        if kernels.compiled is not None:  # plain texts are found faster among those of frames; `load` then is not, in C
            checked = kernels.compiled.plain_texts(checked)
        desk.view.refresh()
        self._refuse_removed(desk, checked)
        with _allowing(desk.view, trust, missing, checked):
            found = desk.view.load_many(checked)
            if prefetch:
                desk.view.prefetch(found, prefetch)
        return found

    def list(self, *, all: bool = False) -> list[Id[Any]]:
        """The ids of the user's objects, in the order of their numbers; with `all` also perdure's own.

        They are those of the newest revision; inside a transaction those of its beginning, with what it has saved and
        without what it has removed. So do `len`, `in` and going through the store. `transactions` and `history` always
        tell the newest.
        """
        desk = self.desk()
        at = self._seen(desk)
        ids: builtins.list[Id[Any]] = [Id(id_) for id_ in self.backend.ids(at=at)]
        if at is not None:
            removed = desk.removed
            ids = [id_ for id_ in ids if id_ not in removed] + [Id(id_) for id_ in desk.saved_ids()]
            ids.sort(key=lambda id_: id_.number)
        return sorted(ids + [Id(id_) for id_ in self.backend.ids(internal=True, at=at)]) if all else ids

    @staticmethod
    def _seen(desk: Desk) -> int | None:
        """The revision that an open transaction sees; None for the newest."""
        if not desk.is_in_transaction:
            return None
        desk.view.refresh()
        return desk.view.revision

    def __len__(self) -> int:
        return len(self.list())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, id_: object) -> bool:
        if not isinstance(id_, str):
            return False
        desk, checked = self.desk(), parse_id(id_)
        if desk.is_in_transaction and (checked in desk.removed or checked in desk.saved_ids()):
            return checked not in desk.removed
        return bool(self.backend.read([checked], self._seen(desk)))

    def __iter__(self) -> Iterator[Id[Any]]:
        return iter(self.list())

    # -- transactions and history ------------------------------------------------------------------------

    def transaction(self, note: str = "") -> Transaction:
        """A block that commits everything that is saved or changed in it, or nothing; `note` stays in the history."""
        return Transaction(self.desk(), note)

    def run(
        self, function: Callable[..., T], /, *args: Any, retries: int = running.RETRIES, note: str = "", **kwargs: Any
    ) -> T:
        """Run `function(*args, **kwargs)` in a transaction, and give what it gives.

        When another commit was first, or the store is busy, it is run again in a new transaction, at most `retries`
        times, after random waits of up to a second; what it does outside of the store is then done again. The last
        error tells the number of attempts (`.attempts`). A conflict on an object that had unsaved changes before is
        raised at once, with its id in `.changed_before`, and the changes stay. In an open transaction it is a part of
        that, and runs once. A function with a `note` or `retries` of its own gets them by `functools.partial`.
        """
        return running.run(self.desk(), function, args, kwargs, retries=retries, note=note)

    def revision(self) -> int:
        """The revision that the caller's view is at: inside a transaction that of its beginning."""
        view = self.desk().view
        view.refresh()
        return view.revision

    def invalidate_cache(self) -> None:
        """Let go of every unchanged loaded object's state: the next touch reads it from the backend."""
        self.desk().view.invalidate()

    # -- opening and closing -----------------------------------------------------------------------------

    @property
    def key(self) -> Key | None:
        """The key that records are sealed with; None if it is not on this machine."""
        return self._key

    @property
    def resources(self) -> Resources:
        """What was given as `resources=…`: the functions registered with `reference` get it."""
        return self._resources

    def close(self) -> None:
        """Let go of files and connections. Loaded objects stay readable; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        for view in list(self._views):
            view.close()
        for numbers in sorted(self._numbers, key=lambda numbers: -numbers.end):  # those reserved last, first
            with suppress(PerdureError):  # they are only given back: nothing is lost
                numbers.return_all()
        self.backend.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}{' (closed)' if self._closed else ''}>"

    # -- views -------------------------------------------------------------------------------------------

    def desk(self) -> Desk:
        """The view of the running thread or task, and what commits from it need: for perdure's own engines."""
        if self._closed:
            self._require_open()
        asyncio = _modules.get("asyncio")
        if asyncio is not None and (task := _running_task()) is not None:
            return self._desk_of(task)
        desk = self._threads.desk
        if desk is None:
            token = _HERE.token
            desk = self._new_desk(
                lambda: _HERE.token is token and ("asyncio" not in _modules or _running_task() is None)
            )
            self._threads.desk, self._threads.view = desk, desk.view
        return desk

    def _desk_of(self, task: Any) -> Desk:
        desk = self._tasks.get(task)
        if desk is None:
            waiting = ref(task)
            desk = self._tasks[task] = self._new_desk(lambda: _running_task() is waiting())
        return desk

    def _new_desk(self, owns: Callable[[], bool]) -> Desk:
        view = View(
            self.backend, self._key, owns, trust_all=self._trust_all, protocol=self._protocol,
            resources=self._resources, cache_size=self._cache_size, code=self._code,
        )  # fmt: skip
        view.extra_fields = self.extra_fields
        view.limits = self._limits
        self._views.add(view)
        code_of = CodeRecorder(view, texts=self._code != "commits") if self._code != "off" else _no_code
        naming = Naming(self.backend, self._factory)
        self._numbers.add(naming.numbers)
        desk = Desk(view, naming, code_of, self._clock, self._threads)
        desk.keep = self._keep
        # Nobody commits from a desk that is gone; what its view holds for a commit would stay in memory for ever.
        finalize(desk, view.retire).atexit = False
        return desk

    def _over(self, backend: Backend) -> Store:
        """A store like this one, over another backend."""
        store = Store(
            backend,
            self._key,
            trust="all" if self._trust_all else None,
            protocol=self._protocol,
            clock=self._clock,
            code=self._code,
            resources=self._resources,
            extra_fields=self.extra_fields,
            cache_size=self._cache_size,
            limits=self._limits,
        )
        store.url = self.url
        return store

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")

    @staticmethod
    def _refuse_removed(desk: Desk, ids: Iterable[str]) -> None:
        removed = [id_ for id_ in ids if id_ in desk.removed]
        if removed:
            raise NotFound(f"{', '.join(removed)} was removed in this transaction.", ids=removed)


def _running_task() -> Any:
    """The asyncio task that is running in this thread; None outside of tasks, and without importing asyncio."""
    asyncio = _modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def _trusts_all(trust: str | None) -> bool:
    if trust not in (None, "all"):
        raise InvalidArgument(f"trust is 'all' or not given, not {trust!r}")
    if trust == "all":
        sys.audit("perdure.trust_all")
    return trust == "all"


@contextmanager
def _allowing(view: View, trust: Trust | None, missing: Missing | None, ids: Iterable[str]) -> Iterator[None]:
    """Within the block the view opens records without a good seal, and with missing classes, if the caller said so."""
    if missing not in (None, "opaque"):
        raise InvalidArgument(f"missing is 'opaque' or not given, not {missing!r}")
    before = view.trust_all, view.opaque
    view.trust_all = view.trust_all or _trusts_all(trust)
    if missing is not None:
        view.allow_missing(ids)
    try:
        yield
    finally:
        view.trust_all, view.opaque = before


def _checked_code(code: CodeChoice) -> CodeChoice:
    if code not in CODE_CHOICES:
        raise InvalidArgument(f"code is one of {', '.join(map(repr, CODE_CHOICES))}, not {code!r}")
    return code


def _no_code(worklist: object, module: str) -> str:
    return ""
