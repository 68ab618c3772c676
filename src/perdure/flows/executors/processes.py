"""The executor that runs jobs in worker processes of this machine.

- Workers are new interpreters with this one's import path: they import the jobs' modules afresh, and share nothing.
- One job at a time in a worker. A worker that dies, or whose job goes past its time-out, costs just that job.
- Each worker leads a process group of its own: Ctrl-C reaches the engine alone, and what a job has started ends with
  the job's process.
- While jobs run, the engine answers the workers' reads.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from pickle import PickleBuffer
from typing import Any, cast

import perdure.errors
from perdure.backends.base import Backend
from perdure.errors import FlowError, JobTimeout, PerdureError, WorkerDied
from perdure.flows.executors.base import Executor
from perdure.flows.executors.worker import (
    ANSWER,
    BUFFER,
    CLASSES,
    END,
    HELLO,
    OUTCOME,
    READ,
    RESERVE,
    TASK,
    Channel,
)
from perdure.flows.resources import sent
from perdure.flows.tasks import Outcome, Task, failure
from perdure.records.seal import Key

GRACE = 2.0  # seconds that a worker has to end a job by its own alarm before it is killed
LEAVING = 5.0  # seconds that idle workers have to exit at the end
_START = (
    "import sys; sys.path.insert(0, sys.argv[2]);"
    " from perdure.flows.executors.worker import main; main(int(sys.argv[1]))"
)


class Worker:
    """A worker process as the engine sees it."""

    def __init__(self, hello: tuple[Any, ...], kind: str = "", python: str = ""):
        self.kind = kind
        ours, theirs = socket.socketpair()
        package = str(Path(perdure.errors.__file__).parent.parent)
        self.process = subprocess.Popen(
            [python or sys.executable, "-c", _START, str(theirs.fileno()), package],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        # Its end is seen even while processes that a job has forked keep the channel open.
        self.watched = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None
        theirs.close()
        self.connection = Connection(ours.detach())
        self.channel = Channel(self.connection)
        self.task: Task | None = None
        self.since = 0.0
        self.deadline = float("inf")
        with suppress(OSError):  # it has died already: found out when it is given a task
            self.channel.send(HELLO, *hello)

    def begin(self, task: Task) -> None:
        self.task = task
        self.since = time.time()
        self.deadline = float("inf") if task.timeout is None else time.monotonic() + task.timeout + GRACE
        self.channel.send(TASK, task)

    def end(self) -> None:
        """Ask an idle worker to leave; kill a busy one."""
        try:
            if self.task is None:
                self.channel.send(END)
            else:
                self.kill()
        except OSError:
            self.kill()

    def kill(self) -> None:
        """End it and every process of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def join(self) -> int:
        """Wait until it is gone; gives its exit status."""
        try:
            status = self.process.wait(LEAVING)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self.process.wait()
        self.connection.close()
        if self.watched is not None:
            os.close(self.watched)
        return status


class ProcessesExecutor(Executor):
    """Runs jobs in up to `workers` processes; by default as many as the cores that this process may use."""

    def __init__(self, workers: int | None = None):
        if workers is not None and workers < 1:
            raise FlowError(f"{workers} workers cannot run anything.", hint="Give 1 or more.")
        self._most = workers or _cores()
        self._workers: list[Worker] = []
        self._backend: Backend | None = None
        self._hello: tuple[Any, ...] = ()

    def open(self, backend: Backend, key: Key | None) -> None:
        self._backend = backend
        secret = None if key is None else key.secret
        self._hello = (list(sys.path), tuple(backend.describe()), secret, sent(self.resources))

    def idle(self, wanted: int) -> list[int]:
        idle = [worker for worker in self._workers if worker.task is None][:wanted]
        while len(idle) < wanted and len(self._workers) < self._most:
            worker = Worker(self._hello)
            self._workers.append(worker)
            idle.append(worker)
        return [worker.process.pid for worker in idle]

    def submit(self, task: Task, pid: int) -> None:
        worker = next(worker for worker in self._workers if worker.process.pid == pid)
        try:
            worker.begin(task)
        except OSError:
            worker.task = task  # it died while idle: `wait` finds the end of its channel

    def wait(self) -> list[Outcome]:
        # To linger for others that are about to end was tried: fewer commits, but the engine is what all wait for.
        outcomes: list[Outcome] = []
        while not outcomes:
            busy = [worker for worker in self._workers if worker.task is not None]
            soonest = min(worker.deadline for worker in busy)
            remaining = None if soonest == float("inf") else max(0.0, soonest - time.monotonic())
            signs: list[Any] = [worker.connection for worker in busy]
            signs += [worker.watched for worker in busy if worker.watched is not None]
            ready = wait_for(signs, remaining)
            for worker in busy:
                if worker.connection in ready:
                    outcomes += self._hear(worker)
                elif worker.watched in ready and not worker.connection.poll():
                    outcomes.append(self._died(worker))
                elif worker.deadline <= time.monotonic():
                    outcomes.append(self._overdue(worker))
        return outcomes

    def close(self) -> None:
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.join()
        self._workers = []

    def _hear(self, worker: Worker) -> list[Outcome]:
        """What a worker says: an outcome, or a question, which is answered."""
        try:
            kind, *rest = worker.channel.receive()
        except (EOFError, OSError):
            return [self._died(worker)]
        if kind == OUTCOME:
            worker.task = None
            return [cast(Outcome, rest[0])]
        assert self._backend is not None
        answers: dict[str, Callable[..., Any]] = {
            READ: self._backend.read,
            CLASSES: self._backend.classes,
            RESERVE: lambda count, durable: self._reserve(count, durable),
            BUFFER: lambda digest: self._buffer(digest),
        }
        try:
            answer, error = answers[kind](*rest), None
        except PerdureError as raised:
            answer, error = None, raised
        try:
            worker.channel.send(ANSWER, answer, error)
        except OSError:
            return [self._died(worker)]
        return []

    def _reserve(self, count: int, durable: bool) -> int:
        assert self._backend is not None
        return self._backend.reserve(count, durable=durable)

    def _buffer(self, digest: str) -> PickleBuffer:
        assert self._backend is not None
        return PickleBuffer(self._backend.buffer(digest))

    def _died(self, worker: Worker) -> Outcome:
        self._workers.remove(worker)
        task = worker.task
        assert task is not None
        worker.kill()  # what the job has started and left behind
        status = worker.join()
        how = f"killed by {_signal_name(-status)}" if status < 0 else f"exited with status {status}"
        told = WorkerDied(f"The process that ran the job, {worker.process.pid}, ended in the middle of it: {how}.")
        return failure(task.job, worker.since, told)

    def _overdue(self, worker: Worker) -> Outcome:
        self._workers.remove(worker)
        task = worker.task
        assert task is not None
        worker.kill()
        worker.join()
        told = JobTimeout(f"The job ran longer than its time-out of {task.timeout:g} s, and its process was killed.")
        return failure(task.job, worker.since, told)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
