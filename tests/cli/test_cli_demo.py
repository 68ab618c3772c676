"""The demo tells its story on any folder, fails when the story does not hold, and is the example."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.cli import demo
from perdure.cli.demo_files import AT_FIRST, BROKEN, MENDED, survey

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "survey"


@pytest.fixture
def library(folder):
    """A few files to survey, in the place of the standard library."""
    (folder / "library").mkdir()
    for number in range(3):
        (folder / "library" / f"m{number}.py").write_text("import os, sys\n\n\ndef f():\n    class C: pass\n")
    return folder / "library"


def test_the_demo(command, library, folder):
    (library / "bad.py").write_text("print 'old'\n")
    done = command("demo", "--folder", "library", "--keep", "kept")
    assert (done.returncode, done.stdout.count("\n$ perdure ")) == (0, 4), done.stdout + done.stderr
    assert "1 of which do not parse" in done.stdout
    assert "bad.py')  SyntaxError: Missing parentheses" in done.stderr
    assert "survey:parse has changed (commit " in done.stderr
    assert "The tally is that of the plain loop; 2 of 5 jobs ran." in done.stdout
    assert f"sqlite:///{folder}/kept/survey.db" in done.stdout
    assert command("runs", "--store", "kept/project").returncode == 3
    assert "succeeded" in command("runs", "--store", "sqlite:///kept/survey.db").stdout


def test_the_demo_lays_broken_files_where_all_parse(command, library):
    done = command("demo", "--folder", "library", "--keep", "kept", "--store", "sqlite:///own.db", PATH="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "so there are 3 broken files beside them now" in done.stdout
    assert "git is not here" in done.stdout
    assert "no repository: survey.py" in done.stdout
    assert "succeeded" in command("runs", "--store", "sqlite:///own.db").stdout


def test_the_demo_fails_when_its_story_does_not_hold(say, library, monkeypatch):
    monkeypatch.setattr(demo, "MENDED", AT_FIRST.replace("file.name", "'renamed'"))
    (library / "bad.py").write_text("print 'old'\n")
    with pytest.raises(SyntaxError):
        say("demo", "--folder", "library", "--keep", "kept")
    monkeypatch.setattr(
        demo, "MENDED", MENDED.replace("return page", 'return {**page, "lines": 10**9 // __import__("os").getpid()}')
    )
    status, _, err = say("demo", "--folder", "library", "--keep", "again")
    assert status == 2
    assert "does not hold: the tally is that of the plain loop." in err


def test_the_example_is_what_the_demo_ends_with():
    assert (EXAMPLE / "survey.py").read_text(encoding="utf-8") == survey(MENDED)
    assert survey(AT_FIRST) != survey(MENDED)


def test_the_example_runs(folder, command):
    shutil.copytree(EXAMPLE, folder / "survey")
    for name, text in BROKEN.items():
        (folder / name).write_text(text)
    done = command("run", "survey/survey.py", "survey", ".")
    assert (done.returncode, done.stderr) == (0, "")
    assert "'files': 5" in done.stdout
    assert "unfinished.py: '(' was never closed" in done.stdout


def test_the_readme_of_the_example_tells_the_truth(folder):
    """Its commands, one after the other, in a copy of the folder."""
    shutil.copytree(EXAMPLE, folder / "copy")
    commands = [
        line.removeprefix("    $ perdure ").split()
        for line in (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("    $ perdure ")
    ]
    assert len(commands) >= 4
    environment = {**os.environ, "PERDURE_STORE": "sqlite:///survey.db"}
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", "perdure", *words],
            cwd=folder / "copy", env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
