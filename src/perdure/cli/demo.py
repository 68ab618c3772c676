"""The verb `demo`: the main job on real input, with the real commands, and with a check of what they did.

- Everything happens in a new folder, which stays: a git repository of its own, and a store in SQLite beside it.
- Each step's exit status, and what the store then holds, is compared with what it must be; else the demo fails.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from perdure.cli.demo_files import AT_FIRST, BROKEN, MENDED, survey
from perdure.cli.options import STORE_VARIABLE, Command, Parser
from perdure.cli.terminal import clean, counted, painted, span
from perdure.errors import AccessDenied, FlowError
from perdure.objects.stores import make_store

_GIT = [
    "git", "-c", "user.name=perdure demo", "-c", "user.email=demo@example.invalid", "-c", "commit.gpgsign=false",
    "-c", "init.defaultBranch=main", "-c", f"core.hooksPath={os.devnull}",
]  # fmt: skip


def _arguments(parser: Parser) -> None:
    parser.add_argument("--keep", metavar="DIR", help="the folder to work in: new, or empty (default: a temporary one)")
    parser.add_argument("--store", metavar="URL", help="the store to use (default: a new one in that folder)")
    parser.add_argument("--folder", metavar="DIR", help="survey the files of this folder, not the standard library")


def call(options: argparse.Namespace) -> int:
    """`perdure demo`."""
    began = time.monotonic()
    folder = Path(options.folder or sysconfig.get_paths()["stdlib"]).resolve()
    if not folder.is_dir():
        raise FlowError(f"{options.folder} is no folder.")
    place = _new_place(options.keep)
    story = _Story(place, _absolute(options.store) or f"sqlite:///{place / 'survey.db'}", folder)
    story.tell()
    _heading("That was it")
    print(f"It took {span(time.monotonic() - began)}; everything that was said was checked. What is left to look at:")
    print(f"  the project   {story.project}\n  the store     {story.store}")
    print("Some things to do next:")
    print(f"  export {STORE_VARIABLE}={story.store}")
    for words in ("runs", f"show {story.run}", f"history {story.run}", "ls --all", f"rerun {story.run} --all"):
        print(f"  perdure {words}" + (f"     (in {story.project})" if words.startswith("rerun") else ""))
    return 0


class _Story:
    """One telling of the demo: where it happens, and what is known so far."""

    def __init__(self, place: Path, store: str, folder: Path):
        self.project = place / "project"
        self.store = store
        self.run = ""
        self._folders = [str(folder)]
        self._broken = place / "broken"
        self._has_git = shutil.which("git") is not None
        hidden = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PERDURE_KEY_FILE")
        self._environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self._environment[STORE_VARIABLE] = store

    def tell(self) -> None:
        """All of it, step by step; raises `FlowError` where the story does not hold."""
        _heading("1. A small project, and the same work as one plain loop")
        self.project.mkdir()
        self._commit(AT_FIRST, "A survey of Python files")
        expected = self._plain_count()
        _heading("2. Run the survey: one job for each file")
        self._perdure(["run", "survey.py", "survey", *self._folders], status=1)
        first = self._look()
        self.run = first["id"]
        failed = _ids(first, "failed")
        _must(first["state"] == "failed" and len(failed) == len(expected["findings"]), "files that do not parse fail")
        _must(len(_ids(first, "succeeded")) == expected["files"] - len(failed), "all other files are counted")
        _must(len(_ids(first, "skipped")) == 1, "the tally waits for them")
        _heading("3. Mend it: what does not parse becomes a finding")
        self._show_change()
        self._commit(MENDED, "What does not parse is a finding")
        _heading("4. Run again only what failed, and what needs it")
        self._perdure(["rerun", self.run], status=0)
        self._check_rerun(first, expected)
        _heading("5. Its history knows which code ran when")
        self._perdure(["history", self.run], status=0)
        print()
        self._perdure(["history", failed[0]], status=0)
        self._check_commits(failed)

    def _plain_count(self) -> dict[str, Any]:
        """What must come out: outside of a run, a flow and its jobs are plain functions."""
        (self.project.parent / "expected.py").write_text(survey(MENDED), encoding="utf-8")
        spec = importlib.util.spec_from_file_location("expected", self.project.parent / "expected.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (self.project.parent / "expected.py").unlink()
        began = time.monotonic()
        expected: dict[str, Any] = module.survey(*self._folders)
        took = time.monotonic() - began
        bad = len(expected["findings"])
        print(
            f"{counted(expected['files'], 'file')} below {self._folders[0]}, {bad} of which do not parse: {span(took)}."
        )
        if not bad:
            self._lay_broken_files()
            expected = module.survey(*self._folders)
            print(f"All of them parse, so there are {len(BROKEN)} broken files beside them now: {self._broken}")
        return expected

    def _lay_broken_files(self) -> None:
        self._broken.mkdir()
        for name, text in BROKEN.items():
            (self._broken / name).write_text(text, encoding="utf-8")
        self._folders.append(str(self._broken))

    def _commit(self, part: str, message: str) -> None:
        (self.project / "survey.py").write_text(survey(part), encoding="utf-8")
        if not self._has_git:
            print("git is not here, so nothing is committed: the history will name the files, but no commits.")
            return
        if not (self.project / ".git").exists():
            self._git("init", "-q")
        self._git("add", "survey.py")
        self._git("commit", "-q", "-m", message)
        print(f"committed {self._git('rev-parse', '--short=7', 'HEAD').strip()}: {message}")

    def _git(self, *words: str) -> str:
        done = subprocess.run(
            [*_GIT, *words], cwd=self.project, env=self._environment, capture_output=True, text=True, check=False
        )
        _must(done.returncode == 0, f"git {words[0]} works ({done.stderr.strip()})")
        return done.stdout

    def _show_change(self) -> None:
        lines = difflib.unified_diff(AT_FIRST.splitlines(), MENDED.splitlines(), lineterm="", n=1)
        for line in list(lines)[3:]:
            print(painted(f"  {line}", {"+": "green", "-": "red"}.get(line[:1], "")))

    def _perdure(self, words: list[str], *, status: int) -> None:
        print(painted(f"$ perdure {' '.join(clean(word) for word in words)}", "bold"), flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "perdure", *words], cwd=self.project, env=self._environment, check=False
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        _must(done.returncode == status, f"perdure {words[0]} exits with {status}, not with {done.returncode}")

    def _look(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "perdure", "show", self.run or "last", "--json"],
            cwd=self.project, env=self._environment, stdout=subprocess.PIPE, check=False,
        )  # fmt: skip
        _must(done.returncode == 0, "perdure show --json works")
        run: dict[str, Any] = json.loads(done.stdout)
        return run

    def _check_rerun(self, first: dict[str, Any], expected: dict[str, Any]) -> None:
        again = self._look()
        before = {job["id"]: len(job["attempts"]) for job in first["jobs"]}
        after = {job["id"]: len(job["attempts"]) for job in again["jobs"]}
        ran = {id_ for id_ in after if after[id_] != before[id_]}
        _must(again["state"] == "succeeded", "all jobs have succeeded in the end")
        _must(ran == {*_ids(first, "failed"), *_ids(first, "skipped")}, "only what had not succeeded ran again")
        with make_store(self.store, read_only=True) as store:
            result = store.load(self.run).result()
        _must(result == expected, "the tally is that of the plain loop")
        print(painted(f"The tally is that of the plain loop; {len(ran)} of {len(after)} jobs ran.", "green"))

    def _check_commits(self, failed: list[str]) -> None:
        attempts = next(job["attempts"] for job in self._look()["jobs"] if job["id"] == failed[0])
        codes = [attempt["code"] for attempt in attempts]
        if self._has_git:
            commits = self._git("log", "--reverse", "--format=%h", "--abbrev=7").split()
            told = [commit in code for commit, code in zip(commits, codes, strict=True)]
            _must(all(told), f"each attempt names its commit ({commits}: {codes})")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise FlowError(f"The demo did not go as it must. This does not hold: {what}.")


def _ids(run: dict[str, Any], state: str) -> list[str]:
    return [job["id"] for job in run["jobs"] if job["state"] == state]


def _heading(text: str) -> None:
    print(f"\n{painted(text, 'bold')}\n", flush=True)


def _new_place(given: str | None) -> Path:
    if given is None:
        return Path(tempfile.mkdtemp(prefix="perdure-demo-")).resolve()
    place = Path(given).resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FlowError(f"{given} is not empty.", hint="Give a new folder.")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AccessDenied(f"{given} cannot be made: {error.strerror}.") from error
    return place


def _absolute(url: str | None) -> str | None:
    """The URL so that it means the same in another working directory."""
    if url is None:
        return None
    if url.startswith("memory:"):
        raise FlowError("The demo looks at its store from several processes, so memory: will not do.")
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).resolve()}"
    return url if "://" in url or url.startswith("file:") else str(Path(url).resolve())


COMMANDS = {
    "demo": Command(
        _arguments,
        call,
        "In a new git repository it surveys the standard library of this Python, one job for each file. Some of those"
        "\nfiles do not parse, so the first run fails; a fix is committed, only what failed runs again, and the history"
        "\nnames both commits.",
        ["perdure demo", "perdure demo --keep survey-demo", "perdure demo --folder src"],
    ),
}
