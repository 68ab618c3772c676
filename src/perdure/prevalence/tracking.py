"""Which functions have a watched twin (see `twins`), and notes for one command.

- A twin is made when its function is first carried out as part of a command, and kept.
"""

from __future__ import annotations

from contextlib import suppress
from types import FunctionType
from typing import Any

from perdure.prevalence.changes import Changes, Twin

_twins: dict[FunctionType, Twin | None] = {}


def twin_of(function: FunctionType) -> Twin | None:
    """The twin, which takes a `Changes` before all other arguments; None if there is none."""
    try:
        return _twins[function]
    except KeyError:
        _twins[function] = None  # for those that call themselves while it is made
    from perdure.prevalence.twins import NO_TWIN, made_twin  # reading is all that many programs do

    with suppress(*NO_TWIN):
        _twins[function] = made_twin(function)
    return _twins[function]


def changes_of(root: Any) -> Changes:
    """Notes for one command on that root."""
    return Changes(root, twin_of)
