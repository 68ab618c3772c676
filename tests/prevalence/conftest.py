"""What the tests of prevalence share."""

from __future__ import annotations

import pytest

from perdure import prevalence
from perdure.records.seal import Key


@pytest.fixture
def opened(tmp_path):
    """Opens the system of a test, with settings that make it quick; all are closed at the end."""
    systems = []

    def opened(root=None, *, place="system", **settings):
        given = {"key": Key(b"k" * 32), "code": "off", "freeze": False, "step": 4096, **settings}
        system = prevalence.open(tmp_path / place, root, **given)
        systems.append(system)
        return system

    yield opened
    for system in systems:
        system.close()
