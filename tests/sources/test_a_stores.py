"""Rows A7 and A8 of the article: objects that are saved one by one keep their common identity in a store."""

from __future__ import annotations

import pytest

import perdure
from perdure import Persistable


class Parrot(Persistable):
    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return isinstance(other, Parrot) and self.name == other.name

    __hash__ = None


class Cage(Persistable):
    def __init__(self, parrot):
        self.parrot = parrot


@pytest.fixture(params=["memory", "directory", "sqlite"])
def store(request, tmp_path):
    url = {"memory": "memory:", "directory": str(tmp_path), "sqlite": f"sqlite:///{tmp_path}/a.db"}[request.param]
    with perdure.make_store(url) as store:
        yield store


def test_a7_objects_saved_one_by_one_keep_their_common_identity(store):
    polly = Parrot("Polly")
    first, second = Cage(polly), Cage(polly)
    ids = store.save(first), store.save(second)
    del first, second, polly
    first, second = store.load(ids[0]), store.load(ids[1])
    assert first.parrot is second.parrot
    assert [id_.prefix for id_ in store].count("Parrot") == 1


def test_a7_what_is_no_persistable_is_a_part_of_the_record_that_it_is_in(store):
    shared = ["text"]
    a, b = Cage(shared), Cage(shared)
    store.save_many([a, b])
    store.invalidate_cache()
    assert a.parrot == b.parrot
    assert a.parrot is not b.parrot


def test_a8_loading_twice_gives_the_same_object(store):
    id_ = store.save(Parrot("Polly"))
    first = store.load(id_)
    assert store.load(id_) is first


def test_a8_another_view_gives_an_equal_object(tmp_path):
    with perdure.make_store(tmp_path) as one, perdure.make_store(tmp_path) as other:
        polly = Parrot("Polly")
        found = other.load(one.save(polly))
        assert found == polly
        assert found is not polly
