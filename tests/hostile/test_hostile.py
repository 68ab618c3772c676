"""Hostile records, each read in a process with limits: none executes, none takes more than the limits, none escapes."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import routes

HERE = Path(__file__).resolve().parent
ERRORS = {"UntrustedRecord", "CorruptRecord", "CannotLoad"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What the victim tells of each record, by name and way of reading."""
    folder = tmp_path_factory.mktemp("victim")
    path = folder / "records"
    path.write_bytes(pickle.dumps(routes.records()))
    home = {**os.environ, "PYTHONPATH": str(HERE), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    program = "import victim; victim.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=folder, env=home, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (folder / "executed").exists()
    assert "executed" not in done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(line["name"], line["how"]): line for line in lines}


def test_there_are_enough_of_them():
    names = [name for name, _ in routes.records()]
    assert sorted(names) == sorted(set(names))
    assert len(names) >= 350


@pytest.mark.parametrize("how", ["load", "inspect"])
@pytest.mark.parametrize("name", [name for name, _ in routes.records()])
def test_hostile_record(told, name, how):
    line = told[name, how]
    assert line["outcome"] in (ERRORS if how == "load" else {*ERRORS, "loaded"}), line
    assert (line["sprung"], line["heard"], line["imported"]) == ([], [], [])
