"""Run again, go on, interrupt, do not wait: what succeeded is never run again, and every attempt stays."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import flow_jobs
import pytest
from flow_jobs import states

import perdure
from perdure import FlowError, JobState, RunAlive, RunState
from perdure.flows.model import Run
from perdure.flows.running import changed_functions, jobs_to_rerun

HERE = Path(__file__).parent


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def tries(run):
    return [len(made.attempts) for made in run.jobs()]


@pytest.fixture
def switch(tmp_path):
    """Jobs fail, or wait, according to this file."""
    return tmp_path / "switch"


# -- rerun -----------------------------------------------------------------------------------------------


def test_rerun_does_again_what_failed_and_what_depends_on_it(any_store, marks, switch):
    switch.touch()
    run = perdure.start(flow_jobs.mendable, marks.folder, str(switch), store=any_store)
    assert [str(made.state) for made in run.jobs()] == ["succeeded", "failed", "succeeded", "skipped"]
    switch.unlink()
    assert perdure.rerun(run) is run
    assert run.result() == ["free", "last"]
    assert [marks.count(name) for name in ("good", "bad", "free", "last")] == [1, 2, 1, 1]
    assert tries(run) == [1, 2, 1, 1]
    first, second = run.job("fail_while").attempts
    assert (first.state, first.error, second.state) == (JobState.FAILED, "bad is wrong", JobState.SUCCEEDED)


def test_rerun_by_id_from_another_process(store, marks, switch):
    switch.touch()
    run = perdure.start(flow_jobs.mendable, marks.folder, str(switch), store=store)
    switch.unlink()
    script = "import sys, perdure; perdure.rerun(sys.argv[1], store=sys.argv[2], executor='processes', workers=1)"
    subprocess.run([sys.executable, "-c", script, run.id, store.url], check=True, cwd=HERE, timeout=60)
    assert run.result() == ["free", "last"]
    first, second = run.job("fail_while").attempts
    assert first.pid != second.pid


def test_rerun_all(store, marks):
    run = perdure.start(flow_jobs.mixed, marks.folder, store=store)
    perdure.rerun(run, all=True)
    assert [marks.count(name) for name in ("good", "bad", "after", "free", "last")] == [2, 2, 0, 2, 0]
    assert run.state is RunState.FAILED


def test_rerun_from_a_job(store):
    run = perdure.start(flow_jobs.diamond, 1, store=store)
    second = run.jobs()[1]
    assert jobs_to_rerun(run, from_job=second.persistent_id) == [second, run.jobs()[3]]
    perdure.rerun(run, from_job=second.persistent_id)
    assert tries(run) == [1, 2, 1, 2]
    perdure.rerun(run, from_job="add")  # a name that all of them have
    assert tries(run) == [2, 3, 2, 3]
    with pytest.raises(perdure.NotFound, match="no job 'nobody'"):
        perdure.rerun(run, from_job="nobody")
    assert run.state is RunState.SUCCEEDED


def test_rerun_of_a_run_that_succeeded_runs_nothing(store):
    run = perdure.start(flow_jobs.survey, ["1"], store=store)
    perdure.rerun(run)
    assert (tries(run), run.state) == ([1, 1], RunState.SUCCEEDED)


def test_which_functions_have_changed(store, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from perdure import flow, job\n@job\ndef {0}():\n    return {1}\n@flow\ndef all():\n    return {0}()\n"
    (tmp_path / "edited.py").write_text(text.format("one", "1 / 0"))
    import edited

    run = perdure.start(edited.all, store=store)
    assert changed_functions(run.jobs()) == {}
    (tmp_path / "edited.py").write_text("# a comment\n\n" + text.format("one", "1  /  1"))
    sys.modules.pop("edited")
    import edited

    assert changed_functions(jobs_to_rerun(run)) == {"edited:one": "has changed"}
    perdure.rerun(run)
    assert run.result() == 1.0
    assert changed_functions(run.jobs()) == {}
    one, two = (attempt.code.state.module("edited").digest for attempt in run.jobs()[0].attempts)
    assert one != two


# -- not waiting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_without_waiting_properties_read_the_newest(any_store, marks, switch, executor):
    run = perdure.start(
        flow_jobs.slow, marks.folder, str(switch), store=any_store, executor=executor, workers=1, wait=False
    )
    until(lambda: states(run)["wait_for"] == "running")
    assert run.state is RunState.RUNNING
    assert (run.jobs()[0].state, run.jobs()[0].result()) == (JobState.SUCCEEDED, "before")
    with pytest.raises(perdure.ResultNotReady, match=r"Run\.\d+ is running"):
        run.result()
    for again in (perdure.rerun, perdure.resume):
        with pytest.raises(RunAlive, match=r"belongs to process .* which lives"):
            again(run)
    switch.touch()
    until(lambda: run.state is not RunState.RUNNING)
    assert run.result() == ["before", "slow", "after"]
    assert marks.count("slow") == 1


def test_a_run_that_ends_is_never_seen_as_interrupted(any_store):
    for _ in range(10):
        run = perdure.start(flow_jobs.survey, ["1"] * 3, store=any_store, wait=False)
        seen = set()
        until(lambda: seen.add(run.state) or run.state is RunState.SUCCEEDED)
        assert seen <= {RunState.RUNNING, RunState.SUCCEEDED}


def test_rerun_without_waiting(store, marks, switch):
    switch.touch()
    run = perdure.start(flow_jobs.mendable, marks.folder, str(switch), store=store)
    switch.unlink()
    perdure.rerun(run, wait=False)
    until(lambda: run.state is RunState.SUCCEEDED)
    assert tries(run) == [1, 2, 1, 1]


def test_errors_of_an_engine_in_the_background_are_told(store, marks, switch, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    class Broken(perdure.flows.executors.inline.InlineExecutor):
        def wait(self):
            raise OSError("the executor broke")

    run = perdure.start(flow_jobs.survey, ["1"], store=store, executor=Broken(), wait=False)
    until(lambda: told)
    assert str(told[0].exc_value) == "the executor broke"
    until(lambda: run.state is RunState.INTERRUPTED)
    assert [attempt.state for attempt in run.jobs()[0].attempts] == [JobState.INTERRUPTED]
    assert run.failures() == {f"parse ({run.jobs()[0].persistent_id})": "interrupted"}
    perdure.rerun(run)
    assert run.result() == 1


def test_a_broken_executor_breaks_the_call(store):
    class Broken(perdure.flows.executors.inline.InlineExecutor):
        def wait(self):
            raise OSError("the executor broke")

    with pytest.raises(OSError, match="the executor broke"):
        perdure.start(flow_jobs.survey, ["1"], store=store, executor=Broken())
    (id_,) = (id_ for id_ in store.list(all=True) if id_.startswith("Run."))
    assert store.load(id_).state is RunState.INTERRUPTED


def test_a_full_disk_ends_the_engine_and_harms_nothing(any_store, marks, monkeypatch):
    """The commit of a job's end fails: the caller is told, the job counts as cut off, what was done stays done."""
    real, begun = any_store.backend.apply, []

    def apply(batch, encode):
        begun.append(batch)
        if len(begun) == 4:
            raise perdure.DiskFull("No space is left.", hint="Make room.")
        return real(batch, encode)

    monkeypatch.setattr(any_store.backend, "apply", apply)
    with pytest.raises(perdure.DiskFull, match="No space is left"):
        perdure.start(flow_jobs.leaving, "nothing", marks.folder, store=any_store)
    run = newest_run(any_store)
    assert run.state is RunState.INTERRUPTED
    assert [str(made.state) for made in run.jobs()] == ["failed", "interrupted", "waiting"]
    perdure.resume(run)
    assert [str(made.state) for made in run.jobs()] == ["failed", "interrupted", "succeeded"]
    perdure.rerun(run)
    assert [str(made.state) for made in run.jobs()] == ["failed", "succeeded", "succeeded"]
    assert (marks.count("one"), marks.count("two")) == (2, 1)


# -- Ctrl-C and resume -----------------------------------------------------------------------------------


class Interrupting(perdure.flows.executors.inline.InlineExecutor):
    """Ctrl-C comes while a job runs."""

    def wait(self):
        if self._task.name in ("wait_for", "wait_idempotent"):
            raise KeyboardInterrupt
        return super().wait()


def test_ctrl_c_cancels_and_the_run_can_go_on(any_store, marks, switch):
    with pytest.raises(KeyboardInterrupt):
        perdure.start(flow_jobs.slow, marks.folder, str(switch), store=any_store, executor=Interrupting())
    run = newest_run(any_store)
    assert run.state is RunState.CANCELLED
    assert [str(made.state) for made in run.jobs()] == ["succeeded", "interrupted", "cancelled"]
    with pytest.raises(perdure.RunFailed, match="was cancelled"):
        run.result()
    switch.touch()
    perdure.resume(run)
    # what was cut off may have done half of its work: it waits for a person
    assert [str(made.state) for made in run.jobs()] == ["succeeded", "interrupted", "succeeded"]
    assert run.state is RunState.INTERRUPTED
    with pytest.raises(FlowError, match=r"nothing to go on with.*perdure rerun"):
        perdure.resume(run)
    perdure.rerun(run)
    assert run.result() == ["before", "slow", "after"]
    assert [marks.count(name) for name in ("before", "slow", "after")] == [1, 1, 1]


def test_an_idempotent_job_goes_on_after_ctrl_c(store, marks, switch):
    class Later(Interrupting):
        def wait(self):
            if self._task.name == "wait_idempotent":
                raise KeyboardInterrupt
            return super().wait()

    switch.touch()
    with pytest.raises(KeyboardInterrupt):
        perdure.start(flow_jobs.two_slow, marks.folder, str(switch), store=store, executor=Later())
    run = newest_run(store)
    assert run.state is RunState.CANCELLED
    perdure.resume(run)
    assert run.state is RunState.SUCCEEDED
    cut = [made for made in run.jobs() if len(made.attempts) == 2]
    assert [str(attempt.state) for made in cut for attempt in made.attempts] == ["interrupted", "succeeded"]


def test_ctrl_c_ends_the_workers(store, marks, switch):
    """A real Ctrl-C: a process of its own, with workers, gets SIGINT."""
    script = (
        "import sys, perdure, flow_jobs\n"
        "perdure.start(flow_jobs.slow, sys.argv[1], sys.argv[2], store=sys.argv[3], executor='processes', workers=2)\n"
    )
    command = [sys.executable, "-c", script, marks.folder, str(switch), store.url]
    process = subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE)
    until(lambda: marks.count("slow") == 1, 20)
    process.send_signal(2)
    error = process.communicate(timeout=20)[1]
    assert b"KeyboardInterrupt" in error
    run = newest_run(store)
    assert run.state is RunState.CANCELLED
    assert run.jobs()[1].state is JobState.INTERRUPTED
    worker = run.jobs()[1].attempts[0].pid
    until(lambda: not Path(f"/proc/{worker}").exists())


@pytest.mark.parametrize("is_made", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(2, 7))  # the first commit only makes the run; the sixth ends it
def test_ctrl_c_in_a_commit_that_is_made_or_not(store, monkeypatch, number, is_made):
    apply = store.backend.apply
    calls = []

    def interrupted(*values, **named):
        calls.append(number)
        if len(calls) != number:
            return apply(*values, **named)
        if is_made:
            apply(*values, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.backend, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        perdure.start(flow_jobs.survey, ["1"] * 3, store=store, executor="inline")
    monkeypatch.undo()
    run = newest_run(perdure.make_store(store.url))
    if (number, is_made) == (6, True):
        assert run.state is RunState.SUCCEEDED
        return
    ended = number - 2 if is_made else max(0, number - 3)
    begun = number - 1 if is_made else number - 2
    expected = ["succeeded"] * ended + ["interrupted"] * (begun - ended) + ["cancelled"] * (4 - begun)
    assert (run.state, [str(made.state) for made in run.jobs()]) == (RunState.CANCELLED, expected)
    perdure.rerun(run)
    assert run.result() == 3


def test_resume_of_a_run_that_was_never_begun(store):
    jobs, value = flow_jobs.survey.build((["1", "2"],), {})
    run = Run("flow_jobs:survey", "", (), {}, jobs, value)
    store.save(run)
    perdure.resume(run)
    assert run.result() == 3


def test_resume_of_what_has_ended(store):
    run = perdure.start(flow_jobs.survey, ["x"], store=store)
    with pytest.raises(FlowError, match=r"Run\.\d+ has ended and is failed.*perdure rerun"):
        perdure.resume(run)


def newest_run(store):
    ids = [id_ for id_ in store.list(all=True) if id_.startswith("Run.")]
    return store.load(ids[-1])
