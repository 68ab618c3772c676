"""Runs that succeed: results, arguments, attempts, executors, stores."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import flow_jobs
import pytest
from flow_jobs import states

import perdure
from perdure import Attempt, CyclicFlow, FlowError, Job, JobState, ResultNotReady, Run, RunState, flow, job
from perdure.flows.executors.processes import ProcessesExecutor


def test_a_flow_runs_on_every_store(any_store):
    run = perdure.start(flow_jobs.survey, ["1", "2", "3"], store=any_store)
    assert isinstance(run, Run)
    assert run.state is RunState.SUCCEEDED
    assert run.state == "succeeded"
    assert run.result() == 6
    assert [(job.name, job.state) for job in run.jobs()] == [("parse", "succeeded")] * 3 + [("tally", "succeeded")]
    assert [job.result() for job in run.jobs()] == [1, 2, 3, 6]


def test_every_attempt_says_when_where_and_with_what_it_ran(store):
    before = time.time()
    run = perdure.start(flow_jobs.diamond, 1, store=store)
    after = time.time()
    for made in run.jobs():
        assert isinstance(made, Job)
        (attempt,) = made.attempts
        assert isinstance(attempt, Attempt)
        assert (attempt.number, attempt.state, attempt.error) == (1, JobState.SUCCEEDED, "")
        assert before <= attempt.started <= attempt.ended <= after
        assert (attempt.host, attempt.pid) == (socket.gethostname(), os.getpid())
        assert attempt.code.state.module("flow_jobs") is not None
    assert run.result() == 1 + 1 + 10 + 1 + 1 + 100
    assert before <= run.created <= run.ended <= after


def test_jobs_are_read_in_another_process_by_id(store):
    run = perdure.start(flow_jobs.survey, ["4", "5"], store=store)
    with perdure.make_store(store.url) as again:
        found = again.load(run.id)
        assert found.state is RunState.SUCCEEDED
        assert found.result() == 9
        assert found.job("tally").attempts[0].result() == 9
        with pytest.raises(perdure.NotFound, match="no job 'nobody'"):
            found.job("nobody")


def test_processes_run_jobs_in_processes(store):
    with pytest.raises(FlowError, match="0 workers"):
        ProcessesExecutor(0)
    run = perdure.start(flow_jobs.processes, 12, store=store, executor="processes", workers=2)
    pids = run.result()
    assert len(set(pids)) in (1, 2)
    assert os.getpid() not in pids
    assert [made.attempts[0].pid for made in run.jobs()] == pids
    assert all(made.attempts[0].code is not None for made in run.jobs())


def test_as_many_workers_as_cores_by_default():
    assert ProcessesExecutor()._most == len(os.sched_getaffinity(0))


def test_the_ids_of_jobs_are_in_the_order_in_which_the_flow_made_them(store):
    for started in (flow_jobs.diamond, flow_jobs.diamond, flow_jobs.chosen_last):
        run = perdure.start(started, 1, store=store)
        numbers = [int(job.persistent_id.partition(".")[2]) for job in run.jobs()]
        assert numbers == sorted(numbers)
        assert int(run.id.partition(".")[2]) < numbers[0]


def test_without_a_store_it_runs_in_memory():
    assert perdure.start(flow_jobs.survey, ["1"]).result() == 1


def test_a_store_may_be_given_by_its_url(tmp_path):
    url = f"sqlite:///{tmp_path}/by-url.db"
    run = perdure.start(flow_jobs.survey, ["7"], store=url)
    assert run.result() == 7
    with perdure.make_store(url) as store:
        assert store.load(run.id).result() == 7
        assert list(store) == []  # runs and jobs are perdure's own
        assert run.id in store.list(all=True)


def test_arguments_by_name(store):
    @flow
    def named(a, *, b=1):
        return flow_jobs.add(a, b=b)

    run = perdure.start(named, 1, kwargs={"b": 41}, store=store)
    assert (run.result(), run.args, run.kwargs) == (42, (1,), {"b": 41})


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_jobs_are_found_in_nested_arguments(store, executor):
    told = perdure.start(flow_jobs.nested, store=store, executor=executor, workers=1).result()
    assert told["list"] == [1, [2]]
    assert told["tuple"] == (1, (2,))
    assert told["named"] == flow_jobs.Pair(1, 2)
    assert type(told["named"]) is flow_jobs.Pair
    assert told[1] == "key"
    assert told["set"] == {1, 2}
    assert told["frozen"] == frozenset([2])
    assert told["line"] == flow_jobs.Line(1, flow_jobs.Line(2))
    assert told["groups"] == {"both": [1, 2]}
    assert told["groups"].default_factory is list
    assert (told["shelf"], told["shelf"].label) == ([1], "top")


def test_a_flow_may_return_nothing(store, marks):
    run = perdure.start(flow_jobs.nothing_returned, marks.folder, store=store)
    assert run.result() is None
    assert marks.count("a") == 1


def test_a_flow_without_jobs(store):
    run = perdure.start(flow_jobs.empty, store=store)
    assert (run.state, run.jobs(), run.result()) == (RunState.SUCCEEDED, [], {"nothing": [1, 2]})


def test_a_flow_may_return_jobs_in_a_structure(store):
    assert perdure.start(flow_jobs.structure, store=store).result() == {"a": ["x", 1], "b": ("y", "x")}


def test_a_job_that_is_used_twice_runs_once(store, marks):
    @flow
    def twice():
        one = flow_jobs.touch(marks.folder, "one")
        return flow_jobs.same([one, one])

    assert perdure.start(twice, store=store).result() == ["one", "one"]
    assert marks.count("one") == 1


def test_outside_a_flow_a_job_is_a_plain_function():
    assert flow_jobs.add(1, 2) == 3
    assert flow_jobs.add.__name__ == "add"
    assert flow_jobs.survey(["1", "2"]) == 3


def test_jobs_of_local_functions_run_inline(store):
    offset = 10

    @job
    def shift(value):
        return value + offset

    @flow
    def local():
        return shift(shift(1))

    assert perdure.start(local, store=store).result() == 21
    with pytest.raises(FlowError, match=r"defined inside another function.*inline"):
        perdure.start(local, store=store, executor="processes")
    assert len([id_ for id_ in store.list(all=True) if id_.startswith("Run.")]) == 1


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_results_that_are_persistable_are_records_of_their_own(store, marks, executor):
    run = perdure.start(flow_jobs.giving, "item", marks.folder, store=store, executor=executor, workers=1)
    pocket, item = run.result()[0]
    assert pocket.content is item
    assert item.name == "pen"
    with perdure.make_store(store.url) as again:
        assert [id_.partition(".")[0] for id_ in again] == ["Pocket", "Item"]
        assert again.load(item.persistent_id).name == "pen"


def test_a_called_job_tells_wrong_arguments_at_once(store):
    @flow
    def wrong():
        return flow_jobs.add(1, 2, 3)

    with pytest.raises(FlowError, match="add was called wrongly in the flow: too many"):
        perdure.start(wrong, store=store)
    assert store.list(all=True) == []


def test_what_the_flow_function_raises_is_raised(store):
    @flow
    def broken():
        flow_jobs.add(1)
        raise LookupError("in the flow")

    with pytest.raises(LookupError, match="in the flow"):
        perdure.start(broken, store=store)
    assert store.list(all=True) == []


def test_a_job_stands_for_a_result_that_is_not_there(store):
    @flow
    def early():
        return flow_jobs.same([1]).append(2)

    with pytest.raises(AttributeError, match="'append' is asked of the job 'same'"):
        perdure.start(early, store=store)


def test_a_cyclic_flow_is_refused_and_the_circle_is_named(store):
    @flow
    def circle():
        box = []
        first = flow_jobs.same(box)
        second = flow_jobs.add(first)
        box.append(number := flow_jobs.number(second))
        return number

    with pytest.raises(CyclicFlow, match=r"same → parse → add → same|add → same → parse → add|parse") as caught:
        perdure.start(circle, store=store)
    assert caught.value.path.count("→") == 3
    assert store.list(all=True) == []

    @flow
    def itself():
        box = []
        box.append(flow_jobs.same(box))

    with pytest.raises(CyclicFlow, match="same → same"):
        perdure.start(itself, store=store)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_shared_and_circular_arguments_stay_so(store, executor):
    @flow
    def knot():
        box = [flow_jobs.same(1)]
        box.append(box)
        return flow_jobs.look({"box": box, "again": box})

    told = perdure.start(knot, store=store, executor=executor, workers=1).result()
    assert told["box"] is told["again"]
    assert told["box"][1] is told["box"]
    assert told["box"][0] == 1


def test_a_dataclass_in_a_circle_is_refused_before_anything_runs(store):
    @flow
    def circle():
        line = flow_jobs.Line(flow_jobs.same(1))
        object.__setattr__(line, "end", line)
        return flow_jobs.look(line)

    with pytest.raises(FlowError, match="A dataclass that holds a job contains itself"):
        perdure.start(circle, store=store)
    assert store.list(all=True) == []


def test_a_long_chain_is_no_circle_and_no_recursion(store):
    @flow
    def chain(length):
        last = flow_jobs.add(0)
        for _ in range(length):
            last = flow_jobs.add(last, 1)
        return last

    jobs, _ = chain.build((3000,), {})
    from perdure.flows.running import _refuse_cycles

    run = Run("m:f", "", (), {}, jobs, None)
    _refuse_cycles(jobs)
    assert [made.run for made in run.stored_jobs()] == [run] * 3001
    assert perdure.start(chain, 300, store=store).result() == 300


def test_a_job_of_another_run_is_no_argument(store):
    done = perdure.start(flow_jobs.survey, ["1"], store=store).jobs()[0]

    @flow
    def stranger():
        return flow_jobs.same([done])

    with pytest.raises(FlowError, match=r"The job parse \(Job\.\d+\) belongs to another run.*job.result"):
        perdure.start(stranger, store=store)


def test_wrong_calls(store):
    with pytest.raises(FlowError, match="'add' is no flow"):
        perdure.start(flow_jobs.add, store=store)
    with pytest.raises(FlowError, match="no executor 'cloud'"):
        perdure.start(flow_jobs.empty, store=store, executor="cloud")
    with pytest.raises(FlowError, match="retries is a number"):
        job(retries=-1)
    with pytest.raises(FlowError, match="timeout is a number"):
        job(timeout=0)
    with pytest.raises(FlowError, match="the store is needed"):
        perdure.rerun("Run.1")
    id_ = store.save([1])
    with pytest.raises(FlowError, match="is no run, but a list"):
        perdure.rerun(id_, store=store)

    @flow
    def outer():
        perdure.start(flow_jobs.empty, store=store)

    with pytest.raises(FlowError, match="inside another"):
        perdure.start(outer, store=store)

    class Holder:
        @job
        def method(self):
            return 1

    with pytest.raises(FlowError, match="is a method"):
        Holder().method


def test_no_run_within_a_transaction(store):
    run = perdure.start(flow_jobs.survey, ["x"], store=store)
    with store.transaction():
        for drive in (
            lambda: perdure.start(flow_jobs.empty, store=store),
            lambda: perdure.rerun(run),
            lambda: perdure.resume(run),
        ):
            with pytest.raises(FlowError, match="inside a transaction"):
                drive()
    assert run.state is RunState.FAILED


def test_a_run_started_by_an_asyncio_task(store):
    async def main():
        run = perdure.start(flow_jobs.survey, ["1", "2"], store=store)
        return run.result()

    assert asyncio.run(main()) == 3


def test_a_job_may_start_a_run_of_its_own_inline(store):
    @job
    def inner_run():
        return perdure.start(flow_jobs.survey, ["1", "2"]).result()

    @flow
    def outer():
        return inner_run()

    assert perdure.start(outer, store=store).result() == 3


def test_without_the_key_nothing_runs(store, tmp_path, monkeypatch):
    run = perdure.start(flow_jobs.survey, ["x"], store=store)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    with perdure.make_store(store.url, trust="all") as keyless, pytest.raises(perdure.KeyMissing, match="key import"):
        perdure.rerun(keyless.load(run.id))


def test_progress_is_told(store):
    seen = []
    perdure.start(flow_jobs.survey, ["1", "x"], store=store, watch=seen.append)
    assert [tuple(progress)[:4] for progress in seen] == [(3, 0, 0, 1), (3, 1, 0, 1), (3, 3, 1, 0)]


def test_a_result_is_not_ready_before_it_is(store):
    jobs, value = flow_jobs.survey.build((["1"],), {})
    run = Run("m:f", "", (), {}, jobs, value)
    store.save(run)
    assert run.state is RunState.INTERRUPTED  # it was never begun, and nobody will
    with pytest.raises(perdure.RunFailed, match="was interrupted"):
        run.result()
    with pytest.raises(ResultNotReady, match="parse is waiting"):
        run.jobs()[0].result()
    assert states(run) == {"parse": "waiting", "tally": "waiting"}
