"""Makes the environment that recorded code ran in anew, with `uv`: only when somebody asks, since it downloads.

- Installed are the packages that the code imports, in their versions, and what perdure needs; what the lock file pinned
  holds for what these need themselves.
- An environment is made once and kept in the cache, named after what is in it. A half-made one is made anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

from perdure.code.archives import Archive
from perdure.errors import NoEnvironment
from perdure.files import Files

_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9]")
_DONE = "perdure.done"


def make_environment(archive: Archive, cache: Path) -> str:
    """The interpreter of an environment like the recorded one. Raises `NoEnvironment`."""
    state = archive.state
    pins = sorted(
        {line for lock in state.locks for line in (archive.kept(lock.digest) or "").splitlines() if "==" in line}
    )
    wanted = [f"{name}=={number}" for name, number in state.packages] + _needs_of_perdure(dict(state.packages))
    key = hashlib.sha256(repr((state.python, wanted, pins)).encode()).hexdigest()[:32]
    directory = cache / "environments" / key
    python = directory / "bin" / "python"
    if (directory / _DONE).exists():
        return str(python)
    tool = shutil.which("uv")
    if tool is None:
        raise NoEnvironment(
            "To make the recorded environment anew, the program `uv` is needed, and it is not here.",
            hint="Install it (pip install uv), or run without --environment recorded.",
        )
    files = Files()
    files.make_directories(str(directory.parent), mode=0o700)
    with files.lock(f"{directory}.lock", create=True, timeout=600):
        if not (directory / _DONE).exists():
            shutil.rmtree(directory, ignore_errors=True)
            _run(
                [tool, "venv", "--no-project", "--quiet", "--python", state.python.split()[-1], str(directory)], archive
            )
            constraints = directory / "constraints.txt"
            files.write_new(str(constraints), "".join(f"{pin}\n" for pin in _compatible(pins, wanted)).encode())
            install = [tool, "pip", "install", "--quiet", "--python", str(python), "-c", str(constraints)]
            _run([*install, *wanted], archive)
            files.write_new(str(directory / _DONE), b"")
    return str(python)


def _needs_of_perdure(recorded: dict[str, str]) -> list[str]:
    """What perdure itself needs, in the versions that are here, unless the record says others."""
    lines = [line for line in requires("perdure") or () if "extra ==" not in line]
    names = [match[0] for line in lines if (match := _NAME.match(line))]
    return sorted(f"{name}=={version(name)}" for name in names if name not in recorded)


def _compatible(pins: list[str], wanted: list[str]) -> list[str]:
    """The pins of other packages than the wanted ones, whose versions are told already."""
    names = {each.partition("==")[0] for each in wanted}
    return [pin for pin in pins if pin.partition("==")[0] not in names]


def _run(command: list[str], archive: Archive) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        told = " ".join(done.stderr.split())[-500:]
        raise NoEnvironment(
            f"uv could not make the environment of {archive.name} ({archive.state.python}): {told}",
            hint="Run without --environment recorded, or make that environment yourself and run perdure in it.",
            code=archive.name,
        )
