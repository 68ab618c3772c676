"""Keys, seals, damaged records, classes that are gone: named errors, for that object only."""

from __future__ import annotations

import importlib
import os
import pickle
import sqlite3
import sys
import textwrap

import pytest
from places import Holder

from perdure import (
    ClassNotFound,
    CorruptRecord,
    KeyMissing,
    NotFound,
    Persistable,
    ReadOnly,
    StoreNotFound,
    UntrustedRecord,
    make_store,
)
from perdure.keys import KeyRing
from perdure.objects.instances.persistable import GHOST, entry_of
from perdure.records.frame import encoder, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import VALUE, Batch, Draft, Version
from perdure.upkeep import check


class Item(Persistable):
    def __init__(self, name):
        self.name = name


class Executed:
    """A pickle that would tell if it were loaded."""

    def __reduce__(self):
        return os.putenv, ("PERDURE_TEST_EXECUTED", "1")


def other_machine(monkeypatch, tmp_path):
    """From now on this user has no keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another machine"))


def persistent(place):
    if place.kind == "memory":
        pytest.skip("a store in memory has its key in memory")


# -- the key ---------------------------------------------------------------------------------------------------


def test_without_the_key_registered_classes_are_read_and_nothing_written(place, monkeypatch, tmp_path):
    persistent(place)
    id_ = place.open().save(Holder(Item("pen")))
    place.is_whole = False
    with monkeypatch.context() as patch:
        other_machine(patch, tmp_path)
        store = place.open()
        assert store.list() == [id_, "Item.2"]
        assert store.load(id_).target.name == "pen"
        for write in (lambda: store.save(Item("new")), lambda: store.remove(id_), lambda: store.replace(id_, 5)):
            with pytest.raises(KeyMissing, match="perdure key import"):
                write()
        with pytest.raises(KeyMissing, match="perdure key import"):
            store.roots["a"] = 1
        assert store.load("Item.2", trust="all").name == "pen"
        assert place.open(trust="all").load(id_).target.name == "pen"
        with pytest.raises(ValueError, match="trust"):
            store.load(id_, trust="some")
        assert KeyRing().names() == []  # no second key is ever made silently
        [problem] = [problem for problem in check(store) if not problem.id]
        assert "key" in problem.what
    assert check(place.open()) == []


def test_a_key_that_is_given(place, monkeypatch, tmp_path):
    persistent(place)
    store = place.open()
    id_ = store.save(Item("pen"))
    key = store.key
    place.is_whole = False
    other_machine(monkeypatch, tmp_path)
    store = place.open(key=key)
    assert store.load(id_).name == "pen"
    store.save(Item("cap"))
    with pytest.raises(KeyMissing, match="the key that was given is"):
        place.open(key=Key.new())


def test_a_record_without_a_good_seal(place):
    store = place.open()
    id_ = store.save(Item("pen"))
    forged = Draft("Item.999", 0, VALUE, "x:y", 0, "", (), {}, pickle.dumps(Executed()))
    store.backend.apply(Batch([forged]), encoder(Key.new()))
    place.is_whole = False
    with pytest.raises(UntrustedRecord) as caught:
        store.load("Item.999")
    assert caught.value.ids == ("Item.999",)
    assert os.environ.get("PERDURE_TEST_EXECUTED") is None
    assert store.load(id_).name == "pen"
    assert [problem.id for problem in check(store)] == ["Item.999"]


# -- damage ----------------------------------------------------------------------------------------------------


def damage(place, id_, change):
    """Change the bytes of one record where they lie."""
    number = int(id_.rpartition(".")[2])
    if place.kind == "memory":
        versions = place.opened[0].backend._versions[number]
        versions[-1] = Version(versions[-1].revision, change(versions[-1].frame))
        return
    for store in place.opened:
        store.close()
    if place.kind == "directory":
        folder = place.folder / "objects"
        path = folder / id_ if (folder / id_).exists() else folder / ".perdure" / "own" / id_
        path.write_bytes(change(path.read_bytes()))
        return
    connection = sqlite3.connect(place.folder / "objects.db")
    [(frame,)] = connection.execute("SELECT frame FROM records WHERE number = ?", (number,))
    connection.execute("UPDATE records SET frame = ? WHERE number = ?", (change(frame), number))
    connection.commit()
    connection.close()


def flipped(frame):
    place = len(frame) - 40
    return frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]


@pytest.mark.parametrize("change", [flipped, lambda frame: frame[:-7], lambda frame: frame[: len(frame) // 2]])
def test_a_damaged_record_harms_nothing_else(place, change):
    store = place.open()
    a, b, c = Item("a"), Item("b"), Item("c")
    holder = store.save(Holder([a, b, c]))
    damaged = b.persistent_id
    damage(place, damaged, change)
    place.is_whole = False
    store = place.open()
    first, second, third = store.load(holder).target
    assert (first.name, third.name) == ("a", "c")
    with pytest.raises(CorruptRecord):
        second.name
    with pytest.raises(CorruptRecord):
        store.load(damaged)
    first.name = "changed"
    store.save(first)
    assert place.open().load(first.persistent_id).name == "changed"
    assert [problem.id for problem in check(store)] == [damaged]


# -- classes and records that are gone -------------------------------------------------------------------------


@pytest.fixture
def passing_module(tmp_path, monkeypatch):
    """A module that can be taken away: gives its name, and what takes it away and back."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "passing_by.py").write_text(
        textwrap.dedent("""
            from perdure import Persistable
            class Guest(Persistable):
                def __init__(self, name):
                    self.name = name
        """)
    )

    def there(is_there):
        sys.modules.pop("passing_by", None)
        importlib.invalidate_caches()
        if is_there:
            monkeypatch.syspath_prepend(str(folder))
            return importlib.import_module("passing_by")
        while str(folder) in sys.path:
            sys.path.remove(str(folder))
        return None

    yield there
    there(False)


def test_a_class_that_cannot_be_imported(place, passing_module):
    guest = passing_module(True).Guest("Ada")
    id_ = place.open().save(Holder([guest, Item("pen")]))
    guest_id = guest.persistent_id
    passing_module(False)
    store = place.open()
    holder = store.load(id_)
    assert holder.target[1].name == "pen"
    lost = holder.target[0]
    assert lost.persistent_id == guest_id
    for touch in (lambda: lost.name, lambda: setattr(lost, "name", "x"), lambda: store.load(guest_id)):
        with pytest.raises(ClassNotFound, match=r"Guest\.2.*passing_by:Guest") as caught:
            touch()
        assert caught.value.ids == (guest_id,)
    with store.transaction():
        holder.target.append(5)  # who refers to it can be saved all the same
    assert place.open().load(id_).target[2] == 5
    passing_module(True)
    assert lost.name == "Ada"
    assert place.open().load(guest_id).name == "Ada"


def test_a_reference_whose_record_is_gone(place):
    store = place.open()
    id_ = store.save(Holder(Item("pen")))
    frame = store.backend.read([id_])[id_]
    record = parse_unverified(frame)
    draft = Draft("Holder.777", 0, record.flags, record.class_name, 0, "", ("Item.999",), {}, record.payload)
    store.backend.apply(Batch([draft]), encoder(store.key))
    place.is_whole = False
    holder = store.load("Holder.777")
    assert holder.target.persistent_id == "Item.999"
    with pytest.raises(NotFound, match=r"Item\.999"):
        holder.target.name
    assert [problem.what for problem in check(store)] == ["refers to Item.999, which is not there"]
    assert entry_of(holder.target).state == GHOST


# -- reading only ----------------------------------------------------------------------------------------------


def test_read_only(place):
    persistent(place)
    store = place.open()
    id_ = store.save(Item("pen"))
    store.roots["a"] = [1]
    reader = place.open(read_only=True)
    assert reader.load(id_).name == "pen"
    assert reader.roots["a"] == [1]
    item = reader.load(id_)
    item.name = "changed"
    with pytest.raises(ReadOnly):
        reader.save(item)
    with pytest.raises(ReadOnly), reader.transaction():
        item.name = "again"
    for write in (lambda: reader.remove(id_), lambda: reader.replace(id_, 5)):
        with pytest.raises(ReadOnly):
            write()
    with pytest.raises(ReadOnly):
        reader.roots["a"] = 2
    assert reader.load(id_).name == "pen" or item.changed


@pytest.mark.parametrize("settings", [{"read_only": True}, {"create": False}])
def test_reading_makes_no_store(place, settings):
    persistent(place)
    with pytest.raises(StoreNotFound):
        place.open(**settings)
    assert list(place.folder.iterdir()) == []
    assert KeyRing().names() == []


def test_a_new_store_makes_one_key(place):
    persistent(place)
    store = place.open()
    assert KeyRing().names() == [store.key.name]
    place.open()
    assert len(KeyRing().names()) == 1


def test_an_sqlite_file_of_zero_bytes_becomes_a_store(tmp_path):
    path = tmp_path / "empty.db"
    path.write_bytes(b"")
    url = f"sqlite:////{path.as_posix().lstrip('/')}"
    with pytest.raises(StoreNotFound, match=r"no store in .* yet"):
        make_store(url, read_only=True)
    assert path.read_bytes() == b""
    with make_store(url) as store:
        id_ = store.save(Item("pen"))
        assert store.key.name in KeyRing().names()
        with make_store(url, read_only=True) as reader:
            assert reader.load(id_).name == "pen"
    with make_store(url) as store:
        assert store.load(id_).name == "pen"


def test_after_close_the_one_file_is_the_store(tmp_path):
    with make_store(f"sqlite:////{tmp_path.as_posix().lstrip('/')}/a.db") as store:
        ids = store.save_many([Item(n) for n in range(100)])
    (tmp_path / "b.db").write_bytes((tmp_path / "a.db").read_bytes())
    with make_store(f"sqlite:////{tmp_path.as_posix().lstrip('/')}/b.db") as store:
        assert [item.name for item in store.load_many(ids)] == list(range(100))
        assert check(store) == []


def test_a_damaged_code_record_keeps_nothing_from_being_saved(place):
    """What made an object is worth noting, but never worth a lost object."""
    first = place.open()
    first.save(Item("pen"))
    for id_ in [id_ for id_ in first.list(all=True) if id_.startswith(("Code.", "Source."))]:
        damage(place, id_, flipped)
    second = place.open()
    assert second.load(second.save(Item("ink"))).name == "ink"
    place.is_whole = False


# -- what a backend says of classes ----------------------------------------------------------------------------


class Bag(list, Persistable):
    """Without a ghost class: what it refers to is looked at when it is loaded."""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module that nobody has imported, and that would tell if anybody did."""
    name = f"planted_{os.getpid()}"
    mark = tmp_path / "imported"
    (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'x').close()\nclass Item: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{name}:Item", mark
    sys.modules.pop(name, None)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("holder", [Holder, lambda target: Bag([target])], ids=["ghost", "eager"])
def test_a_class_that_only_the_list_of_a_backend_names_is_not_imported(place, planted, monkeypatch, holder, sealed):
    name, mark = planted
    id_ = place.open().save(holder(Item("pen")))
    store = place.open()
    true = store.backend.classes
    monkeypatch.setattr(store.backend, "classes", lambda ids, at=None: dict.fromkeys(true(ids, at), name))
    if not sealed:
        decode = store.desk().view.decoder()
        monkeypatch.setitem(
            store.desk().view._decoders,
            False,
            lambda frame: _without_seal(frame) if b"Item.2" in frame[:60] else decode(frame),
        )
    loaded = store.load(id_)
    target = loaded[0] if isinstance(loaded, list) else loaded.target
    assert not mark.exists()
    if sealed:
        assert target.name == "pen"
    else:
        with pytest.raises(UntrustedRecord):
            _ = target.name
    assert not mark.exists()


def _without_seal(frame):
    raise UntrustedRecord("no good seal")


def test_a_query_imports_no_class_that_a_sealed_record_does_not_name_itself(place, planted, monkeypatch):
    name, mark = planted
    place.open().save(Item("pen"))
    store = place.open()
    scan, names = store.backend.scan, store.backend.class_names
    monkeypatch.setattr(store.backend, "class_names", lambda: [*names(), name])

    def scan_for(class_name=None, **more):
        return scan(**more) if class_name == name else scan(class_name=class_name, **more)

    monkeypatch.setattr(store.backend, "scan", scan_for)
    assert [item.name for item in store.find(Persistable)] == ["pen"]
    assert not mark.exists()
