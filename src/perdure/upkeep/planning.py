"""Which classes, versions and shapes a store holds, so that one knows which upgrades are still needed.

- Nothing is imported, and nothing of the records is made: headers tell it, and payloads gone through with stand-ins.
- Objects inside of records are told by the layout that they say, or the attributes that they have; what is in large
  payloads is not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from perdure.backends.base import Backend, chunks
from perdure.errors import SnapshotTooOld
from perdure.objects.reports import Planned
from perdure.objects.store import Store
from perdure.pickling.outline import Layout, told_layouts
from perdure.records.frame import parse_unverified, unpacked
from perdure.records.shape import parse_shape
from perdure.records.values import PLAIN, SHAPED, Record

STEP = 1000  # records after which progress is told

Progress = Callable[[int, int], None]


class _Kind(NamedTuple):
    class_name: str
    version: int
    attributes: tuple[str, ...] | None
    nested: bool


class _Count:
    def __init__(self, example: str):
        self.example = example
        self.records = self.older = 0


def plan(store: Store, *, history: bool = False, progress: Progress | None = None) -> list[Planned]:
    """How many records there are of each class, version and shape, by name; with `history` older versions as well.

    `progress(done, of)` is called now and then. Raises `CorruptRecord`.
    """
    backend = store.backend
    newest = backend.revision()
    counts: dict[_Kind, _Count] = {}
    of = backend.describe().next_number
    for seen, frame in enumerate(backend.scan()):
        record = parse_unverified(frame)
        for kind in _kinds(record):
            counts.setdefault(kind, _Count(record.id)).records += 1
        if progress is not None and seen % STEP == STEP - 1:
            progress(seen, max(of, seen))
    for record in _older(backend, newest) if history else ():
        for kind in _kinds(record):
            counts.setdefault(kind, _Count(record.id)).older += 1
    rows = [Planned(*kind, count.records, count.older, count.example) for kind, count in counts.items()]
    return sorted(rows, key=lambda row: (row.class_name, row.nested, row.version, row.attributes or ()))


def _kinds(record: Record) -> Iterator[_Kind]:
    record = unpacked(record)
    names = parse_shape(record.payload).names if record.flags & SHAPED else None
    inside: list[Layout] = []
    if not record.flags & PLAIN or names is None:
        found, inside = told_layouts(record.payload, record.flags)
        names = found if names is None else names
    yield _Kind(record.class_name, record.class_version, None if names is None else tuple(sorted(names)), False)
    for name, told, version in inside:
        yield _Kind(name, version, told, True)


def _older(backend: Backend, newest: int) -> Iterator[Record]:
    """Every kept version that was replaced or removed since."""
    for commit in backend.commits():
        try:
            for frame in _written(backend, commit.numbers, commit.revision):
                record = parse_unverified(frame)
                if record.revision == commit.revision and _is_replaced(backend, record, newest):
                    yield record
        except SnapshotTooOld:
            return


def _written(backend: Backend, numbers: Iterable[int], revision: int) -> Iterator[bytes]:
    for chunk in chunks(backend.ids_of([*numbers], revision)):
        yield from backend.read(chunk, revision).values()


def _is_replaced(backend: Backend, record: Record, newest: int) -> bool:
    now = backend.read([record.id], newest).get(record.id)
    return now is None or parse_unverified(now).revision != record.revision
