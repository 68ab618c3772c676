"""Removing what nothing refers to any more: marking over the headers of records, then ordinary commits.

- Kept is what was saved by name or by `save`, what roots name, what is perdure's own, and all that these refer to. A
  value of a root that was deleted or replaced is kept by nothing.
- Held in memory are numbers, not objects or records: for each object its number and those that it refers to.
- A commit removes nothing that others changed, or came to refer to, since it was looked at. Whatever others wrote is
  kept, and all that it refers to.
- Objects go before those that they refer to, and those that refer to one another in a circle go in one commit, so that
  a collection which is cut off leaves no reference without an object.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

from perdure.backends.base import Backend, chunks, number_of
from perdure.errors import ConflictError, SnapshotTooOld, TransactionError
from perdure.objects.reports import Collected
from perdure.objects.roots import Root
from perdure.objects.store import Store
from perdure.objects.transactions.commits import ROUNDS, Desk
from perdure.objects.transactions.removing import dismiss, wake
from perdure.objects.transactions.signing import signing
from perdure.pickling.classes import name_of
from perdure.records.frame import parse_unverified
from perdure.records.values import INTERNAL, KEPT, Batch, Record
from perdure.upkeep.large import drop_unnamed

TOGETHER = 1_000  # objects that one commit removes, unless they refer to one another in circles
SHOWN = 20  # ids that a report has

Progress = Callable[[int, int], None]


def collect(store: Store, *, dry_run: bool = False, progress: Progress | None = None) -> Collected:
    """See `Store.collect`."""
    desk = store.desk()
    if not dry_run:
        desk.require_writable()
    if desk.is_in_transaction:
        raise TransactionError("A collection makes commits of its own.", hint="Call it outside of the transaction.")
    backend = store.backend
    revision = backend.revision()
    graph = Graph()
    of = backend.describe().next_number
    for frame in backend.scan():
        record = parse_unverified(frame)
        graph.add(number_of(record.id), _is_kept(record), map(number_of, record.references))
        if progress is not None and not len(graph.numbers) % TOGETHER:
            progress(graph.numbers[-1], of)
    graph.mark()
    sweep = _Sweep(desk, graph, revision)
    sweep.catch_up(backend)  # what others wrote since then may have been seen or not
    first = [graph.numbers[place] for _, place in zip(range(SHOWN), graph.garbage(), strict=False)]
    shown = tuple(_ids_of(backend, first))
    if dry_run:
        return Collected(sum(1 for _ in graph.garbage()), len(graph.numbers), shown)
    for group in graph.groups():
        sweep.remove(group)
        if progress is not None:
            progress(sweep.removed, len(graph.numbers))
    drop_unnamed(store)
    return Collected(sweep.removed, len(graph.numbers), shown if sweep.removed else ())


def _is_kept(record: Record) -> bool:
    return bool(record.flags & KEPT) or bool(record.flags & INTERNAL and record.class_name != _ROOT)


_ROOT = name_of(Root)


class Graph:
    """Which number refers to which. Objects are added in the order of their numbers, and known by their places."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self._starts = array("q", [0])
        self._targets = array("q")  # numbers, those of place P from _starts[P] to _starts[P + 1]
        self._live = bytearray()

    def add(self, number: int, kept: bool, targets: Iterable[int]) -> None:
        """Take in an object."""
        self.numbers.append(number)
        self._live.append(kept)
        self._targets.extend(targets)
        self._starts.append(len(self._targets))

    def mark(self) -> None:
        """Mark everything that is reached from what is kept."""
        self._reach(array("q", (place for place, kept in enumerate(self._live) if kept)))

    def revive(self, number: int, targets: Iterable[int]) -> None:
        """Keep an object, known or new, that now refers to `targets`; and all that it reaches."""
        places = [place for each in (number, *targets) if (place := self._place(each)) is not None]
        fresh = array("q", (place for place in dict.fromkeys(places) if not self._live[place]))
        for place in fresh:
            self._live[place] = 1
        self._reach(fresh)

    def is_garbage(self, place: int) -> bool:
        """Whether nothing keeps the object of that place."""
        return not self._live[place]

    def garbage(self) -> Iterator[int]:
        """The places of what nothing keeps."""
        return (place for place, live in enumerate(self._live) if not live)

    def groups(self) -> Iterator[list[int]]:
        """The places of all garbage, what refers to others before those; circles, and what they reach, at last."""
        waiting = array("q", bytes(8 * len(self.numbers)))  # how many of the garbage that is left refer to it
        for place in self.garbage():
            for target in self._targets_of(place):
                if target != place:
                    waiting[target] += 1
        left = bytearray(not live for live in self._live)
        ready = array("q", (place for place in self.garbage() if not waiting[place]))
        group: list[int] = []
        while ready:
            place = ready.pop()
            left[place] = 0
            group.append(place)
            for target in self._targets_of(place):
                if target != place:
                    waiting[target] -= 1
                    if left[target] and not waiting[target]:
                        ready.append(target)
            if len(group) >= TOGETHER:
                yield group
                group = []
        yield group
        yield [place for place, is_left in enumerate(left) if is_left]

    def _reach(self, stack: array[int]) -> None:
        while stack:
            for target in self._targets_of(stack.pop()):
                if not self._live[target]:
                    self._live[target] = 1
                    stack.append(target)

    def _targets_of(self, place: int) -> Iterator[int]:
        for number in self._targets[self._starts[place] : self._starts[place + 1]]:
            found = self._place(number)
            if found is not None:
                yield found

    def _place(self, number: int) -> int | None:
        place = bisect_left(self.numbers, number)
        return place if place < len(self.numbers) and self.numbers[place] == number else None


class _Sweep:
    """The commits that remove the garbage."""

    def __init__(self, desk: Desk, graph: Graph, revision: int):
        self._desk = desk
        self._graph = graph
        self.revision = revision  # what the graph was made of, or was brought up to
        self.removed = 0

    def remove(self, places: list[int]) -> None:
        """Remove those of the places that are still garbage, in one commit. Raises `ConflictError`."""
        view, backend = self._desk.view, self._desk.view.backend
        for left in reversed(range(ROUNDS)):
            bases = self._bases(backend, places)
            if not bases:
                return
            batch = Batch(
                [], bases, {}, self.revision, self._desk.now(), f"collected {len(bases)} objects",
                unreferred=[*bases], keep=self._desk.keep,
            )  # fmt: skip
            with view.lock:
                view.refresh()
                wake(view, bases)
                try:
                    with signing(self._desk) as apply:
                        revision = apply(batch).revision
                except ConflictError:
                    if not left:
                        raise
                    self.catch_up(backend)
                    continue
                dismiss(view, bases)
                view.move_forward()
            self.removed += len(bases)
            if revision == self.revision + 1:
                self.revision = revision
            else:
                self.catch_up(backend)
            return

    def _bases(self, backend: Backend, places: list[int]) -> dict[str, int]:
        """The ids of those that are still garbage, with their revisions; not of what others have written since."""
        numbers = [self._graph.numbers[place] for place in places if self._graph.is_garbage(place)]
        bases: dict[str, int] = {}
        for chunk in chunks(_ids_of(backend, numbers) if numbers else ()):
            frames = map(parse_unverified, backend.read(chunk).values())
            bases.update((record.id, record.revision) for record in frames if record.revision <= self.revision)
        return bases

    def catch_up(self, backend: Backend) -> None:
        """Keep whatever others have written since, and all that it refers to."""
        try:
            newest, numbers = backend.changes(self.revision)
        except SnapshotTooOld:  # what others wrote since then is not known any more: all records are looked at
            newest = backend.revision()
            frames = backend.scan()
        else:
            frames = (frame for chunk in chunks(_ids_of(backend, numbers)) for frame in backend.read(chunk).values())
        for record in map(parse_unverified, frames):
            if record.revision > self.revision:
                self._graph.revive(number_of(record.id), map(number_of, record.references))
        self.revision = newest


def _ids_of(backend: Backend, numbers: Collection[int]) -> list[str]:
    """The ids of those numbers that are there now; others may commit, and forget, at this very moment."""
    for _ in range(ROUNDS):
        with suppress(SnapshotTooOld):
            return backend.ids_of(numbers, backend.revision())
    return backend.ids_of(numbers, backend.revision())
