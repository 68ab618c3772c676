"""Savepoints: back to one, and on from there, for every kind of object; parts of transactions; what abort brings."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import array
import collections
import dataclasses
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import Holder

from perdure import CannotLoad, CannotPickle, ConflictError, NotFound, Persistable, TransactionError, make_store
from perdure.objects.instances.persistable import DOZING, GHOST, entry_of
from perdure.objects.payloads.encoding import Encoder


class Job(Persistable):
    def __init__(self, name="job"):
        self.name = name
        self.log = []
        self.table = {"rows": []}


class Slotted(Persistable):
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Counted(Persistable):
    """Takes part in its own pickling."""

    def __init__(self, value):
        self.value = value
        self.loaded = 0

    def __getstate__(self):
        return {"value": self.value}

    def __setstate__(self, state):
        self.value = state["value"]
        self.loaded = 1


class Queue(list, Persistable):
    pass


class Table(dict, Persistable):
    pass


class Ordered(collections.OrderedDict, Persistable):
    pass


class Ring(collections.deque, Persistable):
    pass


class Tags(set, Persistable):
    pass


class Bytes(bytearray, Persistable):
    pass


class Trouble(Exception, Persistable):
    pass


@dataclasses.dataclass(eq=False)
class Price(Persistable):
    amount: int
    parts: list = dataclasses.field(default_factory=list)


class Plain:
    def __init__(self, value):
        self.value = value


class Stubborn(Persistable):
    refuses = False

    def __init__(self):
        self.value = 1

    def __setstate__(self, state):
        if type(self).refuses:
            raise ValueError("not this one")
        self.__dict__.update(state)


class Fails(Exception):
    pass


# -- back to a savepoint ---------------------------------------------------------------------------------------


def test_back_to_a_savepoint(place):
    store = place.open()
    job = Job()
    id_ = store.save(job)
    with store.transaction() as transaction:
        job.name = "before"
        job.log.append(1)
        savepoint = transaction.savepoint()
        job.name = "after"
        job.log.append(2)
        job.more = True
        del job.table
        savepoint.rollback()
        assert (job.name, job.log, job.table) == ("before", [1], {"rows": []})
        assert not hasattr(job, "more")
        job.log.append(3)
    again = place.open().load(id_)
    assert (again.name, again.log, again.table) == ("before", [1, 3], {"rows": []})


def test_what_was_first_touched_after_the_savepoint_is_a_ghost_again(store):
    job, other = Job(), Job("other")
    store.save_many([job, other])
    with store.transaction() as transaction:
        job.name = "changed"
        savepoint = transaction.savepoint()
        other.log.append(1)
        savepoint.rollback()
        assert entry_of(other).state == GHOST
        assert entry_of(job).state != GHOST
        assert other.log == []
    assert store.transactions()[0].numbers == (entry_of(job).number,)


def test_what_was_only_looked_at_before_is_not_written(store):
    job = Job()
    store.save(job)
    with store.transaction() as transaction:
        assert job.log == []
        savepoint = transaction.savepoint()
        job.log.append(1)
        savepoint.rollback()
        assert job.log == []
    assert len(store.transactions()) == 1


def test_what_did_not_change_since_keeps_its_containers(store):
    job, other = Job(), Job()
    store.save_many([job, other])
    with store.transaction() as transaction:
        rows, log = job.table["rows"], other.log
        rows.append(1)
        savepoint = transaction.savepoint()
        savepoint.rollback()
        rows.append(2)
        log.append(3)
    store.invalidate_cache()
    assert job.table["rows"] == [1, 2]
    assert other.log == [3]


def test_other_bytes_do_not_mean_changed(store):
    """Perdure learns which attributes are references; the bytes of a state are others then."""
    holder = Holder(None)
    holder.log = []
    store.save(holder)
    with store.transaction() as transaction:
        log = holder.log
        log.append(1)
        holder.names = {str(number) * 5 for number in range(50)}
        savepoint = transaction.savepoint()
        for _ in range(10):
            store.save(Holder(Job()))
            transaction.savepoint()
        holder.names = {*reversed([*holder.names])}
        savepoint.rollback()
        log.append(2)
    store.invalidate_cache()
    assert holder.log == [1, 2]


def test_new_objects_are_new_again(place):
    store = place.open()
    job = Job()
    store.save(job)
    with store.transaction() as transaction:
        early = Job("early")
        early_id = store.save(early)
        savepoint = transaction.savepoint()
        early.name = "changed"
        late = Job("late")
        late_id = store.save(late)
        job.log.append(late)
        savepoint.rollback()
        assert early.persistent_id == early_id
        assert early.name == "early"
        assert late.persistent_id is None
        assert late.name == "late"
        assert job.log == []
        with pytest.raises(NotFound):
            store.load(late_id)
        assert store.load(early_id) is early
    assert [job.name for job in place.open().load_many(store.list())] == ["job", "early"]


def test_a_new_object_that_is_only_referred_to_comes_back_too(place):
    store = place.open()
    holder = Holder(None)
    id_ = store.save(holder)
    with store.transaction() as transaction:
        new = Job("new")
        new.itself = new
        holder.target = [new]
        savepoint = transaction.savepoint()
        new.name = "changed"
        new.log.append(holder)
        store.save(new)
        holder.target.clear()
        savepoint.rollback()
        assert new.persistent_id is None
        assert (new.name, new.log) == ("new", [])
        assert new.itself is new
        assert holder.target == [new]
        assert holder.target[0] is new
    again = place.open().load(id_).target[0]
    assert again.name == "new"
    assert again.itself is again


def test_savings_replacements_and_removals_are_taken_back(place):
    store = place.open()
    kept, removed, replaced = store.save_many([Job("kept"), Job("removed"), Job("replaced")])
    held = store.load(removed)
    with store.transaction(note="all") as transaction:
        first = store.save([1])
        savepoint = transaction.savepoint()
        store.remove(removed)
        store.replace(replaced, Job("never"))
        second = store.save([2])
        transaction.note = "never"
        savepoint.rollback()
        assert store.load(removed) is held
        store.remove(kept)
    assert [commit.note for commit in store.transactions()][:1] == ["never"]  # the note is not an object
    again = place.open()
    assert again.load(first) == [1]
    assert again.load(removed).name == "removed"
    assert again.load(replaced).name == "replaced"
    for gone in (second, kept):
        with pytest.raises(NotFound):
            again.load(gone)


def test_a_removal_before_the_savepoint_stays(store):
    id_ = store.save(Job())
    with store.transaction() as transaction:
        store.remove(id_)
        savepoint = transaction.savepoint()
        savepoint.rollback()
        with pytest.raises(NotFound):
            store.load(id_)
    assert len(store) == 0


def test_plain_values_are_written_as_they_were(place):
    store = place.open()
    job = Job()
    replaced = store.save(Job("replaced"))
    with store.transaction() as transaction:
        value, other, copy = [1, job], [1], Job("copy")
        id_, other_id = store.save(value), store.save(other)
        store.replace(replaced, copy)
        savepoint = transaction.savepoint()
        value.append(2)
        copy.name = "changed"
        savepoint.rollback()
        other.append(3)  # it was as it had been, and is still looked at
        assert copy.name == "copy"
    again = place.open()
    stored = again.load(id_)
    assert stored[0] == 1
    assert [type(item).__name__ for item in stored] == ["int", "Job"]
    assert again.load(other_id) == [1, 3]
    assert again.load(replaced).name == "copy"


def test_several_in_order(place):
    store = place.open()
    job = Job()
    id_ = store.save(job)
    with store.transaction() as transaction:
        points = []
        for number in range(5):
            points.append(transaction.savepoint())
            job.log.append(number)
        points[3].rollback()
        assert job.log == [0, 1, 2]
        job.log.append("x")
        points[3].rollback()  # as often as wanted
        assert job.log == [0, 1, 2]
        with pytest.raises(TransactionError, match="savepoint is gone"):
            points[4].rollback()
        points[1].rollback()
        assert job.log == [0]
        with pytest.raises(TransactionError, match="savepoint is gone"):
            points[3].rollback()
        points[0].rollback()
        assert job.log == []
        job.log.append("end")
    assert place.open().load(id_).log == ["end"]
    with pytest.raises(TransactionError, match="transaction is over"):
        points[0].rollback()


def test_a_block_rolls_back_on_an_exception_and_lets_it_pass(place):
    store = place.open()
    job = Job()
    id_ = store.save(job)
    with store.transaction() as transaction:
        with transaction.savepoint():
            job.log.append(1)
        with pytest.raises(Fails), transaction.savepoint() as outer:
            job.log.append(2)
            with pytest.raises(Fails), transaction.savepoint():
                job.log.append(3)
                raise Fails
            assert job.log == [1, 2]
            raise Fails
        assert job.log == [1]
        with pytest.raises(TransactionError, match="its block has ended"):
            outer.rollback()
    assert place.open().load(id_).log == [1]


def test_a_block_that_was_left_behind_says_nothing(store):
    job = Job()
    store.save(job)
    with store.transaction() as transaction:
        first = transaction.savepoint()
        with transaction.savepoint():
            job.log.append(1)
            first.rollback()
        with transaction.savepoint():
            job.log.append(2)
            transaction.abort()
    assert job.log == []


# what makes one, what changes it, what it looks like
KINDS = {
    "slots": (lambda: Slotted([1]), lambda obj: obj.value.append(2), lambda obj: obj.value),
    "state methods": (lambda: Counted([1]), lambda obj: obj.value.append(2), lambda obj: obj.value),
    "dataclass": (lambda: Price(1), lambda obj: obj.parts.append(3), lambda obj: (obj.amount, obj.parts)),
    "list": (lambda: Queue([1, 2]), lambda obj: obj.insert(0, 9), list),
    "dict": (lambda: Table(a=1), lambda obj: obj.update(a=0, b=[len(obj)]), lambda obj: list(obj.items())),
    "ordered": (lambda: Ordered(a=1, b=2), lambda obj: obj.move_to_end(next(iter(obj))), lambda obj: list(obj.items())),
    "deque": (lambda: Ring([1, 2], 3), lambda obj: obj.extend([len(obj), 4]), lambda obj: (list(obj), obj.maxlen)),
    "set": (lambda: Tags({1, 2}), lambda obj: obj.symmetric_difference_update({1, len(obj)}), sorted),
    "bytes": (lambda: Bytes(b"a"), lambda obj: obj.extend(b"b"), bytes),
    "exception": (lambda: Trouble("a", 1), lambda obj: setattr(obj, "args", (*obj.args, "b")), lambda obj: obj.args),
    "nested": (lambda: Holder(Plain([1])), lambda obj: obj.target.value.append(2), lambda obj: obj.target.value),
    "array": (lambda: Holder(array.array("b", [1])), lambda obj: obj.target.append(2), lambda obj: list(obj.target)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["new", "saved", "stored", "changed"])
def test_every_kind_of_object(place, kind, when):
    """Back to a savepoint, and back to the beginning, whatever the object was like then."""
    make, change, look = KINDS[kind]
    store = place.open()
    obj = make()
    if when in ("stored", "changed"):
        store.save(obj)
    pristine = repr(look(obj))
    with pytest.raises(Fails), store.transaction() as transaction:
        if when in ("saved", "new"):
            store.save(obj if when == "saved" else Holder([obj]))
        elif when == "changed":
            change(obj)
        before = repr(look(obj))
        savepoint = transaction.savepoint()
        for _ in range(2):
            change(obj)
            assert repr(look(obj)) != before
            savepoint.rollback()
            assert repr(look(obj)) == before
        change(obj)
        raise Fails
    if when in ("stored", "changed"):
        assert repr(look(obj)) == pristine
        assert obj.changed is False
        change(obj)
        changed = repr(look(obj))
        store.save(obj)
        store.invalidate_cache()
        assert repr(look(obj)) == changed
    else:
        assert obj.persistent_id is None


def test_an_object_that_became_one_of_another_class(store):
    obj = Job()
    store.save(obj)
    with pytest.raises(Fails), store.transaction() as transaction:
        obj.name = "x"
        savepoint = transaction.savepoint()
        obj.__class__ = Holder
        savepoint.rollback()
        assert type(obj) is Job
        assert obj.name == "x"
        obj.__class__ = Holder
        raise Fails
    assert obj.name == "job"
    assert isinstance(obj, Job)


def test_what_cannot_be_pickled_is_told_at_the_savepoint(store):
    job = Job()
    store.save(job)
    with store.transaction() as transaction:
        job.log.append(lambda: None)
        with pytest.raises(CannotPickle, match=r"Job\.\d+ → \.log\[0\]"):
            transaction.savepoint()
        job.log.clear()
        savepoint = transaction.savepoint()
        job.log.append(lambda: None)
        savepoint.rollback()  # what it is now does not matter
        assert job.log == []


def test_a_class_that_refuses_its_own_state_aborts_the_transaction(store):
    obj = Stubborn()
    other = Job()
    store.save_many([obj, other])
    with pytest.raises(CannotLoad, match="not this one"), store.transaction() as transaction:
        obj.value = 2
        other.name = "never"
        savepoint = transaction.savepoint()
        obj.value = 3
        Stubborn.refuses = True
        try:
            savepoint.rollback()
        finally:
            Stubborn.refuses = False
    assert (obj.value, other.name) == (1, "job")
    other.name = "usable"
    store.save(other)


def test_a_savepoint_reads_and_writes_nothing(store):
    jobs = [Job() for _ in range(10)]
    store.save_many(jobs)
    with store.transaction() as transaction:
        for job in jobs:
            job.log.append(1)
        view = store.desk().view
        view.backend, backend = None, view.backend
        savepoint = transaction.savepoint()
        jobs[0].log.append(2)
        savepoint.rollback()
        assert jobs[0].log == [1]
        view.backend = backend
    assert len(store.transactions()) == 2


# -- naps ------------------------------------------------------------------------------------------------------


def test_many_savepoints_cost_what_was_touched_in_between(store, monkeypatch):
    jobs = [Job() for _ in range(200)]
    store.save_many(jobs)
    encoded = []
    encode = Encoder.encode

    def counted(self, obj, facts, **options):
        encoded.append(obj)
        return encode(self, obj, facts, **options)

    with store.transaction() as transaction:
        for job in jobs:
            job.log.append(1)
        monkeypatch.setattr(Encoder, "encode", counted)
        transaction.savepoint()
        assert len(encoded) == 200
        for job in jobs[:10]:
            job.log.append(2)
            with store.transaction():
                store.save(Job("new"))
        assert len(encoded) <= 200 + 10 * 2
        encoded.clear()
        with pytest.raises(Fails), store.transaction():
            jobs[0].log.append(3)
            raise Fails
        assert len(encoded) < 10
    store.invalidate_cache()
    assert [job.log for job in jobs] == [[1, 2]] * 10 + [[1]] * 190
    assert len(store) == 210


@pytest.mark.parametrize(
    "hold",
    [
        lambda job: job.table["rows"],
        lambda job: job.log,
        lambda job: job.table,
        lambda job: job.pair[0],
        lambda job: job.plain.value,
        lambda job: next(iter(job.keyed)).value,
        lambda job: vars(job)["log"],
    ],
    ids=["inner", "attribute", "dict", "in a tuple", "in an instance", "in a key", "by vars"],
)
def test_what_somebody_holds_is_watched_over_savepoints(place, hold):
    store = place.open()
    job = Job()
    job.pair, job.plain, job.keyed = ([], 1), Plain([]), {Plain([]): 1}
    id_ = store.save(job)
    with store.transaction() as transaction:
        job.name = "changed"
        held = hold(job)
        transaction.savepoint()
        savepoint = transaction.savepoint()
        held.update(x=1) if isinstance(held, dict) else held.append(1)
        with store.transaction():
            pass
    store.invalidate_cache()
    found = hold(place.open().load(id_))
    assert found in ([1], {"rows": [], "x": 1})
    assert savepoint.image


def test_the_dict_of_an_object_that_somebody_holds(store):
    job = Job()
    store.save(job)
    with store.transaction() as transaction:
        job.name = "changed"
        held = vars(job)
        transaction.savepoint()
        held["more"] = 1
    store.invalidate_cache()
    assert job.more == 1


def test_what_naps_is_as_changed_as_it_was(place):
    store = place.open()
    job, looked = Job(), Job()
    store.save_many([job, looked])
    with store.transaction() as transaction:
        job.name = "changed"
        assert looked.name == "job"
        new = Job("new")
        id_ = store.save(new)
        transaction.savepoint()
        assert entry_of(job).state == entry_of(new).state == DOZING
        assert (job.changed, new.changed, looked.changed) == (True, True, False)
        transaction.savepoint()
        store.invalidate_cache()
        assert store.load(id_) is new
        assert (job.name, new.name) == ("changed", "new")
        savepoint = transaction.savepoint()
        del new
        gc.collect()
        assert store.load(id_).name == "new"  # held until the end
        savepoint.rollback()
    again = place.open()
    assert again.load(job.persistent_id).name == "changed"
    assert again.load(id_).name == "new"


def test_what_napped_and_was_changed_goes_back(store):
    job = Job()
    store.save(job)
    with pytest.raises(Fails), store.transaction() as transaction:
        job.log.append(1)
        first = transaction.savepoint()
        job.log.append(2)
        second = transaction.savepoint()
        third = transaction.savepoint()
        third.rollback()
        second.rollback()
        assert job.log == [1, 2]
        transaction.savepoint()
        first.rollback()
        assert job.log == [1]
        late = Job("late")
        store.save(late)
        transaction.savepoint()  # the new one naps, and is in no earlier image
        first.rollback()
        assert late.persistent_id is None
        assert type(late) is Job
        raise Fails
    assert job.log == []
    assert job.changed is False


# -- parts of transactions -------------------------------------------------------------------------------------


def test_a_transaction_inside_another_is_a_part_of_it(place):
    store = place.open()
    job = Job()
    id_ = store.save(job)
    with store.transaction(note="whole") as whole:
        job.log.append(1)
        with store.transaction(note="part") as part:
            job.log.append(2)
            assert part.step is whole.step
        assert part.revision is None  # nothing is committed yet
        with pytest.raises(Fails), store.transaction(note="never"):
            job.log.append(3)
            store.save(Job())
            raise Fails
        assert job.log == [1, 2]
        assert place.open().load(id_).log == []
    assert part.revision == whole.revision == 2
    assert [commit.note for commit in store.transactions()] == ["whole; part", ""]
    assert place.open().load(id_).log == [1, 2]


def test_parts_may_be_ended_by_hand(store):
    job = Job()
    store.save(job)
    with store.transaction():
        with store.transaction() as part:
            job.log.append(1)
            part.abort()
            assert job.log == []
            with pytest.raises(TransactionError):
                part.commit()
        with store.transaction() as part:
            job.log.append(2)
            with pytest.raises(Fails), part.savepoint():
                job.log.append(3)
                raise Fails
            part.commit()
            job.log.append(4)
            part.abort()  # nothing is left to abort
    assert job.log == [2, 4]


def test_a_transaction_is_begun_once(store):
    with store.transaction() as transaction, pytest.raises(TransactionError, match="begun before"), transaction:
        pass


def test_a_part_of_an_aborted_whole(store):
    job = Job()
    store.save(job)
    with pytest.raises(TransactionError, match="is over"), store.transaction() as whole, store.transaction():
        job.log.append(1)
        whole.abort()
    assert job.log == []
    with store.transaction():
        job.log.append(2)
    assert job.log == [2]


# -- what abort brings back ------------------------------------------------------------------------------------


def test_changes_from_before_the_transaction_are_still_there_after_it_was_aborted(place):
    store = place.open()
    job, other = Job(), Job()
    id_, _ = store.save_many([job, other])
    job.name = "before"
    job.log.append(1)
    with pytest.raises(Fails), store.transaction():
        job.log.append(2)
        other.log.append(3)
        raise Fails
    assert (job.name, job.log, other.log) == ("before", [1], [])
    assert job.changed is True
    store.save(job)
    assert place.open().load(id_).log == [1]


def test_what_could_not_be_saved_before_goes_back_to_what_is_stored(store):
    job = Job()
    store.save(job)
    job.log.append(lambda: None)
    with pytest.raises(Fails), store.transaction():
        raise Fails
    assert job.log == []


def test_a_conflict_lets_only_go_what_it_names(place):
    store, other = place.open(), place.open()
    a, b = store.save_many([Job("a"), Job("b")])
    mine = store.load_many([a, b])
    for job in mine:
        job.log.append("before")
    with pytest.raises(ConflictError) as caught, store.transaction():
        for job in mine:
            job.log.append("inside")
        with other.transaction():
            other.load(a).log.append("theirs")
    assert caught.value.ids == (a,)
    assert mine[0].log == ["theirs"]
    assert mine[1].log == ["before"]
    store.save_many(mine)
    assert [job.log for job in place.open().load_many([a, b])] == [["theirs"], ["before"]]


@given(st.data())
def test_back_to_any_savepoint_is_like_a_copy_from_then(data):
    """Random changes and savepoints; a copy of the plain values is kept at each, and compared."""
    numbers = st.integers(0, 3)
    with make_store("memory:") as store:
        jobs = [Job(str(number)) for number in range(4)]
        store.save_many(jobs[:3])  # the last one is new

        def shown():
            return [(job.name, [*job.log], {key: [*value] for key, value in job.table.items()}) for job in jobs]

        beginning = shown()
        kept = []
        with store.transaction() as transaction:
            for step in data.draw(
                st.lists(st.sampled_from(["log", "table", "save", "refer", "point", "back"]), max_size=12)
            ):
                job = jobs[data.draw(numbers)]
                if step == "log":
                    job.log.append(len(job.log))
                elif step == "table":
                    job.table.setdefault(str(len(job.table)), []).append(1)
                elif step == "save":
                    store.save(job)
                elif step == "refer":
                    job.table["job"] = [jobs[data.draw(numbers)]]
                elif step == "point":
                    kept.append((transaction.savepoint(), shown(), [each.persistent_id for each in jobs]))
                elif kept:
                    del kept[data.draw(st.integers(1, len(kept))) :]
                    savepoint, then, ids = kept[-1]
                    savepoint.rollback()
                    now = shown()
                    reached = [n for n in range(4) if n < 3 or ids[3] or "'job'" in repr(then)]
                    assert [now[n] for n in reached[:3]] == [then[n] for n in reached[:3]]
                    assert [each.persistent_id for each in jobs] == ids
            if data.draw(st.booleans()):
                transaction.abort()
                assert shown()[:3] == beginning[:3]
