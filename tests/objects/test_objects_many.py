"""Many objects at a time: saved, with a failure at the end; gone through by class; loaded with what they refer to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import Holder

from perdure import CannotPickle, ClassNotFound, NoSuchPath, NotFound, Persistable, make_store
from perdure.errors import StorageError
from perdure.objects.instances.persistable import AWAKE, DOZING, GHOST, entry_of
from perdure.objects.iterating import BATCH
from perdure.objects.views.memory import MANY


class Item(Persistable):
    def __init__(self, number):
        self.number, self.log = number, []


@pytest.fixture
def broken(monkeypatch):
    """Makes a store's commits fail at the last moment."""

    def fail(*given):
        raise StorageError("the disk is gone")

    def break_(store):
        monkeypatch.setattr(store.backend, "apply", fail)
        return store

    yield break_
    monkeypatch.undo()


def test_what_a_failed_save_has_looked_at_is_new_and_ordinary_again(place, broken, monkeypatch):
    store = place.open()
    items = [Item(number) for number in range(30)]
    holder = Holder(items)
    broken(store)
    with pytest.raises(StorageError):
        store.save_many([*items, holder])
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    monkeypatch.undo()
    items[3].log.append("later")
    ids = store.save_many(items)
    assert [place.open().load(ids[3]).log, len(store)] == [["later"], 30]


def test_what_a_failed_transaction_has_saved_is_new_and_ordinary_again(place, broken, monkeypatch):
    store = place.open()
    items = [Item(number) for number in range(30)]
    broken(store)
    with pytest.raises(StorageError), store.transaction():
        store.save_many(items)
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    monkeypatch.undo()
    store.save_many(items)
    assert all(entry_of(item).state == DOZING for item in items)
    assert len(place.open()) == 30


def test_one_that_cannot_be_pickled_among_many_leaves_all_new(place):
    store = place.open()
    items = [Item(number) for number in range(30)]
    items[29].log.append(Holder(lambda: None))
    with pytest.raises(CannotPickle) as caught:
        store.save_many(items)
    assert "target" in caught.value.path
    assert all(type(item) is Item and entry_of(item) is None for item in items)
    items[29].log.clear()
    assert len(store.save_many(items)) == len(store) == 30


def test_the_path_to_what_cannot_be_pickled_goes_through_what_was_already_looked_at(place):
    store = place.open()
    inner = Item(2)
    inner.log.append(Holder(lambda: None))
    outer = Item(1)
    outer.next = inner
    with pytest.raises(CannotPickle) as caught:
        store.save(outer)
    assert ".next.log[0].target" in caught.value.path


# -- going through all ----------------------------------------------------------------------------------------


class Special(Item):
    pass


def test_going_through_all_of_a_class_and_its_subclasses_in_order(place):
    store = place.open()
    things = [Item(0), Special(1), Holder("other"), Item(2), Special(3)]
    store.save_many(things)
    plain = store.save(["a", "plain", "value"])
    store = place.open()
    assert [one.number for one in store.iterate(Item, batch=2)] == [0, 1, 2, 3]
    assert [one.number for one in store.iterate(Special)] == [1, 3]
    everything = list(store.iterate())
    assert [type(one).__name__ for one in everything] == ["Item", "Special", "Holder", "Item", "Special", "list"]
    assert everything[0] is store.load(store.list()[0])
    assert everything[-1] == store.load(plain)


def test_going_through_an_empty_store_and_wrong_arguments(place):
    store = place.open()
    assert list(store.iterate()) == list(store.iterate(Item)) == []
    for wrong in (dict, Item(1)):
        with pytest.raises(TypeError):
            store.iterate(wrong)
    with pytest.raises(ClassNotFound, match="Item"):
        store.iterate("Item")
    with pytest.raises(ValueError, match="batch"):
        store.iterate(Item, batch=0)


def test_what_is_changed_while_going_through_is_kept_and_saved(place):
    store = place.open()
    ids = store.save_many([Item(number) for number in range(100)])
    store = place.open()
    with store.transaction():
        for item in store.iterate(Item, batch=7):
            if item.number % 10 == 0:
                item.log.append("seen")
    assert [len(item.log) for item in place.open().load_many(ids)] == [1, *[0] * 9] * 10


def test_in_a_transaction_all_are_seen_as_they_were_whatever_others_commit(place):
    writer = place.open()
    items = [Item(number) for number in range(60)]
    ids = writer.save_many(items)
    reader = place.open()
    with reader.transaction():
        seen = []
        for item in reader.iterate(Item, batch=10):
            if len(seen) == 15:
                items[40].number = -1
                writer.save(items[40])
                writer.remove(ids[50])
                writer.save(Item(60))
            seen.append(item.number)
        assert seen == list(range(60))
    assert [item.number for item in reader.iterate(Item)] == [*range(40), -1, *range(41, 50), *range(51, 61)]


def test_outside_of_a_transaction_each_batch_is_the_newest(place):
    writer = place.open()
    items = [Item(number) for number in range(60)]
    writer.save_many(items)
    reader = place.open()
    seen = []
    for item in reader.iterate(Item, batch=10):
        if len(seen) == 15:
            items[40].number = -1
            writer.save(items[40])
        seen.append(item.number)
    assert seen == [*range(40), -1, *range(41, 60)]


def test_what_the_transaction_has_removed_is_left_out(place):
    store = place.open()
    ids = store.save_many([Item(number) for number in range(5)])
    with store.transaction():
        store.remove(ids[2])
        assert [item.number for item in store.iterate(Item)] == [0, 1, 3, 4]


WALK = """
import sys
from pathlib import Path
import perdure
sys.path.insert(0, sys.argv[2])
from test_objects_many import Item

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

with perdure.make_store(sys.argv[1]) as store:
    first = next(store.iterate(Item))
    before = peak()
    assert sum(item.number for item in store.iterate(Item)) == sum(range(100_000))
    view = store.desk().view
    print(peak() - before, len(view.by_id), len(view.enlisted))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how much memory was used is read from /proc")
def test_memory_stays_flat_over_a_hundred_thousand(tmp_path):
    url = f"sqlite:////{(tmp_path / 'many.db').as_posix().lstrip('/')}"
    with make_store(url) as store:
        for start in range(0, 100_000, 10_000):
            store.save_many([Item(number) for number in range(start, start + 10_000)])
    command = [sys.executable, "-c", WALK, url, str(Path(__file__).parent)]
    kibibytes, known, enlisted = map(int, subprocess.check_output(command, text=True).split())
    assert kibibytes < 40 * 1024  # all of them take more than 60 MiB
    assert known <= 2 * BATCH
    assert enlisted <= 1


# -- what stays in memory -------------------------------------------------------------------------------------


def states_in_memory(store):
    return sum(entry.state in (DOZING, AWAKE) for entry in store.desk().view.by_id.values())


def test_states_of_what_is_held_go_beyond_the_cache_and_come_back_when_touched(place):
    ids = place.open().save_many([Item(number) for number in range(1500)])
    store = place.open(cache_size=300)
    held = [store.load(id_) for id_ in ids]
    assert [item.number for item in held] == list(range(1500))
    assert states_in_memory(store) < 600
    assert [item.number for item in held] == list(range(1500))
    assert all(store.load(id_) is item for id_, item in zip(ids, held, strict=True))


def test_what_is_only_walked_through_does_not_stay(place):
    class_size = 3000
    store = place.open()
    last = None
    for number in range(class_size):
        link = Item(number)
        link.next, last = last, link
    id_ = store.save(last)
    store = place.open(cache_size=200)
    at, count = store.load(id_), 0
    while at is not None:
        at, count = at.next, count + 1
    assert count == class_size
    assert len(store.desk().view.enlisted) <= 600


def test_changes_stay_however_small_the_cache_is(place):
    ids = place.open().save_many([Item(number) for number in range(1500)])
    store = place.open(cache_size=10)
    for item in map(store.load, ids):
        item.log.append("changed")
    with store.transaction():
        pass
    assert all(item.log == ["changed"] for item in place.open().load_many(ids))


@pytest.mark.parametrize("size", [2, 3, 10, 100])
def test_a_touch_wakes_what_was_loaded_again_and_again(place, size):
    other, store = place.open(), place.open(cache_size=size)
    ids = other.save_many([Item(number) for number in range(size)])
    counter, *rest = store.load_many(ids)
    for _ in range(3 * size):
        with other.transaction():
            other.load(ids[0]).number += 1
        assert store.load(ids[0]).number == other.load(ids[0]).number
    with store.transaction():
        for item in rest:
            item.number += 1  # changed: they stay in memory
        assert counter.number == 3 * size
        counter.number = -1
    assert place.open().load(ids[0]).number == -1


def test_a_part_that_somebody_holds_keeps_its_object_watched(place):
    first = Item(0)
    first.table = {"deep": ({"deeper": [1, 2]},)}
    store = place.open()
    id_ = store.save(first)
    others = store.save_many([Item(number) for number in range(1, 2000)])
    store = place.open(cache_size=50)
    deeper = store.load(id_).table["deep"][0]["deeper"]
    assert sum(store.load(other).number for other in others) == sum(range(2000))
    deeper.append(3)
    with store.transaction():
        pass
    assert place.open().load(id_).table["deep"][0]["deeper"] == [1, 2, 3]


@pytest.mark.parametrize("size", [0, -1])
def test_a_cache_of_no_size(size):
    with pytest.raises(ValueError, match="cache_size"):
        make_store("memory:", cache_size=size)


class Touchy(Persistable):
    """Its state method fails when it is asked at the wrong time."""

    armed = False

    def __getstate__(self):
        if Touchy.armed:
            raise ZeroDivisionError
        return {"a": 1}


def test_a_state_method_that_fails_fails_no_load_of_others(place, monkeypatch):
    ids = place.open().save_many([Touchy(), *(Item(number) for number in range(500))])
    store = place.open(cache_size=20)
    assert store.load(ids[0]).a == 1
    monkeypatch.setattr(Touchy, "armed", True)
    assert [store.load(id_).number for id_ in ids[1:]] == list(range(500))


# -- prefetch -------------------------------------------------------------------------------------------------


def shop():
    owners = [Holder(number) for number in range(3)]
    items = [Item(number) for number in range(20)]
    for number, item in enumerate(items):
        item.owner = owners[number % 3]
    return items


def ghosts_among(objects):
    return sum(entry_of(obj).state == GHOST for obj in objects)


def attributes(obj):
    return object.__getattribute__(obj, "__dict__")


@pytest.mark.parametrize(
    "shape", [list, tuple, lambda items: {"by": {i.number: i for i in items}}, lambda items: [[i] for i in items]]
)
def test_a_path_is_read_step_by_step(place, shape, monkeypatch):
    id_ = place.open().save(Holder(shape(shop())))
    store = place.open()
    reads = []
    read = store.backend.read
    monkeypatch.setattr(store.backend, "read", lambda *given: reads.append(given) or read(*given))
    shelf = store.load(id_, prefetch="target.owner")
    steps = 3 if place.kind == "sqlite" else 5  # the others read records to tell their classes, too
    assert len(reads) <= steps
    view = store.desk().view
    loaded = [entry() for entry in list(view.by_id.values())]
    assert len(loaded) == 24
    assert ghosts_among(loaded) == 0
    assert len(reads) <= steps
    assert shelf is store.load(id_)


def test_several_paths_and_many_objects(place):
    items = shop()
    ids = place.open().save_many([Holder(items[:5]), Holder(items[5:]), *items])
    store = place.open()
    first, second = store.load_many(ids[:2], prefetch=["target", "target.owner"])
    assert ghosts_among(attributes(first)["target"] + attributes(second)["target"]) == 0
    assert ghosts_among([attributes(item)["owner"] for item in attributes(second)["target"]]) == 0
    by_class = place.open()
    for item in by_class.iterate(Item, prefetch="owner"):
        assert entry_of(attributes(item)["owner"]).state != GHOST


def test_a_path_that_leads_nowhere_is_named(place):
    id_ = place.open().save(Holder(shop()))
    store = place.open()
    for path in ("nothing", "target.nothing", "target.number", "target.owner.target.more", ".", "target..owner"):
        with pytest.raises(NoSuchPath, match="leads nowhere") as caught:
            store.load(id_, prefetch=path)
        assert caught.value.path == path
    assert store.load(place.open().save(Holder([])), prefetch="target.whatever").target == []
    assert store.load(place.open().save(Holder(None)), prefetch="target.whatever").target is None


def test_a_circle_and_an_object_that_is_gone(place):
    one, two = Holder(None), Holder(None)
    one.target, two.target = two, one
    id_ = place.open().save(one)
    loaded = place.open().load(id_, prefetch="target.target.target")
    assert loaded.target.target is loaded


def test_more_than_are_read_at_once_come_in_the_order_that_was_asked_for(place):
    store = place.open()
    ids = store.save_many([Item(number) for number in range(2 * MANY + 5)])
    asked = [*reversed(ids), ids[7]]
    found = place.open().load_many(asked)
    assert [item.number for item in found] == [*reversed(range(len(ids))), 7]
    assert found[-1] is found[len(ids) - 8]
    store.remove(ids[2])
    store.remove(ids[-3])
    with pytest.raises(NotFound) as caught:
        place.open().load_many(asked)
    assert list(caught.value.ids) == [ids[-3], ids[2]]


def test_those_that_are_read_later_may_be_referred_to_by_the_first_ones(place):
    store = place.open()
    items = [Item(number) for number in range(MANY + 20)]
    for item, other in zip(items, reversed(items), strict=True):
        item.log.append(other)
    ids = store.save_many(items)
    found = place.open().load_many(ids)
    assert [item.log[0].number for item in found] == [*reversed(range(len(ids)))]
    assert all(item.log[0] is other for item, other in zip(found, reversed(found), strict=True))
    ghosts = Holder([*items])
    holder = store.save(ghosts)
    loaded = place.open().load(holder, prefetch="target")
    assert {entry_of(item).state for item in loaded.target} == {DOZING}
