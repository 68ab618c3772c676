"""Rows C1 to C3: records of a database stored by tag and key, as in the example of pickle's documentation.

Row C0, the example as it is written there, is in `test_a_article`.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple

import pytest

import perdure
from perdure import Persistable

# Simple class representing a record in our database.
MemoRecord = namedtuple("MemoRecord", "key, task")


class Diary(Persistable):
    def __init__(self, memos):
        self.memos = memos


@pytest.fixture(autouse=True)
def load_memo(registrations):
    @perdure.reference("MemoRecord", MemoRecord, key=lambda record: record.key)
    def load_memo(key, resources):
        cursor = resources["memos"].cursor()
        cursor.execute("SELECT * FROM memos WHERE key=?", (str(key),))
        row = cursor.fetchone()
        if row is None:
            raise KeyError(key)
        return MemoRecord(*row)

    return load_memo


@pytest.fixture
def conn():
    conn = sqlite3.connect(":memory:")
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE memos(key INTEGER PRIMARY KEY, task TEXT)")
    for task in ("give food to fish", "prepare group meeting", "fight with a zebra"):
        cursor.execute("INSERT INTO memos VALUES(NULL, ?)", (task,))
    yield conn
    conn.close()


@pytest.fixture
def memos(conn):
    cursor = conn.cursor()
    cursor.execute("SELECT * FROM memos")
    return [MemoRecord(key, task) for key, task in cursor]


@pytest.fixture(params=["memory", "directory", "sqlite"])
def store(request, tmp_path, conn):
    url = {"memory": "memory:", "directory": str(tmp_path), "sqlite": f"sqlite:///{tmp_path}/a.db"}[request.param]
    with perdure.make_store(url, resources={"memos": conn}) as store:
        yield store


NEW = [MemoRecord(1, "learn italian"), MemoRecord(2, "prepare group meeting"), MemoRecord(3, "fight with a zebra")]


def test_c1_c2_bytes(conn, memos):
    data = perdure.dumps(memos)
    assert b"MemoRecord" in data
    assert b"zebra" not in data
    # Update a record, just for good measure.
    conn.execute("UPDATE memos SET task='learn italian' WHERE key=1")
    assert perdure.loads(data, resources={"memos": conn}) == NEW


def test_c1_c2_a_store(store, conn, memos):
    id = store.save(Diary(memos))
    assert b"zebra" not in store.backend.read([id])[id]
    conn.execute("UPDATE memos SET task='learn italian' WHERE key=1")
    assert store.load(id).memos == memos  # it is in memory
    store.invalidate_cache()
    assert store.load(id).memos == NEW
    assert {type(memo) for memo in store.load(id).memos} == {MemoRecord}


def test_c3_an_unknown_tag_raises(store, memos, conn, registrations):
    class Row(MemoRecord):
        pass

    @perdure.reference("Unknown elsewhere", Row, key=lambda row: row.key)
    def load_row(key, resources):
        raise AssertionError("is not asked")

    id = store.save(Diary({"today": [Row(1, "x")]}))
    data = perdure.dumps({"today": Row(1, "x")})
    del perdure.pickling.outside._by_tag["Unknown elsewhere"]
    store.invalidate_cache()
    with pytest.raises(perdure.UnknownTag) as caught:
        store.load(id)
    assert caught.value.path == f"{id} → .memos['today'][0]"
    assert (caught.value.tag, caught.value.key, caught.value.ids) == ("Unknown elsewhere", 1, (id,))
    with pytest.raises(perdure.UnknownTag, match="'Unknown elsewhere'") as caught:
        perdure.loads(data, resources={"memos": conn})
    assert caught.value.path == "dict → ['today']"


def test_c3_a_key_that_is_gone_raises(store, memos, conn):
    id = store.save(Diary(memos))
    data = perdure.dumps(memos)
    conn.execute("DELETE FROM memos WHERE key=2")
    store.invalidate_cache()
    with pytest.raises(perdure.CannotResolve, match="MemoRecord") as caught:
        store.load(id)
    assert caught.value.path == f"{id} → .memos[1]"
    assert (caught.value.tag, caught.value.key) == ("MemoRecord", 2)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(perdure.CannotResolve) as caught:
        perdure.loads(data, resources={"memos": conn})
    assert caught.value.path == "list → [1]"
    conn.execute("INSERT INTO memos VALUES(2, 'again')")
    assert store.load(id).memos[1].task == "again"


def test_c3_never_none(store, memos, load_memo):
    @perdure.reference("MemoRecord", MemoRecord, key=lambda record: record.key)
    def forgetful(key, resources):
        return None

    id = store.save(Diary(memos))
    store.invalidate_cache()
    with pytest.raises(perdure.CannotResolve, match="gave NoneType, not a MemoRecord"):
        store.load(id)
