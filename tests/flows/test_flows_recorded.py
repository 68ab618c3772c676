"""Recorded code in workers: what they import from, which worker has which code, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import perdure
from perdure.code.values import CodeState, ModuleCode
from perdure.flows.attempts import RanCode
from perdure.flows.engine import _refuse_other_code
from perdure.flows.executors.recorded import Code, RecordedExecutor
from perdure.flows.tasks import Outcome, RanWith
from perdure.objects.coding import Code as CodeRecord

FLOW = """
import perdure
from perdure import flow, job
import part

@job
def tell(number):
    return part.VERSION * 100 + number

@flow
def tells(number):
    return tell(number)
"""
IMPORTS = """
import sys
from perdure.flows.executors.worker import Roots, import_only_from

class Finder:
    __module__ = "__editable___shop_1_0_finder"
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        raise AssertionError(name)

sys.meta_path.append(Finder)
import_only_from(Roots((sys.argv[1],), (sys.argv[2],)))
import old_part, perdure, numpy, json
assert Finder not in sys.meta_path
try:
    import new_part
except ImportError:
    print(old_part.__file__, sys.path[0], sys.path[-1])
"""


def test_a_worker_imports_from_the_recorded_code_and_from_what_is_installed(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_part.py").write_text("")
    house = os.path.dirname(os.path.dirname(perdure.__file__))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path / "old"), house], cwd=tmp_path / "new",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "new")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "old" / "old_part.py"), str(tmp_path / "old"), house], done.stderr


def test_workers_of_other_code_make_room(store, tmp_path):
    codes = {f"Code.{number}": Code((str(tmp_path),), "") for number in (1, 2, 3)}
    executor = RecordedExecutor(codes, workers=2)
    executor.open(store.backend, store.key)
    try:
        first = dict(executor.places(["Code.1", "Code.2", "Code.3"]))
        assert list(first) == [0, 1]
        again = dict(executor.places(["Code.3", "Code.2"]))  # nobody is busy: the one of Code.1 leaves
        assert again[1] == first[1]
        assert again[0] not in first.values()
        assert [worker.kind for worker in executor._workers] == ["Code.2", "Code.3"]
    finally:
        executor.close()


def test_a_worker_that_tells_another_text_fails_the_job():
    def state(digest):
        return CodeState([ModuleCode("shop", "shop.py", digest), ModuleCode(f"extra{digest[0]}", "x.py", digest)])

    recorded = RanCode(CodeRecord(state("1" * 64), {}), "", "")

    def outcome(told):
        return Outcome("Job.1", 0.0, 1.0, [], None, frozenset(), code=told)

    _refuse_other_code(outcome(RanWith(state("1" * 64), "")), recorded)
    _refuse_other_code(outcome(None), recorded)
    with pytest.raises(perdure.OtherCode, match="another shop"):
        _refuse_other_code(outcome(RanWith(state("2" * 64), "")), recorded)


def test_wrong_arguments(store):
    run = perdure.Run("x:y", "x.py", (), {}, [], None)
    store.save(run)
    for arguments in ({"code": "here"}, {"environment": "recorded"}, {"code": "recorded", "environment": "other"}):
        with pytest.raises(perdure.FlowError):
            perdure.rerun(run, **arguments)


# -- ten commits ---------------------------------------------------------------------------------------------


def git(where, *arguments):
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_of_ten_commits_runs_again_with_its_own_code(tmp_path):
    """The module with the version wanders: it is renamed, becomes a package, moves into a folder of sources."""
    url = f"sqlite:///{tmp_path}/runs.db"
    place = tmp_path / "project"
    place.mkdir()
    git(place, "init", "-q")

    def perdure_in(*words):
        command = [sys.executable, "-m", "perdure", *words, "--store", url]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    names = [
        "part",
        "part",
        "bit",
        "piece.inner",
        "piece.inner",
        "piece.other",
        "lib.piece",
        "lib.deep.piece",
        "part",
        "last",
    ]
    for number, name in enumerate(names):
        for old in [path for path in place.iterdir() if path.name != ".git"]:
            git(place, "rm", "-rqf", "--ignore-unmatch", old.name)
            if old.exists():
                subprocess.run(["rm", "-r", str(old)], check=True)
        file = place.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"VERSION = {number}\n")
        (place / "flows.py").write_text(FLOW.replace("import part", f"import {name} as part"))
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", f"step {number}")
        assert perdure_in("run", "flows.py", "tells", "7", "--executor", "inline").stdout == f"{number * 100 + 7}\n"
    with perdure.make_store(url) as store:
        runs = [id_ for id_ in store.list(all=True) if id_.startswith("Run.")]
    assert len(runs) == 10
    for number, run in enumerate(runs):
        assert perdure_in("rerun", run, "--all", "--code", "recorded").stdout == f"{number * 100 + 7}\n"
