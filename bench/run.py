"""Measure perdure against its limits, and print the table with ratios: `python bench/run.py --help`.

- All sides in one run, on the same data, taking turns; every measurement in a process of its own.
- Stores and keys are in a temporary folder, which is gone at the end.
- Exit status: 0, or 1 if a limit is missed and `--check` is given or a measurement is broken.
- A machine that has other things to do makes the figures worthless; the ratios suffer less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median

import startup
from data import PARENTS
from table import Comparison, Row, render_parts, render_rows, row_of
from work import BrokenMeasurement, Figures, run_task

Environment = Mapping[str, str]
Round = Callable[[Path, int, Environment], Figures]

JOBS = 20  # objects for each job of the flow: 20,000 and 1,000
STARTS = 4  # rounds of start-up for each round of the others: they are short


def measure_objects(folder: Path, size: int, environment: Environment) -> Figures:
    """Save all, load all."""
    figures: Figures = {}
    for side, task, place in (
        ("limits", "save", "limit"), ("kept", "save_many", "many"), ("kept", "transaction", "block"),
        ("limits", "load", "limit"), ("kept", "load_many", "many"),
    ):  # fmt: skip
        figures |= run_task(side, task, folder / place, size, environment)
    return figures


def measure_commits(folder: Path, size: int, environment: Environment) -> Figures:
    """Small commits, changes, loading one by one: what the next release has limits for."""
    figures: Figures = {}
    for side, task, place in (
        ("limits", "save", "limit"), ("kept", "transaction", "block"),
        ("limits", "load", "limit"), ("kept", "ghosts", "block"), ("kept", "load_each", "block"),
        ("limits", "memory", "limit"), ("kept", "memory", "block"),
        ("limits", "change_one", "limit"), ("kept", "change_one", "block"),
        ("limits", "change", "limit"), ("kept", "change", "block"),
        ("limits", "commits", "limit"), ("kept", "commits", "block"),
    ):  # fmt: skip
        figures |= run_task(side, task, folder / place, size, environment)
    return figures


def measure_flows(folder: Path, size: int, environment: Environment) -> Figures:
    """A flow of jobs that do nothing."""
    figures: Figures = {}
    jobs = max(2, size // JOBS)
    for side, task in (
        ("flow_limits", "pool"), ("flows", "processes"), ("flow_limits", "commits"), ("flows", "inline"),
        ("flows", "processes_parts"), ("flows", "inline_parts"),
    ):  # fmt: skip
        figures |= run_task(side, task, folder / f"{side}-{task}", jobs, environment)
    return figures


def measure_startup(folder: Path, size: int, environment: Environment) -> Figures:
    """Imports and the first job."""
    return startup.measure(folder, environment)


GROUPS: dict[str, Round] = {
    "objects": measure_objects, "commits": measure_commits, "flows": measure_flows, "startup": measure_startup,
}  # fmt: skip

COMPARISONS: dict[str, list[Comparison]] = {
    "objects": [
        Comparison("save all in one commit, save_many", "kept save_many", "limits save", 1.5),
        Comparison("save all in one commit, transaction", "kept transaction", "limits save", 1.5),
        Comparison("load all cold, load_many", "kept load_many", "limits load", 1.5),
        Comparison("load all and touch everything", "kept touch", "limits touch"),
        Comparison("load all again by id, warm", "kept again", "limits again", None, 5.0),
        Comparison("load all again by load_many, warm", "kept again many", "limits again"),
        Comparison("bytes on disk for an object", "kept bytes", "limits bytes", None, 1.3, "B"),
    ],
    "commits": [
        Comparison("300 commits of one new object", "kept commits", "limits commits", None, 1.2),
        Comparison("load all cold through ghosts", "kept ghosts", "limits touch", None, 2.2),
        Comparison("load all cold by id, one by one", "kept load each", "limits touch", None, 2.2),
        Comparison("load 2,000, change, commit, cold", "kept change cold", "limits change cold", None, 1.2),
        Comparison("change 2,000 held, commit", "kept change warm", "limits change warm", None, 1.2),
        Comparison("100 commits of one change, all held", "kept change one", "limits change one", None, 1.5),
        Comparison("memory to open and load one", "kept memory", "", None, 30.0, "MiB"),
        Comparison("the same, bare sqlite3 and pickle", "limits memory", "", None, None, "MiB"),
    ],
    "flows": [
        Comparison("flow in processes / a bare pool", "flows processes", "flow_limits pool"),
        Comparison("flow in processes / a commit a job", "flows processes", "flow_limits commits"),
        Comparison("flow inline / a commit a job", "flows inline", "flow_limits commits"),
    ],
    "startup": [
        Comparison("import perdure (less bare python)", "import", "", 0.1, less="python"),
        Comparison("import perdure, by importtime", "import told", "", 0.1),
        Comparison("first job of a cold command", "first job", "", 0.3),
        Comparison("bare python", "python"),
    ],
}


def measure(name: str, rounds: int, size: int, folder: Path, environment: Environment) -> list[Figures]:
    """All rounds of one group, each in a new folder; what is broken ends the group, and is told."""
    found: list[Figures] = []
    first = 0
    if name == "startup":
        first, rounds = -1, rounds * STARTS  # one more, which leaves the bytecode there and does not count
    for number in range(first, rounds):
        place = folder / f"{name}-{number}"
        place.mkdir()
        try:
            figures = GROUPS[name](place, size, environment)
        except BrokenMeasurement as error:
            print(f"{name} cannot be measured: {error}.", file=sys.stderr, flush=True)
            break
        found += [figures] if number >= 0 else []
        shutil.rmtree(place)
        print(f"{name} {number + 1}", file=sys.stderr, flush=True)
    return found


def own_environment(folder: Path) -> Environment:
    """The environment of what is measured: keys and bytecode are kept in `folder`, as an installed program has them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    homes = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), str(folder))
    return {**environment, **homes, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def machine(folder: Path) -> list[str]:
    """Where this was measured, line by line."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    load = f"; load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return [
        f"{os.cpu_count()} cores of {processor}, {platform.system()} {platform.release().partition('-')[0]}{load}",
        f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, perdure {version('perdure')}",
        f"to append 4 KiB and fsync takes {median(_fsync_times(folder)) * 1000:.2f} ms",
    ]


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text(encoding="utf-8").splitlines() if place.is_file() else []


def _fsync_times(folder: Path) -> list[float]:
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return times


def report(measured: Mapping[str, list[Figures]], rows: list[Row], size: int, where: list[str]) -> str:
    """The page: what was measured, where, the table, and where the time of a flow goes."""
    rounds = max((len(found) for name, found in measured.items() if name != "startup"), default=0)
    lines = [
        f"{size:,} objects of ten attributes, flows of {max(2, size // JOBS):,} jobs; {rounds} rounds, sides taking",
        "turns; medians, and a ratio is the median of the rounds' ratios.",
        "",
        *(f"- {line}" for line in where),
        "",
        render_rows(rows),
    ]
    for executor in ("processes", "inline"):
        parts = render_parts(measured.get("flows", []), f"flows {executor}")
        if parts:
            lines += [
                "",
                f"Where the time of the flow goes, executor `{executor}`, in the engine's process:",
                "",
                parts,
            ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The report as a page of the documentation."""
    return (
        "# Benchmarks\n\n"
        "Written by `python bench/run.py --write docs/benchmarks.md`; `make bench` prints the same. The limit for\n"
        "objects is plain pickle and `sqlite3` by hand, which keep neither seals nor history nor one copy of what is\n"
        "shared; the limits for flows are a bare pool of processes, which keeps nothing, and one durable commit for\n"
        "each job. Everything of perdure's is sealed, durable and with its history. Rows that say “next” are goals of\n"
        "the next release.\n\n"
    ) + text


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=20_000, help="objects; a flow has a twentieth as many jobs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(GROUPS), action="append", help="measure this group; may be repeated")
    parser.add_argument("--folder", help="where stores are written; by default a temporary folder of the system")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a limit is missed")
    parser.add_argument("--json", help="write every figure of every round to this file")
    parser.add_argument("--write", help="write the table to this page")
    return parser


def main(given: list[str] | None = None) -> int:
    """Measure, print, and give the exit status."""
    parser = arguments()
    options = parser.parse_args(given)
    if options.size < PARENTS or options.rounds < 1:
        parser.error(f"--size is at least {PARENTS} (every parent is used), --rounds at least 1")
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=options.folder) as scratch:
        folder = Path(scratch)
        environment = own_environment(folder)
        where = machine(folder)
        measured = {
            name: measure(name, options.rounds, options.size, folder, environment) for name in options.only or GROUPS
        }
    rows = [row for name, found in measured.items() for one in COMPARISONS[name] if (row := row_of(one, found))]
    text = report(measured, rows, options.size, where)
    print(text, end="")
    if options.json:
        figures = {"where": where, "size": options.size, "rounds": measured}
        Path(options.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if options.write:
        Path(options.write).write_text(page(text), encoding="utf-8")
    missed = [row.title for row in rows if row.missed]
    broken = [name for name, found in measured.items() if len(found) < options.rounds]
    if missed:
        print(f"Missed: {', '.join(missed)}.", file=sys.stderr)
    return 1 if broken or (missed and options.check) else 0


if __name__ == "__main__":
    sys.exit(main())
