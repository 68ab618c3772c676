"""One job, run: its arguments are loaded, its function is called, and what came of it is handed back as drafts.

- The same code runs a job in this process and in a worker; neither writes to the store. What the function changed and
  returned becomes drafts, which the engine commits together with the job's new state: one job's end is one commit.
- A task brings along what surely will be read, so that a worker need not ask for it.
- A job sees the store at one revision. Changes of perdure's own records (results of other jobs) are not taken over.
- Whatever the function raises, `SystemExit` included, is an outcome, not an error of the engine.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from perdure.backends.base import Backend
from perdure.code.capture import capture
from perdure.code.functions import function_digest
from perdure.code.values import CodeState
from perdure.errors import FlowError, JobTimeout, TransactionError
from perdure.flows.arguments import replaced
from perdure.flows.attempts import Arguments, Result
from perdure.flows.definitions import job_function
from perdure.flows.model import Job
from perdure.flows.resources import EXTRA_FIELDS
from perdure.flows.tracebacks import described
from perdure.objects.instances.persistable import entry_of
from perdure.objects.store import Store
from perdure.objects.transactions.naming import Numbers
from perdure.pickling.classes import name_of
from perdure.pickling.outside import NO_RESOURCES, Resources
from perdure.records.buffers import digests_of
from perdure.records.frame import Encoder
from perdure.records.seal import Key
from perdure.records.values import CLASS_FIELD, INTERNAL, Batch, Buffer, Commit, Description, Draft, Receipt, Version

BLOCK = 64  # numbers that are reserved at a time
RING_AGAIN = 1.0  # seconds after which a job that swallowed its time-out is told again

_JOB = name_of(Job)


class Task(NamedTuple):
    """A job to run: its id, name and function, the revision to read at, its time-out in seconds.

    `arguments` and `results` (by the id of the job that is needed) are ids of records; `frames` are these records.
    """

    job: str
    name: str
    function: str
    revision: int
    timeout: float | None
    arguments: str
    results: dict[str, str]
    frames: Mapping[str, bytes]


class RanWith(NamedTuple):
    """The code that a process ran a function with, as that process had imported it."""

    state: CodeState
    digest: str


class Outcome(NamedTuple):
    """What came of a task. `result` is the id of the record that holds the returned value; None if it failed.

    `names` are the classes and functions that the drafts name, `buffers` their large pieces by digest; `indexed` is
    what their batch said. Times are seconds since 1970 (UTC). `code` is told where it is news: by a worker, at its
    first job of each function.
    """

    job: str
    started: float
    ended: float
    drafts: list[Draft]
    result: str | None
    names: frozenset[str]
    error_type: str = ""
    error: str = ""
    traceback: str = ""
    code: RanWith | None = None
    indexed: Mapping[str, tuple[str, ...]] = {}
    buffers: Mapping[str, Buffer] = {}


class Reader(Protocol):
    """What a task needs of a backend."""

    def buffer(self, digest: str) -> Buffer: ...

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]: ...

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]: ...

    def reserve(self, count: int, *, durable: bool = True) -> int: ...


class TaskBackend(Backend):
    """A backend at one revision, whose `apply` only keeps the batch."""

    def __init__(self, reader: Reader, described: Description, task: Task | None = None):
        self._reader = reader
        self._described = described
        self._frames: Mapping[str, bytes] = {} if task is None else task.frames
        self._jobs: Mapping[str, str] = {} if task is None else task.results
        self.at = described.revision if task is None else task.revision
        self.taken: list[Batch] = []

    def describe(self) -> Description:
        return self._described._replace(revision=self.at)

    def revision(self) -> int:
        return self.at

    def reserve(self, count: int, *, durable: bool = True) -> int:
        return self._reader.reserve(count, durable=durable)

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        self.taken.append(batch)
        return Receipt(self.at)

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        asked = list(ids)
        here = {id_: self._frames[id_] for id_ in asked if id_ in self._frames}
        if len(here) == len(asked):
            return here
        found = self._reader.read([id_ for id_ in asked if id_ not in here], self.at) | here
        return {id_: found[id_] for id_ in asked if id_ in found}

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        here: dict[str, str] = {}
        elsewhere: list[str] = []
        for id_ in ids:
            if id_ in self._jobs:
                here[id_] = _JOB
            else:
                elsewhere.append(id_)
        return here | self._reader.classes(elsewhere, self.at) if elsewhere else here

    def changes(self, since: int) -> tuple[int, set[int]]:
        return self.at, set()

    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        raise _closed_to_jobs()

    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        raise _closed_to_jobs()

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        raise _closed_to_jobs()

    def history(self, id_: str) -> list[Version]:
        raise _closed_to_jobs()

    def pack(self, oldest: int) -> int:
        raise _closed_to_jobs()

    def erase(self, ids: Collection[str]) -> None:
        raise _closed_to_jobs()

    def buffer(self, digest: str) -> Buffer:
        return self._reader.buffer(digest)

    def buffers(self) -> dict[str, int]:
        raise _closed_to_jobs()

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        raise _closed_to_jobs()

    def close(self) -> None:
        """Nothing is open here."""


def _closed_to_jobs() -> TransactionError:
    return TransactionError("A job sees its arguments only.", hint="Open the store by its URL to look at more of it.")


class KeptNumbers(Numbers):
    """Numbers for one commit after the other: what one leaves over is for the next."""

    def take(self) -> int:
        self._block = BLOCK
        return super().take()

    def give_back(self, *, all: bool = False) -> tuple[int, int]:
        return 0, 0


class Workplace:
    """Where one process runs jobs, one after the other, each in a view of its own.

    `reports` says whether its outcomes tell the code that ran: the engine knows that of its own process.
    """

    def __init__(
        self,
        reader: Reader,
        described: Description,
        key: Key | None,
        resources: Resources = NO_RESOURCES,
        *,
        reports: bool = False,
    ):
        self._reader = reader
        self._described = described
        self._key = key
        self._resources = resources
        self._reports = reports
        self._reported: set[str] = set()
        self._numbers = KeptNumbers(TaskBackend(reader, described))

    def store(self, task: Task) -> tuple[Store, TaskBackend]:
        """A store at the task's revision, whose commits are only taken down."""
        backend = TaskBackend(self._reader, self._described, task)
        extra = self._resources.get(EXTRA_FIELDS)
        # The engine knows the code record of the attempt.
        store = Store(backend, self._key, code="off", resources=self._resources, extra_fields=extra)
        store.desk().naming.numbers = self._numbers
        return store, backend

    def code_to_report(self, task: Task, function: Any) -> RanWith | None:
        """The code of the task's function, the first time that it is run here."""
        if not self._reports or task.function in self._reported:
            return None
        self._reported.add(task.function)
        return RanWith(capture([task.function.partition(":")[0]]), function_digest(function))


def run_task(task: Task, place: Workplace) -> Outcome:
    """Run one job; gives its outcome, whatever happens in it. Only Ctrl-C comes through."""
    started = time.time()
    process = os.getpid()
    store, backend = place.store(task)
    code = None
    try:
        with store.transaction():
            function = job_function(task.function)
            code = place.code_to_report(task, function)
            args, kwargs = _arguments(task, store)
            with time_limit(task.timeout, task.name):
                value = function(*args, **kwargs)
            if os.getpid() != process:
                os._exit(0)  # a child that the job has forked came out of its function: it is no second engine
            held = Result(value)
            store.save(held)
        result = held.persistent_id
        drafts = [draft for draft in backend.taken[0].drafts if draft.id == result or not draft.flags & INTERNAL]
        names = store.desk().names | {str(draft.fields.get(CLASS_FIELD, draft.class_name)) for draft in drafts}
        indexed, pieces = backend.taken[0].indexed, backend.taken[0].buffers
        buffers = {digest: pieces[digest] for draft in drafts for digest in digests_of(draft)}
        return Outcome(
            task.job, started, time.time(), drafts, result, names, code=code, indexed=indexed, buffers=buffers
        )
    except BaseException as error:  # the user's function: anything may come out, and it is the outcome
        if os.getpid() != process:
            os._exit(0 if isinstance(error, SystemExit) and not error.code else 1)
        if isinstance(error, KeyboardInterrupt):
            raise
        return failure(task.job, started, error, code)
    finally:
        store.close()


def failure(job: str, started: float, error: BaseException, code: RanWith | None = None) -> Outcome:
    """The outcome of a job that raised."""
    return Outcome(job, started, time.time(), [], None, frozenset(), *described(error), code)


def _arguments(task: Task, store: Store) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a job, other jobs replaced by their results."""
    arguments: Arguments = store.load(task.arguments)
    results = dict(zip(task.results, store.load_many(task.results.values()), strict=True))
    given = (arguments.args, arguments.kwargs)
    args, kwargs = replaced(given, Job, lambda job: results[job.persistent_id].value)
    _leave_alone(store)
    return args, kwargs


def _leave_alone(store: Store) -> None:
    """Records of perdure's own that were read for the arguments are not looked at again: they are history."""
    enlisted = store.desk().view.enlisted
    for address, obj in list(enlisted.items()):
        entry = entry_of(obj)
        if entry is not None and entry.flags & INTERNAL:
            del enlisted[address]


class _Ring(BaseException):
    """The alarm of a time-out, on its way through the job; above `Exception`, so that few jobs swallow it."""


@contextmanager
def time_limit(seconds: float | None, name: str) -> Iterator[None]:
    """Raise `JobTimeout` from the block after so many seconds, by the alarm signal of the main thread."""
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        raise FlowError(
            f"{name} has a time-out, which cannot be kept outside the main thread.", hint="Use executor='processes'."
        )
    over = rang = False

    def ring(number: int, frame: object) -> None:
        nonlocal rang
        if not over:
            rang = True
            raise _Ring

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, RING_AGAIN)
    cause: BaseException | None = None
    try:
        yield
    except _Ring as error:
        cause = error
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if rang:
        told = JobTimeout(f"{name} ran longer than its time-out of {seconds:g} s.")
        raise told.with_traceback(None if cause is None else cause.__traceback__) from None
