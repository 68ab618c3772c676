"""The graph of a run's jobs as plain values: which may start, which never will, and how the run ends.

- It holds ids and states only; whoever changes a job's state tells the graph.
- A job is ready when everything that it needs has succeeded; it is hopeless when something has ended otherwise.
"""

from __future__ import annotations

from collections import Counter, deque

from perdure.flows.states import UNDONE, JobState, RunState

_FINAL = (
    (JobState.FAILED, RunState.FAILED),
    (JobState.INTERRUPTED, RunState.INTERRUPTED),
    (JobState.CANCELLED, RunState.CANCELLED),
)


class Graph:
    """Jobs by their ids: what each needs, and where it stands."""

    def __init__(self) -> None:
        self.needs: dict[str, list[str]] = {}
        self.ready: deque[str] = deque()
        self.counts: Counter[JobState] = Counter()
        self._states: dict[str, JobState] = {}
        self._dependents: dict[str, list[str]] = {}
        self._missing: dict[str, int] = {}  # needs of a waiting job that have not succeeded yet
        self._ended_badly: list[str] = []  # whose dependents are not skipped yet

    def add(self, id_: str, state: JobState, needs: list[str]) -> None:
        """A job; all of them are added before `complete`."""
        self.needs[id_] = needs
        self._states[id_] = state
        self.counts[state] += 1
        for need in needs:
            self._dependents.setdefault(need, []).append(id_)

    def complete(self) -> None:
        """All jobs are there: find out which are ready."""
        for id_, state in self._states.items():
            if state is JobState.WAITING:
                self._missing[id_] = sum(self._states[need] is not JobState.SUCCEEDED for need in self.needs[id_])
                if not self._missing[id_]:
                    self.ready.append(id_)
            elif state in UNDONE:
                self._ended_badly.append(id_)

    def go(self, id_: str, state: JobState) -> None:
        """A job's state has changed."""
        self.counts[self._states[id_]] -= 1
        self.counts[state] += 1
        self._states[id_] = state
        if state is JobState.WAITING:
            self.ready.append(id_)  # a retry: what it needs is there
        elif state in UNDONE:
            self._ended_badly.append(id_)
        elif state is JobState.SUCCEEDED:
            for dependent in self._dependents.get(id_, ()):
                if self._states[dependent] is JobState.WAITING:
                    self._missing[dependent] -= 1
                    if not self._missing[dependent]:
                        self.ready.append(dependent)

    def take_hopeless(self) -> list[str]:
        """The waiting jobs that need something that has ended without success; they are skipped from now on."""
        skipped = []
        while self._ended_badly:
            for dependent in self._dependents.get(self._ended_badly.pop(), ()):
                if self._states[dependent] is JobState.WAITING:
                    self.go(dependent, JobState.SKIPPED)
                    skipped.append(dependent)
        return skipped

    def final_state(self) -> RunState:
        """The state of a run in which nothing runs or waits any more."""
        return next((run for job, run in _FINAL if self.counts[job]), RunState.SUCCEEDED)
