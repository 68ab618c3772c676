"""The project's files agree with one another: versions, pins, commands, licence."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest

import perdure

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"[a-z0-9][\w.-]*==[\w.!+]+")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pinned(name: str) -> dict[str, str]:
    """The versions that a lock file pins, by package."""
    lines = [line for line in read(f"requirements/{name}.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    return {re.sub(r"[-_.]+", "-", package): version for package, version in (line.split("==") for line in lines)}


def package_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def declared() -> dict:
    """What `pyproject.toml` says."""
    return tomllib.loads(read("pyproject.toml"))


def test_what_is_declared_is_pinned(declared):
    groups = dict(declared["dependency-groups"])
    bench = groups.pop("bench")  # in an environment of its own
    dev = [requirement for group in groups.values() for requirement in group]
    run, build = declared["project"]["dependencies"], declared["build-system"]["requires"]
    extras = [each for extra in declared["project"]["optional-dependencies"].values() for each in extra]
    wanted = {"run": run, "build": build, "dev": [*run, *build, *dev, *extras], "bench": [*bench, *extras]}
    for name, requirements in wanted.items():
        assert {package_of(requirement) for requirement in requirements} - pinned(name).keys() == set(), name


def test_the_lock_files_agree():
    dev = pinned("dev")
    for name in ("run", "build"):
        assert pinned(name).items() - dev.items() == set(), name
    bench = pinned("bench")
    assert [name for name in bench.keys() & dev.keys() if bench[name] != dev[name]] == []


def test_few_packages_are_needed_to_run(declared):
    needed = {package_of(requirement) for requirement in declared["project"]["dependencies"]}
    assert needed == {"platformdirs", "tqdm", "zstandard"}


def test_the_installed_version_is_this_one(declared):
    assert perdure.__version__ == declared["project"]["version"]
    assert importlib.metadata.version("perdure") == declared["project"]["version"]


def test_the_change_log_knows_the_version(declared):
    assert re.search(rf"^## {re.escape(declared['project']['version'])}\b", read("CHANGELOG.md"), re.MULTILINE)


def test_the_licence_is_the_declared_one(declared):
    assert read("LICENSE").startswith("MIT License")
    assert declared["project"]["license"] == "MIT"


def test_types_are_shipped():
    assert (ROOT / "src/perdure/py.typed").is_file()


def test_make_targets_that_are_named_exist():
    targets = {*re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)}
    assert {"demo", "test", "check", "bench", "docs", "format", "lock"} <= targets
    commands = {
        word
        for page in ("README.md", "CONTRIBUTING.md")
        for word in re.findall(r"(?:`|^\s*(?:\$ )?)make ([a-z]+)", read(page), re.MULTILINE)
    }
    assert commands <= targets


def test_ci_runs_the_checks_and_then_the_tests():
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert re.findall(r"^make (\w+)$", read(".ci/run"), re.MULTILINE) == ["check", "test"]
