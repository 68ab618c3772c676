"""Random histories: a backend and the reference in memory are told the same, and must answer the same.

- A batch claims to have seen the newest revision only where its bases are true, as a transaction would.
- After every step all that can be asked is asked of both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from perdure.backends.base import Backend, number_of
from perdure.backends.memory import MemoryBackend
from perdure.errors import ConflictError, IdInUse
from perdure.records.frame import parse_unverified
from perdure.records.values import INTERNAL, Batch, Draft, Receipt
from perdure.testing.backend_drafts import ENCODE

_PREFIXES = ("Item", "User")
_CLASSES = ("shop:Item", "shop:User", "perdure:Run")


class BackendMachine(RuleBasedStateMachine):
    """`make` gives a fresh backend; its twin is a `MemoryBackend`."""

    def __init__(self, make: Callable[[], Backend]):
        super().__init__()
        self.backend = make()
        self.twin = MemoryBackend()
        self.known: dict[str, int] = {}  # every id that ever was: the revision of its newest version, 0 if removed
        self.revisions: list[dict[str, int]] = [{}]  # `known` as it was at each revision
        self.removals: dict[str, int] = {}  # of those that are not there: the revision of the removal
        self.time = 1.0

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        """A commit of new, changed and removed records, with some that were only read."""
        alive = [id_ for id_, revision in self.known.items() if revision]
        touched = data.draw(st.lists(st.sampled_from(alive), unique=True, max_size=4)) if alive else []
        fates = [data.draw(st.sampled_from(["change", "remove", "check"])) for _ in touched]
        by_fate = {fate: [id_ for id_, own in zip(touched, fates, strict=True) if own == fate] for fate in fates}
        drafts = [self._draft(data, id_, self.known[id_]) for id_ in by_fate.get("change", [])]
        count = data.draw(st.integers(0, 4))
        spare = data.draw(st.integers(0, 2))
        first = self._both("reserve", count + spare)
        drafts += [self._draft(data, f"{data.draw(st.sampled_from(_PREFIXES))}.{first + n}", 0) for n in range(count)]
        batch = Batch(
            drafts,
            {id_: self.known[id_] for id_ in by_fate.get("remove", [])},
            {id_: self.known[id_] for id_ in by_fate.get("check", [])},
            seen=data.draw(st.sampled_from([0, len(self.revisions) - 1])),
            time=self.time,
            note=data.draw(st.sampled_from(["", "a note"])),
            unused=(first + count, first + count + spare),
            keep=data.draw(st.sampled_from([None, None, None, 0.0, 3.0])),
        )
        self.time += data.draw(st.sampled_from([0.0, 1.0, 1.0, -1.0]))
        self._commit(batch)

    @rule(data=st.data(), gap=st.integers(0, 5))
    def apply_ids_from_elsewhere(self, data: st.DataObject, gap: int) -> None:
        self._commit(Batch([self._draft(data, f"Own.{self.twin.describe().next_number + gap}", 0)]))

    @rule(data=st.data())
    def apply_what_others_changed(self, data: st.DataObject) -> None:
        """A commit from a view of the past: either nobody touched what it touches, or it conflicts."""
        seen = data.draw(st.integers(0, len(self.revisions) - 1))
        past = {id_: revision for id_, revision in self.revisions[seen].items() if revision}
        if not past:
            return
        ids = data.draw(st.lists(st.sampled_from(list(past)), unique=True, min_size=1, max_size=3))
        drafts = [self._draft(data, id_, past[id_]) for id_ in ids[1:]]
        self._commit(Batch(drafts, {ids[0]: past[ids[0]]}, seen=seen))

    @rule(data=st.data())
    def apply_a_number_that_was_given(self, data: st.DataObject) -> None:
        if self.known:
            number = number_of(data.draw(st.sampled_from(list(self.known))))
            prefix = data.draw(st.sampled_from(_PREFIXES))
            self._commit(Batch([self._draft(data, f"{prefix}.{number}", 0)], seen=len(self.revisions) - 1))

    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        """What was removed comes back, if it was the named revision that removed it."""
        if self.removals:
            id_ = data.draw(st.sampled_from(list(self.removals)))
            base = data.draw(st.sampled_from([self.removals[id_], self.removals[id_], len(self.revisions) - 1]))
            self._commit(Batch([self._draft(data, id_, base)], time=self.time))

    @rule(data=st.data())
    def pack(self, data: st.DataObject) -> None:
        self._both("pack", data.draw(st.integers(0, len(self.revisions))))

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        if self.known:
            self._both("erase", data.draw(st.lists(st.sampled_from(list(self.known)), unique=True, max_size=2)))

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from([*self.known, "Item.999", "User.1", "Item.1"]), max_size=8))
        at = data.draw(st.one_of(st.none(), st.integers(self.oldest, len(self.revisions) - 1)))
        self._both("read", ids, at)
        self._both("classes", ids, at)
        self._both("referrers", ids)

    @rule(class_name=st.sampled_from([None, *_CLASSES]), internal=st.sampled_from([None, False, True]))
    def scan(self, class_name: str | None, internal: bool | None) -> None:
        for after in (-1, len(self.known) // 2):
            found = [
                list(each.scan(class_name=class_name, internal=internal, after=after))
                for each in (self.backend, self.twin)
            ]
            assert found[0] == found[1]

    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(self.oldest, len(self.revisions)))
        self._both("changes", min(revision, len(self.revisions) - 1))
        self._both("commits_of", data.draw(st.lists(st.integers(max(self.oldest, 1), len(self.revisions)))))
        self._both("ids_of", list(map(number_of, self.known)), min(revision, len(self.revisions) - 1))
        limit = data.draw(st.integers(0, max(min(3, revision - self.oldest), 0)))
        self._both("commits", revision, limit)

    @invariant()
    def both_are_alike(self) -> None:
        assert self.backend.describe()[3:] == self.twin.describe()[3:]
        self._both("revision")
        self._both("ids")
        assert self.backend.ids(internal=True) == self.twin.ids(internal=True)
        # Of commits below the oldest revision some may be kept, which ones is the backend's affair.
        found, expected = (
            [commit for commit in each.commits() if commit.revision >= self.oldest]
            for each in (self.backend, self.twin)
        )
        assert found == expected
        for id_ in self.known:
            self._both("history", id_)

    def teardown(self) -> None:
        try:
            for revision in range(self.oldest, len(self.revisions)):
                for ids in (list(self.known), *([id_] for id_ in self.known)):
                    self._both("read", ids, revision)
                    self._both("classes", ids, revision)
                self._both("changes", revision)
        finally:
            self.backend.close()

    @property
    def oldest(self) -> int:
        """The oldest revision that can be read."""
        return self.twin.describe().oldest

    def _draft(self, data: st.DataObject, id_: str, base: int) -> Draft:
        class_name = data.draw(st.sampled_from(_CLASSES))
        flags = data.draw(st.sampled_from([0, INTERNAL]))
        references = data.draw(st.lists(st.sampled_from([*self.known, "Item.1"]), unique=True, max_size=2))
        return Draft(id_, base, flags, class_name, 1, "", tuple(references), {}, data.draw(st.binary(max_size=4)))

    def _commit(self, batch: Batch) -> None:
        if self._both("apply", batch, ENCODE) is None:
            return
        revision = len(self.revisions)
        self.known.update(dict.fromkeys((draft.id for draft in batch.drafts), revision))
        self.known.update(dict.fromkeys(batch.removals, 0))
        self.removals.update(dict.fromkeys(batch.removals, revision))
        for draft in batch.drafts:
            self.removals.pop(draft.id, None)
        self.revisions.append(dict(self.known))
        for draft in batch.drafts:
            record = parse_unverified(self.backend.read([draft.id])[draft.id])
            assert (record.revision, record.payload) == (revision, draft.payload)

    def _both(self, method: str, *arguments: Any) -> Any:
        """The answer that both give; None if both refuse for the same reason."""
        answers: list[tuple[Any, Any]] = []
        for each in (self.backend, self.twin):
            try:
                answer = getattr(each, method)(*arguments)
                # What a watch gives is known to its own backend only.
                answers.append((answer._replace(mark=None) if isinstance(answer, Receipt) else answer, None))
            except (ConflictError, IdInUse) as error:
                answers.append((None, (type(error), set(error.ids), error.details)))
            except ValueError:
                answers.append((None, ValueError))
        assert answers[0] == answers[1]
        return answers[0][0]
