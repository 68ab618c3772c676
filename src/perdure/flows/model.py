"""Runs, jobs and attempts as objects of a store: the graph of jobs is a graph of objects.

- A `Run` refers to its jobs, a `Job` to what it needs, to its attempts and, through them, to its result.
- What lists show stands in the records' headers, so that it can be read without unpickling.
- States change only through `go`, which knows the legal steps.
- Properties read the newest revision: outside a transaction each access moves the view forward. What begins with
  `stored` is as the record was last read: for the engine, which holds the newest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from perdure.errors import NotFound, ResultNotReady, RunFailed
from perdure.flows.arguments import jobs_in, replaced, shown
from perdure.flows.attempts import ERROR_SHOWN, Arguments, Attempt, RanCode, Settings
from perdure.flows.states import ENDED, JobState, RunState, StoredState, next_job_state, next_run_state
from perdure.objects.instances.persistable import Persistable, entry_of
from perdure.objects.views.view import View
from perdure.ownership import Owner
from perdure.records.values import Plain

__all__ = ["Attempt", "Job", "Run", "Settings", "newest"]


class Job(Persistable):
    """A call of a `@job` function in a flow: its arguments may be other jobs, whose results it then gets."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True
    _state = StoredState(JobState)

    def __init__(self, name: str, function: str, args: tuple[Any, ...], kwargs: dict[str, Any], settings: Settings):
        self._name = name
        self._function = function
        self._arguments = Arguments(args, kwargs)
        self._shown = ""
        self._settings = (settings.retries, settings.timeout, settings.idempotent)  # records hold plain values
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
    def arguments(self) -> Arguments:
        """The record that holds `args` and `kwargs`."""
        return self._arguments

    @property
    def args(self) -> tuple[Any, ...]:
        return self._arguments.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._arguments.kwargs

    @property
    def settings(self) -> Settings:
        return Settings(*self._settings)

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
        if self._state is JobState.RUNNING and self._run is not None and self._run.state is RunState.INTERRUPTED:
            return JobState.INTERRUPTED
        return self._state

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt, oldest first."""
        newest(self)
        return list(self._attempts)

    @property
    def last_attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self._attempts[-1] if self._attempts else None

    @property
    def stored_state(self) -> JobState:
        """The state as the record has it, whoever owns the run."""
        return self._state

    def result(self) -> Any:
        """What the job returned; raises `ResultNotReady` unless it succeeded."""
        state, last = self.state, self.last_attempt
        if state is not JobState.SUCCEEDED or last is None:
            error = f": {last.error}" if last is not None and last.error else ""
            raise ResultNotReady(f"{self._name} is {state}{error}.")
        return last.result()

    # -- for the engine ----------------------------------------------------------------------------------

    def belong(self, run: Run) -> None:
        """The flow is built: what the job needs, and what lists show of it, is now certain."""
        self._run = run
        self._needs = jobs_in((self.args, self.kwargs), Job)
        self._shown = shown(self.args, self.kwargs, _shown)

    def go(self, state: JobState) -> None:
        """Change the state; raises `IllegalTransition`."""
        self._state = next_job_state(self._state, state, self._name)
        self.changed = True

    def start(self, *, host: str, pid: int, at: float, code: RanCode) -> Attempt:
        """A new attempt, which runs from now on."""
        self.go(JobState.RUNNING)
        number = len(self._attempts) + 1
        attempt = Attempt(self, number, host=host, pid=pid, started=at, code=code)
        self._attempts.append(attempt)
        return attempt

    def fail(self) -> bool:
        """It failed; gives whether it is to be tried once more, and waits for that."""
        again = self._tries_left > 0
        self._tries_left -= again
        self.go(JobState.WAITING if again else JobState.FAILED)
        return again

    def wait_again(self) -> None:
        """To be run again, with all its tries."""
        if self._state is not JobState.WAITING:
            self.go(JobState.WAITING)
        self._tries_left = self.settings.retries

    def cut_off(self, at: float) -> None:
        """The process that ran it is gone."""
        self.go(JobState.INTERRUPTED)
        self._attempts[-1].cut_off(at)

    def __record_fields__(self) -> dict[str, Plain]:
        last = self.last_attempt
        return {
            "name": self._name, "state": str(self._state), "attempts": len(self._attempts),
            "function": self._function, "arguments": self._shown,
            "run": None if self._run is None else self._run.persistent_id,
            "started": None if last is None else last.started, "ended": None if last is None else last.ended,
            "error": "" if last is None else last.error[:ERROR_SHOWN],
            "code": None if last is None else last.code_summary,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Job {self._name}: {self._state}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{name!r} is asked of the job {self.__dict__.get('_name', '')!r}, which stands for a result that is not"
            " there yet: pass the job itself to another job, which gets its result."
        )


class Run(Persistable):
    """One execution of a flow, with its whole history. Made by `perdure.start`."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True
    _state = StoredState(RunState)

    def __init__(
        self, flow: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any], jobs: list[Job], value: Any
    ):
        self._flow = flow
        self._source = source
        self._shown = shown(args, kwargs, _shown)
        self._jobs = jobs
        self._returned = (value,)  # in a tuple: a job that is returned must not get its id before the others
        self._state = RunState.WAITING
        self._owner: tuple[str, int, int, str, str] | None = None
        self._created = time.time()
        self._ended: float | None = None
        # A record apart: a run can be looked at where they cannot be loaded. In a tuple: as for what is returned.
        self._given = (Arguments(args, kwargs),)
        for job in jobs:
            job.belong(self)

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
    def args(self) -> tuple[Any, ...]:
        """What the flow was called with."""
        return self._given[0].args

    @property
    def kwargs(self) -> dict[str, Any]:
        """What the flow was called with, by name."""
        return self._given[0].kwargs

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
        if self._state in ENDED or self.owned():
            return self._state
        newest(self)  # it may have ended, or found a new owner, between the two looks
        return self._state if self._state in ENDED or self.owned() else RunState.INTERRUPTED

    @property
    def stored_state(self) -> RunState:
        """The state as the record has it, whoever owns the run."""
        return self._state

    @property
    def owner(self) -> Owner | None:
        return None if self._owner is None else Owner(*self._owner)

    def owned(self) -> bool:
        """Whether the process that drives this run still lives."""
        owner = self.owner
        return owner is not None and owner.lives()

    def jobs(self) -> list[Job]:
        """The jobs, in the order in which the flow made them."""
        newest(self)
        return self.stored_jobs()

    def stored_jobs(self) -> list[Job]:
        """The jobs as they were last read, all loaded at once."""
        load_together(self._jobs)
        return list(self._jobs)

    def job(self, name: str) -> Job:
        """The first job of that id or name; raises `NotFound`."""
        for job in self.jobs():
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
                f"{self.id} {_ENDINGS[state]}. {shown_}{more}".rstrip(),
                hint="perdure rerun does again what failed and what depends on it.",
                ids=(self.id or "",),
                failures=failures,
            )
        jobs = jobs_in(self._returned, Job)
        load_together(jobs)
        load_together(attempts := [job.last_attempt for job in jobs])
        load_together(attempt.outcome for attempt in attempts if attempt is not None)
        return replaced(self._returned, Job, Job.result)[0]

    def failures(self) -> dict[str, str]:
        """For each job that failed or was interrupted: its name (with its id) and the error's text."""
        gone = self.state is RunState.INTERRUPTED
        bad = {JobState.FAILED, JobState.INTERRUPTED} | ({JobState.RUNNING} if gone else set())
        jobs = [job for job in self.stored_jobs() if job.stored_state in bad]
        load_together(job.last_attempt for job in jobs)
        found = {}
        for job in jobs:
            last = job.last_attempt
            state = JobState.FAILED if job.stored_state is JobState.FAILED else JobState.INTERRUPTED
            text = f"{last.error_type}: {last.error}" if last is not None and last.error_type else str(state)
            found[f"{job.name} ({job.persistent_id})"] = text
        return found

    # -- for the engine ----------------------------------------------------------------------------------

    def go(self, state: RunState) -> None:
        """Change the state; raises `IllegalTransition`."""
        self._state = next_run_state(self._state, state, self.id or "The run")
        self.changed = True

    def begin(self, owner: Owner) -> None:
        """The run belongs to `owner` from now on."""
        self.go(RunState.RUNNING)
        self._owner = (owner.host, owner.pid, owner.process_start, owner.token, owner.place)
        self._ended = None

    def end(self, state: RunState, at: float) -> None:
        """The run has ended."""
        self.go(state)
        self._owner = None
        self._ended = at

    def __record_fields__(self) -> dict[str, Plain]:
        return {
            "flow": self._flow, "source": self._source, "state": str(self._state), "created": self._created,
            "ended": self._ended, "jobs": len(self._jobs), "arguments": self._shown,
            "owner": None if self._owner is None else Owner(*self._owner).header(),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self._flow}: {self._state}>"


_ENDINGS = {
    RunState.FAILED: "failed",
    RunState.CANCELLED: "was cancelled",
    RunState.INTERRUPTED: "was interrupted",
}


def newest(obj: Persistable) -> None:
    """Move the view of `obj` forward, so that what is read next is the newest revision."""
    view = view_of(obj)
    if view is not None:
        view.refresh()


def view_of(obj: Persistable) -> View | None:
    """The view that a stored object belongs to."""
    entry = entry_of(obj)
    return entry.view if entry is not None and isinstance(entry.view, View) else None


def load_together(objects: Iterable[Persistable | None]) -> None:
    """Read the states of all these objects at once, where they are not in memory yet."""
    stored = [obj for obj in objects if obj is not None and obj.persistent_id is not None]
    view = view_of(stored[0]) if stored else None
    if view is not None:
        view.load_many([obj.persistent_id or "" for obj in stored])


def _shown(obj: Persistable) -> str:
    """An object among the arguments: a job by its name, anything else by its id."""
    return obj.name if isinstance(obj, Job) else obj.persistent_id or type(obj).__name__
