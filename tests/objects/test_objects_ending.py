"""How transactions end where something comes between: a closed store, another thread, an interrupt, a wrong note."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import threading

import pytest

from perdure import ConflictError, PerdureError, Persistable, StoreClosed, TransactionError, WrongView


class Account(Persistable):
    def __init__(self, balance=0):
        self.balance = balance


def in_another_thread(work):
    """What the call gives or raises there."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except PerdureError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_a_commit_after_another_thread_has_closed_the_store_raises(place):
    store = place.open()
    id_ = store.save(Account(1))
    with pytest.raises(StoreClosed), store.transaction() as transaction:
        store.load(id_).balance = 42
        in_another_thread(store.close)
    assert transaction.revision is None
    if place.kind == "memory":
        place.is_whole = False  # gone with its only store
    else:
        assert place.open().load(id_).balance == 1


def test_a_vote_after_the_store_was_closed_raises(tmp_path):
    transaction = pytest.importorskip("transaction")
    from perdure import make_store
    from perdure.objects.joining import join

    store = make_store(tmp_path / "objects.db")
    id_ = store.save(Account(1))
    with transaction.manager as whole:
        joined = join(store, whole)
        store.load(id_).balance = 42
        store.close()
        with pytest.raises(StoreClosed):
            joined.tpc_vote(whole)
        whole.doom()
        transaction.abort()
        transaction.begin()
    with make_store(tmp_path / "objects.db") as again:
        assert again.load(id_).balance == 1


@pytest.mark.parametrize("note", [5, None, b"bytes"])
def test_a_note_is_text(store, note):
    for call in (
        lambda: store.transaction(note=note),
        lambda: store.run(lambda: store.save(Account()), note=note),
    ):
        with pytest.raises(TypeError, match="a note is text"):
            call()
    assert not store.desk().is_in_transaction
    assert store.save(Account()) in store


def test_a_note_that_is_no_text_aborts_the_transaction(store):
    account = Account(1)
    id_ = store.save(account)
    with pytest.raises(TypeError, match="a note is text, not int"), store.transaction() as transaction:
        account.balance = 2
        transaction.note = 5
    assert account.balance == 1
    assert not store.desk().is_in_transaction
    assert store.save(Account()) in store
    assert store.load(id_) is account


def test_another_thread_cannot_use_a_transaction(store):
    account = Account(1)
    store.save(account)
    with store.transaction() as transaction:
        account.balance = 3
        savepoint = transaction.savepoint()
        for use in (
            transaction.savepoint,
            savepoint.rollback,
            transaction.commit,
            transaction.abort,
            lambda: transaction.read_current(account),
        ):
            assert isinstance(in_another_thread(use), WrongView)
        assert account.balance == 3
    assert account.balance == 3
    assert store.transactions()[0].revision == transaction.revision == 2


def test_another_thread_cannot_begin_a_transaction(store):
    id_ = store.save(Account(1))
    transaction = store.transaction()

    def work():
        with transaction:
            store.load(id_).balance = 7

    assert isinstance(in_another_thread(work), WrongView)
    with transaction:  # it was not begun there
        store.load(id_).balance = 8
    assert store.load(id_).balance == 8


@pytest.mark.parametrize("changes", [False, True])
def test_a_transaction_is_begun_once(store, changes):
    account = Account(1)
    store.save(account)
    transaction = store.transaction()
    with transaction:
        if changes:
            account.balance = 2
    with pytest.raises(TransactionError, match="was begun before"), transaction:
        account.balance = 99
    assert account.balance != 99
    assert not store.desk().is_in_transaction


class Interrupting(list):
    def clear(self):
        raise KeyboardInterrupt


def test_an_interrupt_in_the_end_of_a_transaction_leaves_none_open(store):
    account = Account(1)
    id_ = store.save(account)
    with pytest.raises(KeyboardInterrupt), store.transaction() as transaction:
        account.balance = 2
        transaction._savepoints = Interrupting()
    assert not store.desk().is_in_transaction
    account.balance = 3
    store.save(account)
    with store.transaction():
        account.balance = 4
    assert store.load(id_).balance == 4


@pytest.mark.parametrize("method", ["commit", "_end", "_notes"])
def test_an_interrupt_at_the_call_of_what_ends_a_transaction_leaves_none_open(store, monkeypatch, method):
    from perdure.objects.transactions.transaction import Transaction

    account = Account(1)
    id_ = store.save(account)
    original, calls = getattr(Transaction, method), []

    def interrupted(self):
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Transaction, method, interrupted)
    with pytest.raises(KeyboardInterrupt), store.transaction():
        account.balance = 2
    assert not store.desk().is_in_transaction
    stored = 2 if method == "_end" else 1  # before that, nothing was written
    assert account.balance == stored
    account.balance = 5
    store.save(account)
    assert store.load(id_).balance == 5


def test_what_is_changed_after_an_end_by_hand_is_outside_of_the_transaction(store):
    account = Account(1)
    id_ = store.save(account)
    with store.transaction() as transaction:
        account.balance = 2
        transaction.abort()
        account.balance = 3
    assert account.balance == 3
    assert in_another_thread(lambda: store.load(id_).balance) == 1
    with store.transaction() as transaction:
        transaction.commit()
        account.balance = 4
    assert in_another_thread(lambda: store.load(id_).balance) == 3


def test_a_repeated_function_does_not_lose_earlier_changes(store):
    account, other = Account(0), Account(0)
    id_, other_id = store.save_many([account, other])
    account.balance = 5  # unsaved
    calls = []

    def elsewhere():
        theirs = store.load(id_)
        theirs.balance = 9
        store.save(theirs)

    def work():
        calls.append(1)
        store.load(other_id).balance += 1

    in_another_thread(elsewhere)
    with pytest.raises(ConflictError) as caught:
        store.run(work)
    assert caught.value.changed_before == (id_,)
    assert (account.balance, other.balance, len(calls)) == (5, 0, 1)
    with pytest.raises(ConflictError):
        store.save(account)
    assert account.balance == 9  # told of, and let go
    store.run(work)
    assert other.balance == 1
