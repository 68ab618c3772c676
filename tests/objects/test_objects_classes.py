"""Classes unlike what a store expects: changed in a session, odd in their metaclass, gone from their script."""

from __future__ import annotations

import abc
import subprocess
import sys
from pathlib import Path

import pytest
from persistent import Persistent
from places import Place

from perdure import CannotPickle, ClassNotFound, NotIndexed, Persistable, make_store


class Job(Persistable):
    def __init__(self, size: int):
        self.size = size


class Base(Persistable, abc.ABC):
    pass


class Derived(Base):
    pass


class WithoutHash(type):
    def __eq__(cls, other: object) -> bool:
        return cls is other


class Odd(Persistable, metaclass=WithoutHash):
    pass


class Failure(Exception, Persistable):
    """Cannot be made again: its arguments are not those of its constructor."""

    def __init__(self, job: str, code: int):
        super().__init__(f"{job} failed")
        self.job, self.code = job, code


class Refusal(Exception, Persistable):
    def __init__(self, job: str, code: int):
        super().__init__(job, code)
        self.job, self.code = job, code


class Guest(Persistent):
    pass


# -- an index that comes later ------------------------------------------------------------------------------


def test_an_index_that_a_class_gets_while_it_is_in_use(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.open()
    store.save_many([Job(size) for size in range(20)])
    with pytest.raises(NotIndexed):
        store.find(Job, size=3)
    monkeypatch.setattr(Job, "__indexed__", ("size",), raising=False)
    with pytest.raises(NotIndexed, match="reindex"):
        store.find(Job, size=3)
    assert store.reindex(Job) == 20
    assert [job.size for job in store.find(Job, size__lt=2)] == [0, 1]
    store.save(Job(1))
    assert store.count(Job, size=1) == 2
    assert store.reindex(Job) == 0
    monkeypatch.undo()
    with pytest.raises(NotIndexed):
        store.find(Job, size=3)


def test_plain_values_get_fields_that_are_added_later(place: Place) -> None:
    id_ = place.open().save([1, 2])
    place.open().save("abc")
    store = place.open(**settings(place))
    with pytest.raises(NotIndexed, match="reindex"):
        store.count(list, size=2)
    past = store.at(store.revision())
    with pytest.raises(NotIndexed, match="Give scan=True, which loads them all") as raised:
        past.count(list, size=2)
    assert "reindex" not in str(raised.value)  # nobody writes into the past
    assert store.reindex(object) == 2
    assert store.find(list, size=2) == [[1, 2]]
    assert store.count(object, size__gt=0) == 2
    assert place.open().load(id_) == [1, 2]
    assert store.reindex(object) == 0


def settings(place: Place) -> dict[str, object]:
    extra = {"size": len}
    if place.kind != "memory":
        return {"extra_fields": extra}
    from perdure.objects.instances.columns import ExtraFields

    return {"extra_fields": ExtraFields(extra)}


# -- odd classes --------------------------------------------------------------------------------------------


def test_a_class_without_a_hash_is_in_nobodys_way(place: Place) -> None:
    store = place.open()
    store.save_many([Derived(), Odd()])
    assert store.count(Base) == 1
    assert [type(each).__name__ for each in store.find(Persistable)] == ["Derived", "Odd"]
    assert [each.__class__ for each in store.iterate(Base)] == [Derived]


def test_an_exception_that_could_not_be_made_again_is_not_saved(place: Place) -> None:
    store = place.open()
    for _ in range(2):
        with pytest.raises(
            CannotPickle, match="Failure cannot be saved: its objects could not be made again"
        ) as raised:
            store.save(Failure("parse", 3))
    assert "__reduce__" in raised.value.hint
    assert store.list() == []
    id_ = store.save(Refusal("parse", 3))
    assert place.open().load(id_).code == 3


def test_guests_are_gone_through_by_their_class(place: Place) -> None:
    store = place.open()
    store.save_many([Guest(), Job(1), Guest()])
    assert len(list(store.iterate(Guest))) == 2
    with pytest.raises(TypeError):
        list(store.iterate(int))


def test_the_path_to_what_cannot_be_saved_is_bounded(place: Place) -> None:
    store = place.open()
    from BTrees.OOBTree import OOBTree

    tree = OOBTree({number: number for number in range(5000)})
    store.save(tree)
    tree[4999] = lambda: 1
    with pytest.raises(CannotPickle, match="lambda") as raised:
        store.save(tree)
    assert len(str(raised.value)) < 1000
    assert raised.value.path.startswith("OOBTree →")


# -- scripts and modules ------------------------------------------------------------------------------------


def run(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    done = subprocess.run([sys.executable, "-B", f"{name}.py"], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_script_that_lost_a_class_is_not_run_a_second_time(tmp_path: Path) -> None:
    first = "import perdure\nclass Old(perdure.Persistable): pass\nperdure.make_store('sqlite:///s.db').save(Old())\n"
    run(tmp_path, "program", first)
    second = (
        "print('runs')\nimport perdure\n"
        "try: perdure.make_store('sqlite:///s.db').load('Old.1')\n"
        "except perdure.ClassNotFound as error: print(error)\n"
    )
    told = run(tmp_path, "program", second).splitlines()
    assert told[0] == "runs"
    assert len(told) == 2
    assert "program:Old" in told[1]
    assert "the script that is running does not have it" in told[1]


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "plug_that_breaks.py"
    module.write_text("import perdure\nclass Plug(perdure.Persistable): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import plug_that_breaks

    url = str(tmp_path / "store")
    with make_store(url) as store:
        id_ = store.save(plug_that_breaks.Plug())
    monkeypatch.delitem(sys.modules, "plug_that_breaks")
    for text, told in BREAKS.items():
        module.write_text(text)
        with make_store(url) as store, pytest.raises(ClassNotFound, match=told):
            store.load(id_)


BREAKS = {  # each longer than the one before: that is how a change is seen
    "{}['home']  # no configuration": "Plug cannot be found here: importing it raises KeyError: 'home'",
    "import sys; sys.exit(3)  # a script that was not meant to be imported": "raises SystemExit: 3",
    "import nothing_of_that_name  # which is the most usual thing of all those that may happen": "No module named",
}
