"""Classes that change within one process: modules are made from texts, what they declare is forgotten afterwards."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers

from perdure import Store, make_store
from perdure.evolution import versions
from perdure.pickling import layouts
from perdure.pickling.declared import DECLARED
from perdure.upkeep import check

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
    DECLARED.clear()
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


EVERYWHERE = ("memory", "directory", "sqlite", *servers.KINDS)


class Place:
    """Where a store is; `open` opens it once more, as another program would (without what is in memory)."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self.opened: list[Store] = []
        if kind in ("memory", "directory", "sqlite"):
            urls = {
                "memory": "memory:",
                "directory": str(folder / "objects"),
                "sqlite": f"sqlite:///{folder}/objects.db",
            }
            self.url = urls[kind]
        else:
            self.url = f"{servers.url_of(kind)}#table={servers.table_of(folder)}"

    def open(self, **settings: Any) -> Store:
        first = self.opened[0] if self.kind == "memory" and self.opened else None
        store = make_store(self.url, **settings) if first is None else Store(first.backend, first.key, **settings)
        self.opened.append(store)
        return store

    def close(self) -> None:
        for store in self.opened:
            store.close()
        if self.kind in servers.KINDS:
            servers.drop_tables(self.kind, {servers.table_of(self.folder)})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", EVERYWHERE, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A store on each backend; at the end of the test it is whole."""
    place = Place(request.param, tmp_path)
    yield place
    assert check(place.open()) == []
    place.close()
