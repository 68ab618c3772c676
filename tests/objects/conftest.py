"""A place for a store on each backend; whatever a test did there, the store is whole at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from places import Place

from perdure import Store
from perdure.upkeep import check

EVERYWHERE = ("memory", "directory", "sqlite")
# What depends on what a backend promises; making tables for each of the others would take minutes. Some of it needs one
# server only, to be seen at all: each has half of that.
ON_SERVERS = {
    f"test_objects_{name}"
    for name in (
        "bounds",
        "interrupts",
        "large_repair",
        "many",
        "packed_meanwhile",
        "queries",
        "transactions",
        "under_load",
        "views",
    )
}
ON_ONE_SERVER = {
    **dict.fromkeys(("test_objects_savepoints", "test_objects_undo", "test_objects_outside"), "postgresql"),
    **dict.fromkeys(("test_objects_large", "test_objects_asyncio", "test_objects_removed_held"), "postgresql"),
    **dict.fromkeys(("test_objects_conflicts", "test_objects_history", "test_objects_packing"), "mysql"),
    "test_objects_guests": "mysql",
    "test_objects_ahead": "postgresql",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        name = metafunc.module.__name__
        more = servers.KINDS if name in ON_SERVERS else filter(None, [ON_ONE_SERVER.get(name)])
        kinds = [*EVERYWHERE, *more]
        metafunc.parametrize("place", kinds, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    if place.is_whole and place.opened:
        last = place.open()
        assert check(last) == []
    place.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
