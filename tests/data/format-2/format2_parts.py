"""The class of the store `parts` of this folder."""

from __future__ import annotations

from typing import Any

import perdure


class Part(perdure.Persistable):
    """Has whatever attributes it is given."""

    def __init__(self, **given: Any):
        self.__dict__.update(given)
