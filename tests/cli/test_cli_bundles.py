"""`perdure export` and `perdure import`: a run goes to another machine, and runs again there from its bundle."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import perdure


@pytest.fixture
def machine(tmp_path_factory, monkeypatch):
    """Give a command on another machine: another directory, nobody's keys, nothing in the cache."""
    home = tmp_path_factory.mktemp("machine")

    def call(*words):
        for name in ("CONFIG", "CACHE", "STATE", "DATA"):
            monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name))
        command = [sys.executable, "-m", "perdure", *words]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False, timeout=100)
        monkeypatch.undo()
        return done

    return call


def test_a_run_goes_to_another_machine_and_runs_again_there(folder, command, machine):
    assert command("run", "small.py", "baskets", "2").returncode == 0
    assert command("run", "small.py", "total", "2", "4").stdout.endswith("{'sum': 3.0}\n")
    done = command("export", "Run.1", "last", "runs.perdure")
    assert done.returncode == 0, done.stderr
    file = str(folder / "runs.perdure")

    shown = machine("import", file)
    assert shown.returncode == 0
    assert "its key is not here, so nothing is verified" in shown.stdout
    assert "flow=small:total" in shown.stdout
    assert "small:Basket" in shown.stdout
    assert "made by no repository: small.py" in shown.stdout
    assert "Nothing was taken in" in shown.stdout
    assert json.loads(machine("import", file, "--json").stdout)["verified"] is False

    assert machine("import", file, "--trust").returncode == 2  # no store is named
    taken = machine("import", file, "--trust", "--store", "sqlite:///mine.db")
    assert taken.returncode == 0, taken.stderr
    assert "Run it again: perdure rerun Run." in taken.stdout
    again = machine("rerun", "last", "--all", "--code", "recorded", "--store", "sqlite:///mine.db")
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("{'sum': 3.0}\n")
    assert "sources only" in again.stderr
    runs = json.loads(machine("runs", "--json", "--store", "sqlite:///mine.db").stdout)
    again = machine("rerun", runs[-1]["id"], "--all", "--code", "recorded", "--store", "sqlite:///mine.db")
    assert "<small.Basket object" in again.stdout
    assert "Basket." in again.stdout


def test_a_run_that_has_not_ended_is_not_exported(folder, command):
    with perdure.make_store("sqlite:///small.db") as store:
        from perdure.flows import Run

        store.save(Run("small:total", "small.py", (), {}, [], None))
    done = command("export", "last", "runs.perdure")
    assert done.returncode == 2
    assert "has not ended" in done.stderr
    assert not (folder / "runs.perdure").exists()


@pytest.mark.parametrize(("words", "told"), [
    (["export", "runs.perdure"], "needs the ids"),
    (["export", "last"], "goes into a file"),
    (["export", "Run.1", "Job.2"], "goes into a file"),
    (["export", "Run.1", "x.perdure", "--fields", "a"], "takes ids alone"),
    (["export", "Nothing.1", "x.perdure"], "There is no Nothing.1"),
    (["import", "none.perdure"], "There is no file"),
])  # fmt: skip
def test_wrong_use(folder, command, words, told):
    command("run", "small.py", "total", "2")
    done = command(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


def test_a_harmed_bundle_is_one_sentence_and_changes_nothing(folder, command):
    command("run", "small.py", "total", "2")
    command("export", "last", "run.perdure")
    file = folder / "run.perdure"
    file.write_bytes(file.read_bytes()[:-40])
    done = command("import", "run.perdure", "--trust")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "was cut short or changed" in done.stderr
    with perdure.make_store("sqlite:///small.db") as store:
        assert len([id_ for id_ in store.list(all=True) if id_.startswith("Run.")]) == 1
        assert store.check() == []
