"""Rows D1 to D15 of the page on gc3libs.persistence, but D9 (in a file of its own) and D10: its calls, as used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from perdure import (
    CannotPickle,
    FilesystemStore,
    Id,
    IdFactory,
    JobIdFactory,
    NotFound,
    Persistable,
    UnknownScheme,
    make_store,
    register,
)


class Task(Persistable):
    def __init__(self, name="task"):
        self.name = name


class Queue(list, Persistable):
    pass


class Settings(dict, Persistable):
    pass


class Base:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class Mixed(Persistable, Base):
    def __init__(self, *args, **kwargs):
        Persistable.__init__(self, *args, **kwargs)


@pytest.fixture(params=["memory", "directory", "sqlite"])
def url(request, tmp_path):
    return {"memory": "memory:", "directory": str(tmp_path / "d"), "sqlite": f"sqlite:///{tmp_path}/a.db"}[
        request.param
    ]


@pytest.fixture
def store(url):
    with make_store(url) as store:
        yield store


def sqlite_url(path: Path) -> str:
    return f"sqlite:////{path.as_posix().lstrip('/')}"


# -- D1: make_store and register -------------------------------------------------------------------------------


def test_d1_a_path_means_file(tmp_path, monkeypatch):
    store = make_store(tmp_path / "jobs")
    assert isinstance(store, FilesystemStore)
    assert store.url == (tmp_path / "jobs").as_uri()
    id_ = store.save(Task())
    store.close()
    for same in ((tmp_path / "jobs").as_uri(), str(tmp_path / "jobs"), f"file://localhost{tmp_path}/jobs"):
        with make_store(same) as store:
            assert store.load(id_).name == "task"
    monkeypatch.chdir(tmp_path)
    with make_store("jobs") as store:
        assert store.list() == [id_]
    with make_store("jobs/") as store:
        assert store.list() == [id_]


def test_d1_paths_with_odd_characters(tmp_path):
    for name in ("with space", "ünïcode", "100%", "a#b?c"):
        with make_store(str(tmp_path / name)) as store:
            id_ = store.save(Task(name))
        assert (tmp_path / name / id_).is_file()
        with make_store((tmp_path / name).as_uri()) as store:
            assert store.load(id_).name == name


def test_d1_urls_of_sqlite_are_read_as_sqlalchemy_reads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_store("sqlite:///relative.db").close()
    assert (tmp_path / "relative.db").is_file()
    make_store(sqlite_url(tmp_path / "absolute.db")).close()
    assert (tmp_path / "absolute.db").is_file()
    for bad in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/a.db"):
        with pytest.raises(UnknownScheme):
            make_store(bad)


def test_d1_further_arguments_go_to_the_constructor(url):
    with make_store(url, idfactory=IdFactory("batch")) as store:
        assert store.save(Task()).startswith("batch.")


def test_d1_unknown_schemes_are_named_with_the_known_ones():
    with pytest.raises(UnknownScheme, match=r"ftp.*file, .*memory, .*sqlite"):
        make_store("ftp://host/x")
    with pytest.raises(UnknownScheme, match="another machine"):
        make_store("file://host/x")


class Elsewhere:
    """A store of somebody else's making; D12: it has no `list`."""

    def __init__(self, url, *args, **extra):
        self.url, self.args, self.extra = url, args, extra

    def list(self):
        raise NotImplementedError

    def save(self, obj):
        return "x"


def test_d1_register_makes_a_scheme_known():
    register("elsewhere", Elsewhere)
    store = make_store("elsewhere://place", 1, colour="red")
    assert isinstance(store, Elsewhere)
    assert (store.url, store.args, store.extra) == ("elsewhere://place", (1,), {"colour": "red"})


def test_d12_list_is_optional_for_a_registered_store():
    register("elsewhere", Elsewhere)
    store = make_store("elsewhere://place")
    with pytest.raises(NotImplementedError):
        store.list()
    assert store.save(1) == "x"


# -- D2, D3: persistables --------------------------------------------------------------------------------------


def test_d2_in_a_container_it_is_an_external_reference(store):
    task = Task("a")
    id_ = store.save([task, {"again": task}])
    assert {i.prefix for i in store} == {"list", "Task"}
    record = store.history(id_)[0]
    assert record.references == (task.persistent_id,)


def test_d2_with_any_other_base(url, tmp_path):
    queue, settings = Queue([Task("a")]), Settings(speed=5)
    queue.owner = settings
    settings["queue"] = queue
    store = make_store(url)
    id_ = store.save(queue)
    assert {i.prefix for i in store} == {"Queue", "Settings", "Task"}
    again = perdure.Store(store.backend, store.key).load(id_)
    assert type(again) is Queue
    assert again[0].name == "a"
    assert again.owner["queue"] is again
    assert again.owner["speed"] == 5
    store.close()


def test_d3_one_copy_and_cycles(store):
    a, b = Task("a"), Task("b")
    a.other, b.other = b, a
    ids = store.save(a), store.save(b)
    assert len(store) == 2
    del a, b
    store.invalidate_cache()
    first = store.load(ids[0])
    assert first.other.other is first
    assert first.other.persistent_id == ids[1]


# -- D4, D5: ids -----------------------------------------------------------------------------------------------


def test_d4_id_factory():
    numbers = iter(range(7, 100))
    factory = IdFactory("batch", lambda: next(numbers))
    assert factory.new(Task()) == "batch.7"
    factory.reserve(3)
    assert [factory.new(Task()) for _ in range(4)] == ["batch.8", "batch.9", "batch.10", "batch.11"]
    assert IdFactory(next_id_fn=lambda: 5).new(Task()) == "Task.5"

    class MyId(Id):
        pass

    assert type(IdFactory("x", lambda: 1, MyId).new(1)) is MyId


def test_d4_a_store_uses_the_factory(url):
    numbers = iter(range(1000, 2000))
    with make_store(url, idfactory=IdFactory("batch", lambda: next(numbers))) as store:
        assert store.save(Task()) == "batch.1000"
        assert store.save([1]) > "batch.1000"  # perdure's own records take numbers of the factory, too
        assert all(1000 <= id_.number < 2000 for id_ in store.list(all=True))
    if url != "memory:":
        with make_store(url) as store:
            assert store.save(Task()).number > 1001


def test_d4_ids_are_never_used_again(url):
    store = make_store(url)
    seen = set()
    for _ in range(3):
        id_ = store.save(Task())
        assert id_.number not in seen
        seen.add(id_.number)
        store.remove(id_)
    store.close()
    if url != "memory:":
        with make_store(url) as store:
            assert store.save(Task()).number not in seen


def test_d4_not_even_by_another_process():
    program = "import perdure; f = perdure.IdFactory('x'); f.reserve(5); print(*[f.new(1) for _ in range(8)])"
    outputs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert len({*outputs[0], *outputs[1]}) == 16


def test_d5_job_id_factory(url):
    assert JobIdFactory(lambda: 3).new(Task()) == "job.3"
    with make_store(url, idfactory=JobIdFactory()) as store:
        assert store.save(Task()).prefix == "job"


# -- D6, D14: the filesystem store -----------------------------------------------------------------------------


def test_d6_the_file_name_is_the_id(tmp_path):
    with FilesystemStore(tmp_path / "jobs", JobIdFactory(), 4) as store:
        id_ = store.save(Task("a"))
        assert store.directory == tmp_path / "jobs"
    assert (tmp_path / "jobs" / id_).is_file()
    assert [name for name in os.listdir(tmp_path / "jobs") if not name.startswith(".")] == [id_]
    with FilesystemStore(directory=str(tmp_path / "jobs"), idfactory=None, protocol=5) as store:
        assert store.load(id_).name == "a"


def test_d6_one_set_of_arguments_fits_every_store(url):
    with make_store(url, table_name="t", extra_fields={}, idfactory=None, protocol=5, timeout=5) as store:
        assert store.list() == []
    with (
        pytest.warns(UserWarning, match=r"no.*argument 'idfactry'; did you mean 'idfactory'|'idfactry'.*'idfactory'"),
        make_store(url, table_name="t", idfactry=None) as store,
    ):
        assert store.list() == []


def test_d14_a_default_directory(own_environment):
    with FilesystemStore() as store:
        id_ = store.save(Task())
        assert store.directory.is_relative_to(own_environment)
    with FilesystemStore() as store:
        assert store.list() == [id_]


# -- D7, D8, D11, D15: the verbs -------------------------------------------------------------------------------


def test_d7_the_verbs(store):
    task = Task("a")
    id_ = store.save(task)
    assert store.list() == [id_]
    assert store.load(id_) is task
    store.replace(id_, Task("b"))
    assert store.load(id_).name == "b"
    store.invalidate_cache()
    assert store.load(id_).name == "b"
    store.remove(id_)
    assert store.list() == []


def test_d7_a_missing_id_raises(store):
    for verb in (store.load, store.remove):
        with pytest.raises(NotFound, match=r"Task\.999"):
            verb("Task.999")
    with pytest.raises(LookupError):
        store.load("Task.999")


def test_d7_after_remove_load_raises_though_the_object_lives(store):
    task = Task()
    id_ = store.save(task)
    store.remove(id_)
    with pytest.raises(NotFound):
        store.load(id_)
    assert task.name == "task"


def test_d8_saving_again_keeps_the_id(store):
    task = Task("a")
    id_ = store.save(task)
    task.name = "b"
    assert store.save(task) == id_
    store.replace(id_, Task("c"))
    assert store.list() == [id_]
    assert store.load(id_).persistent_id == id_


@pytest.fixture
def unpicklable():
    return (item for item in ())


def test_d11_a_failed_save_leaves_the_old_object(url, unpicklable):
    store = make_store(url)
    task = Task("old")
    id_ = store.save(task)
    task.name = "new"
    task.stream = unpicklable
    with pytest.raises(CannotPickle):
        store.save(task)
    again = perdure.Store(store.backend, store.key)
    assert again.load(id_).name == "old"
    with pytest.raises(CannotPickle):
        store.replace(id_, task)
    with pytest.raises(CannotPickle):
        store.replace(id_, unpicklable)
    assert again.load(id_).name == "old"
    store.close()


def test_d11_and_so_does_a_failed_transaction(url, unpicklable):
    store = make_store(url)
    a, b = Task("a"), Task("b")
    ids = store.save_many([a, b])
    a.name, b.stream = "changed", unpicklable
    with pytest.raises(CannotPickle), store.transaction():
        store.save(Task("new"))
    again = perdure.Store(store.backend, store.key)
    assert [task.name for task in again.load_many(ids)] == ["a", "b"]
    assert again.list() == ids
    store.close()


def test_d13_persistable_passes_its_arguments_on():
    mixed = Mixed(1, 2, key="value")
    assert (mixed.args, mixed.kwargs) == ((1, 2), {"key": "value"})
    assert Persistable().persistent_id is None
    with pytest.raises(TypeError):
        Persistable(1)


def test_d15_replace_stores_a_copy(store):
    id_ = store.save(Task("a"))
    new = Task("b")
    store.replace(id_, new)
    assert new.persistent_id is None
    new.name = "c"
    assert store.load(id_).name == "b"
    new_id = store.save(new)
    assert new_id != id_
    store.replace(id_, new)
    assert new.persistent_id == new_id
    assert store.load(id_).name == "c"
    assert store.load(id_) is not new
