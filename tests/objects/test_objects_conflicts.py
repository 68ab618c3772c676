"""Conflicts that a class resolves: merging in every kind of commit, and what is never merged."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import threading

import pytest
from places import Holder

from perdure import ConflictError, NotFound, Persistable
from perdure.objects.transactions import commits
from perdure.objects.transactions.conflicts import Referred


class Counter(Persistable):
    """Adds up what each has added."""

    def __init__(self, value=0):
        self.value = value
        self.log = []

    @staticmethod
    def _resolve_conflict(old, stored, mine):
        mine.value += stored.value - old.value
        mine.log = stored.log + mine.log[len(old.log) :]
        return mine


class Heap(list, Persistable):
    """A list to which all only add."""

    @classmethod
    def _resolve_conflict(cls, old, stored, mine):
        assert cls is Heap
        stored.extend(mine[len(old) :])
        return stored


class Parcel(Persistable):
    """An index looks through a reference."""

    __indexed__ = ("town",)

    def __init__(self, target):
        self.target, self.weight = target, 0

    @property
    def town(self):
        return self.target.target

    @staticmethod
    def _resolve_conflict(old, stored, mine):
        mine.weight += stored.weight - old.weight
        return mine


def test_what_is_merged_has_an_index_that_looks_through_references(place):
    store = place.open(extra_fields={"gone_to": lambda obj: getattr(obj, "town", None)})
    parcel = Parcel(Holder("Bern"))
    id_ = store.save(parcel)
    parcel.weight = 1

    def other():
        again = store.load(id_)
        again.weight = 10
        store.save(again)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    store.save(parcel)
    assert parcel.weight == 11
    assert store.find(Parcel, town="Bern", gone_to="Bern") == [parcel]


class Slots(Persistable):
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    @staticmethod
    def _resolve_conflict(old, stored, mine):
        return Slots(stored.value + mine.value - old.value)


class Members(Persistable):
    """Refers to others."""

    def __init__(self, *members):
        self.members = list(members)
        self.first = members[0] if members else None

    @staticmethod
    def _resolve_conflict(old, stored, mine):
        kept = [member for member in stored.members if member in mine.members or member not in old.members]
        stored.members = kept + [member for member in mine.members if member not in old.members]
        assert all(type(member) is Referred for member in stored.members)
        assert old.first is stored.first is mine.first
        return stored


class Odd(Persistable):
    """Does what the test says."""

    does = None

    def __init__(self, value):
        self.value = value

    def _resolve_conflict(*states):
        return Odd.does(*states)


def two(place, obj):
    """Two programs that both have loaded the same object."""
    id_ = place.open().save(obj)
    first, second = place.open(), place.open()
    return id_, first, first.load(id_), second, second.load(id_)


def changed(store, obj, **values):
    """Save the object with other attributes."""
    for name, value in values.items():
        setattr(obj, name, value)
    store.save(obj)


# -- merged ----------------------------------------------------------------------------------------------------


def test_in_a_transaction(place):
    id_, first, mine, second, theirs = two(place, Counter(10))
    with first.transaction(note="merged") as transaction:
        mine.value += 1
        mine.log.append("mine")
        new = first.save(Counter(5))
        theirs.log.append("theirs")
        changed(second, theirs, value=30)
    assert transaction.revision == 3
    assert (mine.value, mine.log) == (31, ["theirs", "mine"])  # what is in memory is what was stored
    assert mine.changed is False
    again = place.open()
    assert (again.load(id_).value, again.load(id_).log) == (31, ["theirs", "mine"])
    assert again.load(new).value == 5
    assert [version.note for version in again.history(id_)] == ["merged", "", ""]
    assert [version.revision for version in again.history(id_)] == [3, 2, 1]
    with first.transaction():
        mine.value += 1
    assert place.open().load(id_).value == 32


def test_after_packing(place):
    """What was read is older than the oldest revision that is kept, but was there at that revision."""
    id_, first, mine, second, theirs = two(place, Counter(10))
    second.save(Holder(1))
    with first.transaction():
        mine.value += 1
        assert first.pack(keep=1).oldest == 2
        changed(second, theirs, value=30)
    assert (mine.value, place.open().load(id_).value) == (31, 31)


def test_by_a_bare_save(place):
    id_, first, mine, second, theirs = two(place, Counter(10))
    changed(second, theirs, value=20)
    changed(second, theirs, value=30)
    mine.value += 1
    first.save(mine)
    assert mine.value == 31
    assert place.open().load(id_).value == 31
    assert second.load(id_).value == 31
    assert theirs.value == 31


def test_by_replace(place):
    id_, first, mine, second, theirs = two(place, Counter(10))
    with first.transaction():
        first.replace(id_, Counter(11))
        changed(second, theirs, value=30)
    assert mine.value == 31
    assert place.open().load(id_).value == 31


def test_by_a_bare_replace(place, monkeypatch):
    id_, first, _, second, theirs = two(place, Counter(10))
    apply = type(first.backend).apply

    def late(self, batch, encode):
        monkeypatch.undo()
        changed(second, theirs, value=30)
        return apply(self, batch, encode)

    monkeypatch.setattr(type(first.backend), "apply", late)
    first.replace(id_, Counter(11))
    assert first.load(id_).value == 31


@pytest.mark.parametrize(
    ("make", "change", "look", "merged"),
    [
        (lambda: Heap([1]), lambda obj, who: obj.append(who), list, [1, 3, 2]),
        (lambda: Slots(1), lambda obj, who: setattr(obj, "value", obj.value + who), lambda obj: obj.value, 6),
    ],
    ids=["list", "slots"],
)
def test_other_kinds_of_classes(place, make, change, look, merged):
    id_, first, mine, second, theirs = two(place, make())
    change(mine, 2)
    change(theirs, 3)
    second.save(theirs)
    first.save(mine)
    assert look(mine) == merged
    assert look(place.open().load(id_)) == merged
    change(mine, 4)
    first.save(mine)
    assert look(second.load(id_)) == look(mine)


def test_references(place):
    old = [Counter(n) for n in range(3)]
    members = Members(*old)
    members.itself = members
    id_, first, mine, second, theirs = two(place, members)
    with first.transaction():
        mine.members.append(Counter(7))
        del mine.members[1]
        theirs.members.append(Counter(8))
        second.save(theirs)
    assert [member.value for member in mine.members] == [0, 2, 8, 7]
    again = place.open().load(id_)
    assert [member.value for member in again.members] == [0, 2, 8, 7]
    assert again.itself is again
    assert again.first is again.members[0]


def test_more_than_one_round(place, monkeypatch):
    id_, first, mine, second, theirs = two(place, Counter(0))
    apply = type(first.backend).apply
    rounds = []

    def late(self, batch, encode):
        if batch.note == "merged" and len(rounds) < 4:
            rounds.append(batch.drafts[0].base)
            second.load(id_)
            changed(second, theirs, value=theirs.value + 10)
        return apply(self, batch, encode)

    monkeypatch.setattr(type(first.backend), "apply", late)
    with first.transaction(note="merged"):
        mine.value += 1
    assert rounds == [1, 2, 3, 4]
    assert mine.value == 41
    assert second.load(id_).value == 41


def test_rounds_are_bounded(place, monkeypatch):
    _, first, mine, second, theirs = two(place, Counter(0))
    apply = type(first.backend).apply
    rounds = []

    def late(self, batch, encode):
        if batch.note == "never":
            rounds.append(1)
            second.load(theirs.persistent_id)
            changed(second, theirs, value=theirs.value + 1)
        return apply(self, batch, encode)

    monkeypatch.setattr(type(first.backend), "apply", late)
    with pytest.raises(ConflictError), first.transaction(note="never"):
        mine.value += 100
    assert len(rounds) == commits.ROUNDS
    assert mine.value == commits.ROUNDS


def test_threads_that_count_without_conflicts(store):
    id_ = store.save(Counter(0))
    errors = []

    def count():
        try:
            for _ in range(10):
                with store.transaction():
                    store.load(id_).value += 1
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.load(id_).value == 40


def test_merged_beside_a_removal(place):
    id_, first, mine, second, theirs = two(place, Counter(10))
    gone = first.save(Holder("goes"))
    with first.transaction():
        mine.value += 1
        first.remove(gone)
        changed(second, theirs, value=30)
    assert mine.value == 31
    again = place.open()
    assert again.load(id_).value == 31
    assert gone not in again.list()


def test_roots(place):
    store = place.open()
    store.roots["a"], store.roots["b"], store.roots["c"] = [1], Counter(1), 3
    first, second = place.open(), place.open()
    with first.transaction():
        first.roots["new"] = [5]
        first.roots["a"].append(2)
        del first.roots["b"]
        with second.transaction():
            second.roots["other"] = Counter(7)
            second.roots["c"] = 4
            del second.roots["a"]
            second.roots["a"] = [9]
    again = place.open().roots
    assert sorted(again) == ["a", "c", "new", "other"]
    assert (again["a"], again["c"], again["new"], again["other"].value) == ([9], 4, [5], 7)
    with pytest.raises(ConflictError) as caught, first.transaction():
        first.roots["x"] = Counter(1)
        second.roots["x"] = Counter(2)
    assert "the root 'x'" in str(caught.value.__cause__)
    assert first.roots["x"].value == 2


# -- not merged ------------------------------------------------------------------------------------------------


def conflict(place, cls=Odd, **settings):
    """Two change an object of the class at once; gives the error, and the object of who was late."""
    id_, first, mine, second, theirs = two(place, cls(1))
    read = first.revision()
    theirs.value = 30
    second.save(theirs)
    mine.value = 2
    with pytest.raises(ConflictError) as caught:
        first.save(mine)
    assert caught.value.revisions == {id_: (read, read + 1)}
    assert place.open().load(id_).value == 30
    assert mine.value == 30
    return caught.value


def test_what_the_method_raises_is_told(place):
    def fail(*states):
        raise ValueError("too hard")

    Odd.does = fail
    error = conflict(place)
    assert isinstance(error.__cause__, ValueError)

    def refuse(*states):
        raise ConflictError("not these")

    Odd.does = refuse
    assert str(conflict(place).__cause__) == "not these"


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        (lambda old, stored, mine: None, "gave NoneType"),
        (lambda old, stored, mine: mine.__dict__, "gave dict"),
        (lambda old, stored, mine: Counter(1), "gave Counter"),
        (lambda old, stored, mine: Odd(Counter()), "refers to a Counter"),
        (lambda old, stored, mine: Odd(old), "refers to a Odd"),
        (lambda old, stored, mine: Odd(lambda: None), "cannot be saved"),
        (lambda old: None, "takes 1 positional argument"),
    ],
    ids=["none", "state", "other class", "new object", "copy", "unpicklable", "arguments"],
)
def test_what_the_method_may_not_give(place, does, cause):
    Odd.does = does
    assert cause in str(conflict(place).__cause__)


def test_a_live_object_may_not_be_given(place):
    live = Odd(0)
    place.open().save(live)
    Odd.does = lambda old, stored, mine: live
    assert "not a copy" in str(conflict(place).__cause__)


def test_the_copies_belong_to_no_store(place):
    seen = []

    def look(old, stored, mine):
        seen.extend((copy.persistent_id, copy.value) for copy in (old, stored, mine))
        raise ConflictError("seen")

    Odd.does = look
    conflict(place)
    assert seen == [(None, 1), (None, 30), (None, 2)]


def test_removed_by_another(place):
    id_, first, mine, second, _ = two(place, Counter(1))
    mine.value = 2
    second.remove(id_)
    with pytest.raises(ConflictError) as caught:
        first.save(mine)
    assert caught.value.revisions == {id_: (1, 0)}
    with pytest.raises(NotFound):
        mine.value


def test_removed_here(place):
    id_, first, _, second, theirs = two(place, Counter(1))
    with pytest.raises(ConflictError), first.transaction():
        first.remove(id_)
        changed(second, theirs, value=2)
    assert first.load(id_).value == 2


def test_only_read(place):
    id_, first, mine, second, theirs = two(place, Counter(1))
    with pytest.raises(ConflictError), first.transaction() as transaction:
        transaction.read_current(mine)
        first.save(Counter(5))
        changed(second, theirs, value=2)
    assert first.list() == [id_]


def test_one_that_cannot_be_merged_stops_all(place):
    store = place.open()
    ids = store.save_many([Counter(1), Holder(1)])
    first, second = place.open(), place.open()
    with pytest.raises(ConflictError) as caught, first.transaction():
        mine = first.load_many(ids)
        mine[0].value, mine[1].target = 2, 2
        with second.transaction():
            theirs = second.load_many(ids)
            theirs[0].value, theirs[1].target = 3, 3
    assert set(caught.value.ids) == set(ids)
    assert mine[0].value == 3
    assert mine[1].target == 3


def test_replaced_by_something_else(place):
    id_, first, mine, second, _ = two(place, Counter(1))
    second.replace(id_, Holder(5))
    mine.value = 2
    with pytest.raises(ConflictError):
        first.save(mine)
    id_, first, mine, second, _ = two(place, Counter(1))
    second.replace(id_, [5])
    mine.value = 2
    with pytest.raises(ConflictError):
        first.save(mine)
    assert place.open().load(id_) == [5]


def test_a_merged_reference_to_what_was_removed(place):
    """What the other one let go of and removed is not brought back by a merge."""
    target = Counter(5)
    id_, first, mine, second, theirs = two(place, Members(target))

    def bring_back(old, stored, mine):
        return mine

    with second.transaction():
        gone = theirs.members[0].persistent_id
        theirs.members, theirs.first = [], None
        second.remove(gone)
    mine.more = 1
    original, Members._resolve_conflict = Members._resolve_conflict, staticmethod(bring_back)
    try:
        with pytest.raises(ConflictError) as caught:
            first.save(mine)
    finally:
        Members._resolve_conflict = staticmethod(original)
    assert caught.value.ids == (gone,)
    assert place.open().load(id_).members == []
