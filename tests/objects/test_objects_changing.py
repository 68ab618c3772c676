"""What the compiled part finds changed, writes and lets doze is what Python does; with hostile objects, too."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from ways import COMPILED, needs_kernels

from perdure import CannotPickle, Key, PerdureError, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.objects.instances.persistable import AWAKE, DOZING, entry_of

KEY = Key(bytes(range(32)))

pytestmark = needs_kernels


class Part(Persistable):
    def __init__(self, **given: Any):
        self.__dict__.update(given)


class Other(Part):
    pass


class Slotted(Persistable):
    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Stateful(Persistable):
    def __init__(self, value: Any):
        self.value = value

    def __getstate__(self) -> Any:
        return {"value": self.value}


class Several(Persistable, list):
    pass


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]


class Strange(Persistable, metaclass=Unhashable):
    """Cannot be compared, hashed or shown."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        raise AssertionError("perdure compared two objects of the user's")

    def __repr__(self) -> str:
        raise AssertionError("perdure has shown an object of the user's")

    __hash__ = None  # type: ignore[assignment]


class Indexed(Persistable):
    __indexed__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


class Acting:
    """A value that does something while it is pickled: what `ACTS` has for it."""

    def __init__(self, act: str):
        self.act = act

    def __reduce__(self) -> Any:
        ACTS[self.act]()
        return Acting, (self.act,)


ACTS: dict[str, Any] = {}


class Ticking:
    """A clock that tells the same in each try."""

    def now(self) -> float:
        return 1e9


def both_ways(do: Any) -> tuple[Any, Any]:
    """What is told with the compiled part, and without it."""
    found, before = [], kernels.compiled
    for compiled in (COMPILED, None):
        kernels.compiled = compiled
        try:
            found.append(do())
        finally:
            kernels.compiled = before
    return found[0], found[1]


def told(obj: Any) -> Any:
    """What an object and its entry are like; it is not woken."""
    entry = entry_of(obj)
    state = vars(obj) if type(obj) is entry.cls and hasattr(obj, "__dict__") else {}
    return (
        entry.id, type(obj).__name__, type(obj) is entry.cls, entry.state, entry.revision, entry.flags, entry.digest,
        entry.references, entry.forced, list(state), entry.sample is None,
    )  # fmt: skip


def kept(backend: MemoryBackend) -> list[Any]:
    """Every frame of every version, and every commit."""
    return [backend.history(id_) for id_ in backend.ids()] + [*backend.commits()]


def a_store(*objects: Any) -> tuple[Store, list[Any], MemoryBackend]:
    """A store that has loaded the objects which another one has saved."""
    backend = MemoryBackend()
    ids = Store(backend, KEY, code="off", clock=Ticking()).save_many(objects)
    store = Store(backend, KEY, code="off", clock=Ticking())
    return store, store.load_many(ids), backend


def all_kinds() -> list[Any]:
    shared = Part(name="shared")
    parts = [Part(value=number, owner=shared, tags=["a", number], price=number / 4) for number in range(12)]
    return [
        *parts, shared, Slotted(1), Stateful(1), Several([1]), Strange(1), Indexed(1), Indexed(2),
        Part(value={"b", "a", "c"}), Part(value=b"x" * 70_000), Part(**{"not an identifier": 1}), Part(),
        Other(value=1),
    ]  # fmt: skip


def change(objects: list[Any]) -> None:
    """Some are changed, in many ways; some only looked at; some not touched."""
    parts, others = objects[:12], objects[12:]
    parts[0].value = 100
    parts[1].tags.append("b")
    parts[2].owner = parts[3]
    parts[4].price = float("nan")
    assert parts[5].value == 5
    parts[6].value = 7
    parts[6].value = 6
    parts[7].changed = True
    parts[8].__class__ = Other
    parts[9].new = Part(name="new")
    if hasattr(parts[10], "value"):
        del parts[10].value
    for other in others:
        if not isinstance(other, (Several, Slotted)):
            _ = other.__dict__
    shared, slotted, stateful, several, strange, indexed, _, some, large, named, empty, last = others
    shared.name, slotted.value, stateful.value, strange.value, indexed.value = "others", 2, 2, 2, 3
    several.append(2)
    some.value.add("d")
    large.value += b"y"
    setattr(named, "not an identifier", 2)
    empty.value = None
    last.value = 2


def test_what_is_written_is_the_same():
    def work() -> Any:
        store, objects, backend = a_store(*all_kinds())
        with store.transaction():
            change(objects)
        first = [told(obj) for obj in objects]
        with store.transaction():
            change(objects)
        return first, [told(obj) for obj in objects], kept(backend), len(store.desk().view.enlisted)

    work()  # the classes learn which attributes are references
    compiled, pure = both_ways(work)
    assert compiled == pure


def test_what_was_only_looked_at_is_not_written_and_dozes():
    def work() -> Any:
        store, objects, backend = a_store(*all_kinds())
        for obj in objects:
            _ = obj.__dict__ if not isinstance(obj, Slotted) else obj.value
        with store.transaction():
            pass
        return [told(obj) for obj in objects], kept(backend), backend.revision(), len(store.desk().view.enlisted)

    compiled, pure = both_ways(work)
    assert compiled == pure
    assert compiled[2] == 1


def test_of_a_set_the_graph_decides_and_is_remembered():
    def work() -> Any:
        store, (obj,), backend = a_store(Part(value={str(number) for number in range(100)}))
        for _ in range(3):
            with store.transaction():
                other_order = sorted(obj.value, key=lambda text: text[::-1])
                obj.value = set(other_order)
        return backend.revision(), entry_of(obj).state, entry_of(obj).revision

    assert both_ways(work) == ((1, DOZING, 1), (1, DOZING, 1))


def test_whoever_is_held_stays_awake():
    def work() -> Any:
        store, (held, free, kept_), backend = a_store(Part(tags=["a"]), Part(tags=["a"]), Part(tags={}, value=1))
        tags = held.tags
        with store.transaction():
            held.value, free.value, kept_.value = 1, 1, 2
        state = vars(kept_)["tags"]
        with store.transaction():
            tags.append("b")
            kept_.value = 3
        states = [entry_of(obj).state for obj in (held, free, kept_)]
        state["late"] = 1
        with store.transaction():
            tags.append("c")
        return states, kept(backend), backend.revision(), len(store.desk().view.enlisted)

    compiled, pure = both_ways(work)
    assert compiled == pure
    assert compiled[0] == [AWAKE, DOZING, AWAKE]


class Raising:
    """A value that cannot be pickled, and says so in its own way."""

    def __init__(self, error: BaseException):
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


ERRORS = [TypeError("no"), CannotPickle("never"), MemoryError(), KeyboardInterrupt(), RecursionError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_cannot_be_pickled_is_told_the_same_and_nothing_is_written(error):
    def work() -> Any:
        store, objects, backend = a_store(*(Part(value=number, tags=["a"]) for number in range(6)))
        with pytest.raises((PerdureError, MemoryError, KeyboardInterrupt)) as raised, store.transaction():  # noqa: PT012
            for obj in objects:
                obj.value = 100
            objects[3].tags.append(Raising(error))
        states = [told(obj) for obj in objects]
        with store.transaction():
            objects[3].value = 7
        return type(raised.value), str(raised.value), states, [obj.value for obj in objects], kept(backend)

    compiled, pure = both_ways(work)
    assert compiled == pure
    assert compiled[3] == [0, 1, 2, 7, 4, 5]


def acts(first: Part, others: list[Part]) -> dict[str, Any]:
    """What may happen while `first` is pickled."""

    def take_away() -> None:
        vars(first).clear()

    def add() -> None:
        vars(first)[f"late{len(vars(first))}"] = 1

    def become_another() -> None:
        first.__class__ = Other

    def touch() -> None:
        for other in others:
            other.value = "touched meanwhile"

    def replace() -> None:
        vars(first).update(value=[1], tags=None)

    def force() -> None:
        entry_of(first).forced = True

    return {each.__name__: each for each in (take_away, add, become_another, touch, replace, force)}


@pytest.mark.parametrize("name", acts(Part(), []))
@pytest.mark.parametrize("assigned", [True, False], ids=["assigned", "looked at"])
def test_what_changes_while_it_is_pickled(name, assigned):
    def work() -> Any:
        ACTS[name] = lambda: None
        store, objects, backend = a_store(
            Part(acting=Acting(name), value=1, tags=["a"]), *(Part(value=number) for number in range(3))
        )
        first, *others = objects
        ACTS[name] = acts(first, others[1:])[name]
        raised = None
        try:
            with store.transaction():
                others[0].value = "before"
                if assigned:
                    first.value = 2
                else:
                    assert first.value == 1
        except PerdureError as error:
            raised = type(error), str(error)
        ACTS[name] = lambda: None
        states = [told(obj) for obj in objects]
        with store.transaction():
            others[0].value = "after"
        return raised, states, kept(backend), [told(obj) for obj in objects]

    compiled, pure = both_ways(work)
    assert compiled == pure
    ACTS.clear()


def test_a_commit_that_is_refused_leaves_what_was_changed():
    def work() -> Any:
        store, objects, backend = a_store(*(Part(value=number, tags=["a"]) for number in range(5)))
        other = Store(backend, KEY, code="off", clock=Ticking())
        with pytest.raises(PerdureError) as raised, store.transaction():  # noqa: PT012
            for obj in objects:
                obj.value = "mine"
            with other.transaction():
                other.load(objects[2].persistent_id).value = "another's"
        states = [told(obj) for obj in objects]
        return type(raised.value), states, [obj.value for obj in objects], kept(backend)

    compiled, pure = both_ways(work)
    assert compiled == pure
    assert compiled[2] == [0, 1, "another's", 3, 4]


def test_changes_are_freed():
    def allocated() -> int:
        while gc.collect():
            pass
        return sys.getallocatedblocks()

    def work(times: int) -> int:
        for _ in range(times):
            store, objects, _ = a_store(*all_kinds())
            with store.transaction():
                change(objects)
            del store, objects
        return allocated()

    before = work(25)
    assert work(20) - before < 20 * len(all_kinds())  # less than one for each object, each time


def test_rest_takes_what_a_worklist_has():
    for wrong in ((), ([],), ([], []), ((), {}), ([], {}, 1)):
        with pytest.raises(TypeError):
            COMPILED.rest(*wrong)
    pairs = [7, (), (1, 2), (None, None, None)]
    assert COMPILED.rest(pairs, {}) == pairs


def test_finish_takes_what_a_worklist_has():
    for wrong in ((), ([], []), ((), [], 1), ([], (), 1), ([], [], "1")):
        with pytest.raises(TypeError):
            COMPILED.finish(*wrong)
    store, (obj,), _ = a_store(Part(value=1))
    entry = entry_of(obj)
    before = told(obj)
    for created, written in (([entry, 7], []), ([entry], [(1, 2, 3)]), ([], [(entry, 1, ()), (entry, 1)])):
        assert COMPILED.finish(created, written, 9) is False
        assert told(obj) == before
    assert COMPILED.finish([entry], [], 1) is True
    assert COMPILED.finish([], [(entry, entry.digest, entry.references)], 1) is True
    assert told(obj) == before
    store.close()
