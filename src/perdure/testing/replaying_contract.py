"""What the contract says of a history that comes from elsewhere (`begin`, `replay`, `removals`), and of mending.

- A part of `BackendContract`, whose fixture `backend` it uses. A backend may refuse a history of which only a part is
  kept, and to be mended; it must do so with a `StorageError`, and stay as it is.
"""

from __future__ import annotations

import pytest

from perdure.backends.base import Backend
from perdure.backends.memory import MemoryBackend
from perdure.errors import SnapshotTooOld, StorageError
from perdure.records.buffers import digest_of
from perdure.records.queries import Query
from perdure.records.values import Batch
from perdure.testing.backend_drafts import commit, draft
from perdure.upkeep.past import Filling, revisions_of, told


def _source() -> MemoryBackend:
    """A store with two objects, one of them changed, one removed, brought back, and removed again."""
    source = MemoryBackend()
    commit(source, draft("Item.1", b"1"), draft("Item.2", b"1"), draft("Root.3", internal=True), time=1.5, note="☼")
    commit(source, draft("Item.1", b"2", base=1), removals={"Item.2": 1}, time=2.5)
    commit(source, draft("Item.2", b"3", base=2), draft("Item.9", b"3"), time=3.5)
    commit(source, removals={"Item.2": 3, "Item.9": 3}, time=4.5)
    commit(source, draft("Item.1", b"5", base=2), time=5.5)
    return source


class ReplayingContract:
    """What holds for every backend that is filled from another."""

    def _fill(self, backend: Backend, source: Backend) -> None:
        described = source.describe()
        backend.begin(described.oldest, described.key)
        filling = Filling(backend, source.indexes())
        for past in revisions_of(source, 0, described.revision):
            filling.add(past, {})
        filling.finish(described.next_number + 5)

    def test_a_history_from_elsewhere_is_written_as_it_was(self, backend: Backend) -> None:
        source = _source()
        self._fill(backend, source)
        assert told(backend, 5) == told(source, 5)
        assert backend.commits() == source.commits()
        for id_ in ("Item.1", "Item.2", "Root.3", "Item.9"):
            assert backend.history(id_) == source.history(id_)
        assert backend.describe()[3:] == source.describe()._replace(next_number=source.describe().next_number + 5)[3:]
        assert backend.removals() in ({}, {"Item.2": 4, "Item.9": 4})
        commit(backend, draft("Item.1", b"6", base=5), seen=5)
        if type(backend).begin is not Backend.begin:
            with pytest.raises(ValueError, match="revision 6"):
                backend.begin(0, backend.describe().key)

    def test_a_history_of_which_a_part_is_kept_is_written_as_it_is_or_refused(self, backend: Backend) -> None:
        source = _source()
        source.pack(4)
        try:
            self._fill(backend, source)
        except StorageError:
            assert backend.revision() == 0
            return
        assert told(backend, 5) == told(source, 5)
        assert backend.commits() == source.commits()
        assert backend.removals() == {"Item.2": 4, "Item.9": 4}
        assert backend.columns() == []
        assert [version.frame for version in backend.history("Item.9")] == [None]
        with pytest.raises(SnapshotTooOld):
            backend.read(["Item.1"], at=3)
        commit(backend, draft("Item.9", b"6", base=4), draft("Item.1", b"6", base=5), seen=5)
        assert backend.changes(5) == (6, {1, 9})

    def test_an_empty_store_is_marked_as_encrypted_for_ever(self, backend: Backend) -> None:
        try:
            backend.mark_encrypted()
        except StorageError:
            assert not backend.describe().encrypted  # a backend may refuse it
            return
        assert backend.describe().encrypted
        commit(backend, draft("Item.1", b"1"))
        with pytest.raises(ValueError, match="revision 1"):
            backend.mark_encrypted()
        assert backend.describe().encrypted
        assert backend.reserve(1) == 2

    def test_a_version_is_put_back_as_it_was(self, backend: Backend) -> None:
        commit(backend, draft("Item.1", b"1", fields={"size": 1}), indexed={"shop:Item": ("size",)})
        commit(backend, draft("Item.1", b"2", base=1, fields={"size": 2}), indexed={"shop:Item": ("size",)})
        before = backend.history("Item.1")
        found = backend.find(Query(("shop:Item",), order=(("size", False),)))
        kept: list[bytes] = []
        try:
            for version in before:
                assert version.frame is not None
                backend.mend("Item.1", version.revision, version.frame, kept.append)
            backend.renew_indexes()
        except StorageError:
            assert kept == []  # a backend may refuse all of it
        else:
            assert kept == [version.frame for version in before]
        assert backend.history("Item.1") == before
        assert backend.find(Query(("shop:Item",), order=(("size", False),))) == found

    def test_large_pieces_come_with_the_revision_that_names_them(self, backend: Backend) -> None:
        content = b"much" * 50_000
        (first, *_) = revisions_of(_source(), 0, 5)
        drafts = [draft("Item.1", b"1"), draft("Item.2", b"1"), draft("Root.3", internal=True)]
        backend.begin(0, backend.describe().key)
        backend.replay(first, Batch(drafts, time=1.5, note="☼", counted=True, buffers={digest_of(content): content}))
        assert bytes(backend.buffer(digest_of(content))) == content
        assert backend.read(first.frames) == first.frames
