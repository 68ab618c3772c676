"""The states of jobs and runs, and which may follow which.

- `skipped`: something that the job needs did not succeed. `interrupted`: cut off while running.
- A run is `running` only while its owner lives; see `perdure.flows.ownership`.
"""

from __future__ import annotations

from enum import StrEnum

from perdure.errors import IllegalTransition


class JobState(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class RunState(StrEnum):
    """Where a run stands."""

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
