"""Jobs with arguments and results that are kept outside of the store: resolved where the job runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import outside_jobs
import pytest
from outside_jobs import Memo

import perdure
from perdure import CannotResolve, RunState, make_store
from perdure.flows.resources import ReceivedResources, sent
from perdure.outside import Environment, File, Secret
from perdure.pickling.outside import Resources
from perdure.upkeep import check

BOTH = pytest.mark.parametrize("executor", ["inline", "processes"])


@pytest.fixture
def memos(tmp_path, monkeypatch):
    """The database, which the workers find by an environment variable."""
    monkeypatch.setenv("MEMOS", str(tmp_path / "memos.db"))
    monkeypatch.setenv("SUFFIX", "!")
    with closing(outside_jobs.connect()) as connection:
        connection.execute("CREATE TABLE memos (key INTEGER PRIMARY KEY, task TEXT)")
        connection.execute("INSERT INTO memos VALUES (1, 'feed fish'), (2, 'fight zebra')")
        connection.commit()
        yield connection


def opened(tmp_path, **resources):
    return make_store(f"sqlite:///{tmp_path}/runs.db", resources=resources)


@BOTH
def test_arguments_and_results_are_resolved_where_the_job_runs(tmp_path, memos, executor):
    with opened(tmp_path, memos=outside_jobs.connect) as store:
        given = [Memo(1, "not what the database says"), Memo(2, "nor this")]
        run = perdure.start(
            outside_jobs.shouting, given, Environment("SUFFIX"), store=store, executor=executor, workers=1
        )
        # The result of the first job is stored by its keys too, and had again for the second.
        assert run.result() == ["feed fish", "fight zebra"]
        result, pid = run.jobs()[0].result()
        assert result == [Memo(1, "feed fish"), Memo(2, "fight zebra")]
        assert (pid == os.getpid()) == (executor == "inline")
        assert check(store) == []


@BOTH
def test_a_resource_that_is_not_there_is_a_failure_that_names_it(tmp_path, memos, executor):
    with opened(tmp_path) as store:
        run = perdure.start(
            outside_jobs.shouting, [Memo(1, "a")], Environment("SUFFIX"), store=store, executor=executor, workers=1
        )
        assert run.state is RunState.FAILED
        attempt = run.jobs()[0].attempts[0]
        assert attempt.error_type.endswith("CannotResolve")
        assert "No resource 'memos' was given" in attempt.error


def test_a_connection_cannot_be_sent_to_a_worker(tmp_path, memos):
    with opened(tmp_path, memos=memos) as store:
        run = perdure.start(
            outside_jobs.shouting, [Memo(1, "a")], Environment("SUFFIX"), store=store, executor="processes", workers=1
        )
        assert run.state is RunState.FAILED
        error = run.jobs()[0].attempts[0].error
    assert "The resource 'memos' cannot be had in the process of a worker" in error
    assert "sqlite3.Connection" in error
    with opened(tmp_path) as store:  # without any resources: all but the arguments can be looked at
        (run,) = [store.load(id) for id in store.list(all=True) if id.prefix == "Run"]
        assert [job.name for job in run.jobs()] == ["shout", "tasks"]
        with pytest.raises(CannotResolve):
            run.args


@BOTH
def test_files_environment_and_secrets(tmp_path, monkeypatch, executor):
    (tmp_path / "data.csv").write_text("a,b\n")
    monkeypatch.setenv("USER_NAME", "me")
    monkeypatch.setenv("EXPECTED", "s3cret")
    with opened(tmp_path, files=tmp_path, secrets={"db": "s3cret"}) as store:
        arguments = File("data.csv", tmp_path), Environment("USER_NAME"), Secret("db")
        run = perdure.start(outside_jobs.reading, *arguments, store=store, executor=executor, workers=1)
        assert run.result() == ("a,b\n", "me", True)


# -- what goes to a worker ---------------------------------------------------------------------------------------


class Refusing:
    def __reduce__(self):
        raise OSError("not now")


class Breaking:
    def __setstate__(self, state):
        raise OSError("not here")

    def __getstate__(self):
        return {"a": 1}


def received(**resources):
    return ReceivedResources(sent(Resources(resources)))


def test_functions_and_classes_go_by_name_and_values_as_pickles():
    there = received(function=outside_jobs.connect, cls=Refusing, value={"a": [1]})
    assert there["function"] is outside_jobs.connect
    assert there["cls"] is Refusing
    assert there["value"] == {"a": [1]}
    assert there["value"] is there["value"]
    assert there.get("value") is there["value"]


def test_what_stays_behind_says_so_when_it_is_asked_for():
    there = received(local=lambda: None, connection=sqlite3, refusing=Refusing(), breaking=Breaking())
    for name, told in {
        "local": "<lambda>",
        "connection": "module",
        "refusing": "OSError: not now",
        "breaking": "OSError: not here",
    }.items():
        with pytest.raises(CannotResolve, match=told) as caught:
            there[name]
        assert "at the top level of a module" in caught.value.hint
    assert there.get("refusing", 7) == 7
    with pytest.raises(CannotResolve, match="No resource 'other' was given"):
        there["other"]
    assert there.get("other") is None
