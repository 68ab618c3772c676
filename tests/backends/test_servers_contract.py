"""The backends on database servers keep the whole contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from servers import drop_tables, execute, table_of, tables_like, url_of
from sqlalchemy import make_url

from perdure.backends.base import Backend, NewKey, no_key
from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.mysql import MysqlBackend
from perdure.backends.server.postgresql import PostgresqlBackend
from perdure.testing.shared_backend_contract import SharedBackendContract


class ServerContract(SharedBackendContract):
    """The contract, in tables that are named after the folder which the contract gives."""

    __test__ = False
    kind: ClassVar[str]
    backend_class: ClassVar[type[ServerBackend]]
    machine_examples = 8  # each has tables of its own
    made: ClassVar[set[str]] = set()

    @pytest.fixture(autouse=True)
    def leave_nothing(self) -> Iterator[None]:
        url_of(self.kind)
        yield
        drop_tables(self.kind, self.made)
        self.made.clear()

    def make_backend(self, place: Path, new_key: NewKey = no_key) -> Backend:
        return self._open(place, new_key=new_key)

    def reopen(self, place: Path, read_only: bool = False) -> Backend:
        return self._open(place, create=False, read_only=read_only)

    def copy_store(self, place: Path, copy: Path) -> None:
        name, new = table_of(place), table_of(copy)
        self.make_backend(copy).close()
        for table in tables_like(self.kind, name):
            own = new + table.removeprefix(name)
            execute(self.kind, f"DELETE FROM {own}", f"INSERT INTO {own} SELECT * FROM {table}")

    def _open(self, place: Path, **options: object) -> Backend:
        name = table_of(place)
        self.made.add(name)
        return self.backend_class(make_url(url_of(self.kind)), name, place=name, **options)  # type: ignore[arg-type]


class TestPostgresql(ServerContract):
    __test__ = True
    kind = "postgresql"
    backend_class = PostgresqlBackend


class TestMysql(ServerContract):
    __test__ = True
    kind = "mysql"
    backend_class = MysqlBackend
