"""The same objects in RelStorage on SQLite: ZODB's objects and transactions, their pickles in tables.

- `synchronous` is FULL; its own setting is NORMAL, by which the last commits may be lost with the power.
- Free of history, as most use it: with history it would write more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peer import tasks_of
from peer_zodb import Zodb
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage


class OnSqlite(Zodb):
    """A ZODB database in a folder's SQLite files."""

    def open_storage(self, folder: Path) -> Any:
        options = Options(keep_history=False)
        return RelStorage(Sqlite3Adapter(str(folder), {"synchronous": "full"}, options=options), options=options)


TASKS = tasks_of(OnSqlite)
