"""Start a flow, run again what failed, go on where a run was cut off.

- `start` and `rerun` never raise for a job's failure: the run says how it ended.
- The run and its jobs are saved, in the caller's view, before the first of them is handed out.
- Only one process drives a run: an owner that lives is never pushed aside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal, cast

from perdure.code.functions import function_digest
from perdure.errors import ClassNotFound, ConflictError, CyclicFlow, FlowError, RunAlive
from perdure.flows.arguments import jobs_in
from perdure.flows.definitions import Flow, is_looking, job_function, why_only_here
from perdure.flows.engine import Engine, Watcher
from perdure.flows.executors.base import Executor
from perdure.flows.executors.inline import InlineExecutor
from perdure.flows.executors.processes import ProcessesExecutor
from perdure.flows.executors.recorded import Code, RecordedExecutor
from perdure.flows.executors.worker import inside_worker
from perdure.flows.model import Job, Run, load_together, newest, view_of
from perdure.flows.recorded import Match, RecordedCode, codes_of, match
from perdure.flows.states import ENDED, UNDONE, JobState
from perdure.objects.store import CodeChoice, Store
from perdure.objects.stores import MemoryStore, make_store
from perdure.objects.transactions.commits import Desk
from perdure.objects.views.view import View
from perdure.ownership import Owner, ownership

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
    _refuse_here()
    if not isinstance(flow, Flow):
        raise FlowError(f"{getattr(flow, '__name__', flow)!r} is no flow.", hint="Decorate it with @perdure.flow.")
    chosen = _executor(executor, workers)
    opened = _store(store)
    _refuse_transaction(opened.desk())
    given = dict(kwargs or {})
    jobs, value = flow.build(args, given)
    run = Run(flow.name, source or flow.source, args, given, jobs, value)
    _refuse_strangers(jobs, value)
    _refuse_cycles(jobs)
    _refuse_local(jobs, chosen)
    with ExitStack() as held:
        run.begin(held.enter_context(ownership()))
        with opened.transaction(note=f"start of {flow.name}"):
            opened.save(run)
        _drive(run, chosen, None, wait, watch, held.pop_all())
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
    code: Literal["recorded"] | None = None,
    environment: Literal["recorded"] | None = None,
) -> Run:
    """Run again what failed, was interrupted, cancelled or skipped; what succeeded stays as it is.

    With `from_job` (an id or name) that job and all that depends on it; with `all` every job. The run keeps its
    history: new attempts are added. Raises `RunAlive` as long as its owner lives, `NotFound` for a job that is none.
    With `code="recorded"` each job runs with the code of its last attempt, in processes that have nothing else of it
    (`recorded_code` tells how close that comes); with `environment="recorded"` in an environment made for it by `uv`.
    Raises `SourceMissing` where the code is not to be had, `NoEnvironment`.
    """
    _refuse_here()
    found = _run(run, store)
    recorded: dict[str, RecordedCode] = {}
    if _is_recorded(code, environment):
        jobs = jobs_to_rerun(found, from_job=from_job, all=all)
        matches = recorded_code(found, jobs, environment=environment)
        recorded = codes_of(jobs)
        codes = {id_: Code(each.roots, each.python) for id_, each in matches.items()}
        chosen: Executor = RecordedExecutor(codes, workers)
    else:
        chosen = _executor(executor, workers)

    def prepare(stored: Run) -> None:
        for job in jobs_to_rerun(stored, from_job=from_job, all=all):
            job.wait_again()

    _drive(found, chosen, prepare, wait, watch, ExitStack(), recorded)
    return found


def recorded_code(run: Run, jobs: list[Job], *, environment: Literal["recorded"] | None = None) -> dict[str, Match]:
    """How close the jobs of a run can be run with the code of their last attempts, by the id of each code record.

    The code is put into the cache for that. Raises `SourceMissing`, `NoEnvironment`.
    """
    view = _view(run)
    return match(
        view.backend, view.key, [code.id for code in codes_of(jobs).values()], environment=environment is not None
    )


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
    _refuse_here()
    found = _run(run, store)
    _view(found)
    chosen = _executor(executor, workers)
    if found.state in ENDED and found.stored_state in ENDED and not _resumable(found):
        raise FlowError(
            f"{found.id} has ended and is {found.stored_state}: there is nothing to go on with.",
            hint="perdure rerun runs again what failed or was interrupted.",
            ids=(found.id or "",),
        )

    def prepare(stored: Run) -> None:
        for job in stored.stored_jobs():
            cut_off = job.stored_state is JobState.INTERRUPTED and job.settings.idempotent
            if cut_off or job.stored_state in (JobState.SKIPPED, JobState.CANCELLED):
                job.wait_again()

    _drive(found, chosen, prepare, wait, watch, ExitStack())
    return found


def jobs_to_rerun(run: Run, *, from_job: str | None = None, all: bool = False) -> list[Job]:
    """The jobs that `rerun` would run again."""
    jobs = run.jobs()
    if all:
        return jobs
    if from_job is None:
        return [job for job in jobs if job.stored_state in UNDONE or job.stored_state is JobState.RUNNING]
    todo = [job for job in jobs if from_job in (job.persistent_id, job.name)] or [run.job(from_job)]
    dependents: dict[int, list[Job]] = {}
    for job in jobs:
        for need in job.needs:
            dependents.setdefault(id(need), []).append(job)
    marked: set[int] = set()
    while todo:
        job = todo.pop()
        if id(job) not in marked:
            marked.add(id(job))
            todo += dependents.get(id(job), ())
    return [job for job in jobs if id(job) in marked]


def changed_functions(jobs: list[Job]) -> dict[str, str]:
    """The functions of these jobs that differ from their last attempt: name -> what is different."""
    changed: dict[str, str] = {}
    load_together(job.last_attempt for job in jobs)
    for job in jobs:
        last = job.last_attempt
        if last is None or job.function in changed:
            continue
        before = last.function_digest
        try:
            now = function_digest(job_function(job.function))
        except ClassNotFound:
            changed[job.function] = "is not here any more"
            continue
        if before and now != before:
            changed[job.function] = "has changed"
    return changed


def _drive(
    run: Run,
    executor: Executor,
    prepare: Prepare | None,
    wait: bool,
    watch: Watcher | None,
    held: ExitStack,
    recorded: Mapping[str, RecordedCode] | None = None,
) -> None:
    """Drive the run in a store of the engine's own. `held` is the ownership; `prepare` is None if it has begun."""
    view = _view(run)
    own = Store(
        view.backend,
        view.key,
        trust="all" if view.trust_all else None,
        resources=view.resources,
        extra_fields=view.extra_fields,
        code=cast(CodeChoice, view.code),
    )
    id_ = run.persistent_id or ""

    def work(begun: Callable[[], None]) -> None:
        with held:
            engine = Engine(own, id_, executor, watch, recorded)
            if prepare is not None:
                _take_over(engine, prepare, held)
            begun()
            engine.drive()

    if wait:
        work(_nothing)
        newest(run)  # what the caller holds is as the jobs have left it
    else:
        _in_thread(work, f"perdure {id_}")


def _in_thread(work: Callable[[Callable[[], None]], None], name: str) -> None:
    """Do it in a thread, and come back when it has begun. What is raised later goes to `threading.excepthook`."""
    begun = threading.Event()
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(begun.set)
        except BaseException as error:
            if begun.is_set():
                raise
            failures.append(error)
        finally:
            begun.set()

    threading.Thread(target=guarded, name=name).start()
    begun.wait()
    if failures:
        raise failures[0]


def _take_over(engine: Engine, prepare: Prepare, held: ExitStack) -> None:
    """Become the owner, if there is none who lives: of several who try at once, one wins."""
    gone: list[Owner] = []

    def settled(run: Run) -> None:
        # Only here, in the snapshot that the commit is compared with, is it certain who the owner is.
        if run.stored_state not in ENDED and run.owned():
            raise RunAlive(
                f"{run.id} belongs to {run.owner}, which lives (or cannot be looked at from here).",
                hint="Wait for it, or end that process first.",
                ids=(run.id or "",),
            )
        if run.owner is not None:
            gone.append(run.owner)
        now = time.time()
        for job in run.stored_jobs():
            if job.stored_state is JobState.RUNNING:
                job.cut_off(now)
        prepare(run)

    try:
        engine.begin(held.enter_context(ownership()), settled)
    except ConflictError as error:
        id_ = engine.run.id or ""
        raise RunAlive(f"{id_} was taken over by another process at this moment.", ids=(id_,)) from error
    for owner in gone:
        owner.forget()


def _nothing() -> None:
    """Nobody waits for the beginning."""


def _resumable(run: Run) -> bool:
    return any(
        job.stored_state is JobState.CANCELLED or (job.stored_state is JobState.INTERRUPTED and job.settings.idempotent)
        for job in run.jobs()
    )


def _refuse_here() -> None:
    """A module that is imported for the sake of a job must not start another run."""
    if inside_worker() or is_looking():
        raise FlowError(
            "A run is started where the module of a job is being imported, or by a job in a worker.",
            hint='Put the start under `if __name__ == "__main__":`; a job calls a flow as a plain function.',
        )


def _refuse_transaction(desk: Desk) -> None:
    if desk.transaction is not None:
        raise FlowError("A run cannot be driven inside a transaction.", hint="Start it after the block.")


def _refuse_strangers(jobs: list[Job], value: Any) -> None:
    """Raise `FlowError` if a job of another run is among the arguments, or in what the flow returned."""
    own = {id(job) for job in jobs}
    met = [*(need for job in jobs for need in job.needs), *jobs_in(value, Job)]
    for stranger in (job for job in met if id(job) not in own):
        raise FlowError(
            f"The job {stranger.name} ({stranger.persistent_id or 'of another flow'}) belongs to another run.",
            hint="Pass its result instead: job.result().",
        )


def _refuse_cycles(jobs: list[Job]) -> None:
    """Raise `CyclicFlow` naming the circle, if jobs need one another."""
    done: set[int] = set()
    for first in jobs:
        path: list[tuple[Job, list[Job]]] = [(first, first.needs)] if id(first) not in done else []
        on_path = {id(first)}
        while path:
            job, needs = path[-1]
            if not needs:
                done.add(id(job))
                on_path.discard(id(job))
                path.pop()
                continue
            need = needs.pop()
            if id(need) in on_path:
                steps = [step for step, _ in path]
                start_at = next(place for place, step in enumerate(steps) if step is need)
                circle = " → ".join(step.name for step in [*steps[start_at:], need])
                raise CyclicFlow(f"Jobs need one another in a circle: {circle}.", path=circle)
            if id(need) not in done:
                path.append((need, need.needs))
                on_path.add(id(need))


def _refuse_local(jobs: list[Job], executor: Executor) -> None:
    for job in jobs if executor.elsewhere else []:
        why = why_only_here(job.function)
        if why:
            raise FlowError(
                f"{job.function} {why}, so a worker process cannot find it.",
                hint="Define it at the top level of a module, or use executor='inline'.",
            )


def _is_recorded(code: str | None, environment: str | None) -> bool:
    for name, choice in (("code", code), ("environment", environment)):
        if choice not in (None, "recorded"):
            raise FlowError(f"{name} is 'recorded' or not given, not {choice!r}.")
    if environment and not code:
        raise FlowError("environment='recorded' goes with code='recorded'.")
    return code is not None


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
    view = view_of(run)
    if view is None:
        raise FlowError("The run is in no store.")
    if view.in_transaction:
        raise FlowError("A run cannot be driven inside a transaction.", hint="Do it after the block.")
    return view
