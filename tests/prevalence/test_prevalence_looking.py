"""verify, repair and log, from the library and from the command line; and whether commands are deterministic."""

from __future__ import annotations

import datetime
import json
import os
import random
import time
from pathlib import Path

import pytest
from tasks import Rename, Tasks

from perdure import prevalence
from perdure.cli import main
from perdure.errors import CorruptJournal, ReplayDiffers
from perdure.files import Files
from perdure.keys import KeyRing
from perdure.prevalence import command
from perdure.prevalence.determinism import compare_replays
from perdure.prevalence.folder import Folder
from perdure.records.seal import Key

KEY = Key(b"k" * 32)


@pytest.fixture
def place(tmp_path, own_environment):
    """A system of three journal files and two snapshots: commands 1 to 6."""
    KeyRing().add(KEY)
    place = tmp_path / "system"
    for texts in ("ab", "cd", "ef"):
        with prevalence.open(place, Tasks, key=KEY, code="off", freeze=False) as system:
            for text in texts:
                system.root.add(text)
    return place


def open_again(place):
    return prevalence.open(place, Tasks, code="off", freeze=False)


def say(capsys, *words):
    capsys.readouterr()
    status = main(["prevalence", *map(str, words)])
    return status, capsys.readouterr().out


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def journals(place):
    return sorted(place.glob("journal-*"))


def test_a_whole_directory(place, capsys):
    status, out = say(capsys, "verify", place)
    assert status == 0
    assert out.splitlines() == [
        "1 good snapshot, 3 journal files.",
        "Command 6 is the newest that can be had, from the snapshot after command 0.",
        "Nothing is lost.",
    ]
    assert say(capsys, "repair", place) == (0, "Nothing has to be done.\n")
    status, out = say(capsys, "verify", place, "--json")
    assert json.loads(out)["last"] == 6


def test_without_the_key_checksums_are_looked_at(place, capsys):
    for path in KeyRing().directory.glob("*.key"):
        path.unlink()
    status, out = say(capsys, "verify", place)
    assert status == 0
    assert out.startswith("The key is not here")
    assert "Command 6 is the newest" in out


def test_damage_in_the_middle_is_told_and_repaired_as_far_as_can_be(place, capsys):
    path = journals(place)[1]
    data = path.read_bytes()
    at = data.index(b"\x8c\x01d")
    flip(path, at + 2)
    before = {each.name: each.read_bytes() for each in place.iterdir()}
    status, out = say(capsys, "verify", place)
    assert status == 3
    assert f"{path}, byte " in out
    assert "Commands 4 to 6 cannot be recovered: command 4 is missing or damaged." in out
    with pytest.raises(CorruptJournal):
        open_again(place)
    status, out = say(capsys, "repair", place)
    assert status == 0
    assert "To do it: --yes" in out
    assert "would open after command 3" in out
    assert {each.name: each.read_bytes() for each in place.iterdir() if each.name != "lock"} == {
        name: data for name, data in before.items() if name != "lock"
    }
    status, out = say(capsys, "repair", place, "--yes")
    assert status == 0
    assert "now opens after command 3" in out
    with open_again(place) as system:
        assert list(system.root.open) == ["a", "b", "c"]
        system.root.add("g")
    assert say(capsys, "verify", place)[0] == 0
    aside = next(place.glob("damaged-*"))
    kept = {each.name: each.read_bytes() for each in aside.iterdir()}
    assert kept == {name: before[name] for name in (path.name, journals_name(5))}


def journals_name(number):
    return f"journal-{number:019d}"


@pytest.mark.parametrize("which", [1, 2])
def test_a_missing_file_is_told_and_repaired(place, capsys, which):
    journals(place)[which].unlink()
    status, out = say(capsys, "verify", place)
    assert (status, "is lost" in out) == (3, True)
    say(capsys, "repair", place, "--yes")
    with open_again(place) as system:
        assert list(system.root.open) == list("abcdef"[: which * 2])


def test_a_damaged_note_and_a_damaged_snapshot_are_repaired(place, capsys):
    with open_again(place) as system:
        newest = Path(system.snapshot().path)
    flip(place / "reached", 1)
    flip(newest, 200)
    status, out = say(capsys, "verify", place)
    assert status == 3
    assert "reached is damaged" in out
    say(capsys, "repair", place, "--yes")
    with open_again(place) as system:
        assert system.root.count() == 6
    assert not newest.exists()
    assert (place / "snapshot-0000000000000000000").exists(), "the journal leads on from it"


def test_nothing_can_be_repaired_without_a_snapshot(place, capsys):
    flip(place / "snapshot-0000000000000000000", 120)
    status, out = say(capsys, "repair", place, "--yes")
    assert status == 3
    status, out = say(capsys, "verify", place)
    assert "No snapshot is good." in out


def test_the_log_tells_commands_without_importing_them(place, capsys):
    with open_again(place) as system:
        system.execute(Rename("a", "z"))
        with pytest.raises(KeyError):
            system.root.finish("x")
        system.root.add("k", place="kitchen")
        system.root.keep(datetime.date(2026, 1, 1))
    status, out = say(capsys, "log", place, "--limit", 5)
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["COMMAND", "TIME", "NAME", "ARGUMENTS", "OUTCOME"]
    cells = [line.split()[:1] + line.split()[-3:] for line in lines[1:]]
    assert "Tasks.add" in lines[1]
    assert "'f'" in lines[1]
    assert "Rename        old='a', new='z', log=[]" in lines[2]
    assert lines[3].endswith("raised")
    assert "args=('k',), place='kitchen'" in lines[4]
    assert "bytes)" in lines[5]
    assert [cell[0] for cell in cells] == ["6", "7", "8", "9", "10"]
    assert len(json.loads(say(capsys, "log", place, "--all", "--json")[1])) == 10


def test_a_directory_that_is_no_system(tmp_path, capsys):
    assert main(["prevalence", "verify", str(tmp_path / "nothing")]) == 3
    assert "There is no prevalent system" in capsys.readouterr().err


# -- determinism -------------------------------------------------------------------------------------------


class Careless:
    """Everything that a command should not do."""

    def __init__(self):
        self.seen = []

    @command
    def clock(self):
        self.seen.append(time.time())

    @command
    def date(self):
        self.seen.append(datetime.datetime.now())

    @command
    def chance(self):
        self.seen.append(random.random())

    @command
    def surroundings(self):
        self.seen.append(os.environ.get("HOME"))
        self.seen.append(os.getpid())

    @command
    def file(self):
        with open("x") as file:
            self.seen.append(file.read())

    @command
    def further(self):
        self.inner()

    def inner(self):
        deep(self)

    @command
    def fine(self, number):
        self.seen.append(prevalence.now())
        self.seen.append(sorted({number, 2}))
        self.seen.append(os.path.join("a", "b"))


def deep(root):
    root.seen.append(time.monotonic())


def test_the_look_finds_what_is_not_the_same_again():
    found = prevalence.check(Careless)
    assert [(each.function, each.call, each.why) for each in found] == [
        ("Careless.clock", "time.time()", "asks the clock"),
        ("Careless.date", "datetime.datetime.now()", "asks the clock"),
        ("Careless.chance", "random.random()", "asks for chance"),
        ("Careless.surroundings", "os.environ", "asks the environment"),
        ("Careless.surroundings", "os.getpid()", "asks the environment"),
        ("Careless.file", "open()", "touches files"),
        ("deep", "time.monotonic()", "asks the clock"),
    ]
    assert "rather prevalence.now()" in str(found[0])
    assert str(found[0]).startswith(f"{__file__}:")
    assert prevalence.check(Rename, Careless.fine) == []
    assert prevalence.check(Tasks.spin)[0].call == "time.monotonic()"


def test_a_replay_names_the_first_command_that_differs(opened):
    with opened(Careless) as system:
        system.check_replay()
        for number in range(5):
            system.root.fine(number)
        system.check_replay()
        system.snapshot()
        system.root.chance()
        for number in range(5):
            system.root.fine(number)
        with pytest.raises(ReplayDiffers, match=r"Command 6 \(Careless.chance\) does not do the same") as caught:
            system.check_replay()
        assert caught.value.sequence == 6
        folder = Folder(system.directory, Files())
        folder.identify()
        with pytest.raises(ReplayDiffers, match=r"Command 6 "):
            compare_replays(folder, KEY)


def test_a_change_without_a_command_is_noticed(opened):
    with opened(Tasks) as system:
        system.root.add("a")
        system.root.open["b"] = 1
        with pytest.raises(ReplayDiffers, match="the one in memory"):
            system.check_replay()
