"""Flows of jobs, run once and re-run exactly: every attempt is history, and one job's end is one commit."""

from perdure.flows.definitions import Flow, JobFunction, flow, job
from perdure.flows.engine import Progress
from perdure.flows.model import Attempt, Job, Run
from perdure.flows.running import rerun, resume, start
from perdure.flows.states import JobState, RunState

__all__ = [
    "Attempt", "Flow", "Job", "JobFunction", "JobState", "Progress", "Run", "RunState", "flow", "job", "rerun",
    "resume", "start",
]  # fmt: skip
