"""`perdure rerun --code recorded`: each job runs with the code that it ran with; how close that comes is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import perdure
from perdure.flows import recorded
from perdure.flows.recorded import differences
from perdure.upkeep import plan

SURVEY = """
import numpy
import perdure
import words
from perdure import flow, job

class Count(perdure.Persistable):
    def __init__(self, number):
        self.number = number

@job
def count(text):
    import importlib
    late = importlib.import_module("late")
    return [words.VERSION, late.VERSION, len(text)]

@job
def keep(number):
    return Count(number)

@job
def fail(number):
    import late
    if late.VERSION == 1:
        raise ValueError("version 1 fails")
    return number

@flow
def survey(text):
    return count(text)

@flow
def both(number):
    return [keep(number), fail(number)]
"""


@pytest.fixture
def place(folder, command):
    """A repository whose first commit ran, and whose second one is here."""
    commit(folder, {"survey.py": SURVEY, "words.py": "VERSION = 1\n", "late.py": "VERSION = 1\n", "uv.lock": lock()})
    return folder


def lock():
    return f'[[package]]\nname = "numpy"\nversion = "{version("numpy")}"\n'


def commit(folder, files):
    # Python takes the compiled file of a module for its own if it was written in the same second and is as long.
    written = time.time() - (0 if (folder / ".git").exists() else 10)
    for name, text in files.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (written, written))
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "-A", "--", *files)
    git(folder, "commit", "-q", "-m", "a step")


def git(folder, *arguments):
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def second(folder):
    later = (
        SURVEY.replace("len(text)", "-1")
        .replace("class Count", "class Counted")
        .replace("return Count(", "return Counted(")
    )
    commit(folder, {"survey.py": later, "words.py": "VERSION = 2\n", "late.py": "VERSION = 2\n"})


def code_of(folder, name="last"):
    with perdure.make_store(f"sqlite:///{folder}/small.db", create=False) as store:
        return [id_ for id_ in store.list(all=True) if id_.startswith("Code")]


def test_old_code_runs_with_all_that_it_imports(place, command):
    assert command("run", "survey.py", "survey", "four").stdout == "[1, 1, 4]\n"
    second(place)
    done = command("rerun", "last", "--all", "--code", "recorded")
    assert (done.returncode, done.stdout) == (0, "[1, 1, 4]\n")
    assert "exact" in done.stderr
    assert command("rerun", "last", "--all").stdout == "[2, 2, -1]\n"
    assert command("rerun", "last", "--all", "--code", "recorded").stdout == "[2, 2, -1]\n"  # that was its last attempt
    with perdure.make_store("sqlite:///small.db") as store:
        run = store.load("Run.1")
        assert [attempt.code_summary[:14] for attempt in run.jobs()[0].attempts] == [
            f"commit {git(place, 'rev-parse', '--short=7', revision)}"
            for revision in ("HEAD~1", "HEAD~1", "HEAD", "HEAD")
        ]
        assert store.check() == []


def test_only_what_failed_runs_again_and_results_are_of_the_old_classes(place, command):
    assert command("run", "survey.py", "both", "3").returncode == 1
    second(place)
    done = command("rerun", "last", "--code", "recorded")
    assert done.returncode == 1
    assert "version 1 fails" in done.stderr
    assert command("rerun", "last", "--from", "keep", "--code", "recorded").returncode == 1
    assert command("rerun", "last").returncode == 0
    done = command(
        "rerun", "last", "--all", "--code", "recorded"
    )  # one job's code is the first commit's, one's the second's
    assert done.stderr.count("exact") == 2
    assert done.returncode == 0


def test_changed_files_are_laid_over_the_tree(place, command):
    (place / "late.py").write_text("VERSION = 1.5\n")
    assert command("run", "survey.py", "survey", "four").stdout == "[1, 1.5, 4]\n"
    second(place)
    done = command("rerun", "last", "--all", "--code", "recorded")
    assert done.stdout == "[1, 1.5, 4]\n"
    assert "exact" in done.stderr


def test_other_changed_files_and_no_lock_are_told(place, command):
    git(place, "rm", "-q", "uv.lock")
    git(place, "commit", "-q", "-m", "no lock")
    commit(place, {"data.csv": "1"})
    (place / "data.csv").write_text("2")
    command("run", "survey.py", "survey", "four")
    done = command("rerun", "last", "--all", "--code", "recorded")
    assert "same tree, other environment" in done.stderr
    assert "changed and were not kept: data.csv" in done.stderr
    assert "no lock file" in done.stderr


def test_without_the_repository_its_texts_do(place, command, tmp_path_factory):
    command("run", "survey.py", "survey", "four")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in place.glob("small.db*"):
        shutil.move(path, elsewhere)
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "rerun", "last", "--all", "--code", "recorded"],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[1, 1, 4]\n")
    assert "sources only" in done.stderr
    assert "in no repository here" in done.stderr


def test_what_is_here_is_not_imported_at_all(place, command):
    command("run", "survey.py", "survey", "four")
    (place / "survey.py").write_text("raise SystemExit('never')\n")
    (place / "numpy.py").write_text("raise SystemExit('never')\n")
    (place / "sitecustomize.py").write_text("")
    done = command("rerun", "last", "--all", "--code", "recorded", PYTHONPATH=str(place))
    assert (done.returncode, done.stdout) == (0, "[1, 1, 4]\n")


def test_unknown_code_is_a_named_error_and_nothing_is_run(place, command):
    (place / "pyproject.toml").write_text('[tool.perdure]\ncode = "off"\n')
    command("run", "survey.py", "survey", "four")
    done = command("rerun", "last", "--all", "--code", "recorded")
    assert (done.returncode, done.stdout) == (3, "")
    assert "unknown: it has no code record" in done.stderr
    with perdure.make_store("sqlite:///small.db") as store:
        assert len(store.load("Run.1").jobs()[0].attempts) == 1


def test_forgotten_texts_without_a_repository_are_a_named_error(place, command):
    command("run", "survey.py", "survey", "four")
    assert command("code", "last", "--forget").returncode == 0
    assert "exact" in command("rerun", "last", "--all", "--code", "recorded").stderr  # the commit is here
    shutil.rmtree(place / ".git")
    done = command("rerun", "last", "--all", "--code", "recorded")
    assert done.returncode == 3
    assert "nor in a repository that is here" in done.stderr
    with perdure.make_store("sqlite:///small.db") as store:
        assert len(store.load("Run.1").jobs()[0].attempts) == 2


@pytest.mark.parametrize("words", [["--environment", "recorded"], ["--code", "recorded", "--executor", "inline"],
                                   ["--code", "recorded", "--file", "x.py"], ["--code", "here"]])  # fmt: skip
def test_what_does_not_go_together(place, command, words):
    assert command("rerun", "last", *words).returncode == 2


def test_differences_name_the_versions(monkeypatch):
    from perdure.code.values import CodeState

    state = CodeState(python="cpython 3.10.1", platform="Plan9 mips", packages=[("numpy", "1.0"), ("gone", "2")])
    monkeypatch.setattr(recorded, "all_versions", lambda: [("numpy", "2.0")])
    told = differences(state)
    assert told[:2] == ["numpy 1.0, here 2.0", "gone 2, here (none)"]
    assert told[2].startswith("cpython 3.10.1, here cpython 3.")
    assert told[3].startswith("Plan9 mips, here ")
    assert differences(state, remade=True) == told[3:]


# -- the recorded environment ------------------------------------------------------------------------------

UV = """\
#!{python}
import os, sys
with open({log!r}, "a") as log:
    print(*sys.argv[1:], file=log)
if "fail" in os.environ.get("UV_DOES", ""):
    sys.exit("error: no such package\\n in any index")
if sys.argv[1] == "venv":
    place = sys.argv[-1]
    os.makedirs(place + "/bin")
    with open(place + "/bin/python", "w") as file:
        file.write("#!/bin/sh\\nIN_RECORDED=yes exec {python} \\"$@\\"\\n")
    os.chmod(place + "/bin/python", 0o755)
"""


@pytest.fixture
def uv(place, tmp_path_factory):
    """A program that stands for `uv`: it notes what it was told."""
    where = tmp_path_factory.mktemp("bin")
    log = where / "log"
    (where / "uv").write_text(UV.format(python=sys.executable, log=str(log)))
    (where / "uv").chmod(0o755)
    return where, log


def test_the_recorded_environment_is_made_anew_when_asked(place, command, uv):
    where, log = uv
    commit(place, {"words.py": "import os\nVERSION = os.environ.get('IN_RECORDED', 'no')\n"})
    assert command("run", "survey.py", "survey", "four").stdout == "['no', 1, 4]\n"
    path = f"{where}{os.pathsep}{os.environ['PATH']}"
    assert command("rerun", "last", "--all", "--code", "recorded", PATH=path).stdout == "['no', 1, 4]\n"
    assert not log.exists()
    words = ("rerun", "last", "--all", "--code", "recorded", "--environment", "recorded")
    done = command(*words, PATH=path)
    assert done.stdout == "['yes', 1, 4]\n"
    assert "exact" in done.stderr
    made, installed = log.read_text().splitlines()
    assert made.split()[:5] == ["venv", "--no-project", "--quiet", "--python", ".".join(map(str, sys.version_info[:3]))]
    assert f"numpy=={version('numpy')}" in installed.split()
    assert f"zstandard=={version('zstandard')}" in installed.split()
    assert command(*words, PATH=path).stdout == "['yes', 1, 4]\n"
    assert len(log.read_text().splitlines()) == 2  # it is kept


def test_without_uv_and_when_it_fails(place, command, uv):
    where, _ = uv
    command("run", "survey.py", "survey", "four")
    words = ("rerun", "last", "--all", "--code", "recorded", "--environment", "recorded")
    bare = Path(shutil.which("git") or "").parent
    if not (bare / "uv").exists():
        done = command(*words, PATH=str(bare))
        assert (done.returncode, "`uv` is needed" in done.stderr) == (2, True)
    done = command(*words, PATH=f"{where}{os.pathsep}{os.environ['PATH']}", UV_DOES="fail")
    assert done.returncode == 2
    assert "error: no such package in any index" in done.stderr
    with perdure.make_store("sqlite:///small.db") as store:
        assert len(store.load("Run.1").jobs()[0].attempts) == 1


STABLE = """
import perdure
from dataclasses import dataclass

@perdure.versioned("goods.Size", version=2)
@dataclass(frozen=True, slots=True)
class Size:
    x: int

perdure.upgrade(Size, 1, rename={"y": "x"})

@perdure.versioned("goods.Order", version=2)
class Order(perdure.Persistable):
    def __init__(self, x):
        self.size = Size(x)

    def __repr__(self):
        return f"order of {self.size.x}"

perdure.upgrade(Order, 1, add={"more": 1})
"""
ORDERS = """
from perdure import flow, job

@job
def order(x):
    import goods
    return goods.Order(x)

@job
def sized(order):
    return [order, order.size]

@flow
def orders(x):
    return sized(order(x))
"""


def test_workers_hand_back_objects_with_stable_names_that_the_engine_has_not_imported(folder, command):
    (folder / "goods.py").write_text(STABLE)
    (folder / "orders.py").write_text(ORDERS)
    expected = "[order of 3, Size(x=3)]\n"
    for words in (["run", "orders.py", "orders", "3"], ["rerun", "last", "--all"],
                  ["rerun", "last", "--all", "--code", "recorded"]):  # fmt: skip
        done = command(*words)
        assert (done.stdout, done.returncode) == (expected, 0), done.stderr
    with perdure.make_store("sqlite:///small.db") as store:
        orders = [id_ for id_ in store.list() if id_.startswith("Order.")]
        assert len(orders) == 3
        assert {(row.class_name, row.version) for row in plan(store) if "goods" in row.class_name} == {
            ("goods.Order", 2), ("goods.Size", 2),
        }  # fmt: skip
        assert store.check() == []
