"""Packing and erasing a SQLite store is killed at random moments, while another process writes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from chances import dice, more

from perdure.backends.sqlite.backend import SqliteBackend
from perdure.records.frame import parse_unverified
from perdure.testing.backend_drafts import commit, draft

pytestmark = pytest.mark.crash

SECRET = b"pass" + b"word-of-nobody"

PACKER = """
import sys
from perdure.backends.sqlite import packing as sqlite_packing
from perdure.backends.sqlite.backend import SqliteBackend

sqlite_packing.ROWS = 10
sqlite_packing.WORTH = 1000
backend = SqliteBackend(sys.argv[1])
print("ready", flush=True)
while True:
    backend.pack(max(backend.revision() - 3, 0))
    backend.erase(["Gone.1"])
"""

WRITER = """
import sys
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.testing.backend_drafts import commit, draft

backend = SqliteBackend(sys.argv[1])
print("ready", flush=True)
while True:
    revision = backend.revision()
    commit(backend, *(draft(f"Item.{n}", b"%d" % revision * 300, base=revision) for n in range(2, 42)))
    print(revision + 1, flush=True)
"""


def start(program: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_packing_that_is_killed_is_done_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    backend = SqliteBackend(path)
    commit(backend, draft("Gone.1", SECRET), *(draft(f"Item.{n}", SECRET) for n in range(2, 42)))
    commit(backend, *(draft(f"Item.{n}", b"-", base=1) for n in range(2, 42)), removals={"Gone.1": 1})
    backend.close()
    chance = dice("packing")
    for _ in range(more(4)):
        writer, packer = start(WRITER, path), start(PACKER, path)
        time.sleep(chance.uniform(0.05, 0.4))
        packer.kill()
        time.sleep(0.02)
        writer.kill()
        packer.communicate()
        reported = [int(line) for line in writer.communicate()[0].split("\n")[:-1]]
        check(path, max(reported, default=2))


def check(path: Path, acknowledged: int) -> None:
    backend = SqliteBackend(path, timeout=10)
    newest, oldest = backend.revision(), backend.describe().oldest
    assert newest >= acknowledged
    for at in range(max(oldest, 1), newest + 1):
        found = backend.read(backend.ids(at=at), at=at)
        assert {parse_unverified(frame).revision for frame in found.values()} <= {at}
        assert len(found) == 41 if at == 1 else 40
    assert [each.revision for each in backend.commits()][: newest - oldest] == list(range(newest, oldest, -1))
    backend.pack(oldest)
    assert [version.revision for version in backend.history("Item.7")] == list(range(newest, max(oldest, 1) - 1, -1))
    backend.pack(newest)
    backend.erase(["Gone.1"])
    assert [version[:] for version in backend.history("Gone.1")] == [(2, None)]
    backend.close()
    assert SECRET not in path.read_bytes()
