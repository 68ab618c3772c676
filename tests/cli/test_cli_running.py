"""`run`, `rerun`, `resume` as processes of their own: results, failures, changed code, Ctrl-C and kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


def states(command, run: str = "last") -> dict[str, int]:
    return json.loads(command("show", run, "--json").stdout)["states"]


def test_a_run_prints_its_result(command):
    done = command("run", "small.py", "total", "1", "2", "scale=2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "adding\n{'sum': 3.0}\n", "")
    assert states(command) == {"succeeded": 3}


def test_stdout_of_json_is_one_document(command):
    done = command("run", "small.py", "total", "1", "2", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "adding\n")
    assert (told["run"], told["state"], told["result"]) == ("Run.1", "succeeded", {"sum": 1.5})
    assert (told["jobs"], told["failures"]) == ({"succeeded": 3}, [])


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_run_that_fails_names_what_failed(command, executor):
    done = command("run", "small.py", "total", "1", "3", "2", "--executor", executor)
    assert (done.returncode, done.stdout) == (1, "")
    told = done.stderr.splitlines()
    assert told[0] == "Run.1 failed: 2 succeeded, 1 failed, 1 skipped of 4 jobs."
    assert told[1].endswith("half(3)  ValueError: is no good: 3 …")
    assert told[-1].endswith("perdure rerun Run.1")
    told = json.loads(command("run", "small.py", "total", "3", "--json", "--executor", executor).stdout)
    assert (told["state"], told["result"]) == ("failed", None)
    assert [failure["error"] for failure in told["failures"]] == ["ValueError: is no good: 3 …"]


def test_of_many_failures_ten_are_named(command):
    done = command("run", "small.py", "total", *["3"] * 13, "--executor", "inline", "--store", "other.d")
    assert done.returncode == 1
    assert sum("no good" in line for line in done.stderr.splitlines()) == 10
    assert "  … and 3 more\n" in done.stderr
    assert "perdure rerun Run.1 --store other.d\n" in done.stderr


def test_a_result_that_json_does_not_know(command):
    told = json.loads(command("run", "small.py", "baskets", "2", "--json", "--executor", "inline").stdout)
    assert told["result"] is None
    assert "Basket" in told["result_text"]


def test_words_with_dashes_stand_behind_two(command):
    done = command("run", "small.py", "echo", "--executor", "inline", "--", "-x", "--all")
    assert (done.returncode, done.stdout) == (0, "['-x', ['--all'], 1]\n")


def test_a_module_by_its_name(command, folder):
    (folder / "surveys").mkdir()
    (folder / "surveys" / "__init__.py").touch()
    shutil.copy(folder / "small.py", folder / "surveys" / "nightly.py")
    assert command("run", "surveys.nightly", "total", "3", "2").returncode == 1
    text = (folder / "surveys" / "nightly.py").read_text()
    (folder / "surveys" / "nightly.py").write_text(text.replace("number == 3", "number == 4"))
    done = command("rerun", "last")
    assert (done.returncode, done.stdout) == (0, "adding\n{'sum': 2.5}\n")
    assert "surveys.nightly:half has changed." in done.stderr


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_rerun_tells_what_has_changed(command, folder):
    git(folder, "init", "-q")
    git(folder, "add", "small.py")
    git(folder, "commit", "-qm", "one")
    first = git(folder, "rev-parse", "--short=7", "HEAD")
    assert command("run", "small.py", "total", "1", "3").returncode == 1
    same = command("rerun", "last")
    assert same.returncode == 1
    assert same.stderr.startswith("None of the job functions has changed since.\nRunning 2 jobs of 3 again.\n")
    text = (folder / "small.py").read_text()
    (folder / "small.py").write_text(text.replace("number == 3", "number == 4"))
    git(folder, "commit", "-qam", "two")
    second = git(folder, "rev-parse", "--short=7", "HEAD")
    done = command("rerun", "last")
    assert (done.returncode, done.stdout) == (0, "adding\n{'sum': 2.0}\n")
    assert f"small:half has changed (commit {first} → {second}).\n" in done.stderr
    history = command("history", "last").stdout
    assert f"commit {first} small.py: 1 succeeded, 2 failed" in history
    assert f"commit {second} small.py: 2 succeeded" in history
    run = json.loads(command("show", "last", "--json").stdout)
    assert [len(job["attempts"]) for job in run["jobs"]] == [1, 3, 1]
    nothing = command("rerun", "last")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr.startswith("Run.1 succeeded: nothing in it has to be run again.")


def test_rerun_from_a_job_and_of_all(command):
    assert command("run", "small.py", "total", "1", "2", "--executor", "inline").returncode == 0
    assert "Running 1 job of 3 again." in command("rerun", "last", "--from", "add", "--executor", "inline").stderr
    done = command("rerun", "last", "--all", "--executor", "inline")
    assert "Running 3 jobs of 3 again." in done.stderr
    assert done.stdout == "adding\n{'sum': 1.5}\n"
    run = json.loads(command("show", "last", "--json").stdout)
    assert [len(job["attempts"]) for job in run["jobs"]] == [2, 2, 3]


def test_a_run_is_found_again_from_elsewhere(command, folder):
    (folder / "flows").mkdir()
    shutil.move(folder / "small.py", folder / "flows" / "small.py")
    assert command("run", "flows/small.py", "total", "3").returncode == 1
    assert command("rerun", "last").returncode == 1
    (folder / "kept").mkdir()
    shutil.move(folder / "flows" / "small.py", folder / "kept" / "small.py")
    lost = command("rerun", "last")
    assert (lost.returncode, lost.stdout) == (2, "")
    assert lost.stderr == (
        "perdure: The module small of the flow small:total is not found from here (it was run from flows/small.py)."
        " Start in the directory that it was run in, or give --file FILE.\n"
    )
    assert command("rerun", "last", "--file", "kept/small.py").returncode == 1


def wait_for(holds, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def naps_taken(folder: Path) -> list[str]:
    notes = folder / "naps.txt"
    return notes.read_text().split() if notes.exists() else []


@pytest.mark.crash
def test_resume_after_kill(command, begin, folder):
    process = begin("run", "small.py", "naps", "6", "0.2", "--workers", "1")
    wait_for(lambda: len(naps_taken(folder)) >= 3)
    os.kill(process.pid, signal.SIGSTOP)  # so that it is not done before the other command has begun
    refused = command("resume", "last")
    assert refused.returncode == 2
    assert "Run.1 belongs to process" in refused.stderr
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    listed = command("runs").stdout.splitlines()[1].split()
    assert listed[:2] == ["Run.1", "interrupted"]
    assert "perdure resume Run.1" in command("show", "last").stdout
    finished = states(command)["succeeded"]
    done = command("resume", "last")
    assert (done.returncode, done.stdout) == (0, "adding\n{'sum': 15}\n")
    assert states(command) == {"succeeded": 7}
    assert finished >= 2
    assert len(naps_taken(folder)) <= 7  # each once; only the one that was cut off twice
    assert command("resume", "last").returncode == 2


@pytest.mark.crash
def test_a_job_that_is_not_idempotent_waits_for_rerun(command, begin, folder):
    process = begin("run", "small.py", "rest", "9", "--workers", "1")
    wait_for((folder / "siesta.txt").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = command("resume", "last")
    assert (resumed.returncode, resumed.stdout) == (1, "")
    assert resumed.stderr.startswith("Run.1 interrupted: 1 interrupted of 1 job.\n")
    assert "perdure rerun Run.1" in command("show", "last").stdout


@pytest.mark.crash
@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_ctrl_c(command, begin, folder, executor):
    process = begin("run", "small.py", "naps", "4", "0.4", "--workers", "1", "--executor", executor)
    wait_for(lambda: len(naps_taken(folder)) >= 2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the command and its workers
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "\nRun.1 was cancelled by Ctrl-C. Go on with: perdure resume Run.1\n"
    assert command("runs").stdout.splitlines()[1].split()[:2] == ["Run.1", "cancelled"]
    done = command("resume", "last")
    assert (done.returncode, done.stdout) == (0, "adding\n{'sum': 6}\n")
    assert len(naps_taken(folder)) == 5
