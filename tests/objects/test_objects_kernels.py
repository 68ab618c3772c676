"""What the compiled part saves and loads is what Python saves and loads: objects, entries, records, errors."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from ways import COMPILED, needs_kernels

import perdure
from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.errors import PerdureError
from perdure.evolution import versions
from perdure.objects.instances.columns import ExtraFields
from perdure.objects.instances.persistable import AWAKE, DOZING, GHOST, entry_of
from perdure.pickling.declared import DECLARED
from perdure.records.frame import encoder
from perdure.records.shape import shape_of
from perdure.records.values import LINKED, PLAIN, SHAPED, Batch, Draft

KEY = Key(bytes(range(32)))

pytestmark = needs_kernels


class Part(Persistable):
    def __init__(self, **given: Any):
        self.__dict__.update(given)


@dataclass
class Place:
    host: str
    cores: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Told(Persistable):
    """With attributes by its declaration."""

    number: int
    name: str = "told"


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """`Versioned`, whose declaration is forgotten afterwards: other tests want none."""

    class Versioned(Persistable):
        def __init__(self, number: int):
            self.number = number

    Versioned.__qualname__ = "Versioned"
    monkeypatch.setattr(sys.modules[__name__], "Versioned", Versioned, raising=False)
    perdure.versioned("kernels.Versioned", version=2, oldest=2)(Versioned)
    yield
    DECLARED.clear()
    versions.REGISTERED.clear()


class Slotted(Persistable):
    __slots__ = ("number",)

    def __init__(self, number: int):
        self.number = number


class Described(Persistable):
    """An attribute that is in the record, and a property of that name since."""

    def __init__(self, number: int):
        self.__dict__["shown"] = number

    @property
    def shown(self) -> str:
        return "a property"


class Several(Persistable, list):
    pass


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    monkeypatch.setattr(kernels, "compiled", COMPILED if request.param == "compiled" else None)
    return request.param


def many_kinds() -> list[Any]:
    shared, text = Part(name="shared"), "".join(["a ", "text"])
    ring = Part(name="ring")
    ring.__dict__.update(itself=ring, other=shared, inner=[ring, {"shared": shared}])
    several = Several([1, shared])
    several.name = "several"
    usual = [Part(number=number, name=text, price=number / 4, tags=["a", text], owner=shared) for number in range(30)]
    versioned = sys.modules[__name__].Versioned(3)
    return [
        *usual, shared, ring, several, Told(1), Told(2, name="named"), versioned, Slotted(4), Described(5), Part(),
        Part(place=Place("here", [1])), Part(place=Place("there"), owner=shared), Part(owner=None), Part(owner=7),
        Part(**{"not an identifier": b"x" * 70_000, "ü": (1, 2.5, None, True, {3}, frozenset({4}))}),
        Part(**{f"attribute{number}": number for number in range(100)}),
    ]  # fmt: skip


def plainly(value: Any) -> Any:
    """A value that can be compared: ids in place of what is a record of its own."""
    if isinstance(value, Persistable):
        return value.persistent_id
    if isinstance(value, dict):
        return [(plainly(key), plainly(each)) for key, each in value.items()]
    return [plainly(each) for each in value] if isinstance(value, (list, tuple)) else (type(value), repr(value))


def told(obj: Any) -> Any:
    """What an object and its entry are like, by ids where it refers to others."""
    entry = entry_of(obj)
    state = {} if isinstance(obj, Slotted) else object.__getattribute__(obj, "__dict__")
    shown = {name: plainly(value) for name, value in state.items()}
    return (
        entry.id, type(obj).__name__, entry.cls, entry.state, entry.number, entry.revision, entry.flags, entry.digest,
        entry.references, entry.forced, entry.address == id(obj), sorted(entry.facts.links), list(shown), shown,
    )  # fmt: skip


def allocated() -> int:
    """How many blocks of memory are in use, once nothing waits to be freed any more."""
    while gc.collect():
        pass
    return sys.getallocatedblocks()


def both_ways(do):
    """What is told with the compiled part, and without it."""
    found, before = [], kernels.compiled
    for compiled in (COMPILED, None):
        kernels.compiled = compiled
        try:
            found.append(do())
        finally:
            kernels.compiled = before
    return found


def test_what_is_loaded_is_the_same():
    backend = MemoryBackend()
    with_all = Store(backend, KEY, code="off")
    ids = with_all.save_many(many_kinds())

    def load(*, again: bool) -> list[Any]:
        store = Store(backend, KEY, code="off")
        some = store.load_many(ids[::3]) if again else []
        found = store.load_many(ids)
        assert len(store.load_many(ids)) == len(ids)
        assert all(one is other for one, other in zip(some, found[::3] if again else (), strict=True))
        return [told(obj) for obj in found]

    for again in (False, True):
        compiled, pure = both_ways(lambda again=again: load(again=again))
        assert compiled == pure


def test_a_property_of_the_same_name_is_not_run(way):
    backend = MemoryBackend()
    (id_,) = Store(backend, KEY, code="off").save_many([Described(5)])
    (found,) = Store(backend, KEY, code="off").load_many([id_])
    assert vars(found) == {"shown": 5}
    assert found.shown == "a property"


SHAPE = shape_of(("a", "b"), (1,))
PAYLOADS = {
    "good": b"\x80\x05]\x94(K\x01K\x00e.",
    "without a start": b"](K\x01K\x00e.",
    "without a start, cut short": b"](K\x01K",
    "without a start, names a class": b"](K\x01\x8c\x08builtins\x8c\x03int\x93e.",
    "cut short": b"\x80\x05]\x94(K\x01K\x00",
    "no pickle": b"\xff\xff",
    "empty": b"",
    "no list": b"\x80\x05K\x01.",
    "tuple": b"\x80\x05K\x01K\x00\x86\x94.",
    "too short": b"\x80\x05]\x94K\x00a.",
    "too long": b"\x80\x05]\x94(K\x01K\x00K\x02e.",
    "place too high": b"\x80\x05]\x94(K\x01K\x07e.",
    "place below zero": b"\x80\x05]\x94(K\x01J\xff\xff\xff\xffe.",
    "place below all": b"\x80\x05]\x94(K\x01J\xf0\xff\xff\xffe.",
    "place is a text": b"\x80\x05]\x94(K\x01\x8c\x01xe.",
    "place is huge": b"\x80\x05]\x94(K\x01\x8a\x0a\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01e.",
    "names a class": b"\x80\x05]\x94(K\x01\x8c\x08builtins\x94\x8c\x03int\x94\x93\x94e.",
}
HEADS = {
    "good": SHAPE.head,
    "no links": shape_of(("a", "b"), ()).head,
    "no names": shape_of((), ()).head,
    "link too high": b'\x0f\x00[["a","b"],[9]]',
    "link below zero": b'\x10\x00[["a","b"],[-1]]',
    "no shape": b'\x02\x00""',
}


def store_of(*drafts: Draft) -> MemoryBackend:
    backend = MemoryBackend()
    backend.apply(
        Batch([Draft("Part.1", 0, 8, f"{__name__}:Part", 0, "", (), {}, b"\x80\x05}\x94."), *drafts]), encoder(KEY)
    )
    return backend


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("flags", [SHAPED | PLAIN, SHAPED, LINKED | SHAPED | PLAIN], ids=["plain", "shaped", "linked"])
def test_what_is_wrong_in_a_sealed_record_is_told_the_same(head, payload, flags):
    whole = HEADS[head] + PAYLOADS[payload]
    good = SHAPE.head + PAYLOADS["good"]
    name = f"{__name__}:Part"
    backend = store_of(
        *(Draft(f"Part.{number}", 0, SHAPED | PLAIN, name, 0, "", ("Part.1",), {}, good) for number in range(2, 12)),
        Draft("Part.12", 0, flags, name, 0, "", ("Part.1",), {}, whole),
    )

    def load() -> Any:
        store = Store(backend, KEY, code="off")
        first = store.load("Part.3")
        try:
            return [told(obj) for obj in (*store.load_many([f"Part.{number}" for number in range(2, 13)]), first)]
        except PerdureError as error:
            entry = store.desk().view.by_id.get("Part.12")
            assert entry is None or entry.state == GHOST
            assert told(store.load("Part.4"))[3] != GHOST
            return type(error), str(error), error.ids

    compiled, pure = both_ways(load)
    assert compiled == pure


def test_a_record_under_another_id_is_refused(way):
    backend = store_of(Draft("Part.2", 0, SHAPED | PLAIN, f"{__name__}:Part", 0, "", (), {}, b""))
    view = Store(backend, KEY, code="off").desk().view
    view.refresh()
    parts = view.records(["Part.1"])["Part.1"]
    with pytest.raises(PerdureError, match=r"The record under Part\.2 says that it is Part\.1"):
        view.made_of({"Part.2": parts})


def test_what_is_loaded_is_freed(way):
    backend = MemoryBackend()
    ids = Store(backend, KEY, code="off").save_many(many_kinds())

    def work(times: int) -> int:
        for _ in range(times):
            store = Store(backend, KEY, code="off")
            store.load_many(ids)
        del store
        return allocated()

    before = work(25)
    assert work(20) - before < 20 * len(ids)  # less than one for each object, each time


# -- saving ---------------------------------------------------------------------------------------------------


class Indexed(Persistable):
    __indexed__ = ("state",)

    def __init__(self, state: str):
        self.state = state


class Stubborn:
    """A value that cannot be pickled, and says so in its own way."""

    def __init__(self, error: BaseException):
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


class Ticking:
    """A clock that tells the same in each try."""

    def now(self) -> float:
        return 1e9


def kept(backend: MemoryBackend) -> list[Any]:
    """Every frame of every version, and every commit."""
    return [backend.history(id_) for id_ in backend.ids()] + [*backend.commits()]


def save_them(store: Store, objects: list[Any], by: str) -> list[Any]:
    if by == "save_many":
        return store.save_many(objects)
    if by == "save":
        return [store.save(obj) for obj in objects]
    with store.transaction("all of them"):
        return [store.save(obj) for obj in objects]


WAYS = ("save_many", "save", "transaction")


@pytest.mark.parametrize("by", WAYS)
def test_what_is_saved_is_the_same(by):
    def save() -> Any:
        backend = MemoryBackend()
        store = Store(backend, KEY, code="off", clock=Ticking())
        objects = [*many_kinds(), Indexed("new"), Indexed("old"), 7, ["a list", Part(name="in a list")], "a text"]
        held = objects[3].tags
        ids = save_them(store, objects, by)
        states = [told(obj) for obj in objects if isinstance(obj, Persistable)]
        held.append("changed unseen")
        for number, obj in enumerate(objects[:20:2]):
            obj.number = number
        objects[5].owner = None
        objects[7].owner = objects[5]
        objects[9].extra = 1
        objects[11].owner = Part(name="new owner")
        again = save_them(store, [obj for obj in objects if isinstance(obj, Persistable)], by)
        after = [told(obj) for obj in objects if isinstance(obj, Persistable)]
        return (
            ids,
            again,
            states,
            after,
            kept(backend),
            len(store.desk().view.enlisted),
            store.find(Indexed, state="new"),
        )

    compiled, pure = both_ways(save)
    for one, other in zip(compiled[:-1], pure[:-1], strict=True):
        assert one == other
    assert [obj.persistent_id for obj in compiled[-1]] == [obj.persistent_id for obj in pure[-1]] != []


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize("where", ["attribute", "inside", "referred"])
@pytest.mark.parametrize(
    "error", [TypeError("no"), perdure.CannotPickle("never"), MemoryError(), KeyboardInterrupt()],
    ids=["type", "own", "memory", "interrupt"],
)  # fmt: skip
def test_what_cannot_be_saved_is_told_the_same_and_stays_new(by, where, error):
    def save() -> Any:
        backend = MemoryBackend()
        store = Store(backend, KEY, code="off", clock=Ticking())
        stubborn = Part(name="bad", value=Stubborn(error))
        last = {
            "attribute": stubborn,
            "inside": Part(value=[{"deep": Stubborn(error)}]),
            "referred": Part(to=stubborn),
        }[where]
        objects = [Part(number=number) for number in range(4)]
        with pytest.raises((PerdureError, MemoryError, KeyboardInterrupt)) as raised:
            save_them(store, [*objects, last, Part(number=9)], by)
        alone = [obj.persistent_id for obj in (last, *objects)]
        vars(stubborn).clear()
        vars(last).clear()
        ids = store.save_many([*objects, last])
        return type(raised.value), str(raised.value), alone, ids, [told(obj) for obj in objects], kept(backend)

    compiled, pure = both_ways(save)
    assert compiled == pure


def test_names_by_a_factory_are_the_same():
    def save() -> Any:
        numbers = iter(range(100, 1000, 7))
        backend = MemoryBackend()
        factory = perdure.IdFactory("mine", next_id_fn=lambda: next(numbers))
        store = Store(backend, KEY, code="off", clock=Ticking(), idfactory=factory)
        return store.save_many(many_kinds()), kept(backend)

    compiled, pure = both_ways(save)
    assert compiled == pure


def test_objects_of_another_view_are_refused_in_the_same_way():
    def save() -> Any:
        other, backend = Part(name="other"), MemoryBackend()
        Store(MemoryBackend(), KEY, code="off").save(other)
        store = Store(backend, KEY, code="off", clock=Ticking())
        objects = [Part(number=1), Part(number=2, owner=other)]
        with pytest.raises(perdure.WrongView) as raised:
            store.save_many(objects)
        return str(raised.value), [obj.persistent_id for obj in objects], kept(backend)

    compiled, pure = both_ways(save)
    assert compiled == pure


def test_extra_fields_are_the_same():
    def save() -> Any:
        backend = MemoryBackend()
        store = Store(
            backend,
            KEY,
            code="off",
            clock=Ticking(),
            extra_fields=ExtraFields({"number": lambda obj: getattr(obj, "number", 0)}),
        )
        store.save_many([obj for obj in many_kinds() if type(obj) is Part])
        return kept(backend)

    compiled, pure = both_ways(save)
    assert compiled == pure


def test_what_is_saved_is_freed(way):
    def work(times: int) -> int:
        for _ in range(times):
            store = Store(MemoryBackend(), KEY, code="off")
            store.save_many(many_kinds())
        del store
        return allocated()

    before = work(25)
    assert work(20) - before < 20 * len(many_kinds())  # less than one for each object, each time


def test_an_object_that_somebody_holds_a_part_of_stays_awake(way):
    store = Store(MemoryBackend(), KEY, code="off")
    held, free = Part(tags=["a"]), Part(tags=["a"])
    tags = vars(held)["tags"]
    store.save_many([held, free])
    assert [entry_of(obj).state for obj in (held, free)] == [AWAKE, DOZING]
    tags.append("b")
    assert held.changed
    assert not free.changed


# -- saving within a transaction ------------------------------------------------------------------------------


class Saving(Persistable):
    """Saves another object while it is itself being pickled."""

    def __init__(self, store: Store):
        self.store, self.other = store, Part(name="other")

    def __getstate__(self) -> Any:
        return self.store.save(self.other)


def test_an_id_is_that_of_the_object_and_nothing_is_joined_after_the_end(way):
    store = Store(MemoryBackend(), KEY, code="off")
    one, two, three = Part(name="one"), Part(name="two"), Part(name="three")
    with store.transaction() as tx:
        ids = [store.save(one), store.save(one), store.save(two)]
        assert ids == [one.persistent_id, one.persistent_id, two.persistent_id]
        assert [type(id_) for id_ in ids] == [perdure.Id] * 3
        assert [type(entry_of(part).id) for part in (one, two)] == [str] * 2  # it takes half of what an Id does
        tx.commit()
        assert store.revision() == 1
        assert store.save(three) == three.persistent_id
        assert store.revision() == 2
    assert store.list() == [*ids[1:], three.persistent_id]


def save_and_fail(store: Store, obj: Any) -> None:
    with store.transaction():
        assert store.save(obj) == obj.persistent_id
        raise ZeroDivisionError


def test_a_part_that_fails_takes_its_new_objects_back(way):
    store = Store(MemoryBackend(), KEY, code="off")
    one, two = Part(name="one"), Part(name="two")
    with store.transaction():
        id_ = store.save(one)
        with pytest.raises(ZeroDivisionError):
            save_and_fail(store, two)
        store.remove(id_)
        assert store.save(one) == id_
    assert (store.list(), two.persistent_id) == ([id_], None)


def test_an_object_of_another_store_is_refused_within_a_transaction(way):
    other = Part(name="other")
    Store(MemoryBackend(), KEY, code="off").save(other)
    store = Store(MemoryBackend(), KEY, code="off")
    with pytest.raises(perdure.WrongView), store.transaction():
        store.save(other)


def test_nothing_is_saved_while_objects_are_pickled(way):
    store = Store(MemoryBackend(), KEY, code="off")
    with pytest.raises(PerdureError, match="from within __getstate__"), store.transaction():
        store.save(Saving(store))
    assert store.list() == []
    with store.transaction() as tx:
        store.save(Saving(store))
        with pytest.raises(PerdureError, match="from within __getstate__"):
            tx.savepoint()
        tx.abort()
    assert store.list() == []


def test_within_a_transaction_a_closed_store_saves_nothing(way):
    store = Store(MemoryBackend(), KEY, code="off")
    tx = store.transaction()
    tx.__enter__()
    store.save(Part(name="one"))
    store.close()
    with pytest.raises(perdure.StoreClosed):
        store.save(Part(name="two"))


# -- waking ---------------------------------------------------------------------------------------------------


def a_loaded_one(**options: Any) -> tuple[Store, Part]:
    backend = MemoryBackend()
    (id_,) = Store(backend, KEY, code="off").save_many([Part(number=7)])
    store = Store(backend, KEY, code="off", **options)
    return store, store.load(id_)


def test_a_touch_enlists_and_a_change_is_seen(way):
    store, obj = a_loaded_one()
    view, entry = store.desk().view, entry_of(obj)
    assert (type(obj) is Part, entry.state, len(view.enlisted)) == (False, DOZING, 0)
    assert obj.number == 7
    assert (type(obj) is Part, entry.state, view.enlisted[id(obj)] is obj) == (True, AWAKE, True)
    assert not obj.changed
    obj.number = 8
    assert obj.changed


def test_a_touch_waits_for_who_has_the_view(way):
    store, obj = a_loaded_one()
    view, seen = store.desk().view, []
    reader = threading.Thread(target=lambda: seen.append(obj.number))
    with view.lock:
        reader.start()
        reader.join(0.05)
        assert (seen, entry_of(obj).state, view.enlisted) == ([], DOZING, {})
    reader.join(10)
    assert (seen, entry_of(obj).state) == ([7], AWAKE)


def test_a_retired_view_enlists_nothing(way):
    store, obj = a_loaded_one()
    view = store.desk().view
    view.retire()
    assert (obj.number, type(obj) is Part, view.enlisted) == (7, True, {})


def test_touching_many_makes_room(way):
    backend = MemoryBackend()
    ids = Store(backend, KEY, code="off").save_many([Part(number=number) for number in range(300)])
    store = Store(backend, KEY, code="off", cache_size=50)
    objects = [store.load(id_) for id_ in ids]
    assert sum(obj.number for obj in objects) == 300 * 299 // 2
    assert len(store.desk().view.enlisted) <= 51


def test_what_cannot_be_awaken_is_left_to_python():
    for obj in (None, 7, Part(), object()):
        assert COMPILED.awaken(obj, None, False) is COMPILED.awaken(obj, "name", True) is False


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_wrong_in_a_record_that_is_touched_is_told_the_same(head, payload):
    name, whole = f"{__name__}:Part", HEADS[head] + PAYLOADS[payload]
    backend = store_of(
        Draft("Part.2", 0, SHAPED | PLAIN, name, 0, "", ("Part.1",), {}, whole),
        Draft("Part.3", 0, SHAPED | PLAIN, name, 0, "", ("Part.2",), {}, SHAPE.head + PAYLOADS["good"]),
    )

    def touch() -> Any:
        obj = Store(backend, KEY, code="off").load("Part.3").b
        try:
            return obj.a, told(obj)
        except PerdureError as error:
            assert (entry_of(obj).state, object.__getattribute__(obj, "__dict__")) == (GHOST, {})
            return type(error), str(error), error.ids

    compiled, pure = both_ways(touch)
    assert compiled == pure


def test_what_is_in_memory_is_found_by_its_id(way):
    store, obj = a_loaded_one()
    id_ = obj.persistent_id
    assert store.load(id_) is store.load(str(id_)) is store.load_many([id_])[0] is obj
    with pytest.raises(perdure.NoSuchPath):
        store.load(id_, prefetch="number")
    for wrong in (None, 7, ["Part.1"], b"Part.1", "no id"):
        with pytest.raises(perdure.InvalidId):
            store.load(wrong)
    with pytest.raises(perdure.NotFound):
        store.load("Part.99")
    store.invalidate_cache()
    assert entry_of(obj).state == GHOST
    assert store.load(id_) is obj
    assert obj.number == 7
