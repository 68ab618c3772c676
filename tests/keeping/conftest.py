"""Places for several stores in one test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pasts import Places


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    places = Places(tmp_path)
    yield places
    try:
        assert places.problems() == []
    finally:
        places.close()
