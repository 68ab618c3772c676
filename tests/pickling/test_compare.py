"""Untouched states are the same, every change is seen, and no method of the user's decides or disturbs it."""

from __future__ import annotations

import abc
import datetime
import enum
import math
import pickle
import random
import threading
from collections import OrderedDict, deque
from decimal import Decimal
from typing import Any

import pytest
from graphs import HASHABLE, Mixed, Node, Prickly, Slotted, Stack, Table, graph
from hypothesis import given
from hypothesis import strategies as st

from perdure.pickling.compare import same_state


def no_reference(obj: object) -> str | None:
    return None


def same(stored: Any, live: Any) -> bool:
    return same_state(stored, live, no_reference)


def copied(value: Any, protocol: int = 5) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


@given(seed=st.integers(0, 10**9))
def test_untouched_states_are_the_same(seed):
    live = {"state": graph(seed)}
    payload = pickle.dumps(live, 5)
    assert same(pickle.loads(payload), live)
    assert same(pickle.loads(payload), pickle.loads(payload))


@given(seed=st.integers(0, 10**9))
def test_one_change_anywhere_is_seen(seed):
    live = {"state": graph(seed)}
    payload = pickle.dumps(live, 5)
    mutate(live, random.Random(seed))
    assert not same(pickle.loads(payload), live)
    assert not same(live, pickle.loads(payload))


def mutate(root: Any, choose: random.Random) -> None:
    """Change one mutable object that is reachable; the change is one that pickling would keep."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        obj = waiting.pop()
        if id(obj) in seen or isinstance(obj, type | str | bytes):
            continue
        seen.add(id(obj))
        if isinstance(obj, list | dict | set | bytearray | Node | Slotted):
            found.append(obj)
        if isinstance(obj, dict):
            waiting += obj.values()
        elif isinstance(obj, list | tuple):
            waiting += obj
        waiting += getattr(obj, "__dict__", {}).values()
        waiting += [getattr(obj, name) for name in ("left", "right") if hasattr(obj, name)]
    obj = choose.choice(found)
    if isinstance(obj, list):
        mutate_list(obj, choose)
    elif isinstance(obj, dict):
        mutate_dict(obj, choose)
    elif isinstance(obj, set):
        members = [member for member in HASHABLE if member not in obj and member == member]
        obj.add(choose.choice(members))
    elif isinstance(obj, bytearray):
        obj.append(7)
    elif isinstance(obj, Slotted):
        obj.left = Mark()
    else:
        obj.another = 1


class Mark:
    """Something that no random graph holds."""


def mutate_list(items: list[Any], choose: random.Random) -> None:
    if items and choose.random() < 0.5:
        place = choose.randrange(len(items))
        items[place] = other_than(items[place])
    else:
        items.insert(choose.randrange(len(items) + 1), Mark())


def mutate_dict(items: dict[Any, Any], choose: random.Random) -> None:
    if len(items) > 1 and choose.random() < 0.3:
        first = next(iter(items))
        items[first] = items.pop(first)  # the same items in another order
    elif items and choose.random() < 0.5:
        key = choose.choice(list(items))
        items[key] = other_than(items[key])
    else:
        items["a new key"] = None


def other_than(value: Any) -> Any:
    """A value that is as like `value` as can be, and not the same."""
    if type(value) is bool:
        return int(value)
    if type(value) is int:
        return bool(value) if value in (0, 1) else value + 1
    if type(value) is float:
        return -value
    if type(value) is list:
        return tuple(value)
    if type(value) is tuple and value:
        return list(value)
    if type(value) is dict:
        return Table(value)
    return Mark()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (0, False), (0, 0.0), (0.0, -0.0), (1.0, 1), (complex(0.0, 0.0), complex(0.0, -0.0)), ("a", b"a"),
        (b"a", bytearray(b"a")), (None, False), ([], ()), ({}, []), (set(), frozenset()), (math.nan, 1.0),
        ({1: "a"}, {True: "a"}), ({1}, {True}), ({1}, {1.0}), ({0.0}, {-0.0}), ([1], Stack([1])), ({1, 2}, {1, 3}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)), ([1], [1, 2]),
        (Decimal("1.0"), Decimal("1.00")), (deque([1]), deque([1], 5)), (int, str), (len, abs),
        (frozenset({(1, 2)}), frozenset({(1, 3)})), (frozenset({frozenset({1})}), frozenset({frozenset({True})})),
    ],
)  # fmt: skip
def test_what_is_equal_and_yet_not_the_same(one, other):
    assert not same([one], [other])
    assert not same([other], [one])
    assert same([one], copied([one]))
    assert same([other], copied([other]))


def test_nan_is_the_same_by_its_bits():
    assert same([float("nan")], [float("nan")])
    assert not same([float("nan")], [-float("nan")])
    assert same({float("nan")}, {float("nan")})


@pytest.mark.parametrize("make", [list, dict, set, bytearray, Node, lambda: (1, 2), lambda: datetime.date(2002, 11, 1)])
def test_what_is_shared_counts(make):
    one = make()
    shared, split = [one, one], [one, copied(one)]
    assert not same(shared, split)
    assert not same(split, shared)
    assert same(copied(shared), shared)
    assert same(copied(split), split)


def test_shared_with_another_place():
    a, b = [1], [1]
    stored, live = [a, b, a], [[1], [1], None]
    live[2] = live[1]
    assert not same(stored, live)


def test_sets_in_any_order():
    days = [datetime.date(2002, 11, day) for day in range(1, 20)]
    live = {*days, *(("tuple", n) for n in range(20)), *(frozenset({n, str(n)}) for n in range(20)), *"abcdefg", Node}
    stored: set[Any] = {*copied(list(live)), *range(10_000)}
    stored -= set(range(10_000))  # its table stays large, so it iterates in another order
    assert list(map(str, stored)) != list(map(str, live))
    assert same(stored, live)
    live.add(datetime.date(2003, 1, 1))
    stored.add(datetime.date(2003, 1, 2))
    assert not same(stored, live)


class Level(enum.IntEnum):
    LOW = 1


class Abstract(abc.ABC):
    """Hashed by identity, of a class that has a metaclass."""

    def __init__(self, number: int):
        self.number = number


def test_members_whose_classes_have_metaclasses_are_found():
    live = {"first", (Level.LOW, "second"), Abstract(1), Abstract(2), Level}
    assert same(copied(live), live)
    changed = copied(live)
    next(member for member in changed if isinstance(member, Abstract)).number += 7
    assert not same(changed, live)


class Member:
    """Hashed by identity, as instances are by default."""

    def __init__(self, **attributes: Any):
        self.__dict__.update(attributes)


def test_members_that_are_also_elsewhere_find_their_partners():
    members = [Member() for _ in range(30)]
    live = {"set": set(members), "list": members}
    for _ in range(20):
        assert same(copied(live), live)
    other = copied(live)
    other["set"].remove(other["list"][3])
    other["set"].add(Member())
    assert not same(other, live)


def test_members_that_lead_back_to_their_set():
    live: dict[str, Any] = {"name": "home", "members": set()}
    live["members"] |= {Member(number=number, home=live, peers=live["members"]) for number in range(20)}
    assert same(copied(live), live)
    next(iter(live["members"])).number = 99
    assert not same(copied({**live}), live)


def test_the_users_eq_and_hash_are_never_called():
    live = {"a": Prickly([1]), "b": [Prickly(2)]}
    stored = copied(live)
    assert same(stored, live)
    live["a"].value.append(2)
    assert not same(stored, live)


class Meta(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Meta):
    """A class that cannot be hashed itself."""


class Failing:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise KeyError("no")


class Text:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return "somewhere"


class Endless:
    """Its state is another object like it, made anew each time."""

    def __getstate__(self) -> Any:
        raise RecursionError("too deep")


@pytest.mark.parametrize("cls", [Odd, Failing, Text, Endless])
def test_in_doubt_changed_and_never_raised(cls):
    assert same([cls()], [cls()]) is False
    assert same({1: [cls()]}, {1: [cls()]}) is False


def test_what_cannot_be_pickled_is_a_change():
    assert not same([None], [threading.Lock()])
    assert not same([None], [lambda: None])
    assert not same([1], [(n for n in ())])


class Referred:
    """Stands for an object with an id."""

    def __init__(self, id_: str):
        self.id = id_


class Ghost(Referred):
    """Another class for the same object."""


def reference(obj: object) -> str | None:
    return obj.id if isinstance(obj, Referred) else None


@pytest.mark.parametrize(
    "wrap", [lambda obj: [obj], lambda obj: {"a": obj}, lambda obj: {obj}, lambda obj: Node(a=obj)]
)
def test_references_are_the_same_by_id(wrap):
    assert same_state(wrap(Referred("User.1")), wrap(Ghost("User.1")), reference)
    assert not same_state(wrap(Referred("User.1")), wrap(Ghost("User.2")), reference)
    assert not same_state(wrap(Referred("User.1")), wrap(Referred("User.2")), reference)
    assert not same_state(wrap(Referred("User.1")), wrap("User.1"), reference)


def test_a_reference_twice_is_no_sharing():
    one = Referred("User.1")
    assert same_state([one, one], [Ghost("User.1"), Referred("User.1")], reference)


def test_slots_and_attributes():
    live = Mixed()
    live.left, live.extra = [1], 2
    stored = copied(live)
    assert same(stored, live)
    live.left.append(3)
    assert not same(stored, live)
    live.left.pop()
    assert same(stored, live)
    del live.extra
    assert not same(stored, live)


def test_graphs_as_deep_as_you_like():
    def nested(end: Any) -> Any:
        value = end
        for _ in range(50_000):
            value = [Node(value=value)]
        return value

    assert same(nested(1), nested(1))
    assert not same(nested(1), nested(True))


def test_numpy_and_pandas():
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    live = {
        "array": numpy.arange(10.0),
        "view": numpy.zeros((3, 4))[::2],
        "objects": numpy.array([1, "a", None], dtype=object),
        "scalar": numpy.float32(1.5),
        "record": numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
        "frame": pandas.DataFrame({"a": [1, 2], "b": ["x", None]}),
        "when": pandas.Timestamp("2002-11-01"),
    }
    loaded = copied(live)
    assert same(copied(live), copied(live))
    assert same(copied(loaded), loaded)
    loaded["array"][3] = -0.0
    assert not same(copied(live), loaded)
    loaded = copied(live)
    loaded["frame"].loc[0, "a"] = 7
    assert not same(copied(live), loaded)
