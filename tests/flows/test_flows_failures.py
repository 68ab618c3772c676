"""What goes wrong in a job fails that job, and says what and where; nothing else is harmed."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import flow_jobs
import pytest
from flow_jobs import states

import perdure
from perdure import JobState, RunFailed, RunState
from perdure.flows.running import changed_functions
from perdure.records.frame import decode, encoder
from perdure.records.values import Batch

BOTH = pytest.mark.parametrize("executor", ["inline", "processes"])


@BOTH
def test_a_failing_job_stops_only_what_depends_on_it(store, marks, executor):
    run = perdure.start(flow_jobs.mixed, marks.folder, store=store, executor=executor, workers=2)
    assert run.state is RunState.FAILED
    assert [str(job.state) for job in run.jobs()] == ["succeeded", "failed", "skipped", "succeeded", "skipped"]
    assert [marks.count(name) for name in ("good", "bad", "after", "free", "last")] == [1, 1, 0, 1, 0]
    assert [len(job.attempts) for job in run.jobs()] == [1, 1, 0, 1, 0]
    with pytest.raises(RunFailed, match=r"Run\.\d+ failed\. fail \(Job\.\d+\): ValueError: bad is wrong") as caught:
        run.result()
    assert list(caught.value.failures.values()) == ["ValueError: bad is wrong"]


def test_the_attempt_keeps_the_exception_and_its_traceback(store, marks):
    run = perdure.start(flow_jobs.mixed, marks.folder, store=store)
    (attempt,) = run.job("fail").attempts
    assert (attempt.state, attempt.error_type, attempt.error) == (JobState.FAILED, "ValueError", "bad is wrong")
    lines = attempt.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith('  File "tests/flows/flow_jobs.py", line ') or lines[1].startswith(
        '  File "flow_jobs.py"'
    )
    assert 'raise ValueError(f"{name} is wrong")' in lines[2]
    assert lines[-1] == "ValueError: bad is wrong"
    assert "run_task" not in attempt.traceback  # perdure's own frames tell the user nothing
    with pytest.raises(perdure.ResultNotReady, match=r"Attempt 1 of fail is failed. bad is wrong"):
        attempt.result()
    with pytest.raises(perdure.ResultNotReady, match="fail is failed: bad is wrong"):
        run.job("fail").result()


def test_retries_are_attempts_of_their_own(any_store, marks):
    run = perdure.start(flow_jobs.persistent, marks.folder, store=any_store)
    assert run.result() == 3
    (made,) = run.jobs()
    assert [(a.number, str(a.state), a.error) for a in made.attempts] == [
        (1, "failed", "try 1"), (2, "failed", "try 2"), (3, "succeeded", ""),
    ]  # fmt: skip


def test_when_all_retries_fail_the_job_has_failed(store):
    tries = []

    @perdure.job(retries=2)
    def never():
        tries.append(1)
        raise RuntimeError("no")

    @perdure.flow
    def hopeless():
        return never()

    run = perdure.start(hopeless, store=store)
    assert (run.state, len(tries)) == (RunState.FAILED, 3)
    perdure.rerun(run)
    assert (run.state, len(tries), len(run.jobs()[0].attempts)) == (RunState.FAILED, 6, 6)


LEAVING = {
    "sys.exit": ("SystemExit", "tried to exit the interpreter with 3"),
    "base": ("Stop", "all of it"),
    "ctrl-c": ("KeyboardInterrupt", "by the job itself"),
    "os._exit": ("WorkerDied", "exited with status 3"),
    "SIGKILL": ("WorkerDied", "killed by SIGKILL"),
    "child": ("WorkerDied", "exited with status 4"),
}


@pytest.mark.parametrize("how", LEAVING)
def test_a_job_that_leaves_its_worker_fails_alone(store, marks, how):
    began = time.monotonic()
    run = perdure.start(flow_jobs.leaving, how, marks.folder, store=store, executor="processes", workers=1)
    assert states(run) == {"leave": "failed", "touch": "succeeded"}
    assert run.state is RunState.FAILED
    (attempt,) = run.job("leave").attempts
    error_type, text = LEAVING[how]
    assert attempt.error_type == error_type
    assert text in attempt.error
    assert marks.count("one") == marks.count("two") == 1
    assert attempt.pid != os.getpid()
    assert time.monotonic() - began < 15  # a child that holds the worker's channel open holds up nothing


@pytest.mark.parametrize("how", ["sys.exit", "base"])
def test_a_job_that_leaves_fails_inline_too(store, marks, how):
    run = perdure.start(flow_jobs.leaving, how, marks.folder, store=store)
    assert states(run) == {"leave": "failed", "touch": "succeeded"}
    assert run.job("leave").attempts[0].error_type == LEAVING[how][0]


def test_a_child_that_a_job_forks_is_no_second_worker(store, marks):
    run = perdure.start(flow_jobs.forking, marks.folder, store=store, executor="processes", workers=1)
    assert run.result() == [1, 0, "after"]
    assert (marks.count("parent"), marks.count("after")) == (2, 1)


GIVING = {
    "lock": ("CannotPickle", r"value\['inside'\]\[0\] cannot be saved"),
    "function": ("CannotPickle", "cannot be saved"),
}


@BOTH
@pytest.mark.parametrize("what", GIVING)
def test_a_result_that_cannot_be_pickled_fails_the_job_and_says_where(store, marks, what, executor):
    run = perdure.start(flow_jobs.giving, what, marks.folder, store=store, executor=executor, workers=1)
    assert states(run) == {"give": "failed", "touch": "succeeded"}
    (attempt,) = run.job("give").attempts
    assert attempt.error_type == "CannotPickle"
    assert re.search(GIVING[what][1], attempt.error), attempt.error


def test_arguments_that_cannot_be_pickled_are_told_before_anything_runs(store):
    @perdure.flow
    def locked(value):
        return flow_jobs.same({"deep": [value]})

    with pytest.raises(perdure.CannotPickle, match=r"_args\[0\]|\['deep'\]\[0\]"):
        perdure.start(locked, threading.Lock(), store=store)
    assert store.list(all=True) == []
    locks = Path(os.environ["XDG_STATE_HOME"]) / "perdure" / "runs"
    assert list(locks.iterdir()) == []  # nobody owns anything


def test_a_result_of_a_class_that_only_the_worker_has_fails_the_job(store, marks):
    run = perdure.start(flow_jobs.giving, "worker only", marks.folder, store=store, executor="processes", workers=1)
    assert states(run) == {"give": "failed", "touch": "succeeded"}
    (attempt,) = run.job("give").attempts
    assert attempt.error_type == "UnloadableResult"
    assert f"made_in_{attempt.pid}:Thing cannot be found here" in attempt.error
    assert not [id_ for id_ in store.list(all=True) if id_.startswith("Result.") and store.load(id_).value != "free"]


def test_a_module_that_cannot_be_imported_here_fails_the_job(store, marks, tmp_path, monkeypatch):
    """The engine looks for the names in a result; whatever importing their module does, only that job fails."""
    (tmp_path / "only_in_workers.py").write_text(
        "import sys\nif 'conftest' in sys.modules:\n    raise RuntimeError('not in this process')\nclass Thing: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = perdure.start(flow_jobs.importing, "only_in_workers", store=store, executor="processes", workers=1)
    (attempt,) = run.job("give_of").attempts
    assert attempt.error_type == "UnloadableResult"
    assert (
        "only_in_workers:Thing cannot be found here: importing it raises RuntimeError: not in this process"
        in attempt.error
    )


@BOTH
def test_the_check_of_a_result_does_not_run_state_methods(store, marks, executor):
    flow_jobs.Touchy.loaded.clear()
    run = perdure.start(flow_jobs.giving, "touchy", marks.folder, store=store, executor=executor, workers=1)
    assert run.state is RunState.SUCCEEDED
    assert flow_jobs.Touchy.loaded == []
    with pytest.raises(perdure.CannotLoad, match="must not be run by the check"):
        run.result()
    assert flow_jobs.Touchy.loaded == [os.getpid()]


def test_a_result_that_refers_to_what_is_gone_fails_the_job(store):
    pocket = flow_jobs.Pocket(flow_jobs.Item("pen"))
    store.save(pocket)

    @perdure.flow
    def dangling():
        return flow_jobs.refer(pocket, store.url)

    pen = pocket.content.persistent_id
    run = perdure.start(dangling, store=store)
    (attempt,) = run.jobs()[0].attempts
    assert attempt.error_type == "StillReferred"  # the store does not let go of it: that is the first line of defence
    assert pen in attempt.error


def test_a_dangling_reference_is_refused_when_the_result_is_stored():
    store = perdure.make_store("memory:")
    pen = flow_jobs.Item("pen")
    store.save(pen)

    @perdure.job
    def lose(thing):
        # a store lets go of nothing that is referred to: this goes past it, as another release might
        id_ = thing.persistent_id
        base = decode(store.backend.read([id_])[id_], store.key).revision
        store.backend.apply(Batch([], {id_: base}), encoder(store.key))
        return [thing]

    @perdure.flow
    def losing(thing):
        return lose(thing)

    run = perdure.start(losing, pen, store=store)
    (attempt,) = run.jobs()[0].attempts
    assert attempt.error_type == "UnloadableResult"
    assert f"It refers to {pen.persistent_id}, which the store does not hold" in attempt.error


@pytest.mark.parametrize("how", ["sleep", "swallow", "swallow once"])
def test_a_time_out_inline(store, how):
    run = perdure.start(flow_jobs.timed, how, store=store)
    (attempt,) = run.jobs()[0].attempts
    assert attempt.error_type == "JobTimeout"
    assert "ran longer than its time-out of 0.3 s" in attempt.error
    assert 0.25 < attempt.ended - attempt.started < 5


@pytest.mark.parametrize("how", ["sleep", "swallow all", "program"])
def test_a_time_out_in_a_process(store, how, monkeypatch):
    monkeypatch.setattr("perdure.flows.executors.processes.GRACE", 0.5)
    run = perdure.start(flow_jobs.timed, how, store=store, executor="processes", workers=1)
    (attempt,) = run.jobs()[0].attempts
    assert attempt.error_type == "JobTimeout"
    assert "ran longer than its time-out of 0.3 s" in attempt.error
    assert 0.25 < attempt.ended - attempt.started < 8


def test_a_time_out_that_cannot_be_kept_fails_the_job(store):
    told = []
    run = perdure.start(flow_jobs.timed, "done", store=store, wait=False, watch=told.append)
    while run.state is RunState.RUNNING:
        time.sleep(0.01)
    (attempt,) = run.jobs()[0].attempts
    assert "has a time-out, which cannot be kept outside the main thread" in attempt.error
    assert "executor='processes'" in attempt.error


def test_a_time_out_that_is_kept_disturbs_nothing(store):
    run = perdure.start(flow_jobs.timed, "done", store=store)
    assert run.result() == "done"
    time.sleep(0.35)  # no alarm is left


def test_a_job_whose_function_is_gone_fails_and_says_so(store, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "short_lived.py").write_text(
        "from perdure import flow, job\n@job\ndef one():\n    raise ValueError('x')\n"
        "@flow\ndef all():\n    return one()\n"
    )
    import short_lived

    run = perdure.start(short_lived.all, store=store)
    del short_lived.one
    perdure.rerun(run)
    last = run.jobs()[0].attempts[-1]
    assert (last.number, last.error_type) == (2, "ClassNotFound")
    assert "short_lived:one cannot be found here" in last.error
    assert changed_functions(run.jobs()) == {"short_lived:one": "is not here any more"}


def test_an_error_whose_text_cannot_be_made(store):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    @perdure.job
    def silent():
        raise Mute

    @perdure.flow
    def quiet():
        return silent()

    run = perdure.start(quiet, store=store)
    (attempt,) = run.jobs()[0].attempts
    assert (attempt.error_type, attempt.error) == ("Mute", "<its text cannot be made: __str__ failed>")


def test_a_cause_a_group_and_a_deep_recursion_are_told(store):
    def deeper():
        return deeper()

    @perdure.job
    def causes(kind):
        if kind == "recursion":
            deeper()
        try:
            raise KeyError("first")
        except KeyError as error:
            if kind == "cause":
                raise ValueError("second") from error
            raise ExceptionGroup("many", [ValueError("one"), TypeError("two")]) from error

    @perdure.flow
    def telling():
        return [causes(kind) for kind in ("cause", "group", "recursion")]

    run = perdure.start(telling, store=store)
    cause, group, recursion = (made.attempts[0] for made in run.jobs())
    assert "KeyError: 'first'" in cause.traceback
    assert "direct cause" in cause.traceback
    assert "TypeError: two" in group.traceback
    assert recursion.error_type == "RecursionError"
    assert all('File "/' not in attempt.traceback for attempt in (cause, group, recursion))
