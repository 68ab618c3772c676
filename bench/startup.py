"""How long it takes to begin: `import perdure`, and the first job of a cold command.

- `python -c "import perdure"` and `python -c pass` take turns; the difference is what the import costs.
- The first job of `perdure run FILE FLOW` writes the time; that and the time before the command began are compared.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from work import BrokenMeasurement, Figures

FLOW = """\
import time
from pathlib import Path

from perdure import flow, job


@job
def mark(path: str) -> None:
    Path(path).write_text(repr(time.time()), encoding="ascii")


@flow
def first(path: str) -> None:
    return mark(path)
"""


def measure(folder: Path, environment: Mapping[str, str]) -> Figures:
    """One round of all."""
    return {
        "python": seconds_of(["-c", "pass"], environment),
        "import": seconds_of(["-c", "import perdure"], environment),
        "import told": import_time(environment),
        "first job": first_job(folder, environment),
    }


def seconds_of(arguments: list[str], environment: Mapping[str, str]) -> float:
    """How long a Python process takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True)
    return time.perf_counter() - began


def import_time(environment: Mapping[str, str]) -> float:
    """Seconds that `-X importtime` gives for `perdure` and all that it imports."""
    command = [sys.executable, "-X", "importtime", "-c", "import perdure"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found = re.search(r"\|\s*(\d+) \| perdure$", done.stderr, re.MULTILINE)
    if found is None:
        raise BrokenMeasurement("`-X importtime` says nothing of perdure")
    return int(found[1]) / 1e6


def first_job(folder: Path, environment: Mapping[str, str]) -> float:
    """Seconds from the start of the command to the first statement of its first job; a new store each time."""
    script, marked, store = folder / "first.py", folder / "marked", folder / "first.db"
    script.write_text(FLOW, encoding="ascii")
    for path in (marked, *folder.glob("first.db*")):
        path.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "perdure",
        "run",
        str(script),
        "first",
        str(marked),
        "--store",
        f"sqlite:///{store}",
    ]
    began = time.time()
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise BrokenMeasurement(f"`perdure run` ended with status {done.returncode}")
    return float(marked.read_text(encoding="ascii")) - began
