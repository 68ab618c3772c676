"""`Store.load` of what is in memory, which does not come to Python: it is the same method, and says the same."""

from __future__ import annotations

import asyncio
import inspect
import pydoc
import threading
from typing import Any

import pytest
from ways import COMPILED, needs_kernels

from perdure import Persistable, Store, make_store


class Item(Persistable):
    def __init__(self, number: int):
        self.number = number


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'quick.db'}"


def saved(url: str, count: int) -> list[str]:
    with make_store(url, code="off") as store:
        return [str(id_) for id_ in store.save_many([Item(number) for number in range(count)])]


@needs_kernels
def test_what_is_not_at_hand_is_left_to_python(url):
    ids = saved(url, 3)
    left = object()
    quick = COMPILED.Quick(lambda *arguments, **named: left, {"compiled": COMPILED})
    with make_store(url, code="off") as store:
        assert quick(store, ids[0]) is left  # this thread has no view yet
        loaded = store.load(ids[0])
        for wrong in (
            (store, "Item.99"),
            (store, None),
            (store, b"Item.1"),
            (store,),
            (),
            (7, ids[0]),
        ):
            assert quick(*wrong) is left
        assert quick(store, ids[0], trust=None) is quick(store, id_=ids[0]) is quick(store, ids[0], 1) is left
        assert quick(store, ids[0]) is quick.__get__(store)(ids[0]) is loaded
        seen: list[Any] = []

        async def look() -> None:
            seen.append(quick(store, ids[0]))

        asyncio.run(look())
        thread = threading.Thread(target=lambda: seen.append(quick(store, ids[0])))
        thread.start()
        thread.join()
        store.remove(ids[2])
        assert store.desk().view.mark is not None
        with make_store(url, code="off") as other:
            other.remove(ids[1])
        seen.append(quick(store, ids[0]))  # somebody has committed
        assert seen == [left] * 3
        assert store.load(ids[0]) is loaded


@needs_kernels
def test_an_error_of_the_quick_way_is_told(url, monkeypatch):
    ids = saved(url, 1)
    settings = {"compiled": COMPILED}
    quick = COMPILED.Quick(lambda *arguments: None, settings)
    with make_store(url, code="off") as store:
        loaded = store.load(ids[0])

        def broken() -> None:
            raise KeyError("watch")

        with monkeypatch.context() as patch:
            patch.setattr(store.desk().view, "watch", broken)
            with pytest.raises(KeyError, match="watch"):
                quick(store, ids[0])
            patch.setitem(settings, "compiled", None)
            assert quick(store, ids[0]) is None
        assert quick(store, ids[0]) is loaded
    for wrong in ((), (len,), (len, 7), (len, {}, 7)):
        with pytest.raises(TypeError):
            COMPILED.Quick(*wrong)


def test_load_says_what_it_is():
    assert Store.load.__name__ == "load"
    assert Store.load.__qualname__ == "Store.load"
    assert (Store.load.__doc__ or "").startswith("The object of that id")
    assert list(inspect.signature(Store.load).parameters) == ["self", "id_", "trust", "prefetch", "missing"]
    assert inspect.signature(Store.load).parameters["trust"].kind is inspect.Parameter.KEYWORD_ONLY
    assert inspect.isroutine(Store.load)
    assert "trust" in pydoc.render_doc(Store.load)


class Counting(Store):
    """A store whose users count its loads."""

    loads = 0

    def load(self, id_: Any, **named: Any) -> Any:
        self.loads += 1
        return super().load(id_, **named)


def test_a_store_of_ones_own_calls_load_of_its_base(url):
    ids = saved(url, 2)
    with make_store(url, code="off") as store:
        store.__class__ = Counting
        first = store.load(ids[0])
        assert store.load(ids[0]) is store.load(ids[0], trust=None) is first
        assert store.loads == 3
        bound = store.load
        assert bound(ids[1]) is bound(id_=ids[1])
        with pytest.raises(TypeError):
            store.load()
