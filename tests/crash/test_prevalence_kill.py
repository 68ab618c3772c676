"""Real processes with a prevalent system are killed with SIGKILL; what was acknowledged is there, and whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from chances import dice, more

from perdure import prevalence
from perdure.records.seal import Key

pytestmark = pytest.mark.crash

MODULE = """
import os, sys, threading
from perdure import prevalence
from perdure.prevalence import command
from perdure.records.seal import Key

class Counts:
    def __init__(self):
        self.last = {}
        self.total = 0

    @command
    def count(self, name, number):
        self.total += 1
        assert self.last.get(name, 0) + 1 == number
        self.last[name] = number
        if number % 7 == 0:
            self.last.clear()
            raise ValueError("not counted")

def work(system, name, start):
    number = start
    while True:
        number += 1
        try:
            system.root.count(name, number)
        except ValueError:
            number -= 1
            system.execute(Skip(name))
            number += 1
        os.write(1, f"{name} {number}\\n".encode())

class Skip:
    def __init__(self, name):
        self.name = name

    def apply(self, root):
        root.last[self.name] = root.last.get(self.name, 0) + 1
        root.total += 1

if __name__ == "__main__":
    system = prevalence.open(
        sys.argv[1], Counts, key=Key(b"k" * 32), code="off", snapshot_commands=100, file_bytes=5000, step=2000, keep=2
    )
    for name in "abcd":
        start = system.root.last.get(name, 0)
        threading.Thread(target=work, args=(system, name, start)).start()
"""


def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "counts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    place = tmp_path / "system"
    chance = dice("systems")
    acknowledged: dict[str, int] = {}
    for _ in range(more(5)):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "counts.py", str(place)], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()  # it has begun
        time.sleep(0.5 + chance.random())
        process.send_signal(signal.SIGKILL)
        lines = (first + process.communicate()[0]).split("\n")[:-1]
        assert process.returncode == -signal.SIGKILL
        for line in lines:
            name, number = line.split()
            assert int(number) >= acknowledged.get(name, 0)
            acknowledged[name] = int(number)
        with prevalence.open(place, read_only=True, key=Key(b"k" * 32)) as found:
            for name, number in acknowledged.items():
                assert number <= found.root.last[name] <= number + 1
    assert sum(acknowledged.values()) > 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        system = prevalence.open(place, key=Key(b"k" * 32), code="off")
    with system:
        assert system.root.total == sum(system.root.last.values())
        assert len(list(place.glob("snapshot-*"))) <= 3
        assert list(place.glob("snapshot-*[1-9]*")), "a snapshot was made meanwhile"
