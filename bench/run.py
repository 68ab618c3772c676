"""Measure perdure against its limits and its rivals, and print the table with ratios: `python bench/run.py --help`.

- All sides in one run, on the same data, taking turns; every measurement in a process of its own.
- Stores and keys are in a temporary folder, which is gone at the end; databases of a server are dropped.
- Exit status: 0, or 1 if a limit is missed and `--check` is given or a measurement is broken.
- A machine that has other things to do makes the figures worthless; the ratios suffer less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import machine
import peers
import plan
import postgresql
import report
import startup
from data import CHANGES, PARENTS
from peers import Present
from table import Comparison, Row, row_of
from work import BrokenMeasurement, Figures, run_task

Environment = Mapping[str, str]

STARTS = 4  # rounds of start-up for each round of the others: they are short
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Setting:
    """What one round measures, and with what."""

    rows: Collection[str]
    size: int
    most: int  # objects of the larger of two large stores
    few: int  # of the smaller
    present: Sequence[Present]  # the rivals of this round
    environment: Environment


Round = Callable[[Path, Setting], Figures]


def measure_objects(folder: Path, setting: Setting) -> Figures:
    """The stages that the rows ask for; a rival that breaks loses this figure and is told, the others go on."""
    figures: Figures = {}
    stages = plan.needed(setting.rows)
    for name, stage in plan.OBJECTS.items():
        if name not in stages:
            continue
        for run in stage.runs:
            place = folder / run.place
            figures |= run_task(run.side, run.task, place, setting.size, setting.environment, called=run.called)
        for present in of_objects(setting.present) if stage.rivals else ():
            place = folder / (present.rival.side + ("-rich" if name.startswith("rich") else ""))
            figures |= measure_rival(present, stage.rivals, place, setting)
    return figures


def of_objects(present: Sequence[Present]) -> list[Present]:
    """Those that keep objects."""
    return [one for one in present if one.rival not in peers.PREVALENT]


def measure_rival(present: Present, task: str, place: Path, setting: Setting) -> Figures:
    """One task of a rival; no figures, but a sentence, if it breaks."""
    side, interpreter = present.rival.side, present.interpreter
    try:
        return run_task(side, task, place, setting.size, setting.environment, interpreter=interpreter)
    except BrokenMeasurement as error:
        tell(f"{present.rival.column} cannot be measured: {error}.")
        return {}


def measure_large(folder: Path, setting: Setting) -> Figures:
    """Two stores of many objects: small commits, walks over all of them, and a rename of their class."""
    figures: Figures = {}
    stores = (("few", setting.few), ("most", setting.most))
    tasks = ["build", *(task for row, task in (("growth", "commits"), ("walk", "walk")) if row in setting.rows)]
    for task in tasks:
        for called, size in stores:
            figures |= run_task("large", task, folder / called, size, setting.environment, called=called)
    for task in ("rewrite", "rename") if "rename" in setting.rows else ():
        figures |= run_task("large", task, folder / "most", setting.most, setting.environment, called="most")
    return figures


def measure_postgresql(folder: Path, setting: Setting) -> Figures:
    """The limit, perdure and RelStorage on a server, each in a database of its own."""
    figures: Figures = {}
    present = peers.look_for(peers.RELSTORAGE_POSTGRESQL) if setting.present else None
    for side in ("limits_postgresql", "kept_postgresql", peers.RELSTORAGE_POSTGRESQL.side):
        place = folder / side
        with postgresql.database(f"perdure_bench_{os.getpid()}_{side}", setting.environment) as environment:
            own = replace(setting, environment=environment)
            for task in ("save", "load"):
                if side != peers.RELSTORAGE_POSTGRESQL.side:
                    figures |= run_task(side, task, place, setting.size, environment)
                elif isinstance(present, Present):
                    figures |= measure_rival(present, task, place, own)
    return figures


def measure_prevalence(folder: Path, setting: Setting) -> Figures:
    """Commands, replay and snapshots, task by task."""
    figures: Figures = {}
    wanted = {present.rival.side: present for present in setting.present}
    for task in plan.PREVALENCE_TASKS:
        for side in ("prevalent_limits", "prevalent", *(rival.side for rival in peers.PREVALENT)):
            kept = task in ("build", "replay", "snapshot", "load")
            place = folder / (side if kept else f"{side}-{task}")
            if side in wanted and (side, task) not in NOT_DONE:
                figures |= measure_rival(wanted[side], task, place, setting)
            elif side.startswith("prevalent") and (side, task) not in NOT_DONE:
                figures |= run_task(side, task, place, setting.size, setting.environment)
    return figures


# What a side of these has not got.
NOT_DONE = {
    ("prevalent_limits", "snapshot"), ("peer_eventsourcing", "shared"), ("peer_eventsourcing", "snapshot"),
    ("peer_eventsourcing", "load"),
}  # fmt: skip


def measure_flows(folder: Path, setting: Setting) -> Figures:
    """A flow of jobs that do nothing."""
    figures: Figures = {}
    for side, task in (
        ("flow_limits", "pool"), ("flows", "processes"), ("flow_limits", "commits"), ("flows", "inline"),
        ("flows", "processes_parts"), ("flows", "inline_parts"),
    ):  # fmt: skip
        figures |= run_task(side, task, folder / f"{side}-{task}", report.jobs_of(setting.size), setting.environment)
    return figures


def measure_code(folder: Path, setting: Setting) -> Figures:
    """Code records."""
    return run_task("codes", "capture", folder / "repository", setting.size, setting.environment)


def measure_startup(folder: Path, setting: Setting) -> Figures:
    """Imports and the first job."""
    return startup.measure(folder, setting.environment)


GROUPS: dict[str, Round] = {
    "objects": measure_objects, "large": measure_large, "postgresql": measure_postgresql,
    "prevalence": measure_prevalence, "flows": measure_flows,
    "code": measure_code, "startup": measure_startup,
}  # fmt: skip


def rows_of_group(group: str) -> tuple[str, ...]:
    """The rows that a group measures."""
    return {"objects": tuple(plan.OBJECTS), "large": plan.LARGE_ROWS}.get(group, (group,))


def comparisons(group: str, setting: Setting) -> list[Comparison]:
    """What a group's figures are compared with, for the rows that are wanted."""
    if group == "objects":
        return [one for row in plan.OBJECTS if row in setting.rows for one in plan.OBJECTS[row].comparisons]
    if group == "large":
        found = plan.large(setting.most, setting.few)
        return [one for row in plan.LARGE_ROWS if row in setting.rows for one in found[row]]
    return {
        "postgresql": plan.POSTGRESQL, "prevalence": plan.PREVALENCE, "flows": plan.FLOWS, "code": plan.CODE,
        "startup": plan.STARTUP,
    }[group]  # fmt: skip


def measure(name: str, rounds: int, rivals: int, folder: Path, setting: Setting) -> list[Figures]:
    """All rounds of one group, each in a new folder, rivals in the first of them; what is broken ends the group."""
    found: list[Figures] = []
    first = 0
    if name == "startup":
        first, rounds = -1, rounds * STARTS  # one more, which leaves the bytecode there and does not count
    for number in range(first, rounds):
        place = folder / f"{name}-{number}"
        place.mkdir()
        try:
            figures = GROUPS[name](place, setting if number < rivals else replace(setting, present=()))
        except BrokenMeasurement as error:
            tell(f"{name} cannot be measured: {error}.")
            break
        found += [figures] if number >= 0 else []
        shutil.rmtree(place)
        tell(f"{name} {number + 1}")
    return found


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def own_environment(folder: Path) -> Environment:
    """The environment of what is measured: keys and bytecode are kept in `folder`, as an installed program has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), str(folder))
    return {**environment, **homes, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--size", type=int, default=20_000, help="objects; a flow has a twentieth as many jobs")
    add("--large", type=int, default=100_000, help="objects of the rows that are about large stores")
    add("--full", action="store_true", help="1,000,000 objects in these rows; takes minutes a round")
    add("--rounds", type=int, default=5, help="of perdure and the limits")
    add("--peer-rounds", type=int, default=3, help="in how many of these rounds the rivals are measured")
    add("--quick", action="store_true", help="one round of few objects: shows that everything works, and no more")
    add("--only", choices=plan.ROWS, action="append", metavar="ROW", help=f"may be repeated: {', '.join(plan.ROWS)}")
    add("--peers", default="all", help="rivals with commas between them, or none: " + ", ".join(COLUMNS))
    add("--gc3pie", metavar="PYTHON", help="an interpreter that has gc3pie; else the one that `make bench` made")
    add("--folder", help="where stores are written; by default a temporary folder of the system")
    add("--check", action="store_true", help="exit with status 1 if a limit is missed")
    add("--json", help="write every figure of every round to this file")
    add("--write", nargs="?", const=str(PAGE), help="put the table into this page, between its markers")
    return parser


COLUMNS = tuple(rival.column for rival in peers.EVERY)


def read_arguments(given: list[str] | None) -> argparse.Namespace:
    """The options, with those that follow from others; ends with a sentence if they make no sense."""
    parser = arguments()
    options = parser.parse_args(given)
    if options.quick:
        options.rounds = options.peer_rounds = 1
        options.size, options.large = min(options.size, 1000), min(options.large, 1000)
    if options.full:
        options.large = 1_000_000
    if options.size < PARENTS or options.rounds < 1:
        parser.error(f"--size is at least {PARENTS} (every parent is used), --rounds at least 1")
    if options.large < 10 * CHANGES:
        parser.error(f"--large is at least {10 * CHANGES:,}")
    names = {"all": list(COLUMNS), "none": []}
    options.peers = names[options.peers] if options.peers in names else options.peers.split(",")
    unknown = sorted(set(options.peers) - {*COLUMNS})
    if unknown:
        parser.error(f"--peers: there is no {unknown[0]}; there are {', '.join(COLUMNS)}, all and none")
    if options.write and not report.has_markers(Path(options.write)):
        parser.error(f"{options.write} has no place for the table: {report.BEGIN} and {report.END}, each on its line")
    return options


def main(given: list[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    options = read_arguments(given)
    rows = options.only or plan.ROWS
    present, absent = peers.find(options.peers, options.gc3pie or peers.default_gc3pie())
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=options.folder) as scratch:
        folder = Path(scratch)
        few = options.large // 100 if options.full else options.large // 10
        setting = Setting(rows, options.size, options.large, few, present, own_environment(folder))
        where = machine.described(folder)
        before = machine.load()
        groups = [group for group in GROUPS if set(rows_of_group(group)) & set(rows)]
        if "postgresql" in groups:
            try:
                where.append(postgresql.server_version())
            except BrokenMeasurement as error:
                absent.append(f"PostgreSQL: not measured: {error}")
                groups.remove("postgresql")
        measured = {group: measure(group, options.rounds, options.peer_rounds, folder, setting) for group in groups}
    where.append(f"load average at the start {before}, at the end {machine.load()}: of this and of all else that ran")
    said = [one.said for one in present] + absent
    if "postgresql" in groups and present:
        on_server = peers.look_for(peers.RELSTORAGE_POSTGRESQL)
        said += [on_server.said] if isinstance(on_server, Present) else []
    tables = {group: table_of(measured[group], comparisons(group, setting)) for group in groups}
    text = report.text(measured, tables, setting.size, where, said)
    print(text, end="")
    write_files(options, text, where, measured)
    missed = [row.title for rows_ in tables.values() for row in rows_ if row.missed]
    if missed:
        tell(f"Missed: {', '.join(missed)}.")
    broken = [name for name, found in measured.items() if len(found) < options.rounds]
    return 1 if broken or (missed and options.check) else 0


def table_of(rounds: list[Figures], wanted: list[Comparison]) -> list[Row]:
    """The rows of one group."""
    rows: map[Row | None] = map(partial(row_of, rounds=rounds), wanted)
    return [row for row in rows if row is not None]


def write_files(
    options: argparse.Namespace, text: str, where: list[str], measured: Mapping[str, list[Figures]]
) -> None:
    """The files that were asked for: every figure, and the page."""
    if options.json:
        figures = {"where": where, "size": options.size, "rounds": measured}
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if options.write:
        report.put_into(Path(options.write), text)


if __name__ == "__main__":
    sys.exit(main())
