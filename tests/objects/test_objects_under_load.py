"""Removing, forgetting, undoing and collecting while others commit all the time, at the worst possible moments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from places import Place

from perdure import ConflictError, Persistable, StillReferred, Store
from perdure.backends.base import Backend
from perdure.upkeep import unnamed_pieces

ASKED = [
    name
    for name, method in vars(Backend).items()
    if callable(method) and not name.startswith("_") and name not in ("watch", "close", "reserve", "give_back")
]


class Document(Persistable):
    def __init__(self, data: Any = None, *refers_to: Any):
        self.data, self.refers_to = data, list(refers_to)


def beside(work: Callable[[], object]) -> None:
    """Do it in another thread, and so from another view."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@contextmanager
def busy(store: Store, commit: Callable[[], object], *, times: int = 10**9) -> Iterator[list[int]]:
    """Others commit before and after whatever the backend is asked."""
    backend, done, mine, within = store.backend, [0], threading.get_ident(), [0]

    def between() -> None:
        if threading.get_ident() == mine and done[0] < times and not within[0]:
            done[0] += 1
            beside(commit)

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            between()
            within[0] += 1  # a backend may ask itself while it holds its lock
            try:
                found = method(*arguments, **named)
            finally:
                within[0] -= 1
            between()
            return found

        return call

    for name in ASKED:
        setattr(backend, name, wrapped(getattr(backend, name)))
    try:
        yield done
    finally:
        for name in ASKED:
            delattr(backend, name)


@pytest.fixture(params=["on", "off"])
def history(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def busy_store(place: Place, history: str) -> tuple[Store, Callable[[], object]]:
    """A store, and what others do: a commit that has nothing to do with anything else."""
    store = place.open(code="off", history=history)
    id_ = store.save(Document(0))
    count = [0]

    def commit() -> None:
        other = store.load(id_)
        count[0] += 1
        other.data = count[0]
        store.save(other)

    return store, commit


def test_a_removal_does_not_wait_for_silence(busy_store: tuple[Store, Callable[[], object]]) -> None:
    store, commit = busy_store
    id_ = store.save(Document(1))
    with busy(store, commit) as done:
        store.remove(id_)
    assert done[0]
    assert id_ not in store


def test_what_is_forgotten_is_gone_though_others_commit(busy_store: tuple[Store, Callable[[], object]]) -> None:
    store, commit = busy_store
    id_ = store.save(Document(b"secret" * 20_000))
    (digest,) = store.backend.buffers()
    with busy(store, commit) as done:
        store.forget(id_)
    assert done[0]
    assert digest not in store.backend.buffers()


def test_packing_drops_pieces_though_others_commit(busy_store: tuple[Store, Callable[[], object]]) -> None:
    store, commit = busy_store
    store.remove(store.save(Document(b"large" * 20_000)))
    store.backend.pack(store.revision())
    with busy(store, commit) as done:
        assert store.pack(keep=1).pieces == 1
    assert done[0]
    assert store.backend.buffers() == {}


def test_a_collection_goes_on_though_others_commit(busy_store: tuple[Store, Callable[[], object]]) -> None:
    store, commit = busy_store
    root = Document(b"", *(Document(bytes([number]) * 70_000) for number in range(3)))
    store.save(root)
    root.refers_to = []
    store.save(root)
    with busy(store, commit) as done:
        assert store.collect().removed == 3
    assert done[0]
    assert len(store.list()) == 2


def test_an_undo_does_not_wait_for_silence(place: Place) -> None:
    store = place.open(code="off")
    id_ = store.save(Document(1))
    with busy(store, lambda: store.save(Document(2))) as done:
        store.undo(1)
    assert done[0]
    assert id_ not in store


def test_an_undo_says_what_came_in_between(place: Place) -> None:
    store = place.open(code="off")
    id_ = store.save(Document(1))

    def change() -> None:
        other = store.load(id_)
        other.data += 1
        store.save(other)

    with (
        busy(store, change),
        pytest.raises(ConflictError, match="Revision 1 cannot be undone: later commits") as caught,
    ):
        store.undo(1)
    assert caught.value.ids == (id_,)


def test_what_others_come_to_refer_to_is_not_removed(place: Place) -> None:
    store = place.open(code="off")
    id_ = store.save(Document(1))
    with busy(store, lambda: store.save(Document(2, store.load(id_))), times=1), pytest.raises(StillReferred):
        store.remove(id_)
    assert store.load(id_).data == 1


def test_a_piece_that_is_saved_again_meanwhile_stays(place: Place) -> None:
    store = place.open(code="off")
    data = b"large" * 20_000
    id_ = store.save(Document(data))
    with busy(store, lambda: store.save(Document(data)), times=6):
        store.forget(id_)
    store.invalidate_cache()
    assert [store.load(other).data for other in store.list()] == [data] * 6
    assert unnamed_pieces(store) == {}
