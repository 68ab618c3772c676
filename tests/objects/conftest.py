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
# What depends on what a backend promises; making tables for each of the others would take minutes.
ON_SERVERS = {
    f"test_objects_{name}"
    for name in ("bounds", "many", "packed_meanwhile", "queries", "transactions", "under_load", "views")
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        kinds = [*EVERYWHERE, *(servers.KINDS if metafunc.module.__name__ in ON_SERVERS else ())]
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
