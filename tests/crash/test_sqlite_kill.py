"""Writers of a SQLite store are killed at random moments: no commit is cut, none that was reported is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chances import dice, more

from perdure.backends.sqlite.backend import SqliteBackend
from perdure.records.frame import parse_unverified

pytestmark = pytest.mark.crash

# Commits groups of records that belong together, and reports each commit, and each number, on its standard output.
WRITER = """
import random, sys
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.errors import ConflictError
from perdure.records.frame import parse_unverified
from perdure.testing.backend_drafts import commit, draft

backend = SqliteBackend(sys.argv[1])
print("ready", flush=True)
while True:
    size = random.randrange(2, 60)
    first = backend.reserve(size, durable=False)
    group = b"%d,%d" % (first, size)
    seen = backend.revision()
    old = [parse_unverified(frame) for frame in backend.read(["Last.1", "Last.2"]).values()]
    try:
        receipt = commit(
            backend,
            *(draft(f"Item.{number}", group + b" " * 300) for number in range(first, first + size)),
            *(draft(record.id, group, base=record.revision) for record in old),
            seen=seen if all(record.revision <= seen for record in old) else 0,
        )
    except ConflictError:
        continue
    print(receipt.revision, first, size, flush=True)
"""


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def reported(output: str) -> list[tuple[int, int, int]]:
    """What the writer said of its commits; the last line may be cut."""
    lines = output.split("\n")[:-1]
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in lines if line != "ready")]


def check(path: Path, acknowledged: list[tuple[int, int, int]]) -> None:
    """All that was reported is there, and whatever is there is whole."""
    backend = SqliteBackend(path, timeout=10)
    commits = {commit.revision: commit.numbers for commit in backend.commits()}
    assert sorted(commits) == list(range(1, backend.revision() + 1))
    for revision, first, size in acknowledged:
        assert commits[revision] == (1, 2, *range(first, first + size))
    groups: dict[bytes, list[int]] = {}
    for frame in backend.scan(after=2):
        record = parse_unverified(frame)
        groups.setdefault(record.payload.strip(), []).append(int(record.id.removeprefix("Item.")))
    for group, numbers in groups.items():
        first, size = map(int, group.split(b","))
        assert numbers == list(range(first, first + size))
    written = [number for numbers in commits.values() for number in numbers if number > 2]
    assert len(written) == len(set(written)) == sum(map(len, groups.values()))
    last = backend.read(["Last.1", "Last.2"])
    records = [parse_unverified(frame) for frame in last.values()]
    assert len(records) == 2
    assert len({(record.revision, record.payload) for record in records}) == 1
    assert backend.describe().next_number > max(written, default=0)
    backend.close()
    assert integrity(path) == "ok"


def integrity(path: Path) -> str:
    import sqlite3

    connection = sqlite3.connect(path)
    (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return str(answer)


def make(path: Path) -> None:
    from perdure.testing.backend_drafts import commit, draft

    backend = SqliteBackend(path)
    commit(backend, draft("Last.1"), draft("Last.2"))
    backend.close()


def test_writers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make(path)
    acknowledged: list[tuple[int, int, int]] = []
    chance = dice("writers")
    for _ in range(more(8)):
        writers = [start(path), start(path)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, 0.3))
        for writer in writers:
            writer.kill()
            output, _ = writer.communicate()
            assert writer.returncode == -signal.SIGKILL
            acknowledged += reported(output)
        check(path, acknowledged)
    assert len({revision for revision, _, _ in acknowledged}) == len(acknowledged) > 20


def test_a_writer_that_is_killed_while_it_makes_the_store(tmp_path: Path) -> None:
    chance = dice("makers")
    for attempt in range(more(6)):
        path = tmp_path / f"{attempt}.db"
        writer = subprocess.Popen([sys.executable, "-c", MAKER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.01))
        writer.kill()
        writer.communicate()
        backend = SqliteBackend(path, timeout=5)
        assert backend.describe()[3:] == (0, 1, 0, False)
        backend.close()
        assert integrity(path) == "ok"


MAKER = """
import sys
from perdure.backends.sqlite.backend import SqliteBackend

print("ready", flush=True)
SqliteBackend(sys.argv[1])
sys.stdin.read()
"""
