"""A process that may have few files open: large pieces leave some for everything else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")

SCRIPT = """
import resource, sys
import numpy
from perdure import Persistable, make_store

class Table(Persistable):
    def __init__(self, numbers):
        self.numbers = numbers

url, others = sys.argv[1], int(sys.argv[2])
store = make_store(url, code="off")
ids = store.save_many([Table(numpy.full(9_000, n * 1.0)) for n in range(150)])
store.close()
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
opened = [open("/dev/null") for _ in range(others)]
store = make_store(url, code="off")
held = [table.numbers for table in store.load_many(ids)]
assert [array[0] for array in held] == [float(n) for n in range(150)]
held[0][0] = 7
assert store.load(store.save(Table(held[1]))).numbers[0] == 1
open("/dev/null").close()
assert store.check() == []
"""


@pytest.mark.parametrize("others", [0, 80])
def test_maps_leave_files_for_others(tmp_path: Path, others: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), str(others)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
