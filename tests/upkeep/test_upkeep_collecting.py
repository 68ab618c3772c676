"""What nothing refers to goes, and nothing else: also while others commit."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import ConflictError, MemoryStore, PerdureError, Persistable, Store, TransactionError, make_store
from perdure.upkeep import check, collect, collecting


class Node(Persistable):
    def __init__(self, name: str = "", *refers_to: Any):
        self.name, self.refers_to = name, list(refers_to)


@pytest.fixture(params=["memory", "sqlite", "directory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path}/s.db", "directory": str(tmp_path / "s")}[
        request.param
    ]


@pytest.fixture
def store(url: str) -> Any:
    with make_store(url, code="off") as store:
        yield store
        assert check(store) == []


def names(store: Store) -> list[str]:
    return [store.load(id_).name for id_ in store.list()]


def test_what_was_saved_by_name_and_what_it_refers_to_stays(store: Store) -> None:
    store.save(Node("saved", Node("its part", Node("a part of that"))))
    with store.transaction():
        store.roots["named"] = Node("root", Node("part of the root"))
    store.roots["plain"] = {"deep": [Node("in a value")]}
    assert store.collect() == (0, 8, ())
    assert len(names(store)) == 6


def test_what_nothing_refers_to_goes(store: Store) -> None:
    part = Node("part", Node("shared"))
    whole = Node("whole", part, Node("own"))
    store.save(whole)
    whole.refers_to = [part.refers_to[0]]
    store.save(whole)
    part_id, own_id = part.persistent_id, "Node.4"
    assert len(store.list()) == 4
    looked = store.collect(dry_run=True)
    assert (looked.removed, looked.objects) == (2, 4)
    assert len(store.list()) == 4
    done = store.collect()
    assert (done.removed, done.objects, done.ids) == (2, 4, looked.ids)
    assert part_id in done.ids
    assert sorted(names(store)) == ["shared", "whole"]
    assert store.collect().removed == 0
    assert store.at(store.revision() - 1).load(part_id).name == "part"  # history still has it
    assert part.name == "part"
    assert part.persistent_id is None
    assert "collected 2 objects" in [commit.note for commit in store.transactions()]
    assert own_id not in store.list() or part_id not in store.list()


def test_circles_go(store: Store) -> None:
    a, b, c = Node("a"), Node("b"), Node("c")
    a.refers_to, b.refers_to, c.refers_to = [b], [a, c, b], [c]
    holder = Node("holder", a)
    store.save(holder)
    holder.refers_to = []
    store.save(holder)
    assert store.collect().removed == 3
    assert names(store) == ["holder"]


def test_what_a_deleted_root_held_goes(store: Store) -> None:
    store.roots["a"] = [Node("in a list")]
    store.roots["b"] = Node("b")
    store.roots["b"] = {"now": "plain"}
    assert store.collect().removed == 1
    del store.roots["a"], store.roots["b"]
    assert store.collect().removed == 3  # two holders of plain values, and the node
    assert store.list(all=True) == ["Roots.0"]


def test_a_removed_thing_saved_later_by_name_stays(store: Store) -> None:
    part = Node("part")
    whole = Node("whole", part)
    store.save(whole)
    store.save(part)
    whole.refers_to = []
    store.save(whole)
    assert store.collect().removed == 0


def test_a_long_chain_goes_from_its_beginning_in_many_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "TOGETHER", 10)
    chain = Node("0")
    for number in range(1, 55):
        chain = Node(str(number), chain)
    holder = Node("holder", chain)
    store.save(holder)
    holder.refers_to = []
    store.save(holder)
    before = store.revision()
    seen = []
    assert store.collect(progress=lambda done, of: seen.append((done, of))).removed == 55
    assert store.revision() == before + 6
    assert seen[-1] == (55, 56)
    for revision in range(before, store.revision() + 1):
        past = store.at(revision)
        for id_ in past.list():
            assert all(part.name for part in past.load(id_).refers_to)


def test_not_inside_a_transaction(store: Store) -> None:
    with store.transaction(), pytest.raises(TransactionError):
        store.collect()


def test_who_refers_to_garbage_meanwhile_meets_a_conflict(url: str) -> None:
    """Another view has garbage in its hands, and refers to it after it was collected."""
    with make_store(url, code="off") as store:
        part = Node("part")
        holder = Node("holder", part)
        store.save(holder)
        errors: list[Exception] = []
        loaded, collected = threading.Event(), threading.Event()

        def work() -> None:
            theirs = store.load("Node.1")
            their_part = theirs.refers_to[0]
            assert their_part.name == "part"
            loaded.set()
            assert collected.wait(60)
            try:
                store.save(Node("new", their_part))
            except PerdureError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert loaded.wait(60)
        holder.refers_to = []
        store.save(holder)
        assert store.collect().removed == 1
        collected.set()
        thread.join()
        assert [type(error) for error in errors] == [ConflictError]
        assert store.list() == ["Node.1"]
        assert check(store) == []


def test_what_is_referred_to_between_looking_and_removing_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Node("deep")
    part, other = Node("part", deep), Node("other")
    holder = Node("holder", part, other)
    store.save(holder)
    holder.refers_to = []
    store.save(holder)
    mark = collecting.Graph.mark

    def mark_and_be_late(graph: collecting.Graph) -> None:
        mark(graph)
        holder.refers_to = [part]
        store.save(holder)

    monkeypatch.setattr(collecting.Graph, "mark", mark_and_be_late)
    assert store.collect().removed == 1
    assert sorted(names(store)) == ["deep", "holder", "part"]


def churn(url: str, seed: int, seconds: float) -> int:
    """Move nodes between holders, and drop some; gives how many commits came through."""
    chance = random.Random(seed)
    done = 0
    with make_store(url, code="off") as store:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                with store.transaction():
                    one, two = (store.load(f"Node.{chance.randint(1, 4)}") for _ in range(2))
                    if one.refers_to and chance.random() < 0.7:
                        moved = one.refers_to.pop(chance.randrange(len(one.refers_to)))
                        if chance.random() < 0.6:
                            two.refers_to.append(moved)
                    if chance.random() < 0.6:
                        one.refers_to.append(Node("new", *two.refers_to[:2]))
                done += 1
            except ConflictError:
                continue
    return done


@pytest.mark.parametrize("kind", ["sqlite", "directory"])
def test_others_commit_meanwhile_and_nothing_is_lost(tmp_path: Path, kind: str) -> None:
    url = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else str(tmp_path / "s")
    with make_store(url, code="off") as store:
        store.save_many([Node(str(number)) for number in range(4)])
        processes = multiprocessing.get_context("spawn").Pool(2)
        threads_done: list[int] = []
        thread = threading.Thread(target=lambda: threads_done.append(churn(url, 3, 4)))
        with processes:
            waiting = processes.starmap_async(churn, [(url, 1, 3.0), (url, 2, 3.0)])
            thread.start()
            collected = 0
            while not waiting.ready():
                try:
                    collected += store.collect().removed
                except ConflictError:
                    continue
                time.sleep(0.05)
            assert min(waiting.get()) > 0
        thread.join()
        assert check(store) == []
        collected += store.collect().removed
        assert collected > 0
        assert check(store) == []
        reached, stack = set(), [store.load(f"Node.{number}") for number in range(1, 5)]
        while stack:
            node = stack.pop()
            if node.persistent_id not in reached:
                reached.add(node.persistent_id)
                stack += node.refers_to
        assert reached == set(store.list())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_graph(data: st.DataObject) -> None:
    """What is left is just what can be reached from what was saved by name."""
    count = data.draw(st.integers(1, 12))
    edges = [data.draw(st.lists(st.integers(0, count - 1), max_size=3)) for _ in range(count)]
    kept = data.draw(st.sets(st.integers(0, count - 1)))
    store = MemoryStore(code="off")
    nodes = [Node(str(number)) for number in range(count)]
    for node, targets in zip(nodes, edges, strict=True):
        node.refers_to = [nodes[target] for target in targets]
    holder = Node("holder", *nodes)
    store.save(holder)
    for number in kept:
        store.save(nodes[number])
    holder.refers_to = []
    store.save(holder)
    reached: set[int] = set()
    stack = list(kept)
    while stack:
        number = stack.pop()
        if number not in reached:
            reached.add(number)
            stack += edges[number]
    collect(store)
    assert sorted(names(store)) == sorted(["holder", *map(str, reached)])
    assert check(store) == []


def test_what_a_running_transaction_can_see_stays_for_it(store: Store) -> None:
    """The garbage goes from the present; who has begun before sees it whole, and cannot refer to it any more."""
    holder = Node("holder", Node("part", Node("a part of that")))
    id_ = store.save(holder)
    begun, collected = threading.Event(), threading.Event()
    seen: list[Any] = []

    def look() -> None:
        try:
            with store.transaction():
                mine = store.load(id_)
                begun.set()
                assert collected.wait(60)
                part = mine.refers_to[0]  # not loaded before
                seen.append((part.name, part.refers_to[0].name))
                store.save(Node("new", part))
        except ConflictError as error:
            seen.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    assert begun.wait(60)
    part_id = holder.refers_to[0].persistent_id
    holder.refers_to = []
    store.save(holder)
    assert store.collect().removed == 2
    assert store.pack(keep=1).versions >= 0  # not even packing takes what a transaction of this process sees
    collected.set()
    thread.join()
    assert seen[0] == ("part", "a part of that")
    assert isinstance(seen[1], ConflictError)
    assert part_id in seen[1].ids
    assert names(store) == ["holder"]
