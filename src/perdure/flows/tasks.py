"""One job, run: its arguments are loaded, its function is called, and what came of it is handed back as drafts.

- The same code runs a job in this process and in a worker; neither writes to the store. What the function changed and
  returned becomes drafts, which the engine commits together with the job's new state: one job's end is one commit.
- A job sees the store at one revision. Changes of perdure's own records (results of other jobs) are not taken over.
- Whatever the function raises, `SystemExit` included, is an outcome, not an error of the engine.
"""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from perdure.backends.base import Backend
from perdure.errors import FlowError, JobTimeout, TransactionError
from perdure.flows.arguments import replaced
from perdure.flows.definitions import job_function
from perdure.flows.model import Job, Result
from perdure.objects.persistable import entry_of
from perdure.objects.store import Store
from perdure.objects.worklist import Numbers
from perdure.records.frame import Encoder
from perdure.records.seal import Key
from perdure.records.values import INTERNAL, Batch, Commit, Description, Draft, Receipt, Version


class Task(NamedTuple):
    """A job to run: its id, the revision to read at, its time-out in seconds."""

    job: str
    revision: int
    timeout: float | None


class Outcome(NamedTuple):
    """What came of a task. `result` is the id of the record that holds the returned value; None if it failed.

    `names` are the classes and functions that the drafts name. Times are seconds since 1970 (UTC).
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


class Reader(Protocol):
    """What a task needs of a backend."""

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]: ...

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]: ...

    def reserve(self, count: int, *, durable: bool = True) -> int: ...


class TaskBackend(Backend):
    """A backend at one revision, whose `apply` only keeps the batch."""

    def __init__(self, reader: Reader, described: Description):
        self._reader = reader
        self._described = described
        self.at = described.revision
        self.taken: list[Batch] = []

    def describe(self) -> Description:
        return self._described

    def revision(self) -> int:
        return self.at

    def reserve(self, count: int, *, durable: bool = True) -> int:
        return self._reader.reserve(count, durable=durable)

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        self.taken.append(batch)
        return Receipt(self.at)

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        return self._reader.read(list(ids), self.at)

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        return self._reader.classes(list(ids), self.at)

    def changes(self, since: int) -> tuple[int, set[int]]:
        return self.at, set()

    def ids(self, *, internal: bool = False) -> list[str]:
        raise _closed_to_jobs()

    def scan(self, *, class_name: str | None = None, internal: bool | None = None, after: int = -1) -> Iterator[bytes]:
        raise _closed_to_jobs()

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        raise _closed_to_jobs()

    def history(self, id_: str) -> list[Version]:
        raise _closed_to_jobs()

    def close(self) -> None:
        """Nothing is open here."""


def _closed_to_jobs() -> TransactionError:
    return TransactionError("A job sees its arguments only.", hint="Open the store by its URL to look at more of it.")


class _KeptNumbers(Numbers):
    """Numbers that are left over are for the next job of the same workplace."""

    def give_back(self) -> tuple[int, int]:
        return 0, 0


class Workplace:
    """Where one process runs jobs, one after the other, each in a view of its own."""

    def __init__(self, reader: Reader, described: Description, key: Key | None):
        self._reader = reader
        self._described = described
        self._key = key
        self._numbers = _KeptNumbers(TaskBackend(reader, described))

    def store(self, revision: int) -> tuple[Store, TaskBackend]:
        """A store at that revision, whose commits are only taken down."""
        backend = TaskBackend(self._reader, self._described._replace(revision=revision))
        store = Store(backend, self._key, code="off")  # the engine adds the attempt's code record
        store.desk().naming.numbers = self._numbers
        return store, backend


def run_task(task: Task, place: Workplace) -> Outcome:
    """Run one job; gives its outcome, whatever happens in it."""
    started = time.time()
    store, backend = place.store(task.revision)
    try:
        with store.transaction():
            job: Job = store.load(task.job)
            function = job_function(job.function)
            arguments = (job.args, job.kwargs)
            args, kwargs = replaced(arguments, Job, _result_of)
            _leave_alone(store)
            with time_limit(task.timeout, job.name):
                value = function(*args, **kwargs)
            held = Result(value)
            store.save(held)
        batch = backend.taken[0]
        result = held.persistent_id
        drafts = [draft for draft in batch.drafts if draft.id == result or not draft.flags & INTERNAL]
        names = store.desk().names | {draft.class_name for draft in drafts}
        return Outcome(task.job, started, time.time(), drafts, result, names)
    except (Exception, SystemExit) as error:  # the user's function: anything may come out, and it is the outcome
        return failure(task.job, started, error)
    finally:
        store.close()


def failure(job: str, started: float, error: BaseException) -> Outcome:
    """The outcome of a job that raised."""
    text = str(error)
    if isinstance(error, SystemExit):
        text = f"the job tried to exit the interpreter with {error.code!r}"
    trace = "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    return Outcome(job, started, time.time(), [], None, frozenset(), type(error).__name__, text, trace)


def _result_of(job: Job) -> Any:
    return job._attempts[-1].result()


def _leave_alone(store: Store) -> None:
    """Records of perdure's own that were read for the arguments are not looked at again: they are history."""
    view = store.desk().view
    for address, obj in list(view.enlisted.items()):
        entry = entry_of(obj)
        if entry is not None and entry.flags & INTERNAL:
            del view.enlisted[address]


def _users_part(trace: Any) -> Any:
    """The traceback from the user's function on."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("perdure."):
        trace = trace.tb_next
    return trace


@contextmanager
def time_limit(seconds: float | None, name: str) -> Iterator[None]:
    """Raise `JobTimeout` in the block after so many seconds, by the alarm signal of the main thread."""
    if seconds is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        raise FlowError(
            f"{name} has a time-out, which cannot be kept outside the main thread.", hint="Use executor='processes'."
        )

    def ring(number: int, frame: object) -> None:
        raise JobTimeout(f"{name} ran longer than its time-out of {seconds:g} s.")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
