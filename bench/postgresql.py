"""Where PostgreSQL is, and a database for each side of each round, which is dropped at the end.

- The server is that of `PERDURE_BENCH_POSTGRESQL_URL`, else the one at 127.0.0.1:5432 with the user `postgres`.
- No server, or no driver: nothing is measured, and the reason is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from work import BrokenMeasurement

VARIABLE = "PERDURE_BENCH_POSTGRESQL_URL"
DEFAULT = "postgresql://postgres@127.0.0.1:5432/postgres"


def own_url() -> str:
    """The URL of the database that this process was given."""
    return os.environ[VARIABLE]


def server_version() -> str:
    """Which server there is; raises `BrokenMeasurement` with the reason if there is none."""
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise BrokenMeasurement(f"{error.name} is not installed here") from None
    url = _server_url()
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            number = connection.info.server_version
            row = connection.execute("SHOW synchronous_commit").fetchone()
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        raise BrokenMeasurement(f"no server answers at {_without_password(url)}: {reason}") from None
    assert row is not None
    return f"PostgreSQL {number // 10000}.{number % 10000}, synchronous_commit={row[0]}, psycopg {psycopg.__version__}"


@contextmanager
def database(name: str, environment: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """An environment whose URL is that of a new, empty database; raises `BrokenMeasurement` where none can be made."""
    import psycopg
    from psycopg import sql

    url = _server_url()
    named = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(named))
        except psycopg.Error as error:
            raise BrokenMeasurement(f"no database can be made: {error}") from None
        try:
            yield {**environment, VARIABLE: urlsplit(url)._replace(path=f"/{name}").geturl()}
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))


def _server_url() -> str:
    """The URL as psycopg reads it: a driver that SQLAlchemy would be told of is left out."""
    scheme, colon, rest = os.environ.get(VARIABLE, DEFAULT).partition(":")
    return scheme.partition("+")[0] + colon + rest


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.hostname}:{parts.port or 5432}", query="").geturl()
