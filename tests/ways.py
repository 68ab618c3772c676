"""What the compiled part and the Python beside it do with the same."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from perdure import kernels

IS_BUILT = importlib.util.find_spec("perdure.kernels._compiled") is not None
COMPILED: Any = import_module("perdure.kernels._compiled") if IS_BUILT else None  # also where tests run without it

needs_kernels = pytest.mark.skipif(
    not IS_BUILT and not os.environ.get("CI"), reason="the compiled part is not built here"
)


def ways(function: Callable[[], Any], *told_apart: type[Exception]) -> list[Any]:
    """What it gives with the compiled part, and without; in place of an error of these kinds, its kind and text."""
    told = []
    before = kernels.compiled
    for compiled in (COMPILED, None):
        kernels.compiled = compiled
        try:
            told.append(function())
        except told_apart as error:
            told.append((type(error), str(error)))
        finally:
            kernels.compiled = before
    return told
