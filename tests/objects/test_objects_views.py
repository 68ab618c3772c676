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

from perdure import ConflictError, NotFound, Persistable, SnapshotTooOld, WrongView
from perdure.objects.instances.persistable import DOZING, GHOST, entry_of

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


def test_a_thread_that_gets_the_number_of_one_that_has_ended_is_another(store):
    id_ = store.save(Counter())
    store.load(id_)
    held, numbers = [], []

    def hold():
        numbers.append(threading.get_ident())
        held.append(store.load(id_))

    def change():
        numbers.append(threading.get_ident())
        with pytest.raises(WrongView):
            held[0].count = 42
        told.append(True)

    told = []
    for _ in range(50):  # the system gives numbers again at once, mostly
        numbers.clear()
        held.clear()
        for work in (hold, change):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        if numbers[0] == numbers[1]:
            break
    else:
        pytest.skip("no number of a thread was given again")
    assert told


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
            assert store.transactions()[0].revision == 1
            assert len(store) == 0  # as of its own beginning
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
    path = os.pathsep.join([HERE, os.path.dirname(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
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


# -- what the design says of views, sentence by sentence -------------------------------------------------------


def others_change(place, id_, **values):
    """Another program changes the object and commits."""
    other = place.open()
    with other.transaction():
        for name, value in values.items():
            setattr(other.load(id_), name, value)


def test_a_store_hands_each_thread_and_each_task_its_own_view(store):
    """Identity map, transaction, revision."""
    id_ = store.save(Counter(1))

    def seen():
        return store.load(id_), store.desk().transaction, store.desk().view

    async def task():
        return seen()

    async def tasks():
        return await asyncio.gather(task(), task())

    with store.transaction() as transaction:
        views = [seen(), in_thread(seen), *asyncio.run(tasks())]
    assert [each[1] for each in views] == [transaction, None, None, None]
    for place in (0, 2):
        assert len({id(each[place]) for each in views}) == 4


def test_inside_a_transaction_a_view_reads_one_snapshot_ghosts_too(place):
    a, b = Counter(1), Counter(2)
    id_ = place.open().save(Holder([a, b]))
    store = place.open()
    with store.transaction():
        first, second = store.load(id_).target
        assert first.value == 1
        others_change(place, b.persistent_id, value=20)
        others_change(place, id_, target=None)
        late = place.open().save(Counter(3))
        assert entry_of(second).state == GHOST
        assert second.value == 2
        assert store.load(id_).target == [first, second]
        assert late not in [each.persistent_id for each in (first, second)]
        with pytest.raises(NotFound):
            store.load(late)
    assert store.load(id_).target is None
    assert store.load(b.persistent_id) is second
    assert second.value == 20


def far_apart(place):
    """Two counters in a holder, all of them too far from one another to be read ahead, and the revision now."""
    store = place.open()
    counters = [Counter(1), Counter(2)]
    for counter in counters:
        store.save(counter)
        store.save_many([Holder(number) for number in range(50)])
    return store.save(Holder(counters)), store.revision()


def test_if_that_revision_is_gone_snapshot_too_old(place):
    id_, revision = far_apart(place)
    store = place.open()
    with pytest.raises(SnapshotTooOld) as caught, store.transaction():  # noqa: PT012
        first, second = store.load(id_).target
        first.value = 10
        others_change(place, second.persistent_id, value=20)
        forget(place, revision + 1)
        second.value
    assert caught.value.ids == (second.persistent_id,)
    assert caught.value.retryable
    assert "when the transaction began" in str(caught.value)
    assert first.value == 1  # aborted; read at the newest revision
    assert second.value == 20
    with store.transaction():
        first.value = second.value
    assert place.open().load(id_).target[0].value == 20


def test_outside_a_ghost_whose_revision_is_gone_moves_the_view_forward(place):
    id_, revision = far_apart(place)
    store = place.open()
    first, second = store.load(id_).target
    assert first.value == 1
    others_change(place, first.persistent_id, value=10)
    others_change(place, second.persistent_id, value=20)
    forget(place, revision + 2)
    assert second.value == 20
    assert first.value == 10


def test_a_commit_needs_the_snapshot_only_for_what_it_loads(place):
    ids = place.open().save_many([Counter(1), Counter(2), Counter(3)])
    store = place.open()
    counters = store.load_many(ids)
    with store.transaction():
        counters[0].value = 5
        assert counters[1].value == 2
        others_change(place, ids[2], value=30)
        forget(place, 2)
    assert place.open().load(ids[0]).value == 5
    assert counters[2].value == 30


def forget(place, oldest):
    """Let the store keep nothing from before that revision."""
    place.open().backend.pack(oldest)
    place.is_whole = False  # `check` asks for all commits


@pytest.mark.parametrize("move", ["load", "roots", "find", "count", "revision", "save"])
def test_outside_each_call_moves_the_view_forward_and_refreshes_clean_objects_in_place(place, move):
    store = place.open()
    counter, other = Counter(1), Counter(1)
    id_, other_id = store.save_many([counter, other])
    store.roots["x"] = [1]
    held = store.load(id_)
    others_change(place, id_, value=2)
    assert held.value == 1  # a look does not move it
    moves = {
        "load": lambda: store.load(other_id),
        "roots": lambda: store.roots["x"],
        "find": lambda: store.find(Counter, limit=1),
        "count": lambda: store.count(Counter),
        "revision": store.revision,
        "save": lambda: store.save(Counter(5)),  # in between another one has committed
    }
    moves[move]()
    assert held.value == 2
    assert store.load(id_) is held


def test_writing_saving_and_referring_to_an_object_of_another_view_raises_reading_does_not(store):
    counter = Counter(1)
    store.save(counter)

    def check():
        for wrong in (
            lambda: setattr(counter, "value", 2),
            lambda: delattr(counter, "value"),
            lambda: setattr(counter, "changed", True),
            lambda: store.save(counter),
            lambda: store.save(Holder(counter)),
            lambda: store.save_many([Counter(), [counter]]),
            lambda: store.roots.__setitem__("x", [counter]),
        ):
            with pytest.raises(WrongView):
                wrong()
        with pytest.raises(WrongView), store.transaction():
            store.save(Holder(counter))
        return counter.value, counter.persistent_id, list(counter.log)

    assert in_thread(check) == (1, counter.persistent_id, [])
    assert len(store) == 1


def test_first_committer_wins_by_the_revisions_that_were_read_of_what_is_written(place):
    """Not of what was read: that is no conflict. A mismatch is retryable."""
    ids = place.open().save_many([Counter(1), Counter(1)])
    store = place.open()
    with store.transaction():
        mine, read = store.load_many(ids)
        assert read.value == 1
        mine.value = 2
        others_change(place, ids[1], value=9)
    with pytest.raises(ConflictError) as caught, store.transaction():  # noqa: PT012
        mine.value = 3
        others_change(place, ids[0], value=9)
    assert caught.value.revisions == {ids[0]: (3, 4)}
    assert caught.value.retryable
    mine.value = 4
    others_change(place, ids[0], value=10)
    with pytest.raises(ConflictError):  # also a bare save
        store.save(mine)


# -- long readers ----------------------------------------------------------------------------------------------


def test_a_long_reader_blocks_no_writer_and_is_blocked_by_none(place):
    """In threads of one process: the reader sees its snapshot, while commits come and go."""
    ids = place.open().save_many([Counter(0) for _ in range(20)])
    store = place.open()
    seen = []
    reading, written = threading.Event(), threading.Event()

    def read():
        with store.transaction():
            seen.append(store.load(ids[0]).value)
            reading.set()
            assert written.wait(30)
            seen.extend(counter.value for counter in store.load_many(ids[1:]))
        seen.append(store.load(ids[0]).value)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(30)
    for number in range(10):
        with store.transaction():
            for counter in store.load_many(ids):
                counter.value = number + 1
    written.set()
    reader.join()
    assert seen == [0] * 20 + [10]


READER = textwrap.dedent("""
    import sys
    from perdure import make_store
    from test_objects_views import Counter

    store = make_store(sys.argv[1])
    with store.transaction():
        print(store.load(sys.argv[2]).value, flush=True)
        sys.stdin.readline()
        print(*[counter.value for counter in store.load_many(sys.argv[3:])], flush=True)
    print(store.load(sys.argv[2]).value, flush=True)
    store.close()
""")


def test_a_long_reader_in_another_process(place):
    if place.kind == "memory":
        pytest.skip("memory is not shared between processes")
    store = place.open(timeout=5)
    ids = store.save_many([Counter(0) for _ in range(5)])
    path = os.pathsep.join([HERE, os.path.dirname(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, place.url, *ids],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout.readline() == "0\n"
    for number in range(5):
        with store.transaction():  # the reader's transaction is open, and holds no lock
            for counter in store.load_many(ids):
                counter.value = number + 1
    output, _ = reader.communicate("\n", timeout=60)
    assert output == "0 0 0 0\n5\n"
    assert reader.returncode == 0
