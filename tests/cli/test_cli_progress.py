"""What takes longer than a second shows on a terminal that it goes on; elsewhere nothing is shown."""

from __future__ import annotations

import importlib
import os
import pty
import re
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest

import perdure
from perdure.cli import main
from perdure.cli.progress import progress_bar, waiting

END = "<end>"


class Parcel(perdure.Persistable):
    __indexed__ = ("weight",)

    def __init__(self, weight: int):
        self.weight = weight


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], str]]:
    """Calls a function with a terminal as stderr, and a patience of next to nothing; gives what stands on it."""
    monkeypatch.setattr("perdure.cli.progress.PATIENCE", 0.001)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    with os.fdopen(slave, "w") as terminal:

        def call(function: Callable[[], object]) -> str:
            with redirect_stderr(terminal):
                function()
            terminal.write(END)  # the system hands on what is written when it pleases
            terminal.flush()
            text = ""
            while not text.endswith(END):
                text += os.read(master, 1 << 16).decode()
            return text.removesuffix(END)

        yield call
    os.close(master)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/parcels.db"
    with perdure.make_store(url, code="off") as store:
        store.save(Parcel(1))
        store.roots["first"] = store.load("Parcel.1")
        store.save_many(map(Parcel, range(10)))
    return url


def test_a_bar_is_shown_on_a_terminal(shown):
    def work():
        with progress_bar("record") as progress:
            assert progress is not None
            progress(1, 10)
            time.sleep(0.2)  # it is drawn ten times a second
            progress(10, 10)

    assert "/10 " in shown(work)


def test_waiting_tells_how_long_it_has_been_and_wipes_that_away(shown):
    def work():
        with waiting("packing"):
            time.sleep(0.1)

    text = shown(work)
    assert "packing … 0 s" in text
    assert text.endswith("\r\x1b[K")


def test_nothing_is_shown_where_nobody_looks(capsys):
    with progress_bar("record") as progress:
        assert progress is None
    with waiting("packing"):
        time.sleep(0.01)
    assert capsys.readouterr().err == ""


def slow(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Let that function take a while."""
    module, _, name = place.rpartition(":")
    owner = importlib.import_module(module)
    for part in name.split(".")[:-1]:
        owner = getattr(owner, part)
    last = name.rpartition(".")[2]
    true = getattr(owner, last)

    def slower(*values: object, **named: object) -> object:
        time.sleep(0.05)
        return true(*values, **named)

    monkeypatch.setattr(owner, last, slower)


@pytest.mark.parametrize(
    ("verb", "where", "told"),
    [
        (["undo", "2"], "perdure:Store.undo", "undoing revision 2 …"),
        (["pack", "--keep", "1"], "perdure:Store.pack", "packing …"),
        (["forget", "Parcel.5"], "perdure:Store.forget", "forgetting Parcel.5 …"),
        (["export", "Parcel.1", "some.perdure"], "perdure.cli.bundling:write_bundle", "writing some.perdure …"),
    ],
)
def test_verbs_that_are_one_call_of_the_backend(shown, url, tmp_path, monkeypatch, verb, where, told):
    monkeypatch.chdir(tmp_path)
    slow(monkeypatch, where)
    assert told in shown(lambda: main([*verb, "--store", url]))


def test_taking_in_a_bundle(shown, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "Parcel.1", "some.perdure", "--store", url]) == 0
    slow(monkeypatch, "perdure.cli.bundling:take_in")
    words = ["import", "some.perdure", "--trust", "--store", f"sqlite:///{tmp_path}/others.db"]
    assert re.search(r"taking in \d+ records? …", shown(lambda: main(words)))


@pytest.mark.parametrize("verb", ["collect", "plan"])
def test_verbs_that_know_how_far_they_are(shown, url, monkeypatch, verb):
    told: list[int] = []
    monkeypatch.setattr("tqdm.tqdm.update", lambda bar, by: told.append(by))
    monkeypatch.setattr("perdure.upkeep.planning.STEP", 4)
    monkeypatch.setattr("perdure.upkeep.collecting.TOGETHER", 4)
    shown(lambda: main([verb, url] if verb == "plan" else [verb, "--store", url]))
    assert told
