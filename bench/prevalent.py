"""Prevalence in perdure: sealed, each command undone if it raises, code records off."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from commands import Thing, eight_threads, many, one_thread, read, require_all, size_of
from work import Figures, clock

from perdure import prevalence
from perdure.prevalence import command


class System:
    """The root."""

    def __init__(self) -> None:
        self.things: dict[int, Thing] = {}

    @command
    def put(self, key: int, name: str, value: int) -> None:
        self.things[key] = Thing(key, name, value)

    @command
    def fail(self, key: int) -> None:
        self.things[key] = Thing(key, "", 0)
        raise ValueError(key)


def opened(folder: Path, **settings: Any) -> Any:
    """The system in that folder."""
    return prevalence.open(folder / "system", System, code="off", snapshot_commands=None, **settings)


def run_durable(folder: Path, size: int) -> Figures:
    with opened(folder) as system:
        system.root.put(0, "", 0)
        return one_thread(system.root.put, size)


def run_shared(folder: Path, size: int) -> Figures:
    with opened(folder) as system:
        system.root.put(0, "", 0)
        return eight_threads(system.root.put, size)


def build(folder: Path, size: int) -> Figures:
    """A journal of many commands, as one thread writes it, and no snapshot after it."""
    count = many(size)
    with opened(folder, durability="none") as system:
        put = system.root.put
        for number in range(count):
            put(number, f"name{number}", number)
    return {"bytes": size_of(folder / "system", "journal") / count}


def replay(folder: Path, size: int) -> Figures:
    figures: Figures = {}
    with clock(figures, "replay"):
        system = opened(folder)
    require_all(system.root.things, many(size))
    system.close()
    return figures


def snapshot(folder: Path, size: int) -> Figures:
    """A snapshot of many objects; how long a command that raises takes with so many."""
    with opened(folder) as system:
        taken = system.snapshot()
        figures = {"pause": taken.pause * 1000, "snapshot": taken.seconds}
        system.root.put(0, "name0", 0)
        with clock(figures, "undo"), suppress(ValueError):
            system.root.fail(1)
        require_all(system.root.things, many(size))
    return figures


def load(folder: Path, size: int) -> Figures:
    figures: Figures = {}
    with clock(figures, "open"):
        system = opened(folder)
    require_all(system.root.things, many(size))
    root = system.root
    figures |= read(root.things)
    system.close()
    return figures


TASKS = {
    "durable": run_durable, "shared": run_shared, "build": build, "replay": replay, "snapshot": snapshot, "load": load,
}  # fmt: skip
