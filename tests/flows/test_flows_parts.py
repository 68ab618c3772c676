"""The parts that hold no state of a store: states, the graph of a run, arguments, texts of errors, owners."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import IllegalTransition, JobState, Persistable, RunState
from perdure.errors import FlowError
from perdure.files import Disk, Files
from perdure.flows.arguments import jobs_in, replaced, shown
from perdure.flows.graph import Graph
from perdure.flows.states import next_job_state, next_run_state
from perdure.flows.tracebacks import short_name, without_places
from perdure.ownership import Owner, host_name, owner_of, ownership, process_start

LEGAL = {
    "waiting": "running skipped cancelled",
    "running": "succeeded failed interrupted cancelled waiting",
    "succeeded": "waiting", "failed": "waiting", "skipped": "waiting", "cancelled": "waiting", "interrupted": "waiting",
}  # fmt: skip


@pytest.mark.parametrize("now", JobState)
@pytest.mark.parametrize("then", JobState)
def test_only_legal_transitions(now, then):
    if then in LEGAL[now].split():
        assert next_job_state(now, then, "it") is then
    else:
        with pytest.raises(IllegalTransition, match=f"it cannot go from {now} to {then}"):
            next_job_state(now, then, "it")


def test_states_are_strings():
    assert JobState.FAILED == "failed"
    assert f"{RunState.RUNNING}" == "running"
    with pytest.raises(IllegalTransition, match=r"Run\.1 cannot go from succeeded to failed"):
        next_run_state(RunState.SUCCEEDED, RunState.FAILED, "Run.1")


# -- the graph -------------------------------------------------------------------------------------------


@given(st.data())
def test_a_graph_comes_to_its_end(data):
    """Whatever ends how: no job starts before its needs have succeeded, and all that can run does."""
    count = data.draw(st.integers(1, 12))
    needs = [
        data.draw(st.lists(st.integers(0, max(i - 1, 0)), max_size=3, unique=True)) if i else [] for i in range(count)
    ]
    fails = data.draw(st.sets(st.integers(0, count - 1)))
    graph = Graph()
    for i in range(count):
        graph.add(str(i), JobState.WAITING, [str(need) for need in needs[i]])
    graph.complete()
    ended, skipped = {}, set()
    while graph.ready:
        id_ = graph.ready.popleft()
        assert all(ended.get(need) for need in graph.needs[id_])
        assert id_ not in ended
        graph.go(id_, JobState.RUNNING)
        ended[id_] = int(id_) not in fails
        graph.go(id_, JobState.SUCCEEDED if ended[id_] else JobState.FAILED)
        skipped.update(graph.take_hopeless())
    assert ended.keys() | skipped == {str(i) for i in range(count)}
    assert not ended.keys() & skipped
    for id_ in skipped:
        assert any(need in skipped or ended.get(need) is False for need in graph.needs[id_])
    assert graph.final_state() is (RunState.FAILED if False in ended.values() else RunState.SUCCEEDED)
    assert sum(graph.counts.values()) == count


# -- arguments -------------------------------------------------------------------------------------------


class Mark:
    """Stands for a job."""

    def __init__(self, result):
        self.result = result


class Thing(Persistable):
    inside = Mark(0)


def test_what_holds_no_job_is_passed_on_itself():
    value = {"a": [1, (2, {3})], "thing": Thing()}
    assert replaced(value, Mark, lambda mark: mark.result) is value
    assert jobs_in(value, Mark) == []


def test_containers_that_contain_themselves():
    loop = [1]
    loop.append(loop)
    assert jobs_in(loop, Mark) == []
    assert replaced(loop, Mark, lambda mark: mark.result) is loop
    loop.append(Mark(5))
    assert len(jobs_in(loop, Mark)) == 1
    made = replaced(loop, Mark, result)
    assert (made[0], made[2], len(made)) == (1, 5, 3)
    assert made[1] is made
    assert loop[1] is loop


def result(mark):
    return mark.result


def test_circles_through_tuples_from_every_side():
    one, two = [], []
    pair = (one, two, Mark(7))
    one.append((pair, {"pair": pair}))
    two.append((pair,))
    made = replaced(pair, Mark, result)
    assert made[2] == 7
    assert made[0][0][0] is made
    assert made[0][0][1]["pair"] is made
    assert made[1][0][0] is made
    made = replaced(one, Mark, result)
    assert made[0][0][0] is made
    assert made[0][0][1][0][0] is made[0][0]


@dataclass
class Node:
    label: object
    next: object = None
    size: int = field(init=False)

    def __post_init__(self):
        self.size = len(self.label) if isinstance(self.label, list) else -1


def test_dataclasses_are_made_of_whole_parts():
    node = Node([Mark(1), Mark(2)])
    made = replaced([node, {"it": node}], Mark, result)
    assert (made[0].label, made[0].size) == ([1, 2], 2)
    assert made[1]["it"] is made[0]
    node.next = [node]  # a circle, but through a list
    made = replaced(node, Mark, result)
    assert made.next[0] is made
    assert made.label == [1, 2]


@pytest.mark.parametrize("walk", [jobs_in, lambda value, kind: replaced(value, kind, result)])
def test_a_dataclass_that_contains_itself_is_refused_if_it_holds_a_job(walk):
    node = Node("end")
    node.next = Node("start", node)
    walk([node], Mark)  # no job in it: it is passed on as it is
    node.label = Mark(1)
    with pytest.raises(FlowError, match="A dataclass that holds a job contains itself"):
        walk([node], Mark)


def test_what_is_shared_stays_shared_and_is_met_once():
    asked = []
    value = [Mark(3)]
    for _ in range(40):
        value = [value, value]
    started = time.perf_counter()
    assert len(jobs_in(value, Mark)) == 1
    made = replaced(value, Mark, lambda mark: asked.append(mark) or mark.result)
    assert time.perf_counter() - started < 1  # 2 ** 40 ways lead to the mark
    assert len(asked) == 1
    for _ in range(40):
        assert made[0] is made[1]
        made = made[0]
    assert made == [3]


def test_no_depth_is_too_deep():
    value = Mark(3)
    for number in range(20_000):
        value = [value] if number % 2 else (value,)
    made = replaced(value, Mark, result)
    for _ in range(20_000):
        (made,) = made
    assert made == 3


def plainly(value):
    """The definition, for trees."""
    if isinstance(value, Mark):
        return value.result
    if isinstance(value, dict):
        return {plainly(key): plainly(item) for key, item in value.items()}
    if isinstance(value, Node):
        return Node(plainly(value.label), plainly(value.next))
    return type(value)(map(plainly, value)) if isinstance(value, (list, tuple, set, frozenset)) else value


LEAVES = st.integers(0, 5) | st.text(max_size=2) | st.builds(Mark, st.integers(0, 5))
KEYS = st.recursive(LEAVES, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=3)
TREES = st.recursive(
    KEYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=2)
        | st.sets(KEYS, max_size=2)
        | st.builds(Node, inner, inner)
    ),
    max_leaves=12,
)


@given(TREES)
def test_trees_are_replaced_as_the_plain_definition_says(tree):
    assert replaced(tree, Mark, result) == plainly(tree)
    assert (replaced(tree, Mark, result) is tree) == (jobs_in(tree, Mark) == [])


def test_subclasses_of_containers_are_kept():
    value = OrderedDict(b=Mark(1), a=2)
    made = replaced(value, Mark, lambda mark: mark.result)
    assert (type(made), list(made.items())) == (OrderedDict, [("b", 1), ("a", 2)])
    assert value["b"].result == 1  # the given one is not touched

    class Short(namedtuple("Short", "x y")):
        def __new__(cls, x):
            return super().__new__(cls, x, 0)

    made = replaced(Short(Mark(3)), Mark, lambda mark: mark.result)
    assert (type(made), made) == (Short, (3, 0))


class Rude:
    def __repr__(self):
        raise RuntimeError("not for you")


class RudeText(str):
    __slots__ = ()

    def __repr__(self):
        raise RuntimeError("not for you")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), ("x", "'x'"), (None, "None"), (2.5, "2.5"), ([1, "a"], "[1, 'a']"), ((1,), "(1)"),
        ({"k": 1}, "{'k': 1}"),
        ([1] * 4, "list of 4"), ([[1]], "list of 1"), ({1}, "set of 1"), ("x" * 100, f"'{'x' * 30}'…'{'x' * 30}'"),
        (Rude(), "Rude"), ([Rude()], "[Rude]"), (RudeText("x"), "RudeText"),
        (PurePosixPath("a/b"), "'a/b'"), (int, "type"), (Thing(), "it"), ([Thing()], "[it]"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)  # fmt: skip
def test_arguments_in_short(value, text):
    assert shown((value,), {}, lambda thing: "it") == text


def test_a_number_that_is_too_long_to_be_shown():
    assert shown((10**5000,), {}, str) == "int of 16610 bits"


def test_many_arguments_in_short():
    assert shown((1, 2, 3, 4, 5), {"a": 1, "b": [2]}, str) == "1, 2, 3, 4, …, a=1, b=[2]"


# -- texts of errors -------------------------------------------------------------------------------------


def test_files_are_named_from_where_they_belong(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "entry"))
    assert short_name(str(tmp_path / "entry" / "package" / "module.py")) == "package/module.py"
    assert short_name(str(tmp_path / "elsewhere" / "module.py")) == "module.py"
    assert short_name(os.__file__) == "os.py"
    assert short_name(pytest.__file__) == "pytest/__init__.py"
    assert short_name("<string>") == "<string>"
    repository = tmp_path / "repository"
    (repository / "source").mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    monkeypatch.syspath_prepend(str(repository / "source"))
    assert short_name(str(repository / "source" / "module.py")) == "source/module.py"


def test_texts_of_errors_keep_what_is_the_users(tmp_path):
    text = f"cannot import name 'x' from 'm' ({tmp_path}/deep/m.py); data are in {tmp_path}/data.csv, a/b.py, 1/2"
    assert (
        without_places(text) == f"cannot import name 'x' from 'm' (m.py); data are in {tmp_path}/data.csv, a/b.py, 1/2"
    )


# -- owners ----------------------------------------------------------------------------------------------


def test_an_owner_lives_as_long_as_it_holds_its_lock():
    with ownership() as owner:
        assert owner.lives()
        assert owner_of(owner.header()) == owner
        assert (owner.host, owner.pid, owner.process_start) == (host_name(), os.getpid(), process_start(os.getpid()))
        assert str(owner) == f"process {os.getpid()} on {host_name()}"
    assert not owner.lives()  # though its process does
    assert owner_of("") is None


def test_an_owner_that_ends_while_somebody_looks_is_seen_to_be_gone(monkeypatch):
    takes = Disk.lock

    def lock(disk, path, **how):
        os.unlink(path)  # at the last moment
        return takes(disk, path, **how)

    with ownership() as owner:
        monkeypatch.setattr(Disk, "lock", lock)
        assert not owner.lives()
        monkeypatch.undo()


def test_who_looks_for_an_owner_does_not_look_like_one():
    with ownership() as owner:
        path = str(Path(platformdirs.user_state_dir("perdure", appauthor=False)) / "runs" / f"{owner.token}.lock")
    Path(path).touch()  # as a killed one leaves it
    with Files().lock(path, exclusive=False, timeout=0):  # as another one who looks
        assert not owner.lives()
    owner.forget()
    assert not Path(path).exists()


def test_an_owner_elsewhere_counts_as_living():
    with ownership() as owner:
        far = owner._replace(host="another-host")
    assert far.lives()


def test_an_owner_that_is_seen_from_another_directory_of_locks(tmp_path, monkeypatch):
    with ownership() as owner:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert owner.lives()
        assert not owner._replace(process_start=owner.process_start + 1).lives()
        assert not owner._replace(pid=2**22 + 1).lives()


def test_an_owner_that_was_killed():
    program = (
        "import os, sys\nfrom perdure.ownership import ownership\n"
        "with ownership() as owner:\n    print(owner.header(), flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        owner = owner_of(process.stdout.readline().decode().strip())
        assert isinstance(owner, Owner)
        assert owner.lives()
        process.kill()
        process.wait()
        assert not owner.lives()
    locks = Path(os.environ["XDG_STATE_HOME"]) / "perdure" / "runs"
    assert len(list(locks.iterdir())) == 1
    owner.forget()
    assert list(locks.iterdir()) == []
