"""The engine: drives one run from its stored state to its end.

- Every step is one commit: the ends of jobs that have come in, and the starts of jobs that go out next. A job is only
  handed out when the commit that says so, with every result that it needs, is durable.
- The engine works in a view of its own; what it decides by are plain values, so that no step touches more objects than
  it changes.
- What a worker hands back is checked before it is stored: names resolve, references exist.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from perdure.code.functions import function_digest
from perdure.errors import ClassNotFound, ConflictError, PerdureError, UnloadableResult
from perdure.flows.definitions import job_function
from perdure.flows.executors.base import Executor
from perdure.flows.model import Attempt, Job, Result, Run
from perdure.flows.ownership import Owner, host_name
from perdure.flows.states import JobState, RunState
from perdure.flows.tasks import Outcome, Task, failure
from perdure.objects.coding import Code, Codes
from perdure.objects.store import Store
from perdure.pickling.classes import find


class Progress(NamedTuple):
    """How far a run is, for whoever watches: numbers of jobs, and the id of the run."""

    total: int
    ended: int
    failed: int
    running: int
    run: str = ""


Watcher = Callable[[Progress], None]


class Engine:
    """Drives the run of that id in `store`, which must be the engine's own (nobody else's view is used)."""

    def __init__(self, store: Store, run_id: str, executor: Executor, watcher: Watcher | None = None):
        self._store = store
        self._run: Run = store.load(run_id)
        self._executor = executor
        self._watcher = watcher
        self._codes = Codes(store)
        self._definitions: dict[str, tuple[Code | None, str]] = {}
        self._jobs: dict[str, Job] = {}
        self._states: dict[str, JobState] = {}
        self._needs: dict[str, list[str]] = {}
        self._dependents: dict[str, list[str]] = {}
        self._missing: dict[str, int] = {}  # needs of a waiting job that have not succeeded yet
        self._ready: deque[str] = deque()
        self._out: dict[str, Attempt] = {}

    @property
    def run(self) -> Run:
        """The run, in the engine's own view."""
        return self._run

    def begin(self, owner: Owner, prepare: Callable[[Run], None]) -> None:
        """One commit: `prepare` says which jobs wait, and the run belongs to `owner`."""
        with self._store.transaction(note=f"{self._run.id} begins"):
            prepare(self._run)
            self._run.begin(owner)
            self._read_graph()
            self._skip_hopeless()

    def drive(self) -> None:
        """Run every waiting job whose needs succeed, until none is left; a run that has begun always ends."""
        self._executor.open(self._store.backend, self._store.key)
        try:
            handed_out: list[tuple[Task, int]] = self._step([])
            while self._out:
                for task, pid in handed_out:
                    self._executor.submit(task, pid)
                self._report()
                handed_out = self._step(self._executor.wait())
            self._report()
        except KeyboardInterrupt:
            self._cancel()
            raise
        finally:
            self._executor.close()

    # -- the graph ---------------------------------------------------------------------------------------

    def _read_graph(self) -> None:
        """What the engine decides by, from the stored jobs."""
        for known in (self._states, self._dependents, self._missing, self._ready, self._out):
            known.clear()
        for job in self._run._jobs:
            id_ = job.persistent_id
            assert id_ is not None
            self._jobs[id_] = job
            self._states[id_] = job.stored_state
            if id_ not in self._needs:
                self._needs[id_] = [need.persistent_id or "" for need in job.needs]
            if job.stored_state is JobState.RUNNING:
                self._out[id_] = job.last_attempt
        for id_, needs in self._needs.items():
            for need in needs:
                self._dependents.setdefault(need, []).append(id_)
        for id_, state in self._states.items():
            if state is JobState.WAITING:
                self._missing[id_] = sum(self._states[need] is not JobState.SUCCEEDED for need in self._needs[id_])
                if not self._missing[id_]:
                    self._ready.append(id_)

    def _skip_hopeless(self) -> None:
        """Waiting jobs that need something that has ended without success never run."""
        for id_, state in list(self._states.items()):
            if state in (JobState.FAILED, JobState.INTERRUPTED, JobState.SKIPPED, JobState.CANCELLED):
                self._skip_dependents(id_)

    def _skip_dependents(self, id_: str) -> None:
        todo = [id_]
        while todo:
            for dependent in self._dependents.get(todo.pop(), ()):
                if self._states[dependent] is JobState.WAITING:
                    self._go(dependent, JobState.SKIPPED)
                    todo.append(dependent)

    def _go(self, id_: str, state: JobState) -> None:
        self._jobs[id_].go(state)
        self._states[id_] = state

    # -- one step ----------------------------------------------------------------------------------------

    def _step(self, outcomes: Iterable[Outcome]) -> list[tuple[Task, int]]:
        """Commit what has come in and what goes out now; gives the tasks to hand out, and to which worker."""
        checked = [self._checked(outcome) for outcome in outcomes]
        try:
            return self._commit(checked)
        except ConflictError as error:
            # Somebody else changed an object that a job changed as well: that job has failed, the others have not.
            hit = set(error.ids)
            self._read_graph()
            return self._commit(
                [
                    failure(outcome.job, outcome.started, error)
                    if hit.intersection(draft.id for draft in outcome.drafts)
                    else outcome
                    for outcome in checked
                ]
            )

    def _commit(self, outcomes: list[Outcome]) -> list[tuple[Task, int]]:
        with self._store.transaction() as transaction:
            for outcome in outcomes:
                code = self._out[outcome.job].code
                made_by = "" if code is None else code.persistent_id or ""
                transaction.step.drafts.extend(draft._replace(code=made_by) for draft in outcome.drafts)
                self._end(outcome)
            started = [
                (self._start(self._ready.popleft(), pid), pid) for pid in self._executor.idle(len(self._ready))
            ]
            if not self._out:
                self._run.end(self._final_state(), time.time())
        revision = transaction.revision or 0
        return [(Task(id_, revision, self._jobs[id_].settings.timeout), pid) for id_, pid in started]

    def _start(self, id_: str, pid: int) -> str:
        job = self._jobs[id_]
        code, digest = self._definition(job.function)
        attempt = Attempt(
            job, len(job._attempts) + 1, host=host_name(), pid=pid, started=time.time(), code=code, digest=digest
        )
        job._attempts.append(attempt)
        self._go(id_, JobState.RUNNING)
        self._out[id_] = attempt
        return id_

    def _end(self, outcome: Outcome) -> None:
        id_ = outcome.job
        job, attempt = self._jobs[id_], self._out.pop(id_)
        attempt.started, attempt.ended = outcome.started, outcome.ended
        if outcome.result is not None:
            attempt.state = JobState.SUCCEEDED
            attempt.outcome = self._store.desk().view.expect(outcome.result, Result)
            self._go(id_, JobState.SUCCEEDED)
            for dependent in self._dependents.get(id_, ()):
                if dependent in self._missing:
                    self._missing[dependent] -= 1
                    if not self._missing[dependent] and self._states[dependent] is JobState.WAITING:
                        self._ready.append(dependent)
            return
        attempt.state = JobState.FAILED
        attempt.error_type, attempt.error, attempt.traceback = outcome.error_type, outcome.error, outcome.traceback
        if job._tries_left > 0:
            job._tries_left -= 1
            self._go(id_, JobState.WAITING)
            self._ready.append(id_)
        else:
            self._go(id_, JobState.FAILED)
            self._skip_dependents(id_)

    def _final_state(self) -> RunState:
        states = set(self._states.values())
        for job_state, run_state in (
            (JobState.FAILED, RunState.FAILED),
            (JobState.INTERRUPTED, RunState.INTERRUPTED),
            (JobState.CANCELLED, RunState.CANCELLED),
        ):
            if job_state in states:
                return run_state
        return RunState.SUCCEEDED

    def _cancel(self) -> None:
        """Ctrl-C: what is out is cut off, what waits is cancelled."""
        self._read_graph()
        with self._store.transaction(note="cancelled"):
            now = time.time()
            for id_, attempt in self._out.items():
                attempt.state, attempt.ended = JobState.CANCELLED, now
                self._go(id_, JobState.CANCELLED)
            for id_, state in list(self._states.items()):
                if state is JobState.WAITING:
                    self._go(id_, JobState.CANCELLED)
            self._run.end(RunState.CANCELLED, now)
        self._out.clear()

    # -- code and checks ---------------------------------------------------------------------------------

    def _definition(self, function: str) -> tuple[Code | None, str]:
        """The code record of a job's function and the digest of its source; once per function and engine."""
        found = self._definitions.get(function)
        if found is None:
            try:
                digest = function_digest(job_function(function))
            except ClassNotFound:
                digest = ""  # the attempt will fail and say so
            found = self._definitions[function] = (self._codes.of([function.partition(":")[0]]), digest)
        return found

    def _checked(self, outcome: Outcome) -> Outcome:
        """The outcome, or a failure if what it holds could not be loaded again."""
        if outcome.result is None:
            return outcome
        try:
            for name in outcome.names:
                find(name)
            self._refuse_dangling(outcome)
        except PerdureError as error:
            told = UnloadableResult(f"What the job returned could not be loaded again: {error}", ids=(outcome.job,))
            return failure(outcome.job, outcome.started, told)
        return outcome

    def _refuse_dangling(self, outcome: Outcome) -> None:
        own = {draft.id for draft in outcome.drafts}
        others = {id_ for draft in outcome.drafts for id_ in draft.references} - own
        absent = others - self._store.backend.classes(others).keys() if others else set()
        if absent:
            raise UnloadableResult(f"It refers to {', '.join(sorted(absent))}, which the store does not hold.")

    def _report(self) -> None:
        if self._watcher is not None:
            states: list[Any] = list(self._states.values())
            waiting, running = states.count(JobState.WAITING), states.count(JobState.RUNNING)
            failed = states.count(JobState.FAILED)
            ended = len(states) - waiting - running
            self._watcher(Progress(len(states), ended, failed, running, self._run.id or ""))
