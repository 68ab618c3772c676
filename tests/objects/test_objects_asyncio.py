"""The face for asyncio: the loop goes on while threads work, each task has its view, cancelled calls are decided."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading

import pytest
from places import Holder

from perdure import ConflictError, NotFound, Persistable, StoreBusy, TransactionError, WrongView
from perdure.objects.instances.persistable import GHOST, entry_of


class Counter(Persistable):
    def __init__(self, value=0):
        self.value = value
        self.log = []


class Queue(list, Persistable):
    pass


class Fails(Exception):
    pass


class Gate:
    """Holds the threads that call a method of the backend (or only the first), until it is opened."""

    def __init__(self, monkeypatch, store, name, *, first_only=False):
        self.reached = threading.Event()
        self.opened = threading.Event()
        method = getattr(type(store.backend), name)

        def wait(backend, *args, **kwargs):
            if first_only and self.reached.is_set():
                return method(backend, *args, **kwargs)
            self.reached.set()
            assert self.opened.wait(10)
            return method(backend, *args, **kwargs)

        monkeypatch.setattr(type(store.backend), name, wait)


async def until(event):
    """Wait for a thread's event without a stop of the loop."""
    while not event.is_set():
        await asyncio.sleep(0.001)


# -- the calls -------------------------------------------------------------------------------------------------


def test_every_call(store):
    async def main():
        counter = Counter(1)
        id_ = await store.asave(counter)
        assert id_ == counter.persistent_id
        assert await store.aload(id_) is counter
        ids = await store.asave_many([Counter(2), Counter(3)])
        assert [each.value for each in await store.aload_many(ids)] == [2, 3]
        await store.areplace(ids[0], Counter(20))
        assert (await store.aload(ids[0])).value == 20
        await store.aremove(ids[1])
        with pytest.raises(NotFound):
            await store.aload(ids[1])
        async with store.transaction(note="async") as transaction:
            counter.value = 10
            counter.log.append("x")
        assert [version.note for version in await store.acall(store.history, id_)] == ["async", ""]
        assert transaction.revision == 5
        return id_

    id_ = asyncio.run(main())
    assert (store.load(id_).value, store.load(id_).log) == (10, ["x"])


def test_what_is_loaded_belongs_to_the_task(store):
    ids = store.save_many([Counter(n) for n in range(3)])

    async def main():
        first = await store.aload(ids[0])
        first.value = 10  # written in the task
        await store.asave(first)
        assert store.load(ids[0]) is first
        second, third = await asyncio.gather(store.aload(ids[1]), store.aload(ids[2]))
        second.value = third.value = 20
        await asyncio.wait_for(store.asave_many([second, third]), 5)
        assert await asyncio.wait_for(store.aload(ids[1]), 5) is second

        async def other():
            with pytest.raises(WrongView):
                first.value = 5
            assert (await store.aload(ids[0])) is not first

        await asyncio.create_task(other())

    asyncio.run(main())
    assert [counter.value for counter in store.load_many(ids)] == [10, 20, 20]


def test_ghosts_load_in_the_loop_when_they_are_touched(place):
    id_ = place.open().save(Holder([Counter(7), Counter(8)]))
    store = place.open()

    async def main():
        holder = await store.aload(id_)
        assert entry_of(holder.target[0]).state == GHOST
        assert holder.target[0].value == 7  # at once
        ghost = holder.target[1]
        await store.aload_many([ghost.persistent_id])
        assert entry_of(ghost).state != GHOST
        assert await store.acall(lambda: sum(each.value for each in holder.target)) == 15

    asyncio.run(main())


def test_a_call_without_a_task(store):
    id_ = store.save(Counter(1))
    counter = asyncio.run(store.aload(id_))
    assert store.load(id_) is counter  # of the thread that made the call
    counter.value = 2
    store.save(counter)


def test_errors_come_out_of_the_await(store):
    async def main():
        with pytest.raises(NotFound):
            await store.aload("Counter.99")

        def stop():
            raise StopIteration

        with pytest.raises(RuntimeError, match="StopIteration"):
            await store.acall(stop)

    asyncio.run(main())


def test_asyncio_is_not_imported_for_it():
    code = "import sys, perdure; perdure.make_store('memory:').save([1]); assert 'asyncio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- the loop goes on ------------------------------------------------------------------------------------------


def test_the_loop_goes_on_while_the_database_waits_for_a_lock(place):
    """The loop itself gives the lock back, after a hundred rounds: would it stand still, nobody did."""
    if place.kind != "sqlite":
        pytest.skip("the lock is SQLite's")
    store = place.open(timeout=60)
    id_ = store.save(Counter(0))
    other = sqlite3.connect(place.folder / "objects.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write():
        async with store.transaction():
            (await store.aload(id_)).value = 1

    async def main():
        writing = asyncio.create_task(write())
        for _ in range(100):
            await asyncio.sleep(0.002)
        assert not writing.done()
        assert not (await asyncio.wait({writing}, timeout=0.05))[0]  # waiting for it stops nobody either
        other.rollback()
        await writing

    asyncio.run(main())
    other.close()
    assert store.load(id_).value == 1


def test_a_lock_that_stays(place):
    if place.kind != "sqlite":
        pytest.skip("the lock is SQLite's")
    store = place.open(timeout=0.2)
    counter = Counter(0)
    store.save(counter)
    other = sqlite3.connect(place.folder / "objects.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def main():
        counter = Counter(1)
        with pytest.raises(StoreBusy):
            async with store.transaction():
                await store.asave(counter)
        assert counter.persistent_id is None
        other.rollback()
        await store.asave(counter)

    asyncio.run(main())
    other.close()
    assert len(store) == 2


def test_the_loop_goes_on_while_a_backend_reads_and_writes(store, monkeypatch):
    id_ = store.save(Counter(1))
    for name in ("read", "apply"):
        with monkeypatch.context() as patch:
            gate = Gate(patch, store, name)

            async def main(gate=gate):
                async def work():
                    counter = await store.aload(id_)
                    counter.value += 1
                    await store.asave(counter)

                working = asyncio.create_task(work())
                await until(gate.reached)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert not working.done()
                gate.opened.set()
                await working

            asyncio.run(main())
    assert store.load(id_).value == 3


# -- transactions ----------------------------------------------------------------------------------------------


def test_an_exception_aborts(store):
    id_ = store.save(Counter(1))

    async def main():
        counter = await store.aload(id_)
        with pytest.raises(Fails):
            async with store.transaction() as transaction:
                counter.value = 2
                with pytest.raises(Fails), transaction.savepoint():
                    counter.value = 3
                    raise Fails
                assert counter.value == 2
                async with store.transaction():
                    counter.value = 4
                raise Fails
        assert counter.value == 1

    asyncio.run(main())
    assert len(store.transactions()) == 1


def test_each_task_has_its_own_transaction(store):
    id_ = store.save(Counter(0))

    async def add():
        async with store.transaction():
            counter = await store.aload(id_)
            await asyncio.sleep(0.005)
            counter.value += 1

    async def main():
        return await asyncio.gather(add(), add(), add(), return_exceptions=True)

    results = asyncio.run(main())
    assert sum(isinstance(result, ConflictError) for result in results) == 2
    assert store.load(id_).value == 1


def test_arun(store):
    id_ = store.save(Counter(0))

    def add(amount, *, to):
        store.load(to).value += amount
        return store.load(to).value

    async def add_later(amount, *, to):
        counter = await store.aload(to)
        await asyncio.sleep(0.001)
        counter.value += amount
        return counter.value

    async def main():
        results = await asyncio.gather(*[store.arun(add, 1, to=id_, note="n", retries=50) for _ in range(5)])
        assert sorted(results) == [1, 2, 3, 4, 5]  # one view: one after the other
        await asyncio.gather(*[store.arun(add_later, 1, to=id_, retries=50) for _ in range(5)])
        async with store.transaction():
            await store.arun(add, 10, to=id_)
            with pytest.raises(TypeError):
                await store.arun(add, 1)
        with pytest.raises(ValueError, match="-1"):
            await store.arun(add, retries=-1)

    asyncio.run(main())
    assert store.load(id_).value == 20
    assert store.transactions()[-2].note == "n"


def test_arun_tells_its_attempts(store, monkeypatch):
    monkeypatch.setattr("perdure.objects.transactions.running.FIRST_WAIT", 0.0001)
    calls = []

    def fail():
        calls.append(1)
        raise ConflictError("again")

    async def fail_later():
        fail()

    async def main():
        for function in (fail, fail_later):
            with pytest.raises(ConflictError) as caught:
                await store.arun(function, retries=3)
            assert caught.value.attempts == 4

    asyncio.run(main())
    assert len(calls) == 8


# -- cancelling ------------------------------------------------------------------------------------------------


def test_cancelled_in_mid_commit(store, monkeypatch):
    """The commit is waited for; then it is there, and the cancellation goes on."""
    id_ = store.save(Counter(1))
    gate = Gate(monkeypatch, store, "apply")
    begun = []

    async def work():
        async with store.transaction() as transaction:
            begun.append(transaction)
            (await store.aload(id_)).value = 2

    async def main():
        working = asyncio.create_task(work())
        await until(gate.reached)
        working.cancel()
        await asyncio.sleep(0.01)
        working.cancel()  # who cancels twice waits no less
        await asyncio.sleep(0.01)
        assert not working.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await working
        monkeypatch.undo()
        counter = await store.aload(id_)
        assert counter.value == 2
        counter.value = 3
        await store.asave(counter)

    asyncio.run(main())
    assert begun[0].revision == 2
    assert store.load(id_).value == 3


def test_cancelled_in_mid_commit_that_fails(store, monkeypatch):
    id_ = store.save(Counter(1))
    gate = Gate(monkeypatch, store, "apply", first_only=True)
    seen = []

    async def work():
        counter = await store.aload(id_)
        try:
            async with store.transaction() as transaction:
                counter.value = 2
        finally:
            seen.extend((transaction.revision, counter.value))

    async def main():
        working = asyncio.create_task(work())
        await until(gate.reached)
        working.cancel()
        counter = await store.aload(id_)
        counter.value = 10
        await store.asave(counter)
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
    assert seen == [None, 10]  # aborted; what the other one has written


def test_cancelled_while_it_begins(store, monkeypatch):
    id_ = store.save(Counter(1))
    gate = Gate(monkeypatch, store, "revision")

    async def work():
        async with store.transaction():
            raise AssertionError("not reached")

    async def main():
        working = asyncio.create_task(work())
        await until(gate.reached)
        working.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await working

        async def inner():
            async with store.transaction():
                raise AssertionError("not reached")

        gate.reached.clear()
        gate.opened.clear()
        task = asyncio.current_task()
        asyncio.get_running_loop().call_later(0.05, task.cancel)
        asyncio.get_running_loop().call_later(0.1, gate.opened.set)
        with pytest.raises(asyncio.CancelledError):
            await inner()
        task.uncancel()
        monkeypatch.undo()
        async with store.transaction():  # the one before is over
            (await store.aload(id_)).value = 2

    asyncio.run(main())
    assert store.load(id_).value == 2


def test_a_timeout(store, monkeypatch):
    id_ = store.save(Counter(1))
    gate = Gate(monkeypatch, store, "apply")

    async def main():
        counter = await store.aload(id_)
        asyncio.get_running_loop().call_later(0.2, gate.opened.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), store.transaction() as transaction:
                counter.value = 2
        assert transaction.revision == 2  # it came late, and is there
        assert counter.changed is False

    asyncio.run(main())
    assert store.load(id_).value == 2


def test_an_awaited_call_from_within_a_worker_function_is_refused(store):
    """Waiting for it would be waiting for oneself."""

    async def main():
        id_ = await store.asave(Counter(1))
        loop = asyncio.get_running_loop()
        for call in (lambda: store.aload(id_), lambda: store.arun(len, ())):

            def bridge(call=call):
                return asyncio.run_coroutine_threadsafe(call(), loop).result(5)

            with pytest.raises(TransactionError, match="awaited call"):
                await store.acall(bridge)
        assert (await store.aload(id_)).value == 1

    asyncio.run(main())
