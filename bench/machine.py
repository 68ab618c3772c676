"""Where and when it was measured, line by line."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from perdure.kernels import is_compiled


def described(folder: Path) -> list[str]:
    """The machine, the versions, and what a sync to the disk of `folder` costs."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    synced = median(_fsync_times(folder)) * 1000
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {processor}, {_memory()}",
        f"{platform.system()} {platform.release().partition('-')[0]}",
        f"CPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        f"perdure {version('perdure')}{_commit()}, {'with' if is_compiled() else 'without'} its compiled part",
        f"stores are on {_filesystem(folder)}; to append 4 KiB and fsync takes {synced:.2f} ms",
    ]


def load() -> str:
    """How many processes want a core, on the average of a minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _commit() -> str:
    """The commit of the code that is measured, if it is in a working tree of git, and whether that was changed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return f" at {done.stdout.strip()}" if done.returncode == 0 else ""


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text(encoding="utf-8").splitlines() if place.is_file() else []


def _memory() -> str:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 1024**2:.0f} GiB of memory"
    return "memory unknown"


def _filesystem(folder: Path) -> str:
    """The kind of file system that `folder` is on: that of the longest mount point above it."""
    place = str(folder.resolve())
    mounts = [line.split()[1:3] for line in _lines("/proc/self/mounts")]
    above = [(len(point), kind) for point, kind in mounts if f"{place}/".startswith(f"{point.rstrip('/')}/")]
    return max(above)[1] if above else "an unknown file system"


def _fsync_times(folder: Path) -> list[float]:
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return times
