"""A writer and its standby are killed with SIGKILL; what was acknowledged is there after promotion."""

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
from perdure.errors import WriterDeposed
from perdure.prevalence.promoting import promote_closed
from perdure.records.seal import Key

pytestmark = pytest.mark.crash

KEY = Key(b"k" * 32)
MODULE = """
import os, sys, threading
from perdure import prevalence
from perdure.prevalence import command
from perdure.records.seal import Key

KEY = Key(b"k" * 32)

class Marks:
    def __init__(self):
        self.last = {}

    @command
    def mark(self, name, number):
        self.last[name] = number
        if number % 7 == 0:
            raise ValueError("not marked")

def work(system, name):
    number = system.root.last.get(name, 0)
    while True:
        number += 1
        try:
            system.root.mark(name, number)
        except ValueError:
            continue
        os.write(1, f"{name} {number}\\n".encode())

def write(system):
    for name in "abc":
        threading.Thread(target=work, args=(system, name)).start()

if __name__ == "__main__":
    place = sys.argv[2]
    if sys.argv[1] == "write":
        write(prevalence.open(
            place, Marks, key=KEY, code="off", snapshot_commands=150, file_bytes=5000, step=2000, keep=2,
            serve="127.0.0.1:0", sync=True, patience=60.0,
        ))
    else:
        standby = prevalence.standby(place, sys.argv[3], key=KEY, code="off", snapshot_commands=100)
        print("ready", flush=True)
        for line in sys.stdin:
            system = standby.promote(patience=0.2)
            last = system.root.last.items()
            print("promoted", *(f"{name}={number}" for name, number in last), flush=True)
"""


class Processes:
    """The processes of one test, and what the writers have acknowledged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.acknowledged: dict[str, int] = {}
        self.running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "marks.py", *arguments],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> list[str]:
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].split("\n")[:-1]
        self.running.remove(process)
        return lines

    def note(self, lines: list[str]) -> None:
        for line in lines:
            name, number = line.split()
            self.acknowledged[name] = max(int(number), self.acknowledged.get(name, 0))

    def check(self, last: dict[str, int]) -> None:
        for name, number in self.acknowledged.items():
            assert number <= last[name] <= number + 2, "acknowledged, and perhaps one that raised and one under way"


@pytest.fixture
def processes(tmp_path: Path):
    (tmp_path / "marks.py").write_text(MODULE)
    made = Processes(tmp_path)
    yield made
    for process in list(made.running):
        made.kill(process)


def test_what_was_acknowledged_survives_the_writer(processes: Processes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(processes.folder))
    chance = dice("standbys")
    here, there = "one", "two"
    for turn in range(more(3)):
        writer = processes.start("write", here)
        standby = processes.start("stand", there, here)
        assert standby.stdout is not None
        assert standby.stdin is not None
        assert writer.stdout is not None
        assert standby.stdout.readline() == "ready\n"
        first = [writer.stdout.readline()]
        time.sleep(0.2 + chance.random() / 2)
        processes.kill(standby)
        time.sleep(chance.random() / 4)
        standby = processes.start("stand", there, here)
        assert standby.stdout is not None
        assert standby.stdin is not None
        assert standby.stdout.readline() == "ready\n"
        time.sleep(0.5 + chance.random() / 2)
        processes.note(first + processes.kill(writer))
        if turn == 1:
            processes.kill(standby)  # both are gone, and one is promoted later
            assert promote_closed(str(processes.folder / there), KEY)[1]
            with prevalence.open(processes.folder / there, key=KEY, read_only=True) as found:
                processes.check(found.root.last)
        else:
            standby.stdin.write("promote\n")
            standby.stdin.flush()
            told = standby.stdout.readline().split()
            assert told[0] == "promoted"
            processes.check({name: int(number) for name, _, number in (each.partition("=") for each in told[1:])})
            processes.kill(standby)
        with pytest.raises(WriterDeposed):
            prevalence.open(processes.folder / here, key=KEY)
        here, there = there, here
    assert sum(processes.acknowledged.values()) > 150
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        system = prevalence.open(processes.folder / here, key=KEY, code="off")
    with system:
        assert system._journal._epoch == 3
        processes.check(system.root.last)
