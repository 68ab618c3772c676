"""Queries are answered by an index, as the servers themselves say (EXPLAIN)."""

from __future__ import annotations

import pytest
from served import Server

from perdure.backends.server.backend import ServerBackend
from perdure.backends.server.finding import count_statement, find_statement
from perdure.records.queries import Condition, Query
from perdure.testing.backend_drafts import commit, draft

COUNT = 4000


@pytest.fixture
def full(server: Server) -> ServerBackend:
    backend = server.open()
    fields = [{"state": f"state {n % 400}", "size": n} for n in range(COUNT)]
    drafts = [draft(f"Job.{n}", class_name="flow:Job", fields=each) for n, each in enumerate(fields, 1)]
    commit(backend, *drafts, indexed={"flow:Job": ("state", "size")})
    for table in ("NAME", "NAME_fields", "NAME_meta", "NAME_classes"):
        server.execute(f"ANALYZE {table}" if server.kind == "postgresql" else f"ANALYZE TABLE {table}")
    return backend


QUERIES = {
    "one value": Query(("flow:Job",), (Condition("state", "==", "state 7"),)),
    "a span": Query(("flow:Job",), (Condition("size", ">", COUNT - 10),)),
    "a beginning": Query(("flow:Job",), (Condition("state", "prefix", "state 39"),)),
    "two fields": Query(("flow:Job",), (Condition("state", "==", "state 7"), Condition("size", "<", 100))),
    "an order": Query(("flow:Job",), (Condition("state", "==", "state 7"),), (("size", True),), 5),
}


@pytest.mark.parametrize("what", QUERIES)
@pytest.mark.parametrize("statement", [find_statement, count_statement])
def test_a_selective_query_goes_by_the_index(server: Server, full: ServerBackend, what: str, statement) -> None:
    sql, values = statement(QUERIES[what], full._class_numbers(["flow:Job"]))
    rows = full._rows(f"EXPLAIN {sql}", values)
    plan = "\n".join(" ".join(map(str, row)) for row in rows)
    index = f"{server.name}_fields_by_value"
    assert index in plan, plan
    if server.kind == "postgresql":
        assert f"Seq Scan on {server.name}_fields" not in plan, plan
        assert f"Seq Scan on {server.name} " not in plan, plan
    else:
        read = [row for row in rows if row[2] in ("r", "f0", "f1")]
        assert read
        assert all(row[3] != "ALL" and int(row[-2] or 0) < COUNT // 4 for row in read), plan


def test_one_object_is_found_by_its_number(server: Server, full: ServerBackend) -> None:
    among, values = full._among("number", [17])
    rows = full._rows(f"EXPLAIN SELECT frame FROM {{records}} WHERE {among} AND revision <= %s", (*values, 9))
    plan = "\n".join(" ".join(map(str, row)) for row in rows)
    assert f"{server.name}_pkey" in plan if server.kind == "postgresql" else "PRIMARY" in plan, plan
