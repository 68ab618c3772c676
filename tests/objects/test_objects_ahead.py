"""Records that are read ahead: nobody sees that they were, but by the clock."""

from __future__ import annotations

import random

import pytest
from places import Holder

from perdure import NotFound, Persistable
from perdure.backends.base import SMALL
from perdure.objects.views.ahead import ENOUGH, MOST


class Item(Persistable):
    def __init__(self, number, text=""):
        self.number, self.text = number, text


@pytest.fixture
def reads(monkeypatch):
    """How many times each way of reading was used."""
    counted = {"read": 0, "read_run": 0}

    def count(backend):
        for name in counted:
            method = getattr(backend, name)

            def counting(*given, name=name, method=method):
                counted[name] += 1
                return method(*given)

            monkeypatch.setattr(backend, name, counting)
        return counted

    return count


def test_one_after_the_other_by_id_takes_few_reads(place, reads):
    ids = place.open().save_many([Item(n) for n in range(2000)])
    store = place.open()
    counted = reads(store.backend)
    assert [store.load(id_).number for id_ in ids] == list(range(2000))
    if place.kind in ("sqlite", "postgresql"):
        assert counted["read"] + counted["read_run"] < 20


def test_one_after_the_other_by_touching_takes_few_reads(place, reads):
    store = place.open()
    id_ = store.save(Holder([Item(n) for n in range(2000)]))
    store = place.open()
    items = store.load(id_).target
    counted = reads(store.backend)
    assert [item.number for item in items] == list(range(2000))
    if place.kind in ("sqlite", "postgresql"):
        assert counted["read"] + counted["read_run"] < 20


def test_what_others_change_meanwhile_is_seen_outside_of_a_transaction_and_not_inside(place):
    writer = place.open()
    items = [Item(n) for n in range(300)]
    ids = writer.save_many(items)
    reader = place.open()
    for id_ in ids[:50]:
        reader.load(id_)
    items[200].text = items[299].text = "changed"
    writer.save_many(items)
    writer.remove(ids[250])
    assert [reader.load(id_).text for id_ in ids[190:210]] == [""] * 10 + ["changed"] + [""] * 9
    with pytest.raises(NotFound):
        reader.load(ids[250])
    inside = place.open()
    with inside.transaction():
        for id_ in ids[:100]:
            inside.load(id_)
        items[150].text = "later"
        writer.save(items[150])
        assert inside.load(ids[150]).text == ""
        assert inside.load(ids[299]).text == "changed"
    assert inside.load(ids[150]).text == "later"


def test_a_replaced_one_is_read_anew(place):
    ids = place.open().save_many([Item(n) for n in range(100)])
    store = place.open()
    for id_ in ids[:20]:
        store.load(id_)
    store.replace(ids[40], Item(-1))
    assert [store.load(id_).number for id_ in ids[38:43]] == [38, 39, -1, 41, 42]


def test_large_records_are_not_held_by_the_hundred(place):
    store = place.open()
    ids = store.save_many([Item(n, "x" * (ENOUGH // 4)) for n in range(40)])
    store = place.open()
    waiting = []
    for id_ in ids:
        store.load(id_)
        waiting.append(sum(map(len, store.desk().view._ahead._frames.values())))
    assert max(waiting) < 3 * ENOUGH
    assert MOST * (ENOUGH // 4) > 3 * ENOUGH  # else this would show nothing


def test_large_records_after_small_ones_are_not_read_by_the_hundred(place, monkeypatch):
    """How many are read at once is reckoned from what was read before, which need not be like what comes."""
    chance = random.Random(1)
    many = [chance.random() for n in range(20_000)]  # in none of them is a large piece, which is kept apart
    ids = place.open().save_many([Item(n) for n in range(200)] + [Item(n, [*many]) for n in range(200, 230)])
    store = place.open()
    usual, sizes = store.backend.read_run, []

    def noting(*given):
        found = usual(*given)
        sizes.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr(store.backend, "read_run", noting)
    assert [store.load(id_).number for id_ in ids] == list(range(230))
    assert max(sizes, default=0) < ENOUGH
    assert MOST * SMALL <= 16 * ENOUGH
