"""The same objects in RelStorage on PostgreSQL, by psycopg2, free of history, in a database of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peer import tasks_of
from peer_zodb import Zodb
from postgresql import own_url
from psycopg2.extensions import make_dsn, parse_dsn
from relstorage.adapters.postgresql import PostgreSQLAdapter
from relstorage.options import Options
from relstorage.storage import RelStorage


class OnPostgresql(Zodb):
    """A ZODB database in the tables of a server."""

    def open_storage(self, folder: Path) -> Any:
        options = Options(keep_history=False, driver="psycopg2")
        words = make_dsn(**parse_dsn(own_url()))  # it adds words of its own at the end, which a URL cannot take
        return RelStorage(PostgreSQLAdapter(dsn=words, options=options), options=options)


TASKS = tasks_of(OnPostgresql)
