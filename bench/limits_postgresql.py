"""The limit on PostgreSQL: plain pickle and psycopg, by hand and in bulk, in a database of its own.

- `pickle.dumps(obj, 5)` of each instance, one `executemany` (which psycopg sends as one pipeline), one commit; one
  `SELECT`, in the binary format. The server's own settings decide whether a commit is durable; by default it is.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import psycopg
from data import expected_sum, weight
from limits import key_of, new_objects
from postgresql import own_url
from work import Figures, clock, require


def open_database() -> psycopg.Connection[Any]:
    """The database of this side, with its table."""
    connection = psycopg.connect(own_url())
    connection.execute("CREATE TABLE IF NOT EXISTS objects (key bigint PRIMARY KEY, data bytea)")
    connection.commit()
    return connection


def save(folder: Path, size: int) -> Figures:
    """All objects in one commit."""
    figures: Figures = {}
    objects = new_objects(size)
    with open_database() as connection, clock(figures, "save"), connection.cursor() as cursor:
        rows = ((key, pickle.dumps(obj, 5)) for key, obj in objects)
        cursor.executemany("INSERT INTO objects VALUES (%s, %s)", rows)
        connection.commit()
    return figures


def load(folder: Path, size: int) -> Figures:
    """All objects, cold; then each of them and its parent is looked at."""
    figures: Figures = {}
    with clock(figures, "touch"):
        with clock(figures, "load"), psycopg.connect(own_url()) as connection:
            with connection.cursor(binary=True) as cursor:
                cursor.execute("SELECT key, data FROM objects")
                live = {key: pickle.loads(data) for key, data in cursor}
            items = [live[key_of(number)] for number in range(size)]
        total = sum(weight(item, live[item.parent]) for item in items)
    require(total, expected_sum(size))
    return figures


TASKS = {"save": save, "load": load}
