"""A flow of many jobs that do nothing, and one that needs them all: with perdure's full durable history in SQLite.

- The clock runs from `start` to the end of the run: building the jobs, starting and ending workers included.
- The breakdown is a run of its own: clocks around calls of perdure's floors, each second counted once, so that what
  the clocks cost is not in the figures that are compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from work import Figures, clock, require

from perdure import flow, job, make_store, start
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.flows.executors.inline import InlineExecutor
from perdure.flows.executors.processes import ProcessesExecutor
from perdure.objects.coding import Codes
from perdure.objects.transactions.worklist import Worklist
from perdure.objects.views.view import View

WORKERS = 2


@job
def nothing(number: int) -> int:
    """A job that does nothing."""
    return number


@job
def total(numbers: list[int]) -> int:
    """The job that needs all others."""
    return sum(numbers)


@flow
def wide(count: int) -> Any:
    """`count` jobs side by side, and their total."""
    return total([nothing(number) for number in range(count)])


def run_flow(folder: Path, size: int, executor: str) -> Figures:
    """Run the flow in a new store."""
    figures: Figures = {}
    with make_store(f"sqlite:///{folder / 'flow.db'}") as store:
        with clock(figures, executor):
            run = start(wide, size, store=store, executor=executor, workers=WORKERS)
        require(run.result(), size * (size - 1) // 2)
        require(sum(len(job.attempts) for job in run.jobs()), size + 1)
    return figures


class Stopwatch:
    """Counts each second for the innermost of the named calls that are running, and how often each was called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._running: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time counted under that name."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._running.append(name)
            self.calls[name] = self.calls.get(name, 0) + 1
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._running.pop()

        return wrapper

    def watch(self, cls: type[Any], method: str, name: str) -> None:
        """From now on count the calls of that method."""
        setattr(cls, method, self.timed(name, getattr(cls, method)))


def watch_floors(watch: Stopwatch) -> None:
    """Put clocks around what the floors below the engine do for it."""
    apply = SqliteBackend.apply

    def sealing(self: Any, batch: Any, encode: Any) -> Any:
        return apply(self, batch, watch.timed("seal and frame", encode))

    setattr(SqliteBackend, "apply", watch.timed("SQLite: write and fsync", sealing))  # noqa: B010  # a method is replaced
    for method in ("read", "classes", "revision", "changes", "reserve", "describe"):
        watch.watch(SqliteBackend, method, "SQLite: read")
    for method in ("add", "run", "batch", "finish"):
        watch.watch(Worklist, method, "find changes and pickle")
    for method in ("wake", "load_many"):
        watch.watch(View, method, "load and wake")
    watch.watch(Codes, "of", "code records")
    for executor in (InlineExecutor, ProcessesExecutor):
        watch.watch(executor, "idle", "start workers")
        watch.watch(executor, "close", "end workers")
        watch.watch(executor, "submit", "channel: hand out")
    watch.watch(InlineExecutor, "wait", "run jobs")
    watch.watch(ProcessesExecutor, "wait", "channel: wait and receive")


def break_down(folder: Path, size: int, executor: str) -> Figures:
    """Where the time of a run goes, in seconds, and how often it was gone there."""
    watch = Stopwatch()
    watch_floors(watch)
    with make_store(f"sqlite:///{folder / 'flow.db'}") as store:
        watch.timed("engine and the rest", start)(wide, size, store=store, executor=executor, workers=WORKERS)
    figures = {f"{executor} part {name}": seconds for name, seconds in watch.seconds.items()}
    return figures | {f"{executor} calls {name}": float(calls) for name, calls in watch.calls.items()}


TASKS = {
    "inline": partial(run_flow, executor="inline"),
    "processes": partial(run_flow, executor="processes"),
    "inline_parts": partial(break_down, executor="inline"),
    "processes_parts": partial(break_down, executor="processes"),
}
