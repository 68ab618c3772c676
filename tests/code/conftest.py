"""Projects for the tests of code records: real files, real git repositories, modules really imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


class Project:
    """A directory of modules that is on `sys.path`."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def git(self, *arguments: str, where: Path | None = None) -> str:
        command = ["git", "-c", "user.name=Ada Example", "-c", "user.email=ada@example.org", *arguments]
        return subprocess.run(
            command, cwd=where or self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self) -> str:
        """Makes a commit of everything, in a repository that is made if need be; its id."""
        if not (self.root / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a step")
        return self.git("rev-parse", "HEAD")

    def load(self, name: str) -> ModuleType:
        """Imports the module as its file is now, as a new process would."""
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def run(self, *arguments: str, where: Path | None = None, **variables: str) -> str:
        """The output of Python with these arguments, in a process of its own."""
        command = [sys.executable, *arguments]
        environment = {**os.environ, **variables}
        done = subprocess.run(
            command, cwd=where or self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    root = tmp_path / "place" / "of" / "work"
    root.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a second import within a clock tick reads the text again
    before = set(sys.modules)
    yield Project(root)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
