"""The verbs that run jobs: `run`, `rerun`, `resume`.

- A progress bar on a terminal, quiet otherwise; then the result on stdout, everything else on stderr.
- A run that failed names what failed, and the command that runs it again; the exit status is 1.
- A flow is found again by the module and the file that the run has noted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.cli.binding import bind
from perdure.cli.importing import told
from perdure.cli.loading import flow_in, load_again, load_target
from perdure.cli.options import Command, Parser, add_json, add_store, command_line, open_store
from perdure.cli.reading import AttemptRow, Reader, RunRow, state_counts
from perdure.cli.recorded import add_recorded, check_recorded, tell_matches
from perdure.cli.terminal import counted, is_terminal, painted, span, state_colour, table, tallied, width_of
from perdure.code.capture import capture
from perdure.code.values import CodeState, changes_between
from perdure.errors import FlowError, KeyMissing, PerdureError, RunAlive
from perdure.flows import Flow, Job, JobState, Progress, Run, RunState, rerun, resume, start
from perdure.flows.running import changed_functions, jobs_to_rerun, recorded_code
from perdure.keys import KeyRing
from perdure.objects.instances.persistable import Persistable
from perdure.objects.store import Store

FINE, FAILED, CTRL_C = 0, 1, 130
FAILURES_SHOWN = 10
RESULT_LINES = 40


# -- the verbs -------------------------------------------------------------------------------------------


def _add_executor(parser: Parser) -> None:
    parser.add_argument(
        "--executor",
        choices=["processes", "inline"],
        default="processes",
        help="run jobs in processes of their own (the default), or one by one in this one",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="how many processes; by default as many as cores")
    add_store(parser)
    add_json(parser)


def _run_arguments(parser: Parser) -> None:
    parser.add_argument("target", metavar="FILE_OR_MODULE", help="survey.py, or a module such as surveys.nightly")
    parser.add_argument("flow", metavar="FLOW", help="the name of a function with @perdure.flow in it")
    parser.add_argument(
        "words", metavar="ARGS", nargs="*", default=[], help="the flow's arguments; NAME=VALUE gives one by name"
    )
    _add_executor(parser)


def _rerun_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the id of a run, or: last")
    parser.add_argument("--from", dest="from_job", metavar="JOB", help="that job (id or name) and all that needs it")
    parser.add_argument("--all", action="store_true", help="every job, also what succeeded")
    parser.add_argument("--file", metavar="FILE", help="the file of the flow, if it is not where it was")
    add_recorded(parser)
    _add_executor(parser)


def _resume_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the id of a run, or: last")
    parser.add_argument("--file", metavar="FILE", help="the file of the flow, if it is not where it was")
    _add_executor(parser)


def call_run(options: argparse.Namespace) -> int:
    """`perdure run`."""
    _check_workers(options)
    module, source = load_target(options.target)
    flow = flow_in(module, options.flow)
    args, kwargs = bind(flow.function, options.words)
    with _sealing(open_store(options, create=True)) as store, _stdout_for_result(options) as out:

        def begin(watch: Callable[[Progress], None]) -> Run:
            try:
                return start(
                    flow, *args, kwargs=kwargs, store=store, executor=options.executor, workers=options.workers,
                    watch=watch, source=source,
                )  # fmt: skip
            except PerdureError:
                raise
            except Exception as error:
                raise _in_flow(flow, error) from error

        return _carry_out(begin, store, options, out)


def call_rerun(options: argparse.Namespace) -> int:
    """`perdure rerun`."""
    _check_workers(options)
    if options.all and options.from_job:
        raise FlowError("--all and --from cannot be given together.", hint="--all runs every job again.")
    check_recorded(options)
    code = "archived" if options.code else None
    with _sealing(open_store(options, code=code)) as store, _stdout_for_result(options) as out:
        run = _find(store, options)
        jobs = jobs_to_rerun(run, from_job=options.from_job, all=options.all)
        if not jobs:
            print(
                f"{run.id} {run.state}: nothing in it has to be run again. With --all every job is, with --from JOB"
                " that one and all that needs it.",
                file=sys.stderr,
            )
            return FINE
        if options.code:
            tell_matches(recorded_code(run, jobs, environment=options.environment))
        else:
            _tell_changes(jobs)
        print(f"Running {counted(len(jobs), 'job')} of {len(run.jobs())} again.", file=sys.stderr)

        def begin(watch: Callable[[Progress], None]) -> Run:
            return rerun(
                run, from_job=options.from_job, all=options.all, executor=options.executor, workers=options.workers,
                watch=watch, code=options.code, environment=options.environment,
            )  # fmt: skip

        return _carry_out(begin, store, options, out)


def call_resume(options: argparse.Namespace) -> int:
    """`perdure resume`."""
    _check_workers(options)
    with _sealing(open_store(options)) as store, _stdout_for_result(options) as out:
        run = _find(store, options)

        def begin(watch: Callable[[Progress], None]) -> Run:
            return resume(run, executor=options.executor, workers=options.workers, watch=watch)

        return _carry_out(begin, store, options, out)


# -- before ----------------------------------------------------------------------------------------------


def _check_workers(options: argparse.Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        raise FlowError(f"{options.workers} workers cannot run anything.", hint="Give --workers 1 or more.")


@contextmanager
def _sealing(store: Store) -> Iterator[Store]:
    """The store, which is closed at the end; without its key nothing can be run."""
    with store:
        if store.key is None:
            key = store.backend.describe().key
            KeyRing().require(key)
            raise KeyMissing(f"The key {key:08x} is not on this machine.")  # it came in between
        yield store


def _find(store: Store, options: argparse.Namespace) -> Run:
    """The run, its flow's module imported first: its arguments may be of classes in there."""
    reader = Reader(store)
    record = reader.run_record(options.run)
    row = reader.run(record)
    if row.alive:
        raise RunAlive(
            f"{row.id} belongs to {row.owner}, which lives (or cannot be looked at from here).",
            hint="Wait for it, or end that process first.",
            ids=(row.id,),
        )
    if not getattr(options, "code", None):
        load_again(str(record.fields.get("flow", "")), str(record.fields.get("source", "")), options.file)
    found = store.load(record.id)
    assert isinstance(found, Run)
    return found


def _in_flow(flow: Flow[..., Any], error: Exception) -> Exception:
    """A sentence if the flow's own function raised, while it made its jobs; else it is no business of the user's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not flow.function.__code__:
        trace = trace.tb_next
    if trace is None:
        return error
    name = getattr(flow, "__name__", flow.name)
    return FlowError(
        f"The flow {name} raised {told(error, trace)} while it made its jobs.",
        hint="No run was started.",
    )


def _tell_changes(jobs: list[Job]) -> None:
    """Which of the job functions are not the same as at their last attempt, and between which commits."""
    before: dict[str, CodeState] = {}
    for job in jobs:
        attempts = job.attempts
        if attempts and attempts[-1].code is not None:
            before.setdefault(job.function, attempts[-1].code.state)
    changed = changed_functions(jobs)
    for function, what in changed.items():
        print(f"{painted(function, 'bold', sys.stderr)} {what}{_commits(function, before)}.", file=sys.stderr)
    others = {function for function in before if function not in changed}
    lines = {line for function in others for line in changes_between(before[function], _now(function))}
    beside = sorted(line for line in lines if not line.startswith("commit "))
    if not changed:
        print("None of the job functions has changed since.", file=sys.stderr)
        if beside:
            print(f"Around them: {'; '.join(beside)}.", file=sys.stderr)


def _now(function: str) -> CodeState:
    return capture([function.partition(":")[0]])


def _commits(function: str, before: dict[str, CodeState]) -> str:
    """` (commit 1a2b3c4 → 5d6e7f8)`, as far as there are commits."""
    if function not in before:
        return ""
    module = function.partition(":")[0]
    was, now = _commit(before[function], module), _commit(_now(function), module)
    return f" (commit {was} → {now})" if was or now else ""


def _commit(state: CodeState, module: str) -> str:
    """The commit that a module is of, in short; with a note if the file differs from it."""
    found = state.module(module)
    if found is None or found.repository is None:
        return ""
    commit = state.repositories[found.repository].commit[:7] or "none yet"
    return f"{commit}, changed" if found.changed else commit


# -- while -----------------------------------------------------------------------------------------------


class _Watch:
    """Shows the progress of a run, and remembers its id."""

    def __init__(self) -> None:
        self.run = ""
        self._bar: Any = None
        self._shows = is_terminal(sys.stderr)
        self._before = 0

    def __call__(self, progress: Progress) -> None:
        self.run = progress.run
        if not self._shows:
            return
        if self._bar is None:
            from tqdm import tqdm  # type: ignore[import-untyped]  # only who looks pays for it

            self._before = progress.ended
            self._bar = tqdm(
                total=progress.total, initial=progress.ended, desc=progress.run, unit="job", file=sys.stderr,
                leave=False, dynamic_ncols=True, delay=0.3,
            )  # fmt: skip
        if progress.failed:
            self._bar.set_postfix_str(f"{progress.failed} failed", refresh=False)
        self._bar.update(progress.ended - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def _stdout_for_result(options: argparse.Namespace) -> Iterator[int | None]:
    """With `--json` what jobs print goes to stderr, so that stdout has one document. Gives the descriptor of stdout."""
    if not options.json:
        yield None
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield kept
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _carry_out(
    begin: Callable[[Callable[[Progress], None]], Run], store: Store, options: argparse.Namespace, out: int | None
) -> int:
    watch = _Watch()
    try:
        run = begin(watch)
    except KeyboardInterrupt:
        watch.close()
        _tell_cancelled(watch.run, options)
        return CTRL_C
    finally:
        watch.close()
    reader = Reader(store)
    record = reader.run_record(run.id or "")
    row = reader.run(record)
    if out is not None:
        document = json.dumps(_as_plain(run, row, reader), indent=2, ensure_ascii=False) + "\n"
        os.write(out, document.encode("utf-8", "backslashreplace"))
    if row.state == RunState.SUCCEEDED:
        if out is None:
            _tell_ended(row)
            _show_result(run.result())
        return FINE
    _tell_failures(reader, row, options)
    return FAILED


def _tell_cancelled(run: str, options: argparse.Namespace) -> None:
    if not run:
        print("\nperdure: stopped by Ctrl-C before the first job.", file=sys.stderr)
        return
    print(f"\n{run} was cancelled by Ctrl-C. Go on with: {command_line(options, 'resume', run)}", file=sys.stderr)


# -- after -----------------------------------------------------------------------------------------------


def _tell_ended(row: RunRow) -> None:
    """One line on a terminal; elsewhere only the result is wanted."""
    if is_terminal(sys.stderr):
        state = painted(row.state, state_colour(row.state), sys.stderr)
        print(f"{row.id} {state}: {counted(row.total, 'job')} in {span(row.took)}", file=sys.stderr)


def _show_result(result: Any) -> None:
    if result is None:
        return
    if isinstance(result, str):
        print(result)
        return
    if isinstance(result, Persistable):
        print(f"{result.persistent_id}  {result!r}")
        return
    from pprint import pformat

    width = width_of()
    lines = pformat(result, width=min(width, 120), sort_dicts=False, compact=True).splitlines()
    if is_terminal(sys.stdout) and len(lines) > RESULT_LINES:
        more = len(lines) - RESULT_LINES + 1
        lines = [*lines[: RESULT_LINES - 1], f"… {more} more lines; in full with: | cat, or --json"]
    print("\n".join(lines))


def _as_plain(run: Run, row: RunRow, reader: Reader) -> dict[str, Any]:
    """What `--json` prints; a result that JSON does not know is given as text."""
    jobs = reader.jobs(reader.run_record(row.id), row)
    failed = [job for job in jobs if job.state in (JobState.FAILED, JobState.INTERRUPTED)]
    attempts = reader.attempts(failed, alive=False)
    plain: dict[str, Any] = {
        "run": row.id,
        "state": row.state,
        "flow": row.flow,
        "jobs": state_counts(jobs),
        "took": row.took,
        "failures": [
            {"job": job.id, "name": job.name, "arguments": job.arguments, "error": _error(job.state, attempts[job.id])}
            for job in failed
        ],
        "result": None,
    }
    if row.state == RunState.SUCCEEDED:
        result = run.result()
        try:
            json.dumps(result)
            plain["result"] = result
        except (TypeError, ValueError):
            plain["result_text"] = repr(result)
    return plain


def _error(state: str, attempts: list[AttemptRow]) -> str:
    return (attempts[-1].first_line if attempts else "") or state


def _tell_failures(reader: Reader, row: RunRow, options: argparse.Namespace) -> None:
    """Names what failed, the first ten, and the command that runs it again."""
    jobs = reader.jobs(reader.run_record(row.id), row)
    counts = state_counts(jobs)
    state = painted(row.state, state_colour(row.state), sys.stderr)
    print(f"{row.id} {state}: {tallied(counts, sys.stderr)} of {counted(len(jobs), 'job')}.", file=sys.stderr)
    failed = [job for job in jobs if job.state in (JobState.FAILED, JobState.INTERRUPTED)]
    attempts = reader.attempts(failed[:FAILURES_SHOWN], alive=row.alive)
    cells = [[job.id, job.call, _error(job.state, attempts[job.id])] for job in failed[:FAILURES_SHOWN]]
    lines = table(["JOB", "CALL", "ERROR"], cells, give=("CALL", "ERROR"), indent="  ", stream=sys.stderr)
    print("\n".join(lines[1:]), file=sys.stderr)
    if len(failed) > FAILURES_SHOWN:
        print(f"  … and {len(failed) - FAILURES_SHOWN} more", file=sys.stderr)
    print(f"See more:  {command_line(options, 'show', row.id)}", file=sys.stderr)
    print(f"Run again what did not succeed:  {command_line(options, 'rerun', row.id)}", file=sys.stderr)


_RUN_TEXT = """\
The run, its jobs, every attempt with its error, and every result are kept in the store, which is made if it is not
there. A job that fails does not stop those that do not need it.

ARGS are bound to the flow's parameters: annotations (int, float, bool, str, Path, list[…]) say what they become;
without one, 3, 2.5, True, None and [1, 2] are read as Python would, and all else is text. A parameter that is
annotated as a list takes all remaining words, and so does the last one if there are more words than parameters.
A word that begins with a dash goes behind --."""

COMMANDS = {
    "run": Command(
        _run_arguments,
        call_run,
        _RUN_TEXT,
        [
            "perdure run survey.py survey src/*.py --store sqlite:///survey.db",
            "perdure run nightly.py report day=2024-05-01 limit=10 --store jobs/",
            "perdure run project.flows simulate 3 0.5 --executor inline --store sqlite:///sim.db --json",
        ],
        intermixed=True,
    ),
    "rerun": Command(
        _rerun_arguments,
        call_rerun,
        "What failed, was interrupted, cancelled or skipped is run again, with the code as it is now; what succeeded is"
        "\nnot. Before, it says which of the job functions have changed since their last attempt."
        "\n\nWith --code recorded each job runs with the code of its last attempt, in processes that have nothing else"
        "\nof it; before, it says how close that comes: exact; same tree, other environment; sources only.",
        [
            "perdure rerun last",
            "perdure rerun Run.1 --all --code recorded",
            "perdure rerun Run.1 --from tally",
            "perdure rerun Run.1 --all --store sqlite:///x.db",
        ],
    ),
    "resume": Command(
        _resume_arguments,
        call_resume,
        "Finished jobs are never run again. A job that was cut off while it ran is run again if it is declared with"
        "\n@job(idempotent=True); else it stays interrupted, and waits for: perdure rerun RUN",
        ["perdure resume last", "perdure resume Run.1 --store sqlite:///survey.db"],
    ),
}
