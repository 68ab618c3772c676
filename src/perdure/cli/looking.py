"""The verbs that look at runs: `runs`, `show`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from perdure.cli.options import Command, Parser, add_json, add_store, command_line, open_store, whole_number
from perdure.cli.reading import BAD_STATES, AttemptRow, JobRow, Reader, RunRow, state_counts
from perdure.cli.terminal import clean, counted, moment, painted, span, state_colour, table, tallied
from perdure.flows import JobState, RunState

ALL_SHOWN = 30  # a run of up to so many jobs is shown job by job
SOME_SHOWN = 20  # of the jobs in each bad state
FINE, FAULTS = 0, 3


def ended_with(reader: Reader) -> int:
    """Say on stderr what could not be read or verified; gives the exit status."""
    if reader.unverified:
        print(
            f"perdure: The store's key {reader.key_name} is not on this machine, so what is shown is not verified."
            " Take it in with: perdure key import FILE",
            file=sys.stderr,
        )
    for fault in dict.fromkeys(reader.faults):
        print(f"perdure: {fault}", file=sys.stderr)
    return FAULTS if reader.faults else FINE


def print_json(value: Any) -> None:
    """The one document that `--json` prints."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


# -- runs ------------------------------------------------------------------------------------------------


def _runs_arguments(parser: Parser) -> None:
    parser.add_argument("--limit", type=whole_number, default=20, metavar="N", help="how many, the newest first (20)")
    parser.add_argument("--all", action="store_true", help="every run")
    add_store(parser)
    add_json(parser)


def call_runs(options: argparse.Namespace) -> int:
    """`perdure runs`."""
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        records = reader.run_records()
        shown = records if options.all else records[: options.limit]
        rows = [reader.run(record) for record in shown]
        counts = [state_counts(reader.jobs(record, row)) for record, row in zip(shown, rows, strict=True)]
        if options.json:
            print_json([_run_plain(row, count) for row, count in zip(rows, counts, strict=True)])
        elif not rows:
            print("There is no run in this store yet. perdure run FILE FLOW makes the first one.", file=sys.stderr)
        else:
            _print_runs(rows, counts, len(records) - len(rows))
        return ended_with(reader)


def _print_runs(rows: list[RunRow], counts: list[dict[str, int]], more: int) -> None:
    heads = ["RUN", "STATE", "FLOW", "ARGUMENTS", "JOBS", "DONE", "FAILED", "STARTED", "TOOK"]
    cells = [
        [
            row.id, row.state, row.flow, row.arguments, row.total, count.get("succeeded", 0),
            sum(count.get(state, 0) for state in BAD_STATES if state != JobState.SKIPPED) or "",
            moment(row.created), span(row.took),
        ]
        for row, count in zip(rows, counts, strict=True)
    ]  # fmt: skip
    print("\n".join(table(heads, cells, give=("ARGUMENTS", "FLOW"))))
    if more:
        print(f"… and {more} older: --all shows them.")


def _run_plain(row: RunRow, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "id": row.id, "state": row.state, "flow": row.flow, "arguments": row.arguments, "source": row.source,
        "owner": row.owner or None, "started": row.created, "ended": row.ended, "took": row.took, "jobs": row.total,
        "states": counts,
    }  # fmt: skip


# -- show ------------------------------------------------------------------------------------------------


def _show_arguments(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the id of a run, or: last")
    parser.add_argument("--jobs", action="store_true", help="every job, also when there are hundreds")
    parser.add_argument("--traceback", action="store_true", help="the whole traceback of each attempt that failed")
    add_store(parser)
    add_json(parser)


def call_show(options: argparse.Namespace) -> int:
    """`perdure show`."""
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        record = reader.run_record(options.run)
        row = reader.run(record)
        jobs = reader.jobs(record, row)
        counts = state_counts(jobs)
        if options.json:
            attempts = reader.attempts(jobs, alive=row.alive)
            plain = {**_run_plain(row, counts), "jobs": [_job_plain(job, attempts[job.id]) for job in jobs]}
            print_json(plain)
            return ended_with(reader)
        _print_run(row, counts)
        chosen = jobs if options.jobs or len(jobs) <= ALL_SHOWN else _worth_showing(jobs)
        _print_jobs(reader, row, chosen)
        if len(chosen) < len(jobs):
            _print_rest(chosen, jobs)
        _print_attempts(reader, row, [job for job in chosen if _went_wrong(job)], traceback=options.traceback)
        _print_next(row, counts, options)
        return ended_with(reader)


def _print_run(row: RunRow, counts: dict[str, int]) -> None:
    print(f"{painted(row.id, 'bold')}  {painted(row.state, state_colour(row.state))}")
    print(f"  {clean(row.flow)}({clean(row.arguments)})" + (f"  from {clean(row.source)}" if row.source else ""))
    took = f", took {span(row.took)}" if row.took is not None else ""
    owner = f", driven by {clean(row.owner)}" if row.owner else ""
    print(f"  started {moment(row.created)}{took}{owner}")
    print(f"  {counted(row.total, 'job')}: {tallied(counts)}")


def _went_wrong(job: JobRow) -> bool:
    return job.state in BAD_STATES and job.attempts > 0


def _worth_showing(jobs: list[JobRow]) -> list[JobRow]:
    """What failed, was interrupted or runs comes first; of each such state some."""
    chosen: list[JobRow] = []
    for state in (*BAD_STATES, JobState.RUNNING):
        chosen += [job for job in jobs if job.state == state][:SOME_SHOWN]
    return chosen


def _print_jobs(reader: Reader, row: RunRow, jobs: list[JobRow]) -> None:
    if not jobs:
        return
    attempts = reader.attempts([job for job in jobs if job.error], alive=row.alive)
    cells = []
    for job in jobs:
        took = None if job.started is None or job.ended is None else job.ended - job.started
        error = attempts[job.id][-1].first_line if attempts.get(job.id) else ""
        cells.append([job.id, job.state, job.call, span(took), error])
    print()
    print("\n".join(table(["JOB", "STATE", "CALL", "TOOK", "ERROR"], cells, give=("CALL", "ERROR"), indent="  ")))


def _print_rest(chosen: list[JobRow], jobs: list[JobRow]) -> None:
    """How many others there are, by function and state."""
    shown = {job.id for job in chosen}
    groups = Counter((job.name, job.state) for job in jobs if job.id not in shown)
    print()
    for (name, state), number in groups.items():
        print(f"  {number} × {clean(name)} {painted(state, state_colour(state))}")
    print("  (every job: --jobs)")


def _print_attempts(reader: Reader, row: RunRow, jobs: list[JobRow], *, traceback: bool) -> None:
    if not jobs:
        return
    found = reader.attempts(jobs, alive=row.alive)
    attempts = [attempt for job in jobs for attempt in found[job.id]]
    heads = ["JOB", "ATTEMPT", "STATE", "STARTED", "TOOK", "HOST", "PROCESS", "CODE"]
    cells = [attempt_cells(attempt) for attempt in attempts]
    print()
    print("\n".join(table(heads, cells, give=("CODE", "HOST"), indent="  ")))
    if traceback:
        print_tracebacks(attempts)
    elif any(attempt.traceback for attempt in attempts):
        print("  (the tracebacks: --traceback)")


def attempt_cells(attempt: AttemptRow) -> list[object]:
    """An attempt as a row of a table."""
    return [
        attempt.job, attempt.number, attempt.state, moment(attempt.started), span(attempt.took), attempt.host,
        attempt.pid, attempt.code,
    ]  # fmt: skip


def print_tracebacks(attempts: Iterable[AttemptRow]) -> None:
    """The tracebacks of those that have one."""
    for attempt in attempts:
        if attempt.traceback:
            print(f"\n  {painted(attempt.job, 'bold')}, attempt {attempt.number}:")
            for line in attempt.traceback.rstrip().splitlines():
                print(f"    {clean(line)}")


def _print_next(row: RunRow, counts: dict[str, int], options: argparse.Namespace) -> None:
    """What one can do now."""
    if row.state == RunState.RUNNING or not any(counts.get(state) for state in (*BAD_STATES, JobState.WAITING)):
        return
    verb = "resume" if row.state in (RunState.INTERRUPTED, RunState.CANCELLED) else "rerun"
    if verb == "resume" and set(counts) <= {JobState.SUCCEEDED, JobState.INTERRUPTED, JobState.SKIPPED}:
        verb = "rerun"  # it waits for the user: nothing else in it can go on
    does = "Go on with it" if verb == "resume" else "Run again what did not succeed"
    print(f"\n{does}: {command_line(options, verb, row.id)}")


def _job_plain(job: JobRow, attempts: list[AttemptRow]) -> dict[str, Any]:
    return {
        "id": job.id, "name": job.name, "state": job.state, "function": job.function, "arguments": job.arguments,
        "error": attempts[-1].first_line if attempts and attempts[-1].error_type else None,
        "attempts": [attempt_plain(attempt) for attempt in attempts],
    }  # fmt: skip


def attempt_plain(attempt: AttemptRow) -> dict[str, Any]:
    """An attempt for `--json`."""
    plain = attempt._asdict()
    for name in ("error_type", "error", "traceback"):
        plain[name] = plain[name] or None
    return plain


COMMANDS = {
    "runs": Command(
        _runs_arguments,
        call_runs,
        "A run whose process is gone is shown as interrupted. Nothing is unpickled or imported.",
        ["perdure runs --store sqlite:///survey.db", "perdure runs --all --json"],
    ),
    "show": Command(
        _show_arguments,
        call_show,
        "What failed, was interrupted or is running comes first; of each failed job every attempt, with its time, its"
        "\nprocess and the commit that it ran with. Nothing is unpickled or imported.",
        ["perdure show last", "perdure show Run.1 --traceback", "perdure show Run.1 --jobs --store jobs/"],
    ),
}
