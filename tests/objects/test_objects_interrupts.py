"""What Ctrl-C leaves, wherever it comes: every view tells what is stored, and work goes on.

Most tests put the interruption into one step within perdure; one has real signals come at random.
"""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import builtins
import contextlib
import signal
import sys
import time

import pytest
from chances import dice, more

from perdure import Persistable, TransactionError, kernels, make_store
from perdure.backends.filesystem.medium import Medium
from perdure.files import Files
from perdure.objects.instances import persistable, states
from perdure.objects.payloads import direct
from perdure.objects.transactions.blocks import BlockEnd
from perdure.objects.transactions.transaction import Transaction
from perdure.objects.views import view
from perdure.objects.views.view import View


class Job(Persistable):
    def __init__(self, name, number=0):
        self.name = name
        self.number = number
        self.parts = []


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'jobs.db'}"


def stored(url, *ids):
    """What another program sees."""
    with make_store(url) as store:
        return [store.load(id_).number for id_ in ids]


@pytest.fixture
def line_by_line(monkeypatch):
    """What the compiled part does at once, as touching is, in lines of Python, which an interruption can cut off."""
    monkeypatch.setattr(kernels, "compiled", None)


def interrupt(monkeypatch, owner, name, *, after=False, times=1):
    """Have the next calls interrupted, before they have begun or `after` they have done their work."""
    usual = getattr(owner, name, None) or getattr(builtins, name)
    left = [times]

    def call(*args, **kwargs):
        if after:
            usual(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(owner, name, usual)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(owner, name, call, raising=False)


def stopped_after_its_commit(store, monkeypatch, work):
    """Do the work, whose commit is written; the interruption comes before anybody is told so."""
    interrupt(monkeypatch, type(store.backend), "apply", after=True)
    with pytest.raises(KeyboardInterrupt):
        work()
    monkeypatch.undo()


@pytest.mark.parametrize("history", ["on", "off"])
def test_a_commit_that_was_written_is_known_to_be_though_it_was_cut_off(place, monkeypatch, history):
    store = place.open(history=history)
    new, old = Job("new"), Job("old")
    store.save(old)
    stopped_after_its_commit(store, monkeypatch, lambda: store.save(new))
    assert new.persistent_id is not None
    assert store.save(new) == new.persistent_id
    old.number = 1
    stopped_after_its_commit(store, monkeypatch, lambda: store.save(old))
    assert not old.changed
    old.number = 2
    store.save(old)

    def both():
        with store.transaction():
            new.number = old.number = 3
            old.parts.append(Job("part"))

    stopped_after_its_commit(store, monkeypatch, both)
    assert (new.number, old.number, old.parts[0].persistent_id is not None) == (3, 3, True)
    seen = {each.name: each.number for each in place.open().load_many(store.list())}
    assert seen == {"new": 3, "old": 3, "part": 0}


def test_a_commit_that_was_not_written_is_taken_back_when_it_was_cut_off(place, monkeypatch):
    store, other = place.open(), place.open()
    new, old = Job("new"), Job("old")
    store.save(old)
    other.save(Job("of another"))  # a later commit than the view's, and none of its own
    old.number = 1
    interrupt(monkeypatch, type(store.backend), "apply")
    with pytest.raises(KeyboardInterrupt):
        store.save_many([new, old])
    monkeypatch.undo()
    assert new.persistent_id is None
    assert old.changed
    store.save_many([new, old])
    assert sorted(each.name for each in other.load_many(other.list())) == ["new", "of another", "old"]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_abort_that_is_cut_off_is_finished(url, monkeypatch, times):
    store = make_store(url)
    first, second = Job("first"), Job("second")
    ids = store.save_many([first, second])
    interrupt(monkeypatch, View, "let_go", after=True, times=times)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        first.number -= 100
        second.number += 100
        raise ValueError
    with store.transaction():
        pass
    assert [first.number, second.number] == stored(url, *ids) == [0, 0]
    first.number = 7
    store.save(first)
    assert stored(url, *ids) == [7, 0]


def test_an_abort_that_is_cut_off_is_finished_by_a_load_and_by_a_save(url, monkeypatch):
    store = make_store(url)
    first, second = Job("first"), Job("second")
    ids = store.save_many([first, second])
    for come_next in (lambda: store.load(ids[0]), lambda: store.save(Job("other"))):
        interrupt(monkeypatch, View, "let_go", times=2)
        with pytest.raises(KeyboardInterrupt), store.transaction():
            first.number = second.number = 1
            raise ValueError
        interrupt(monkeypatch, View, "let_go")
        with pytest.raises(KeyboardInterrupt):
            come_next()
        come_next()
        assert [first.number, second.number] == stored(url, *ids) == [0, 0]


def test_unsaved_changes_come_back_though_the_abort_is_cut_off(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    job.number = 1
    interrupt(monkeypatch, states, "fill", times=2)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        job.number = 2
        raise ValueError
    store.save(job)
    assert job.number == stored(url, id_)[0] == 1


def test_an_object_that_is_let_go_of_is_not_saved_empty(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    job.name = "job"
    interrupt(monkeypatch, states, "clear", after=True)
    with pytest.raises(KeyboardInterrupt):
        store.invalidate_cache()
    with store.transaction():
        store.load(id_).number = 1
    assert vars(make_store(url).load(id_)) == {"name": "job", "number": 1, "parts": []}


def test_what_an_interruption_left_in_a_ghost_does_not_come_back(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    interrupt(monkeypatch, states, "clear", times=1)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        job.surplus = 1
        raise ValueError
    job.number = 5
    store.save(job)
    assert vars(job) == vars(make_store(url).load(id_)) == {"name": "job", "number": 5, "parts": []}


def test_an_object_is_touched_again_after_its_waking_was_interrupted(url, monkeypatch, line_by_line):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    interrupt(monkeypatch, view, "assign_class")
    with pytest.raises(KeyboardInterrupt):
        job.number
    job.number = 3
    store.save(job)
    assert stored(url, id_) == [3]


def test_a_commit_right_after_an_interrupted_waking(url, monkeypatch, line_by_line):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    interrupt(monkeypatch, view, "assign_class")
    with pytest.raises(KeyboardInterrupt):
        job.number
    with store.transaction() as transaction:
        transaction.savepoint()
        store.save(Job("other"))
    assert stored(url, id_) == [0]


def test_a_view_that_was_interrupted_while_it_moves_forward_goes_on(url, monkeypatch):
    store, other = make_store(url), make_store(url)
    ids = store.save_many([Job("first"), Job("second")])
    held = store.load_many(ids)
    with other.transaction():
        for id_ in ids:
            other.load(id_).number = 1
    interrupt(monkeypatch, View, "let_go", after=True)
    with pytest.raises(KeyboardInterrupt):
        store.load(ids[0])
    assert [store.load(id_).number for id_ in ids] == [1, 1]
    assert [job.number for job in held] == [1, 1]


def test_a_save_right_after_an_interrupted_move_overwrites_nothing(url, monkeypatch):
    store, other = make_store(url), make_store(url)
    ids = store.save_many([Job("first"), Job("second")])
    held = store.load_many(ids)
    with other.transaction():
        for id_ in ids:
            other.load(id_).number = 1
    interrupt(monkeypatch, View, "let_go")
    with pytest.raises(KeyboardInterrupt):
        store.load(ids[0])
    store.save(Job("new"))
    for job in held:
        job.number += 1
        store.save(job)
    assert stored(url, *ids) == [2, 2]


def test_a_loaded_object_whose_loading_was_interrupted_is_not_new(url, monkeypatch, line_by_line):
    id_ = make_store(url).save(Job("job"))
    store = make_store(url)
    interrupt(monkeypatch, direct, "hash")
    with pytest.raises(KeyboardInterrupt) as caught:  # it holds the object, as the interactive interpreter does
        store.load(id_)
    store.load(id_).number = 1
    store.save(store.load(id_))
    assert stored(url, id_) == [1]
    assert caught.value is not None


def test_a_commit_that_was_written_is_known_to_the_view_that_was_interrupted(url, monkeypatch):
    store = make_store(url)
    job, new = Job("job"), Job("new")
    id_ = store.save(job)
    interrupt(monkeypatch, View, "settle")
    with pytest.raises(KeyboardInterrupt), store.transaction() as transaction:
        job.number = 1
        job.parts.append(new)
    assert transaction.revision == store.revision()
    assert stored(url, id_, new.persistent_id) == [1, 0]
    job.number = new.number = 2
    store.save(job)
    assert stored(url, id_, new.persistent_id) == [2, 2]


def test_new_objects_are_new_again_though_that_was_interrupted(url, monkeypatch):
    store = make_store(url)
    first, second = Job("first"), Job("second")
    second.bad = lambda: None
    interrupt(monkeypatch, View, "dismiss", after=True)
    with pytest.raises(KeyboardInterrupt):
        store.save_many([first, second])
    del second.bad
    assert len(set(store.save_many([first, second]))) == 2
    assert len(make_store(url).list()) == 2


def interrupt_end_of_block(monkeypatch):
    """As if a signal were handled when the end of the next block is entered, before its first line."""
    usual = vars(Transaction)["__exit__"]

    def end(self, *error):
        monkeypatch.setattr(Transaction, "__exit__", usual)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Transaction, "__exit__", BlockEnd(end))


def test_a_transaction_whose_end_was_cut_off_is_over_for_all_that_comes(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    interrupt_end_of_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt) as caught, store.transaction():
        job.number = 1
    with store.transaction():
        assert job.number == 0
        job.parts.append(2)
    job.number = 3
    store.save(job)
    assert stored(url, id_, store.save(Job("new", 4))) == [3, 4]
    assert caught.value is not None  # it holds all that was running, as the interactive interpreter does


def test_a_load_and_a_save_end_a_transaction_whose_end_was_cut_off(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    interrupt_end_of_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        job.number = 1
    assert store.revision() == 1
    assert job.number == 0
    interrupt_end_of_block(monkeypatch)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        job.number = 1
    job.number = 2
    with pytest.raises(TransactionError, match="changed since"):  # else this change were lost, and nobody told
        store.save(job)
    assert job.number == 0
    job.number = 2
    store.save(job)
    assert stored(url, id_) == [2]


def interrupted_at(line, function, work):
    """Whether `work` came to that line of the function, counted from 1, and was interrupted before it."""
    left, reached = line, False

    def trace(frame, event, _):
        nonlocal left, reached
        if frame.f_code is not function.__code__:
            return None if frame.f_code.co_filename == function.__code__.co_filename else trace
        left -= event == "line"
        if left == 0 and not reached:
            reached = True
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return reached


def test_an_interruption_before_any_line_of_the_end_of_a_block_leaves_nothing_open(url):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)

    def block():
        with store.transaction():
            job.number = number

    for number in range(1, 20):
        reached = interrupted_at(number, Transaction.__exit__, block)
        with contextlib.suppress(TransactionError):  # it says that what follows was taken back
            store.save(Job("next"))
        job.number = -number
        store.save(job)
        assert stored(url, id_) == [-number]
        if not reached:
            return
    raise AssertionError("the end of a block has no end")


def test_a_part_whose_end_was_cut_off_is_not_committed(url, monkeypatch):
    store = make_store(url)
    first, second = Job("first"), Job("second")
    ids = store.save_many([first, second])
    with pytest.raises(TransactionError, match="part"), store.transaction():
        second.number = 1
        interrupt_end_of_block(monkeypatch)
        with pytest.raises(KeyboardInterrupt), store.transaction():
            first.number = 1
    assert [first.number, second.number] == stored(url, *ids) == [0, 0]


def test_blocks_that_are_open_stay_so(url):
    store = make_store(url)
    job = Job("job")
    id_ = store.save(job)
    transaction = store.transaction()
    assert hasattr(transaction, "__exit__")
    transaction.__enter__()
    job.number = 1
    store.save(job)
    transaction.__exit__(None, None, None)
    assert stored(url, id_) == [1]

    def within():
        with store.transaction():
            yield

    with contextlib.ExitStack() as stack:
        stack.enter_context(store.transaction())
        job.number = 2
        store.save(job)
        assert stored(url, id_) == [1]
    steps = within()
    next(steps)
    job.number = 3
    store.save(job)
    assert stored(url, id_) == [2]
    assert list(steps) == []
    assert stored(url, id_) == [3]


def test_an_object_whose_nap_was_interrupted_is_committed_and_goes_back(url, monkeypatch):
    store = make_store(url)
    first, second = Job("first"), Job("second")
    ids = store.save_many([first, second])
    with store.transaction() as transaction:
        first.number = second.number = 1
        interrupt(monkeypatch, View, "doze", after=True)
        with pytest.raises(KeyboardInterrupt):
            transaction.savepoint()
    assert [first.number, second.number] == stored(url, *ids) == [1, 1]
    with pytest.raises(ValueError, match="no"), store.transaction() as transaction:
        first.number = second.number = 2
        interrupt(monkeypatch, View, "doze", after=True)
        with pytest.raises(KeyboardInterrupt):
            transaction.savepoint()
        raise ValueError("no")
    assert [first.number, second.number] == stored(url, *ids) == [1, 1]


def test_a_connection_that_was_left_within_a_transaction_goes_on(url):
    store = make_store(url)
    id_ = store.save(Job("job"))
    connection = store.backend._connection._connection
    connection.execute("BEGIN IMMEDIATE")  # as if it were interrupted before its end, twice
    connection.execute("DELETE FROM records")
    assert store.list() == [id_]
    connection.execute("BEGIN IMMEDIATE")
    store.save(Job("other"))
    assert len(make_store(url).list()) == 2


STEPS = [(Medium, "refresh"), (Medium, "record"), (Medium, "_take_in"), (Medium, "_put_in_place")]
STEPS += [(Files, "write_at"), (Files, "sync")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=lambda value: getattr(value, "__name__", value))
def test_a_directory_goes_on_after_an_interruption(tmp_path, monkeypatch, owner, name, after):
    store, other = (make_store(tmp_path / "jobs/", timeout=1) for _ in range(2))
    job = Job("job")
    id_ = store.save(job)
    other.save(Job("of another"))  # so that there is something to take in
    job.number = 1
    for step in ((owner, name), (Medium, "forget")):  # the second one where the first is made good
        interrupt(monkeypatch, *step, after=after)
        with contextlib.suppress(KeyboardInterrupt):
            store.save(job)
        monkeypatch.undo()
    store.save(job)
    assert job.number == 1
    assert [each.load(id_).number for each in (store, other)] == [1, 1]
    job.number = 2
    store.save(job)
    assert [each.load(id_).number for each in (store, other)] == [2, 2]
    assert store.check() == other.check() == []


def test_a_large_piece_is_not_taken_away_from_a_commit_that_is_there(tmp_path, monkeypatch):
    store = make_store(tmp_path / "jobs/")
    job = Job("job")
    id_ = store.save(job)
    job.parts = bytes(100_000)
    interrupt(monkeypatch, Medium, "commit", after=True)
    with pytest.raises(KeyboardInterrupt):
        store.save(job)
    assert make_store(tmp_path / "jobs/").load(id_).parts == bytes(100_000)
    assert store.check() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # no destructor can raise
def test_a_new_object_is_not_taken_for_one_that_was_at_its_address(url, monkeypatch):
    store = make_store(url)
    job = Job("job")
    id_, address = store.save(job), id(job)
    interrupt(monkeypatch, persistable, "drop_entry")
    del job
    waiting = []
    while id(new := Job("new", 1)) != address:
        waiting.append(new)
        assert len(waiting) < 10_000
    assert new.persistent_id is None
    assert store.save(new) != id_
    assert stored(url, id_, new.persistent_id) == [0, 1]


class Timer:
    """Real signals, each at a random moment of what is done."""

    def __init__(self):
        self.chance = dice("interrupts")
        self.lasts = {}

    def interrupted(self, work, *args):
        """Do the work; whether it was interrupted."""
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        begun = time.perf_counter()
        try:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, self.chance.random() * self.lasts.get(work, 0.002) * 1.1))
            work(*args)
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.lasts[work] = 0.9 * self.lasts.get(work, 0.002) + 0.1 * (time.perf_counter() - begun)
        except KeyboardInterrupt:
            self.lasts[work] = 1.02 * self.lasts.get(work, 0.002)  # else a slow machine never comes to the end
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        return False


def both(store, first, second):
    with store.transaction():
        first.number += 1
        second.number += 1


def with_savepoint(store, first, second):
    with store.transaction() as transaction:
        first.number += 1
        savepoint = transaction.savepoint()
        second.number += 5
        first.parts.append(Job("part"))
        savepoint.rollback()
        second.number += 1


def in_parts(store, first, second):
    with store.transaction():
        with store.transaction():
            first.number += 1
        second.number += 1
        first.parts.append(Job("part"))


def aborted(store, first, second):
    with contextlib.suppress(KeyError), store.transaction():
        first.number += 1
        second.name = "wrong"
        raise KeyError


def read_anew(store, first, second):
    store.invalidate_cache()
    assert first.number == second.number


def removing(store, first, second):
    with store.transaction():
        if first.parts:
            store.remove(first.parts.pop().persistent_id)
        first.number += 1
        second.number += 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers that send signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a signal within a destructor
@pytest.mark.parametrize("spelled", ["sqlite:///jobs.db", "jobs/"], ids=["sqlite", "directory"])
def test_signals_at_any_moment(spelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = spelled
    store, other = make_store(url), make_store(url)
    first, second = Job("first"), Job("second")
    ids = store.save_many([first, second])
    timer, cuts, tries = Timer(), 0, 0

    def others_change(store, first, second):
        other.run(lambda: [setattr(other.load(id_), "number", other.load(id_).number + 1) for id_ in ids])
        store.load_many(ids)

    works = [both, with_savepoint, in_parts, aborted, read_anew, removing, others_change]
    while cuts < more(300):
        tries += 1
        cuts += timer.interrupted(timer.chance.choice(works), store, first, second)
        with store.transaction():
            pass  # also whatever was cut off is over by this
        seen = [(job.name, job.number, [part.persistent_id for part in job.parts]) for job in store.load_many(ids)]
        with make_store(url, read_only=True) as fresh:
            loaded = fresh.load_many(ids)
            there = [(job.name, job.number, [part.persistent_id for part in job.parts]) for job in loaded]
        assert seen == there
        assert [name for name, *_ in there] == ["first", "second"]
        assert there[0][1] == there[1][1]  # no half of a transaction
    assert store.check() == []
    assert first.number > 0
    assert tries >= cuts
