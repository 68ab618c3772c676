"""Saving what others have removed meanwhile: it is told, whether there is anything to write or not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from places import Holder, Place

from perdure import ConflictError, NotFound, Persistable, Store
from perdure.objects.instances.persistable import GHOST, entry_of


class Job(Persistable):
    def __init__(self, number: int):
        self.number = number


def beside(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_one(store: Store, *objects: Persistable) -> None:
    with store.transaction():
        for obj in objects:
            store.save(obj)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open(code="off")


@pytest.fixture(params=["remove", "forget"])
def gone(request: pytest.FixtureRequest, place: Place) -> Callable[[str], None]:
    """Another program removes an object."""
    other = place.open(code="off")
    return lambda id_: beside(lambda: getattr(other, request.param)(id_))


def test_what_is_as_it_was(store: Store, gone: Callable[[str], None]) -> None:
    job = Job(1)
    id_ = store.save(job)
    gone(id_)
    with pytest.raises(NotFound, match="cannot be saved") as caught:
        store.save(job)
    assert caught.value.ids == (id_,)
    assert job.number == 1  # what it holds is still there
    assert store.save(Job(job.number)) in store


def test_what_was_changed(store: Store, gone: Callable[[str], None]) -> None:
    job = Job(1)
    id_ = store.save(job)
    job.number = 2
    gone(id_)
    with pytest.raises(ConflictError):
        store.save(job)
    with pytest.raises(NotFound):
        store.save(job)
    assert id_ not in store


def test_a_ghost(place: Place, gone: Callable[[str], None]) -> None:
    store = place.open(code="off")
    job = Job(1)
    holder = Holder(job)
    holder_id = store.save(holder)
    other = place.open(code="off")
    ghost = other.load(holder_id).target
    assert entry_of(ghost).state == GHOST
    assert other.save(ghost) == job.persistent_id
    holder.target = None
    store.save(holder)
    gone(str(job.persistent_id))
    with pytest.raises(NotFound):
        other.save(ghost)


def test_beside_something_new(store: Store, gone: Callable[[str], None]) -> None:
    job = Job(1)
    id_ = store.save(job)
    before = store.revision()
    store.save_many([job, Job(2)])
    gone(id_)
    with pytest.raises(ConflictError) as caught:
        store.save_many([job, Job(3)])
    assert caught.value.ids == (id_,)
    with pytest.raises(ConflictError):
        in_one(store, job, Job(4))
    assert [store.load(each).number for each in store.list()] == [2]
    assert store.revision() == before + 2


def test_what_is_removed_in_the_same_transaction_is_no_matter(store: Store) -> None:
    old, new = Job(1), Job(2)
    id_ = store.save(old)
    with store.transaction():
        store.save_many([old, new])
        store.remove(str(new.persistent_id))
        store.remove(id_)
        store.save(Job(3))
    assert [store.load(each).number for each in store.list()] == [3]


def test_what_is_there_is_saved_as_ever(store: Store) -> None:
    job = Job(1)
    id_ = store.save(job)
    beside(lambda: store.save(Job(2)))
    assert store.save(job) == id_
    assert store.save_many([job, job, Job(3)])[0] == id_
    assert len(store.history(id_)) == 1
