"""Classes that change within one process: modules are made from texts, and what they declare is forgotten afterwards."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure import outside
from perdure.evolution import versions
from perdure.pickling import layouts
from perdure.pickling.declared import DECLARED

HEAD = """
import collections, enum, functools, typing
from dataclasses import dataclass, field
import perdure
from perdure import Persistable
"""
Define = Callable[..., Any]


@pytest.fixture(autouse=True)
def declarations() -> Iterator[None]:
    """What a test declares is forgotten at its end."""
    assert not DECLARED.active, "a test before this one has left something declared"
    yield
    DECLARED.known, DECLARED.renames, DECLARED.moves, DECLARED.active = {}, {}, {}, False
    versions.REGISTERED.clear()
    layouts._said.clear()


@pytest.fixture
def define() -> Iterator[Define]:
    """`define("shop.models", text)` makes the module anew; `define("shop.models", None)` takes it away."""
    made: set[str] = set()

    def forget(name: str) -> None:
        for each in [*sys.modules]:
            if each == name or each.startswith(f"{name}."):
                del sys.modules[each]

    def define(name: str, text: str | None) -> Any:
        made.add(name.partition(".")[0])
        if text is None:
            forget(name)
            return None
        parts = name.split(".")
        for count in range(1, len(parts)):
            package = sys.modules.setdefault(".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
            package.__path__ = []
        module = sys.modules[name] = types.ModuleType(name)
        exec(HEAD + textwrap.dedent(text), module.__dict__)
        return module

    yield define
    for name in made:
        forget(name)


assert outside  # the package is whole before modules are made
