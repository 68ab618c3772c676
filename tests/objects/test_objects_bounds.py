"""Notes, limits, revisions, times: what is taken and what is refused is the same on every store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from places import Place

from perdure import InvalidArgument, NotFound, Persistable, Store, make_store
from perdure.clock import FixedClock

HUGE = 10**30


class Item(Persistable):
    def __init__(self, value: Any):
        self.value = value


@pytest.mark.parametrize("note", ["\ud800", "a\0b", 7, None, b"x"])
def test_a_note_that_not_every_store_can_keep_is_refused(place: Place, note: Any) -> None:
    store = place.open()
    item = Item(0)
    store.save(item)
    with pytest.raises(InvalidArgument) as caught, store.transaction(note=note):
        item.value = 1
    assert caught.value.hint
    with pytest.raises(InvalidArgument):
        store.undo(1, note=note)
    transaction = store.transaction()
    with pytest.raises(InvalidArgument), transaction:
        item.value, transaction.note = 2, note
    assert store.backend.revision() == 1
    for sound in ("größe ☀ 😀", "two\nlines", "x" * 100_000):
        with store.transaction(note=sound):
            item.value = sound[:10]
        assert store.transactions(1)[0].note == sound


def test_limits_and_revisions(place: Place) -> None:
    store = place.open()
    item = Item(0)
    id_ = store.save(item)
    for value in range(1, 4):
        item.value = value
        store.save(item)
    for listed in (store.transactions, lambda limit=None, **rest: store.history(id_, limit, **rest)):
        assert [each.revision for each in listed()] == [4, 3, 2, 1]
        assert len(listed(HUGE)) == len(listed(before=HUGE)) == len(listed(HUGE, before=HUGE)) == 4
        assert len(listed(2**63)) == len(listed(before=2**63)) == 4
        assert listed(0) == listed(before=1) == listed(before=0) == listed(before=-1) == listed(before=-HUGE) == []
        assert [each.revision for each in listed(2, before=4)] == [3, 2]
        for wrong in ({"limit": -1}, {"limit": "2"}, {"limit": True}, {"limit": 1.5}, {"before": "2"}):
            with pytest.raises(InvalidArgument) as caught:
                listed(**wrong)
            assert caught.value.hint
    for wrong in (HUGE, 2**63, 5):
        with pytest.raises(NotFound):
            store.undo(wrong)
        with pytest.raises(NotFound):
            store.at(wrong)
    for wrong in (-1, -HUGE):
        with pytest.raises(NotFound):
            store.undo(wrong)
        with pytest.raises(InvalidArgument):
            store.at(wrong)


def test_the_ends_of_time(place: Place) -> None:
    store = place.open()
    id_ = store.save(Item(1))
    assert store.at(datetime.min).list() == []
    assert store.at(datetime.max).list() == [id_]
    for keep in (datetime.min, timedelta.max, HUGE):
        assert store.pack(keep=keep).versions == 0
    for wrong in (0, -1, timedelta(-1), "1", True):
        with pytest.raises(InvalidArgument):
            store.pack(keep=wrong)
    assert store.pack(keep=datetime.max).oldest == 1


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf"), "now", None])
def test_a_clock_that_tells_no_time_is_named(place: Place, time: Any) -> None:
    clock = FixedClock(1000.0)
    store = place.open(clock=clock)
    id_ = store.save(Item(1))
    clock.seconds = time
    calls = (
        lambda: store.save(Item(2)),
        lambda: store.remove(id_),
        lambda: store.undo(1),
        lambda: store.pack(timedelta(1)),
    )
    for call in calls:
        with pytest.raises(InvalidArgument, match="clock says"):
            call()
    clock.seconds = 2000.0
    assert store.list() == [id_]
    store.save(Item(3))
    assert [commit.time for commit in store.transactions()] == [2000.0, 1000.0]


WRONG: dict[str, Callable[[Store, str], Any]] = {
    "prefetch of a number": lambda store, id_: store.load(id_, prefetch=5),
    "prefetch of numbers": lambda store, id_: store.load_many([id_], prefetch=[5]),
    "trust": lambda store, id_: store.load(id_, trust="some"),
    "missing": lambda store, id_: store.load(id_, missing="some"),
    "run of no function": lambda store, id_: store.run(id_),
    "retries that are no number": lambda store, _: store.run(list, retries="x"),
    "retries below none": lambda store, _: store.run(list, retries=-1),
    "root": lambda store, id_: store.roots.__setitem__(5, id_),
    "iterate": lambda store, _: list(store.iterate(5)),
    "batch": lambda store, _: list(store.iterate(Item, batch=0)),
    "cache_size": lambda store, _: make_store("memory:", cache_size="x"),
    "no cache": lambda store, _: make_store("memory:", cache_size=0),
    "history": lambda store, _: make_store("memory:", history="maybe"),
    "code": lambda store, _: make_store("memory:", code="maybe"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_a_call_does_not_take_is_named(wrong: Callable[[Store, str], Any]) -> None:
    store = make_store("memory:")
    id_ = store.save(Item(1))
    with pytest.raises(InvalidArgument) as caught:
        wrong(store, id_)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError)
    assert caught.value.hint


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="not float"):
        make_store(tmp_path / "store", key=2.5)
