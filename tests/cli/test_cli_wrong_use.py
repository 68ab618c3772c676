"""Every wrong use gets one clear sentence on stderr, the right exit status, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from perdure.cli import VERBS

WRONG = {
    "run": "required: FILE_OR_MODULE, FLOW. How it is used: perdure run -h",
    "run nope.py total": "The file nope.py is not there.",
    "run nope total": "There is no module 'nope' here",
    "run some-thing total": "'some-thing' is neither a file nor the name of a module.",
    "run some.thing.else total": "There is no module 'some.thing.else' here",
    "run small.py nope": "There is no flow 'nope' in small. There is: baskets, circular, echo, naps, rest,",
    "run small.py half": "'half' in small is no flow",
    "run small.py no_flow": "'no_flow' in small is no flow (a int)",
    "run small.py total one": "numbers: 'one' is no whole number.",
    "run small.py total 1 scale=x": "scale: 'x' is no whole number.",
    "run small.py total 1 scale=1 scale=2": "scale is given twice",
    "run small.py total": "total(numbers: list[int], scale: int = 1) was called wrongly: missing: numbers.",
    "run small.py naps 1": "naps(count: int, seconds: float) was called wrongly: missing: seconds.",
    "run small.py naps 1 2 3 4": "too many arguments: 3 4.",
    "run small.py wrong 7": "The flow wrong raised AttributeError: 'int' object has no attribute 'weight' (small.py,",
    "run small.py circular 1": "Jobs need one another in a circle: say → say",
    "run small.py total 1 --workers 0": "0 workers cannot run anything.",
    "run small.py total 1 --workers many": "invalid int value: 'many'",
    "run small.py total 1 --executor dask": "invalid choice: 'dask'",
    "run small.py total 1 --quick": "Unrecognized arguments: --quick.",
    "run small.py total 1 --store nix://there": "No kind of store is registered for 'nix'.",
    "log --limit -1": "'-1' is no number from 0 on",
    "log --limit 99999999999999999999999": "is no number from 0 on",
    "log --before 99999999999999999999999": "is no number from 0 on",
    "runs --limit -1": "'-1' is no number from 0 on",
    "undo 99999999999999999999999": "is no number from 0 on",
    "pack --keep 0": "nor a number of revisions from 1 on",
    "ls --limit many": "'many' is no number from 0 on",
    "ls --store postgresql:": "names no database",
    "ls --store memory:?a=1": "has an option that a memory: store does not know",
    "show": "required: RUN",
    "frobnicate": "There is no verb 'frobnicate'. The verbs are: run, runs,",
    "rnu": "Did you mean 'run'?",
    "--store sqlite:///x.db runs": "The verb comes first",
    "key export": "perdure key export needs a FILE.",
    "key show some.key": "perdure key show takes no FILE.",
    "key melt": "invalid choice: 'melt'",
    "demo --folder nowhere": "nowhere is no folder.",
    "demo --keep .": ". is not empty.",
    "demo --store memory: --folder .": "memory: will not do",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_use(say, words):
    status, out, err = say(*words.split())
    assert (status, out) == (2, "")
    assert WRONG[words] in err
    assert err.startswith("perdure")
    assert len(err.splitlines()) == 1
    assert not os.path.exists("x.db")


WRONG_IN_A_STORE = {
    "show zzz": (2, "'zzz' is not an id."),
    "show Run.99": (2, "There is no Run.99 in this store."),
    "show Job.2": (2, "Job.2 is a job of Run.1."),
    "show Arguments.4": (2, "Arguments.4 is no run, but a perdure:"),
    "history Run.99": (2, "There never was a Run.99"),
    "history ../../etc/passwd": (2, "is not an id."),
    "reindex os:path": (2, "A class is asked for, or its name"),
    "rerun Run.99": (2, "There is no Run.99"),
    "rerun Run.1 --from nix": (2, "Run.1 has no job 'nix'."),
    "rerun Run.1 --all --from add": (2, "--all and --from cannot be given together."),
    "rerun Run.1 --all --file other.py": (2, "other.py is not the file of the module small"),
    "rerun Run.1 --all --file gone/small.py": (2, "gone/small.py is not there"),
    "resume Run.1": (2, "Run.1 has ended"),
    "run small.py echo 1 --store small.py": (3, "small.py"),
}


def test_wrong_use_of_a_store(say, folder):
    assert say("run", "small.py", "total", "1", "--executor", "inline")[0] == 0
    ids = [line.split()[0] for line in say("ls", "--all")[1].splitlines()]
    for words, (status, sentence) in WRONG_IN_A_STORE.items():
        asked = words.replace("Arguments.4", next(id_ for id_ in ids if id_.startswith("Arguments.")))
        if asked.startswith(("rerun", "resume")):
            sys.modules.pop("small", None)  # as in a new process
        found = say(*asked.split())
        assert (found[0], found[1]) == (status, ""), found
        assert sentence.replace("Arguments.4", asked.split()[-1]) in found[2]
        assert "Traceback" not in found[2]
    assert len(say("runs")[1].splitlines()) == 2


BAD_FILES = {
    "json.py": ("", "json.py would hide Python's own module 'json'."),
    "perdure.py": ("", "perdure.py would hide another module 'perdure'."),
    "my-flows.py": ("", "my-flows.py cannot be imported: 'my-flows' is no Python name. Rename it, for example"),
    "flows.txt": ("", "flows.txt is no Python file"),
    "unfinished.py": ("def half(:\n", "unfinished.py raised SyntaxError: invalid syntax (unfinished.py, line 1)"),
    "raising.py": ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' (raising.py, line 2)"),
    "needing.py": ("import nowhere_to_be_found\n", "needing.py raised ModuleNotFoundError: No module named"),
    "leaving.py": ("raise SystemExit(3)\n", "ends the program (SystemExit: 3 (leaving.py, line 1)) while it is"),
    "empty.py": ("", "There is no flow 'total' in empty. Decorate a function with @perdure.flow."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(say, folder, name):
    text, sentence = BAD_FILES[name]
    (folder / name).write_text(text)
    status, out, err = say("run", f"./{name}" if name == "flows.txt" else name, "total", "1")
    assert (status, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (folder / "small.db").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_told(folder, say):
    assert say("run", "small.py", "total", "1", "--executor", "inline")[0] == 0
    for words in (["ls", "--all"], ["runs"], ["log"], ["--help"]):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "perdure", *words]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.stderr == "perdure: What it found cannot be written: No space left on device.\n"
        assert done.returncode == 3


def test_no_store_is_named(say, monkeypatch):
    monkeypatch.delenv("PERDURE_STORE")
    for words in ("runs", "ls", "show last", "history last", "rerun last", "resume last", "run small.py total 1"):
        status, out, err = say(*words.split())
        assert (status, out) == (2, "")
        assert err == (
            "perdure: No store is named. Give --store URL (for example sqlite:///jobs.db) or set PERDURE_STORE.\n"
        )


@pytest.mark.parametrize("store", ["sqlite:///missing.db", "missing"])
def test_reading_makes_no_store(say, folder, store):
    before = sorted(path.name for path in folder.iterdir())
    for words in ("runs", "ls", "show last", "history Run.1", "rerun last", "resume last", "key export it.key"):
        status, out, err = say(*words.split(), "--store", store)
        assert (status, out) == (3, ""), words
        assert err.startswith("perdure: There is no store ")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_is_no_store(say, folder):
    (folder / "some.db").write_text("Not a store at all, but long enough to be looked at with care.\n" * 9)
    status, out, err = say("runs", "--store", "sqlite:///some.db")
    assert (status, out) == (3, "")
    assert "some.db" in err
    assert "Traceback" not in err


def test_without_a_verb_there_is_help(say):
    status, out, err = say()
    assert (status, err) == (2, "")
    assert all(f"  {verb} " in out for verb in VERBS)
    assert say("--help") == (0, out, "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_examples(say, verb):
    status, out, err = say(verb, "-h")
    assert (status, err) == (0, "")
    assert f"usage: perdure {verb}" in out
    assert f"  perdure {verb}" in out.partition("examples:")[2]


def test_version(say):
    import perdure

    assert say("--version") == (0, f"perdure {perdure.__version__}\n", "")
