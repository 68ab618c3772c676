"""Rows A7, A8, A10 and A15 of the article in a store: objects saved one by one keep their identity; open files."""

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


# -- A15: an open file restored by name and position ----------------------------------------------------------------


class Foo(Persistable):
    """The article's class, with `open` for `file`. It opens its log with "w" when it is loaded: that empties it."""

    def __init__(self, value, filename):
        self.value = value
        self.logfile = open(filename, "w")  # noqa: SIM115 - as the article does

    def __getstate__(self):
        """Return state values to be pickled."""
        f = self.logfile
        return (self.value, f.name, f.tell())

    def __setstate__(self, state):
        """Restore state from the unpickled state values."""
        self.value, name, position = state
        f = open(name, "w")  # noqa: SIM115 - as the article does
        f.seek(position)
        self.logfile = f


def test_a15_state_methods_as_written(store, tmp_path):
    foo = Foo("value", str(tmp_path / "log"))
    with foo.logfile as logfile:
        logfile.write("0123456789")
        logfile.flush()
        id = store.save(foo)
    store.invalidate_cache()
    loaded = store.load(id)
    with loaded.logfile as logfile:
        assert (loaded.value, logfile.name, logfile.tell()) == ("value", str(tmp_path / "log"), 10)
        assert (tmp_path / "log").read_text() == ""


class Logged(Persistable):
    """The same without state methods: the file is just an attribute."""

    def __init__(self, value, filename):
        self.value = value
        self.logfile = open(filename, "w")  # noqa: SIM115 - as the article does


def test_a15_open_files_ready_made(store, tmp_path, registrations):
    perdure.outside.open_files()
    logged = Logged("value", tmp_path / "log")
    with logged.logfile as logfile:
        logfile.write("0123456789")
        id = store.save(logged)
    store.invalidate_cache()
    loaded = store.load(id)
    with loaded.logfile as logfile:
        assert (logfile.name, logfile.mode, logfile.tell()) == (str(tmp_path / "log"), "w", 10)
        logfile.write(" and on")
    assert (tmp_path / "log").read_text() == "0123456789 and on"


def test_a10_an_open_file_is_not_stored_unless_that_is_asked_for(store, tmp_path):
    logged = Logged("value", tmp_path / "log")
    with logged.logfile, pytest.raises(perdure.CannotPickle) as caught:
        store.save(logged)
    assert caught.value.path == "Logged.1 → .logfile"
    assert "perdure.outside.open_files()" in str(caught.value)
