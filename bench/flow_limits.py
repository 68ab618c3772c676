"""What flows are measured against: a bare pool of processes that keeps nothing, and a durable commit for each job.

- The pool's clock includes the start and the end of its workers, as a run's does.
- A commit notes a job's state, arguments, result and times, and is durable: write-ahead log, `synchronous=FULL`.
"""

from __future__ import annotations

import pickle
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from work import Figures, clock, require

WORKERS = 2


def nothing(number: int) -> int:
    """A job that does nothing."""
    return number


def pool(folder: Path, size: int) -> Figures:
    """The jobs in a pool of processes."""
    figures: Figures = {}
    with clock(figures, "pool"), ProcessPoolExecutor(WORKERS) as executor:
        futures = [executor.submit(nothing, number) for number in range(size)]
        found = executor.submit(sum, [future.result() for future in futures]).result()
    require(found, size * (size - 1) // 2)
    return figures


def commits(folder: Path, size: int) -> Figures:
    """The jobs in this process, a commit after each."""
    figures: Figures = {}
    connection = sqlite3.connect(folder / "limit.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT, arguments BLOB, result BLOB, started REAL, ended REAL)"
    )
    insert = "INSERT INTO jobs VALUES (?, 'succeeded', ?, ?, ?, ?)"
    with clock(figures, "commits"):
        for number in range(size):
            started = time.time()
            result = nothing(number)
            row = (number, pickle.dumps((number,), 5), pickle.dumps(result, 5), started, time.time())
            connection.execute(insert, row)
            connection.commit()
    connection.close()
    return figures


TASKS = {"pool": pool, "commits": commits}
