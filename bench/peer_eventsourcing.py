"""The same commands as events of one aggregate of the `eventsourcing` package, on SQLite; a save for each command.

- It takes no snapshot of many objects at once, and has no writers that share a sync: these rows stay empty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands import Thing, many, one_thread, require_all
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from work import Figures, bytes_in, clock

AT_ONCE = 20_000


class System(Aggregate):
    """The aggregate."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.things: dict[int, Thing] = {}

    @event("Put")
    def put(self, key: int, name: str, value: int) -> None:
        self.things[key] = Thing(key, name, value)


def opened(folder: Path) -> Application[Any]:
    """The application, on a database with a write-ahead log and synchronous=FULL, SQLite's default."""
    place = str(folder / "events.db")
    return Application(env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": place})


def run_durable(folder: Path, size: int) -> Figures:
    application = opened(folder)
    system = System("x")

    def put(key: int, name: str, value: int) -> None:
        system.put(key, name, value)
        application.save(system)

    return one_thread(put, size)


def build(folder: Path, size: int) -> Figures:
    count = many(size)
    application = opened(folder)
    system = System("x")
    for number in range(count):
        system.put(number, f"name{number}", number)
        if number % AT_ONCE == AT_ONCE - 1:
            application.save(system)
    application.save(system)
    application.close()
    (folder / "id").write_text(str(system.id), encoding="ascii")
    return {"bytes": bytes_in(folder) / count}


def replay(folder: Path, size: int) -> Figures:
    from uuid import UUID

    figures: Figures = {}
    application = opened(folder)
    with clock(figures, "replay"):
        system = application.repository.get(UUID((folder / "id").read_text(encoding="ascii")))
    require_all(system.things, many(size))
    return figures


TASKS = {"durable": run_durable, "build": build, "replay": replay}
