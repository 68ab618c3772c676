"""A run of commands, failures, snapshots and reopenings of a prevalent system, and what must be left of it."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest

from perdure import prevalence
from perdure.errors import OutcomeUnknown, StorageError, SystemNotFound
from perdure.files import Disk, Files
from perdure.prevalence import command
from perdure.prevalence.commands import kind_of_method
from perdure.prevalence.folder import Folder
from perdure.prevalence.turns import Ticket
from perdure.records.seal import Key
from perdure.testing.crashes import Image, SimulatedDisk

KEY = Key(b"k" * 32)
PLACE = "/data/tasks"


class Tasks:
    """A root whose whole state can be compared."""

    def __init__(self):
        self.done = []
        self.notes = {}

    @command
    def add(self, text, size=0):
        self.done.append(text)
        self.notes[text] = (prevalence.now(), prevalence.random(), prevalence.uuid4(), "x" * size)

    @command
    def fail(self, text):
        self.notes.clear()
        self.done.append(text)
        raise ValueError(text)


class Drop:
    """A command that is an object."""

    def __init__(self, text):
        self.text = text

    def apply(self, root):
        root.done.remove(self.text)
        del root.notes[self.text]


def open_system(disk: Disk, **settings: Any) -> Any:
    given = {"how": "here", "step": 512, "file_bytes": 900, "code": "off", "freeze": False, "keep": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a torn tail is cut off, and said
        return prevalence.open(PLACE, Tasks, key=KEY, files=Files(disk), **{**given, **settings})


def look(disk: Disk) -> Any:
    return prevalence.open(PLACE, key=KEY, files=Files(disk), read_only=True)


def state_of(root: Tasks) -> bytes:
    return pickle.dumps((root.done, sorted(root.notes.items())), 5)


def files_of(disk: SimulatedDisk) -> Image:
    """What is there, but for the lock, which says whose it was."""
    image = disk.image()
    return image._replace(files=tuple(file for file in image.files if not file[0].endswith("/lock")))


class Workload:
    """The run: the state after each command, and which command is known to be durable."""

    def __init__(self, durability: Any = "always") -> None:
        self.states: list[bytes] = [state_of(Tasks())]
        self.acknowledged = -1  # there is no system yet
        self.durability = durability
        self.progress = (0, 0)
        self.errors: list[StorageError] = []

    def run(self, disk: Disk) -> None:
        self.disk = disk
        self.open()
        self.add("one")
        self.add("two")
        self.fail("three")
        self.group("four", "five", "six")
        self.drop("two")
        self.add("seven", 700)
        self.snapshot()
        self.add("eight")
        self.fail("nine")
        self.reopen()
        self.add("ten", 300)
        self.add("eleven", 300)
        self.snapshot()
        self.snapshot()
        self.fail("twelve")
        self.add("thirteen")
        self.snapshot()
        self.reopen()
        self.group("fourteen", "fifteen")
        self.sync()
        self.group("sixteen", "seventeen")
        self.add("eighteen", 1200)
        self.close()

    def open(self) -> None:
        self.system = self.trying(lambda: open_system(self.disk, durability=self.durability))
        system = self.system
        assert self.acknowledged <= system.sequence < len(self.states)
        found, self.states = state_of(system.root), self.states[: system.sequence + 1]
        assert self.states[-1] in (b"", found)
        self.states[-1] = found
        self.acknowledged = system.sequence
        self._note()

    def trying(self, call: Any) -> Any:
        """The call, once more if the disk failed: it does so once."""
        try:
            return call()
        except StorageError as error:
            self.errors.append(error)
            return call()

    def close(self) -> None:
        try:
            self.system.close()
        except StorageError as error:
            self.errors.append(error)

    def reopen(self) -> None:
        self.close()
        self.open()

    def add(self, text: str, size: int = 0) -> None:
        self._do(lambda: self.system.root.add(text, size=size), 1)

    def drop(self, text: str) -> None:
        self._do(lambda: self.system.execute(Drop(text)), 1)

    def fail(self, text: str) -> None:
        def call() -> None:
            with pytest.raises(ValueError, match=text):
                self.system.root.fail(text)

        self._do(call, 1, changes=False)

    def group(self, *texts: str) -> None:
        """Commands that share one sync, as those of several threads do."""
        kind = kind_of_method(Tasks.add)

        def call() -> None:
            tickets = []
            for text in texts:
                stored = kind.store((text,), {})
                tickets.append(Ticket(kind, stored, kind.copied(stored)))
            self.system._process(tickets)
            for ticket in tickets:
                ticket.outcome()

        self._do(call, len(texts))

    def snapshot(self) -> None:
        try:
            taken = self.system.snapshot()
        except OutcomeUnknown as error:
            self.errors.append(error)
            self.reopen()
            taken = self.system.snapshot()
        except StorageError as error:
            self.errors.append(error)
            taken = self.system.snapshot()
        assert taken.sequence == self.system.sequence
        self.acknowledged = self.system.sequence
        self._note()

    def sync(self) -> None:
        try:
            self.system.sync()
        except StorageError as error:
            self.errors.append(error)
            self.reopen()
        self.acknowledged = self.system.sequence
        self._note()

    def _do(self, call: Any, count: int, *, changes: bool = True) -> None:
        """What the state will be is only known afterwards: until then, any state of a command under way is taken."""
        before, was = self.system.sequence, self.states[-1]
        self.states[before + 1 :] = [b"" if changes else was] * count
        self._note()
        try:
            call()
        except OutcomeUnknown as error:
            self.errors.append(error)
            assert state_of(self.system.root) == was, "what was not answered was carried out"
            self._refuses()
            self.reopen()
            if self.system.sequence == before:
                return self._do(call, count, changes=changes)
        except StorageError as error:
            self.errors.append(error)
            assert state_of(self.system.root) == was
            assert self.system.sequence == before
            call()
        assert self.system.sequence == before + count
        self._learn(count)
        if self.durability == "always":
            self.acknowledged = self.system.sequence
        self._note()
        return None

    def _refuses(self) -> None:
        with pytest.raises(OutcomeUnknown):
            self.system.root.add("more")

    def _learn(self, count: int) -> None:
        """The states after the last commands; those within a group are derived from the last one."""
        final = self.system.root
        last = len(self.states) - 1
        found = state_of(final)
        assert self.states[last] in (b"", found)
        for place in range(last - count + 1, last + 1):
            fresh = pickle.loads(pickle.dumps(final))
            for text in final.done[len(final.done) - (last - place) :] if place < last else ():
                fresh.done.remove(text)
                del fresh.notes[text]
            self.states[place] = state_of(fresh)

    def _note(self) -> None:
        self.progress = (self.acknowledged, len(self.states))

    # -- what is left ------------------------------------------------------------------------------------------

    def check(self, image: Image) -> None:
        """From this image: a prefix of the commands, with all acknowledged ones; and life goes on."""
        looked = self._look(SimulatedDisk(image))
        disk = SimulatedDisk(image)
        system = open_system(disk)
        sequence = system.sequence
        assert self.acknowledged <= sequence < len(self.states), f"{sequence}, acknowledged {self.acknowledged}"
        state = state_of(system.root)
        expected = self.states[sequence]
        if expected:
            assert state == expected, f"another state after command {sequence}"
        assert looked in (None, state), "read-only and recovered differ"
        system.close()
        recovered = files_of(disk)
        open_system(disk).close()
        assert files_of(disk) == recovered, "a second recovery changed something"
        self._live_on(disk, sequence)

    def _look(self, disk: SimulatedDisk) -> bytes | None:
        before = disk.image()
        try:
            follower = look(disk)
        except SystemNotFound:
            assert self.acknowledged < 0
            return None
        found = state_of(follower.root)
        follower.close()
        assert disk.image() == before, "read-only wrote"
        return found

    def _live_on(self, disk: SimulatedDisk, sequence: int) -> None:
        system = open_system(disk)
        system.root.add("new")
        lived = state_of(system.root)
        with look(SimulatedDisk(disk.image())) as again:
            assert again.sequence == sequence + 1
            assert state_of(again.root) == lived
        folder = Folder(PLACE, Files(disk))
        oldest, *newer = folder.numbers("snapshot")
        with prevalence.open(PLACE, key=KEY, files=Files(disk), until=oldest) as then:
            assert then.sequence == oldest
            if oldest <= sequence and self.states[oldest]:
                assert state_of(then.root) == self.states[oldest]
        without = SimulatedDisk(disk.image())
        for number in newer:
            without.unlink(folder.numbered("snapshot", number))
        with look(without) as longer:
            assert state_of(longer.root) == lived, "the oldest snapshot and the journal do not lead to the same"
        system.close()
