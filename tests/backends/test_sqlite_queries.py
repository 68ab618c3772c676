"""The index of a SQLite store: how it is made, kept and used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perdure.backends.base import Backend
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.errors import ConflictError, CorruptRecord
from perdure.records.queries import Query
from perdure.testing.backend_drafts import commit, draft
from perdure.testing.finding_contract import INDEXED, JOB, WIDE_JOB, asked, job


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def backend(path: Path):
    backend = SqliteBackend(path)
    yield backend
    backend.close()


def ask(path: Path, sql: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def plan_of(backend: SqliteBackend, query: Query) -> list[str]:
    """What SQLite says of how it goes about the query."""

    def work(connection: sqlite3.Connection) -> list[str]:
        sql, values = backend._finding.statement(connection, query)
        return [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

    return backend._connection.read(work)


def fill(backend: Backend, count: int = 1500) -> None:
    drafts = [job(n, "rare" if n % 500 == 0 else "common", n * 7919 % count) for n in range(1, count)]
    commit(backend, *drafts, job(count, "common", count, class_name=WIDE_JOB), indexed=INDEXED)


# -- how it is made ------------------------------------------------------------------------------------------


def test_a_store_without_indexed_classes_stays_as_it_is(backend, path):
    commit(backend, draft("Item.1"))
    assert backend.describe().format == 1
    tables = ask(path, "SELECT name FROM sqlite_master")
    assert ("indexed",) not in tables
    commit(backend, job(2, "new"), indexed=INDEXED)
    assert backend.describe().format == 2
    assert ask(path, "SELECT count(*) FROM indexed") == [(2,)]


def test_a_commit_that_fails_makes_no_index(backend):
    with pytest.raises(ConflictError):
        commit(backend, job(2, "new", base=7), indexed=INDEXED)
    assert backend.describe().format == 1
    commit(backend, job(2, "new"), indexed=INDEXED)
    assert backend.find(asked(("state", "==", "new"))).ids == ["Job.2"]


def test_a_store_without_an_index_is_asked_by_its_headers(backend):
    commit(backend, job(1, "new"), job(2, "done"))
    assert backend.find(asked(("state", "==", "new"))).ids == ["Job.1"]
    assert backend.count(asked(("state", "!=", "new"))) == (1, 1)
    assert backend.lacking(asked(("state", "==", "new"))) == []


def test_a_field_that_no_index_has_is_asked_by_the_headers(backend):
    told = [draft(f"Job.{n}", class_name=JOB, fields={"state": "new", "note": "x"}) for n in (1, 2)]
    commit(backend, *told, indexed={JOB: ("state",)})
    assert backend.find(asked(("note", "prefix", "x"), ("state", "==", "new"))).ids == ["Job.1", "Job.2"]
    assert backend.count(asked(("note", "==", None))) == (1, 0)
    assert backend.lacking(asked(("note", "==", None))) == ["Job.1", "Job.2"]


# -- how it is kept ----------------------------------------------------------------------------------------------


def indexed_rows(path: Path) -> set[tuple]:
    sql = "SELECT indexed.number, field, key FROM indexed JOIN indexes ON indexes.number = place"
    return {(number, field, bytes(key)) for number, field, key in ask(path, sql)}


def test_only_what_changes_is_written(backend, path):
    commit(backend, job(1, "new", 1), job(2, "new", 2), job(3, "new", 3), indexed=INDEXED)
    before = indexed_rows(path)
    commit(backend, job(1, "new", 1, base=1), indexed=INDEXED)
    assert indexed_rows(path) == before
    commit(backend, job(2, "done", 2, base=1), removals={"Job.3": 1}, indexed=INDEXED)
    after = indexed_rows(path)
    assert {row[:2] for row in before - after} == {(2, "state"), (3, "state"), (3, "size")}
    assert {row[:2] for row in after - before} == {(2, "state")}


def test_a_class_that_has_no_index_any_more_leaves_it(backend, path):
    commit(backend, job(1, "new"), job(2, "new"), indexed=INDEXED)
    commit(backend, job(1, "done", base=1))
    assert {number for number, *_ in indexed_rows(path)} == {2}
    assert backend.lacking(asked(("state", "==", "new"))) == ["Job.1"]
    commit(backend, job(1, "done", base=2, class_name="another:Class"), indexed=INDEXED)
    assert backend.lacking(asked(("state", "==", "new"))) == []


def test_classes_without_an_index_cost_nothing(backend, path):
    commit(backend, job(1, "new"), indexed=INDEXED)
    statements: list[str] = []
    backend._connection.read(lambda connection: connection.set_trace_callback(statements.append))
    commit(backend, draft("Item.2"), seen=1)
    backend._connection.read(lambda connection: connection.set_trace_callback(None))
    assert [sql for sql in statements if "indexe" in sql] == ["SELECT class, field, number FROM indexes"]


def test_an_opened_backend_sees_the_index_that_another_makes(backend, path):
    commit(backend, draft("Item.1"))
    with closing(SqliteBackend(path)) as other:
        commit(other, job(2, "new"), indexed=INDEXED)
    assert backend.find(asked(("state", "==", "new"))).ids == ["Job.2"]
    commit(backend, job(2, "done", base=2), indexed=INDEXED)
    with closing(SqliteBackend(path, read_only=True)) as other:
        assert other.find(asked(("state", "==", "done"))).ids == ["Job.2"]


# -- how it is used ----------------------------------------------------------------------------------------------


def test_the_index_answers(backend):
    fill(backend)
    rare = ("state", "==", "rare")
    by_size = (("size", True),)
    for query, first in [
        (asked(rare), "SEARCH field_0 USING PRIMARY KEY (place=? AND key=?)"),
        (asked(rare, order=by_size, limit=5), "SEARCH field_0 USING PRIMARY KEY (place=? AND key=?)"),
        (asked(("state", "==", "common"), order=by_size, limit=5), "SEARCH field_1 USING PRIMARY KEY (place=?)"),
        (asked(("size", ">", 1490)), "SEARCH field_0 USING PRIMARY KEY (place=? AND key>? AND key<?)"),
        (asked(("state", "==", "common"), ("size", ">", 1490)), "SEARCH field_1 USING PRIMARY KEY (place=? AND key>? "),
        (asked(order=by_size, limit=5), "SEARCH field_0 USING PRIMARY KEY (place=?)"),
    ]:
        plan = plan_of(backend, query)
        assert plan[0].startswith(first), (query, plan)
        assert not any(step.startswith("SCAN") for step in plan), (query, plan)


def test_an_order_with_a_limit_is_not_sorted(backend):
    fill(backend)
    for query in (asked(order=(("size", False),), limit=5), asked(("size", ">", 9), order=(("size", False),), limit=5)):
        assert not any("TEMP B-TREE" in step for step in plan_of(backend, query))
    both = asked(("state", "==", "common"), order=(("size", False),), limit=3, classes=(JOB, WIDE_JOB))
    plan = plan_of(backend, both)
    assert any(step.startswith("MERGE") for step in plan), plan
    assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan
    assert backend.find(both).ids == expected(backend, both)


@pytest.mark.parametrize("limit", [None, 3, 2000])
@pytest.mark.parametrize("descending", [False, True])
def test_every_way_gives_the_same(backend, limit, descending):
    fill(backend, 1200)
    for conditions in [
        [("state", "==", "common")],
        [("state", "==", "rare"), ("size", ">", 700)],
        [("state", "in", ("rare", "none")), ("size", "!=", 5)],
        [("state", "!=", "common")],
        [("size", "<", 1400), ("size", ">=", 100), ("state", "prefix", "c")],
    ]:
        for order in ((("size", descending),), (("state", descending), ("size", True)), ()):
            query = asked(*conditions, classes=(JOB, WIDE_JOB), order=order, limit=limit, offset=2)
            assert backend.find(query).ids == expected(backend, query)
            assert backend.count(query)[1] == len(expected(backend, query._replace(limit=None, offset=0)))


def expected(backend: SqliteBackend, query: Query) -> list[str]:
    """What the headers say."""
    return Backend.find(backend, query).ids


def test_more_values_than_a_statement_takes(backend):
    fill(backend, 50)
    many = ("size", "in", tuple(range(20_000)))
    assert backend.count(asked(many)) == (1, 49)
    assert backend.find(asked(many, limit=2)).ids == ["Job.1", "Job.2"]


def test_damage_is_named(backend, path):
    fill(backend, 50)
    backend.close()
    ask(path, "UPDATE records SET frame = x'00' WHERE number = 3")
    with closing(SqliteBackend(path)) as again, pytest.raises(CorruptRecord):
        again.find(asked(("size", ">=", 0)))


def test_without_conditions_the_class_is_all_that_is_asked(backend):
    fill(backend, 200)
    assert backend.find(asked()).ids == backend.ids()[:-1]
    assert backend.find(asked(limit=2, offset=1)).ids == ["Job.2", "Job.3"]
