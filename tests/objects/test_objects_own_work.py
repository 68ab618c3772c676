"""What a transaction does with its own work: removed what it saved, saved what it removed, replaced twice."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import pytest
from places import Holder

from perdure import CannotLoad, NotFound, Persistable, StillReferred, TransactionError


class Account(Persistable):
    def __init__(self, balance=0):
        self.balance = balance


def test_what_is_saved_after_its_removal_stays(place):
    store = place.open()
    account = Account(1)
    id_ = store.save(account)
    with store.transaction():
        store.remove(id_)
        account.balance = 5
        assert store.save(account) == id_
        assert store.load(id_) is account
    assert account.persistent_id == id_
    assert place.open().load(id_).balance == 5


def test_what_was_saved_in_a_transaction_can_be_removed_in_it(place):
    store = place.open()
    with store.transaction():
        account = Account(1)
        id_ = store.save(account)
        assert store.load(id_) is account
        store.remove(id_)
        with pytest.raises(NotFound):
            store.load(id_)
        with pytest.raises(NotFound):
            store.remove(id_)
        value = store.save([1])
        store.remove(value)
    assert store.list() == []
    assert store.transactions() == []
    assert account.persistent_id is None
    assert account.balance == 1
    again = store.save(account)
    assert place.open().load(again).balance == 1


def test_a_rollback_takes_the_removal_of_what_is_new_back(place):
    store = place.open()
    with store.transaction() as transaction:
        id_ = store.save(Account(1))
        savepoint = transaction.savepoint()
        store.remove(id_)
        savepoint.rollback()
        assert store.load(id_).balance == 1
    assert place.open().load(id_).balance == 1


def test_an_abort_after_the_removal_of_what_is_new(store):
    account = Account(1)
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.remove(store.save(account))
        raise ZeroDivisionError
    assert store.list() == []
    assert store.save(account) in store


def test_what_is_new_and_removed_cannot_be_referred_to(store):
    with pytest.raises(StillReferred), store.transaction():
        account = Account(1)
        store.remove(store.save(account))
        store.save(Holder(account))
    assert store.list() == []


def test_a_new_object_is_not_replaced_and_a_new_value_is(place):
    store = place.open()
    with store.transaction():
        value, other = store.save_many([[1], [2]])
        store.replace(value, [3])
        store.replace(other, Account(4))
        id_ = store.save(Account(1))
        with pytest.raises(TransactionError, match="in this very transaction"):
            store.replace(id_, Account(2))
    again = place.open()
    assert again.load(value) == [3]
    assert again.load(other).balance == 4
    assert again.load(id_).balance == 1


def test_the_last_replacement_counts_and_a_removal_after_it(place):
    store = place.open()
    id_, gone = store.save_many([Account(1), Account(1)])
    with store.transaction():
        store.replace(id_, Account(2))
        store.replace(id_, Account(3))
        store.replace(gone, Account(2))
        store.remove(gone)
        assert store.load(id_).balance == 1  # what replaces it is seen after the commit
    assert store.load(id_).balance == 3
    again = place.open()
    assert again.load(id_).balance == 3
    with pytest.raises(NotFound):
        again.load(gone)


def test_a_list_in_a_transaction_is_as_of_its_beginning_with_its_own_work(place):
    store = place.open()
    id_, kept = store.save_many([Account(1), Account(2)])
    with store.transaction():
        new = store.save(Account(3))
        value = store.save([1])
        store.remove(id_)
        theirs = place.open().save(Account(4))
        assert store.list() == [*store] == [kept, new, value]
        assert len(store) == 3
        assert [each in store for each in (id_, kept, new, value, theirs)] == [False, True, True, True, False]
    assert store.list() == sorted([kept, new, value, theirs], key=lambda each: each.number)


class Unlucky(Persistable):
    def __init__(self, balance):
        self.balance = balance

    def __getstate__(self):
        return {"balance": self.balance}

    def __setstate__(self, state):
        if state["balance"] == 13:
            raise RuntimeError("unlucky")
        self.__dict__.update(state)


def test_an_abort_puts_all_others_back_when_a_class_refuses_its_state(store):
    bad, good = Unlucky(0), Account(0)
    store.save_many([bad, good])
    bad.balance, good.balance = 13, 1  # unsaved
    with pytest.raises(CannotLoad) as caught, store.transaction():
        bad.balance, good.balance = 14, 99
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)
    assert good.balance == 1
    assert bad.balance == 0  # as it is stored
    assert not store.desk().is_in_transaction
