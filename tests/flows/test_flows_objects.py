"""Persistable objects that jobs are given: what a job changes is committed with its end, or not at all."""

from __future__ import annotations

import operator
import os

import flow_jobs
import pytest
from flow_jobs import states

import perdure
from perdure import RunState
from perdure.flows.executors.inline import InlineExecutor
from perdure.flows.tasks import run_task

BOTH = pytest.mark.parametrize("executor", ["inline", "processes"])


@BOTH
def test_what_a_job_changes_is_committed_with_its_end(store, executor):
    thing = flow_jobs.Item("log")
    id_ = store.save(thing)
    run = perdure.start(flow_jobs.writing, thing, ["a", "b"], store=store, executor=executor, workers=1)
    assert run.result() is thing
    assert (thing.log, thing.name) == (["a", "b"], "LOG")
    attempts = [made.attempts[0] for made in run.jobs()]
    ends = [store.history(attempt.persistent_id)[0].revision for attempt in attempts]
    changes = [version.revision for version in store.history(id_)]
    assert changes[:2] == ends[::-1]  # each change is in the very commit of its job's end
    assert store.list() == [id_]


def test_on_every_store(any_store):
    thing = flow_jobs.Item("log")
    any_store.save(thing)
    run = perdure.start(flow_jobs.writing, thing, ["a"], store=any_store)
    assert run.result() is thing
    assert thing.log == ["a"]


@BOTH
def test_a_failed_job_changes_nothing(store, executor):
    thing = flow_jobs.Item("log")
    id_ = store.save(thing)
    run = perdure.start(flow_jobs.writing, thing, ["a"], True, store=store, executor=executor, workers=1)
    assert run.state is RunState.FAILED
    assert run.jobs()[0].attempts[0].error == "after the change"
    assert len(store.history(id_)) == 1
    assert (store.load(id_).log, store.load(id_).name) == ([], "log")


def test_an_object_that_is_only_looked_at_is_not_written(store):
    thing = flow_jobs.Item("pen")
    id_ = store.save(thing)
    run = perdure.start(flow_jobs.nothing_but_looking, thing, store=store)
    assert run.result() == ("pen", [])
    assert len(store.history(id_)) == 1


def test_the_code_record_of_the_attempt_is_on_what_the_job_changed(store):
    thing = flow_jobs.Item("log")
    id_ = store.save(thing)
    run = perdure.start(flow_jobs.writing, thing, ["a"], store=store, executor="processes", workers=1)
    assert store.history(id_)[0].code == run.jobs()[0].attempts[0].code.persistent_id


@BOTH
def test_a_conflict_fails_that_attempt_and_nothing_else(store, marks, executor):
    thing = flow_jobs.Item("log")
    store.save(thing)
    arguments = (thing, store.url, marks.folder, False)
    run = perdure.start(flow_jobs.meeting, *arguments, store=store, executor=executor, workers=1)
    assert states(run) == {"meet_once": "failed", "touch": "succeeded"}
    (attempt,) = run.jobs()[0].attempts
    assert attempt.error_type == "ConflictError"
    assert f"{thing.persistent_id} (read at revision" in attempt.error
    assert thing.log == ["somebody else"]
    perdure.rerun(run)
    assert run.state is RunState.SUCCEEDED
    assert thing.log == ["somebody else", "job"]


@BOTH
def test_after_a_conflict_a_job_with_retries_is_tried_again(store, marks, executor):
    thing = flow_jobs.Item("log")
    store.save(thing)
    arguments = (thing, store.url, marks.folder, True)
    run = perdure.start(flow_jobs.meeting, *arguments, store=store, executor=executor, workers=1)
    assert run.result() == [2, "free"]
    assert [attempt.error_type for attempt in run.jobs()[0].attempts] == ["ConflictError", ""]
    assert thing.log == ["somebody else", "job"]


def test_two_jobs_that_change_one_object_at_the_same_time(store, marks):
    """Both end in one step or after one another; one of them is told, and no change is lost."""
    thing = flow_jobs.Item("log")
    store.save(thing)
    run = perdure.start(flow_jobs.together, thing, marks.folder, store=store, executor="processes", workers=2)
    ends = sorted(str(made.state) for made in run.jobs())
    assert ends in (["failed", "succeeded"], ["succeeded", "succeeded"])
    assert len(thing.log) == ends.count("succeeded")
    assert all(
        attempt.error_type == "ConflictError"
        for made in run.jobs()
        for attempt in made.attempts
        if attempt.state == "failed"
    )
    perdure.rerun(run)
    assert len(thing.log) == 2


class AllAtOnce(InlineExecutor):
    """Runs every job that is ready before any of them ends."""

    def __init__(self):
        super().__init__()
        self.tasks = []

    def idle(self, wanted):
        return [os.getpid()] * wanted

    def submit(self, task, pid):
        self.tasks.append(task)

    def wait(self):
        tasks, self.tasks = self.tasks, []
        return [run_task(task, self._place) for task in tasks]


def test_two_jobs_that_end_in_one_step_and_changed_one_object(store):
    thing = flow_jobs.Item("log")
    store.save(thing)

    @perdure.flow
    def both():
        return [flow_jobs.write_log(thing, "one"), flow_jobs.write_log(thing, "two"), flow_jobs.same(3)]

    run = perdure.start(both, store=store, executor=AllAtOnce())
    assert [str(made.state) for made in run.jobs()] == ["succeeded", "failed", "succeeded"]
    (attempt,) = run.jobs()[1].attempts
    assert attempt.error_type == "ConflictError"
    assert f"{thing.persistent_id} was changed by {run.jobs()[0].persistent_id} at the same time" in attempt.error
    assert thing.log == ["one"]
    perdure.rerun(run)
    assert thing.log == ["one", "two"]


def test_results_reach_other_jobs_whole(store):
    run = perdure.start(flow_jobs.passing_on, store=store, executor="processes", workers=1)
    name, again = run.result()
    assert name == "pen"
    assert again.name == "pen"
    assert run.jobs()[0].result().content is again


@BOTH
def test_what_a_job_saves_is_found_by_its_index(any_store, executor):
    ticket, other = flow_jobs.Ticket("open"), flow_jobs.Ticket("open")
    any_store.save_many([ticket, other])
    assert any_store.count(flow_jobs.Ticket, state="open") == 2
    run = perdure.start(flow_jobs.closing, ticket, store=any_store, executor=executor, workers=1)
    assert run.result()[0] is ticket
    assert any_store.find(flow_jobs.Ticket, state="open") == [other]
    assert any_store.find(flow_jobs.Ticket, state="closed") == [ticket]
    assert any_store.find(flow_jobs.Ticket, state="follow-up") == [run.result()[1]]


@BOTH
def test_what_a_job_saves_has_the_extra_fields_of_the_store(tmp_path, executor):
    fields = {"extra": operator.attrgetter("state")}
    url = f"sqlite:////{(tmp_path / 'a.db').as_posix().lstrip('/')}"
    with perdure.make_store(url, extra_fields=fields) as store:
        ticket = flow_jobs.Ticket("open")
        store.save(ticket)
        perdure.start(flow_jobs.closing, ticket, store=store, executor=executor, workers=1).result()
        assert store.find(flow_jobs.Ticket, extra="closed") == [ticket]
        assert store.count(flow_jobs.Ticket, extra="follow-up") == 1


def test_functions_of_extra_fields_that_cannot_be_sent_fail_the_job_that_needs_them(tmp_path):
    fields = {"extra": lambda obj: obj.state}
    with perdure.make_store(tmp_path / "store", extra_fields=fields) as store:
        ticket = flow_jobs.Ticket("open")
        store.save(ticket)
        run = perdure.start(flow_jobs.closing, ticket, store=store, executor="processes", workers=1)
        assert run.state is RunState.FAILED
        assert "does not have the functions of extra_fields (extra)" in run.jobs()[0].attempts[0].error
        assert store.find(flow_jobs.Ticket, extra="open") == [ticket]
