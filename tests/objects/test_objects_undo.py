"""Taking back a commit: what comes back, what goes, and what stands in the way."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from places import Place

from perdure import ConflictError, NotFound, Persistable, SnapshotTooOld, StillReferred, Store, TransactionError
from perdure.upkeep import check


class Part(Persistable):
    __indexed__ = ("name",)

    def __init__(self, name: str, *refers_to: Any):
        self.name, self.refers_to = name, list(refers_to)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open(code="off")


def names(store: Store) -> dict[str, str]:
    return {str(id_): store.load(id_).name for id_ in store.list()}


def test_what_a_commit_did_is_taken_back(store: Store, place: Place) -> None:
    a, b = Part("a"), Part("b")
    store.save_many([a, b])
    with store.transaction(note="all three") as tx:
        a.name = "changed"
        c = Part("c", a)
        store.save(c)
        store.remove(b.persistent_id)
    assert store.undo(tx.revision) == 3
    assert names(store) == {"Part.1": "a", "Part.2": "b"}
    assert names(place.open()) == names(store)
    assert a.name == "a"
    assert (c.name, c.persistent_id) == ("c", None)  # as an object that was never saved
    assert [commit.note for commit in store.transactions()] == ["undo of revision 2", "all three", ""]
    assert [found.name for found in store.find(Part, name="b")] == ["b"]
    assert store.count(Part) == 2
    assert [v.removed for v in store.history("Part.2")] == [False, True, False]
    assert [v.removed for v in store.history("Part.3")] == [True, False]


def test_an_undo_can_be_undone(store: Store) -> None:
    a = Part("a")
    store.save(a)
    a.name = "b"
    c = Part("c", a)
    store.save(c)  # takes a along
    assert store.undo(2, note="no") == 3
    assert store.undo(3, note="yes") == 4
    assert names(store) == {"Part.1": "b", "Part.2": "c"}
    assert store.load("Part.2").refers_to == [a]
    assert store.undo(4) == 5
    assert names(store) == {"Part.1": "a"}
    assert [commit.note for commit in store.transactions(3)] == ["undo of revision 4", "yes", "no"]


def test_a_touched_object_that_refers_to_what_goes_follows(store: Store) -> None:
    a = Part("a")
    store.save(a)
    a.refers_to.append(Part("b"))
    store.save(a)
    assert a.refers_to[0].name == "b"
    store.undo(2)
    assert a.refers_to == []
    assert not a.changed


def test_loaded_objects_of_other_views_follow(store: Store, place: Place) -> None:
    a = Part("a")
    store.save(a)
    a.name = "b"
    store.save(a)
    other = place.open()
    theirs = other.load("Part.1")
    assert theirs.name == "b"
    store.undo(2)
    assert other.load("Part.1") is theirs
    assert theirs.name == "a"


def test_what_later_commits_changed_is_in_the_way(store: Store) -> None:
    a, b, c = Part("a"), Part("b"), Part("c")
    store.save_many([a, b, c])
    with store.transaction():
        a.name, b.name = "a2", "b2"
        store.remove(c.persistent_id)
    b.name = "b3"
    store.save(b)
    with pytest.raises(ConflictError, match=r"Part\.2 \(revision 3\)") as caught:
        store.undo(2)
    assert caught.value.ids == ("Part.2",)
    assert caught.value.revisions == {"Part.2": (2, 3)}
    assert names(store) == {"Part.1": "a2", "Part.2": "b3"}
    store.remove("Part.1")
    with pytest.raises(ConflictError) as caught:
        store.undo(2)
    assert caught.value.revisions == {"Part.1": (2, 4), "Part.2": (2, 3)}
    store.undo(4)
    store.undo(3)
    store.undo(2)  # all is as that commit left it
    assert names(store) == {"Part.1": "a", "Part.2": "b", "Part.3": "c"}
    store.undo(1)
    assert store.list() == []


def test_what_is_referred_to_is_not_taken_away(store: Store) -> None:
    a = Part("a")
    store.save(a)
    b = Part("b", a)
    store.save(b)
    with pytest.raises(StillReferred) as caught:
        store.undo(1)
    assert (caught.value.ids, caught.value.referrers) == (("Part.1",), ("Part.2",))
    store.undo(2)
    store.undo(1)
    assert store.list() == []


def test_what_comes_back_refers_to_nothing_that_is_gone(store: Store) -> None:
    a = Part("a")
    b = Part("b", a)
    store.save_many([a, b])
    store.remove("Part.2")
    store.remove("Part.1")
    with pytest.raises(ConflictError, match=r"Part\.1 was removed") as caught:
        store.undo(2)
    assert caught.value.ids == ("Part.1",)
    store.undo(3)
    store.undo(2)
    assert store.load("Part.2").refers_to == [store.load("Part.1")]


def test_cycles_go_and_come_back_together(store: Store) -> None:
    a, b = Part("a"), Part("b")
    a.refers_to, b.refers_to = [b], [a]
    store.save(a)
    store.undo(1)
    assert store.list() == []
    store.undo(2)
    back = store.load("Part.1")
    assert back.refers_to[0].refers_to[0] is back


def test_roots_and_plain_values_are_undone_too(store: Store) -> None:
    store.roots["n"] = [1]
    store.roots["n"] = [2]
    store.undo(2)
    assert store.roots["n"] == [1]
    store.undo(1)
    assert "n" not in store.roots
    id_ = store.save({"x": 1})
    store.remove(id_)
    store.undo(store.revision())
    assert store.load(id_) == {"x": 1}


def test_changes_that_are_not_saved_stay(store: Store) -> None:
    a = Part("a")
    store.save(a)
    a.name = "b"
    store.save(a)
    a.refers_to = ["mine"]
    store.undo(2)
    assert (a.name, a.refers_to) == ("b", ["mine"])
    with pytest.raises(ConflictError):
        store.save(a)
    assert (a.name, a.refers_to) == ("a", [])


def test_what_cannot_be_undone(store: Store) -> None:
    a = Part("a")
    store.save(a)
    for revision in (0, 2, -1):
        with pytest.raises(NotFound):
            store.undo(revision)
    with pytest.raises(TypeError):
        store.undo("1")  # type: ignore[arg-type]
    with store.transaction(), pytest.raises(TransactionError):
        store.undo(1)
    a.name = "b"
    store.save(a)
    a.name = "c"
    store.save(a)
    store.pack(keep=2)
    with pytest.raises(SnapshotTooOld):
        store.undo(2)
    store.undo(3)
    assert a.name == "b"


def test_where_a_class_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Passing(Part):
        pass

    Passing.__qualname__ = "Passing"
    monkeypatch.setitem(globals(), "Passing", Passing)
    id_ = store.save(Passing("p"))
    store.remove(id_)
    monkeypatch.delitem(globals(), "Passing")
    store.undo(2)
    monkeypatch.setitem(globals(), "Passing", Passing)
    assert [found.name for found in store.find(Passing, name="p")] == ["p"]


def test_others_may_write_meanwhile(place: Place) -> None:
    store = place.open(code="off")
    a = Part("a")
    store.save(a)
    over = threading.Event()
    other = place.open(code="off")

    def write() -> None:
        mine = Part("busy")
        while not over.is_set():
            mine.name = "busy" if mine.name != "busy" else "still busy"
            other.save(mine)
            if place.is_on_server:
                over.wait(0.1)  # an undo takes several round trips there, and none may come in between

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for name in ("b", "c", "d"):
            a = store.load("Part.1")
            a.name = name
            with store.transaction() as tx:
                a.changed = True
            store.undo(tx.revision)
            assert store.load("Part.1").name == "a"
    finally:
        over.set()
        thread.join()
    assert check(store) == []


def test_large_pieces_and_compressed_payloads_come_back(store: Store) -> None:
    texts = {"long": "many words " * 5_000, "piece": b"x" * 300_000}
    id_ = store.save(texts)
    store.replace(id_, "short")
    store.undo(2)
    assert store.load(id_) == texts
    store.remove(id_)
    store.undo(4)
    assert store.load(id_) == texts
