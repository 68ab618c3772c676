"""A code record tells which code made something, the same everywhere, and nothing about the person or the machine."""

from __future__ import annotations

import getpass
import os
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perdure.code.capture import capture
from perdure.code.environment import all_versions, versions_of
from perdure.code.values import CodeState, ModuleCode, RepositoryState, changes_between

SCRIPT = """
import sys
import counting
from perdure.code.capture import capture

class Job:
    def run(self):
        return counting.count([1])

if __name__ == "__main__":
    state = capture([Job.__module__])
    print(state.digest, *(module.name for module in state.modules))
"""
COUNTING = "def count(things):\n    return len(things)\n"


@pytest.fixture
def survey(project):
    project.write("survey.py", SCRIPT)
    project.write("counting.py", COUNTING)
    project.write("notes.txt", "notes\n")
    project.commit()
    project.load("survey")
    return project


def by_name(state):
    return {module.name: module for module in state.modules}


def test_what_is_captured(survey):
    state = capture(["survey"])
    assert state.summary() == f"commit {survey.git('rev-parse', '--short=7', 'HEAD')} counting.py, survey.py"
    commit, tree = survey.git("rev-parse", "HEAD"), survey.git("rev-parse", "HEAD^{tree}")
    assert state.repositories == (RepositoryState(commit, False, tree),)
    assert [module.path for module in state.modules] == ["counting.py", "survey.py"]
    assert by_name(state)["survey"].uses == ("counting",)
    assert {state.texts[module.digest] for module in state.modules} == {SCRIPT, COUNTING}
    assert state.python == f"{sys.implementation.name} {sys.version.split()[0]}"
    assert state.modules_changed is False


def test_paths_are_relative_to_the_repository(project):
    project.write("src/shop/__init__.py", "")
    project.write("src/shop/orders.py", "")
    project.commit()
    sys.path.insert(0, str(project.root / "src"))
    try:
        project.load("shop.orders")
    finally:
        sys.path.remove(str(project.root / "src"))
    assert [module.path for module in capture(["shop.orders"]).modules] == [
        "src/shop/__init__.py",
        "src/shop/orders.py",
    ]


def test_without_a_repository(project):
    project.write("shop/__init__.py", "")
    project.write("shop/orders.py", "")
    project.load("shop.orders")
    state = capture(["shop.orders"])
    assert state.repositories == ()
    assert [module.path for module in state.modules] == ["shop/__init__.py", "shop/orders.py"]
    assert state.summary() == "no repository: shop/__init__.py, shop/orders.py"
    assert state.modules_changed is None


def test_modules_of_two_repositories(survey, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "counting.py").write_text(COUNTING)
    survey.git("init", "-q", where=other)
    survey.git("add", ".", where=other)
    survey.git("commit", "-q", "-m", "other", where=other)
    (survey.root / "counting.py").unlink()
    sys.path.insert(0, str(other))
    try:
        survey.load("counting")
        survey.load("survey")
        state = capture(["survey"])
    finally:
        sys.path.remove(str(other))
    assert [repository.changed for repository in state.repositories] == [False, True]
    assert {name: module.repository for name, module in by_name(state).items()} == {"counting": 0, "survey": 1}
    assert state.summary().count("commit ") == 2


def test_changes_are_told_apart(survey):
    survey.write("notes.txt", "changed\n")
    os.utime(survey.root / ".git/index")
    state = capture(["survey"])
    assert (state.repositories[0].changed, state.modules_changed) == (True, False)
    survey.write("counting.py", COUNTING.replace("len", "sum"))
    survey.load("counting")
    state = capture(["survey"])
    assert (by_name(state)["counting"].changed, by_name(state)["survey"].changed) == (True, False)
    assert "(changed)" in state.summary()


def test_a_module_that_was_never_committed(survey):
    survey.write("counting_new.py", "")
    survey.load("counting_new")
    state = capture(["counting_new"])
    assert (state.repositories[0].changed, state.modules_changed) == (False, True)


def test_without_git_it_is_unknown(survey, monkeypatch):
    commit = survey_commit(survey)
    survey.git("gc", "-q")
    monkeypatch.setattr("perdure.code.git._trees", {})
    monkeypatch.setenv("PATH", str(survey.root))
    state = capture(["survey"])
    assert state.repositories[0].commit == commit
    assert (state.repositories[0].changed, state.modules_changed) == (None, None)
    assert "(changes unknown)" in state.summary()


def survey_commit(survey):
    return (survey.root / ".git/refs/heads/main").read_text().strip()


def test_without_the_state_of_the_repository(survey):
    state = capture(["survey"], repository_state=False)
    assert state.repositories == (RepositoryState(survey_commit(survey), None),)


def test_equal_code_has_an_equal_digest_in_every_process_and_place(survey, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(survey.root, copy)
    outputs = {
        survey.run("survey.py", PYTHONHASHSEED="1"),
        survey.run("survey.py", PYTHONHASHSEED="2"),
        survey.run("-m", "survey"),
        survey.run(str(copy / "survey.py"), where=tmp_path),
    }
    assert outputs == {f"{capture(['survey']).digest} counting survey"}


def test_every_change_changes_the_digest(survey):
    digests = [capture(["survey"]).digest]

    def step():
        digests.append(capture(["survey"]).digest)

    survey.write("counting.py", COUNTING + "# more\n")
    survey.load("counting")
    step()
    survey.commit()
    step()
    survey.git("commit", "-q", "--allow-empty", "-m", "nothing")
    step()
    digests.append(capture(["survey"], all_packages=True).digest)
    assert len(set(digests)) == len(digests)


def test_nothing_private_is_told(survey, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "correct-horse")
    survey.git("remote", "add", "origin", "https://ada:hunter2@example.org/shop.git")
    survey.git("config", "user.email", "ada@example.org")
    survey.write("counting.py", COUNTING + "import numpy\n")
    survey.load("counting")
    survey.load("survey")
    state = capture(["survey"], all_packages=True)
    shown = [pickle.dumps(state).decode("latin-1"), repr(state.as_plain()), repr(state), state.summary()]
    secrets = ["correct-horse", "hunter2", "example.org", "SECRET_TOKEN", "Ada Example", "place/of/work"]
    secrets += [
        str(survey.root),
        str(Path.home()) + os.sep,
        os.path.dirname(os.__file__),
        sys.prefix,
        os.uname().nodename,
    ]
    if len(getpass.getuser()) > 4:  # a short name is in other words
        secrets.append(getpass.getuser())
    for text in shown:
        assert [secret for secret in secrets if secret in text] == []
        assert "remote" not in text


def test_no_path_is_absolute(survey):
    for module in capture(["survey"]).modules:
        assert not module.path.startswith(("/", "..")), module
        assert "\\" not in module.path


def test_the_second_capture_is_the_first(survey):
    first = capture(["survey"])
    assert capture(["survey"]) is first
    rounds = 200
    start = time.perf_counter()
    for _ in range(rounds):
        capture(["survey"])
    assert (time.perf_counter() - start) / rounds < 0.002  # some 30 microseconds on a quiet machine


def test_the_second_capture_sees_commits_and_files(survey):
    first = capture(["survey"])
    second_commit = survey.commit()
    second = capture(["survey"])
    assert second.repositories[0].commit == second_commit != first.repositories[0].commit
    survey.git("checkout", "-q", "-b", "branch")
    survey.git("commit", "-q", "--allow-empty", "-m", "on a branch")
    assert capture(["survey"]).repositories[0].commit == survey.git("rev-parse", "HEAD") != second_commit
    survey.write("counting.py", COUNTING + "# edited after the import\n")
    state = capture(["survey"])
    assert state.repositories[0].changed is True
    assert state.texts[by_name(state)["counting"].digest] == COUNTING
    assert by_name(state)["counting"].changed is False  # what runs is the commit's
    survey.load("counting")
    assert by_name(capture(["survey"]))["counting"].changed is True


def test_a_capture_in_a_repository_of_1000_files(project):
    for number in range(1000):
        project.write(f"part{number % 10}/module{number}.py", f"def f(x):\n    return x + {number}\n" * 20)
    project.write("job_of_many.py", "import json\n")
    project.commit()
    project.load("job_of_many")
    start = time.perf_counter()
    state = capture(["job_of_many"])
    assert time.perf_counter() - start < 1  # some 15 milliseconds on a quiet machine
    assert state.repositories[0].changed is False


def test_states_cross_as_pickles_and_as_plain_data(survey):
    state = capture(["survey"])
    copy = pickle.loads(pickle.dumps(state))
    assert (copy, copy.digest, copy.texts) == (state, state.digest, state.texts)
    again = CodeState.from_plain(state.as_plain(), state.texts)
    assert (again, hash(again), again.texts) == (state, hash(state), state.texts)
    bare = state.without_texts()
    assert (bare, bare.digest, bare.texts) == (state, state.digest, {})
    with pytest.raises(AttributeError):
        state.python = "other"


def test_closure_digests(survey):
    state = capture(["survey"])
    survey.write("counting.py", COUNTING + "# more\n")
    survey.load("counting")
    after = capture(["survey"])
    assert after.closure_digest("survey") != state.closure_digest("survey")
    assert after.closure_digest() == after.closure_digest("survey") != after.closure_digest("counting")
    survey.write("survey.py", SCRIPT + "# more\n")
    survey.load("survey")
    assert capture(["survey"]).closure_digest("counting") == after.closure_digest("counting")


def test_packages_that_own_code_imports(project):
    project.write("one.py", "def job():\n    import numpy, dateutil.parser, no_such_package\n")
    project.load("one")
    from importlib.metadata import version

    expected = tuple((name, version(name)) for name in ("numpy", "python-dateutil"))
    assert capture(["one"]).packages == expected
    everything = capture(["one"], all_packages=True).packages
    assert set(expected) < set(everything) == set(all_versions())
    assert "pytest" in dict(everything)


def test_versions_are_found_by_the_files_of_a_distribution(tmp_path):
    site = tmp_path / "site-packages"
    for entry, record in {
        "Google_Storage-2.0.1": "google/cloud/storage/__init__.py,sha256=x,1\n",
        "google_auth-1.0": "google/auth/__init__.py,,\n",
        "PyYAML-6.0": "yaml/__init__.py,,\n",
    }.items():
        (site / f"{entry}.dist-info").mkdir(parents=True)
        (site / f"{entry}.dist-info" / "RECORD").write_text(record)
    (site / "plain-0.5-py3.11.egg-info").mkdir()
    files = {
        "google.cloud.storage": str(site / "google/cloud/storage/__init__.py"),
        "yaml": str(site / "yaml/__init__.py"),
        "plain": str(site / "plain.py"),
        "stray": str(site / "stray.py"),
    }
    assert versions_of(files) == (("google-storage", "2.0.1"), ("plain", "0.5"), ("pyyaml", "6.0"))


def test_what_has_no_source_is_captured_as_such():
    state = capture(["no_such_module"])
    assert [(module.name, module.origin, module.digest) for module in state.modules] == [
        ("no_such_module", "unknown", "")
    ]


def state_of(modules=(), commit="", packages=(), python="cpython 3.11.7"):
    codes = [ModuleCode(name, f"{name}.py", digest, repository=0 if commit else None) for name, digest in modules]
    repositories = [RepositoryState(commit, False)] if commit else []
    return CodeState(codes, repositories, python, "Linux x86_64", packages)


def test_changes_between():
    old = state_of([("survey", "1"), ("counting", "1"), ("gone", "1")], "1a2b3c4d5e", [("numpy", "2.1"), ("yaml", "6")])
    new = state_of(
        [("survey", "2"), ("counting", "1"), ("fresh", "1")], "3c4d5e6f7a", [("numpy", "2.2")], "cpython 3.12.1"
    )
    assert changes_between(old, new) == [
        "fresh.py: new",
        "gone.py: gone",
        "survey.py: changed",
        "commit 1a2b3c4 -> 3c4d5e6",
        "numpy 2.1 -> 2.2",
        "yaml 6 -> (none)",
        "Python cpython 3.11.7 -> cpython 3.12.1",
    ]
    assert changes_between(old, old) == []


def test_summaries_are_short():
    state = state_of([(f"m{number}", "1") for number in range(9)], "1a2b3c4d5e")
    assert state.summary() == "commit 1a2b3c4 (changes unknown) m0.py, m1.py, m2.py, m3.py and 5 more"
    assert CodeState().summary() == "no code of one's own"


HEAVY = {
    "subprocess",
    "importlib.metadata",
    "importlib.abc",
    "inspect",
    "ast",
    "platform",
    "json",
    "linecache",
    "tokenize",
    "dataclasses",
}


def test_the_import_is_light():
    """No module of code records imports, as it is imported, what only a capture needs."""
    text = "import sys, perdure, perdure.flows.running\n"
    text += "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('perdure.code.')))"
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    files = [Path(file) for file in done.stdout.split()]
    assert {"capture.py", "archives.py", "sources.py"} <= {file.name for file in files}
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        at_once = {words[1] for line in lines if (words := line.split()) and line.startswith(("import ", "from "))}
        assert not at_once & HEAVY, file.name
