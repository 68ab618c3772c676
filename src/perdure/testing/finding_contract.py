"""What the contract says of queries: `find`, `count`, `lacking`, with one order of values on every backend.

- A part of `BackendContract`, whose fixture `backend` it uses.
"""

from __future__ import annotations

import random
from typing import Any

from perdure.backends.base import Backend, number_of
from perdure.records.queries import Condition, Query, arrange, matches
from perdure.records.values import Draft, Plain
from perdure.testing.backend_drafts import commit, draft

JOB, WIDE_JOB, OTHER = "flow:Job", "flow:WideJob", "shop:Item"
INDEXED = {JOB: ("state", "size"), WIDE_JOB: ("state", "size"), OTHER: ("state",)}
VALUES: list[Plain] = [
    None, False, True, 0, 1, -1, 1.0, 1.5, -0.0, 2**53, 2**53 + 1, -(2**63), 2**63 - 1, 1e300, -1e300, float("inf"),
    float("-inf"), 5e-324, "", "a", "A", "ab", "ä", "a ", "\0", "a\0b", "z" * 1000, "😀", "\uffff", "10", "9",
]  # fmt: skip


def job(number: int, state: Plain, size: Plain = 0, *, base: int = 0, class_name: str = JOB) -> Draft:
    """A draft whose header tells state and size."""
    fields = {"state": state} if class_name == OTHER else {"state": state, "size": size, "unasked": "x" * 5000}
    return draft(f"Job.{number}", base=base, class_name=class_name, fields=fields)


def asked(*conditions: tuple[str, str, Any], classes: tuple[str, ...] = (JOB,), **rest: Any) -> Query:
    """A query of jobs."""
    return Query(classes, tuple(Condition(*each) for each in conditions), **rest)  # type: ignore[arg-type]


class FindingContract:
    """What holds for every backend that is asked."""

    def _numbers(self, backend: Backend, query: Query) -> list[int]:
        found = backend.find(query)
        assert found.revision == backend.revision()
        whole = query._replace(limit=None, offset=0)
        assert backend.count(query) == (found.revision, len(backend.find(whole).ids))
        return [number_of(id_) for id_ in found.ids]

    def test_conditions_orders_limits(self, backend: Backend) -> None:
        states = ["new", "failed", "done", "failed", "failed"]
        commit(backend, *(job(n, state, 10 - n) for n, state in enumerate(states, 1)), indexed=INDEXED)
        commit(backend, job(6, "failed", 3, class_name=WIDE_JOB), job(7, "failed", class_name=OTHER), indexed=INDEXED)
        failed = ("state", "==", "failed")
        assert self._numbers(backend, asked(failed)) == [2, 4, 5]
        assert self._numbers(backend, asked(failed, classes=(JOB, WIDE_JOB))) == [2, 4, 5, 6]
        assert self._numbers(backend, asked(failed, order=(("size", False),))) == [5, 4, 2]
        assert self._numbers(backend, asked(failed, order=(("size", False),), limit=1, offset=1)) == [4]
        assert self._numbers(backend, asked(order=(("state", False), ("size", True)))) == [3, 2, 4, 5, 1]
        assert self._numbers(backend, asked(order=(("state", True), ("size", True)))) == [1, 2, 4, 5, 3]
        assert self._numbers(backend, asked(("size", ">", 5), ("size", "<=", 8))) == [2, 3, 4]
        assert self._numbers(backend, asked(("state", "in", ("new", "done", 7)))) == [1, 3]
        assert self._numbers(backend, asked(("state", "in", ()))) == []
        assert self._numbers(backend, asked(("state", "!=", "failed"))) == [1, 3]
        assert self._numbers(backend, asked(("state", "prefix", "f"))) == [2, 4, 5]
        assert self._numbers(backend, asked(limit=2)) == [1, 2]
        assert self._numbers(backend, asked(offset=3)) == [4, 5]
        assert self._numbers(backend, asked(limit=0)) == []
        assert self._numbers(backend, asked(classes=())) == self._numbers(backend, asked(classes=("no:Such",))) == []

    def test_the_answer_follows_the_commits(self, backend: Backend) -> None:
        commit(backend, job(1, "new"), job(2, "new"), job(3, "new"), indexed=INDEXED)
        commit(backend, job(1, "done", base=1), removals={"Job.2": 1}, indexed=INDEXED)
        assert self._numbers(backend, asked(("state", "==", "new"))) == [3]
        assert self._numbers(backend, asked(("state", "==", "done"))) == [1]
        commit(backend, job(3, "new", base=1, class_name=WIDE_JOB), indexed=INDEXED)
        assert self._numbers(backend, asked(("state", "==", "new"))) == []
        assert self._numbers(backend, asked(("state", "==", "new"), classes=(WIDE_JOB,))) == [3]

    def test_what_a_record_does_not_tell_is_lacking(self, backend: Backend) -> None:
        commit(backend, job(1, "new"), job(2, "new", class_name=OTHER), indexed=INDEXED)
        commit(backend, draft("Job.3", class_name=JOB, fields={"state": "new"}), indexed={})
        assert backend.lacking(asked(("state", "==", "new"), ("size", "==", 1))) == ["Job.3"]
        assert backend.lacking(asked(("size", "==", 1), classes=(OTHER,))) == ["Job.2"]
        assert backend.lacking(asked(("state", "==", "new"), classes=(OTHER, WIDE_JOB))) == []
        commit(backend, job(3, "new", base=2), indexed=INDEXED)
        assert backend.lacking(asked(("state", "==", "new"), ("size", "==", 1))) == []

    def test_every_value_has_its_place(self, backend: Backend) -> None:
        shuffled = random.Random(7).sample(VALUES, len(VALUES))
        drafts = [job(n, value, n) for n, value in enumerate(shuffled, 1)]
        commit(backend, *drafts, indexed=INDEXED)
        rows = [(each.id, number_of(each.id), each.fields) for each in drafts]
        for descending in (False, True):
            query = asked(order=(("state", descending),))
            assert backend.find(query).ids == arrange(rows, query)
        for value in VALUES:
            for operator in ("==", "!=", "<", "<=", ">", ">="):
                query = asked(("state", operator, value))
                expected = [id_ for id_, _, fields in rows if matches(fields, query)]
                assert backend.find(query).ids == expected, (operator, value)
