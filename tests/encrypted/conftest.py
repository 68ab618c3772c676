"""A place for an encrypted store on each kind of backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from lair import EVERYWHERE, Lair


@pytest.fixture(params=EVERYWHERE)
def lair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lair]:
    lair = Lair(request.param, tmp_path)
    yield lair
    lair.close()


__all__ = ["servers"]
