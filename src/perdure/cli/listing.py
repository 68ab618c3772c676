"""The verbs that look at any object: `ls`, `history`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from perdure.cli.asking import add_asking, chosen
from perdure.cli.looking import (
    attempt_cells,
    attempt_plain,
    ended_with,
    print_json,
    print_tracebacks,
)
from perdure.cli.options import Command, Parser, add_json, add_store, open_store
from perdure.cli.reading import JOB, LAST, RUN, AttemptRow, JobRow, Reader, state_counts
from perdure.cli.terminal import clean, counted, moment, painted, state_colour, table, tallied
from perdure.objects.history import ObjectVersion
from perdure.records.values import INTERNAL, Fields, Record

FIELD_SHOWN = 40
REPEATED_SHOWN = 10  # jobs


# -- ls --------------------------------------------------------------------------------------------------


def _ls_arguments(parser: Parser) -> None:
    parser.add_argument("--all", action="store_true", help="also perdure's own: runs, jobs, attempts, code records")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="of this class only: User, or shop:User")
    add_asking(parser)
    add_store(parser)
    add_json(parser)


def call_ls(options: argparse.Namespace) -> int:
    """`perdure ls`."""
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        whole = ":" in (options.class_name or "")
        class_name = options.class_name if whole else None
        internal = None if options.all or options.class_name else False
        records = reader.records(class_name=class_name, internal=None if whole else internal)
        asked = chosen((record for record in records if _is_asked(record, options)), options)
        rows = [_object_plain(record) for record in asked]
        if options.json:
            print_json(rows)
        elif rows:
            cells = [[row["id"], row["class"], row["revision"], _fields_text(row["fields"])] for row in rows]
            print("\n".join(table(["ID", "CLASS", "REVISION", "FIELDS"], cells, give=("FIELDS", "CLASS"))))
        elif not reader.faults:
            what = f"object of class {options.class_name}" if options.class_name else "object"
            what = f"such {what}" if options.where else what
            hint = "" if options.all or options.class_name else " --all also lists perdure's own: runs, jobs, …"
            print(f"There is no {what} in this store.{hint}", file=sys.stderr)
        return ended_with(reader)


def _is_asked(record: Record, options: argparse.Namespace) -> bool:
    if options.class_name:
        return options.class_name in (record.class_name, record.class_name.rpartition(":")[2])
    return options.all or not record.flags & INTERNAL


def _object_plain(record: Record) -> dict[str, Any]:
    return {
        "id": record.id, "class": record.class_name, "revision": record.revision, "fields": dict(record.fields),
        "references": list(record.references),
    }  # fmt: skip


def _fields_text(fields: Fields) -> str:
    parts = []
    for name, value in fields.items():
        text = clean(value)
        if value not in (None, ""):
            parts.append(f"{name}={text if len(text) <= FIELD_SHOWN else text[: FIELD_SHOWN - 1] + '…'}")
    return " ".join(parts)


# -- history ---------------------------------------------------------------------------------------------


def _history_arguments(parser: Parser) -> None:
    parser.add_argument("id", metavar="ID", help="the id of any object, run or job; or: last, the newest run")
    parser.add_argument("--traceback", action="store_true", help="of a job: the traceback of each failed attempt")
    add_store(parser)
    add_json(parser)


def call_history(options: argparse.Namespace) -> int:
    """`perdure history`."""
    with open_store(options, read_only=True) as store:
        reader = Reader(store)
        id_ = reader.run_record(LAST).id if options.id == LAST else options.id
        versions = reader.versions(id_)
        class_name = next((version.class_name for version in versions if version.class_name), "")
        if class_name == RUN:
            _run_history(reader, id_, versions, options)
        elif class_name == JOB:
            _job_history(reader, id_, versions, options)
        elif options.json:
            print_json({"id": id_, "versions": [_version_plain(version) for version in versions]})
        else:
            _print_versions(versions)
        return ended_with(reader)


def _print_versions(versions: list[ObjectVersion]) -> None:
    cells = [
        [
            version.revision, moment(version.time), version.note,
            "(removed)" if version.removed else version.class_name or "(cannot be read)", _fields_text(version.fields),
        ]
        for version in versions
    ]  # fmt: skip
    print("\n".join(table(["REVISION", "TIME", "NOTE", "CLASS", "FIELDS"], cells, give=("FIELDS", "CLASS", "NOTE"))))


def _version_plain(version: ObjectVersion) -> dict[str, Any]:
    return {
        "revision": version.revision, "time": version.time, "note": version.note, "class": version.class_name or None,
        "fields": dict(version.fields), "references": list(version.references), "removed": version.removed,
    }  # fmt: skip


def _job_history(reader: Reader, id_: str, versions: list[ObjectVersion], options: argparse.Namespace) -> None:
    record = reader.one(id_)
    run = reader.run(reader.run_record(str(record.fields.get("run"))))
    job = reader.job(record, run.alive)
    attempts = reader.attempts([job], alive=run.alive)[id_]
    if options.json:
        print_json(
            {
                "id": id_,
                "run": run.id,
                "state": job.state,
                "attempts": [attempt_plain(attempt) for attempt in attempts],
                "versions": [_version_plain(version) for version in versions],
            }
        )
        return
    state = painted(job.state, state_colour(job.state))
    print(f"{painted(id_, 'bold')}  {state}  {clean(job.call)}, {counted(len(attempts), 'attempt')}, of {run.id}")
    if not attempts:
        return
    heads = ["ATTEMPT", "STATE", "STARTED", "TOOK", "HOST", "PROCESS", "CODE", "ERROR"]
    cells = [[*attempt_cells(attempt)[1:], attempt.first_line] for attempt in attempts]
    print("\n".join(table(heads, cells, give=("ERROR", "HOST", "CODE"), indent="  ")))
    if options.traceback:
        print_tracebacks(attempts)


def _run_history(reader: Reader, id_: str, versions: list[ObjectVersion], options: argparse.Namespace) -> None:
    record = reader.one(id_)
    run = reader.run(record)
    jobs = reader.jobs(record, run)
    attempts = reader.attempts(jobs, alive=run.alive)
    in_order = sorted((attempt for found in attempts.values() for attempt in found), key=lambda row: row.started)
    if options.json:
        print_json(
            {
                "id": id_,
                "state": run.state,
                "attempts": [attempt_plain(attempt) for attempt in in_order],
                "versions": [_version_plain(version) for version in versions],
            }
        )
        return
    print(f"{painted(id_, 'bold')}  {painted(run.state, state_colour(run.state))}  {clean(run.flow)}")
    steps = [[moment(version.time), version.fields.get("state"), version.revision] for version in reversed(versions)]
    print("\n".join(table(["TIME", "STATE", "REVISION"], steps, indent="  ")))
    print(f"\n  {counted(len(in_order), 'attempt')}:")
    _print_by_code(in_order)
    _print_repeated([job for job in jobs if len(attempts[job.id]) > 1], attempts)


def _print_by_code(attempts: list[AttemptRow]) -> None:
    """Which code made how many of the attempts, in the order of time."""
    groups: dict[str, list[AttemptRow]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.code, []).append(attempt)
    for code, found in groups.items():
        print(f"  {moment(found[0].started)}  {clean(code) or 'code unknown'}: {tallied(state_counts(found))}")


def _print_repeated(jobs: list[JobRow], attempts: dict[str, list[AttemptRow]]) -> None:
    """The jobs that ran more than once: what came of each attempt."""
    if not jobs:
        return
    cells = [
        [job.id, job.call, attempt.number, attempt.state, attempt.code, attempt.first_line]
        for job in jobs[:REPEATED_SHOWN]
        for attempt in attempts[job.id]
    ]
    print(f"\n  {counted(len(jobs), 'job')} ran more than once:")
    heads = ["JOB", "CALL", "ATTEMPT", "STATE", "CODE", "ERROR"]
    print("\n".join(table(heads, cells, give=("ERROR", "CALL", "CODE"), indent="  ")))
    if len(jobs) > REPEATED_SHOWN:
        print(f"  … and {len(jobs) - REPEATED_SHOWN} more: perdure history JOB tells of each, --json of all.")


COMMANDS = {
    "ls": Command(
        _ls_arguments,
        call_ls,
        "Nothing is unpickled or imported, so it works for classes that are gone, too.",
        [
            "perdure ls --store sqlite:///shop.db",
            "perdure ls --class User",
            "perdure ls --class Job --where state=failed --order -started --limit 20",
            "perdure ls --all --json",
        ],
    ),
    "history": Command(
        _history_arguments,
        call_history,
        "Of an object: each revision with its time, note, class and fields. Of a job: its attempts, each with the"
        "\ncommit that it ran with. Of a run: its states, its attempts by commit, and what ran more than once.",
        ["perdure history User.1 --store sqlite:///shop.db", "perdure history Job.17", "perdure history last"],
    ),
}
