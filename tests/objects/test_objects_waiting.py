"""Single objects from records that were read ahead: what the compiled part makes of them is what Python makes.

Each test goes both ways: with the compiled part, and without it.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import threading
from contextlib import closing
from typing import Any

import pytest
from ways import COMPILED, needs_kernels

import perdure
from perdure import Key, Persistable, Store, kernels, make_store
from perdure.backends.sqlite.backend import SqliteBackend
from perdure.errors import PerdureError
from perdure.objects.instances.persistable import AWAKE, DOZING, GHOST, entry_of
from perdure.objects.views.view import View
from perdure.records.frame import encoder
from perdure.records.shape import shape_of
from perdure.records.values import PLAIN, SHAPED, Batch, Draft

KEY = Key(bytes(range(32)))

pytestmark = needs_kernels


class Owner(Persistable):
    def __init__(self, name: str):
        self.name = name


class Item(Persistable):
    def __init__(self, number: int, owner: Owner | None = None):
        self.number, self.owner, self.tags = number, owner, [number]


class Answering(Persistable):
    """Answers what is not there."""

    def __init__(self, number: int):
        self.number = number
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.asked.append(name)
        raise AttributeError(f"no {name}")


class Shown(Persistable):
    def __init__(self, number: int):
        self.number = number

    @property
    def failing(self) -> int:
        raise ZeroDivisionError(self.number)

    @property
    def lacking(self) -> int:
        raise AttributeError("not here")


class Shelf(Persistable):
    def __init__(self, items: list[Any]):
        self.items = items


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", COMPILED if request.param == "compiled" else None)
    return request.param


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'items.db'}"


def saved(url: str, count: int = 300) -> list[Any]:
    """The ids of items, each of an owner out of three."""
    owners = [Owner(name) for name in "abc"]
    with make_store(url, code="off") as store:
        store.save_many(owners)
        return store.save_many([Item(number, owners[number % 3]) for number in range(count)])


def told(obj: Any) -> Any:
    """What an object and its entry are like, by ids where it refers to others."""
    entry, state = entry_of(obj), dict(object.__getattribute__(obj, "__dict__"))
    owner = state.pop("owner", None)
    return (
        entry.id, type(obj).__name__, entry.state, entry.number, entry.revision, entry.flags, entry.digest,
        entry.references, entry.address == id(obj), state, None if owner is None else owner.persistent_id,
    )  # fmt: skip


def waiting(store: Store) -> int:
    """How many records were read ahead and wait."""
    return len(store.desk().view._ahead._frames)


def test_what_is_loaded_one_by_one_is_the_same(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store, make_store(url, code="off") as other:
        found = [store.load(id_ if number % 2 else str(id_)) for number, id_ in enumerate(ids)]
        view = store.desk().view
        assert list(map(told, found)) == list(map(told, other.load_many(ids)))
        assert [entry.id for entry in view.loaded if entry.cls is Item] == ids
        assert all(view.by_id[id_]() is obj for id_, obj in zip(ids, found, strict=True))
        assert all(store.load(id_) is obj for id_, obj in zip(ids, found, strict=True))
        assert not view.enlisted


def test_what_is_touched_one_by_one_is_the_same(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))
    with make_store(url, code="off") as store, make_store(url, code="off") as other:
        items = store.roots["shelf"].items
        assert {entry_of(item).state for item in items} == {GHOST}
        assert [item.tags for item in items] == [[number] for number in range(300)]
        assert {entry_of(item).state for item in items} == {AWAKE}
        assert [*map(id, items)] == [key for key in store.desk().view.enlisted if key in set(map(id, items))]
        assert not any(item.changed for item in items)
        items[200].tags.append("changed")
        assert [item.number for item in items if item.changed] == [200]
        assert [item.tags for item in other.load_many(ids)] == [[number] for number in range(300)]


@needs_kernels
def test_with_the_compiled_part_most_of_them_take_no_call_of_python(url, monkeypatch):
    ids, calls = saved(url), []
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))

    def counting(usual: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return usual(*args, **kwargs)

        return call

    for name in ("load_one", "wake"):
        monkeypatch.setattr(View, name, counting(getattr(View, name)))
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    with make_store(url, code="off") as store:
        assert sum(store.load(id_).number for id_ in ids) == 300 * 299 // 2
    by_id = len(calls)
    with make_store(url, code="off") as store:
        assert sum(item.number for item in store.roots["shelf"].items) == 300 * 299 // 2
    assert 0 < by_id < 60
    assert 0 < len(calls) - by_id < 60


def test_what_others_changed_or_removed_meanwhile_is_seen(url, way):
    ids = saved(url)
    with make_store(url, code="off") as reader, make_store(url, code="off") as writer:
        for id_ in ids[:100]:
            reader.load(id_)
        assert waiting(reader)
        writer.load(ids[101]).number = -1
        writer.save(writer.load(ids[101]))
        writer.remove(ids[102])
        assert reader.load(ids[101]).number == -1
        with pytest.raises(perdure.NotFound):
            reader.load(ids[102])
        with reader.transaction():
            first = [reader.load(id_) for id_ in ids[110:200]]
            assert waiting(reader)
            writer.load(ids[201]).number = -1
            writer.save(writer.load(ids[201]))
            assert reader.load(ids[201]).number == 201
            reader.remove(ids[202])
            with pytest.raises(perdure.NotFound):
                reader.load(ids[202])
        assert [item.number for item in first] == list(range(110, 200))
        assert reader.load(ids[201]).number == -1


def test_what_is_in_memory_is_not_made_twice(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store:
        held = [store.load(id_) for id_ in (ids[150], ids[120])]
        held[0].number = "changed"
        for id_ in ids[:115]:
            store.load(id_)
        assert waiting(store)
        assert [store.load(ids[150]), store.load(ids[120])] == held
        assert held[0].number == "changed"
        assert store.load(ids[150]).changed


def test_a_store_that_was_closed_loads_nothing_though_it_waits(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))
    with make_store(url, code="off") as store:
        items = store.roots["shelf"].items
        assert sum(item.number for item in items[:100]) == 4950
        assert waiting(store)
    with pytest.raises(perdure.StoreClosed):
        store.load(ids[101])
    with pytest.raises(perdure.StoreClosed):
        _ = items[101].number
    assert items[7].number == 7


def test_another_thread_or_task_does_not_load_what_waits(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))
    with make_store(url, code="off") as store:
        items, seen = store.roots["shelf"].items, []
        assert sum(item.number for item in items[:100]) == 4950
        assert waiting(store)

        def look() -> None:
            try:
                seen.append(items[101].number)
            except perdure.WrongView as error:
                seen.append(error.ids)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

        async def task() -> None:
            look()

        asyncio.run(task())
        assert seen == [(ids[101],)] * 2
        assert entry_of(items[101]).state == GHOST
        assert items[101].number == 101


@pytest.mark.parametrize("by", ["id", "touch"])
def test_loading_what_waits_waits_for_who_has_the_view(url, way, by):
    ids = saved(url)
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))
    with make_store(url, code="off") as store:
        items = store.roots["shelf"].items
        assert sum(item.number for item in items[:100]) == 4950
        view, held, go = store.desk().view, threading.Event(), threading.Event()
        state: list[Any] = []

        def hold() -> None:
            with view.lock:
                held.set()
                go.wait(0.05)
                state.append(entry_of(items[101]).state)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        assert (store.load(ids[101]) if by == "id" else items[101]).number == 101
        thread.join()
        assert state == [GHOST]


def test_memory_stays_bounded(url, way):
    ids = saved(url, 3000)
    with make_store(url, code="off", cache_size=200) as store:
        held = [store.load(id_) for id_ in ids]
        view = store.desk().view
        assert len(view.loaded) < 500
        assert sum(item.number for item in held) == 3000 * 2999 // 2
        assert len(view.enlisted) < 500
        assert sum(entry_of(item).state != GHOST for item in held) < 1000
        assert waiting(store) <= 500


SHAPE = shape_of(("number", "owner"), (1,))
GOOD = b"\x80\x05]\x94(K\x01K\x00e."
WRONG = {
    "cut short": SHAPE.head + GOOD[:-2],
    "no pickle": SHAPE.head + b"\xff\xff",
    "no list": SHAPE.head + b"\x80\x05K\x01.",
    "too short": SHAPE.head + b"\x80\x05]\x94K\x00a.",
    "place too high": SHAPE.head + b"\x80\x05]\x94(K\x01K\x07e.",
    "names a class": SHAPE.head + b"\x80\x05]\x94(K\x01\x8c\x08builtins\x94\x8c\x03int\x94\x93\x94e.",
    "no shape": b'\x02\x00""' + GOOD,
}


@pytest.fixture
def store_of(tmp_path):
    """Makes a backend of records."""
    made = []

    def make(drafts: list[Draft]) -> SqliteBackend:
        backend = SqliteBackend(tmp_path / "drafted.db")
        made.append(backend)
        backend.apply(Batch(drafts), encoder(KEY))
        return backend

    yield make
    for backend in made:
        backend.close()


def draft(number: int, payload: bytes, *, to: str = "Owner.1", kind: str = "Item") -> Draft:
    name = f"{__name__}:{kind}"
    return Draft(f"Item.{number}", 0, SHAPED | PLAIN, name, 0, "", (to,), {}, payload)


OWNER = Draft("Owner.1", 0, 8, f"{__name__}:Owner", 0, "", (), {}, b"\x80\x05}\x94.")


def one_by_one(backend: SqliteBackend, by: str, last: int) -> Any:
    """What comes of loading, or touching, items up to the last."""
    store = Store(backend, KEY, code="off")
    ids = [f"Item.{number}" for number in range(2, last + 1)]
    ghosts = store.desk().view
    ghosts.refresh()
    objects = ghosts.objects_of(ids) if by == "touch" else [None] * len(ids)
    owner = store.load("Owner.1")
    found = []
    for id_, obj in zip(ids, objects, strict=True):
        try:
            if obj is None:
                obj = store.load(id_)
            found.append((obj.number, obj.owner is owner, told(obj)))
        except PerdureError as error:
            entry = ghosts.by_id.get(id_)
            assert entry is None or entry() is None or entry.state == GHOST
            found.append((type(error), str(error), error.ids))
    return found


@pytest.mark.parametrize("by", ["id", "touch"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_a_record_that_waits_is_told_the_same(store_of, wrong, by, monkeypatch):
    good = [draft(number, SHAPE.head + GOOD) for number in range(2, 30)]
    backend = store_of([OWNER, *good, draft(30, WRONG[wrong]), draft(31, SHAPE.head + GOOD)])
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    compiled = one_by_one(backend, by, 31)
    monkeypatch.setattr(kernels, "compiled", None)
    assert one_by_one(backend, by, 31) == compiled
    assert compiled[-1][0] == 1


@pytest.mark.parametrize("by", ["id", "touch"])
@pytest.mark.parametrize("at", [5, 60, -30, -3])
def test_a_damaged_record_that_waits_is_corrupt(store_of, tmp_path, at, by, monkeypatch):
    backend = store_of([OWNER, *(draft(number, SHAPE.head + GOOD) for number in range(2, 40))])
    frame = bytearray(backend.read(["Item.30"])["Item.30"])
    frame[at] ^= 1
    with closing(sqlite3.connect(tmp_path / "drafted.db")) as connection:
        connection.execute("UPDATE records SET frame = ? WHERE number = 30", (bytes(frame),))
        connection.commit()
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    compiled = one_by_one(backend, by, 39)
    monkeypatch.setattr(kernels, "compiled", None)
    assert one_by_one(backend, by, 39) == compiled
    is_told = compiled[28][0] is perdure.CorruptRecord and "Item.30" in compiled[28][1]
    assert is_told != (at == -3)  # only its seal is not good: perdure's own reader takes it
    assert [each[0] for each in compiled[29:]] == [1] * 9


@pytest.mark.parametrize("by", ["id", "touch"])
@pytest.mark.parametrize("kind", ["Owner", "NoSuchClass", "Answering"])
def test_a_record_of_another_class_among_them_is_the_same(store_of, kind, by, monkeypatch):
    good = [draft(number, SHAPE.head + GOOD) for number in range(2, 30)]
    to_self = draft(31, SHAPE.head + GOOD, to="Item.31")
    to_later = draft(32, SHAPE.head + GOOD, to="Item.33")
    last = draft(33, SHAPE.head + GOOD)
    backend = store_of([OWNER, *good, draft(30, SHAPE.head + GOOD, kind=kind), to_self, to_later, last])
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    compiled = one_by_one(backend, by, 33)
    monkeypatch.setattr(kernels, "compiled", None)
    assert one_by_one(backend, by, 33) == compiled
    assert len(compiled) == 32


class Eager(Persistable, list):
    pass


def test_references_to_many_and_to_all_kinds_become_ghosts(url, way):
    with make_store(url, code="off") as store:
        owners = [Owner(str(number)) for number in range(1500)]
        ids = store.save_many([*owners, Eager([1, owners[0]]), Answering(1), Shown(2)])
        shelf = store.save(Shelf(store.load_many(ids)))
        few = store.save(Shelf([owners[7]]))
    with make_store(url, code="off") as store:
        for id_ in (few, shelf, few):
            items = store.load(id_).items
            assert all(entry_of(item).state != GHOST for item in items if isinstance(item, Eager))
        items = store.load(shelf).items
        assert gc.isenabled()
        assert [item.persistent_id for item in items] == ids
        assert [type(item.persistent_id) for item in items[:3]] == [perdure.Id] * 3
        assert [entry_of(item).cls for item in items[-4:]] == [Owner, Eager, Answering, Shown]
        assert [entry_of(item).state for item in items[:3]] == [GHOST] * 3
        assert items[-3][1] is items[0] is store.load(ids[0])
        assert [item.name for item in items[:-3]] == [str(number) for number in range(1500)]
        assert store.load(few).items[0] is items[7]


@needs_kernels
def test_what_cannot_become_a_ghost_in_c_is_left_to_python(url):
    with make_store(url, code="off") as store:
        store.save(Owner("a"))
        view, made = store.desk().view, {}
        facts = {"Item.8": None, "no id": entry_of(store.load("Owner.1")).facts, "Item.9": 7}
        assert COMPILED.make_ghosts(view, {}, {}, facts, made) == list(facts)
        assert made == {}
        for wrong in ((), (view,), (view, {}, {}, [], {})):
            with pytest.raises(TypeError):
                COMPILED.make_ghosts(*wrong)


def test_names_that_are_answered_without_waking_are(url, way):
    ids = saved(url, 3)
    with make_store(url, code="off") as store:
        obj = store.load(ids[0])
        for name in ("__class__", "persistent_id", "changed"):
            getattr(obj, name)
            getattr(obj, "".join(list(name)))
            assert entry_of(obj).state == DOZING
        assert (obj.__class__, obj.persistent_id, obj.changed) == (Item, ids[0], False)
        assert getattr(obj, "".join(["num", "ber"])) == 0
        assert entry_of(obj).state == AWAKE
        with pytest.raises(AttributeError, match="no_such"):
            _ = store.load(ids[1]).no_such
        assert not hasattr(store.load(ids[2]), "no_such")


def test_what_the_users_code_raises_comes_out(url, way):
    with make_store(url, code="off") as store:
        ids = store.save_many([Answering(1), Shown(2), Shown(3)])
    with make_store(url, code="off") as store:
        answering, failing, lacking = map(store.load, ids)
        with pytest.raises(AttributeError, match="no nothing"):
            _ = answering.nothing
        assert answering.number == 1
        with pytest.raises(ZeroDivisionError):
            _ = failing.failing
        with pytest.raises(AttributeError, match="not here"):
            _ = lacking.lacking
        assert entry_of(failing).state == entry_of(lacking).state == AWAKE


def test_an_attribute_hook_that_a_class_gets_later_is_called(url, way):
    class Late(Persistable):
        def __init__(self, number: int):
            self.number = number

    Late.__qualname__ = "Late"
    sys.modules[__name__].Late = Late
    try:
        with make_store(url, code="off") as store:
            ids = store.save_many([Late(1), Late(2), Late(3)])
        with make_store(url, code="off") as store:
            one, two, three = map(store.load, ids)
            assert one.number == 1
            Late.__getattr__ = lambda self, name: f"{name} of {self.number}"
            assert (one.shown, two.shown) == ("shown of 1", "shown of 2")
            del Late.__getattr__
            Late.__getattribute__ = lambda self, name: object.__getattribute__(self, name)
            assert (two.number, three.number) == (2, 3)
    finally:
        del sys.modules[__name__].Late


@needs_kernels
def test_what_is_no_ghost_class_is_not_quickened():
    for wrong in (int, 7, None):
        with pytest.raises(TypeError):
            COMPILED.quicken(wrong)


def test_what_was_loaded_is_found_again_by_each_way(url, way):
    ids = saved(url, 3)
    with make_store(url, code="off") as store:
        loaded = store.load(ids[0])
        assert store.load(ids[0]) is store.load(str(ids[0])) is store.load(ids[0], prefetch=()) is loaded
        assert store.load(ids[0], missing="opaque") is store.load(ids[0], trust="all") is loaded

        async def in_a_task() -> Any:
            return store.load(ids[0])

        assert asyncio.run(in_a_task()) is not loaded
        with store.transaction():
            store.remove(ids[0])
            with pytest.raises(perdure.NotFound):
                store.load(ids[0])


def test_what_was_loaded_one_by_one_is_freed(url, way):
    ids = saved(url)
    with make_store(url, code="off") as store:
        store.roots["shelf"] = Shelf(store.load_many(ids))

    def work(times: int) -> int:
        for _ in range(times):
            with make_store(url, code="off") as store:
                assert sum(store.load(id_).number for id_ in ids) == 300 * 299 // 2
            with make_store(url, code="off") as store:
                assert sum(item.number for item in store.roots["shelf"].items) == 300 * 299 // 2
        del store
        while gc.collect():
            pass
        return sys.getallocatedblocks()

    before = work(5)
    assert work(10) - before < 10 * len(ids)  # less than one for each object, each time
