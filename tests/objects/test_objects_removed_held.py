"""What is removed while it is held keeps its state, whatever way it goes; and the names of the roots stay."""

from __future__ import annotations

import gc

import pytest
from BTrees.OOBTree import OOBTree, OOBucket
from places import Place

from perdure import Persistable, Store
from perdure.errors import InvalidArgument


class Node(Persistable):
    def __init__(self, name: str):
        self.name = name
        self.kids: list[Node] = []


def by_hand(store: Store, ids: list[str]) -> None:
    with store.transaction():
        for id_ in ids:
            store.remove(id_)


def by_collecting(store: Store, ids: list[str]) -> None:
    root = store.load("Node.1")
    root.kids.clear()
    store.save(root)
    assert store.collect().removed == len(ids)


@pytest.mark.parametrize("way", [by_hand, by_collecting])
@pytest.mark.parametrize("kids_first", [True, False])
def test_parts_that_come_into_memory_with_what_holds_them_keep_their_state(place: Place, way, kids_first: bool) -> None:
    store = place.open(code="off")
    root, top = Node("root"), Node("top")
    store.save(root)
    kids = [Node("kid"), Node("its kid")]
    kids[0].kids = [kids[1]]
    top.kids = [kids[0]]
    root.kids = [kids[1], kids[0], top] if kids_first else [top, *kids]
    store.save(root)
    ids = [str(each.persistent_id) for each in root.kids]
    if way is by_hand:
        root.kids = []
        store.save(root)
    del root, kids
    store.invalidate_cache()
    gc.collect()
    way(store, ids)
    assert (top.persistent_id, top.name) == (None, "top")
    kid = top.kids[0]
    assert (kid.persistent_id, kid.name, kid.kids[0].name) == (None, "kid", "its kid")
    again = place.open(code="off").load(store.save(top))
    assert [again.name, again.kids[0].name, again.kids[0].kids[0].name] == ["top", "kid", "its kid"]


@pytest.mark.parametrize("how", ["undo", "collect"])
def test_parts_of_trees_keep_theirs(place: Place, how: str) -> None:
    store = place.open(code="off")
    root = Node("root")
    store.save(root)
    bucket, tree = OOBucket({1: 1}), OOBTree()
    tree["a"] = bucket
    root.kids = [bucket, tree]
    store.save(root)
    revision = store.revision()
    if how == "collect":
        root.kids = []
        store.save(root)
    del bucket
    store.invalidate_cache()
    gc.collect()
    store.undo(revision) if how == "undo" else store.collect()
    assert dict(tree["a"]) == {1: 1}
    assert not [id_ for id_ in store.list() if not id_.startswith("Node")]


def test_roots_go_on_after_the_commit_that_made_the_first_was_undone(place: Place) -> None:
    store = place.open(code="off")
    store.roots["a"] = Node("a")
    store.undo(store.revision())
    assert dict(store.roots) == {}
    other = place.open(code="off")
    store.roots["b"] = Node("b")
    with other.transaction():
        other.roots["c"] = Node("c")
    assert sorted(place.open(code="off").roots) == ["b", "c"]
    store.undo(store.revision())
    assert sorted(place.open(code="off").roots) == ["b"]


@pytest.mark.parametrize("call", ["remove", "forget", "replace"])
def test_the_names_of_the_roots_cannot_be_taken_away(place: Place, call: str) -> None:
    store = place.open(code="off")
    store.roots["a"] = Node("a")
    with pytest.raises(InvalidArgument, match=r"Roots\.0 holds the names .* del store.roots\[name\]"):
        getattr(store, call)("Roots.0", *([{}] if call == "replace" else []))
    store.roots["b"] = 2
    assert sorted(store.roots) == ["a", "b"]
