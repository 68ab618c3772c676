"""What every test stands on: an environment of its own, and the profiles of hypothesis.

- No test sees the user's configuration, keys, stores or git settings; none leaves anything there.
- With `CI` set, hypothesis tries the same examples in every run; `make torture` gives it seeds.
"""

from __future__ import annotations

import compileall
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chances import SCALE, SEED
from hypothesis import settings

import perdure
from perdure import kernels
from perdure.pickling import outside
from perdure.pickling.declared import DECLARED

settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("torture", max_examples=100 * SCALE, deadline=None, database=None, print_blob=True)
settings.load_profile("torture" if SEED else "ci" if os.environ.get("CI") else "fast")

_REGISTRIES = (outside._by_tag, outside._by_class, outside.BATCHED)

XDG_FOLDERS = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pure", action="store_true", help="leave the compiled part out (in this process)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pure"):
        kernels.compiled = None


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # for the programs that tests start, which write none: see below
        compileall.compile_dir(Path(perdure.__file__).parent, quiet=2)


def pytest_collection_modifyitems() -> None:
    if DECLARED.active:  # all modules of tests are imported before the first test
        raise pytest.UsageError(f"a module of tests declares {[*DECLARED.known]} when it is imported: use a fixture")


@pytest.fixture(autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own for each test, with nothing in it; the value is its folder."""
    home = tmp_path_factory.mktemp("home")
    before = dict(os.environ)
    for name in before:
        if name.startswith(("PERDURE_", "GIT_")):
            del os.environ[name]
    for name in XDG_FOLDERS:
        folder = home / name.removeprefix("XDG_").lower()
        folder.mkdir(mode=0o700)
        os.environ[name] = str(folder)
    # Python takes the compiled file of a module for its own if that was changed in the same second and is as long.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    yield home
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def registrations() -> Iterator[None]:
    """What a test registers with `perdure.reference` is forgotten at its end."""
    before = [dict(registry) for registry in _REGISTRIES]
    yield
    for registry, entries in zip(_REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(entries)
    outside._known = {}
