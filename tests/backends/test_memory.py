"""The reference in memory keeps the contract that the others are measured by."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.backends.base import Backend, NewKey, no_key
from perdure.backends.memory import MemoryBackend
from perdure.errors import ReadOnly
from perdure.testing.backend_contract import BackendContract
from perdure.testing.backend_drafts import commit, draft


class TestMemory(BackendContract):
    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return MemoryBackend(new_key=new_key)


def test_read_only() -> None:
    backend = MemoryBackend(read_only=True)
    with pytest.raises(ReadOnly):
        commit(backend, draft("Item.1"))
    with pytest.raises(ReadOnly):
        backend.reserve(1)
