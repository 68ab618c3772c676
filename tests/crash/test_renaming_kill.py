"""Renames are killed at random moments: a file or a store is as it was or done, and the next run does the rest."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time

import pytest
from chances import dice

import perdure
from perdure.pickling.renames import Renames
from perdure.records.frame import parse_unverified
from perdure.upkeep import rename_in_file, rename_in_store

pytestmark = pytest.mark.crash

MOVE = Renames({}, {__name__: "shop.models"})
RENAME = ["-m", "perdure", "rename", "--module"]


class Line:
    def __init__(self, of):
        self.of = of


class Cart(perdure.Persistable):
    def __init__(self, number):
        self.number, self.line = number, Line(number) if number % 5 == 0 else None


def kill_after(seconds: float, *arguments: str) -> int:
    """Start Python with these arguments and end it hard after that time; gives its status."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return process.returncode


def test_a_file(tmp_path):
    path, backup = tmp_path / "carts.pkl", tmp_path / "carts.pkl.bak"
    before = b"".join(pickle.dumps([Line(number) for number in range(1000)]) for _ in range(2))
    path.write_bytes(before)
    begun = time.monotonic()
    assert subprocess.run([sys.executable, *RENAME, str(path), __name__, "shop.models"], check=False).returncode == 0
    took, after = time.monotonic() - begun, path.read_bytes()
    choose, killed = dice("files"), 0
    for _ in range(5):
        path.write_bytes(before)
        backup.unlink(missing_ok=True)
        killed += kill_after(took * choose.uniform(0.3, 1), *RENAME, str(path), __name__, "shop.models") < 0
        assert path.read_bytes() in (before, after)
        assert path.read_bytes() == before or backup.read_bytes() == before
        rename_in_file(path, MOVE)
        assert (path.read_bytes(), backup.read_bytes()) == (after, before)
    assert killed


@pytest.mark.parametrize("together", [100_000, 700])
def test_a_sqlite_store(tmp_path, together):
    path = tmp_path / "shop.db"
    url = f"sqlite:////{path.as_posix().lstrip('/')}"
    with perdure.make_store(url, code="off") as store:
        store.save_many([Cart(number) for number in range(4000)])
    whole = path.read_bytes()
    program = (
        "import sys\nfrom perdure.upkeep import renaming\nfrom perdure.cli import main\n"
        f"renaming.TOGETHER, renaming.STEP = {together}, 100\nmain(sys.argv[1:])"
    )
    arguments = ("-c", program, "rename", "--module", url, __name__, "shop.models")
    begun = time.monotonic()
    assert subprocess.run([sys.executable, *arguments], check=False, capture_output=True).returncode == 0
    took = time.monotonic() - begun
    choose, seen = dice("stores", together), set()
    for _ in range(4):
        for left in tmp_path.iterdir():
            left.unlink()
        path.write_bytes(whole)
        kill_after(took * choose.uniform(0.3, 1), *arguments)
        with perdure.make_store(url, code="off") as store:
            names = [parse_unverified(frame).class_name for frame in store.backend.scan(internal=False)]
            renamed = names.count("shop.models:Cart")
            assert renamed + names.count(f"{__name__}:Cart") == 4000
            assert renamed in (0, 4000) or (together < 4000 and renamed % 700 == 0)
            seen.add(renamed)
            report = rename_in_store(store, MOVE)
            assert (report.records, report.refused) == (4000 - renamed, ())
            assert store.check() == []
    assert seen
