"""Jobs whose arguments and results are kept outside of the store, for workers to import."""

from __future__ import annotations

import os
import sqlite3
from collections import namedtuple

import perdure
from perdure import flow, job
from perdure.outside import Environment, File, Secret

Memo = namedtuple("Memo", "key, task")
PATH = "PERDURE_TEST_MEMOS"


def connect():
    return sqlite3.connect(os.environ["MEMOS"])


@perdure.reference("outside_jobs.Memo", Memo, key=lambda memo: memo.key)
def load_memo(key, resources):
    connection = resources["memos"]()
    try:
        row = connection.execute("SELECT * FROM memos WHERE key = ?", (key,)).fetchone()
    finally:
        connection.close()
    if row is None:
        raise KeyError(key)
    return Memo(*row)


@job
def shout(memos, suffix):
    return [memo._replace(task=memo.task.upper() + suffix.value) for memo in memos], os.getpid()


@job
def tasks(answer):
    return [memo.task for memo in answer[0]]


@flow
def shouting(memos, suffix):
    return tasks(shout(memos, suffix))


@job
def first_line(file: File, user: Environment, password: Secret):
    with file.open("r") as lines:
        return lines.readline(), user.value, password.value == os.environ["EXPECTED"]


@flow
def reading(file, user, password):
    return first_line(file, user, password)
