"""Packing: what is kept, what goes, and who sees it; stores without history."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from chances import dice, more
from places import Place

from perdure import ConflictError, Persistable, SnapshotTooOld, Store, make_store
from perdure.objects.remembering import RECENT


class Count(Persistable):
    def __init__(self, value: int):
        self.value = value


class Ticking:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def store(place: Place, clock: Ticking) -> Store:
    """Count.1 with the values 1 to 5, at revisions 1 to 5, ten seconds between them."""
    store = place.open(clock=clock, code="off")
    count = Count(1)
    store.save(count)
    for value in range(2, 6):
        clock.time += 10
        count.value = value
        store.save(count)
    return store


def kept(store: Store) -> list[int]:
    return [version.revision for version in store.history("Count.1")]


@pytest.mark.parametrize(
    ("keep", "oldest"),
    [
        (1, 5), (3, 3), (5, 1), (6, 0), (100, 0),
        (timedelta(0), 5), (timedelta(seconds=10), 4), (timedelta(seconds=15), 3), (timedelta(days=1), 0),
        (datetime.fromtimestamp(1020, UTC), 3), (datetime.fromtimestamp(1019, UTC), 2),
        (datetime.fromtimestamp(1, UTC), 0), (datetime.fromtimestamp(9999, UTC), 5),
    ],
)  # fmt: skip
def test_what_is_kept(store: Store, keep: timedelta | int | datetime, oldest: int) -> None:
    packed = store.pack(keep=keep)
    assert (packed.oldest, packed.versions, packed.pieces) == (oldest, max(oldest - 1, 0), 0)
    assert kept(store) == list(range(5, max(oldest, 1) - 1, -1))
    if oldest:
        assert store.at(oldest).load("Count.1").value == oldest
    assert store.load("Count.1").value == 5
    assert store.pack(keep=100) == (oldest, 0, 0, packed.bytes if packed.bytes is None else 0)


def test_a_clock_that_is_behind_forgets_nothing_young(place: Place, clock: Ticking) -> None:
    store = place.open(clock=clock, code="off")
    clock.time = 1.8e9
    count = Count(0)
    id_ = store.save(count)
    clock.time += 10
    count.value = 1
    store.save(count)
    now, clock.time = clock.time, 5.0  # a machine that believes that it is 1970
    store.save(Count(9))
    clock.time = now + 10
    count.value = 2
    store.save(count)
    assert store.pack(keep=timedelta(days=30)).oldest == 0
    assert store.pack(keep=datetime.fromtimestamp(now - 15, UTC)).oldest == 0
    assert [version.revision for version in store.history(id_)] == [4, 2, 1]
    clock.time += timedelta(days=31).total_seconds()
    assert store.pack(keep=timedelta(days=30)).oldest == 4
    assert store.at(4).load(id_).value == 2


def test_what_cannot_be_kept(store: Store) -> None:
    for wrong, error in [(0, ValueError), (-3, ValueError), (timedelta(-1), ValueError), ("1d", TypeError),
                         (True, TypeError), (1.5, TypeError)]:  # fmt: skip
        with pytest.raises(error):
            store.pack(keep=wrong)  # type: ignore[arg-type]
    assert kept(store) == [5, 4, 3, 2, 1]


def test_space_is_told(place: Place, store: Store) -> None:
    id_ = store.save(random.Random(1).randbytes(1_000_000))
    store.replace(id_, "y")
    freed = store.pack().bytes
    if place.kind == "memory" or place.is_on_server:  # a server does not tell it
        assert freed is None
    else:
        assert freed is not None
        assert freed > 900_000


def test_what_a_running_transaction_sees_is_kept(place: Place, store: Store, clock: Ticking) -> None:
    began, over = threading.Event(), threading.Event()
    found: list[int] = []

    def look() -> None:
        with store.transaction():
            began.set()
            assert over.wait(60)
            found.append(store.load("Count.1").value)

    thread = threading.Thread(target=look)
    thread.start()
    assert began.wait(60)
    count = store.load("Count.1")
    for value in (6, 7):
        count.value = value
        store.save(count)
    assert store.pack().oldest == 5
    other = place.open(clock=clock, code="off")  # another store object of the same process knows of it as well
    assert other.pack().oldest == 5
    over.set()
    thread.join()
    assert found == [5]
    assert other.pack().oldest == 7


def test_a_transaction_that_packing_does_not_know_of_is_told(place: Place, store: Store, clock: Ticking) -> None:
    other = place.open(clock=clock, code="off")
    with other.transaction():
        store.save(Count(9))
        count = store.load("Count.1")
        count.value = 6
        store.save(count)
        store.backend.pack(store.revision())  # as another process would
        with pytest.raises(SnapshotTooOld) as caught:
            other.load("Count.1")
        assert caught.value.retryable
    assert other.run(lambda: other.load("Count.1").value) == 6


def test_a_view_outside_of_transactions_goes_on(place: Place, store: Store, clock: Ticking) -> None:
    other = place.open(clock=clock, code="off")
    theirs = other.load("Count.1")
    other.invalidate_cache()  # a ghost of revision 5
    count = store.load("Count.1")
    count.value = 6
    store.save(count)
    store.backend.pack(6)
    assert theirs.value == 6


def test_packing_inside_a_transaction_keeps_what_that_sees(store: Store) -> None:
    with store.transaction():
        assert store.pack().oldest == 5
        store.load("Count.1").value = 6
    assert kept(store) == [6, 5]


def test_large_pieces_go_with_the_last_version_that_names_them(store: Store) -> None:
    id_ = store.save(b"x" * 300_000)
    other = store.save([b"x" * 300_000])
    store.replace(id_, b"y" * 300_000)
    assert len(store.backend.buffers()) == 2
    assert store.pack().pieces == 0
    store.replace(other, "short")
    store.replace(id_, "short")
    assert store.pack(keep=3).pieces == 0
    assert store.pack(keep=2).pieces == 1
    assert store.pack().pieces == 1
    assert store.backend.buffers() == {}


# -- without history -------------------------------------------------------------------------------------


def test_without_history_what_is_replaced_goes_after_a_while(place: Place, clock: Ticking) -> None:
    store = place.open(clock=clock, code="off", history="off")
    count = Count(0)
    store.save(count)
    for value in range(1, 10):
        clock.time += RECENT / 2
        count.value = value
        store.save(count)
    assert store.load("Count.1").value == 9
    assert kept(store) == [10, 9, 8, 7]
    store.remove("Count.1")
    for _ in range(4):
        clock.time += RECENT
        store.save(Count(0))
    assert [version.removed for version in store.history("Count.1")] == [True]
    with pytest.raises(SnapshotTooOld):
        store.at(3)


def test_without_history_a_short_transaction_sees_one_state(place: Place, clock: Ticking) -> None:
    store = place.open(clock=clock, code="off", history="off")
    count = Count(0)
    store.save(count)
    other = place.open(clock=clock, code="off", history="off")
    with other.transaction():
        for value in range(1, 5):
            clock.time += RECENT / 10
            count.value = value
            store.save(count)
        assert other.load("Count.1").value == 0
    with other.transaction():
        for value in range(1, 5):
            clock.time += RECENT
            count.value = value + 10
            store.save(count)
        with pytest.raises(SnapshotTooOld):
            other.load("Count.1")
    assert other.load("Count.1").value == 14


@pytest.mark.parametrize("round_", range(more(4)))
def test_who_has_the_store_open_sees_all_commits_between_packs(place: Place, clock: Ticking, round_: int) -> None:
    """A log that was packed and grew again begins as the one before it, and may be longer."""
    rolled = dice("packs", round_)
    stores = [place.open(clock=clock, code="off") for _ in range(3)]
    ids = stores[0].save_many([Count(0), Count(0)])
    values = dict.fromkeys(ids, 0)
    for _ in range(40):
        store = rolled.choice(stores)
        if rolled.random() < 0.3:
            store.pack(keep=rolled.choice([1, 2, 3]))
            continue
        id_ = rolled.choice(ids)
        values[id_] += 1
        store.load(id_).value += 1
        store.save(store.load(id_))
        told = rolled.choice(stores)  # not all: some have missed several packs
        assert {id_: told.load(id_).value for id_ in ids} == values
        assert told.revision() == store.revision()
    assert place.open(code="off").load(ids[0]).value == values[ids[0]]


def test_two_packs_while_another_one_has_the_store_open(place: Place) -> None:
    store, other = place.open(code="off"), place.open(code="off")
    id_, second = store.save_many([Count(0), Count(0)])
    for keep in (1, 2, 3):
        count = store.load(id_)
        count.value = keep
        store.save(count)
        assert other.load(id_).value == keep
        store.pack(keep=keep)
    count.value = 4
    store.save(count)
    theirs = other.load(second)
    theirs.value = 5
    other.save(theirs)
    for each in (store, other, place.open(code="off")):
        assert [each.load(id_).value, each.load(second).value, each.revision()] == [4, 5, 6]


def test_without_history_conflicts_are_found_all_the_same(place: Place, clock: Ticking) -> None:
    store = place.open(clock=clock, code="off", history="off")
    count = Count(0)
    store.save(count)
    other = place.open(clock=clock, code="off", history="off")
    theirs = other.load("Count.1")
    theirs.value = -1
    for value in range(1, 4):
        clock.time += 2 * RECENT
        count.value = value
        store.save(count)
    with pytest.raises(ConflictError):
        other.save(theirs)
    assert theirs.value == 3


@pytest.mark.parametrize("kind", ["sqlite", "directory"])
def test_without_history_a_store_does_not_grow(tmp_path: Path, kind: str, clock: Ticking) -> None:
    url = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else str(tmp_path / "s")
    with make_store(url, history="off", clock=clock, code="off") as store:
        text = {"text": "x" * 20_000}
        id_ = store.save(text)
        for number in range(100):
            clock.time += RECENT
            store.replace(id_, {"text": str(number) * 10_000})
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 400_000
