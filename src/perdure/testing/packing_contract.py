"""What the contract says of forgetting: `pack`, `erase`, and commits that keep nothing for long.

- A part of `BackendContract`, whose fixture `backend` it uses.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perdure.backends.base import Backend
from perdure.errors import IdInUse, SnapshotTooOld
from perdure.testing.backend_drafts import commit, draft, payloads


class PackingContract:
    """What holds for every backend that forgets."""

    def _history(self, backend: Backend) -> None:
        """Item.1 changed at 2 and 3, Item.2 removed at 3, Item.3 never changed, Item.4 new at 4."""
        commit(backend, draft("Item.1", b"1"), draft("Item.2", b"1"), draft("Item.3", b"1"), time=1.0)
        commit(backend, draft("Item.1", b"2", base=1), time=2.0)
        commit(backend, draft("Item.1", b"3", base=2), removals={"Item.2": 1}, time=3.0)
        commit(backend, draft("Item.4", b"4"), time=4.0)

    def test_packing_forgets_what_nobody_can_see(self, backend: Backend) -> None:
        self._history(backend)
        ids = ["Item.1", "Item.2", "Item.3", "Item.4"]
        assert backend.describe().oldest == 0
        assert backend.pack(3) == 3  # Item.1 at 1 and 2, Item.2 at 1
        assert backend.describe().oldest == 3
        assert payloads(backend.read(ids)) == {"Item.1": b"3", "Item.3": b"1", "Item.4": b"4"}
        assert payloads(backend.read(ids, at=3)) == {"Item.1": b"3", "Item.3": b"1"}
        assert [version.revision for version in backend.history("Item.1")] == [3]
        assert [version[:] for version in backend.history("Item.2")] == [(3, None)]
        assert [each.revision for each in backend.commits()] == [4, 3, 1]  # 1 wrote Item.3
        assert backend.changes(3) == (4, {4})
        assert backend.pack(3) == backend.pack(1) == backend.pack(0) == 0
        assert backend.describe().oldest == 3

    def test_what_was_packed_is_too_old(self, backend: Backend) -> None:
        self._history(backend)
        backend.pack(3)
        calls: list[Callable[[], object]] = [
            lambda: backend.read(["Item.1"], at=2),
            lambda: backend.read(["Item.1", "Item.3"], at=1),
            lambda: backend.classes(["Item.1"], at=2),
            lambda: backend.ids(at=2),
            lambda: list(backend.scan(at=2)),
            lambda: backend.changes(2),
        ]
        for call in calls:
            with pytest.raises(SnapshotTooOld):
                call()

    def test_packing_to_the_newest_keeps_the_present(self, backend: Backend) -> None:
        self._history(backend)
        before = dict(enumerate(backend.scan()))
        assert backend.pack(4) == 3
        assert dict(enumerate(backend.scan())) == before
        assert payloads(backend.read(["Item.1"], at=4)) == {"Item.1": b"3"}
        with pytest.raises(ValueError, match="newest"):
            backend.pack(5)

    def test_packing_never_frees_an_id(self, backend: Backend) -> None:
        self._history(backend)
        backend.pack(4)
        for id_ in ("Item.2", "User.2"):
            with pytest.raises(IdInUse):
                commit(backend, draft(id_), seen=4)
        assert commit(backend, draft("Item.1", b"5", base=3), draft("Item.5"), seen=4).revision == 5
        assert payloads(backend.read(["Item.1"], at=4)) == {"Item.1": b"3"}

    def test_erasing_leaves_nothing_but_the_id(self, backend: Backend) -> None:
        self._history(backend)
        backend.erase(["Item.2", "User.2", "Item.9"])
        assert [version[:] for version in backend.history("Item.2")] == [(3, None)]
        assert set(backend.read(["Item.1", "Item.2"], at=1)) == {"Item.1"}
        with pytest.raises(IdInUse):
            commit(backend, draft("Item.2"), seen=4)
        with pytest.raises(ValueError, match=r"Item\.1"):
            backend.erase(["Item.2", "Item.1"])
        assert len(backend.history("Item.1")) == 3

    def test_commits_that_keep_nothing_for_long(self, backend: Backend) -> None:
        for time in range(1, 11):
            new = draft("Item.1", b"%d" % time, base=time - 1)
            more = [draft(f"Other.{time + 1}")]
            commit(backend, new, *more, time=float(time), keep=3.0, seen=time - 1)
        assert backend.describe().oldest == 6
        assert [version.revision for version in backend.history("Item.1")] == [10, 9, 8, 7, 6]
        assert payloads(backend.read(["Item.1", "Other.2"], at=6)) == {"Item.1": b"6", "Other.2": b""}
        with pytest.raises(SnapshotTooOld):
            backend.read(["Item.1"], at=5)
        assert [each.revision for each in backend.commits()] == [10, 9, 8, 7, 6]
        assert len(backend.ids()) == 11

    def test_a_removed_object_is_forgotten_as_well(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"1"), time=1.0, keep=0.0)
        commit(backend, removals={"Item.1": 1}, time=2.0, keep=0.0)
        commit(backend, draft("Item.3"), time=3.0, keep=0.0)
        commit(backend, draft("Item.4"), time=4.0, keep=0.0)
        assert [version[:] for version in backend.history("Item.1")] == [(2, None)]
        with pytest.raises(IdInUse):
            commit(backend, draft("Item.1"), seen=4)
