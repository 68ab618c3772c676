"""One measurement in a process of its own: `python bench/work.py SIDE TASK FOLDER SIZE` prints its figures as JSON.

- `run_task` starts that process; a side is a module of this folder, a task one of the functions in its `TASKS`.
- Imports and the building of the data are outside the clock; garbage is collected before it starts.
- A task that finds other data than was saved raises `BrokenMeasurement`, and its group ends.
- Read by Python 3.9 too, which the oldest of the peers needs.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

Figures = dict[str, float]
Task = Callable[[Path, int], Figures]  # the folder of its store, and how many objects

CPU = " cpu"  # ends the name of the figure that has the seconds of this process's processor


class BrokenMeasurement(Exception):
    """A side did not do what was to be measured, so there is nothing to compare."""


_running: list[str] = []  # names of the figures whose clocks run: within a longer one there may be a shorter one


@contextmanager
def clock(figures: Figures, name: str) -> Iterator[None]:
    """Note how many seconds the block takes, by the clock on the wall and on the processor."""
    if not _running:  # else the longer figure would tell how much this process has imported
        gc.collect()
    _running.append(name)
    try:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        figures[name], figures[name + CPU] = time.perf_counter() - wall, time.process_time() - processor
    finally:
        _running.remove(name)


def require(found: int, expected: int) -> None:
    """Raise unless what was loaded is what was saved."""
    if found != expected:
        raise BrokenMeasurement(f"the sum over what was loaded is {found}, not {expected}")


def bytes_in(folder: Path) -> int:
    """The sizes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_memory() -> float:
    """The most memory that this process ever had, in MiB. (`ru_maxrss` may be that of the process before `exec`.)"""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BrokenMeasurement("this system does not tell how much memory a process has had")


def run_task(
    side: str,
    task: str,
    folder: Path,
    size: int,
    environment: Mapping[str, str],
    *,
    interpreter: str = sys.executable,
    called: str = "",
) -> Figures:
    """The figures of one task, measured in a new process; their names begin with `called`, or the side's name."""
    folder.mkdir(exist_ok=True)
    command = [interpreter, __file__, side, task, str(folder), str(size)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BrokenMeasurement(f"{side} {task} ended with status {done.returncode}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {f"{called or side} {name}": value for name, value in figures.items()}


def main(side: str, task: str, folder: str, size: str) -> None:
    """Run one task in this process."""
    tasks: Mapping[str, Task] = import_module(side).TASKS
    print(json.dumps(tasks[task](Path(folder), int(size))))


if __name__ == "__main__":
    main(*sys.argv[1:])
