"""Transactions: commit, abort, conflicts, snapshots; save, replace and remove in and out of them."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import os
import sys

import pytest
from places import Holder

from perdure import (
    ClassNotFound,
    ConflictError,
    NotFound,
    Persistable,
    StillReferred,
    StorageError,
    TransactionError,
    WrongView,
    make_store,
)
from perdure.objects.instances.persistable import GHOST, entry_of


class Account(Persistable):
    def __init__(self, balance=0):
        self.balance = balance


class Greedy(Persistable):
    """Saves from within its own pickling."""

    store = None

    def __getstate__(self):
        type(self).store.save(Account())
        return {}


class Fails(Exception):
    pass


# -- commit and abort ------------------------------------------------------------------------------------------


def test_a_transaction_is_one_revision(place):
    store = place.open()
    with store.transaction(note="first customers") as transaction:
        a = store.save(Account(1))
        b = store.save([1, 2])
        store.roots["accounts"] = Account(2)
    assert transaction.revision == 1
    assert [commit.note for commit in store.transactions()] == ["first customers"]
    again = place.open()
    assert again.load(a).balance == 1
    assert again.load(b) == [1, 2]
    assert again.roots["accounts"].balance == 2


def test_an_empty_transaction_makes_no_revision(store):
    store.save(Account())
    with store.transaction() as transaction:
        pass
    assert transaction.revision == 1
    assert len(store.transactions()) == 1


def test_the_note_may_be_set_inside(store):
    with store.transaction() as transaction:
        store.save(Account())
        transaction.note = "late"
    assert store.transactions()[0].note == "late"


def test_an_exception_aborts(place):
    store = place.open()
    old = Account(1)
    id_ = store.save(old)
    new = Account(2)
    with pytest.raises(Fails), store.transaction():
        old.balance = 100
        old.more = "x"
        new_id = store.save(new)
        store.save(["value"])
        raise Fails
    assert old.balance == 1
    assert not hasattr(old, "more")
    assert new.persistent_id is None
    assert new.balance == 2  # it keeps what it has
    assert store.list() == [id_]
    assert len(store.transactions()) == 1
    with pytest.raises(NotFound):
        store.load(new_id)
    assert store.save(new) != new_id or new_id.number == store.load(new.persistent_id).persistent_id


def test_abort_by_hand(store):
    account = Account(1)
    store.save(account)
    with store.transaction() as transaction:
        account.balance = 2
        transaction.abort()
        assert account.balance == 1
        with pytest.raises(TransactionError):
            transaction.commit()
    assert account.balance == 1
    account.balance = 3
    store.save(account)
    assert store.revision() == 2


def test_commit_by_hand(store):
    transaction = store.transaction()
    transaction.__enter__()
    id_ = store.save(Account(1))
    transaction.commit()
    assert store.load(id_).balance == 1
    with pytest.raises(TransactionError):
        transaction.commit()
    transaction.abort()  # nothing is left to abort


def test_a_new_object_is_found_through_what_is_changed(place):
    store = place.open()
    holder = Holder([])
    id_ = store.save(holder)
    with store.transaction():
        store.load(id_).target.append(Account(5))
    assert place.open().load(id_).target[0].balance == 5


def test_saved_objects_can_be_loaded_before_the_commit(store):
    with store.transaction():
        account = Account(1)
        id_ = store.save(account)
        assert account.persistent_id == id_
        assert store.load(id_) is account
        assert account.changed is True
    assert account.changed is False


def test_a_save_from_within_getstate_is_refused(store):
    Greedy.store = store
    with pytest.raises(TransactionError, match="__getstate__"):
        store.save(Greedy())
    with pytest.raises(TransactionError, match="__getstate__"):
        store.save(Holder(Greedy()))
    assert store.save(Account()).number
    assert len(store) == 1


def test_ids_of_an_aborted_transaction_are_not_given_to_others_that_are_stored(place):
    store, other = place.open(), place.open()
    with pytest.raises(Fails), store.transaction():
        store.save(Account())
        raise Fails
    ids = [*store.save_many([Account(), Account()]), *other.save_many([Account(), Account()])]
    assert len({id_.number for id_ in ids}) == 4


# -- conflicts -------------------------------------------------------------------------------------------------


def two(place, obj):
    """Two programs that both have loaded the same object."""
    id_ = place.open().save(obj)
    first, second = place.open(), place.open()
    return id_, first, first.load(id_), second, second.load(id_)


def test_the_first_committer_wins(place):
    id_, first, mine, second, theirs = two(place, Account(10))
    with pytest.raises(ConflictError) as caught, first.transaction():
        mine.balance += 1
        with second.transaction():
            theirs.balance += 2
    assert caught.value.ids == (id_,)
    assert caught.value.revisions == {id_: (1, 2)}
    assert caught.value.retryable
    assert mine.balance == 12  # read anew: the transaction was aborted
    with first.transaction():
        mine.balance += 1
    assert place.open().load(id_).balance == 13


def test_a_bare_save_conflicts_too(place):
    id_, first, mine, second, theirs = two(place, Account(10))
    mine.balance = 11
    theirs.balance = 12
    second.save(theirs)
    with pytest.raises(ConflictError) as caught:
        first.save(mine)
    assert caught.value.revisions == {id_: (1, 2)}
    assert mine.balance == 12
    mine.balance += 1
    first.save(mine)
    assert place.open().load(id_).balance == 13


def test_changing_different_objects_is_no_conflict(place):
    store = place.open()
    a, b = store.save_many([Account(1), Account(2)])
    first, second = place.open(), place.open()
    with first.transaction():
        first.load(a).balance = 10
        with second.transaction():
            second.load(b).balance = 20
    assert [account.balance for account in place.open().load_many([a, b])] == [10, 20]
    assert first.load(b).balance == 20


def test_removal_and_change_conflict(place):
    id_, first, mine, second, _ = two(place, Account(10))
    with pytest.raises(ConflictError) as caught, first.transaction():
        mine.balance = 1
        second.remove(id_)
    assert caught.value.revisions == {id_: (1, 0)}
    id_, first, mine, second, theirs = two(place, Account(10))
    mine_revision = entry_of(mine).revision
    with pytest.raises(ConflictError) as caught, first.transaction():
        first.remove(id_)
        theirs.balance = 5
        second.save(theirs)
    assert caught.value.revisions == {id_: (mine_revision, mine_revision + 1)}
    assert first.load(id_).balance == 5


# -- snapshots -------------------------------------------------------------------------------------------------


def test_inside_a_transaction_nothing_moves(place):
    store = place.open()
    a, b, holder = Account(1), Account(2), Holder(None)
    holder.target = [a, b]
    store.save(holder)
    mine, other = place.open(), place.open()
    with mine.transaction():
        accounts = mine.load(holder.persistent_id).target
        assert accounts[0].balance == 1
        with other.transaction():
            for account in other.load(holder.persistent_id).target:
                account.balance += 100
        new = other.save(Account(7))
        assert accounts[0].balance == 1
        assert accounts[1].balance == 2  # a ghost until now: it shows the same revision
        assert mine.load(b.persistent_id).balance == 2
        assert mine.revision() == 1
        with pytest.raises(NotFound):
            mine.load(new)
    assert [account.balance for account in accounts] == [1, 2]  # a look does not move the view
    mine.load(holder.persistent_id)
    assert [account.balance for account in accounts] == [101, 102]
    assert mine.load(new).balance == 7


def test_what_was_removed_is_still_seen_inside(place):
    store = place.open()
    id_ = store.save(Account(1))
    mine, other = place.open(), place.open()
    with mine.transaction():
        other.remove(id_)
        assert mine.load(id_).balance == 1
    with pytest.raises(NotFound):
        mine.load(id_)


def test_outside_clean_objects_are_refreshed_in_place(place):
    id_, first, mine, second, theirs = two(place, Account(10))
    theirs.balance = 11
    second.save(theirs)
    assert mine.balance == 10
    assert first.load(id_) is mine
    assert mine.balance == 11


def test_unsaved_changes_are_not_lost_by_a_refresh(place):
    _, first, mine, second, theirs = two(place, Account(10))
    mine.balance = 5
    theirs.balance = 11
    second.save(theirs)
    first.load(first.save(Account()))
    assert mine.balance == 5  # the commit will meet the conflict
    with pytest.raises(ConflictError):
        first.save(mine)


def test_invalidate_cache(place):
    _, first, mine, _, _ = two(place, Account(10))
    first.invalidate_cache()
    assert entry_of(mine).state == GHOST
    assert mine.balance == 10
    mine.balance = 5
    first.invalidate_cache()
    assert mine.balance == 5


def test_no_transaction_is_left_open_after_a_load(place):
    store = place.open()
    id_ = store.save(Account(1))
    other = place.open()
    for n in range(5):
        store.load(id_)
        with other.transaction():
            other.load(id_).balance = n
    assert store.load(id_).balance == 4


# -- save, replace, remove -------------------------------------------------------------------------------------


def test_saving_again_keeps_the_id_and_writes_only_changes(store):
    account = Account(1)
    id_ = store.save(account)
    assert store.save(account) == id_
    assert store.revision() == 1
    account.balance = 2
    assert store.save(account) == id_
    assert store.revision() == 2


def test_replace_stores_a_copy(place):
    store = place.open()
    id_ = store.save(Account(1))
    held = store.load(id_)
    new = Account(2)
    new.itself = new
    store.replace(id_, new)
    assert new.persistent_id is None
    assert store.load(id_) is held
    assert held.balance == 2
    assert held.itself is held
    again = place.open().load(id_)
    assert again.balance == 2
    assert again.itself is again
    known = store.load(store.save(Account(3)))
    known_id = known.persistent_id
    store.replace(id_, known)
    assert known.persistent_id == known_id
    assert place.open().load(id_).balance == 3
    store.replace(id_, [1, 2])
    assert place.open().load(id_) == [1, 2]
    with pytest.raises(NotFound):
        store.replace("Account.99", Account())


def test_what_others_refer_to_replaced_by_a_plain_value(place):
    store = place.open()
    account = Account(1)
    holder = Holder(account)
    holder_id = store.save(holder)
    store.replace(account.persistent_id, [1, 2])
    again = place.open()
    with pytest.raises(ClassNotFound, match="plain value"):
        again.load(holder_id).target.balance
    assert again.load(account.persistent_id) == [1, 2]


def test_replace_inside_a_transaction(place):
    store = place.open()
    id_ = store.save(Account(1))
    with pytest.raises(Fails), store.transaction():
        store.replace(id_, Account(2))
        raise Fails
    assert store.load(id_).balance == 1
    with store.transaction():
        store.replace(id_, Account(2))
    assert store.load(id_).balance == 2
    assert place.open().load(id_).balance == 2


@pytest.mark.parametrize("first", ["replace", "change"])
def test_an_object_that_is_replaced_and_changed_in_one_transaction(place, first):
    store = place.open()
    account = Account(1)
    id_ = store.save(account)

    def both():
        for step in (first, {"replace": "change", "change": "replace"}[first]):
            if step == "replace":
                store.replace(id_, Account(2))
            else:
                account.balance = 3

    with pytest.raises(TransactionError, match=r"Account\.1 was replaced, and") as raised, store.transaction():
        both()
    assert raised.value.ids == (id_,)
    assert account.balance == 1
    assert [version.revision for version in store.history(id_)] == [1]
    account.balance = 4
    store.save(account)  # the store is usable
    assert place.open().load(id_).balance == 4


def test_an_object_that_is_replaced_and_only_looked_at(place):
    store = place.open()
    account = Account(1)
    id_ = store.save(account)
    with store.transaction():
        assert account.balance == 1
        store.replace(id_, Account(2))
    assert account.balance == 2


def test_remove(place):
    store = place.open()
    account = Account(1)
    id_ = store.save(account)
    store.remove(id_)
    assert account.balance == 1  # the object lives
    assert account.persistent_id is None
    for verb in (store.load, store.remove, place.open().load):
        with pytest.raises(NotFound):
            verb(id_)
    assert store.list() == []
    assert [version.removed for version in store.history(id_)] == [True, False]
    assert store.save(account) != id_  # ids are never used again


def test_remove_of_a_ghost_keeps_the_state_for_whoever_holds_it(place):
    ghost = place.ghost(Account(7))
    store = place.opened[-1]
    store.remove("Holder.1")
    store.remove(ghost.persistent_id)
    assert ghost.balance == 7


def test_remove_inside_a_transaction(place):
    store = place.open()
    account = Account(1)
    id_ = store.save(account)
    with pytest.raises(Fails), store.transaction():
        store.remove(id_)
        with pytest.raises(NotFound):
            store.load(id_)
        with pytest.raises(NotFound):
            store.remove(id_)
        raise Fails
    assert store.load(id_) is account
    with store.transaction():
        store.remove(id_)
        other = store.save(Account(2))
    assert store.list() == [other]
    assert account.persistent_id is None


def test_what_others_refer_to_is_not_removed(place):
    store = place.open()
    account, a, b = Account(), Holder(None), Holder(None)
    a.target = b.target = account
    store.save_many([a, b])
    with pytest.raises(StillReferred) as caught:
        store.remove(account.persistent_id)
    assert caught.value.referrers == (a.persistent_id, b.persistent_id)
    assert caught.value.ids == (account.persistent_id,)
    assert str(a.persistent_id) in str(caught.value)
    with store.transaction():
        store.remove(account.persistent_id)
        store.remove(b.persistent_id)
        a.target = None
    assert store.list() == [a.persistent_id]


def test_a_new_reference_to_what_is_removed_is_refused(store):
    account = Account()
    store.save(account)
    with pytest.raises(StillReferred), store.transaction():
        store.remove(account.persistent_id)
        store.save(Holder(account))
    assert store.load(account.persistent_id) is account
    assert len(store) == 1


def test_a_circle_goes_at_once(store):
    a = Holder(None)
    b = Holder(a)
    a.target = b
    store.save(a)
    with pytest.raises(StillReferred):
        store.remove(a.persistent_id)
    with store.transaction():
        store.remove(a.persistent_id)
        store.remove(b.persistent_id)
    assert len(store) == 0


def test_removal_by_another_program_shows_at_the_next_touch(place):
    ghost = place.ghost(Account(7))
    store, other = place.opened[-1], place.open()
    with other.transaction():
        other.load("Holder.1").target = None
        other.remove("Account.2")
    store.load("Holder.1")
    with pytest.raises(NotFound, match=r"Account\.2"):
        ghost.balance


# -- history ---------------------------------------------------------------------------------------------------


def test_history(store):
    account = Account(1)
    id_ = store.save(account)
    with store.transaction(note="raise"):
        account.balance = 2
    versions = store.history(id_)
    assert [(version.revision, version.note) for version in versions] == [(2, "raise"), (1, "")]
    assert versions[0].class_name.endswith(":Account")
    assert versions[0].time >= versions[1].time > 1e9
    with pytest.raises(NotFound):
        store.history("Account.99")
    assert [commit.revision for commit in store.transactions(limit=1)] == [2]


# -- roots -----------------------------------------------------------------------------------------------------


def test_roots_are_a_mapping(place):
    store = place.open()
    roots = store.roots
    assert dict(roots) == {}
    assert len(roots) == 0
    roots["users"] = [Account(1), Account(2)]
    roots["one"] = Account(3)
    roots["none"] = None
    again = place.open().roots
    assert sorted(again) == ["none", "one", "users"]
    assert len(again) == 3
    assert "one" in again
    assert "two" not in again
    assert again["one"].balance == 3
    assert again["none"] is None
    assert [account.balance for account in again["users"]] == [1, 2]
    assert again.get("two", 5) == 5
    with pytest.raises(NotFound, match="There are: none, one, users"):
        again["two"]
    with pytest.raises(KeyError):
        del again["two"]
    del again["users"]
    assert sorted(roots) == ["none", "one"]
    with pytest.raises(TypeError):
        roots[5] = 1
    roots["none"] = "text"
    assert place.open().roots["none"] == "text"


def test_a_roots_value_is_watched(place):
    store = place.open()
    store.roots["users"] = [Account(1)]
    with store.transaction():
        store.roots["users"].append(Account(2))
    assert [account.balance for account in place.open().roots["users"]] == [1, 2]
    again = place.open()
    with again.transaction():
        again.roots["users"][0].balance = 10
    assert [account.balance for account in store.roots["users"]] == [10, 2]


def test_roots_abort(place):
    store = place.open()
    with pytest.raises(Fails), store.transaction():
        store.roots["a"] = [1]
        assert store.roots["a"] == [1]
        raise Fails
    assert dict(store.roots) == {}
    store.roots["a"] = [1]
    with pytest.raises(Fails), store.transaction():
        store.roots["a"].append(2)
        store.roots["b"] = 1
        raise Fails
    assert dict(store.roots) == {"a": [1]}


def test_two_programs_that_set_different_names(place):
    first, second = place.open(), place.open()
    assert dict(first.roots) == dict(second.roots) == {}
    first.roots["a"] = 1
    second.roots["b"] = 2
    first.roots["c"] = 3
    assert dict(place.open().roots) == {"a": 1, "b": 2, "c": 3}


def test_a_reference_to_what_others_removed_is_a_conflict(store, place):
    other = place.open()
    id_ = store.save(Holder("goes"))
    with pytest.raises(ConflictError, match=f"{id_} was removed") as caught, other.transaction():
        other.save(Holder(other.load(id_)))
        store.remove(id_)
    assert caught.value.ids == (id_,)
    id_ = store.save(Holder("goes too"))
    loaded = other.load(id_)
    store.remove(id_)
    with pytest.raises(ConflictError, match="was removed"):
        other.save(Holder(loaded))


def test_a_reference_to_what_is_removed_at_the_same_moment(place, monkeypatch):
    """Between the making of a batch and its writing another process removes what it refers to."""
    store, other = place.open(), place.open()
    id_ = store.save(Holder("goes"))
    apply = type(other.backend).apply

    def late(self, batch, encode):
        monkeypatch.undo()
        store.remove(id_)
        return apply(self, batch, encode)

    loaded = other.load(id_)
    monkeypatch.setattr(type(other.backend), "apply", late)
    with pytest.raises(ConflictError, match=f"{id_} was removed") as caught:
        other.save(Holder(loaded))
    assert caught.value.ids == (id_,)
    assert len(store) == 0


def test_a_removal_of_what_is_referred_to_at_the_same_moment(place, monkeypatch):
    """Between the look at what refers to it, and the removal, another process saves a reference."""
    store, other = place.open(), place.open()
    id_ = store.save(Holder("stays"))
    apply = type(other.backend).apply

    def late(self, batch, encode):
        monkeypatch.undo()
        store.save(Holder(store.load(id_)))
        return apply(self, batch, encode)

    monkeypatch.setattr(type(other.backend), "apply", late)
    with pytest.raises(StillReferred, match="refers to it"):
        other.remove(id_)
    assert other.load(id_).target == "stays"


def test_a_removal_is_done_though_others_commit_at_the_same_moment(place, monkeypatch):
    store, other = place.open(), place.open()
    id_ = store.save(Holder("goes"))
    apply = type(other.backend).apply
    rounds = []

    def late(self, batch, encode):
        if batch.removals and len(rounds) < 5:
            rounds.append(batch.seen)
            store.save(Account())
        return apply(self, batch, encode)

    monkeypatch.setattr(type(other.backend), "apply", late)
    other.remove(id_)
    assert rounds == [1]  # nobody came to refer to it: once is enough
    assert id_ not in store.list()


def test_a_removal_that_meets_a_change_at_the_same_moment(place, monkeypatch):
    store, other = place.open(), place.open()
    id_ = store.save(Account(1))
    apply = type(other.backend).apply

    def late(self, batch, encode):
        monkeypatch.undo()
        store.load(id_).balance = 2
        store.save(store.load(id_))
        return apply(self, batch, encode)

    monkeypatch.setattr(type(other.backend), "apply", late)
    with pytest.raises(ConflictError) as caught:
        other.remove(id_)
    assert caught.value.revisions == {id_: (1, 2)}
    assert other.load(id_).balance == 2


def test_after_a_commit_one_sees_what_others_wrote_meanwhile(place):
    store, other = place.open(), place.open()
    a, b = store.save_many([Account(1), Account(2)])
    with store.transaction():
        store.load(a).balance = 10
        store.load(b)
        new = store.save(Account(5))
        other.load(b).balance = 20
        other.save(other.load(b))
    store.invalidate_cache()
    account = store.desk().view.load_many([a, b, new])  # without moving on
    assert [each.balance for each in account] == [10, 20, 5]


# -- what was only read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [True, False])
def test_what_was_only_read_may_be_checked(place, writes):
    store, other = place.open(), place.open()
    limit, account = store.save_many([Account(100), Account(0)])

    def change():
        other.load(limit).balance = 50
        other.save(other.load(limit))

    with pytest.raises(ConflictError) as caught, store.transaction() as transaction:
        transaction.read_current(store.load(limit))
        if writes:
            store.load(account).balance = 100
        change()
    assert caught.value.revisions == {limit: (1, 2)}
    assert store.load(account).balance == 0
    assert store.load(limit).balance == 50
    with store.transaction() as transaction:  # nobody came in between
        transaction.read_current(store.load(limit))
        if writes:
            store.load(account).balance = 50
    assert len(store.transactions()) == 2 + writes
    with store.transaction():  # without the check there is no conflict
        assert store.load(limit).balance == 50
        store.load(account).balance = 1
        other.load(limit).balance = 0
        other.save(other.load(limit))


def test_what_was_read_and_removed_by_another(place):
    store, other = place.open(), place.open()
    limit, account = store.save_many([Account(100), Account(0)])
    with pytest.raises(ConflictError) as caught, store.transaction() as transaction:
        transaction.read_current(store.load(limit))
        store.load(account).balance = 100
        other.remove(limit)
    assert caught.value.revisions == {limit: (1, 0)}


def test_read_current_of_ghosts_new_ones_and_others(place):
    ghost = place.ghost(Account(7))
    store = place.opened[-1]
    with store.transaction() as transaction:
        transaction.read_current(ghost)
        transaction.read_current(Account())
        ghost.balance = 8  # what is written is compared anyway
        with pytest.raises(TypeError, match="not a list"):
            transaction.read_current([])
        with pytest.raises(WrongView):
            transaction.read_current(place.opened[0].load("Account.2"))
        removed = store.load(store.save(Account()))
        transaction.read_current(removed)
    with pytest.raises(Fails), store.transaction() as transaction:
        with pytest.raises(Fails), transaction.savepoint():
            transaction.read_current(ghost)
            raise Fails
        assert transaction.step.checks == {}
        raise Fails
    with store.transaction() as transaction:
        transaction.read_current(removed)
        store.remove(removed.persistent_id)
    assert place.open().load(ghost.persistent_id).balance == 8


# -- running a function ----------------------------------------------------------------------------------------


def test_run(place):
    store = place.open()
    id_ = store.save(Account(1))

    def add(amount, *, twice=False):
        account = store.load(id_)
        account.balance += amount * (1 + twice)
        return account.balance

    assert store.run(add, 5, twice=True, note="ten") == 11
    assert store.transactions()[0].note == "ten"
    assert place.open().load(id_).balance == 11


def test_run_is_repeated_while_others_are_first(place, monkeypatch):
    store, other = place.open(), place.open()
    id_ = store.save(Account(0))
    waits = []
    monkeypatch.setattr("perdure.objects.transactions.running.time.sleep", waits.append)
    seen = []

    def add():
        account = store.load(id_)
        account.balance += 1
        seen.append(account.balance)
        if len(seen) <= 3:
            with other.transaction():
                other.load(id_).balance += 10

    store.run(add)
    assert seen == [1, 11, 21, 31]
    assert store.load(id_).balance == 31
    assert len(waits) == 3
    assert all(0 <= wait <= 1 for wait in waits)
    seen.clear()
    with pytest.raises(ConflictError) as caught:
        store.run(add, retries=1)
    assert len(seen) == 2
    assert caught.value.attempts == 2
    assert "attempt 2 of at most 2" in caught.value.__notes__[0]
    assert store.load(id_).balance == 51


def test_run_repeats_nothing_else(store):
    calls = []

    def fail(error):
        calls.append(store.save(Account()))
        raise error

    for error in (Fails(), NotFound("no")):
        with pytest.raises(type(error)):
            store.run(fail, error)
    assert len(calls) == 2
    assert len(store) == 0
    with pytest.raises(ValueError, match="-1"):
        store.run(fail, retries=-1)

    async def later():
        pass

    with pytest.raises(TypeError, match="arun"):
        store.run(later)


def test_run_inside_a_transaction_is_a_part_of_it(place):
    store, other = place.open(), place.open()
    id_ = store.save(Account(0))
    calls = []

    def add(error=None):
        calls.append(1)
        store.load(id_).balance += 1
        if error:
            raise error

    with store.transaction():
        store.run(add)
        with pytest.raises(ConflictError):
            store.run(add, ConflictError("as if"))
        assert store.load(id_).balance == 1
        assert other.load(id_).balance == 0
    assert other.load(id_).balance == 1
    assert len(calls) == 2


# -- forks -----------------------------------------------------------------------------------------------------


def forked(function):
    """What the function gives, as text, in a forked child."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(write, str(function()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0
    return told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_commit_its_parents_transaction(place):
    if place.kind == "memory":
        pytest.skip("memory is not shared between processes")
    store = place.open()
    id_ = store.save(Account(1))
    transaction = store.transaction(note="parent")
    transaction.__enter__()
    account = store.load(id_)
    account.balance = 2

    def end():
        try:
            transaction.__exit__(None, None, None)
        except TransactionError as error:
            return f"{error} {account.balance} {account.changed}"

    def write():
        with store.transaction(note="child"):
            mine = store.load(id_)
            seen = mine.balance
            mine.more = "child"
        return seen, store.save(Account()).startswith("Account")

    told = forked(end)
    assert "forked from" in told
    assert told.endswith(" 1 False")
    assert store.history(id_)[0].note == ""
    assert forked(write) == "(1, True)"
    assert [version.note for version in store.history(id_)] == ["child", ""]
    with pytest.raises(ConflictError):
        transaction.__exit__(None, None, None)  # the parent's own end: the child was first
    assert account.more == "child"


# -- when the store goes away ----------------------------------------------------------------------------------


class Queue(list, Persistable):
    pass


def gone(*args, **kwargs):
    raise StorageError("The database is gone.")


@pytest.mark.parametrize("name", ["apply", "reserve"])
def test_a_store_that_goes_away_at_the_commit(place, monkeypatch, name):
    store = place.open()
    account, queue = Account(1), Queue([1])
    id_, queue_id = store.save_many([account, queue])
    with monkeypatch.context() as patch:
        patch.setattr(type(store.backend), name, gone)
        if name == "apply":
            patch.setattr(type(store.backend), "read", gone)  # nor can anything be read anew
        with pytest.raises(StorageError), store.transaction():
            account.balance = 2
            queue.append(2)
            holder = Holder(Account(3))
            for _ in range(100):  # more numbers than are in hand
                store.save(Holder(holder))
    assert store.desk().transaction is None
    assert holder.persistent_id is None
    assert store.load(id_).balance == 1
    assert queue == [1]
    with store.transaction():
        account.balance = 5
        queue.append(5)
        store.save(holder)
    again = place.open()
    assert again.load(id_).balance == 5
    assert again.load(queue_id) == [1, 5]
    assert again.load(holder.persistent_id).target.balance == 3


def test_a_store_that_goes_away_while_a_ghost_is_touched(place, monkeypatch):
    far = place.open()
    account = Account(7)
    far.save(account)
    far.save_many([Holder(number) for number in range(50)])
    store = place.open()
    ghost = store.load(far.save(Holder(account))).target  # too far off to be read ahead
    other = Account(1)
    with pytest.raises(StorageError), store.transaction():
        store.save(other)
        with monkeypatch.context() as patch:
            for name in ("read", "read_run"):
                patch.setattr(type(store.backend), name, gone)
            ghost.balance
    assert other.persistent_id is None
    assert ghost.balance == 7
    ghost.balance = 8
    store.save(ghost)
    assert place.open().load(ghost.persistent_id).balance == 8


def test_what_could_not_be_read_anew_is_not_written(place, monkeypatch):
    """A class on list has no ghost: after an abort it must be read before anything else is done."""
    store = place.open()
    queue = Queue([1])
    id_ = store.save(queue)
    with pytest.raises(Fails), store.transaction():
        queue.append(2)
        with monkeypatch.context() as patch:
            patch.setattr(type(store.backend), "read", gone)
            store.desk().transaction.abort()
            with pytest.raises(StorageError):
                store.save(Account())
            with pytest.raises(StorageError):
                store.load(store.list()[0])
        raise Fails
    store.save(Account())
    assert queue == [1]
    assert place.open().load(id_) == [1]


def test_an_sqlite_file_that_is_taken_away(tmp_path):
    path = tmp_path / "shop.db"
    with make_store(f"sqlite:///{path}") as store:
        account = Account(1)
        store.save(account)
        with pytest.raises(StorageError), store.transaction():
            account.balance = 2
            for file in tmp_path.iterdir():
                file.rename(file.with_suffix(".away" + file.suffix))
        for file in tmp_path.iterdir():
            file.rename(tmp_path / file.name.replace(".away", ""))
        assert store.load(account.persistent_id).balance == 1
        with store.transaction():
            account.balance = 3
    with make_store(f"sqlite:///{path}") as again:
        assert again.load(account.persistent_id).balance == 3


@pytest.mark.skipif(sys.platform != "linux", reason="what others commit is watched on Linux only")
def test_a_transaction_after_an_own_commit_asks_the_backend_for_nothing(tmp_path, monkeypatch):
    store = make_store(f"sqlite:///{tmp_path / 'store.db'}", code="off")
    account = Account(1)
    store.save(account)
    with store.transaction():
        account.balance = 2
    monkeypatch.setattr(type(store.backend), "revision", None)
    with store.transaction() as tx:
        account.balance = 3
    assert tx.revision == 3
