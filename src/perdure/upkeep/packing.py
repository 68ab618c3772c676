"""Packing a store: forgetting what is older than what is to be kept, and what nothing names any more.

- What a transaction that runs in this process can still see is kept, whatever was asked for.
- Large pieces go when no kept version of any object names them.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.objects.history import Keep, oldest_kept
from perdure.objects.reports import Packed
from perdure.objects.store import Store
from perdure.objects.views.view import View
from perdure.upkeep.large import drop_unnamed


def pack(store: Store, keep: Keep, views: Iterable[View]) -> Packed:
    """Forget what nobody needs from the oldest kept revision on; see `Store.pack`."""
    desk, backend = store.desk(), store.backend
    desk.require_writable()
    running = [view.revision for view in views if view.in_transaction and view.revision >= 0]
    oldest = max(min([oldest_kept(backend, keep, desk.now), *running]), backend.describe().oldest)
    before = backend.size()
    versions = backend.pack(oldest)
    pieces = drop_pieces(store, oldest)
    after = backend.size()
    freed = None if before is None or after is None else max(before - after, 0)
    return Packed(oldest, versions, pieces, freed)


def drop_pieces(store: Store, oldest: int) -> int:
    """Drop the large pieces that nothing names any more; gives how many."""
    dropped = len(drop_unnamed(store))
    if dropped and oldest:
        store.backend.pack(oldest)  # once more: the space of what was dropped comes back
    return dropped
