"""The classes that hostile records name are registered while the tests of this folder run, and for no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import victim  # noqa: F401  # which registers them

import perdure
from perdure.pickling.declared import DECLARED

CLASSES = [cls for name, cls in DECLARED.known.items() if name.startswith("victim:")]
DECLARED.clear()


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    for cls in CLASSES:
        perdure.register_class(cls)
    yield
    DECLARED.clear()
