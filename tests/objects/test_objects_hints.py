"""Every error says what to do, and blames what is at fault: a list of what users do wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import Place

import perdure
from perdure import CannotPickle, PerdureError, Persistable, Store, make_store


class Item(Persistable):
    __indexed__ = ("state",)

    def __init__(self, state: Any = "new", other: Any = None):
        self.state, self.other, self.log = state, other, []


WRONG: dict[str, Callable[[Store, str], object]] = {
    "an id of another store": lambda store, _: store.load("Other.7"),
    "no id": lambda store, _: store.load("nonsense"),
    "several": lambda store, id_: store.load_many([id_, "Other.7", "Other.8"]),
    "no such root": lambda store, _: store.roots["nowhere"],
    "no history": lambda store, _: store.history("Other.7"),
    "nothing to forget": lambda store, _: store.forget("Other.7"),
    "nothing to remove": lambda store, _: store.remove("Other.7"),
    "nothing to replace": lambda store, _: store.replace("Other.7", Item()),
    "what others refer to": lambda store, id_: (store.save(Item(other=store.load(id_))), store.remove(id_)),
    "a lock": lambda store, _: store.save(Item(other=threading.Lock())),
    "a lambda": lambda store, _: store.save(Item(other=lambda: 0)),
    "a plain lock": lambda store, _: store.save(threading.Lock()),
    "no index value": lambda store, _: store.save(Item(state=object)),
    "no index": lambda store, _: store.find(Item, colour="red"),
    "no class": lambda store, _: store.find(7),
    "a limit": lambda store, _: store.find(Item, limit=-1),
    "a path": lambda store, id_: store.load(id_, prefetch="nowhere.at.all"),
    "the future": lambda store, _: store.at(99),
    "no commit": lambda store, _: store.undo(99),
    "the past": lambda store, id_: store.at(1).save(Item()),
    "no point in time": lambda store, _: store.at("yesterday"),
    "a second commit": lambda store, _: [each.__enter__() for each in [store.transaction()] * 2],
    "a closed store": lambda store, id_: (store.close(), store.load(id_)),
}


@pytest.mark.parametrize("what", WRONG)
def test_every_error_says_what_to_do(place: Place, what: str) -> None:
    store = place.open()
    place.is_whole = False
    id_ = store.save(Item())
    with pytest.raises(PerdureError) as caught:
        WRONG[what](store, id_)
    assert caught.value.hint
    assert str(caught.value) == f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "url", ["sqlite:///nowhere.db", "nowhere", "sqlite:///file.db", "file.db", "sqlite:///.", "x:y"]
)
def test_what_is_no_store_says_what_to_do(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.db").write_text("no store at all " * 100)
    with pytest.raises(PerdureError) as caught:
        make_store(url, read_only=True)
    assert caught.value.hint


def test_every_kind_of_error_about_data_has_a_hint_to_fall_back_on() -> None:
    names = ("NotFound", "StoreNotFound", "CannotPickle", "CorruptRecord", "StorageError", "CannotLoad", "NotAStore")
    for name in names:
        error = getattr(perdure, name)("Something happened.")
        assert error.hint
        assert str(error) == f"Something happened. {error.hint}"


def test_a_transaction_blames_the_object_that_cannot_be_pickled(place: Place) -> None:
    store = place.open()
    culprit = Item()
    store.save(culprit)
    innocent = Item()

    def spoil() -> None:
        store.save(innocent)
        culprit.log = [threading.Lock()]

    with pytest.raises(CannotPickle) as caught, store.transaction():
        spoil()
    assert caught.value.ids == (culprit.persistent_id,)
    path = f"{culprit.persistent_id} → .log[0]"
    assert caught.value.path == path
    assert caught.value.message == f"{path} cannot be saved: cannot pickle '_thread.lock' instances."
    assert "Leave the lock out" in caught.value.hint
    with pytest.raises(CannotPickle) as caught:
        store.save(Item(other=Item(other=threading.Lock())))
    assert caught.value.path.endswith(" → .other.other")
