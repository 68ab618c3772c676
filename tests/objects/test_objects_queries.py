"""`find` and `count`: on every store the same answers, in transactions as of their snapshot and with their own work."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from pathlib import PurePosixPath

import indexed
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from indexed import Bare, Counter, Customer, Guest, Job, Order, Slotted, Stack, State, WideJob

import perdure
from perdure import (
    CannotIndex,
    ClassNotFound,
    ConflictError,
    InvalidArgument,
    NotIndexed,
    Persistable,
    TransactionError,
    WrongView,
)
from perdure.backends.base import number_of
from perdure.records.frame import parse_unverified
from perdure.records.queries import sort_key
from perdure.upkeep import check


def sizes(jobs):
    return [job.size for job in jobs]


@pytest.fixture
def jobs(store):
    states = ["new", "failed", "done", "failed", "failed"]
    jobs = [Job(state, size) for size, state in enumerate(states)]
    store.save_many([*jobs, WideJob("failed", 10, 3)])
    return jobs


class Wide(Persistable):
    __indexed__ = tuple(f"field_{number}" for number in range(70))


def test_more_values_and_fields_than_a_statement_takes(store):
    jobs = [Job("new", 5), Job("done", 69_999)]
    store.save_many([*jobs, Wide()])
    assert store.find(Job, size__in=range(70_000), order_by="-size", limit=1) == [jobs[1]]
    assert store.count(Job, size__in=range(70_000)) == 2
    assert store.count(Wide, **dict.fromkeys(Wide.__indexed__)) == 1


def test_an_object_of_another_store_is_no_answer(store):
    other = perdure.make_store("memory:")
    here, there = Bare("here"), Bare("there")
    store.save(here)
    other.save(there)
    job = Job(here)
    store.save(job)
    assert here.persistent_id == there.persistent_id
    assert store.find(Job, state=here) == [job]
    assert store.at(store.revision()).count(Job, state=here) == 1
    for question in ({"state": there}, {"state__in": iter([there])}):
        with pytest.raises(WrongView, match=r"Bare\.1 of another store"):
            store.find(Job, **question)


# -- questions -------------------------------------------------------------------------------------------------


def test_conditions_order_and_limit(store, jobs):
    assert sizes(store.find(Job, state="failed")) == [1, 3, 4, 10]
    assert sizes(store.find(Job, state="failed", order_by="-size", limit=2)) == [10, 4]
    assert sizes(store.find(Job, state="failed", order_by="-size", limit=2, offset=1)) == [4, 3]
    assert sizes(store.find(Job, order_by=("state", "-size"))) == [2, 10, 4, 3, 1, 0]
    assert sizes(store.find(Job, size__gt=1, size__le=4)) == [2, 3, 4]
    assert sizes(store.find(Job, size__ge=3, size__lt=10, state__ne="done")) == [3, 4]
    assert sizes(store.find(Job, state__in=["new", "done"])) == [0, 2]
    assert sizes(store.find(Job, state__startswith="f", size__eq=3)) == [3]
    assert store.find(Job, state="no such") == []
    assert store.find(Job, limit=0) == []
    assert store.count(Job, state="failed") == 4
    assert store.count(Job) == 6


def test_what_is_found_is_what_is_loaded(store, jobs):
    assert store.find(Job, state="new") == [jobs[0]]
    assert store.find(Job, state="new")[0] is jobs[0]


def test_subclasses_are_found_unless_they_are_left_out(store, jobs):
    assert sizes(store.find(WideJob)) == [10]
    assert sizes(store.find(Job, subclasses=False, order_by="-size")) == [4, 3, 2, 1, 0]
    assert store.count(Job, subclasses=False, state="failed") == 3
    assert sizes(store.find(WideJob, area=30)) == [10]
    assert store.count(Persistable) == 6


def test_a_class_is_named_by_text_as_well(store, jobs):
    assert sizes(store.find("indexed:WideJob")) == [10]
    with pytest.raises(ClassNotFound):
        store.find("indexed:NoSuch")
    with pytest.raises(TypeError, match="A class is asked"):
        store.find(jobs[0])


def test_an_answer_is_gone_through_in_batches(place, jobs):
    store, other = place.open(), place.open()
    assert sizes(store.iterate(Job, state="failed", order_by="-size", batch=2)) == [10, 4, 3, 1]
    assert sizes(store.iterate("indexed:Job", limit=3, batch=1)) == [0, 1, 2]
    assert sizes(store.iterate(WideJob, note="not indexed", scan=True)) == [10]
    answer = store.iterate(Job, state="failed", batch=1)
    assert next(answer).size == 1
    other.remove(other.find(Job, size=3)[0].persistent_id)
    assert sizes(answer) == [4, 10]
    with store.transaction():
        store.save(Job("failed", 99))
        assert sizes(store.iterate(Job, state="failed", order_by="-size", batch=2)) == [99, 10, 4, 1]
    with pytest.raises(TypeError, match="class is needed"):
        store.iterate(state="failed")
    with pytest.raises(NotIndexed):
        store.iterate(Job, note="x")
    with pytest.raises(ValueError, match="at least 1"):
        store.iterate(Job, size=1, batch=0)


def test_any_class_is_found_without_conditions(store):
    store.save_many([Bare("one"), Bare("two"), Job("new")])
    store.save([1, 2])
    assert [bare.name for bare in store.find(Bare)] == ["one", "two"]
    assert [bare.name for bare in store.find(Bare, limit=1, offset=1)] == ["two"]
    assert store.find(list) == [[1, 2]]
    assert store.find(Stack) == []


def test_a_store_opened_anew_finds_the_same(place):
    place.open().save_many([Job("new", 1), Job("failed", 2), WideJob("failed", 3)])
    assert sizes(place.open().find(Job, state="failed")) == [2, 3]
    assert sizes(place.open(read_only=True).find(Job, state="failed")) == [2, 3]


def test_every_kind_of_class_can_have_an_index(store):
    store.save_many([Slotted("new"), Stack([1, 2]), Stack([3])])
    assert [each.state for each in store.find(Slotted, state="new")] == ["new"]
    assert store.find(Stack, depth=2) == [[1, 2]]
    store.find(Stack, depth=1)[0].append(4)
    store.save_many(store.find(Stack))
    assert store.count(Stack, depth=2) == 2


def test_no_answer_without_an_index(store, jobs):
    with pytest.raises(NotIndexed, match=r"Job has no index of 'note', but of state, size.*__indexed__.*scan=True"):
        store.find(Job, note="x")
    with pytest.raises(NotIndexed, match="'note'"):
        store.find(Job, order_by="-note")
    with pytest.raises(NotIndexed, match="'state__such'"):
        store.count(Job, state__such=1)
    assert len(store.find(Job, note="not indexed", scan=True)) == 6
    assert sizes(store.find(Job, note__startswith="not", order_by="-width", limit=1, scan=True)) == [10]
    assert store.count(Bare, name="x", scan=True) == 0


def test_wrong_questions(store, jobs):
    with pytest.raises(CannotIndex, match=r"state cannot be list.*Allowed are None"):
        store.find(Job, state=[])
    with pytest.raises(CannotIndex, match="NaN"):
        store.find(Job, size__lt=math.nan)
    with pytest.raises(TypeError, match="several values"):
        store.find(Job, state__in="new")
    with pytest.raises(TypeError, match="a text"):
        store.find(Job, size__startswith=1)
    with pytest.raises(ValueError, match="not negative"):
        store.find(Job, limit=-1)


# -- values ------------------------------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "same"),
    [
        (None, None), (True, 1), (2**63 - 1, 2**63 - 1), (1.5, 1.5), (-math.inf, -math.inf), ("ä😀", "ä😀"),
        (State.NEW, "new"), (Level.LOW, 1), (Text("x"), "x"), (PurePosixPath("a/b"), "a/b"),
        (date(2026, 1, 2), "2026-01-02"), (Decimal("0.10"), 0.1), (Decimal("Infinity"), math.inf),
        (datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00.000000"),
        (datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T02:04:00.000000+00:00"),
    ],
)  # fmt: skip
def test_what_an_index_holds(store, value, same):
    job = Job(value)
    store.save_many([job, Job("another")])
    assert store.find(Job, state=value) == store.find(Job, state=same) == [job]
    assert store.history(job.persistent_id)[0].fields["state"] == same
    assert store.count(Job, state__ne=value) == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([], "list: no database"), (b"x", "bytes"), (2**63, "64 bits"), (math.nan, "NaN"), (Decimal("NaN"), "NaN"),
        (Decimal(1) / 3, "more than 15 digits"), ("x" * 1001, "longer than the 1000"), ("ä" * 501, "1002 bytes"),
        ("\ud800", "surrogate"), (1j, "complex"), (timedelta(1), "timedelta"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=9))), "no year"),
    ],
)  # fmt: skip
def test_what_no_index_holds_is_named_and_nothing_is_written(store, value, why):
    store.save(Job("new"))
    before = store.revision()
    with pytest.raises(CannotIndex, match=rf"indexed:Job\) cannot be saved: its field 'state'.*{why}.*Allowed"):
        store.save_many([Job("good"), Job(value)])
    assert (store.revision(), store.count(Job)) == (before, 1)


def test_a_missing_attribute_counts_as_none(store):
    job = Job("new")
    del job.state
    store.save_many([job, Job("new")])
    assert store.find(Job, state=None) == [job]


def test_a_property_that_raises_keeps_the_object_from_being_saved(store):
    with pytest.raises(CannotIndex, match=r"property 'area' raised TypeError"):
        store.save(WideJob("new", None))
    assert len(store) == 0


def test_what_refers_to_an_object_is_found_by_it(store):
    ada, ben = Customer("Ada"), Customer("Ben")
    orders = [Order(ada), Order(ben), Order(ada)]
    store.save_many(orders)
    assert store.find(Order, customer=ada) == [orders[0], orders[2]]
    assert store.find(Order, customer=ada.persistent_id) == [orders[0], orders[2]]
    assert store.find(Order, customer=Customer("new")) == []
    assert store.find(Order, customer__in=[ben, None]) == [orders[1]]


def test_moments_are_in_order(store):
    moments = [datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=hours))) for hours in (-5, 0, 5)]
    orders = [Order(None, moment) for moment in moments]
    store.save_many(orders)
    assert store.find(Order, order_by="placed") == orders[::-1]
    assert store.find(Order, placed__lt=datetime(2026, 1, 1, tzinfo=UTC)) == [orders[2]]


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**10), max_value=10**10),
    st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**10), max_value=10**10),
)
def test_decimals_keep_their_order(first, second):
    from perdure.objects.instances.indexing import plain

    keys = sort_key(plain(first)), sort_key(plain(second))
    assert (first < second, first == second) == (keys[0] < keys[1], keys[0] == keys[1])


def test_an_index_is_named_by_names(store):
    class Wrong(Persistable):
        __indexed__ = ("not a name",)

    Wrong.__qualname__ = "Wrong"
    indexed.Wrong = Wrong
    Wrong.__module__ = "indexed"
    with pytest.raises(CannotIndex, match=r"Wrong.__indexed__ names 'not a name'"):
        store.save(Wrong())


# -- transactions ----------------------------------------------------------------------------------------------


def test_a_transaction_finds_its_own_work(store, jobs):
    with pytest.raises(KeyError), store.transaction():  # noqa: PT012 (what is asked inside must hold, too)
        jobs[1].state = "done"
        store.remove(jobs[3].persistent_id)
        new = Job("failed", 99)
        store.save(new)
        assert sizes(store.find(Job, state="failed", order_by="-size")) == [99, 10, 4]
        assert sizes(store.find(Job, state="failed", order_by="-size", limit=1, offset=1)) == [10]
        assert sizes(store.find(Job, state="done")) == [1, 2]
        assert (store.count(Job), store.count(Job, state="failed")) == (6, 3)
        assert sizes(store.find(Job, state="failed", order_by="size", limit=1, scan=True)) == [4]
        assert store.count(Job, scan=True) == 6
        raise KeyError
    assert sizes(store.find(Job, state="failed", order_by="-size")) == [10, 4, 3, 1]
    with store.transaction():
        jobs[1].state = "done"
    assert store.count(Job, state="done") == 2


def test_a_transaction_is_answered_as_of_its_snapshot(place):
    store, other = place.open(), place.open()
    ids = store.save_many([Job("new", size) for size in range(4)])
    with store.transaction():
        assert store.count(Job, state="new") == 4
        first, second = other.load(ids[0]), other.load(ids[1])
        first.state = second.state = "done"
        other.save_many([first, second, Job("new", 9)])
        other.remove(ids[2])
        assert sizes(store.find(Job, state="new")) == [0, 1, 2, 3]
        assert sizes(store.find(Job, state="new", order_by="-size", limit=2, offset=1)) == [2, 1]
        assert store.count(Job, state="done") == 0
        assert sizes(store.find(Job, size__gt=0, scan=True)) == [1, 2, 3]
        assert sizes(store.find(Job)) == [0, 1, 2, 3]
    assert sizes(store.find(Job, state="new")) == [3, 9]
    assert sizes(store.find(Job, state="done")) == [0, 1]


def test_an_unsaved_change_counts_once_it_is_saved(store, jobs):
    jobs[0].state = "done"
    assert store.count(Job, state="done") == 1
    store.save(jobs[0])
    assert store.count(Job, state="done") == 2


def test_a_conflict_leaves_no_trace_in_the_index(place):
    store, other = place.open(), place.open()
    job = Job("new")
    theirs = other.load(store.save(job))
    theirs.state = "theirs"
    other.save(theirs)
    job.state = "mine"
    with pytest.raises(ConflictError):
        store.save(job)
    assert (store.count(Job, state="mine"), store.count(Job, state="theirs")) == (0, 1)


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -0.5, math.inf]),
    st.sampled_from(["", "a", "ab"]),
)
steps = st.lists(
    st.tuples(st.sampled_from(["new", "wide", "change", "remove", "commit", "theirs"]), values, values), max_size=12
)
RANGES = {"lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}


def holds(value, operator, limit):
    """The same in plain Python: kinds apart, True and 1 alike."""
    rank = [isinstance(each, str) - (each is None) for each in (value, limit)]
    if operator in RANGES:
        return rank[0] == rank[1] and (
            operator in ("le", "ge") if value is None else getattr(float(value) if rank[0] == 0 else value,
            RANGES[operator])(float(limit) if rank[1] == 0 else limit)
        )  # fmt: skip
    if operator == "in":
        return holds(value, "eq", limit) or holds(value, "eq", "a")
    if operator == "startswith":
        return isinstance(value, str) and value.startswith(limit)
    return (rank[0] == rank[1] and value == limit) == (operator == "eq")


def in_order(value):
    return (value is not None) + isinstance(value, str), value or 0 if not isinstance(value, str) else value


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps, st.data())
def test_answers_are_those_of_a_list_comprehension(place, work, data):
    while len(place.opened) < 2:  # for all examples: each has connections to a server
        place.open()
    store, other = place.opened[:2]
    for old in store.list():
        store.remove(old)
    model = dict.fromkeys(store.save_many([Job("a", 1), WideJob(None, 2)]))
    live = {id_: store.load(id_) for id_ in model}

    def ask():
        operator = data.draw(st.sampled_from(["eq", "ne", "in", "startswith", *RANGES]))
        field = data.draw(st.sampled_from(["state", "size"]))
        limit = data.draw(st.sampled_from(["", "a"])) if operator == "startswith" else data.draw(values)
        chosen = [limit, "a"] if operator == "in" else limit
        order = data.draw(st.lists(st.sampled_from(["state", "-size"]), max_size=2, unique=True))
        cls = data.draw(st.sampled_from([Job, WideJob]))
        rows = [
            each for each in live.values() if isinstance(each, cls) and holds(getattr(each, field), operator, limit)
        ]
        rows.sort(key=lambda each: number_of(each.persistent_id))
        for name in reversed(order):
            rows.sort(key=lambda each: in_order(getattr(each, name.lstrip("-"))), reverse=name.startswith("-"))
        count, skip = data.draw(st.sampled_from([None, 1, 3])), data.draw(st.sampled_from([0, 1]))
        found = store.find(cls, **{f"{field}__{operator}": chosen}, order_by=order, limit=count, offset=skip)
        assert [each.persistent_id for each in found] == [
            each.persistent_id for each in rows[skip : None if count is None else skip + count]
        ]
        assert store.count(cls, **{f"{field}__{operator}": chosen}) == len(rows)

    with store.transaction():
        for step, state, size in work:
            if step in ("new", "wide"):
                job = Job(state, size) if step == "new" else WideJob(state, size or 0)
                live[store.save(job)] = job
            elif live and step in ("change", "remove"):
                id_ = data.draw(st.sampled_from(sorted(live)))
                if step == "change":
                    live[id_].state = state
                elif id_ in model:
                    store.remove(id_)
                    del live[id_]
            elif step == "theirs":
                other.save_many([Job(state, size), WideJob(state, 3)])
            ask()
    ask_after = store.find(Job)
    live.update((each.persistent_id, each) for each in ask_after)
    ask()


def test_a_savepoint_takes_its_part_of_the_answer_back(store, jobs):
    with store.transaction() as tx:
        jobs[0].state = "failed"
        point = tx.savepoint()
        jobs[2].state = "failed"
        store.save(Job("failed", 77))
        store.remove(jobs[1].persistent_id)
        assert sizes(store.find(Job, state="failed")) == [0, 2, 3, 4, 10, 77]
        point.rollback()
        assert sizes(store.find(Job, state="failed")) == [0, 1, 3, 4, 10]
    assert sizes(store.find(Job, state="failed")) == [0, 1, 3, 4, 10]


def test_the_past_is_asked_and_an_undo_is_seen(store, jobs):
    before = store.revision()
    jobs[0].state = "failed"
    store.save(jobs[0])
    store.remove(jobs[1].persistent_id)
    assert sizes(store.find(Job, state="failed")) == [0, 3, 4, 10]
    past = store.at(before)
    assert sizes(past.find(Job, state="failed", order_by="-size", limit=3)) == [10, 4, 3]
    assert past.count(Job, state="failed") == 4
    store.undo(store.revision())
    assert sizes(store.find(Job, state="failed")) == [0, 1, 3, 4, 10]
    store.undo(before + 1)
    assert sizes(store.find(Job, state="failed")) == [1, 3, 4, 10]


def test_what_was_merged_is_found_as_it_was_merged(place):
    store, other = place.open(), place.open()
    owner = Customer("Ada")
    counter = Counter(1, owner)
    theirs = other.load(store.save(counter))
    theirs.count = 11
    other.save(theirs)
    counter.count = 101
    store.save(counter)
    assert store.find(Counter, count=111, owner=owner) == [counter]
    assert (counter.count, store.count(Counter, count=101), other.count(Counter, owner=owner)) == (111, 0, 1)


def test_classes_of_zodb_can_have_an_index(store):
    ada = Guest("person")
    guests = [Guest("new", ada), Guest("new"), Guest("old", ada)]
    store.save_many(guests)
    assert store.find(Guest, owner=ada) == [guests[0], guests[2]]
    with store.transaction():
        guests[1].state = "old"
        store.save(Guest("old"))
        assert store.count(Guest, state="old") == 3
    assert store.count(Guest, state="old") == 3
    assert store.find(Guest, state="person") == [ada]
    assert store.reindex(Guest) == 0


def test_tasks_ask_in_views_of_their_own(store, jobs):
    async def main():
        async with store.transaction():
            (job,) = await store.afind(Job, state="failed", order_by="-size", limit=1)
            job.state = "done"
            return job.size, await store.acount(Job, state="done"), job is jobs[-1]

    assert asyncio.run(main()) == (10, 2, False)
    assert store.count(Job, state="done") == 2


# -- full stores ---------------------------------------------------------------------------------------------


@pytest.fixture
def without_index(monkeypatch):
    """Objects are saved as by a release of the program that had no index yet; the fixture's call gives it one."""
    from perdure.objects.instances.classes import facts_of

    facts = facts_of(Bare)

    def give():
        from perdure.objects.instances.indexing import taker

        monkeypatch.setattr(Bare, "__indexed__", ("name",), raising=False)
        monkeypatch.setattr(facts, "indexed", ("name",))
        monkeypatch.setattr(facts, "fields", taker(facts.name, ("name",)))

    return give


def test_a_class_that_is_not_wholly_indexed_gives_no_answer(store, without_index):
    ids = store.save_many([Bare("one"), Bare("two")])
    without_index()
    store.save(Bare("three"))
    with pytest.raises(NotIndexed, match=rf"Not every Bare.*{ids[0]}.*store.reindex\(Bare\).*scan=True") as caught:
        store.find(Bare, name="one")
    assert set(caught.value.ids) <= set(ids)
    assert [bare.name for bare in store.find(Bare, order_by="-name", scan=True)] == ["two", "three", "one"]
    told = []
    assert store.reindex(Bare, batch=1, progress=lambda done, of: told.append((done, of))) == 2
    assert told == [(1, 2), (2, 2)]
    assert [bare.name for bare in store.find(Bare, order_by="-name")] == ["two", "three", "one"]
    assert store.reindex(Bare) == 0


def test_what_a_program_with_an_older_class_writes_is_not_passed_over(place, without_index):
    from perdure.objects.instances.classes import facts_of

    store, facts = place.open(), facts_of(Bare)
    store.save_many([Bare("one"), Bare("two")])
    without_index()
    store.reindex(Bare)
    assert store.count(Bare, name="one") == 1
    take, facts.fields = facts.fields, None  # what is saved now tells no field, as from an older program
    old = place.open().save(Bare("one"))
    facts.fields = take
    for _ in range(2):
        with pytest.raises(NotIndexed) as caught:
            store.count(Bare, name="one")
        assert caught.value.ids == (old,)
        with pytest.raises(NotIndexed):
            store.find(Bare, name="one")
    assert store.reindex(Bare) == 1
    assert store.count(Bare, name="one") == 2
    assert len(store.find(Bare, name="one")) == 2


def test_what_is_known_of_an_index_is_not_asked_again_for_nothing(store, without_index, monkeypatch):
    without_index()
    store.save_many([Bare(f"name {number}") for number in range(20)])
    asked = []
    lacking = store.backend.lacking
    monkeypatch.setattr(store.backend, "lacking", lambda query: asked.append(query) or lacking(query))
    for number in range(3):
        assert store.count(Bare, name="name 3") == 1
        assert [bare.name for bare in store.find(Bare, name=f"name {number}")] == [f"name {number}"]
        store.save(Bare("another"))
    assert len(asked) == 1


@pytest.mark.parametrize(
    "asked",
    [
        *({"limit": value} for value in (1.5, "5", True, -1, [1])),
        *({"offset": value} for value in (1.0, None, False, -3)),
        *({"order_by": value} for value in (None, 3, [1], "-", "--name", "", ("name", ""))),
    ],
)
def test_what_is_no_limit_or_order_is_named(store, asked):
    store.save(Job("new"))
    with pytest.raises(InvalidArgument, match=next(iter(asked))):
        store.find(Job, **asked)


class Page(Persistable):
    __indexed__ = ("limit", "scan", "cls")

    def __init__(self, limit):
        self.limit, self.scan, self.cls = limit, True, "page"


def test_fields_that_are_called_as_arguments_are(store):
    pages = [Page(3), Page(4)]
    store.save_many(pages)
    assert store.find(Page, limit__eq=3, scan__eq=True, cls__eq="page", limit=1) == pages[:1]


def test_a_limit_beyond_all_numbers(store):
    store.save_many([Job("new"), Job("new")])
    assert len(store.find(Job, state="new", limit=2**70)) == 2
    assert store.find(Job, state="new", offset=2**70) == []
    assert store.find(Job, state="new", offset=2**70, limit=2**70) == []


def test_reindex_beside_writers(place, without_index):
    store, other = place.open(), place.open()
    ids = store.save_many([Bare(f"old {number}") for number in range(60)])
    without_index()
    errors = []

    def write():
        try:
            for id_ in ids[::3]:
                other.load(id_).name = "new"
                other.save(other.load(id_))
            for id_ in ids[1::10]:
                other.remove(id_)
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    def patient(work):
        while True:
            try:
                return work()
            except ConflictError:
                continue

    writer = threading.Thread(target=lambda: patient(write))
    writer.start()
    store.reindex(Bare, batch=7)
    writer.join()
    store.reindex(Bare)
    assert [error for error in errors if not isinstance(error, (ConflictError, perdure.NotFound))] == []
    found = place.open()
    assert found.count(Bare, name="new") == len([each for each in found.find(Bare) if each.name == "new"])
    assert found.count(Bare, name__startswith="") == len(found.list())


def test_reindex_makes_commits_of_its_own(store):
    with store.transaction(), pytest.raises(TransactionError, match="commits of its own"):
        store.reindex(Bare)


def test_check_compares_the_index_with_the_headers(place, jobs):
    if place.kind in ("memory", "directory"):
        assert place.open().backend.indexes() == {}
        return
    store = place.open()
    first = store.list()[0]
    number = number_of(first)
    table = {"sqlite": "indexed"}.get(place.kind) or f"{store.table_name}_fields"
    assert sorted(store.backend.indexes()["indexed:Job"]) == ["size", "state"]
    assert check(store) == []
    store.close()
    place.is_whole = False
    harm(place, f"DELETE FROM {table} WHERE number = {number}")
    with perdure.make_store(place.url) as store:
        told = [(problem.id, problem.what) for problem in check(store)]
        assert (first, "is missing in the index of 'state' of indexed:Job") in told
        assert len(told) == 2
        with pytest.raises(NotIndexed, match=first):
            store.count(Job, state="new")
        assert store.reindex(Job) == 1
        assert check(store) == []


def harm(place, sql):
    if place.kind == "sqlite":
        with sqlite3.connect(place.folder / "objects.db") as connection:
            connection.execute(sql)
        connection.close()
    else:
        servers.execute(place.kind, sql)


def test_the_index_is_what_the_headers_tell(store, jobs):
    jobs[0].state = "changed"
    store.save(jobs[0])
    for id_, frame in store.backend.read(store.list()).items():
        fields = parse_unverified(frame).fields
        assert {**fields, "area": 30 if "area" in fields else None} == {
            "state": store.load(id_).state, "size": store.load(id_).size, "area": 30 if "area" in fields else None,
        }  # fmt: skip
