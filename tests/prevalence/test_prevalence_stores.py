"""A system in a store: the same promises as in a directory, on every kind of store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import servers
from tasks import Tasks

import perdure
from perdure import prevalence
from perdure.cli import main
from perdure.errors import (
    ConflictError,
    ConnectionLost,
    CorruptJournal,
    DiskFull,
    InvalidArgument,
    KeyMissing,
    OutcomeUnknown,
    ReadOnly,
    StorageError,
    StoreBusy,
    SystemNotFound,
    TransactionError,
    WriterDeposed,
)
from perdure.files import Files
from perdure.prevalence.commands import kind_of_method
from perdure.prevalence.folder import Folder
from perdure.prevalence.inspecting import commands_of, verify
from perdure.prevalence.pieces import PIECES
from perdure.prevalence.stored import StoreDisk
from perdure.prevalence.turns import Ticket
from perdure.upkeep import check

KINDS = ("memory", "sqlite", "directory", "postgresql", "mysql")


class Place:
    """A store of one kind, which can be opened again."""

    def __init__(self, kind: str, folder: Path):
        self.kind = kind
        self._memory = perdure.make_store("memory:") if kind == "memory" else None
        self.url = {
            "memory": "memory:",
            "sqlite": f"sqlite:///{folder}/store.db",
            "directory": str(folder / "store"),
        }.get(kind, "")
        self.opened: list[perdure.Store] = []
        if kind in ("postgresql", "mysql"):
            self.table = servers.table_of(folder)
            self.url = f"{servers.url_of(kind)}#table={self.table}"

    def store(self, **more):
        found = self._memory or perdure.make_store(self.url, **more)
        self.opened.append(found)
        return found

    def close(self):
        last = self._memory or perdure.make_store(self.url)
        assert check(last) == []
        for each in [last, *self.opened]:
            each.close()
        if self.kind in ("postgresql", "mysql"):
            servers.drop_tables(self.kind, {self.table})


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    place = Place(request.param, tmp_path)
    yield place
    place.close()


@pytest.fixture
def simple(tmp_path):
    """A place where the kind does not matter."""
    place = Place("sqlite", tmp_path)
    yield place
    place.close()


def open_system(store, root=Tasks, **settings):
    return prevalence.open(store, root, **{"code": "off", "freeze": False, **settings})


def test_a_system_in_a_store_is_as_one_in_a_directory(place):
    store = place.store()
    with open_system(store) as system:
        system.root.add("one", size=2)
        with pytest.raises(ValueError, match="needs a text"):
            system.root.add("")
        drawn = system.root.draw()
        with pytest.raises(KeyError):
            system.root.finish("nothing")
        before = dict(system.root.open), list(system.root.done)
        assert system.sequence == 4
    with open_system(place.store()) as system:
        assert (system.root.open, system.root.done) == before
        assert system.root.done == [drawn]
        system.root.add("two")
        with prevalence.open(place.store(), read_only=True) as follower:
            assert list(follower.root.open) == ["one", "two"]
            system.root.add("three")
            assert follower.refresh() == 1
            assert "three" in follower.root.open
            with pytest.raises(ReadOnly):
                follower.root.add("four")
        system.check_replay()
    with prevalence.open(place.store(), until=1) as then:
        assert list(then.root.open) == ["one"]


def test_one_command_is_one_commit_and_so_are_those_that_wait_together(place):
    store = place.store()
    with open_system(store) as system:
        system.root.add("one")
        before = store.backend.revision()
        system.root.add("two")
        assert store.backend.revision() == before + 1
        kind = kind_of_method(Tasks.add)
        tickets = []
        for text in "abcdef":
            stored = kind.store((text,), {})
            tickets.append(Ticket(kind, stored, kind.copied(stored)))
        system._process(tickets)
        assert store.backend.revision() == before + 2
        assert store.transactions(limit=1)[0].note == "prevalence system"


def test_the_users_objects_are_beside_it(place):
    store = place.store()
    kept = Item("mine")
    id_ = store.save(kept)
    with open_system(store) as system:
        system.root.add("one")
        with store.transaction():
            kept.name = "changed"
            system.root.add("two")
    assert store.list() == [id_]
    assert len(store) == 1
    assert store.load(id_).name == "changed"
    assert {each.prefix for each in store.list(all=True)} >= {"SystemFile", "SystemPiece", "SystemOwner"}
    store.collect()
    with open_system(store) as system:
        assert list(system.root.open) == ["one", "two"]


class Item(perdure.Persistable):
    def __init__(self, name):
        self.name = name


def test_a_command_within_a_transaction_that_is_taken_back_stays(simple):
    store = simple.store()

    def cut_off(system):
        with store.transaction():
            system.root.add("one")
            raise ZeroDivisionError

    with open_system(store) as system, pytest.raises(ZeroDivisionError):
        cut_off(system)
    with open_system(store) as system:
        assert list(system.root.open) == ["one"]


def test_snapshots_files_and_pruning(place):
    store = place.store()
    with open_system(store, file_bytes=600, keep=1) as system:
        for number in range(30):
            system.root.add(str(number))
        taken = system.snapshot()
        assert taken.sequence == 30
        system.root.add("after")
        folder = system._folder
        assert folder.numbers("snapshot") == [30]
        assert folder.numbers("journal")[-1] == 31
        assert len(folder.numbers("journal")) == 2, "the newest is never dropped"
        state = dict(system.root.open)
    with open_system(place.store()) as system:
        assert system.root.open == state
    pieces = list(store.backend.scan(class_name=PIECES))
    assert len(pieces) < 12, "what is finished, and what is gone, is few pieces"


def test_a_child_writes_the_snapshot_and_it_goes_into_the_store(simple, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with open_system(simple.store(), how="fork") as system:
        for number in range(50):
            system.root.keep("x" * 100_000 + str(number))
        taken = system.snapshot()
        assert taken.bytes > 5_000_000
        assert not list(tmp_path.glob("perdure-snapshot-*"))
        system.root.add("after")
    with open_system(simple.store()) as system:
        assert len(system.root.done) == 50
        assert system._snapshot == 50


def test_one_process_writes(place):
    store = place.store()
    with open_system(store) as system:
        system.root.add("one")
        with pytest.raises(StoreBusy, match=f"process {os.getpid()} on"):
            open_system(place.store())
        with open_system(place.store(), take_over=True) as other:
            assert list(other.root.open) == ["one"]
            other.root.add("two")
            for _ in range(2):
                with pytest.raises(WriterDeposed, match="has taken"):
                    system.root.add("lost")
            assert list(system.root.open) == ["one"]
            other.root.add("three")
    with open_system(place.store()) as system:
        assert list(system.root.open) == ["one", "two", "three"]


def test_a_writer_that_was_taken_over_in_the_middle_of_a_snapshot(simple):
    store = simple.store()
    with open_system(store, how="here") as system:
        system.root.add("one")
        with open_system(simple.store(), take_over=True) as other:
            with pytest.raises(WriterDeposed):
                system.snapshot()
            other.root.add("two")
    with open_system(simple.store()) as system:
        assert list(system.root.open) == ["one", "two"]


def test_several_systems_are_in_one_store(simple):
    store = simple.store()
    with open_system(store, name="a") as one, open_system(store, name="b") as two:
        one.root.add("one")
        two.root.add("two")
    with open_system(store, name="b") as two:
        assert list(two.root.open) == ["two"]
    assert sorted(store.roots) == ["prevalence:a", "prevalence:b"]
    with pytest.raises(SystemNotFound):
        prevalence.open(store, name="c", read_only=True)


CHILD = """
import os, sys
sys.path.insert(0, sys.argv[2])
from tasks import Tasks
import perdure
from perdure import prevalence

system = prevalence.open(perdure.make_store(sys.argv[1]), Tasks, code="off", file_bytes=3000, snapshot_commands=40)
number = len(system.root.open)
while True:
    number += 1
    system.root.add(f"{number}")
    os.write(1, f"{number}\\n".encode())
"""


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["sqlite", "directory", "postgresql", "mysql"])
def test_a_killed_process_loses_nothing_that_was_acknowledged(kind, tmp_path):
    place = Place(kind, tmp_path)
    place.store()
    last = 0
    for most in (30, 75, 100):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CHILD, place.url, str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(most)]
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].split("\n")[:-1]
        assert lines[0], "it has begun, although the one before was killed"
        last = int(lines[-1])
        with prevalence.open(place.store(), read_only=True) as found:
            assert last <= len(found.root.open) <= last + 1
            assert found.sequence == len(found.root.open)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_system(place.store()) as system:
            assert len(system.root.open) >= last > 150
    place.close()


def test_a_store_that_is_busy_or_lost_for_a_moment_is_asked_again(simple, monkeypatch):
    store = simple.store()
    with open_system(store) as system:
        system.root.add("one")
        applied, errors = store.backend.apply, [ConnectionLost("The connection broke."), StoreBusy("Busy.")]

        def apply(batch, encode):
            if errors:
                raise errors.pop()
            return applied(batch, encode)

        monkeypatch.setattr(store.backend, "apply", apply)
        system.root.add("two")
        assert not errors
    with open_system(simple.store()) as system:
        assert list(system.root.open) == ["one", "two"]


def test_a_store_that_takes_nothing_ends_the_writing(simple, monkeypatch):
    store = simple.store()
    with open_system(store) as system:
        system.root.add("one")
        with monkeypatch.context() as patch:

            def full(batch, encode):
                raise DiskFull("No space is left.")

            patch.setattr(store.backend, "apply", full)
            with pytest.raises(OutcomeUnknown, match="No space is left"):
                system.root.add("two")
            with pytest.raises(OutcomeUnknown):
                system.root.add("three")
        with pytest.raises(OutcomeUnknown):
            system.root.add("four")
        assert list(system.root.open) == ["one"]
    with open_system(simple.store()) as system:
        assert list(system.root.open) == ["one"]
        system.root.add("five")


def test_what_is_missing_or_damaged_in_the_store_is_told(simple):
    store = simple.store()
    with open_system(store, file_bytes=300) as system:
        for text in "abcdef":
            system.root.add(text)
    disk = StoreDisk(store, "system")
    folder = Folder(disk.place, Files(disk))
    folder.identify()
    found = verify(folder, store.key)
    assert found.wrong == []
    assert found.last == 6
    assert [each.name for each in commands_of(folder, store.key)] == ["tasks:Tasks.add"] * 6
    first = disk._file(folder.numbered("journal", folder.numbers("journal")[1]))
    store.remove(first.id)
    with pytest.raises(CorruptJournal, match=r"missing|ends at"):
        open_system(simple.store())
    assert verify(folder, store.key).wrong


def test_what_a_system_has_committed_is_not_undone(simple):
    store = simple.store()
    with open_system(store) as system:
        system.root.add("one")
        with pytest.raises(TransactionError, match="of a prevalent system"):
            store.undo(store.transactions(limit=1)[0].revision)
    with open_system(store) as system:
        assert list(system.root.open) == ["one"]


def test_a_piece_that_is_removed_while_the_system_is_open_is_told(simple):
    store = simple.store()
    system = open_system(store)
    system.root.add("one")
    first = system._folder.files.disk._pieces(system._folder.files.disk._file(system._journal._file.path))[0]
    store.remove(first.id)
    with pytest.raises(StorageError, match="a piece of it is gone"):
        system.close()


def test_a_look_at_a_system_in_a_store_on_the_command_line(simple, capsys):
    with open_system(simple.store(), name="tasks") as system:
        system.root.add("one")
    assert main(["prevalence", "verify", simple.url, "--name", "tasks"]) == 0
    assert "Nothing is lost." in capsys.readouterr().out
    assert main(["prevalence", "log", simple.url, "--name", "tasks"]) == 0
    assert "Tasks.add" in capsys.readouterr().out
    assert main(["prevalence", "repair", simple.url, "--name", "tasks"]) == 2
    assert "in a directory" in capsys.readouterr().err
    assert main(["prevalence", "verify", simple.url]) == 3
    assert "no prevalent system" in capsys.readouterr().err


def test_durability_of_a_system_in_a_store(simple):
    store = simple.store()
    with open_system(store, durability="none") as system:
        before = store.backend.revision()
        for text in "abc":
            system.root.add(text)
        assert store.backend.revision() <= before + 5, "only the new file was committed"
        system.sync()
        with prevalence.open(store, read_only=True) as follower:
            assert list(follower.root.open) == ["a", "b", "c"]
        system.root.add("d")
    with open_system(store) as system:
        assert list(system.root.open) == ["a", "b", "c", "d"]


def test_settings_that_make_no_sense_in_a_store(simple, tmp_path):
    store = simple.store()
    for wrong in ({"serve": "127.0.0.1:0"}, {"name": "a/b"}, {"key": tmp_path}):
        with pytest.raises(InvalidArgument):
            open_system(store, **wrong)
    for wrong in ({"name": "a"}, {"take_over": True}):
        with pytest.raises(InvalidArgument, match="in a store"):
            prevalence.open(tmp_path / "system", Tasks, **wrong)
    with pytest.raises(SystemNotFound):
        prevalence.open(store, read_only=True)
    store._key = None
    with pytest.raises(KeyMissing):
        open_system(store)


def test_roots_that_others_change_at_the_same_time(simple, monkeypatch):
    store = simple.store()
    disk = StoreDisk(store, "system")
    with monkeypatch.context() as patch:

        def changed(*_):
            raise ConflictError("Another was first.")

        patch.setattr("perdure.objects.roots.Roots.__setitem__", changed)
        with pytest.raises(ConflictError, match="all the time"):
            disk.lock(f"{disk.place}/lock", exclusive=True, create=True)
