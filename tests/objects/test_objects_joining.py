"""A store as a resource of the `transaction` package."""

from __future__ import annotations

import logging

import pytest
import transaction
from places import Holder

from perdure import ConflictError, Persistable, TransactionError
from perdure.objects.joining import join


class Account(Persistable):
    def __init__(self, balance=0):
        self.balance = balance


class Other:
    """Another resource, which fails at one step."""

    def __init__(self, fails_at="", key="a"):
        self.transaction_manager = transaction.manager
        self.fails_at = fails_at
        self.key = key
        self.steps = []

    def sortKey(self):
        return self.key

    def __getattr__(self, name):
        if name not in ("tpc_begin", "commit", "tpc_vote", "tpc_finish", "tpc_abort", "abort"):
            raise AttributeError(name)

        def step(whole):
            self.steps.append(name)
            if name == self.fails_at:
                raise ZeroDivisionError(name)

        return step


@pytest.fixture(autouse=True)
def own_transaction():
    transaction.begin()
    yield
    transaction.abort()


def test_a_commit(place):
    store = place.open()
    id_ = store.save(Account(1))
    account = store.load(id_)
    other = Other()
    whole = transaction.get()
    joined = join(store, whole)
    whole.join(other)
    whole.note("both")
    account.balance = 2
    new = store.save(Holder(account))
    assert place.open().load(id_).balance == 1
    assert joined.revision is None
    transaction.commit()
    assert joined.revision == 2
    assert other.steps == ["tpc_begin", "commit", "tpc_vote", "tpc_finish"]
    again = place.open()
    assert again.load(new).target.balance == 2
    assert again.transactions()[0].note == "both"
    account.balance = 3  # the store's own transactions go on
    with store.transaction():
        pass
    assert place.open().load(id_).balance == 3


def test_an_abort(store):
    account = Account(1)
    store.save(account)
    join(store, transaction.get())
    account.balance = 2
    transaction.abort()
    assert account.balance == 1
    assert store.revision() == 1


@pytest.mark.parametrize("step", ["commit", "tpc_vote"])
def test_another_resource_that_fails(store, step):
    """The store votes last: the other one has failed before anything is written."""
    account = Account(1)
    store.save(account)
    join(store, transaction.get())
    transaction.get().join(Other(step, "zzz"))
    account.balance = 2
    with pytest.raises(ZeroDivisionError):
        transaction.commit()
    assert account.balance == 1
    assert store.revision() == 1
    account.balance = 5
    store.save(account)


def test_what_fails_after_the_vote_is_told(store, caplog):
    account = Account(1)
    store.save(account)
    joined = join(store, transaction.get())
    transaction.get().join(Other("tpc_vote", "~zzz"))
    account.balance = 2
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError):
        transaction.commit()
    assert "was committed as revision 2" in caplog.text
    with pytest.raises(TransactionError) as caught:
        joined.tpc_abort(transaction.get())
    assert caught.value.revision == 2
    assert store.revision() == 2


def test_a_conflict(place):
    store, other = place.open(), place.open()
    id_ = store.save(Account(1))
    account = store.load(id_)
    join(store, transaction.get())
    account.balance = 2
    other.load(id_).balance = 10
    other.save(other.load(id_))
    with pytest.raises(ConflictError):
        transaction.commit()
    assert account.balance == 10


def test_savepoints(store):
    account = Account(1)
    store.save(account)
    join(store, transaction.get())
    account.balance = 2
    savepoint = transaction.savepoint()
    account.balance = 3
    savepoint.rollback()
    assert account.balance == 2
    transaction.commit()
    assert store.load(account.persistent_id).balance == 2
    assert store.revision() == 2


def test_attempts_of_the_package(place):
    """It repeats what the store calls retryable, and nothing else."""
    store, other = place.open(), place.open()
    id_ = store.save(Account(0))
    attempts = []
    for attempt in transaction.manager.attempts(3):
        with attempt:
            attempts.append(1)
            join(store, transaction.get())
            store.load(id_).balance += 1
            if len(attempts) == 1:
                other.load(id_).balance = 10
                other.save(other.load(id_))
    assert len(attempts) == 2
    assert store.load(id_).balance == 11

    def fail():
        attempts.append(1)
        join(store, transaction.get())
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        transaction.manager.run(fail)
    assert len(attempts) == 3


def test_joining_inside_a_transaction_is_refused(store):
    with store.transaction(), pytest.raises(TransactionError, match="is open"):
        join(store, transaction.get())
