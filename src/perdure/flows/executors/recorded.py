"""The executor that runs jobs in worker processes which have recorded code, and nothing else of the user's.

- A worker has one version of the code; where jobs ran with different ones, each has workers of its own.
- Workers import from the recorded code and from what is installed for their interpreter: late imports get the old code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import perdure.errors
from perdure.flows.executors.processes import ProcessesExecutor, Worker
from perdure.flows.executors.worker import Roots


class Code(NamedTuple):
    """Code that workers import: the directories, and the interpreter ("" for this one)."""

    roots: tuple[str, ...]
    python: str


class RecordedExecutor(ProcessesExecutor):
    """Runs jobs in up to `workers` processes, each with one of the `codes`, by the ids of code records."""

    def __init__(self, codes: Mapping[str, Code], workers: int | None = None):
        super().__init__(workers)
        self._codes = codes

    def places(self, kinds: Sequence[str]) -> list[tuple[int, int]]:
        found = []
        idle = [worker for worker in self._workers if worker.task is None]
        waiting = list(enumerate(kinds))
        for place, kind in waiting[:]:
            worker = next((each for each in idle if each.kind == kind), None)
            if worker is not None:
                idle.remove(worker)
                waiting.remove((place, kind))
                found.append((place, worker.process.pid))
        for place, kind in waiting:
            if len(self._workers) >= self._most:
                if not idle:
                    break
                leaving = idle.pop()  # of other code
                leaving.end()
                leaving.join()
                self._workers.remove(leaving)
            found.append((place, self._hire(kind).process.pid))
        return found

    def _hire(self, kind: str) -> Worker:
        code = self._codes[kind]
        house = str(Path(perdure.errors.__file__).parent.parent)
        worker = Worker((Roots(code.roots, (house,)), *self._hello[1:]), kind, code.python)
        self._workers.append(worker)
        return worker
