"""Views: each thread and task has its own; forks and other processes get in nobody's way."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from places import Holder

from perdure import ConflictError, Persistable, WrongView
from perdure.objects.persistable import DOZING, entry_of

HERE = os.path.dirname(__file__)


class Counter(Persistable):
    def __init__(self, value=0):
        self.value = value
        self.log = []


def in_thread(function):
    """What the function gives, or raises, in a thread of its own."""
    results = []

    def run():
        try:
            results.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            results.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = results[0]
    if error is not None:
        raise error
    return value


def test_each_thread_has_its_own_objects(store):
    counter = Counter(1)
    id_ = store.save(counter)
    other = in_thread(lambda: store.load(id_))
    assert other is not counter
    assert other.value == counter.value == 1
    assert store.load(id_) is counter


def test_a_transaction_belongs_to_its_thread(store):
    id_ = store.save(Counter(1))

    def change():
        with store.transaction():
            store.load(id_).value = 2

    with store.transaction():
        counter = store.load(id_)
        in_thread(change)
        assert counter.value == 1
        assert store.load(id_).value == 1
    assert store.load(id_).value == 2


def test_reading_what_is_loaded_is_open_to_every_thread(store):
    counter = Counter(1)
    store.save(counter)
    assert entry_of(counter).state == DOZING
    assert in_thread(lambda: counter.value) == 1
    assert in_thread(lambda: counter.persistent_id) == counter.persistent_id
    holder = Holder(counter)
    store.save(holder)
    assert in_thread(lambda: holder.target.value) == 1


def test_writing_saving_and_referring_across_threads_raises(store):
    counter = Counter(1)
    id_ = store.save(counter)
    with pytest.raises(WrongView, match=r"Counter\.1") as caught:
        in_thread(lambda: setattr(counter, "value", 2))
    assert caught.value.ids == (id_,)
    with pytest.raises(WrongView):
        in_thread(lambda: store.save(counter))
    with pytest.raises(WrongView):
        in_thread(lambda: store.save(Holder([counter])))
    with pytest.raises(WrongView):
        in_thread(lambda: store.save([counter]))
    with pytest.raises(WrongView):
        in_thread(lambda: store.roots.__setitem__("a", counter))
    with pytest.raises(WrongView):
        in_thread(lambda: store.replace(id_, counter))
    assert counter.value == 1
    assert len(store) == 1


def test_loading_a_ghost_across_threads_raises(place):
    ghost = place.ghost(Counter(1))
    with pytest.raises(WrongView):
        in_thread(lambda: ghost.value)
    assert ghost.value == 1


def test_objects_of_two_stores_do_not_mix(place, tmp_path):
    from perdure import make_store

    counter = Counter(1)
    place.open().save(counter)
    with make_store("memory:") as other:
        with pytest.raises(WrongView):
            other.save(counter)
        with pytest.raises(WrongView):
            other.save(Holder(counter))
        assert len(other) == 0


def test_threads_that_count_together(store):
    id_ = store.save(Counter(0))
    errors = []

    def count():
        try:
            for _ in range(10):
                while True:
                    try:
                        with store.transaction():
                            store.load(id_).value += 1
                        break
                    except ConflictError:
                        pass
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.load(id_).value == 30


def test_each_task_has_its_own_view(store):
    outside = Counter(1)
    id_ = store.save(outside)
    turns = []

    async def count(name):
        with store.transaction():
            counter = store.load(id_)
            assert counter is not outside
            turns.append(name)
            await asyncio.sleep(0.01)
            counter.value += 1
            assert store.load(id_) is counter
        return counter

    async def main():
        first = asyncio.create_task(count("first"))
        second = asyncio.create_task(count("second"))
        return await asyncio.gather(first, second, return_exceptions=True)

    results = asyncio.run(main())
    assert turns == ["first", "second"]  # both were inside at once
    assert sum(isinstance(result, ConflictError) for result in results) == 1
    assert store.load(id_).value == 2


def test_writing_across_tasks_raises(store):
    async def main():
        counter = Counter(1)
        store.save(counter)

        async def write():
            counter.value = 2

        with pytest.raises(WrongView):
            await asyncio.create_task(write())
        counter.value = 3  # its own task may
        store.save(counter)
        return counter.persistent_id

    assert store.load(asyncio.run(main())).value == 3


def test_a_transaction_of_one_task_is_not_that_of_another(store):
    async def main():
        with store.transaction() as outer:

            async def inner():
                with store.transaction():
                    store.save(Counter())

            await asyncio.create_task(inner())
            assert len(store) == 1
            outer.abort()

    asyncio.run(main())
    assert len(store) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_repeats_no_id(place):
    if place.kind == "memory":
        pytest.skip("memory is not shared between processes")
    store = place.open()
    ids = {store.save(Counter(0))}
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            made = [store.save(Counter(n)) for n in range(20)]
            with store.transaction():
                store.load(next(iter(ids))).log.append("child")
            os.write(write, " ".join(made).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    mine = [store.save(Counter(n)) for n in range(20)]
    _, status = os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        theirs = pipe.read().split()
    assert status == 0
    assert len(theirs) == 20
    assert not set(theirs) & set(mine)
    assert len({id_.rpartition(".")[2] for id_ in [*theirs, *mine, *ids]}) == 41
    assert store.load(next(iter(ids))).log == ["child"]
    assert len(store) == 41


WORKER = textwrap.dedent("""
    import sys
    from perdure import ConflictError, Persistable, make_store
    from test_objects_views import Counter

    store = make_store(sys.argv[1])
    for n in range(int(sys.argv[3])):
        print(store.save(Counter(n)))
        while True:
            try:
                with store.transaction():
                    counter = store.load(sys.argv[2])
                    counter.value += 1
                    counter.log.append(store.save(Counter(n)))
                break
            except ConflictError:
                continue
        print(counter.log[-1])
    store.close()
""")


def test_two_processes_that_save_at_once(place):
    if place.kind == "memory":
        pytest.skip("memory is not shared between processes")
    store = place.open()
    id_ = store.save(Counter(0))
    path = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, place.url, id_, "15"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    ids = [*outputs[0], *outputs[1]]
    assert len(set(ids)) == len(ids) == 60
    counter = store.load(id_)
    assert counter.value == 30
    assert len(counter.log) == len(set(counter.log)) == 30
    assert len(store) == 61
    assert all(store.load(id_) is not None for id_ in ids)
