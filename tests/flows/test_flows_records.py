"""What a run leaves behind: readable by headers when the code is gone, with the code it ran with, without places."""

from __future__ import annotations

import getpass
import os
import pickletools
import subprocess
import sys

import flow_jobs
import pytest

import perdure
from perdure.records.frame import parse_unverified
from perdure.records.shape import parse_shape
from perdure.records.values import SHAPED

PIPELINE = """
import perdure
from perdure import Persistable, flow, job
from pipe.words import count

class Text(Persistable):
    def __init__(self, text):
        self.text = text

@job
def words(text):
    return count(text)

@job(idempotent=True)
def total(counts):
    return sum(counts)

@flow
def survey(texts):
    return total([words(text) for text in texts])
"""
WORDS = "def count(text):\n    return len(text.{method}())\n"
START = """
import sys, perdure
from pipe import jobs
run = perdure.start(jobs.survey, [jobs.Text("a b"), "a b c"], store=sys.argv[1], executor=sys.argv[2], workers=1)
print(run.id, run.state)
"""
AGAIN = """
import sys, perdure
from perdure.flows.running import changed_functions, jobs_to_rerun
store = perdure.make_store(sys.argv[1])
run = store.load(sys.argv[2])
print(changed_functions(jobs_to_rerun(run)))
perdure.rerun(run, executor=sys.argv[3], workers=1)
print(run.state, run.result() if run.state == "succeeded" else "")
"""


class Project:
    """A small project in a git repository, whose programs run in processes of their own."""

    def __init__(self, folder):
        self.folder = folder / "secret-place" / "project"
        (self.folder / "pipe").mkdir(parents=True)
        (self.folder / "pipe" / "__init__.py").touch()
        self.write("jobs", PIPELINE)
        self.write("words", WORDS.format(method="splits"))
        self.git("init", "-q")
        self.url = f"sqlite:///{folder}/runs.db"

    def write(self, module, text):
        (self.folder / "pipe" / f"{module}.py").write_text(text)

    def git(self, *arguments):
        command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a step")
        return self.git("rev-parse", "HEAD")

    def run(self, program, *arguments):
        command = [sys.executable, "-c", program, self.url, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def frames(store, class_name=None):
    return [parse_unverified(frame) for frame in store.backend.scan(class_name=class_name)]


def headers(store, name):
    return [record.fields for record in frames(store, f"perdure:{name}")]


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_history_is_readable_when_the_code_is_gone(project, executor):
    commit = project.commit()
    started = project.run(START, executor)
    assert started.endswith(" failed")
    with perdure.make_store(project.url) as store:  # this process has no module `pipe`
        assert "pipe" not in sys.modules
        (run,) = headers(store, "Run")
        assert (run["flow"], run["state"], run["jobs"], run["owner"]) == ("pipe.jobs:survey", "failed", 3, None)
        assert run["source"] == "pipe/jobs.py"
        assert 0 < run["created"] <= run["ended"]
        jobs = sorted(headers(store, "Job"), key=lambda job: (job["name"], job["arguments"]))
        assert [(job["name"], job["arguments"], job["state"], job["attempts"]) for job in jobs] == [
            ("total", "[words, words]", "skipped", 0),
            ("words", "'a b c'", "failed", 1), ("words", "Text", "failed", 1),
        ]  # fmt: skip
        attempts = headers(store, "Attempt")
        assert len(attempts) == 2
        for attempt in attempts:
            assert (attempt["number"], attempt["state"]) == (1, "failed")
            assert attempt["error_type"] == "AttributeError"
            assert "splits" in attempt["error"]
            assert attempt["code"].startswith(f"commit {commit[:7]} ")
            assert attempt["started"] <= attempt["ended"]
            assert attempt["pid"] > 0
            assert attempt["host"]
            assert 'File "pipe/words.py", line 2, in count' in attempt["traceback"]
        found = store.load(started.split()[0])
        assert found.state == "failed"
        assert [job.attempts[0].error_type for job in found.jobs() if job.attempts] == ["AttributeError"] * 2


def test_a_rerun_records_the_new_commit(project):
    first = project.commit()
    id_ = project.run(START, "inline").split()[0]
    project.write("words", WORDS.format(method="split"))
    project.write("jobs", PIPELINE.replace("return count(text)", "return count(getattr(text, 'text', text))"))
    second = project.commit()
    told = project.run(AGAIN, id_, "processes").splitlines()
    assert told == ["{'pipe.jobs:words': 'has changed'}", "succeeded 5"]
    with perdure.make_store(project.url) as store:
        run = store.load(id_)
        for job in run.jobs()[:2]:
            before, after = (attempt.code.state for attempt in job.attempts)
            assert [state.repositories[0].commit for state in (before, after)] == [first, second]
            assert not before.repositories[0].changed
            assert before.module("pipe.words").digest != after.module("pipe.words").digest
        assert len(run.jobs()[2].attempts) == 1
        texts = [store.load(source.id).text for source in frames(store, "perdure:Source")]
        assert len(texts) == len(set(texts))  # each text once
        assert WORDS.format(method="splits") in texts
        assert WORDS.format(method="split") in texts


def test_an_uncommitted_change_is_noted(project):
    project.commit()
    project.write("words", WORDS.format(method="split") + "# not committed\n")
    id_ = project.run(START, "inline").split()[0]
    with perdure.make_store(project.url) as store:
        state = store.load(id_).jobs()[0].attempts[0].code.state
        assert state.repositories[0].changed is True
        assert state.module("pipe.words").changed is True
        assert state.module("pipe.jobs").changed is False


@pytest.mark.parametrize("executor", ["inline", "processes"])
@pytest.mark.parametrize("in_git", [True, False])
def test_no_place_of_this_machine_is_stored(project, tmp_path, executor, in_git):
    if in_git:
        project.commit()
    else:
        subprocess.run(["rm", "-rf", str(project.folder / ".git")], check=True)
    project.run(START, executor)
    forbidden = [str(tmp_path), "secret-place", os.path.expanduser("~"), sys.prefix, os.getcwd()]
    if len(getpass.getuser()) > 4:
        forbidden.append(getpass.getuser())
    with perdure.make_store(project.url) as store:
        names = store.list(all=True)
        assert len(names) > 8
        for id_ in names:
            for version in store.backend.history(id_):
                for text in forbidden:
                    assert text.encode() not in version.frame, (id_, text)


def test_worker_and_engine_may_have_imported_different_states_of_the_code(tmp_path, monkeypatch):
    """The module was edited after this process had imported it: attempts of workers tell the new one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from perdure import flow, job\n\n@job\ndef one():\n    return {0}\n\n@flow\ndef all():\n    return one()\n"
    (tmp_path / "moving.py").write_text(text.format(1))
    import moving

    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        run = perdure.start(moving.all, store=store)
        (tmp_path / "moving.py").write_text(text.format("1 + 1"))
        perdure.rerun(run, all=True, executor="processes", workers=1)
        perdure.rerun(run, all=True)
        inside, worker, again = run.jobs()[0].attempts
        assert [attempt.result() for attempt in (inside, worker, again)] == [1, 2, 1]
        texts = [attempt.code.sources[attempt.code.state.module("moving").digest].text for attempt in (inside, worker)]
        assert texts == [text.format(1), text.format("1 + 1")]
        assert inside.function_digest == again.function_digest != worker.function_digest


def test_stored_texts_are_there_once_however_many_jobs(tmp_path):
    import flow_jobs

    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        for _ in range(2):
            perdure.start(flow_jobs.survey, ["1", "2", "3"], store=store, executor="processes", workers=2)
        assert len(frames(store, "perdure:Code")) == 1
        assert len(headers(store, "Attempt")) == 8


def pickle_in(record):
    """The payload, without the names of attributes that it may begin with."""
    return record.payload[len(parse_shape(record.payload).head) :] if record.flags & SHAPED else record.payload


def test_perdures_own_records_name_nothing_but_stable_names(project):
    """Modules of perdure may move: a record of its own holds plain values and references, and has a name for ever."""
    project.run(START, "inline")
    with perdure.make_store(project.url) as store:
        records = [parse_unverified(frame) for frame in store.backend.scan(internal=True)]
    assert {record.class_name for record in records} <= {
        f"perdure:{name}" for name in ("Run", "Job", "Arguments", "Attempt", "Result", "Code", "Source")
    }
    own = [record for record in records if record.class_name not in ("perdure:Arguments", "perdure:Result")]
    named = {
        argument
        for record in own
        for operation, argument, _ in pickletools.genops(pickle_in(record))
        if operation.name in ("SHORT_BINUNICODE", "GLOBAL") and str(argument).startswith("perdure")
    }
    assert named <= {"perdure"}, "only the function that stands for a reference"


def test_every_commit_of_a_run_tells_the_code_of_its_flow_or_of_its_jobs():
    store = perdure.make_store("memory:")
    run = perdure.start(flow_jobs.survey, ["1", "2"], store=store)
    assert run.state == "succeeded"
    codes = {commit.code for commit in store.transactions()}
    assert all(store.load(code).state.module("flow_jobs") is not None for code in codes)
