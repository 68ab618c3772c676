"""Over an encrypted store the contract of backends holds as it does without, and what is below is hidden."""

from __future__ import annotations

from pathlib import Path

from perdure.backends.base import Backend, NewKey, no_key
from perdure.backends.encrypted import EncryptedBackend
from perdure.backends.memory import MemoryBackend
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.records.seal import Key
from perdure.testing.backend_contract import BackendContract

KEY = Key(b"the key of what is encrypted....")


class TestMemory(BackendContract):
    machine_examples = 5

    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return EncryptedBackend(MemoryBackend(new_key=new_key), KEY)


class TestSqlite(BackendContract):
    machine_examples = 5

    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return EncryptedBackend(SqliteBackend(place / "store.db", new_key=new_key), KEY)
