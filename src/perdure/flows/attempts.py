"""What is written once for each call and each try of a job: arguments, attempts, results, settings.

- Every attempt is a record of its own and is never overwritten; what lists show stands in the records' headers, so
  that it can be read without unpickling and when the classes of arguments and results are gone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from perdure.errors import ResultNotReady
from perdure.flows.states import JobState, StoredState, next_job_state
from perdure.objects.coding import Code
from perdure.objects.instances.persistable import Persistable
from perdure.records.values import Plain

ERROR_SHOWN = 300  # characters of an error text in lists


class Tried(Protocol):
    """What an attempt knows of its job."""

    @property
    def name(self) -> str: ...

    @property
    def persistent_id(self) -> str | None: ...

    @property
    def state(self) -> JobState: ...


class RanCode(NamedTuple):
    """The code that a function came from: its code record, that one's summary, the digest of the function's source."""

    record: Code | None
    summary: str | None
    digest: str


class Attempt(Persistable):
    """One try of one job. Times are seconds since 1970 (UTC); `pid` is that of the process that ran it."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True
    _state = StoredState(JobState)

    def __init__(self, job: Tried, number: int, *, host: str, pid: int, started: float, code: RanCode):
        self.job = job
        self.name = job.name
        self.number = number
        self.host = host
        self.pid = pid
        self.started = started
        self.ended: float | None = None
        self._state = JobState.RUNNING
        self.ran_with(code)
        self.error = ""
        self.error_type = ""
        self.traceback = ""
        self.outcome: Result | None = None

    def ran_with(self, code: RanCode) -> None:
        """Note the code."""
        self.code, self.code_summary, self.function_digest = code

    @property
    def state(self) -> JobState:
        """The state now; `interrupted` when the process that drove the run is gone."""
        if self._state is JobState.RUNNING and self.job.state is JobState.INTERRUPTED:
            return JobState.INTERRUPTED
        return self._state  # read again: to ask the job was to move forward

    def result(self) -> Any:
        """What the job returned; raises `ResultNotReady` if this attempt did not succeed."""
        if self.outcome is None:
            raise ResultNotReady(f"Attempt {self.number} of {self.name} is {self.state}. {self.error}".rstrip())
        return self.outcome.value

    def succeed(self, outcome: Result, started: float, ended: float) -> None:
        self._end(JobState.SUCCEEDED, ended)
        self.outcome, self.started = outcome, started

    def fail(self, error_type: str, error: str, traceback: str, started: float, ended: float) -> None:
        self._end(JobState.FAILED, ended)
        self.error_type, self.error, self.traceback, self.started = error_type, error, traceback, started

    def cut_off(self, ended: float) -> None:
        self._end(JobState.INTERRUPTED, ended)

    def _end(self, state: JobState, at: float) -> None:
        self._state = next_job_state(self._state, state, f"Attempt {self.number} of {self.name}")
        self.ended = at
        self.changed = True

    def __record_fields__(self) -> dict[str, Plain]:
        return {
            "job": self.job.persistent_id, "name": self.name, "number": self.number, "state": str(self._state),
            "started": self.started, "ended": self.ended, "host": self.host, "pid": self.pid,
            "error": self.error[:ERROR_SHOWN], "error_type": self.error_type, "traceback": self.traceback,
            "code": self.code_summary, "function": self.function_digest,
            "result": None if self.outcome is None else self.outcome.persistent_id,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.name}: {self._state}>"


class Result(Persistable):
    """Holds what an attempt returned."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self, value: Any):
        self.value = value


class Arguments(Persistable):
    """What a job or a flow was called with: written once, however often the job's state changes."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.args = args
        self.kwargs = kwargs


class Settings:
    """What `@job(…)` was told: `retries`, `timeout` (seconds), `idempotent`."""

    __slots__ = ("idempotent", "retries", "timeout")

    def __init__(self, retries: int = 0, timeout: float | None = None, idempotent: bool = False):
        self.retries = retries
        self.timeout = timeout
        self.idempotent = idempotent

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self.retries, self.timeout, self.idempotent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]
