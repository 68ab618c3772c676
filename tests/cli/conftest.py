"""A folder with flows in it, and two ways to give a command there: in this process, and as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.cli import main

SMALL = """\
import os
import time
from pathlib import Path

import perdure
from perdure import flow, job


class Basket(perdure.Persistable):
    def __init__(self, weight):
        self.weight = weight


@job
def half(number):
    if number == 3:
        raise ValueError(f"is no good: {number}\\nas this number never is")
    return number / 2


@job(idempotent=True)
def nap(seconds, number):
    with open("naps.txt", "a") as notes:
        notes.write(f"{number}\\n")
    time.sleep(seconds)
    return number


@job
def siesta(seconds):
    Path("siesta.txt").touch()
    time.sleep(seconds)


@job
def add(numbers):
    print("adding")
    return {"sum": sum(numbers)}


@job
def say(value):
    return value


@job
def weigh(basket):
    return Basket(basket.weight + 1)


@flow
def total(numbers: list[int], scale: int = 1):
    return add([half(number * scale) for number in numbers])


@flow
def naps(count: int, seconds: float):
    return add([nap(seconds, number) for number in range(count)])


@flow
def rest(seconds: float):
    return siesta(seconds)


@flow
def echo(value, *more, times=1):
    return say([value, list(more), times])


@flow
def baskets(weight: float):
    return weigh(Basket(weight))


@flow
def wrong(value):
    return say(value.weight)


@flow
def circular(value):
    first = say([])
    first.args[0].append(say(first))
    return first


no_flow = 1
"""

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """The working directory, with `small.py` in it; PERDURE_STORE names a store that is not there yet."""
    (tmp_path / "small.py").write_text(SMALL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///small.db")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def say(folder, capsys) -> Callable[..., tuple[int, str, str]]:
    """Give a command in this process: its exit status, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main(words)
        except SystemExit as error:
            status = int(error.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def command(folder) -> Callable[..., Done]:
    """Give a command as a process of its own."""

    def call(*words: str, **environment: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "perdure", *words],
            cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def begin(folder) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a command as a process of its own; it is killed at the end if it still runs."""
    begun: list[subprocess.Popen[str]] = []

    def call(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "perdure", *words],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield call
    for process in begun:
        process.kill()
        process.communicate()
