"""Memo on pickles and job flows, row B3: a pickled job is only good with the code it ran with, so keep the git hash."""

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
