"""A store on each backend for runs; whatever a test did there, the store is whole at its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_jobs import Marks

from perdure import Store, make_store
from perdure.upkeep import check

URLS = {"memory": "memory:", "directory": "{folder}/objects", "sqlite": "sqlite:///{folder}/objects.db"}


@pytest.fixture(params=URLS)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield from opened(URLS[request.param].format(folder=tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    yield from opened(URLS["sqlite"].format(folder=tmp_path))


def opened(url: str) -> Iterator[Store]:
    store = make_store(url)
    yield store
    assert check(store) == []
    store.close()


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path / "marks")
