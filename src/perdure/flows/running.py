"""Start a flow, run again what failed, go on where a run was cut off.

- `start` and `rerun` never raise for a job's failure: the run says how it ended.
- The run and its jobs are saved, in the caller's view, before the first of them is handed out.
- Only one process drives a run: an owner that lives is never pushed aside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from perdure.code.functions import function_digest
from perdure.errors import ClassNotFound, ConflictError, CyclicFlow, FlowError, RunAlive
from perdure.flows.definitions import LOCAL, Flow, job_function
from perdure.flows.engine import Engine, Watcher
from perdure.flows.executors.base import Executor
from perdure.flows.executors.inline import InlineExecutor
from perdure.flows.executors.processes import ProcessesExecutor
from perdure.flows.executors.worker import inside_worker
from perdure.flows.model import Job, Run
from perdure.flows.ownership import ownership
from perdure.flows.states import ENDED, UNDONE, JobState
from perdure.objects.persistable import entry_of
from perdure.objects.store import Store
from perdure.objects.stores import MemoryStore, make_store
from perdure.objects.view import View

ExecutorChoice = Executor | str | None
Prepare = Callable[[Run], None]


def start(
    flow: Flow[..., Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    store: Store | str | None = None,
    executor: ExecutorChoice = None,
    workers: int | None = None,
    wait: bool = True,
    watch: Watcher | None = None,
    source: str = "",
) -> Run:
    """Build the flow's jobs from these arguments, save them, run them; returns when the run has ended.

    With `wait=False` it returns at once and the run goes on in a thread. `executor` is `inline` (the default),
    `processes` (`workers` of them; default: as many as cores) or an `Executor`; without a `store` one in memory is
    used. `watch` is called with a `Progress` after each step. Raises what the flow function raises, `FlowError`,
    `CyclicFlow`, and a store's errors.
    """
    if inside_worker():
        raise FlowError(
            "perdure.start was called while a worker imported the module of a job.",
            hint='Put it under `if __name__ == "__main__":`.',
        )
    if not isinstance(flow, Flow):
        raise FlowError(f"{getattr(flow, '__name__', flow)!r} is no flow.", hint="Decorate it with @perdure.flow.")
    chosen = _executor(executor, workers)
    opened = _store(store)
    given = dict(kwargs or {})
    jobs, value = flow.build(args, given)
    _refuse_cycles(jobs)
    _refuse_local(jobs, chosen)
    run = Run(flow.name, source or flow.source, args, given, jobs, value)
    if opened.desk().transaction is not None:
        raise FlowError("A run cannot be started inside a transaction.", hint="Start it after the block.")
    with opened.transaction(note=f"start of {flow.name}"):
        opened.save(run)
    _drive(run, chosen, _nothing, wait, watch)
    return run


def rerun(
    run: Run | str,
    *,
    store: Store | str | None = None,
    from_job: str | None = None,
    all: bool = False,
    executor: ExecutorChoice = None,
    workers: int | None = None,
    wait: bool = True,
    watch: Watcher | None = None,
) -> Run:
    """Run again what failed, was interrupted, cancelled or skipped; what succeeded stays as it is.

    With `from_job` (an id or name) that job and all that depends on it; with `all` every job. The run keeps its
    history: new attempts are added. Raises `RunAlive` as long as its owner lives, `NotFound` for a job that is none.
    """
    found = _run(run, store)
    chosen = _executor(executor, workers)

    def prepare(stored: Run) -> None:
        for job in jobs_to_rerun(stored, from_job=from_job, all=all):
            job.wait_again()

    _drive(found, chosen, prepare, wait, watch)
    return found


def resume(
    run: Run | str,
    *,
    store: Store | str | None = None,
    executor: ExecutorChoice = None,
    workers: int | None = None,
    wait: bool = True,
    watch: Watcher | None = None,
) -> Run:
    """Go on with a run whose process is gone, or that was cancelled: finished jobs are never run again.

    A job that was cut off while running is run again if it is idempotent; otherwise it is `interrupted`, and waits for
    `rerun`. Raises `RunAlive` as long as the owner lives, `FlowError` for a run that has ended by itself.
    """
    found = _run(run, store)
    chosen = _executor(executor, workers)
    if found.state in ENDED and found.stored_state in ENDED and not _resumable(found):
        raise FlowError(f"{found.id} has ended: it {found.state}.", hint="perdure rerun runs what failed again.")

    def prepare(stored: Run) -> None:
        for job in stored.jobs():
            cut_off = job.stored_state is JobState.INTERRUPTED and job.settings.idempotent
            if cut_off or job.stored_state in (JobState.SKIPPED, JobState.CANCELLED):
                job.wait_again()

    _drive(found, chosen, prepare, wait, watch)
    return found


def jobs_to_rerun(run: Run, *, from_job: str | None = None, all: bool = False) -> list[Job]:
    """The jobs that `rerun` would run again."""
    jobs = run.jobs()
    if all:
        return jobs
    if from_job is None:
        return [job for job in jobs if job.stored_state in UNDONE or job.stored_state is JobState.RUNNING]
    chosen = [job for job in jobs if from_job in (job.persistent_id, job.name)] or [run.job(from_job)]
    marked = {id(job) for job in chosen}
    before = -1
    while before != len(marked):
        before = len(marked)
        marked.update(id(job) for job in jobs if any(id(need) in marked for need in job.needs))
    return [job for job in jobs if id(job) in marked]


def changed_functions(jobs: list[Job]) -> dict[str, str]:
    """The functions of these jobs that differ from their last attempt: name -> what is different."""
    changed: dict[str, str] = {}
    for job in jobs:
        if not job.attempts or job.function in changed:
            continue
        before = job.last_attempt.function_digest
        try:
            now = function_digest(job_function(job.function))
        except ClassNotFound:
            changed[job.function] = "is not here any more"
            continue
        if before and now != before:
            changed[job.function] = "has changed"
    return changed


def _drive(run: Run, executor: Executor, prepare: Prepare, wait: bool, watch: Watcher | None) -> None:
    view = _view(run)
    own = Store(view.backend, view.key, trust="all" if view.trust_all else None)
    engine = Engine(own, run.persistent_id or "", executor, watch)
    if wait:
        _drive_owned(engine, prepare)
        return
    begun = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _drive_owned(Engine(own, run.persistent_id or "", executor, watch), prepare, begun)
        except BaseException as error:
            if begun.is_set():
                raise
            failures.append(error)
        finally:
            begun.set()

    threading.Thread(target=work, name=f"perdure {run.persistent_id}").start()
    begun.wait()
    if failures:
        raise failures[0]


def _drive_owned(engine: Engine, prepare: Prepare, begun: threading.Event | None = None) -> None:
    run = engine.run
    if run.stored_state not in ENDED and run.owned():
        raise _alive(run)
    with ownership() as owner:
        try:
            engine.begin(owner, lambda stored: _settled(stored, prepare))
        except ConflictError as error:
            raise RunAlive(f"{run.id} was taken over by another process at this moment.", ids=(run.id or "",)) from error
        if begun is not None:
            begun.set()
        engine.drive()


def _settled(run: Run, prepare: Prepare) -> None:
    """Jobs that a process left running when it went are interrupted; then what the caller wants."""
    now = time.time()
    for job in run.jobs():
        if job.stored_state is JobState.RUNNING:
            job.cut_off(now)
    prepare(run)


def _nothing(run: Run) -> None:
    """All jobs of a new run wait already."""


def _alive(run: Run) -> RunAlive:
    return RunAlive(
        f"{run.id} belongs to {run.owner}, which lives (or cannot be looked at from here).",
        hint="Wait for it, or end that process first.",
        ids=(run.id or "",),
    )


def _resumable(run: Run) -> bool:
    return any(
        job.stored_state is JobState.CANCELLED or (job.stored_state is JobState.INTERRUPTED and job.settings.idempotent)
        for job in run.jobs()
    )


def _refuse_cycles(jobs: list[Job]) -> None:
    """Raise `CyclicFlow` naming the circle, if jobs need one another."""
    done: set[int] = set()
    for first in jobs:
        path: list[tuple[Job, list[Job]]] = [(first, list(first.needs))] if id(first) not in done else []
        while path:
            job, needs = path[-1]
            if not needs:
                done.add(id(job))
                path.pop()
                continue
            need = needs.pop()
            on_path = [step for step, _ in path]
            if any(step is need for step in on_path):
                start_at = next(place for place, step in enumerate(on_path) if step is need)
                circle = " → ".join(step.name for step in [*on_path[start_at:], need])
                raise CyclicFlow(f"Jobs need one another in a circle: {circle}.", path=circle)
            if id(need) not in done:
                path.append((need, list(need.needs)))


def _refuse_local(jobs: list[Job], executor: Executor) -> None:
    if isinstance(executor, InlineExecutor):
        return
    for job in jobs:
        if LOCAL in job.function:
            raise FlowError(
                f"{job.function} is defined inside another function, so a worker process cannot find it.",
                hint="Define it at the top level of a module, or use executor='inline'.",
            )


def _executor(choice: ExecutorChoice, workers: int | None) -> Executor:
    if isinstance(choice, Executor):
        return choice
    if choice is None or choice == "inline":
        return InlineExecutor()
    if choice == "processes":
        return ProcessesExecutor(workers)
    raise FlowError(f"There is no executor {choice!r}.", hint="There are: inline, processes.")


def _store(store: Store | str | None) -> Store:
    if store is None:
        return MemoryStore()
    opened = make_store(store) if isinstance(store, str) else store
    if not isinstance(opened, Store):
        raise FlowError(f"A run is kept in a perdure.Store, not in {type(opened).__name__}.")
    return opened


def _run(run: Run | str, store: Store | str | None) -> Run:
    if isinstance(run, Run):
        return run
    if store is None:
        raise FlowError(f"To find {run} by its id, the store is needed.", hint="Give store=…")
    found = _store(store).load(run)
    if not isinstance(found, Run):
        raise FlowError(f"{run} is no run, but a {type(found).__name__}.")
    return found


def _view(run: Run) -> View:
    entry = entry_of(run)
    if entry is None or not isinstance(entry.view, View):
        raise FlowError("The run is in no store.")
    return entry.view
