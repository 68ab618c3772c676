"""A store that somebody drops and makes anew, while another process has it open, is neither read nor written there."""

from __future__ import annotations

import pytest
from served import Server, spy
from servers import drop_tables

from perdure.backends.server.backend import ServerBackend
from perdure.errors import StorageError
from perdure.records.values import Batch
from perdure.testing.backend_drafts import ENCODE, commit, draft


def replace(server: Server, others: int) -> ServerBackend:
    """Another store, under the same name, in which there are so many commits."""
    drop_tables(server.kind, {server.name})
    other = server.open()
    for number in range(1, others + 1):
        commit(other, draft(f"Item.{number}", b"theirs"), seen=number - 1)
    return other


@pytest.mark.parametrize("others", [0, 1, 2])
def test_another_store_in_the_place_of_an_open_one_is_left_alone(server: Server, others: int) -> None:
    backend = server.open()
    commit(backend, draft("Item.1", b"mine"))
    other = replace(server, others)
    before = other.ids(), other.describe()
    calls = (
        backend.revision,
        backend.describe,
        lambda: backend.changes(1),
        lambda: commit(backend, draft("Item.7"), seen=1),
        lambda: commit(backend, draft("Item.7"), seen=0),
        lambda: commit(backend, draft("Item.7"), seen=1, buffers={"0" * 64: b"x" * 70_000}),
        lambda: backend.reserve(1),
        lambda: backend.pack(0),
        lambda: backend.erase(["Item.1"]),
        lambda: backend.drop_buffers([], 1),
    )
    for call in calls:
        with pytest.raises(StorageError, match="replaced while it was open") as caught:
            call()
        assert caught.value.hint
    assert (other.ids(), other.describe()) == before
    assert other.buffers() == {}
    commit(other, draft(f"Item.{others + 1}"), seen=others)


def test_a_small_commit_is_one_round_trip(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = server.open()
    commit(backend, draft("Item.1"))
    commit(backend, draft("Item.2"), seen=1)
    sent = spy(monkeypatch, backend)
    assert backend.apply(Batch([draft("Item.1", base=1)], seen=2), ENCODE).revision == 3
    assert len(sent) == 1
