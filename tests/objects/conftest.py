"""A place for a store on each backend; whatever a test did there, the store is whole at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place

from perdure import Store
from perdure.upkeep import check


@pytest.fixture(params=["memory", "directory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    if place.is_whole and place.opened:
        last = place.open()
        assert check(last) == []
    for store in place.opened:
        store.close()


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()
