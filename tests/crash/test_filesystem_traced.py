"""The run of the crash explorer once more on a real disk, under strace: the system is asked for what was simulated.

What the explorer proves, it proves of the operations that a `SimulatedDisk` has recorded. Here each write, sync,
rename, link and removal that reaches the kernel is compared with them, in order, with place and length.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filesystem_workload
import pytest
from filesystem_workload import STORE, Workload, small_journal

from perdure.testing.crashes import SimulatedDisk

pytestmark = pytest.mark.crash

CALLS = (
    "openat,write,pwrite64,lseek,truncate,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,mkdir,mkdirat"
)
PROGRAM = """
import sys
import filesystem_workload
from perdure.files import Disk
filesystem_workload.STORE = sys.argv[1]
with filesystem_workload.small_journal():
    filesystem_workload.Workload().run(Disk())
"""
CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
HELD = re.compile(r"\d+<([^>]*)>")
QUOTED = re.compile(r'"([^"]*)"')
LOCK = ".perdure/lock"  # empty, made by the first who locks it, and needed by none after a crash
Operation = tuple[Any, ...]  # what is done, where, and of writes the place and length in bytes


class Recorder(SimulatedDisk):
    """Notes what changes the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def _note(self, what: str, path: str, *more: int) -> None:
        if not path.endswith(LOCK):
            self.operations.append((what, path.rstrip("/"), *more))

    def write(
        self, path: str, offset: int, data: bytes | memoryview, *, create: bool = False, mode: int = 0o666
    ) -> int:
        if create:
            self._note("begin", path)
        self._note("write", path, offset, len(data))
        return super().write(path, offset, data, create=create, mode=mode)

    def write_held(self, token: int, offset: int, data: bytes | memoryview) -> int:
        self._note("write", self._name_of(token), offset, len(data))
        return super().write_held(token, offset, data)

    def truncate(self, path: str, size: int) -> None:
        self._note("truncate", path, size)
        super().truncate(path, size)

    def sync(self, path: str) -> None:
        self._note("fsync", path)
        super().sync(path)

    def sync_held(self, token: int) -> None:
        self._note("fdatasync", self._name_of(token))
        super().sync_held(token)

    def sync_directory(self, path: str) -> None:
        self._note("fsync", path)
        super().sync_directory(path)

    def rename(self, source: str, target: str) -> None:
        self._note("rename", target)
        super().rename(source, target)

    def link(self, source: str, target: str) -> None:
        self._note("link", target)
        super().link(source, target)

    def unlink(self, path: str) -> None:
        self._note("unlink", path)
        super().unlink(path)

    def make_directory(self, path: str, mode: int = 0o777) -> None:
        self._note("mkdir", path)
        super().make_directory(path, mode)


def recorded() -> list[Operation]:
    """What the explorer sees of the run."""
    disk = Recorder()
    with small_journal():
        Workload().run(disk)
    return disk.operations


def traced(text: str, root: str) -> Iterator[Operation]:
    """What a trace tells of what lies below a directory, which stands for the root of the simulated disk."""
    places: dict[str, int] = {}  # where the next write of an open file goes
    for line in text.splitlines():
        call = CALL.match(line)
        if call is None or int(call[3]) < 0:
            continue
        name, words, result = call[1].removesuffix("at2").removesuffix("at"), call[2], int(call[3])
        paths = HELD.findall(words) if name in ("write", "pwrite64", "lseek", "fsync", "fdatasync", "ftruncate") else []
        path = (paths or QUOTED.findall(words) or [""])[-1]
        if not path.startswith(root) or path.endswith(LOCK):
            continue
        where = path.removeprefix(root)
        if name == "open":
            places[path] = 0
            if "O_TRUNC" in words:
                yield "begin", where
        elif name == "lseek":
            places[path] = result
        elif name == "write":
            yield name, where, places[path], result
            places[path] += result
        elif name == "pwrite64":
            yield "write", where, int(words.rpartition(", ")[2]), result
        elif name in ("truncate", "ftruncate"):
            yield "truncate", where, int(words.rpartition(", ")[2])
        else:
            yield name, where


def test_what_the_kernel_is_asked_for_is_what_was_simulated(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        message = "strace is not here: apt-get install strace"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    trace, root = tmp_path / "trace", str(tmp_path / "root")
    os.mkdir(root)
    here = os.path.dirname(filesystem_workload.__file__)
    words = [strace, "-f", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={CALLS}"]
    done = subprocess.run(
        [*words, sys.executable, "-c", PROGRAM, f"{root}{STORE}"],
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = list(traced(trace.read_text(), root))
    expected = recorded()
    assert len(expected) > 100
    assert {operation[0] for operation in expected} >= {"begin", "write", "truncate", "fsync", "rename", "mkdir"}
    assert found == expected
