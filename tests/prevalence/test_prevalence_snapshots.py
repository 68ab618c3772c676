"""Snapshots: made while commands go on, verified, kept by a policy; and the face for asyncio."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from datetime import timedelta
from typing import ClassVar

import pytest
from tasks import Tasks

from perdure.clock import FixedClock
from perdure.errors import PrevalenceError, ReadOnly
from perdure.prevalence import taking
from perdure.prevalence.codes import read_code
from perdure.prevalence.reading import read_journal
from perdure.prevalence.snapshots import read_snapshot


def names(system, kind):
    return system._folder.numbers(kind)


@pytest.mark.parametrize("how", ["fork", "here"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_snapshot_and_the_journal_after_it(opened, how, compress):
    with opened(Tasks, how=how, compress=compress) as system:
        for number in range(500):
            system.root.add(f"task {number}")
        taken = system.snapshot()
        assert (taken.sequence, taken.bytes > 100, taken.pause <= taken.seconds) == (500, True, True)
        system.root.add("after")
        before = pickle.dumps(system.root.open)
    with opened(Tasks) as system:
        assert pickle.dumps(system.root.open) == before
        assert system._snapshot == 500


def test_commands_go_on_while_a_child_writes(opened, monkeypatch):
    real = taking.write_snapshot

    def slow(*arguments):
        time.sleep(0.5)
        real(*arguments)

    monkeypatch.setattr(taking, "write_snapshot", slow)
    with opened(Tasks, how="fork") as system:
        system.root.add("before")
        system.snapshot(wait=False)
        for number in range(20):
            system.root.add(f"meanwhile {number}")
        assert not system._taking.done.is_set()
        assert system.snapshot().sequence == 1
    with opened(Tasks) as system:
        assert system._snapshot == 1
        assert system.root.count() == 21


def test_where_the_child_fails_this_process_writes(opened, monkeypatch):
    real, parent = taking.write_snapshot, os.getpid()

    def write(*arguments):
        if os.getpid() != parent:
            raise OSError("killed, or out of memory")
        real(*arguments)

    monkeypatch.setattr(taking, "write_snapshot", write)
    with opened(Tasks, how="fork") as system:
        system.root.add("a")
        assert system.snapshot().sequence == 1
    assert opened(Tasks)._snapshot == 1


class Locked:
    def __init__(self):
        self.lock = None

    def apply(self, root):
        root.done.append(threading.Lock())


class Waits:
    """Is pickled when a lock is free."""

    gate = threading.Lock()

    def __reduce__(self):
        with self.gate:
            return Waits, ()


def test_a_child_that_waits_for_a_lock_of_its_parent_is_not_waited_for(opened, monkeypatch):
    monkeypatch.setattr(taking, "STILL", 0.3)
    with opened(Tasks, how="fork") as system:
        system.root.keep(Waits())
        with Waits.gate:
            system.snapshot(wait=False)
        assert system.snapshot().sequence == 1
    with opened(Tasks) as system:
        assert isinstance(system.root.done[0], Waits)


def test_a_system_that_cannot_be_pickled_any_more_says_so_and_goes_on(opened):
    with opened(Tasks) as system:
        system.execute(Locked())
        with pytest.raises(TypeError, match="cannot pickle"):
            system.snapshot()
        system.root.add("a")
        assert "A snapshot could not be made" in system.said[0]
    assert opened(Tasks).root.count() == 1


def test_snapshots_come_by_themselves(opened):
    with opened(Tasks, snapshot_commands=10, how="here") as system:
        for number in range(25):
            system.root.add(str(number))
        assert names(system, "snapshot") == [10, 20]
    with opened(Tasks, place="bytes", snapshot_bytes=1000, how="here") as system:
        for number in range(25):
            system.root.add(str(number))
        assert len(names(system, "snapshot")) == 2
    with opened(Tasks, place="time", snapshot_recovery=timedelta(seconds=0.05), how="here") as system:
        system.root.spin(0.06)
        assert names(system, "snapshot") == [0, 1]


def test_what_is_kept(opened):
    clock = FixedClock(1000.0)
    with opened(Tasks, keep=3, clock=clock) as system:
        for number in range(6):
            system.root.add(str(number))
            system.snapshot()
        assert names(system, "snapshot") == [4, 5, 6]
        assert names(system, "journal") == [5, 6]
    with opened(Tasks, place="time", keep=timedelta(seconds=25), clock=clock) as system:
        for number in range(6):
            clock.advance(10)
            system.root.add(str(number))
            system.snapshot()
        assert names(system, "snapshot") == [4, 5, 6]
    with opened(Tasks, place="all", keep=None) as system:
        for number in range(6):
            system.root.add(str(number))
            system.snapshot()
        assert names(system, "snapshot") == [0, 1, 2, 3, 4, 5, 6]
        for until in range(7):
            with opened(place="all", until=until) as then:
                assert then.root.count() == until


def test_the_journal_goes_on_in_other_files(opened):
    with opened(Tasks, file_bytes=1000, step=500) as system:
        for number in range(100):
            system.root.add(f"task {number}")
        with pytest.raises(KeyError):
            system.root.finish("no such task")
        assert len(names(system, "journal")) > 5
    with opened(Tasks) as system:
        assert (system.root.count(), system.root.done) == (100, [])


def test_code_records_are_in_journal_and_snapshot(opened):
    with opened(Tasks, code="recorded") as system:
        system.root.add("a")
        system.snapshot()
        folder, key = system._folder, system._key
    head = read_journal(folder, key, folder.numbered("journal", 1)).head
    told = read_snapshot(folder.files, folder.numbered("snapshot", 1), folder.id, key).told
    assert head.code
    for digest in (head.code, told.code):
        state = read_code(folder, key, digest)
        assert "class Tasks" in state.texts[state.module("tasks").digest]


def test_progress_is_told_on_long_recoveries(opened):
    with opened(Tasks, durability="none") as system:
        for number in range(3000):
            system.root.add(str(number))
    told = []
    opened(Tasks, progress=lambda done, of: told.append((done, of)))
    assert len(told) >= 5
    assert told == sorted(told)
    assert {of for _, of in told} == {3000}


def test_reading_what_belongs_together(opened):
    system = opened(Tasks)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            system.root.add_all("a", "b")
            system.execute(Tasks.finish, "a")
            system.execute(Tasks.finish, "b")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(50):
            with system.steady() as root:
                assert len(root.open) == root.count()
                before = system.sequence
                time.sleep(0.0005)
                assert system.sequence == before
    finally:
        stop.set()
        thread.join()


def test_no_command_is_given_where_none_is_carried_out(opened):
    """Else it would wait for another one, which waits for the end of the block."""
    with opened(Tasks) as system:
        with system.steady(), system.steady() as root:
            with pytest.raises(PrevalenceError, match="inside a block of steady"):
                root.add("a")
            with pytest.raises(PrevalenceError, match="inside a block of steady"):
                asyncio.run(system.execute_async(Tasks.add, "a"))
        system.root.add("a")
        assert system.execute(AsksTasks(system)) == "refused"
        assert list(system.root.open) == ["a"]


class AsksTasks:
    """A command that gives another one to its system, in its own way."""

    systems: ClassVar = []

    def __init__(self, system):
        self.systems[:] = [system]

    def apply(self, tasks):
        try:
            asyncio.run(self.systems[0].execute_async(Tasks.add, "b"))
        except PrevalenceError:
            return "refused"
        return "done"


def test_tasks_of_asyncio_share_syncs_and_do_not_block_the_loop(opened):
    syncs = []

    async def ticking(ticks):
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.001)

    async def main(system):
        ticks = []
        ticker = asyncio.create_task(ticking(ticks))
        found = await asyncio.gather(*(system.execute_async(Tasks.add, f"task {n}") for n in range(200)))
        assert sorted(found) == list(range(1, 201))
        with pytest.raises(ValueError, match="needs a text"):
            await system.execute_async(Tasks.add, "")
        before = len(ticks)
        await system.execute_async(Tasks.spin, 0.1)
        assert len(ticks) - before > 3  # the loop went on
        ticker.cancel()

    with opened(Tasks) as system:
        real = system._journal.sync
        system._journal.sync = lambda: (syncs.append(1), real())
        asyncio.run(main(system))
        assert len(syncs) < 100
        assert system.root.count() == 200
    with opened(read_only=True) as follower, pytest.raises(ReadOnly):
        follower.root.add("x")
