"""What the contract says of objects that come back after they were removed, and of looking commits up.

- A part of `BackendContract`, whose fixture `backend` it uses.
"""

from __future__ import annotations

import pytest

from perdure.backends.base import Backend
from perdure.errors import ConflictError, IdInUse
from perdure.testing.backend_drafts import commit, draft, payloads


class UndoingContract:
    """What holds for every backend whose removed objects can come back."""

    def _removed(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"1"), draft("Run.2", b"1", internal=True), draft("Item.3", b"1"))
        commit(backend, draft("Item.1", b"2", base=1))
        commit(backend, removals={"Item.1": 2, "Run.2": 1})
        commit(backend, draft("Item.4"))

    @pytest.mark.parametrize("seen", [0, 4])
    def test_a_removed_object_comes_back(self, backend: Backend, seen: int) -> None:
        self._removed(backend)
        back = [draft("Item.1", b"back", base=3), draft("Run.2", b"back", base=3, internal=True)]
        assert commit(backend, *back, seen=seen).revision == 5
        assert payloads(backend.read(["Item.1", "Run.2"])) == {"Item.1": b"back", "Run.2": b"back"}
        assert [payloads(backend.read(["Item.1"], at=at)) for at in (1, 2, 3, 4, 5)] == [
            {"Item.1": b"1"}, {"Item.1": b"2"}, {}, {}, {"Item.1": b"back"},
        ]  # fmt: skip
        assert [backend.ids(at=at) for at in (2, 3, 5)] == [
            ["Item.1", "Item.3"], ["Item.3"], ["Item.1", "Item.3", "Item.4"],
        ]  # fmt: skip
        assert backend.ids() == ["Item.1", "Item.3", "Item.4"]
        assert backend.ids(internal=True) == backend.ids(internal=True, at=2) == ["Run.2"]
        assert backend.classes(["Item.1"]) == {"Item.1": "shop:Item"}
        told = [(version.revision, version.frame is None) for version in backend.history("Item.1")]
        assert told == [(5, False), (3, True), (2, False), (1, False)]
        assert backend.changes(4) == (5, {1, 2})
        commit(backend, draft("Item.1", b"more", base=5))
        commit(backend, removals={"Item.1": 6})
        commit(backend, draft("Item.1", b"again", base=7))
        assert payloads(backend.read(["Item.1"])) == {"Item.1": b"again"}
        assert payloads(backend.read(["Item.1"], at=6)) == {"Item.1": b"more"}
        assert backend.read(["Item.1"], at=7) == backend.read(["Item.1"], at=4) == {}

    def test_it_comes_back_under_its_own_id_at_its_last_removal_only(self, backend: Backend) -> None:
        self._removed(backend)
        for id_, base in [("User.1", 3), ("Item.1", 2), ("Item.1", 4), ("Item.5", 3), ("Item.3", 3)]:
            with pytest.raises(ConflictError) as caught:
                commit(backend, draft(id_, base=base))
            assert caught.value.ids == (id_,)
        with pytest.raises(IdInUse):
            commit(backend, draft("Item.1"), seen=4)
        with pytest.raises(ConflictError):
            commit(backend, removals={"Item.1": 3})
        with pytest.raises(ConflictError):
            commit(backend, checks={"Item.1": 3})
        commit(backend, draft("Item.1", b"back", base=3))
        with pytest.raises(ConflictError) as caught:
            commit(backend, draft("Item.1", b"twice", base=3))
        assert caught.value.revisions == {"Item.1": (3, 5)}

    def test_packing_and_erasing_what_came_back(self, backend: Backend) -> None:
        self._removed(backend)
        commit(backend, draft("Item.1", b"back", base=3))
        backend.pack(4)
        told = [(version.revision, version.frame is None) for version in backend.history("Item.1")]
        assert told == [(5, False), (3, True)]
        assert payloads(backend.read(["Item.1"])) == {"Item.1": b"back"}
        assert backend.read(["Item.1"], at=4) == {}
        with pytest.raises(ValueError, match=r"Item\.1"):
            backend.erase(["Item.1"])
        backend.pack(5)
        assert [version.revision for version in backend.history("Item.1")] == [5]
        commit(backend, draft("Run.2", b"back", base=3, internal=True))  # its removal is what is left of it
        assert backend.ids(internal=True) == ["Run.2"]
        commit(backend, removals={"Run.2": 6})
        backend.erase(["Run.2"])
        assert [version[:] for version in backend.history("Run.2")] == [(7, None)]
        assert backend.read(["Run.2"], at=6) == {}

    def test_commits_and_ids_are_looked_up(self, backend: Backend) -> None:
        self._removed(backend)
        assert [each.revision for each in backend.commits_of([1, 3, 9]).values()] in ([1, 3], [3, 1])
        assert backend.commits_of([]) == {}
        assert backend.commits_of({4}) == {4: backend.commits(limit=1)[0]}
        assert backend.ids_of([1, 2, 4, 9], 2) == ["Item.1", "Run.2"]
        assert backend.ids_of([1, 2, 4, 9], 4) == ["Item.4"]
        backend.pack(4)
        assert set(backend.commits_of([1, 2, 3, 4])) == {1, 3, 4}
