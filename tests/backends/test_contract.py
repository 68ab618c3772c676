"""Every backend whose medium outlives the process keeps the whole contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from perdure.backends.base import Backend, NewKey, no_key
from perdure.backends.filesystem.backend import FilesystemBackend
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.testing.shared_backend_contract import SharedBackendContract


class TestSqlite(SharedBackendContract):
    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return SqliteBackend(place / "store.db", new_key=new_key)

    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        return SqliteBackend(place / "store.db", create=False, read_only=read_only)


class TestSqliteTable(SharedBackendContract):
    """A store under a name, in a file that holds other things."""

    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        with closing(sqlite3.connect(place / "store.db")) as other:
            other.execute("CREATE TABLE IF NOT EXISTS records (theirs)")
        return SqliteBackend(place / "store.db", new_key=new_key, table_name="shop")

    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        return SqliteBackend(place / "store.db", create=False, read_only=read_only, table_name="shop")


class TestFilesystem(SharedBackendContract):
    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return FilesystemBackend(place / "store", new_key=new_key)

    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        return FilesystemBackend(place / "store", create=False, read_only=read_only)
