"""Runs, jobs and attempts as objects of a store: the graph of jobs is a graph of objects.

- A `Run` refers to its jobs, a `Job` to what it needs, to its attempts and, through them, to its result.
- Every attempt is a record of its own and is never overwritten; what lists show stands in the records' headers, so
  that it can be read without unpickling and when the classes of arguments and results are gone.
- States change only through `Job.go` and `Run.go`, which know the legal steps.
- Properties read the newest revision: outside a transaction each access moves the view forward.
"""

from __future__ import annotations

import time
from typing import Any

from perdure.errors import NotFound, ResultNotReady, RunFailed
from perdure.flows.arguments import replaced, shown
from perdure.flows.ownership import Owner
from perdure.flows.states import ENDED, JobState, RunState, next_job_state, next_run_state
from perdure.objects.coding import Code
from perdure.objects.persistable import Persistable, entry_of
from perdure.records.values import Plain

ERROR_SHOWN = 300  # characters of an error text in lists


class Attempt(Persistable):
    """One try of one job. Times are seconds since 1970 (UTC); `pid` is that of the process that ran it."""

    __record_internal__ = True

    def __init__(self, job: Job, number: int, *, host: str, pid: int, started: float, code: Code | None, digest: str):
        self.job = job
        self.number = number
        self.host = host
        self.pid = pid
        self.started = started
        self.ended: float | None = None
        self.state = JobState.RUNNING
        self.code = code
        self.function_digest = digest
        self.error = ""
        self.error_type = ""
        self.traceback = ""
        self.outcome: Result | None = None

    def result(self) -> Any:
        """What the job returned; raises `ResultNotReady` if this attempt did not succeed."""
        if self.outcome is None:
            raise ResultNotReady(f"Attempt {self.number} of {self.job.name} is {self.state}. {self.error}")
        return self.outcome.value

    def __record_fields__(self) -> dict[str, Plain]:
        return {
            "job": self.job.persistent_id, "name": self.job.name, "number": self.number, "state": str(self.state),
            "started": self.started, "ended": self.ended, "host": self.host, "pid": self.pid,
            "error": self.error[:ERROR_SHOWN], "error_type": self.error_type,
            "traceback": self.traceback, "code": None if self.code is None else self.code.summary,
            "function": self.function_digest,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.job.name}: {self.state}>"


class Result(Persistable):
    """Holds what an attempt returned."""

    __record_internal__ = True

    def __init__(self, value: Any):
        self.value = value


class Arguments(Persistable):
    """What a job was called with: written once, however often the job's state changes."""

    __record_internal__ = True

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.args = args
        self.kwargs = kwargs

    def __record_fields__(self) -> dict[str, Plain]:
        return {"arguments": shown(self.args, self.kwargs)}


class Job(Persistable):
    """A call of a `@job` function in a flow: its arguments may be other jobs, whose results it then gets."""

    __record_internal__ = True

    def __init__(self, name: str, function: str, args: tuple[Any, ...], kwargs: dict[str, Any], settings: Settings):
        self._name = name
        self._function = function
        self._arguments = Arguments(args, kwargs)
        self._shown = shown(args, kwargs)
        self._settings = settings
        self._state = JobState.WAITING
        self._attempts: list[Attempt] = []
        self._needs: list[Job] = []
        self._run: Run | None = None
        self._tries_left = settings.retries

    @property
    def name(self) -> str:
        return self._name

    @property
    def function(self) -> str:
        """The function's name, `module:qualified.name`."""
        return self._function

    @property
    def args(self) -> tuple[Any, ...]:
        return self._arguments.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._arguments.kwargs

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def needs(self) -> list[Job]:
        """The jobs whose results this one takes."""
        return list(self._needs)

    @property
    def run(self) -> Run | None:
        return self._run

    @property
    def state(self) -> JobState:
        """The state now; a running job whose run has lost its owner is `interrupted`."""
        newest(self)
        if self._state is JobState.RUNNING and self._run is not None and not self._run.owned():
            return JobState.INTERRUPTED
        return self._state

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        newest(self)
        return list(self._attempts)

    @property
    def last_attempt(self) -> Attempt:
        """The newest attempt; there must be one."""
        return self._attempts[-1]

    @property
    def stored_state(self) -> JobState:
        """The state as the record has it, whoever owns the run."""
        return self._state

    def result(self) -> Any:
        """What the job returned; raises `ResultNotReady` unless it succeeded."""
        state = self.state
        if state is not JobState.SUCCEEDED:
            error = f": {self._attempts[-1].error}" if self._attempts and self._attempts[-1].error else ""
            raise ResultNotReady(f"{self._name} is {state}{error}.")
        return self._attempts[-1].result()

    def go(self, state: JobState) -> None:
        """Change the state; raises `IllegalTransition`."""
        self._state = next_job_state(self._state, state, self._name)

    def wait_again(self) -> None:
        """To be run again, with all its tries."""
        if self._state is not JobState.WAITING:
            self.go(JobState.WAITING)
        self._tries_left = self._settings.retries

    def cut_off(self, at: float) -> None:
        """The process that ran it is gone."""
        self.go(JobState.INTERRUPTED)
        self.last_attempt.state, self.last_attempt.ended = JobState.INTERRUPTED, at

    def __record_fields__(self) -> dict[str, Plain]:
        last = self._attempts[-1] if self._attempts else None
        return {
            "name": self._name, "state": str(self._state), "attempts": len(self._attempts),
            "function": self._function, "arguments": self._shown,
            "run": None if self._run is None else self._run.persistent_id,
            "started": None if last is None else last.started, "ended": None if last is None else last.ended,
            "error": "" if last is None else last.error[:ERROR_SHOWN],
            "code": None if last is None or last.code is None else last.code.summary,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Job {self._name}: {self._state}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name!r} is asked of the job {self.__dict__.get('_name', '')!r}, which has not run yet inside a flow:"
            " pass the job itself to another job, which gets its result."
        )


class Settings:
    """What `@job(…)` was told: `retries`, `timeout` (seconds), `idempotent`."""

    __slots__ = ("idempotent", "retries", "timeout")

    def __init__(self, retries: int = 0, timeout: float | None = None, idempotent: bool = False):
        self.retries = retries
        self.timeout = timeout
        self.idempotent = idempotent

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and all(getattr(self, n) == getattr(other, n) for n in self.__slots__)

    __hash__ = None  # type: ignore[assignment]


class Run(Persistable):
    """One execution of a flow, with its whole history. Made by `perdure.start`."""

    __record_internal__ = True

    def __init__(self, flow: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any], jobs: list[Job], value: Any):
        self._flow = flow
        self._source = source
        self._args = args
        self._kwargs = kwargs
        self._jobs = jobs
        self._value = value
        self._state = RunState.WAITING
        self._owner: Owner | None = None
        self._created = time.time()
        self._ended: float | None = None
        for job in jobs:
            job._run = self

    @property
    def id(self) -> str | None:
        return self.persistent_id

    @property
    def flow(self) -> str:
        """The flow's name, `module:qualified.name`."""
        return self._flow

    @property
    def source(self) -> str:
        """The file or module that the flow was taken from, as far as it can be named without an absolute path."""
        return self._source

    @property
    def created(self) -> float:
        return self._created

    @property
    def ended(self) -> float | None:
        newest(self)
        return self._ended

    @property
    def state(self) -> RunState:
        """The state now; `interrupted` when the process that owned it is gone."""
        newest(self)
        if self._state not in ENDED and not self.owned():
            return RunState.INTERRUPTED
        return self._state

    @property
    def stored_state(self) -> RunState:
        """The state as the record has it, whoever owns the run."""
        return self._state

    @property
    def owner(self) -> Owner | None:
        return self._owner

    def owned(self) -> bool:
        """Whether the process that drives this run still lives."""
        return self._owner is not None and self._owner.lives()

    def jobs(self) -> list[Job]:
        """The jobs, in the order in which the flow made them."""
        newest(self)
        return list(self._jobs)

    def job(self, name: str) -> Job:
        """The first job of that id or name; raises `NotFound`."""
        for job in self._jobs:
            if name in (job.persistent_id, job.name):
                return job
        raise NotFound(f"{self.id} has no job {name!r}.", hint="`perdure show` lists them.", ids=(self.id or "",))

    def result(self) -> Any:
        """What the flow returned, jobs in it replaced by their results.

        Raises `RunFailed` (`.failures`: name of the job -> error text) or `ResultNotReady`.
        """
        state = self.state
        if state in (RunState.WAITING, RunState.RUNNING):
            raise ResultNotReady(f"{self.id} is {state}.")
        if state is not RunState.SUCCEEDED:
            failures = self.failures()
            shown_ = "; ".join(f"{name}: {error}" for name, error in list(failures.items())[:3])
            more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
            raise RunFailed(
                f"{self.id} {state}. {shown_}{more}".rstrip(),
                hint="perdure rerun does again what failed and what depends on it.",
                ids=(self.id or "",),
                failures=failures,
            )
        return replaced(self._value, Job, Job.result)

    def failures(self) -> dict[str, str]:
        """For each job that failed or was interrupted: its name (with its id) and the error's last line."""
        found = {}
        for job in self.jobs():
            if job.stored_state in (JobState.FAILED, JobState.INTERRUPTED) or job.state is JobState.INTERRUPTED:
                last = job.attempts[-1] if job.attempts else None
                text = f"{last.error_type}: {last.error}" if last is not None and last.error_type else str(job.state)
                found[f"{job.name} ({job.persistent_id})"] = text
        return found

    def go(self, state: RunState) -> None:
        """Change the state; raises `IllegalTransition`."""
        self._state = next_run_state(self._state, state, self.id or "The run")

    def begin(self, owner: Owner) -> None:
        """The run belongs to `owner` from now on."""
        self.go(RunState.RUNNING)
        self._owner = owner
        self._ended = None

    def end(self, state: RunState, at: float) -> None:
        """The run has ended."""
        self.go(state)
        self._owner = None
        self._ended = at

    def __record_fields__(self) -> dict[str, Plain]:
        return {
            "flow": self._flow, "source": self._source, "state": str(self._state), "created": self._created,
            "ended": self._ended, "jobs": len(self._jobs), "arguments": shown(self._args, self._kwargs),
            "owner": None if self._owner is None else self._owner.header(),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self._flow}: {self._state}>"


def newest(obj: Persistable) -> None:
    """Move the view of `obj` forward, so that what is read next is the newest revision."""
    entry = entry_of(obj)
    if entry is not None:
        entry.view.refresh()
