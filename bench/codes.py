"""What it costs to record which code made something: in a repository of 1,000 files, once for each state of the code.

- A new state: one of the files was edited since, and the index is as old as git left it. Best of several, since the
  cost of starting `git` is the machine's.
- The same state: nothing has changed; that is what each later commit of a store pays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from work import BrokenMeasurement, Figures

FILES = 1000
ROUNDS = 7


def capture(folder: Path, size: int) -> Figures:
    """Seconds for a new state, and for the same one again."""
    from perdure.code.capture import capture as record

    for number in range(FILES):
        place = folder / f"part{number % 20}"
        place.mkdir(exist_ok=True)
        (place / f"module{number}.py").write_text(f"def f(x):\n    return x + {number}\n" * 20, encoding="ascii")
    (folder / "job_of_many.py").write_text("import json\n", encoding="ascii")
    old = time.time() - 60
    for path in folder.rglob("*.py"):
        os.utime(path, (old, old))
    names = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*names, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    sys.path.insert(0, str(folder))
    __import__("job_of_many")
    record(["job_of_many"])
    new, same = [], []
    for number in range(ROUNDS):
        (folder / "part0" / "module0.py").write_text(f"CHANGED = {number}\n", encoding="ascii")
        os.utime(folder / ".git" / "index", (old + number, old + number + 30))  # so that it is looked at again
        began = time.perf_counter()
        state = record(["job_of_many"])
        new.append(time.perf_counter() - began)
        began = time.perf_counter()
        again = record(["job_of_many"])
        same.append(time.perf_counter() - began)
        if state.repositories[0].files != ("part0/module0.py",) or again is not state:
            raise BrokenMeasurement("the code record does not tell what was changed")
    return {"new state": min(new), "same state": min(same)}


TASKS = {"capture": capture}
