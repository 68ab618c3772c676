"""Real processes that commit to one directory are killed with SIGKILL; what was acknowledged is there, and whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chances import dice

from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.filesystem.folder import OWN_FOLDER
from perdure.records.frame import decode, encoder
from perdure.records.seal import Key
from perdure.records.values import Batch, Draft

pytestmark = pytest.mark.crash

KEY = Key(b"k" * 32)
WORKER = """
import sys
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.records.frame import decode, encoder
from perdure.records.seal import Key
from perdure.records.values import Batch, Draft
from perdure.errors import ConflictError

encode = encoder(Key(b"k" * 32))
backend = FilesystemBackend(sys.argv[1])
def draft(id_, base, text):
    return Draft(id_, base, 0, "w:Item", 1, "", (), {}, text.encode())
first = backend.reserve(3, durable=False)
ids = [f"Item.{first + offset}" for offset in range(3)]
revision = backend.apply(Batch([draft(id_, 0, "0") for id_ in ids]), encode).revision
print("made", *ids, flush=True)
for turn in range(1, 10**6):
    shared = backend.read(["Shared.1"]).get("Shared.1")
    drafts = [draft(id_, revision, str(turn)) for id_ in ids]
    base = decode(shared, None, trust_all=True) if shared else None
    drafts.append(draft("Shared.1", base.revision, str(int(base.payload) + 1)))
    try:
        revision = backend.apply(Batch(drafts), encode).revision
    except ConflictError:
        continue
    print("done", turn, flush=True)
"""


def test_killed_processes_lose_nothing_that_was_acknowledged(tmp_path: Path):
    chance = dice("workers")
    directory = tmp_path / "store"
    start(directory)
    made: list[list[str]] = []
    acknowledged = 0
    for _ in range(5):
        workers = [
            subprocess.Popen([sys.executable, "-c", WORKER, str(directory)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        begun = [until_done(worker) for worker in workers]
        time.sleep(chance.random() * 0.8)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
        for worker, first in zip(workers, begun, strict=True):
            lines = (first + worker.communicate()[0]).split("\n")[:-1]
            assert worker.returncode == -signal.SIGKILL
            made.extend(line.split()[1:] for line in lines if line.startswith("made"))
            done = [int(line.split()[1]) for line in lines if line.startswith("done")]
            acknowledged += len(done)
            if made and done:
                turns = set(present(directory, made[-1]))
                assert len(turns) == 1, "half a commit"
                assert turns.pop() >= done[-1]
    everyone = [id_ for ids in made for id_ in ids]
    assert acknowledged > 20
    assert len(set(everyone)) == len(everyone), "an id was given twice"
    # Each commit raised the shared counter by one, and at most one a killed process was not told of.
    assert acknowledged <= present(directory, ["Shared.1"])[0] <= acknowledged + 10
    backend = FilesystemBackend(directory, create=False)
    assert set(everyone) | {"Shared.1"} <= set(backend.ids())
    assert [commit.revision for commit in backend.commits()] == list(range(backend.revision(), 0, -1))
    ids = backend.ids()
    backend.close()
    assert sorted(path.name for path in directory.iterdir()) == sorted([*ids, OWN_FOLDER])


def until_done(worker: subprocess.Popen[str]) -> str:
    """What it says up to its first acknowledged commit: however busy the machine is, it is at work by then."""
    said = ""
    for line in worker.stdout or ():
        said += line
        if line.startswith("done"):
            break
    return said


def start(directory: Path) -> None:
    backend = FilesystemBackend(directory)
    assert backend.reserve(1) == 1
    backend.apply(Batch([Draft("Shared.1", 0, 0, "w:Item", 1, "", (), {}, b"0")]), encoder(KEY))
    backend.close()


def present(directory: Path, ids: list[str]) -> list[int]:
    backend = FilesystemBackend(directory, read_only=True)
    frames = backend.read(ids)
    backend.close()
    assert sorted(frames) == sorted(ids)
    return [int(decode(frame, KEY).payload) for frame in frames.values()]
