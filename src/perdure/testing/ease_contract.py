"""What the contract says of calls that a backend may answer with little, or with more, to make others faster.

- A part of `BackendContract`, whose fixture `backend` it uses.
"""

from __future__ import annotations

from perdure.backends.base import Backend
from perdure.records.queries import Condition, Query
from perdure.records.values import Fields
from perdure.testing.backend_drafts import commit, draft


class EaseContract:
    """What holds for every backend, whether it does more than it must or not."""

    def test_class_names(self, backend: Backend) -> None:
        assert backend.class_names() == []
        commit(backend, draft("Item.1"), draft("Root.2", class_name="own:Root", internal=True))
        commit(backend, draft("Item.3"), draft("Job.4", class_name="flow:Job"))
        assert sorted(backend.class_names()) == ["flow:Job", "own:Root", "shop:Item"]
        commit(backend, draft("Item.1", base=1, class_name="shop:New"))
        assert {"flow:Job", "own:Root", "shop:Item", "shop:New"} == {*backend.class_names()}

    def test_reading_ahead_gives_nothing_but_what_was_there(self, backend: Backend) -> None:
        drafts = [draft(f"Item.{number}", b"old") for number in range(1, 8)]
        commit(backend, *drafts)
        commit(backend, draft("Item.2", b"new", base=1), removals={"Item.3": 1})
        for at in (1, 2):
            ids = [f"Item.{number}" for number in (2, 3, 4, 5)]
            found = backend.read_run(2, 6, at)
            assert found.items() <= backend.read(ids, at).items()
        assert backend.read_run(2, 2, 2) == backend.read_run(50, 60, 2) == {}

    def test_the_watch_shows_every_commit(self, backend: Backend) -> None:
        watch = backend.watch()
        for revision in range(1, 4):
            before = watch()
            commit(backend, draft(f"Item.{revision}"))
            assert watch() != before

    def test_numbers_that_are_given_back_are_given_again_or_not_but_once(self, backend: Backend) -> None:
        first = backend.reserve(10)
        if backend.give_back(first + 3, first + 10):
            assert backend.reserve(1) == first + 3
        else:
            assert backend.reserve(1) == first + 10
        first = backend.reserve(10)
        other = backend.reserve(1)  # stands in the way
        assert not backend.give_back(first + 3, first + 10)
        assert backend.reserve(1) == other + 1

    def test_indexes_are_of_fields_that_were_indexed(self, backend: Backend) -> None:
        fields: Fields = {"state": "new", "size": 1}
        commit(backend, draft("Job.1", class_name="flow:Job", fields=fields), indexed={"flow:Job": ("state",)})
        assert backend.indexes() in ({}, {"flow:Job": ["state"]})
        assert backend.find(Query(("flow:Job",), (Condition("state", "==", "new"),))).ids == ["Job.1"]

    def test_the_size_grows_with_what_is_kept(self, backend: Backend) -> None:
        before = backend.size()
        commit(backend, draft("Item.1", bytes(range(256)) * 4000))
        after = backend.size()
        assert (before is None and after is None) or (before is not None and after is not None and before < after)
