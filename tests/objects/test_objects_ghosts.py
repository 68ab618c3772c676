"""Ghosts: whatever the class does, an object that is not loaded yet behaves as if it were."""

from __future__ import annotations

import abc
import collections
import collections.abc
import contextlib
import copy
import copyreg
import dataclasses
import enum
import functools
import gc
import pickle
import sys
import threading
import typing

import pytest
from places import Holder

from perdure import CannotLoad, CannotPickle, Persistable, StoreClosed, WrongView
from perdure.objects.instances.ghosts import real_class
from perdure.objects.instances.persistable import GHOST, entry_of

registry = []
finalized = []


class Plain(Persistable):
    kind = "default of the class"

    def __init__(self, a=1):
        self.a = a


class Abstract(abc.ABC):
    @abc.abstractmethod
    def area(self): ...


class Concrete(Abstract, Persistable):
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2


class Slotted(Persistable):
    __slots__ = ("__private", "a", "unset")

    def __init__(self, a):
        self.a, self.__private = a, "private"

    def private(self):
        return self.__private


class SlottedAndDict(Slotted):
    def __init__(self, a):
        super().__init__(a)
        self.b = a + 1


@dataclasses.dataclass
class Data(Persistable):
    a: int = 1
    parts: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen(Persistable):
    a: int = 1


@dataclasses.dataclass(slots=True)
class SlottedData(Persistable):
    a: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted(Persistable):
    a: int = 1


T = typing.TypeVar("T")


class Box(Persistable, typing.Generic[T]):
    def __init__(self, a):
        self.a = a


class Table(collections.abc.Mapping, Persistable):
    def __init__(self, **d):
        self.d = d

    def __getitem__(self, key):
        return self.d[key]

    def __iter__(self):
        return iter(self.d)

    def __len__(self):
        return len(self.d)


class Falsy(Persistable):
    def __bool__(self):
        return False


class Computed(Persistable):
    def __init__(self, a):
        self.a = a

    @property
    def twice(self):
        return self.a * 2

    @twice.setter
    def twice(self, value):
        self.a = value // 2

    @functools.cached_property
    def thrice(self):
        return self.a * 3


class Dynamic(Persistable):
    def __init__(self):
        self.known = {"a": 1}

    def __getattr__(self, name):
        if name.startswith("_") or name == "known":
            raise AttributeError(name)
        return self.known[name]


class Watchful(Persistable):
    def __init__(self):
        object.__setattr__(self, "log", [])

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        return value.upper() if isinstance(value, str) else value

    def __setattr__(self, name, value):
        self.log.append(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name):
        self.log.append(f"-{name}")
        object.__delattr__(self, name)


class Rich(Persistable):
    """Operators of many kinds."""

    def __init__(self, a):
        self.a = a

    def __call__(self, more):
        return self.a + more

    def __enter__(self):
        return self.a

    def __exit__(self, *exception):
        return True

    def __add__(self, other):
        return self.a + other

    def __radd__(self, other):
        return other + self.a

    def __iadd__(self, other):
        self.a += other
        return self

    def __lt__(self, other):
        return self.a < other.a

    def __eq__(self, other):
        return isinstance(other, Rich) and self.a == other.a

    def __hash__(self):
        return hash(self.a)

    def __index__(self):
        return self.a

    def __contains__(self, item):
        return item == self.a

    def __repr__(self):
        return f"Rich({self.a})"

    def __format__(self, spec):
        return f"{self.a:{spec}}"

    def __getitem__(self, index):
        return [self.a, self.a + 1][index]


class Registered(Persistable):
    def __init_subclass__(cls, **options):
        registry.append((cls, options))

    def __init__(self, a):
        self.a = a


class Child(Registered, colour="red"):
    pass


class Counting(type):
    made = []

    def __new__(cls, name, bases, body):
        made = super().__new__(cls, name, bases, body)
        cls.made.append(made)
        return made

    def __call__(cls, *args):
        return super().__call__(*args)

    __hash__ = None

    def __eq__(cls, other):
        raise AssertionError("perdure compared two classes of the user's")


class WithMetaclass(Persistable, metaclass=Counting):
    def __init__(self, a):
        self.a = a


class Finalized(Persistable):
    def __init__(self, a):
        self.a = a

    def __del__(self):
        finalized.append(self.a)


class Mourned(Persistable):
    """Looks at what refers to it when it goes."""

    def __init__(self):
        self.parent, self.children, self.count = None, [], 0

    def __del__(self):
        with contextlib.suppress(StoreClosed):
            if self.parent is not None:
                finalized.append(len(self.parent.children))


class Stack(list, Persistable):
    pass


class Register(dict, Persistable):
    pass


class Bag(set, Persistable):
    pass


class Ordered(collections.OrderedDict, Persistable):
    pass


class Missing(collections.defaultdict, Persistable):
    pass


class Trouble(Exception, Persistable):
    def __init__(self, text, code):
        super().__init__(text, code)
        self.extra = "more"


class Point(collections.namedtuple("Point", "x y"), Persistable):
    pass


class Number(int, Persistable):
    pass


class Colour(enum.Enum):
    RED = 1


class OldState(Persistable):
    """Turns what an older release stored into what this one wants, as articles teach it."""

    def __init__(self):
        self.first, self.last = "Ada", "Lovelace"

    def __getstate__(self):
        return {"first": self.first, "last": self.last}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.full = f"{state['first']} {state['last']}"


class Successor(Persistable):
    def greet(self):
        return f"I was {self.name}"


class Predecessor(Persistable):
    def __init__(self, name):
        self.name = name

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.__class__ = Successor


def rebuild(text):
    made = ByFunction.__new__(ByFunction)
    made.text = text
    return made


class ByFunction(Persistable):
    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return rebuild, (self.text,), {"more": [self]}


class ByNew(Persistable):
    def __new__(cls, a, *, b=0):
        made = super().__new__(cls)
        made.made_with = (a, b)
        return made

    def __getnewargs_ex__(self):
        return (self.made_with[0],), {"b": self.made_with[1]}


class ByTable(Persistable):
    def __init__(self, a):
        self.a = a


def _reduce_by_table(obj):
    return _made_by_table, (obj.a,)


def _made_by_table(a):
    return ByTable(a)


copyreg.pickle(ByTable, _reduce_by_table)


class Singleton(Persistable):
    def __reduce__(self):
        return "the_one"


class Hashed(Persistable):
    """Its hash needs its state."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return isinstance(other, Hashed) and self.name == other.name


# -- classes whose objects are ghosts ------------------------------------------------------------------------


def test_reading_wakes(place):
    assert place.ghost(Plain(41)).a == 41
    assert place.ghost(Plain()).kind == "default of the class"
    assert place.ghost(Concrete(3)).area() == 9
    assert isinstance(place.ghost(Concrete(3)), Abstract)


def test_writing_and_deleting_wake(place):
    ghost = place.ghost(Plain(41))
    ghost.b = 2
    assert (ghost.a, ghost.b) == (41, 2)
    ghost = place.ghost(Plain(41))
    del ghost.a
    assert not hasattr(ghost, "a")


def test_slots(place):
    ghost = place.ghost(Slotted(5))
    assert ghost.private() == "private"
    assert ghost.a == 5
    assert not hasattr(ghost, "unset")
    ghost = place.ghost(SlottedAndDict(5))
    assert (ghost.b, ghost.a, ghost.private()) == (6, 5, "private")
    with pytest.raises(AttributeError):
        place.ghost(Slotted(5)).other = 1


def test_dataclasses(place):
    ghost = place.ghost(Data(5, ["x"]))
    assert dataclasses.asdict(ghost) == {"a": 5, "parts": ["x"]}
    assert place.ghost(Data(5)) == Data(5)
    assert place.ghost(Data(5)) == place.ghost(Data(5))
    assert repr(place.ghost(Data(5))) == "Data(a=5, parts=[])"
    assert dataclasses.replace(place.ghost(Data(5)), a=6) == Data(6)
    with pytest.raises(TypeError):
        hash(place.ghost(Data()))


@pytest.mark.parametrize("cls", [Frozen, SlottedData, FrozenSlotted])
def test_frozen_and_slotted_dataclasses(place, cls):
    assert place.ghost(cls(7)) == cls(7)
    assert place.ghost(cls(7)).a == 7
    store = place.opened[-1]
    frozen = cls(8)
    id_ = store.save(frozen)
    assert place.open().load(id_).a == 8
    if cls is not SlottedData:
        with pytest.raises(dataclasses.FrozenInstanceError):
            place.ghost(cls(7)).a = 8
        assert hash(place.ghost(cls(7))) == hash(cls(7))


def test_generic(place):
    assert place.ghost(Box[int](5)).a == 5
    assert isinstance(place.ghost(Box(5)), Box)


def test_mappings_and_truth(place):
    assert dict(place.ghost(Table(x=1))) == {"x": 1}
    assert len(place.ghost(Table(x=1))) == 1
    assert list(place.ghost(Table(x=1))) == ["x"]
    assert "x" in place.ghost(Table(x=1))
    assert place.ghost(Table(x=1)) == {"x": 1}
    assert not place.ghost(Falsy())
    assert not place.ghost(Table())
    assert place.ghost(Plain())


def test_a_ghost_can_no_more_than_its_class(place):
    ghost = place.ghost(Plain())
    assert not callable(ghost)
    assert not isinstance(ghost, collections.abc.Iterable)
    assert not isinstance(ghost, collections.abc.Sized)
    assert not hasattr(ghost, "__len__")
    with pytest.raises(TypeError):
        len(place.ghost(Plain()))
    with pytest.raises(TypeError):
        iter(place.ghost(Plain()))


def test_properties(place):
    assert place.ghost(Computed(5)).twice == 10
    assert place.ghost(Computed(5)).thrice == 15
    ghost = place.ghost(Computed(5))
    ghost.twice = 20
    assert ghost.a == 10


def test_users_attribute_hooks(place):
    ghost = place.ghost(Dynamic())
    assert ghost.a == 1
    with pytest.raises(KeyError):
        ghost.b
    watchful = Watchful()
    watchful.name = "text"
    ghost = place.ghost(copy.deepcopy(watchful))
    assert ghost.name == "TEXT"
    assert ghost.log == ["name"]  # loading is no assignment of the user's
    ghost = place.ghost(watchful)
    ghost.name = "other"
    del ghost.name
    assert ghost.log == ["name", "name", "-name"]


def test_operators(place):
    assert place.ghost(Rich(5))(1) == 6
    with place.ghost(Rich(5)) as a:
        assert a == 5
    assert place.ghost(Rich(5)) + 1 == 1 + place.ghost(Rich(5)) == 6
    assert place.ghost(Rich(4)) < place.ghost(Rich(5))
    assert place.ghost(Rich(4)) == place.ghost(Rich(4))
    assert Rich(4) == place.ghost(Rich(4))
    assert place.ghost(Rich(4)) != place.ghost(Rich(5))
    assert hash(place.ghost(Rich(4))) == hash(4)
    assert [0, 1, 2][place.ghost(Rich(1))] == 1
    assert 5 in place.ghost(Rich(5))
    assert repr(place.ghost(Rich(5))) == "Rich(5)"
    assert str(place.ghost(Rich(5))) == "Rich(5)"
    assert f"{place.ghost(Rich(5)):03d}" == "005"
    assert list(place.ghost(Rich(5))) == [5, 6]
    ghost = kept = place.ghost(Rich(5))
    ghost += 1
    assert ghost is kept
    assert ghost.a == 6
    assert repr(place.ghost(Plain())).startswith("<test_objects_ghosts.Plain object at")


def test_introspection(place):
    assert vars(place.ghost(Plain(3))) == {"a": 3}
    assert "a" in dir(place.ghost(Plain()))
    assert place.ghost(Plain()).__class__ is Plain
    assert real_class(place.ghost(Plain())) is Plain
    assert hasattr(place.ghost(Plain()), "a")


def test_copies(place):
    for made in (copy.copy, copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))):
        made_of = made(place.ghost(Data(5, ["x"])))
        assert made_of == Data(5, ["x"])
        assert type(made_of) is Data
        assert made_of.persistent_id is None
    dozing = Data(5)
    place.opened[-1].save(dozing)
    assert copy.deepcopy(dozing) == Data(5)
    dozing_again = Data(6)
    place.opened[-1].save(dozing_again)
    assert type(copy.copy(dozing_again)) is Data


def test_singledispatch_and_match(place):
    @functools.singledispatch
    def kind_of(obj):
        return "other"

    @kind_of.register
    def _(obj: Plain):
        return "plain"

    @kind_of.register
    def _(obj: Data):
        return "data"

    assert kind_of(place.ghost(Plain())) == "plain"
    match place.ghost(Data(5, [])):
        case Data(a, []):
            assert a == 5
        case _:
            pytest.fail("the pattern did not match")
    match place.ghost(Table(x=1)):
        case {"x": value}:
            assert value == 1
        case _:
            pytest.fail("the pattern did not match")


def test_ghosts_stay_out_of_registries(place):
    before = list(registry)
    assert place.ghost(Child(1)).a == 1
    assert place.ghost(Registered(1)).a == 1
    assert registry == before == [(Child, {"colour": "red"})]

    class Later(Registered):
        pass

    assert registry.pop() == (Later, {})  # the user's own subclasses still register


def test_metaclasses(place):
    made = len(Counting.made)
    assert place.ghost(WithMetaclass(1)).a == 1
    assert len(Counting.made) == made


def test_finalizers(place):
    ghost = place.ghost(Finalized(1))
    gc.collect()
    finalized.clear()
    del ghost
    gc.collect()
    assert finalized == []  # it was never loaded
    ghost = place.ghost(Finalized(2))
    gc.collect()
    finalized.clear()
    assert ghost.a == 2
    place.opened[-1].transaction().__enter__().abort()
    del ghost
    gc.collect()
    assert finalized in ([2], [])  # a ghost again or gone
    dozing = Finalized(3)
    place.opened[-1].save(dozing)
    finalized.clear()
    del dozing
    gc.collect()
    assert finalized == [3]


def test_enum_members_in_state(place):
    assert place.ghost(Plain(Colour.RED)).a is Colour.RED


def test_weak_references_and_identity(place):
    ghost = place.ghost(Plain())
    table = {id(ghost): ghost}
    assert ghost.a == 1
    assert table[id(ghost)] is ghost


# -- classes that take part in their own pickling ------------------------------------------------------------


def test_state_methods(place):
    assert place.ghost(OldState()).full == "Ada Lovelace"
    store = place.open()
    old = OldState()
    old.full = "not stored"
    id_ = store.save(old)
    assert place.open().load(id_).full == "Ada Lovelace"


def test_a_class_assigned_in_setstate(place):
    holder = place.open().save(Holder(Predecessor("caterpillar")))
    store = place.open()
    ghost = store.load(holder).target
    assert ghost.greet() == "I was caterpillar"
    assert type(ghost) is Successor or real_class(ghost) is Successor
    store.save(ghost)
    assert isinstance(place.open().load(ghost.persistent_id), Successor)


def test_reduce_with_a_function(place):
    ghost = place.ghost(ByFunction("text"))
    assert ghost.text == "text"
    assert ghost.more == [ghost]
    assert ghost.more[0] is ghost


def test_new_arguments(place):
    assert place.ghost(ByNew(1, b=2)).made_with == (1, 2)


def test_copyreg(place):
    assert place.ghost(ByTable(5)).a == 5


def test_a_name_in_place_of_an_object_is_refused(store):
    with pytest.raises(CannotPickle, match="nothing is found under that name"):
        store.save(Singleton())


# -- classes on built-in types load at once ------------------------------------------------------------------


def load_target(place, obj):
    id_ = place.open().save(Holder(obj))
    return place.open().load(id_).target


def test_lists_dicts_sets(place):
    stack = Stack([1, 2])
    stack.name = "s"
    found = load_target(place, stack)
    assert type(found) is Stack
    assert (found, found.name) == ([1, 2], "s")
    assert load_target(place, Register(a=1)) == {"a": 1}
    assert load_target(place, Bag([1, 2])) == {1, 2}
    assert list(load_target(place, Ordered([("b", 1), ("a", 2)]))) == ["b", "a"]
    missing = Missing(list)
    missing["x"].append(1)
    found = load_target(place, missing)
    assert (found["x"], found["y"]) == ([1], [])


def test_exceptions(place):
    found = load_target(place, Trouble("text", 7))
    assert found.args == ("text", 7)
    assert found.extra == "more"


@pytest.mark.parametrize("value", [Point(1, 2), Number(7)])
def test_bases_without_weak_references_are_refused(store, value):
    with pytest.raises(CannotPickle, match=r"weak references.*Let a Persistable hold the value"):
        store.save(value)
    with pytest.raises(CannotPickle, match="weak references"):
        store.save(Holder(value))
    assert store.list() == []


def test_builtin_bases_in_circles(place):
    stack, register = Stack(), Register()
    stack.append(register)
    register["back"] = stack
    plain = Plain(stack)
    stack.append(plain)
    found = load_target(place, stack)
    assert found[0]["back"] is found
    assert found[1].a is found


def test_changes_of_builtin_bases_are_found(place):
    store = place.open()
    stack = Stack([1])
    id_ = store.save(stack)
    stack.append(2)
    with store.transaction():
        pass
    found = place.open().load(id_)
    assert found == [1, 2]
    found.append(3)
    found_store = place.opened[-1]
    with contextlib.suppress(ZeroDivisionError), found_store.transaction():
        found.append(4)
        raise ZeroDivisionError
    assert found in ([1, 2], [1, 2, 3])


# -- members of sets and keys of dicts -----------------------------------------------------------------------


def test_hashes_that_need_state(place):
    a, b = Hashed("a"), Hashed("b")
    id_ = place.open().save(Holder({"set": {a, b}, "dict": {a: 1}, "frozen": frozenset([b])}))
    found = place.open().load(id_).target
    assert {member.name for member in found["set"]} == {"a", "b"}
    assert found["dict"][Hashed("a")] == 1
    assert Hashed("b") in found["frozen"]


def test_a_hash_that_needs_an_object_which_is_loading(place):
    a = Hashed("a")
    a.friends = {a}
    id_ = place.open().save(a)
    with pytest.raises(CannotLoad, match="still being loaded"):
        place.open().load(id_)


def test_an_error_in_setstate_leaves_the_ghost_a_ghost(place, monkeypatch):
    ghost = place.ghost(OldState())
    with monkeypatch.context() as patched:
        patched.setattr(OldState, "__setstate__", lambda self, state: 1 / 0)
        with pytest.raises(CannotLoad, match=r"OldState\.2.*ZeroDivisionError"):
            ghost.full
    assert entry_of(ghost).state == GHOST
    assert ghost.full == "Ada Lovelace"


def test_finalizers_in_cycles(place):
    a, b = Finalized(1), Finalized(2)
    a.other, b.other = b, a
    place.open().save(a)
    finalized.clear()
    a = b = None
    gc.collect()
    assert sorted(finalized) == [1, 2]


def test_what_a_finalizer_brings_to_life_again_is_watched(place):
    parent, child = Mourned(), Mourned()
    parent.children.append(child)
    child.parent = parent
    store = place.open()
    store.save(parent)
    child_id = child.persistent_id
    del parent, child
    store = place.open()
    finalized.clear()
    store.load(child_id)  # let go at once: `__del__` loads the parent, which holds the child
    gc.collect()
    assert 1 in finalized
    child = store.load(child_id)
    with store.transaction():
        child.count = 42
    assert not child.changed
    assert place.open().load(child_id).count == 42


def test_what_finalizers_touch_when_a_thread_ends_does_not_go_on_for_ever(place, monkeypatch):
    ring = [Mourned() for _ in range(3)]
    for number, each in enumerate(ring):
        each.parent = ring[(number + 1) % 3]
    store = place.open()
    id_ = store.save(ring[0])

    def look():
        assert store.load(id_).count == 0

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(raised.exc_type))
    finalized.clear()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(finalized) < 10
    assert {*told} <= {WrongView}  # nobody's objects are loaded for who has ended
