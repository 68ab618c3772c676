"""Memo on pickles and job flows, rows B2 and B3: loading without the module, and the code that a job ran with."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

from perdure.code.values import CodeState, changes_between

JOB = """
import pickle, sys
import words
from perdure.code.capture import capture
from perdure.code.functions import function_digest

class Job:
    def run(self, text):
        return words.count(text)

if __name__ == "__main__":
    digests = {"Job.run": function_digest(Job.run)}
    sys.stdout.buffer.write(pickle.dumps((capture([Job.__module__]).as_plain(), digests)))
"""


def git(where, *arguments):
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout.strip()


def commit(where):
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "a step")
    return git(where, "rev-parse", "HEAD")


def run_job(where):
    """Runs the job's script in a process of its own; its code record as it would be stored, and its digests."""
    done = subprocess.run(
        [sys.executable, str(where / "job.py")], capture_output=True, check=True, env=dict(os.environ)
    )
    plain, digests = pickle.loads(done.stdout)
    return CodeState.from_plain(plain), digests


def test_b3_the_git_hash_of_the_code_is_kept(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "words.py").write_text("def count(text):\n    return len(text.split(' '))\n")
    git(tmp_path, "init", "-q")
    first_commit = commit(tmp_path)
    first, digests = run_job(tmp_path)
    assert first.repositories[0].commit == first_commit
    assert first.summary() == f"commit {first_commit[:7]} job.py, words.py"
    assert run_job(tmp_path) == (first, digests)

    # the bug is mended in a module that the job uses: the job's own function is the same, its code is not
    (tmp_path / "words.py").write_text("def count(text):\n    return len(text.split())\n")
    edited, _ = run_job(tmp_path)
    assert edited.repositories[0].changed is True
    assert changes_between(first, edited) == ["words.py: changed"]
    assert edited.closure_digest("job") != first.closure_digest("job")

    second_commit = commit(tmp_path)
    second, second_digests = run_job(tmp_path)
    assert second_digests == digests
    assert changes_between(first, second) == ["words.py: changed", f"commit {first_commit[:7]} -> {second_commit[:7]}"]

    # back at the first commit, the code record is the first one again
    git(tmp_path, "checkout", "-q", first_commit)
    assert run_job(tmp_path)[0] == first


def test_b3_the_code_is_kept_where_there_is_no_repository(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "words.py").write_text("def count(text):\n    return len(text)\n")
    state, _ = run_job(tmp_path)
    assert state.repositories == ()
    assert [(module.name, module.path) for module in state.modules] == [("job", "job.py"), ("words", "words.py")]
    assert all(len(module.digest) == 64 for module in state.modules)


USER = """
import pickle, sys
import perdure
from perdure import Persistable

class Item(Persistable):
    def __init__(self, name):
        self.name = name

class User(Persistable):
    def __init__(self, name):
        self.name, self.items = name, []
"""
MAKE = """
import sys
import perdure
from user import Item, User

pen = Item("pen")
a, b = User("A"), User("B")
a.items.append(pen)
b.items.append(pen)
with perdure.make_store(sys.argv[1]) as store:
    store.roots["users"] = [a, b]
"""
LOAD = """
import sys
import perdure

with perdure.make_store(sys.argv[1], code=sys.argv[2]) as store:
    a, b = store.roots["users"]
    print(a.name, b.name, a.items[0].name, a.items[0] is b.items[0], type(a).__module__)
"""


def test_b2_loading_in_a_directory_that_lacks_the_module(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "user.py").write_text(USER)
    (there / "make.py").write_text(MAKE)
    (here / "load.py").write_text(LOAD)
    url = f"sqlite:///{tmp_path}/users.db"
    subprocess.run([sys.executable, "make.py", url], cwd=there, check=True)

    def load(code):
        return subprocess.run([sys.executable, "load.py", url, code], cwd=here, capture_output=True, text=True)

    refused = load("recorded")
    assert refused.returncode == 1
    assert "ClassNotFound" in refused.stderr
    assert "code='archived'" in refused.stderr
    assert load("archived").stdout == "A B pen True user\n"


FLOW = """
import perdure
from perdure import flow, job

@job
def count(text):
    import words
    return words.count(text)

@flow
def survey(text):
    return count(text)
"""


def perdure_in(where, *words):
    command = [sys.executable, "-m", "perdure", *words, "--store", "sqlite:///survey.db"]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)


def test_b3_a_job_is_run_again_with_exactly_the_code_that_it_ran_with(tmp_path):
    (tmp_path / "survey.py").write_text(FLOW)
    (tmp_path / "words.py").write_text("def count(text):\n    return len(text.split(' '))\n")
    git(tmp_path, "init", "-q")
    first = commit(tmp_path)
    assert perdure_in(tmp_path, "run", "survey.py", "survey", "a  b").stdout == "3\n"
    (tmp_path / "words.py").write_text("def count(text):\n    return len(text.split())\n")
    commit(tmp_path)

    again = perdure_in(tmp_path, "rerun", "last", "--all", "--code", "recorded")
    assert again.stdout == "3\n"
    assert f"commit {first[:7]}" in again.stderr
    assert perdure_in(tmp_path, "rerun", "last", "--all").stdout == "2\n"
    changed = perdure_in(tmp_path, "diff", "Job.2", "--attempts", "1", "3").stdout
    assert "words.py changed: count" in changed
    assert "-    return len(text.split(' '))\n+    return len(text.split())" in changed
