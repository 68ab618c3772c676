"""What a store remembers: commits, versions, and the store as it was at a revision or a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from places import Place

from perdure import (
    MemoryStore,
    NotFound,
    Persistable,
    ReadOnly,
    SnapshotTooOld,
    Store,
    StoreClosed,
    make_store,
)


class Note(Persistable):
    __indexed__ = ("text",)

    def __init__(self, text: str, about: Any = None):
        self.text, self.about = text, about


class Ticking:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


def fill(store: Store, clock: Ticking) -> tuple[Note, Note]:
    """Revisions 1 to 4, ten seconds between them: first, second refers to it, first changed, second removed."""
    first = Note("one")
    store.save(first)
    clock.time += 10
    second = Note("two", first)
    store.save(second)
    clock.time += 10
    first.text = "uno"
    store.save(first)
    clock.time += 10
    store.remove(second.persistent_id)
    return first, second


@pytest.fixture
def filled(place: Place, clock: Ticking) -> tuple[Store, str, str]:
    store = place.open(clock=clock, code="off")
    fill(store, clock)
    fresh = place.open(clock=clock, code="off")
    return fresh, "Note.1", "Note.2"


def test_versions_are_told_newest_first(filled: tuple[Store, str, str]) -> None:
    store, first, second = filled
    told = [(v.revision, v.time, v.fields.get("text"), v.removed) for v in store.history(first)]
    assert told == [(3, 1020.0, "uno", False), (1, 1000.0, "one", False)]
    told = [(v.revision, v.time, v.fields.get("text"), v.removed) for v in store.history(second)]
    assert told == [(4, 1030.0, None, True), (2, 1010.0, "two", False)]
    assert [v.revision for v in store.history(first, 1)] == [3]
    assert [v.revision for v in store.history(first, before=3)] == [1]
    assert [v.revision for v in store.history(first, limit=5, before=1)] == []
    with pytest.raises(NotFound):
        store.history("Note.9")


def test_commits_are_told_newest_first(filled: tuple[Store, str, str]) -> None:
    store, *_ = filled
    assert [c.revision for c in store.transactions()] == [4, 3, 2, 1]
    assert [c.revision for c in store.transactions(2)] == [4, 3]
    assert [c.revision for c in store.transactions(limit=2, before=3)] == [2, 1]
    with pytest.raises(ValueError, match="-1"):
        store.transactions(-1)


def test_history_asks_the_backend_once_for_its_commits(filled: tuple[Store, str, str], monkeypatch) -> None:
    store, first, _ = filled
    asked = []
    for name in ("commits", "commits_of", "history"):
        call = getattr(store.backend, name)
        monkeypatch.setattr(store.backend, name, lambda *a, name=name, call=call: asked.append(name) or call(*a))
    assert len(store.history(first)) == 2
    assert asked == ["history", "commits_of"]


def test_the_store_as_it_was(filled: tuple[Store, str, str]) -> None:
    store, first, second = filled
    assert [store.at(revision).list() for revision in range(5)] == [
        [],
        [first],
        [first, second],
        [first, second],
        [first],
    ]
    past = store.at(2)
    note = past.load(second)
    assert (note.text, note.about.text, note.about.persistent_id) == ("two", "one", first)
    assert store.load(first).text == "uno"
    assert note.about is not store.load(first)
    assert [v.revision for v in past.history(first)] == [1]
    assert [c.revision for c in past.transactions()] == [2, 1]
    assert past.revision() == 2
    assert [found.text for found in past.find(Note, text="one")] == ["one"]
    assert past.count(Note) == 2
    assert (second in past, second in store) == (True, False)
    with pytest.raises(NotFound):
        store.at(1).load(second)


def test_the_past_cannot_be_written(filled: tuple[Store, str, str]) -> None:
    store, first, second = filled
    past = store.at(3)
    past.load(first).text = "changed"
    writes = [
        lambda: past.save(Note("new")),
        lambda: past.save(past.load(first)),
        lambda: past.remove(second),
        lambda: past.replace(first, Note("other")),
        lambda: past.pack(),
        lambda: past.undo(3),
        lambda: past.roots.__setitem__("x", 1),
        lambda: past.forget(first),
        lambda: past.collect(),
    ]
    for write in writes:
        with pytest.raises(ReadOnly, match=r"read|past"):
            write()
    assert store.revision() == 4


def test_the_past_is_closed_by_itself(filled: tuple[Store, str, str], place: Place) -> None:
    store, first, _ = filled
    place.is_whole = place.kind != "memory"  # where the one backend is closed below
    with store.at(1) as past:
        assert past.load(first).text == "one"
    with pytest.raises(StoreClosed):
        past.load(first)
    assert store.load(first).text == "uno"
    later = store.at(1)
    store.close()
    with pytest.raises(StoreClosed):
        later.list()


def test_a_time_means_the_newest_commit_that_is_not_later(filled: tuple[Store, str, str]) -> None:
    store, *_ = filled
    start = datetime.fromtimestamp(1000.0, UTC)
    expected = {-1: 0, 0: 1, 5: 1, 10: 2, 29.5: 3, 30: 4, 10_000: 4}
    for seconds, revision in expected.items():
        assert store.at(start + timedelta(seconds=seconds)).revision() == revision
    assert store.at(datetime.fromtimestamp(1010.0)).revision() == 2
    assert MemoryStore().at(start).revision() == 0


def test_what_is_no_point_in_history(filled: tuple[Store, str, str]) -> None:
    store, *_ = filled
    with pytest.raises(NotFound, match="newest is 4"):
        store.at(5)
    with pytest.raises(ValueError, match="-1"):
        store.at(-1)
    for wrong in ("2", 2.0, True, None):
        with pytest.raises(TypeError):
            store.at(wrong)  # type: ignore[arg-type]


def test_what_was_packed_is_too_old(filled: tuple[Store, str, str]) -> None:
    store, first, second = filled
    past = store.at(2)
    assert store.pack(keep=2)[:3] == (3, 1, 0)
    assert store.at(3).load(first).text == "uno"
    with pytest.raises(SnapshotTooOld) as caught:
        past.load(second)
    assert caught.value.retryable
    for when in (2, 0, datetime.fromtimestamp(1010.0, UTC), datetime.fromtimestamp(1.0, UTC)):
        with pytest.raises(SnapshotTooOld):
            store.at(when)


def test_after_packing_a_version_tells_its_commit_if_that_is_kept(filled: tuple[Store, str, str]) -> None:
    store, first, second = filled
    store.pack()
    assert [(v.revision, v.time) for v in store.history(first)] == [(3, 1020.0)]
    assert [(v.revision, v.time, v.removed) for v in store.history(second)] == [(4, 1030.0, True)]


def test_without_history_a_version_may_outlive_its_commit(place: Place, clock: Ticking) -> None:
    store = place.open(clock=clock, code="off", history="off")
    first, _ = fill(store, clock)
    clock.time += 100
    store.save(Note("more"))
    clock.time += 100
    store.save(Note("and more"))
    assert [(v.revision, v.time, v.note) for v in store.history(first.persistent_id)] == [(3, None, "")]


def test_history_is_on_or_off(tmp_path) -> None:
    with pytest.raises(ValueError, match="history"):
        make_store("memory:", history="maybe")


def test_every_commit_of_a_program_tells_its_code(place: Place) -> None:
    store = place.open()
    note = Note("one")
    steps = (
        lambda: store.save(note),
        lambda: store.save([1, 2]),
        lambda: store.roots.__setitem__("plain", [1]),
        lambda: store.roots.__setitem__("note", note),
        lambda: store.roots.__delitem__("plain"),
        lambda: store.roots.__delitem__("note"),
        lambda: store.remove(note.persistent_id),
    )
    for step in steps:
        step()
    codes = [commit.code for commit in store.transactions()]
    assert len(codes) == len(steps)
    assert all(code.startswith("Code.") for code in codes)
    store.undo(store.revision())
    other = Note("two")
    with store.transaction():
        store.roots["other"] = [other]
    del store.roots["other"]
    assert store.collect().removed
    assert all(commit.code.startswith("Code.") for commit in store.transactions())
    without = place.open(code="off")
    without.roots["later"] = 1
    assert without.transactions(1)[0].code == ""
