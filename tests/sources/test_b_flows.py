"""Memo on pickles and job flows, rows B4 to B7: history of runs, the flow and its states, running again, idempotency.

Written as the memo's author would: a small pipeline in a git repository, run night after night by commands of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import perdure
from perdure import JobState, RunState

PIPELINE = """
import os, pathlib, sys, time
import perdure
from perdure import flow, job

def note(name):
    with open("ran.txt", "a") as file:
        file.write(name + "\\n")

@job
def read(path):
    note("read " + path)
    return pathlib.Path(path).read_text().split()

@job
def parse(words):
    note("parse")
    return [int(word) for word in words]

@job
def total(lists):
    note("total")
    return sum(sum(numbers) for numbers in lists)

@job(idempotent=True)
def fetch(path):
    note("fetch")
    wait(path)
    return path

@job
def pay(path):
    note("pay")
    wait(path)
    return path

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

@flow
def nightly(paths):
    return total([parse(read(path)) for path in paths])

@flow
def accounts(path):
    return [fetch(path), pay(path)]
"""

RUN = """
import perdure, pipeline, sys
run = perdure.start(getattr(pipeline, sys.argv[1]), *eval(sys.argv[2]), store="sqlite:///runs.db", executor="processes")
print(run.id)
"""
AGAIN = "import perdure, sys; print(getattr(perdure, sys.argv[1])(sys.argv[2], store='sqlite:///runs.db').state)"


class Pipeline:
    def __init__(self, folder):
        self.folder = folder
        (folder / "pipeline.py").write_text(PIPELINE)
        (folder / ".gitignore").write_text("*\n!pipeline.py\n")
        (folder / "one.txt").write_text("1 2")
        (folder / "two.txt").write_text("3 four")
        self.git("init", "-q")
        self.commit()

    def git(self, *arguments):
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self):
        self.git("add", "pipeline.py")
        self.git("commit", "-q", "-m", "a step")
        return self.git("rev-parse", "HEAD")

    def begin(self, program, *arguments):
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, text=True)

    def command(self, program, *arguments):
        process = self.begin(program, *arguments)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return out.strip()

    def nightly(self):
        return self.command(RUN, "nightly", "[['one.txt', 'two.txt']]")

    def open(self):
        return perdure.make_store(f"sqlite:///{self.folder}/runs.db")

    def ran(self):
        """What was really executed, in order."""
        file = self.folder / "ran.txt"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def pipeline(tmp_path):
    return Pipeline(tmp_path)


def test_b4_history_of_job_runs(pipeline):
    before = time.time()
    id_ = pipeline.nightly()
    commit = pipeline.git("rev-parse", "HEAD")
    with pipeline.open() as store:
        run = store.load(id_)
        for job in run.jobs():
            for attempt in job.attempts:
                assert before < attempt.started <= attempt.ended < time.time()  # when, and how long
                assert (attempt.host, attempt.pid > 1) == (os.uname().nodename, True)  # where
                assert attempt.code.state.repositories[0].commit == commit  # with which code
        failed = [job for job in run.jobs() if job.state is JobState.FAILED]
        (attempt,) = failed[0].attempts
        assert attempt.traceback.splitlines()[-1] == "ValueError: invalid literal for int() with base 10: 'four'"
        assert 'File "pipeline.py"' in attempt.traceback
        assert [job.attempts[0].result() for job in run.jobs() if job.name == "read"] == [["1", "2"], ["3", "four"]]
    pipeline.nightly()  # the next night
    with pipeline.open() as store:
        runs = [store.load(id_) for id_ in store.list(all=True) if id_.startswith("Run.")]
        assert [run.state for run in runs] == ["failed", "failed"]
        assert runs[0].ended < runs[1].created


def test_b5_the_flow_of_jobs_and_whether_each_succeeded(pipeline):
    id_ = pipeline.nightly()
    with pipeline.open() as store:
        run = store.load(id_)
        assert (run.flow, run.source, run.state) == ("pipeline:nightly", "pipeline.py", RunState.FAILED)
        assert [(job.name, str(job.state)) for job in run.jobs()] == [
            ("read", "succeeded"), ("parse", "succeeded"), ("read", "succeeded"), ("parse", "failed"),
            ("total", "skipped"),
        ]  # fmt: skip
        one, parsed_one, two, parsed_two, total = run.jobs()
        assert [job.needs for job in run.jobs()] == [[], [one], [], [two], [parsed_one, parsed_two]]
        with pytest.raises(perdure.RunFailed, match=r"parse \(Job\.\d+\): ValueError: invalid literal"):
            run.result()
        assert total.attempts == []


def test_b6_failed_tasks_can_be_run_again(pipeline):
    id_ = pipeline.nightly()
    first = pipeline.git("rev-parse", "HEAD")
    (pipeline.folder / "pipeline.py").write_text(
        PIPELINE.replace("int(word) for word in words", "int(word) for word in words if word.isdigit()")
    )
    second = pipeline.commit()
    assert pipeline.command(AGAIN, "rerun", id_) == "succeeded"
    assert sorted(pipeline.ran()) == sorted(["read one.txt", "read two.txt", "parse", "parse", "parse", "total"])
    with pipeline.open() as store:
        run = store.load(id_)
        assert run.result() == 1 + 2 + 3
        assert [len(job.attempts) for job in run.jobs()] == [1, 1, 1, 2, 1]
        failed, mended = run.jobs()[3].attempts
        assert (failed.state, mended.state) == (JobState.FAILED, JobState.SUCCEEDED)
        assert [attempt.code.state.repositories[0].commit for attempt in (failed, mended)] == [first, second]
        assert failed.pid != mended.pid


def test_b7_be_aware_of_idempotency(pipeline):
    """The power goes while one job fetches something and another pays: only the first is started again by itself."""
    process = pipeline.begin(RUN, "accounts", "['go']")
    for _ in range(1000):
        if len(pipeline.ran()) == 2:
            break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    with pipeline.open() as store:
        (id_,) = (id_ for id_ in store.list(all=True) if id_.startswith("Run."))
        assert store.load(id_).state is RunState.INTERRUPTED
    (pipeline.folder / "go").touch()
    assert pipeline.command(AGAIN, "resume", id_) == "interrupted"
    assert sorted(pipeline.ran()) == ["fetch", "fetch", "pay"]
    with pipeline.open() as store:
        assert [str(job.state) for job in store.load(id_).jobs()] == ["succeeded", "interrupted"]
    assert pipeline.command(AGAIN, "rerun", id_) == "succeeded"  # a person has looked, and says so
    assert sorted(pipeline.ran()) == ["fetch", "fetch", "pay", "pay"]
    with pipeline.open() as store:
        assert store.load(id_).result() == ["go", "go"]
