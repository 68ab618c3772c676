"""Joining a transaction of the `transaction` package: a store as one of several resources of a two-phase commit.

- `Joined` is shaped as that package's `IDataManager` and `ISavepointDataManager` tell; the package is not imported.
- A backend has one step, `apply`: it is done in `tpc_vote`. So the store votes last (`sortKey`): whatever any other
  resource refuses, it refuses before.
- Not atomic: what happens between the vote and `tpc_finish`. If a resource that votes after this one fails, or another
  one's `tpc_finish`, or the process dies in between, the store's commit is there and the others' may not be.
  `tpc_abort` then raises `TransactionError`, which names the revision; it is taken back by a further commit.
"""

from __future__ import annotations

from typing import Any, Protocol

from perdure.errors import PerdureError, TransactionError
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.savepoints import Savepoint
from perdure.objects.transactions.transaction import Transaction


class Whole(Protocol):
    """What is asked of a transaction of the `transaction` package."""

    description: str

    def join(self, resource: Any) -> None: ...


class Offered(Protocol):
    """What is asked of a store."""

    url: str

    def desk(self) -> Desk: ...


def join(store: Offered, whole: Whole) -> Joined:
    """Let everything that this thread or task does in the store, from now on, be a part of `whole`.

    Call it once in each of the package's transactions; its description becomes the note of the commit. Raises
    `TransactionError` inside an open transaction of the store.
    """
    desk = store.desk()
    if desk.is_in_transaction:
        raise TransactionError(
            "The store's own transaction is open in this thread or task.", hint="Join before, or use only one of them."
        )
    joined = Joined(Transaction(desk), f"~perdure:{store.url}:{id(desk):x}", whole)
    try:
        whole.join(joined)
    except BaseException:  # it has failed before, say: nobody would ever end the store's own transaction
        joined.abort(whole)
        raise
    return joined


class Joined:
    """One store in one transaction of the `transaction` package; `revision` is what its commit made."""

    def __init__(self, transaction: Transaction, sort_key: str, whole: Whole):
        self.transaction_manager: Any = getattr(whole, "_manager", None)
        self._transaction = transaction
        self._sort_key = sort_key
        self._voted = False
        transaction.__enter__()

    @property
    def revision(self) -> int | None:
        """The revision that the commit made; None before it."""
        return self._transaction.revision

    def sortKey(self) -> str:  # noqa: N802 - the package's name for it
        """Behind the usual keys: a resource of one step votes last."""
        return self._sort_key

    def should_retry(self, error: BaseException) -> bool:
        """Whether the package may repeat the transaction by itself (`manager.attempts`, `manager.run`)."""
        return isinstance(error, PerdureError) and error.retryable

    def savepoint(self) -> Savepoint:
        """A savepoint; the package calls its `rollback`."""
        return self._transaction.savepoint()

    def abort(self, whole: Whole) -> None:
        """The transaction was aborted before its commit began."""
        self._transaction.abort()

    def tpc_begin(self, whole: Whole) -> None:
        """The commit begins."""
        self._transaction.note = str(whole.description or "")

    def commit(self, whole: Whole) -> None:
        """Nothing is written before the vote."""

    def tpc_vote(self, whole: Whole) -> None:
        """Write everything. Raises as `Transaction.commit` does; then everything is aborted."""
        self._transaction.commit()
        self._voted = True

    def tpc_finish(self, whole: Whole) -> None:
        """It is written already."""

    def tpc_abort(self, whole: Whole) -> None:
        """Abort. Raises `TransactionError` if it was committed before another resource failed."""
        if self._voted:
            raise TransactionError(
                f"{self._sort_key[1:]} was committed as revision {self.revision} before another resource failed.",
                hint="Take that revision back by a further commit.",
                revision=self.revision,
            )
        self._transaction.abort()
