"""Flows in a script that is run with `python script.py`: its functions have a lasting name, in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest

import perdure

SCRIPT = """
import os, sys, perdure
from perdure import Persistable, flow, job

class Note(Persistable):
    def __init__(self, text):
        self.text = text

@job
def shout(note):
    if os.path.exists("broken"):
        raise ValueError("not yet")
    return Note(note.text.upper() + str(__name__))

@job
def join(notes):
    return notes

@flow
def loud(texts):
    return join([shout(Note(text)) for text in texts])

{guard}
    run = perdure.start(loud, ["a", "b"], store="sqlite:///runs.db", executor=sys.argv[1], workers=1)
    print(run.state)
    if run.state == "succeeded":
        print([note.text for note in run.result()], all(type(note) is Note for note in run.result()))
    else:
        print(list(run.failures().values())[0])
"""
GUARDED = 'if __name__ == "__main__":'
UNGUARDED = "if True:"


def python(folder, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(("executor", "name"), [("inline", "__main__"), ("processes", "script")])
def test_a_script_runs_its_own_jobs(tmp_path, executor, name):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=GUARDED))
    out, error = python(tmp_path, "script.py", executor)
    assert out == ["succeeded", f"['A{name}', 'B{name}'] True"], error
    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        assert store.load(run_of(store)).flow == "script:loud"


def test_a_script_without_the_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=UNGUARDED))
    out, error = python(tmp_path, "script.py", "processes")
    assert out[0] == "failed", error
    assert out[1].startswith("FlowError: A run is started where the module of a job is being imported")
    assert '`if __name__ == "__main__":`' in out[1]


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_script_is_run_again_from_elsewhere(tmp_path, executor):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=GUARDED))
    (tmp_path / "broken").touch()
    out, error = python(tmp_path, "script.py", "inline")
    assert out == ["failed", "ValueError: not yet"], error
    (tmp_path / "broken").unlink()
    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        id_ = run_of(store)
    again = (
        "import sys, perdure; run = perdure.rerun(sys.argv[1], store='sqlite:///runs.db', executor=sys.argv[2]);"
        "print(run.state, [note.text for note in run.result()])"
    )
    out, error = python(tmp_path, "-c", again, id_, executor)
    assert out == ["succeeded ['Ascript', 'Bscript']"], error


def test_a_rerun_that_imports_a_script_without_the_guard_starts_nothing(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=UNGUARDED))
    (tmp_path / "broken").touch()
    python(tmp_path, "script.py", "inline")
    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        id_ = run_of(store)
    again = (
        "import sys, perdure; sys.argv[1:1] = ['inline'];"
        "run = perdure.rerun(sys.argv[2], store='sqlite:///runs.db'); print(run.state, *run.failures().values())"
    )
    out, error = python(tmp_path, "-c", again, id_)
    assert out[-1].startswith("failed FlowError: A run is started where the module of a job is being imported"), error
    with perdure.make_store(f"sqlite:///{tmp_path}/runs.db") as store:
        assert run_of(store) == id_  # there is no second run


@pytest.mark.parametrize("how", ["-c", "my-script.py"])
def test_functions_without_a_name_that_workers_could_import(tmp_path, how):
    text = SCRIPT.format(guard=GUARDED)
    (tmp_path / "my-script.py").write_text(text)
    command = ["-c", text] if how == "-c" else ["my-script.py"]
    out, error = python(tmp_path, *command, "processes")
    assert out == []
    assert "FlowError: __main__:shout was typed at a prompt, or its script's name is no name of a module" in error
    assert python(tmp_path, *command, "inline")[0][0] == "succeeded"


def test_a_module_run_with_m(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "tool.py").write_text(SCRIPT.format(guard=GUARDED))
    out, error = python(tmp_path, "-m", "package.tool", "processes")
    assert out == ["succeeded", "['Apackage.tool', 'Bpackage.tool'] True"], error


def run_of(store):
    """The id of the one run in the store."""
    (id_,) = (id_ for id_ in store.list(all=True) if id_.startswith("Run."))
    return id_
