"""The states of jobs and runs, and which may follow which.

- `skipped`: something that the job needs did not succeed. `interrupted`: cut off while running.
- A run is `running` only while its owner lives; see `perdure.ownership`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Generic, TypeVar

from perdure.errors import IllegalTransition


class JobState(StrEnum):
    """Where a job stands."""

    __module__ = "perdure"

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class RunState(StrEnum):
    """Where a run stands."""

    __module__ = "perdure"

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


_J, _R = JobState, RunState

# From waiting to skipped or cancelled without an attempt; from an end back to waiting only by a re-run or a retry.
_JOB_STEPS: dict[JobState, frozenset[JobState]] = {
    _J.WAITING: frozenset({_J.RUNNING, _J.SKIPPED, _J.CANCELLED}),
    _J.RUNNING: frozenset({_J.SUCCEEDED, _J.FAILED, _J.INTERRUPTED, _J.CANCELLED, _J.WAITING}),
    _J.SUCCEEDED: frozenset({_J.WAITING}),
    _J.FAILED: frozenset({_J.WAITING}),
    _J.SKIPPED: frozenset({_J.WAITING}),
    _J.CANCELLED: frozenset({_J.WAITING}),
    _J.INTERRUPTED: frozenset({_J.WAITING}),
}
_RUN_STEPS: dict[RunState, frozenset[RunState]] = {
    _R.WAITING: frozenset({_R.RUNNING, _R.CANCELLED}),
    _R.RUNNING: frozenset({_R.SUCCEEDED, _R.FAILED, _R.INTERRUPTED, _R.CANCELLED, _R.RUNNING}),
    _R.SUCCEEDED: frozenset({_R.RUNNING}),
    _R.FAILED: frozenset({_R.RUNNING}),
    _R.CANCELLED: frozenset({_R.RUNNING}),
    _R.INTERRUPTED: frozenset({_R.RUNNING}),
}

UNDONE = frozenset({_J.FAILED, _J.INTERRUPTED, _J.CANCELLED, _J.SKIPPED})  # what a re-run does again
ENDED = frozenset({_R.SUCCEEDED, _R.FAILED, _R.CANCELLED, _R.INTERRUPTED})


def next_job_state(now: JobState, then: JobState, name: str) -> JobState:
    """`then`, if a job may go there from `now`; raises `IllegalTransition`."""
    if then not in _JOB_STEPS[now]:
        raise IllegalTransition(f"{name} cannot go from {now} to {then}.")
    return then


def next_run_state(now: RunState, then: RunState, name: str) -> RunState:
    """`then`, if a run may go there from `now`; raises `IllegalTransition`."""
    if then not in _RUN_STEPS[now]:
        raise IllegalTransition(f"{name} cannot go from {now} to {then}.")
    return then


S = TypeVar("S", JobState, RunState)


class StoredState(Generic[S]):
    """An attribute that is a state in the program, and plain text in the record: records name no class for it."""

    def __init__(self, kind: type[S]):
        self._kind: type[S] = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self._place = f"{name}_name"

    def __get__(self, obj: Any, owner: type) -> S:
        state: S = self._kind(obj.__dict__[self._place])
        return state

    def __set__(self, obj: Any, state: S) -> None:
        setattr(obj, self._place, state.value)
