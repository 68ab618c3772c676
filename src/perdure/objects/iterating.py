"""Going through the objects of a store, or of a class, a batch at a time; memory holds one batch.

- In the order of ids. A batch has so many objects, or fewer where they have large pieces.
- Each batch is of one revision: in a transaction that of its beginning, else the newest.
- Before the next batch is read, those of the last one that were only looked at rest, and go unless somebody holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from perdure.backends.base import number_of
from perdure.errors import ClassNotFound, InvalidArgument, UntrustedRecord
from perdure.objects.instances.classes import is_kind_of
from perdure.objects.instances.guests import is_guest_class
from perdure.objects.instances.persistable import Persistable
from perdure.objects.transactions.commits import Desk
from perdure.objects.views.large import begun
from perdure.objects.views.prefetching import Paths, prefetch
from perdure.objects.views.view import View
from perdure.records.frame import Parts
from perdure.records.values import BUFFERED, FOREIGN, KIND_BITS, VALUE

BATCH = 500  # objects
BATCH_BYTES = 64 << 20  # of large pieces; a batch has at least one object
TRIES = 3  # to read a batch between the commits of others


def iterate(desk: Desk, cls: type[Any] | None, batch: int, paths: Paths) -> Iterator[Any]:
    """Every object of `cls` and its subclasses, or of the user's at all."""
    if cls is not None and not (isinstance(cls, type) and (issubclass(cls, Persistable) or is_guest_class(cls))):
        raise InvalidArgument(f"a class of persistable objects is gone through, not {cls!r}")
    if batch < 1:
        raise InvalidArgument(f"a batch has at least 1 object, not {batch!r}")
    return _batches(desk, _Wanted(desk.view, cls), batch, paths)


def _batches(desk: Desk, wanted: _Wanted, batch: int, paths: Paths) -> Iterator[Any]:
    view, after, is_more = desk.view, -1, True

    def read() -> tuple[list[Any], int, bool]:
        records, last, is_more = _next_batch(view, wanted, after, batch)
        objects = view.made_of({id_: parts for id_, parts in records.items() if id_ not in desk.removed})
        if paths:
            prefetch(view, objects, paths)
        return objects, last, is_more

    while is_more:
        view.refresh()
        with view.lock:
            objects, after, is_more = view.moving_on(read)
        yield from objects
        with view.lock:
            view.rest(objects)
        objects = []  # nothing of this batch is held while the next is read


def iterate_found(desk: Desk, ids: Sequence[str], batch: int, paths: Paths) -> Iterator[Any]:
    """The objects of those ids, in their order; what others have removed meanwhile is left out."""
    if batch < 1:
        raise InvalidArgument(f"a batch has at least 1 object, not {batch!r}")
    return _found_batches(desk, ids, batch, paths)


def _found_batches(desk: Desk, ids: Sequence[str], batch: int, paths: Paths) -> Iterator[Any]:
    view = desk.view

    def read(chunk: Sequence[str]) -> tuple[list[Any], int]:
        there = chunk if view.in_transaction else view.backend.classes(chunk, view.revision)
        present = [id_ for id_ in chunk if id_ in there]
        objects = view.read_many(present, within=BATCH_BYTES)
        if paths:
            prefetch(view, objects, paths)
        done = len(chunk) if len(objects) == len(present) else chunk.index(present[len(objects)])
        return objects, done

    start = 0
    while start < len(ids):
        view.refresh()
        with view.lock:
            objects, done = view.moving_on(partial(read, ids[start : start + batch]))
        start += done
        yield from objects
        with view.lock:
            view.rest(objects)
        objects = []


class _Wanted:
    """Which records are gone through."""

    def __init__(self, view: View, cls: type[Any] | None):
        self._view = view
        self._cls = cls
        self.internal = bool(getattr(cls, "__record_internal__", False))
        self._names: dict[tuple[str, int], bool] = {}  # classes in records, by their trust -> whether they are wanted

    def __call__(self, parts: Parts) -> bool:
        if self._cls is None:
            return True
        kind = parts[3], parts[2] & FOREIGN
        if kind not in self._names:
            self._names[kind] = parts[2] & KIND_BITS != VALUE and self._is_of_class(parts)
        return self._names[kind]

    def _is_of_class(self, parts: Parts) -> bool:
        assert self._cls is not None
        try:
            return is_kind_of(self._view.facts_of_record(parts).cls, self._cls)
        except (ClassNotFound, UntrustedRecord):
            return False


def _next_batch(view: View, wanted: _Wanted, after: int, batch: int) -> tuple[dict[str, Parts], int, bool]:
    """Records after a number, as of the view's revision; the number of the last one; if there are more."""
    for left in reversed(range(TRIES)):
        is_newest = view.backend.revision() == view.revision
        at = view.revision if not is_newest and (view.in_transaction or not left) else None
        decode = view.opener()
        frames = list(islice(view.backend.scan(internal=wanted.internal, after=after, at=at), batch))
        if at is not None or view.backend.revision() == view.revision:
            break
        view.refresh()  # somebody has committed meanwhile
    found = [decode(frame) for frame in frames]
    records = {parts[0]: parts for parts in found if wanted(parts)}
    few = begun(records, BATCH_BYTES) if any(parts[2] & BUFFERED for parts in found) else records
    if len(few) < len(records):
        return few, number_of([*few][-1]), True
    return records, number_of(found[-1][0]) if found else after, len(found) == batch
