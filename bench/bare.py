"""What a process needs before it does anything: bare Python, and `import perdure`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from work import Figures, peak_memory


def python(folder: Path, size: int) -> Figures:
    """An interpreter with what this program itself imports."""
    return {"python": peak_memory()}


def imported(folder: Path, size: int) -> Figures:
    """The same with perdure."""
    import_module("perdure")
    return {"imported": peak_memory()}


TASKS = {"python": python, "imported": imported}
