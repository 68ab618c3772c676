"""kill -9 at any moment: a job is done or not done, what is done is never run again, and the run can go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chances import dice

from perdure import make_store
from perdure.ownership import owner_of
from perdure.records.frame import parse_unverified
from perdure.upkeep import check

pytestmark = pytest.mark.crash

PROGRAM = Path(__file__).parent / "flows_workload.py"
SEEDS = range(1)  # of the moments; each gives up to MOST_KILLS of them for every kind of run
MOST_KILLS = 3


class Scene:
    """A store and a folder of marks; programs that drive a run there, and what can be seen from outside."""

    def __init__(self, folder, executor, *, store="sqlite:///{folder}/runs.db"):
        self.url = store.format(folder=folder)
        self.executor = executor
        self.folder = folder / "marks"
        self.folder.mkdir()
        make_store(self.url).close()

    def begin(self, verb, *arguments):
        command = [sys.executable, str(PROGRAM), verb, self.url, self.executor, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, process):
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        return out.strip()

    def marks(self):
        """How often each job was really begun."""
        return Counter(file.name.partition(".")[0] for file in self.folder.iterdir())

    def records(self, name):
        with make_store(self.url, read_only=True) as store:
            found = map(parse_unverified, store.backend.scan(class_name=f"perdure:{name}"))
            return {record.id: record.fields for record in found}

    def run_id(self):
        (id_,) = self.records("Run")
        return id_

    def seen_state(self):
        """The run's state as headers and the table of processes tell it."""
        (fields,) = self.records("Run").values()
        owner = owner_of(fields["owner"] or "")
        return "interrupted" if fields["state"] == "running" and not owner.lives() else fields["state"]

    def look(self):
        """What must hold at any moment; gives the jobs' states by the names of their marks."""
        marks, states = self.marks(), {}
        with make_store(self.url) as store:
            assert check(store) == []
            run = store.load(self.run_id())
            for job in run.jobs():
                name = "hold" if job.name == "hold" else job.args[1]
                states[name] = str(job.state)
                ended = [attempt for attempt in job.attempts if attempt.state in ("succeeded", "failed")]
                assert len(ended) <= marks[name] <= len(job.attempts), name
                assert len(ended) <= 1, name  # what has ended is never run again
                if job.state == "succeeded":
                    job.result()
            ledger = ledger_of(store)
            written = [name for name in states if name.startswith("line") and states[name] == "succeeded"]
            assert ledger is None or ledger.lines == written
        return states


def ledger_of(store):
    ids = [id_ for id_ in store if id_.startswith("Ledger.")]
    return store.load(ids[0]) if ids else None


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def is_gone(pid):
    """Whether a process is no more; one that nobody has taken note of yet counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(scene, process, chance):
    """Let it work for a moment, then kill -9; gives whether it was still at work."""
    before = sum(scene.marks().values())
    until(lambda: sum(scene.marks().values()) > before or process.poll() is not None)
    time.sleep(chance.uniform(0.0, 0.15))
    process.kill()
    killed = process.wait() == -9
    process.communicate()
    workers = {fields["pid"] for fields in scene.records("Attempt").values()} - {os.getpid()}
    until(lambda: all(map(is_gone, workers)), 3)
    return killed


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("executor", ["inline", "processes"])
@pytest.mark.parametrize("kind", ["idempotent", "once"])
def test_killed_at_any_moment(tmp_path, executor, kind, seed):
    chance = dice(executor, kind, seed)
    scene = Scene(tmp_path, executor)
    killed = kill(scene, scene.begin("layers", str(scene.folder), kind), chance)
    for kills in range(1, MOST_KILLS + 1):
        states = scene.look()
        if not killed or next(iter(scene.records("Run").values()))["state"] != "running":
            break  # it was faster
        assert scene.seen_state() == "interrupted"
        assert "running" not in states.values()
        done = {name for name, state in states.items() if state == "succeeded"}
        before = scene.marks()
        process = scene.begin("resume", scene.run_id())
        if kills < MOST_KILLS:
            killed = kill(scene, process, chance)
        else:
            killed = False
            scene.finish(process)
        assert {name: scene.marks()[name] for name in done} == {name: before[name] for name in done}
    states = scene.look()
    if kind == "idempotent":
        assert set(states.values()) == {"succeeded"}
        assert scene.seen_state() == "succeeded"
        return
    # what was cut off waits for a person, and what needs it is skipped
    assert set(states.values()) <= {"succeeded", "interrupted", "skipped"}
    if "interrupted" in states.values():
        assert scene.seen_state() == "interrupted"
        assert scene.finish(scene.begin("rerun", scene.run_id())) == "succeeded"
    assert set(scene.look().values()) == {"succeeded"}


def test_killed_on_a_store_in_a_directory(tmp_path):
    scene = Scene(tmp_path, "processes", store="{folder}/objects")
    kill(scene, scene.begin("layers", str(scene.folder), "idempotent"), dice("layers"))
    scene.look()
    assert scene.finish(scene.begin("resume", scene.run_id())) == "succeeded"
    assert set(scene.look().values()) == {"succeeded"}


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_one_owner_at_a_time(tmp_path, executor):
    """Nobody goes on with a run whose owner lives; when it was killed, one of two that try at once does."""
    go = tmp_path / "go"
    scene = Scene(tmp_path, executor)
    first = scene.begin("hold", str(scene.folder), str(go))
    until(lambda: scene.marks()["hold"] == 1)
    for verb in ("resume", "rerun"):
        told = scene.finish(scene.begin(verb, scene.run_id()))
        assert told.startswith(f"RunAlive {scene.run_id()} belongs to process {first.pid} on ")
    assert scene.seen_state() == "running"
    first.kill()
    first.communicate()
    assert scene.seen_state() == "interrupted"

    two = [scene.begin("resume", scene.run_id()) for _ in range(2)]
    until(lambda: any(process.poll() is not None for process in two))
    loser = next(process for process in two if process.poll() is not None)
    (winner,) = (process for process in two if process is not loser)
    told = scene.finish(loser)
    assert told.startswith("RunAlive")
    until(lambda: scene.marks()["hold"] == 2)
    assert scene.seen_state() == "running"
    go.touch()
    assert scene.finish(winner) == "succeeded"
    assert scene.marks()["hold"] == 2
    assert scene.look() == {"hold": "succeeded"}


def test_a_killed_worker_costs_its_job_only(tmp_path):
    go = tmp_path / "go"
    scene = Scene(tmp_path, "processes")
    engine = scene.begin("hold", str(scene.folder), str(go))
    until(lambda: scene.marks()["hold"] == 1)
    (attempt,) = scene.records("Attempt").values()
    os.kill(attempt["pid"], 9)
    assert scene.finish(engine) == ""
    (attempt,) = scene.records("Attempt").values()
    assert (attempt["state"], attempt["error_type"]) == ("failed", "WorkerDied")
    assert "killed by SIGKILL" in attempt["error"]
    go.touch()
    assert scene.finish(scene.begin("rerun", scene.run_id())) == "succeeded"


def test_no_lock_of_a_dead_owner_is_left(tmp_path):
    scene = Scene(tmp_path, "inline")
    kill(scene, scene.begin("layers", str(scene.folder), "idempotent"), dice("others"))
    locks = Path(os.environ["XDG_STATE_HOME"]) / "perdure" / "runs"
    assert len(list(locks.iterdir())) == 1
    assert scene.finish(scene.begin("resume", scene.run_id())) == "succeeded"
    assert list(locks.iterdir()) == []
