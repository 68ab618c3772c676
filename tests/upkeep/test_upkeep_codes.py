"""Code records are there as long as something names them; `check` tells where one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import Persistable, StillReferred, Store, TransactionError, make_store
from perdure.objects.coding import Code, Source
from perdure.objects.transactions.steps import remove
from perdure.pickling.classes import name_of
from perdure.records.values import CODE, SOURCE
from perdure.upkeep import check


class Job(Persistable):
    def __init__(self, number: int):
        self.number = number


@pytest.fixture(params=["memory", "sqlite", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/s.db", "directory": str(tmp_path / "s")}[request.param]
    with make_store(url) as store:
        yield store


def code_of(store: Store, id_: str) -> str:
    code = store.history(id_)[0].code
    assert code
    return code


def test_the_names_are_those_of_the_classes() -> None:
    assert (name_of(Code), name_of(Source)) == (CODE, SOURCE)


def test_an_undo_leaves_code_records_to_those_who_name_them(store: Store) -> None:
    job = store.save(Job(1))
    first = store.revision()
    later = store.save(Job(2))
    store.undo(first)
    assert job not in store
    assert isinstance(store.load(code_of(store, later)), Code)
    assert check(store) == []
    store.undo(store.revision())
    assert store.load(job).number == 1
    assert check(store) == []


def test_a_code_record_that_is_named_is_not_forgotten(store: Store) -> None:
    job = store.save(Job(1))
    code = code_of(store, job)
    with pytest.raises(StillReferred, match=f"code record of {job}") as caught:
        store.forget(code)
    assert caught.value.referrers == (job,)
    with pytest.raises(TransactionError, match="forget"):
        store.remove(code)
    assert isinstance(store.load(code), Code)
    assert check(store) == []


def test_older_versions_and_commits_name_code_records_too(store: Store) -> None:
    job = store.save(Job(1))
    code = code_of(store, job)
    store.remove(job)
    with pytest.raises(StillReferred, match=f"code record of {job}, commit 1"):
        store.forget(code)


def test_check_tells_of_missing_code_records(store: Store) -> None:
    job = store.save(Job(1))
    code = code_of(store, job)
    remove(store.desk(), code, code_too=True)
    told = {(problem.id, problem.what) for problem in check(store)}
    assert (job, f"names the code record {code}, which is not there") in told
    assert ("", f"The commit 1 names the code record {code}, which is not there.") in told


@pytest.fixture
def again(tmp_path: Path) -> Any:
    """The same store twice, one after the other: what the first has written, the second has never loaded."""
    with make_store(f"sqlite:///{tmp_path}/again.db") as store:
        store.save(Job(1))
    with make_store(f"sqlite:///{tmp_path}/again.db") as store:
        yield store


def test_a_code_record_that_is_there_is_named_without_being_loaded(again: Store) -> None:
    (before,) = [id_ for id_ in again.list(all=True) if id_.startswith("Code.")]
    assert code_of(again, again.save(Job(2))) == before
    assert again.transactions(1)[0].code == before
    assert again.desk().view.entry(before) is None
    assert check(again) == []


def test_a_code_record_that_is_removed_is_written_anew(again: Store) -> None:
    removed = code_of(again, again.save(Job(2)))
    remove(again.desk(), removed, code_too=True)
    made = code_of(again, again.save(Job(3)))
    assert made != removed
    assert isinstance(again.load(made), Code)
