"""The collector of garbage may run at any allocation, and call a `__del__` that touches just what is being loaded."""

from __future__ import annotations

import gc
import sys

import pytest

from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend

KEY = Key(bytes(range(32)))
ALLOCATIONS = 30  # among the first so many of a touch the collector runs at each once

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="it runs only between two lines of Python")


class Item(Persistable):
    def __init__(self, number):
        self.number, self.text, self.parts = number, f"number {number}", [number]


class Last:
    """Calls a function when the collector finds it."""

    def __init__(self, function):
        self.function, self.itself = function, self

    def __del__(self):
        self.function()


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", kernels.built if request.param == "compiled" else None)


@pytest.fixture
def collected_after():
    """Call a function while the collector runs after so many allocations, and calls another one."""
    before = gc.get_threshold()
    gc.freeze()  # it looks at what is new only, which takes no time

    def call(count, function, last):
        gc.disable()
        gc.collect()
        Last(last)
        gc.set_threshold(count, 1000, 1000)
        gc.enable()
        try:
            return function()
        finally:
            gc.set_threshold(*before)

    yield call
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("way")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may be told to come later
@pytest.mark.parametrize("number", [1, 7])
def test_what_a_del_changes_is_not_overwritten_by_the_load_that_it_has_come_into(collected_after, number):
    backend = MemoryBackend()
    ids = Store(backend, KEY, code="off").save_many([Item(n) for n in range(10)])
    changed = 0
    for count in range(1, ALLOCATIONS):
        store = Store(backend, KEY, code="off")
        for id_ in ids[:3]:
            store.load(id_)  # what follows is read ahead
        (ghost,) = store.desk().view.objects_of([ids[number]])
        done = []

        def change(ghost=ghost, done=done):
            ghost.number = -1
            done.append(ghost)

        collected_after(count, lambda ghost=ghost: ghost.text, change)
        if done:
            changed += 1
            assert (ghost.number, ghost.text) == (-1, f"number {number}")
    assert changed
