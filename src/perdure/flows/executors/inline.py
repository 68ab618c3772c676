"""The executor that runs jobs one after the other in this process: for small flows, debugging and tests."""

from __future__ import annotations

import os

from perdure.backends.base import Backend
from perdure.flows.executors.base import Executor
from perdure.flows.tasks import Outcome, Task, Workplace, run_task
from perdure.records.seal import Key


class InlineExecutor(Executor):
    """One job at a time, in the thread of the engine."""

    elsewhere = False

    def __init__(self) -> None:
        self._place: Workplace | None = None
        self._task: Task | None = None

    def open(self, backend: Backend, key: Key | None) -> None:
        self._place = Workplace(backend, backend.describe(), key, self.resources)

    def idle(self, wanted: int) -> list[int]:
        return [os.getpid()] if self._task is None and wanted else []

    def submit(self, task: Task, pid: int) -> None:
        self._task = task

    def wait(self) -> list[Outcome]:
        assert self._task is not None
        assert self._place is not None
        task, self._task = self._task, None
        return [run_task(task, self._place)]

    def close(self) -> None:
        self._task = None
