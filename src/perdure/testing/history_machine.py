"""Random lives of a store, its history among them: the past, undo, packing.

- What a commit did is undone if nothing builds on it, or nothing of it is; the past is as it was.
- Packing takes nothing away that is there, or that a transaction sees.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from perdure.errors import ConflictError, StillReferred
from perdure.objects.store import Store
from perdure.records.frame import flags_of
from perdure.records.values import KEPT
from perdure.testing.store_items import State, shown
from perdure.testing.store_machine import StoreMachine

_picks = st.integers(0, 1000)


class HistoryMachine(StoreMachine):
    """A `StoreMachine` that looks back, packs and undoes as well."""

    def __init__(self, open_store: Callable[[], Store]):
        super().__init__(open_store)
        self.past: dict[int, dict[str, State]] = {0: {}}  # `stored` at each revision

    @invariant()
    def remembers(self) -> None:
        self.past[self.revision] = dict(self.stored)

    @rule(pick=_picks)
    def look_back(self, pick: int) -> None:
        """The store as it was at any revision that is kept."""
        oldest = self.store.backend.describe().oldest
        revision = oldest + pick % (self.revision - oldest + 1)
        with self.store.at(revision) as past:
            states = self.past[revision]
            assert {str(id_) for id_ in past.list()} == states.keys()
            assert {id_: shown(past.load(id_)) for id_ in states} == {
                id_: state._replace(revision=0) for id_, state in states.items()
            }

    @rule(keep=st.integers(1, 4))
    def pack(self, keep: int) -> None:
        """What is there, and what a transaction sees, stays."""
        packed = self.store.pack(keep=keep)
        assert packed.oldest <= max(self.revision - keep + 1, self.store.backend.describe().oldest)

    @precondition(lambda self: self.transaction is None)
    @rule(pick=_picks)
    def undo(self, pick: int) -> None:
        """All of it is taken back; or none, for a reason that can be seen."""
        oldest = self.store.backend.describe().oldest
        if self.revision <= oldest:
            return
        revision = oldest + 1 + pick % (self.revision - oldest)
        before, after = self.past[revision - 1], self.past[revision]
        touched = {id_ for id_ in (*before, *after) if before.get(id_) != after.get(id_)}
        gone = touched.difference(before)
        refused: tuple[str, ...] | None = None
        try:
            self.store.undo(revision)
        except (ConflictError, StillReferred) as error:
            refused = error.ids
        if refused is not None:
            event("undo refused")
            lost = {other for id_ in touched - gone for other in before[id_].others} - self.stored.keys()
            changed = {id_ for id_ in touched if self.stored.get(id_) != after.get(id_)}
            assert set() < {*refused} <= changed | lost | gone
            return
        event("undone")
        for id_ in touched:
            state, left = self.stored.get(id_), after.get(id_)
            assert (state and state[:3]) == (left and left[:3])
        self.revision += 1
        for id_ in touched - gone:
            self.stored[id_] = before[id_]._replace(revision=self.revision)
        for id_ in gone:
            del self.stored[id_]
            self.objects.pop(id_, None)
        frames = self.store.backend.read(sorted(touched - gone))
        self.kept -= touched
        self.kept.update(id_ for id_, frame in frames.items() if flags_of(frame) & KEPT)
