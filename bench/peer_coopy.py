"""The same commands in coopy, as its guide says: a class whose methods are journaled, `durability="sync"`."""

from __future__ import annotations

from pathlib import Path

import coopy
from commands import Thing, eight_threads, many, one_thread, require_all, size_of, timed
from work import Figures, clock


class System:
    """The root."""

    def __init__(self) -> None:
        self.things: dict[int, Thing] = {}

    def put(self, key: int, name: str, value: int) -> None:
        self.things[key] = Thing(key, name, value)

    def get_things(self) -> dict[int, Thing]:
        return self.things


def run_durable(folder: Path, size: int) -> Figures:
    with coopy.open(System(), folder / "system", durability="sync") as system:
        return one_thread(system.put, size)


def run_shared(folder: Path, size: int) -> Figures:
    with coopy.open(System(), folder / "system", durability="sync") as system:
        return eight_threads(system.put, size)


def build(folder: Path, size: int) -> Figures:
    count = many(size)
    with coopy.open(System(), folder / "system") as system:
        for number in range(count):
            system.put(number, f"name{number}", number)
    return {"bytes": size_of(folder / "system", "transaction") / count}


def replay(folder: Path, size: int) -> Figures:
    figures: Figures = {}
    with clock(figures, "replay"):
        system = coopy.open(System(), folder / "system")
    require_all(system.get_things(), many(size))
    coopy.control(system).close()
    return figures


def snapshot(folder: Path, size: int) -> Figures:
    """All commands wait for it."""
    system = coopy.open(System(), folder / "system")
    took = timed(coopy.control(system).take_snapshot)
    coopy.control(system).close()
    return {"pause": took, "snapshot": took / 1000}


def load(folder: Path, size: int) -> Figures:
    figures: Figures = {}
    with clock(figures, "open"):
        system = coopy.open(System(), folder / "system")
    require_all(system.get_things(), many(size))
    coopy.control(system).close()
    return figures


TASKS = {
    "durable": run_durable, "shared": run_shared, "build": build, "replay": replay, "snapshot": snapshot, "load": load,
}  # fmt: skip
