"""The contract of an executor, call by call.

- `resources` are set before `open`: those of the engine's store, for what refers to something outside of it.
- `open` once, then any number of `idle`, `submit`, `wait`, then `close`; all from the engine's thread.
- `idle` gives the process ids that can take a task now: attempts note which, before the task is handed out.
- `wait` gives at least one outcome if a task is out, and as many as are ready. A worker that died is an outcome.
- `close` ends every worker, tasks that are out included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from perdure.backends.base import Backend
from perdure.flows.tasks import Outcome, Task
from perdure.pickling.outside import NO_RESOURCES, Resources
from perdure.records.seal import Key


class Executor(ABC):
    """Runs tasks. See the module's text. `elsewhere`: in other processes, which must find functions by their names."""

    elsewhere: bool = True
    resources: Resources = NO_RESOURCES

    @abstractmethod
    def open(self, backend: Backend, key: Key | None) -> None:
        """Get ready to run jobs of this store."""

    @abstractmethod
    def idle(self, wanted: int) -> list[int]:
        """The process ids of at most `wanted` workers that can take a task now; starts workers if that is due."""

    def places(self, kinds: Sequence[str]) -> list[tuple[int, int]]:
        """For some of the tasks that wait, each of its kind: its place among them, and the process that can take it.

        Kinds tell tasks apart that cannot share a process; here, none.
        """
        return list(enumerate(self.idle(len(kinds))))

    @abstractmethod
    def submit(self, task: Task, pid: int) -> None:
        """Hand out a task to the worker of that process id."""

    @abstractmethod
    def wait(self) -> list[Outcome]:
        """Outcomes that are ready; waits for one."""

    @abstractmethod
    def close(self) -> None:
        """End all workers."""
