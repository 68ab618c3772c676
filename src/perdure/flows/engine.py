"""The engine: drives one run from its stored state to its end.

- Every step is one commit: the ends of jobs that have come in, and the starts of jobs that go out next. A job is only
  handed out when the commit that says so, with every result that it needs, is durable.
- The engine works in a view of its own; what it decides by are plain values (`Graph`), so that no step touches more
  objects than it changes.
- What a worker hands back is checked before it is stored: names resolve, references exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from perdure.code.capture import capture
from perdure.code.functions import function_digest
from perdure.code.values import CodeState
from perdure.errors import ConflictError, OtherCode, PerdureError, UnloadableResult
from perdure.flows.attempts import Attempt, RanCode, Result
from perdure.flows.definitions import job_function
from perdure.flows.executors.base import Executor
from perdure.flows.graph import Graph
from perdure.flows.model import Job, Run
from perdure.flows.recorded import RecordedCode
from perdure.flows.resources import with_extra_fields
from perdure.flows.states import ENDED, JobState, RunState
from perdure.flows.tasks import KeptNumbers, Outcome, Task, failure
from perdure.objects.coding import Codes
from perdure.objects.store import Store
from perdure.ownership import Owner, host_name
from perdure.pickling.classes import find

LOOKED_AT = 1_000  # jobs among which those are looked for that can share a process


class Progress(NamedTuple):
    """How far a run is, for whoever watches: numbers of jobs, and the id of the run."""

    total: int
    ended: int
    failed: int
    running: int
    run: str = ""


Watcher = Callable[[Progress], None]


class Engine:
    """Drives the run of that id in `store`, which must be the engine's own (nobody else's view is used).

    `recorded` is the code that jobs are to run with, by their ids, if not with the code that is here.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        executor: Executor,
        watcher: Watcher | None = None,
        recorded: Mapping[str, RecordedCode] | None = None,
    ):
        self._store = store
        self._desk = store.desk()
        self._desk.require_writable()
        self._desk.naming.numbers = KeptNumbers(store.backend)
        self._run: Run = store.load(run_id)
        self._executor = executor
        self._watcher = watcher
        self._records_code = self._desk.view.code != "off"
        self._codes = Codes(store, texts=self._desk.view.code != "commits")
        self._definitions: dict[str, RanCode] = {}
        self._reported: dict[tuple[int, str], RanCode] = {}  # by the process that ran it, and the function
        self._found: set[str] = set()  # names that are known to resolve
        held = {id_: store.load(id_) for id_ in dict.fromkeys(code.id for code in (recorded or {}).values())}
        self._recorded = {
            job: RanCode(held[code.id], code.summary, code.digest) for job, code in (recorded or {}).items()
        }
        self._graph = Graph()
        self._jobs: dict[str, Job] = {}
        self._results: dict[str, str] = {}  # id of a job -> id of the record that holds its result
        self._out: dict[str, Attempt] = {}

    @property
    def run(self) -> Run:
        """The run, in the engine's own view."""
        return self._run

    def begin(self, owner: Owner, prepare: Callable[[Run], None]) -> None:
        """One commit: `prepare` says which jobs wait, and the run belongs to `owner`."""
        self._run.stored_jobs()
        with self._store.transaction(note=f"{self._run.id} begins"):
            prepare(self._run)
            self._run.begin(owner)

    def drive(self) -> None:
        """Run every waiting job whose needs succeed, until none is left; a run that has begun always ends."""
        self._executor.resources = with_extra_fields(
            self._store.resources, self._store.extra_fields, elsewhere=self._executor.elsewhere
        )
        self._executor.open(self._store.backend, self._store.key)
        try:
            self._read()
            handed_out = self._step([])
            while self._out:
                for task, pid in handed_out:
                    self._executor.submit(task, pid)
                self._report()
                handed_out = self._step(self._executor.wait())
            self._report()
        except KeyboardInterrupt:
            self._executor.close()  # first of all: what is said to be cut off must not run on
            self._cancel()
            raise
        finally:
            self._executor.close()

    def _read(self) -> None:
        """What the engine decides by, from the stored jobs."""
        self._jobs = {job.persistent_id or "": job for job in self._run.stored_jobs()}
        self._graph = Graph()
        self._out.clear()
        self._results.clear()
        for id_, job in self._jobs.items():
            self._graph.add(id_, job.stored_state, [need.persistent_id or "" for need in job.needs])
            if job.stored_state is JobState.WAITING and id_ not in self._recorded:
                self._define(job.function)
            last = job.last_attempt
            if job.stored_state is JobState.RUNNING and last is not None:
                self._out[id_] = last
        self._graph.complete()

    # -- one step ----------------------------------------------------------------------------------------

    def _step(self, outcomes: Iterable[Outcome]) -> list[tuple[Task, int]]:
        """Commit what has come in and what goes out now; gives the tasks to hand out, and to which worker."""
        checked = _first_wins([self._checked(outcome) for outcome in outcomes])
        while True:
            try:
                return self._commit(checked)
            except ConflictError as error:
                # Somebody else changed an object that a job changed as well: that job has failed, the others have not.
                hit = [outcome for outcome in checked if _drafts_any(outcome, error.ids)]
                if not hit:
                    raise
                self._read()
                checked = [failure(o.job, o.started, error, o.code) if o in hit else o for o in checked]

    def _commit(self, outcomes: list[Outcome]) -> list[tuple[Task, int]]:
        for outcome in outcomes:
            self._learn(outcome)
        with self._store.transaction() as transaction:
            for outcome in outcomes:
                code = self._end(outcome)
                transaction.step.indexed.update(outcome.indexed)
                transaction.step.drafts.extend(draft._replace(code=code) for draft in outcome.drafts)
                transaction.step.buffers.update(outcome.buffers)
            for id_ in self._graph.take_hopeless():
                self._jobs[id_].go(JobState.SKIPPED)
            started = [(self._start(id_, pid), pid) for id_, pid in self._next()]
            if not self._out:
                self._run.end(self._graph.final_state(), time.time())
        return self._tasks(started, transaction.revision or 0)

    def _next(self) -> list[tuple[str, int]]:
        """The jobs that start now, and the processes that run them."""
        ready = self._graph.ready
        if not self._recorded:
            return [(ready.popleft(), pid) for pid in self._executor.idle(len(ready))]
        ids = list(islice(ready, LOOKED_AT))
        started = [(ids[place], pid) for place, pid in self._executor.places([self._kind(id_) for id_ in ids])]
        for id_, _ in started:
            ready.remove(id_)
        return started

    def _kind(self, id_: str) -> str:
        """What tells jobs apart that cannot share a process: the recorded code that they run with."""
        recorded = self._recorded.get(id_)
        return "" if recorded is None or recorded.record is None else recorded.record.persistent_id or ""

    def _start(self, id_: str, pid: int) -> str:
        job = self._jobs[id_]
        code = self._recorded.get(id_) or self._reported.get((pid, job.function)) or self._definitions[job.function]
        self._out[id_] = job.start(host=host_name(), pid=pid, at=time.time(), code=code)
        self._graph.go(id_, JobState.RUNNING)
        return id_

    def _end(self, outcome: Outcome) -> str:
        """The attempt and the job learn what came of them; gives the id of the code record."""
        id_ = outcome.job
        job, attempt = self._jobs[id_], self._out.pop(id_)
        if outcome.code is not None:
            attempt.ran_with(self._recorded.get(id_) or self._reported[attempt.pid, job.function])
        if outcome.result is not None:
            held = self._desk.view.expect(outcome.result, Result)
            attempt.succeed(held, outcome.started, outcome.ended)
            self._results[id_] = outcome.result
            job.go(JobState.SUCCEEDED)
        else:
            error = (outcome.error_type, outcome.error, outcome.traceback)
            attempt.fail(*error, outcome.started, outcome.ended)
            job.fail()
        self._graph.go(id_, job.stored_state)
        if attempt.code is None:
            return ""
        return attempt.code.persistent_id or self._store.save(attempt.code)

    def _tasks(self, started: list[tuple[str, int]], revision: int) -> list[tuple[Task, int]]:
        """The tasks of jobs that have started, with the records that they will read: one read for all of them."""
        needs = {id_: {need: self._result_of(need) for need in self._graph.needs[id_]} for id_, _ in started}
        arguments = {id_: self._jobs[id_].arguments.persistent_id or "" for id_, _ in started}
        wanted = [*arguments.values(), *(result for found in needs.values() for result in found.values())]
        frames = self._store.backend.read(dict.fromkeys(wanted), revision) if wanted else {}
        tasks = []
        for id_, pid in started:
            job = self._jobs[id_]
            brought = {record: frames[record] for record in (arguments[id_], *needs[id_].values()) if record in frames}
            task = Task(
                id_, job.name, job.function, revision, job.settings.timeout, arguments[id_], needs[id_], brought
            )
            tasks.append((task, pid))
        return tasks

    def _result_of(self, id_: str) -> str:
        """The id of the record with a job's result."""
        found = self._results.get(id_)
        if found is None:
            last = self._jobs[id_].last_attempt
            assert last is not None
            assert last.outcome is not None
            found = self._results[id_] = last.outcome.persistent_id or ""
        return found

    def _cancel(self) -> None:
        """Ctrl-C: what is out was cut off, what waits is cancelled."""
        self._store.load(self._run.id or "")  # a commit that was just being made may be there, or not
        if self._run.stored_state in ENDED:
            return
        self._read()
        with self._store.transaction(note="cancelled"):
            now = time.time()
            for id_, job in self._jobs.items():
                if id_ in self._out:
                    job.cut_off(now)
                elif job.stored_state is JobState.WAITING:
                    job.go(JobState.CANCELLED)
            self._run.end(RunState.CANCELLED, now)
        self._out.clear()

    # -- code and checks ---------------------------------------------------------------------------------

    def _define(self, function: str) -> None:
        """Find out the code of a job's function; once per function and engine, and not within a transaction."""
        if function not in self._definitions:
            try:
                digest = function_digest(job_function(function))
            except (Exception, SystemExit):  # noqa: BLE001  # imports the user's code; the attempt will say it
                digest = ""
            self._definitions[function] = self._ran(capture([function.partition(":")[0]]), digest)

    def _learn(self, outcome: Outcome) -> None:
        """Another process tells the code that it ran the job with: it may have imported a later state of it."""
        if outcome.code is not None and outcome.job not in self._recorded:
            state, digest = outcome.code
            key = (self._out[outcome.job].pid, self._jobs[outcome.job].function)
            self._reported[key] = self._ran(state, digest)

    def _ran(self, state: CodeState, digest: str) -> RanCode:
        """What an attempt notes of the code; nothing but the function's digest where the store makes no records."""
        if not self._records_code:
            return RanCode(None, None, digest)
        return RanCode(self._codes.record_of(state), state.summary(), digest)

    def _checked(self, outcome: Outcome) -> Outcome:
        """The outcome, or a failure if what it holds could not be loaded again."""
        recorded = self._recorded.get(outcome.job)
        try:
            if recorded is not None:
                _refuse_other_code(outcome, recorded)
            if outcome.result is None:
                return outcome
            if recorded is None:
                for name in outcome.names - self._found:
                    find(name)  # imported as loading would
                self._found |= outcome.names
            self._refuse_dangling(outcome)
        except OtherCode as error:
            return failure(outcome.job, outcome.started, error, outcome.code)
        except PerdureError as error:
            told = UnloadableResult(f"What the job returned could not be loaded again: {error}", ids=(outcome.job,))
            return failure(outcome.job, outcome.started, told, outcome.code)
        return outcome

    def _refuse_dangling(self, outcome: Outcome) -> None:
        own = {draft.id for draft in outcome.drafts}
        others = {id_ for draft in outcome.drafts for id_ in draft.references} - own
        absent = others - self._store.backend.classes(others).keys() if others else set()
        if absent:
            raise UnloadableResult(f"It refers to {', '.join(sorted(absent))}, which the store does not hold.")

    def _report(self) -> None:
        if self._watcher is not None:
            counts = self._graph.counts
            waiting, running = counts[JobState.WAITING], counts[JobState.RUNNING]
            total = len(self._jobs)
            ended = total - waiting - running
            self._watcher(Progress(total, ended, counts[JobState.FAILED], running, self._run.id or ""))


def _first_wins(outcomes: list[Outcome]) -> list[Outcome]:
    """Of jobs that end in one step and changed the same object, all but the first have failed."""
    taken: dict[str, str] = {}
    result = []
    for outcome in outcomes:
        met = [draft.id for draft in outcome.drafts if draft.id in taken]
        if met:
            told = ConflictError(
                f"{', '.join(met)} was changed by {taken[met[0]]} at the same time.",
                hint="Let one job take the other's result, or declare retries.",
                ids=met,
            )
            outcome = failure(outcome.job, outcome.started, told, outcome.code)
        taken.update({draft.id: outcome.job for draft in outcome.drafts})
        result.append(outcome)
    return result


def _drafts_any(outcome: Outcome, ids: Iterable[str]) -> bool:
    wanted = set(ids)
    return any(draft.id in wanted for draft in outcome.drafts)


def _refuse_other_code(outcome: Outcome, recorded: RanCode) -> None:
    """Raise `OtherCode` if the worker tells another text of a module than the record."""
    if outcome.code is None or recorded.record is None:
        return
    before = {module.name: module.digest for module in recorded.record.state.modules}
    for module in outcome.code.state.modules:
        if before.get(module.name, module.digest) != module.digest:
            raise OtherCode(
                f"It ran with another {module.name} than the one of {recorded.record.persistent_id}.",
                hint="Something on the import path of the interpreter's installation stands in its way.",
            )
