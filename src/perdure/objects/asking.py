"""The part of a store that is asked for objects by their class and fields: `find`, `count`, `iterate`, `reindex`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from perdure.errors import InvalidArgument, TransactionError
from perdure.objects.awaiting import AsyncFace
from perdure.objects.finding import Finding, count, find_ids
from perdure.objects.iterating import BATCH, iterate, iterate_found
from perdure.objects.reindexing import reindex
from perdure.objects.transactions.commits import Desk
from perdure.objects.views.prefetching import Paths

T = TypeVar("T")


class Asking(AsyncFace):
    """What a `Store` has for questions."""

    _finding: Finding  # this and the next are the store's own
    _new_desk: Callable[[Callable[[], bool]], Desk]

    @overload
    def find(
        self,
        cls: type[T],
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        subclasses: bool = True,
        scan: bool = False,
        **conditions: Any,
    ) -> list[T]: ...
    @overload
    def find(
        self,
        cls: str,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        subclasses: bool = True,
        scan: bool = False,
        **conditions: Any,
    ) -> list[Any]: ...
    def find(
        self,
        cls: type[Any] | str,
        *,
        order_by: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        subclasses: bool = True,
        scan: bool = False,
        **conditions: Any,
    ) -> list[Any]:
        """The objects of a class and its subclasses for which all conditions hold, loaded in one read.

        A condition is `name=value`, or `name__OPERATOR=value` with `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `in`,
        `startswith`; a range is never true of a value of another kind (None, number, text). `order_by` is one name or
        several, each with `-` before it for descending; what is equal stands in the order of ids. The names must be in
        `__indexed__` of the class, or in `extra_fields`; with `scan=True` any attribute will do, and all objects of the
        class are loaded and compared. Inside a transaction, what it has changed, saved or removed counts.

        Raises `NotIndexed`, `CannotIndex` (a value that no index holds), `ClassNotFound` (of a name), `SnapshotTooOld`.
        """
        desk = self.desk()
        asked = self._finding.asked(cls, conditions, order_by, limit, offset, subclasses=subclasses, scan=scan)
        view = desk.view
        return view.moving_on(lambda: view.load_many(find_ids(self._finding, desk, asked), moving=False))

    def count(self, cls: type[Any] | str, *, subclasses: bool = True, scan: bool = False, **conditions: Any) -> int:
        """How many objects `find` would give; nothing is loaded (but with `scan=True`). Raises as `find` does."""
        desk = self.desk()
        asked = self._finding.asked(cls, conditions, subclasses=subclasses, scan=scan)
        return desk.view.moving_on(lambda: count(self._finding, desk, asked))

    def reindex(
        self,
        cls: type[Any] | str,
        *,
        subclasses: bool = True,
        batch: int = 500,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write anew what was saved before its class had the index that it has now; gives how many objects.

        It may be called while others write, and be cut off and called again: each `batch` is a commit of its own.
        `progress(done, of)` is called after each. Raises `TransactionError` inside a transaction, and what loading and
        saving the objects raises; those before stay written.
        """
        if self.desk().transaction is not None:
            raise TransactionError("reindex makes commits of its own.", hint="Call it outside of the transaction.")
        thread = threading.get_ident()
        desk = self._new_desk(lambda: threading.get_ident() == thread)
        return reindex(self._finding, desk, cls, subclasses=subclasses, batch=batch, progress=progress)

    @overload
    def iterate(
        self, cls: str | None = None, *, batch: int = BATCH, prefetch: Paths = (), **asked: Any
    ) -> Iterator[Any]: ...
    @overload
    def iterate(self, cls: type[T], *, batch: int = BATCH, prefetch: Paths = (), **asked: Any) -> Iterator[T]: ...
    def iterate(
        self, cls: type[Any] | str | None = None, *, batch: int = BATCH, prefetch: Paths = (), **asked: Any
    ) -> Iterator[Any]:
        """Go through all objects of a class and its subclasses, or all of yours, in the order of their ids.

        They are loaded `batch` at a time, and let go when the next are: memory stays flat unless you hold or change
        them. In a transaction they are as at its beginning, without what it has saved itself; outside, each batch is
        of the newest revision. What may be in no batch: objects that others add or remove meanwhile.

        With conditions, or anything else that `find` is asked, the ids of the answer are found at once, and the objects
        are loaded as above; in a transaction with its own work, as from `find`.
        """
        desk = self.desk()
        if cls is None or not (asked or isinstance(cls, str)):
            if asked:
                raise InvalidArgument("A class is needed to ask for objects by their fields.")
            return iterate(desk, cls, batch, prefetch)
        question = self._finding.asked_as_find(cls, asked)
        ids = desk.view.moving_on(lambda: find_ids(self._finding, desk, question))
        return iterate_found(desk, ids, batch, prefetch)
