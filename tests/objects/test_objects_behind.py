"""Objects that a view has not followed to the newest revision: with unsaved changes, or because they cannot be read."""

from __future__ import annotations

import gc

import pytest
import transaction
from places import Place

import perdure
from perdure import CannotResolve, ConflictError, Persistable
from perdure.objects.joining import join


class Account(Persistable):
    def __init__(self, balance: int):
        self.balance = balance


class Queue(list, Persistable):
    """Without a ghost class: read at once, and read anew at once."""


class Row:
    """Outside of the store."""

    def __init__(self, key: str):
        self.key = key


@pytest.fixture
def gone() -> set[str]:
    """Rows that cannot be had for now."""
    missing: set[str] = set()

    @perdure.reference("RowBehind", Row, key=lambda row: row.key)
    def find(key: str, resources: object) -> Row:
        if key in missing:
            raise LookupError("the row is gone")
        return Row(key)

    return missing


# -- unsaved changes that were taken back -------------------------------------------------------------------


@pytest.mark.parametrize("then", ["save", "load", "a transaction"])
def test_a_change_that_is_taken_back_gives_way_to_what_others_have_written(place: Place, then: str) -> None:
    mine, other = place.open(), place.open()
    first, second = mine.save_many([Account(100), Account(0)])
    account = mine.load(first)
    account.balance = 99
    with other.transaction():
        other.load(first).balance, other.load(second).balance = 0, 100
    assert mine.load(second).balance == 100
    assert account.balance == 99  # an unsaved change stays
    account.balance = 100
    if then == "save":
        mine.save(account)
    elif then == "load":
        mine.load(second)
    else:
        with mine.transaction():
            pass
    assert (account.balance, account.changed) == (0, False)
    account.balance += 1
    mine.save(account)
    assert place.open().load(first).balance == 1


def test_within_a_transaction_all_is_of_one_revision(place: Place) -> None:
    mine, other = place.open(), place.open()
    first, second = mine.save_many([Account(100), Account(0)])
    account = mine.load(first)
    account.balance = 99
    with other.transaction():
        other.load(first).balance, other.load(second).balance = 0, 100
    mine.load(second)
    account.balance = 100
    with mine.transaction():
        assert mine.load(first).balance + mine.load(second).balance == 100


# -- what cannot be read anew -------------------------------------------------------------------------------


def test_one_object_that_cannot_be_read_anew_does_not_leave_others_behind(place: Place, gone: set[str]) -> None:
    mine, other = place.open(), place.open()
    queue, account = Queue([1]), Account(100)
    _, account_id = mine.save_many([queue, account])
    with other.transaction():
        other.load(queue.persistent_id).append(Row("x"))
        other.load(account_id).balance += 1000
    gone.add("x")
    for _ in range(2):  # as long as it is so, and somebody holds the queue
        with pytest.raises(CannotResolve, match=r"Queue.1 → \[1\]"):
            mine.load(account_id)
    assert account.balance == 1100
    gone.clear()
    assert mine.load(account_id) is account
    assert queue[1].key == "x"
    account.balance += 1
    mine.save(account)
    assert place.open().load(account_id).balance == 1101


def test_what_cannot_be_read_anew_and_nobody_holds_is_in_nobodys_way(place: Place, gone: set[str]) -> None:
    mine, other = place.open(), place.open()
    queue = Queue([1])
    queue_id, account_id = mine.save_many([queue, Account(100)])
    with other.transaction():
        other.load(queue_id).append(Row("x"))
        other.load(account_id).balance += 1000
    gone.add("x")
    with pytest.raises(CannotResolve):
        mine.load(account_id)
    del queue
    mine.desk().view.enlisted.clear()  # as a commit or an abort does
    gc.collect()
    assert mine.load(account_id).balance == 1100
    with pytest.raises(CannotResolve):
        mine.load(queue_id)


def test_a_commit_that_is_there_does_not_raise_for_what_others_have_written(place: Place, gone: set[str]) -> None:
    mine, other = place.open(), place.open()
    queue, account = Queue([1]), Account(100)
    queue_id, account_id = mine.save_many([queue, account])
    with mine.transaction() as tx:
        account.balance += 10
        others = other.load(queue_id)
        others.append(Row("x"))
        other.save(others)
        gone.add("x")
    assert tx.revision == 3
    assert place.open().load(account_id).balance == 110
    with pytest.raises(CannotResolve):
        mine.load(account_id)


def test_a_change_of_what_others_have_changed_is_still_a_conflict(place: Place) -> None:
    mine, other = place.open(), place.open()
    id_, far = mine.save_many([Account(1), Account(1)])
    account = mine.load(id_)
    account.balance = 2
    other.load(id_).balance = 3
    other.save(other.load(id_))
    mine.load(far)
    with pytest.raises(ConflictError):
        mine.save(account)


# -- a transaction that refuses to be joined ----------------------------------------------------------------


def test_a_failed_transaction_that_is_joined_leaves_nothing_open(place: Place) -> None:
    store = place.open()
    store.save(Account(0))

    class Broken:
        def sortKey(self) -> str:
            return "a"

        def commit(self, whole: object) -> None:
            raise ZeroDivisionError

        def ignore(self, whole: object) -> None:
            pass

        abort = tpc_begin = tpc_vote = tpc_finish = tpc_abort = ignore

    manager = transaction.TransactionManager()
    whole = manager.begin()
    whole.join(Broken())
    with pytest.raises(ZeroDivisionError):
        manager.commit()
    with pytest.raises(transaction.interfaces.TransactionFailedError):
        join(store, whole)
    manager.abort()
    id_ = store.save(Account(1))
    assert place.open().load(id_).balance == 1
