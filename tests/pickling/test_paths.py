"""The error names the way to what cannot be pickled, and what to do about it."""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from typing import Any

import pytest
from graphs import Mixed, Node, Prickly, Slotted, Stack, Table, graph

from perdure.pickling.paths import find_unpicklable


def never(obj: object) -> bool:
    return False


def find(obj: Any, name: str = "Job.17") -> tuple[str, str] | None:
    return find_unpicklable(obj, name, never)


def test_the_way_through_attributes_and_items():
    job = Node(name="survey", logs=[Node(stream=None), {}, Node(stream=sys.__stdout__)])
    found = find(job)
    assert found is not None
    assert found[0] == "Job.17 → .logs[2].stream"
    assert found[1].startswith("cannot pickle '_io.TextIOWrapper' instances. Keep the file's name")


BAD = threading.Lock()


def slotted() -> Any:
    obj = Slotted()
    obj.left, obj.right = 1, BAD
    return obj


def mixed() -> Any:
    obj = Mixed()
    obj.left, obj.extra = BAD, 1
    return obj


def stack() -> Any:
    obj = Stack([1, BAD])
    obj.label = "a"
    return obj


class WithState:
    def __getstate__(self) -> Any:
        return (1, [BAD])


class WithArguments:
    def __getnewargs__(self) -> Any:
        return ("a", BAD)


class WithReduce:
    def __reduce__(self) -> Any:
        return list, ((1, BAD),)


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (BAD, "Job.17"),
        ([1, (2, BAD)], "Job.17 → [1][1]"),
        ({"a": {"b": BAD}}, "Job.17 → ['a']['b']"),
        ({("x", 1): BAD}, "Job.17 → ['x', 1]"),
        ({Node: BAD}, "Job.17 → [<type>]"),
        ({"k" * 100: BAD}, f"Job.17 → ['{'k' * 59}…]"),
        ({BAD: 1}, "Job.17 → [key 0]"),
        ({BAD}, "Job.17 → [member 0]"),
        (slotted(), "Job.17 → .right"),
        (mixed(), "Job.17 → .left"),
        (stack(), "Job.17 → [1]"),
        (Table(a=BAD), "Job.17 → ['a']"),
        (WithState(), "Job.17 → .__getstate__()[1][0]"),
        (WithArguments(), "Job.17 → .__getnewargs__()[1]"),
        (WithReduce(), "Job.17 → .__reduce__()[1][0][1]"),
        (threading.Event(), "Job.17 → ._cond._lock"),
        ([BAD.acquire], "Job.17 → [0].__reduce__()[1][0]"),
        (Prickly([Prickly(BAD)]), "Job.17 → .value[0].value"),
    ],
)
def test_paths(obj, path):
    found = find(obj)
    assert found is not None
    assert found[0] == path
    assert "lock" in found[1]
    assert "__setstate__" in found[1]


async def routine() -> None:
    """Never awaited."""


def local_things() -> tuple[Any, Any]:
    class Local:
        pass

    def inside() -> None:
        pass

    return Local, inside


LocalClass, local_function = local_things()


def renamed() -> None:
    """Found under its name until the next line."""


kept, renamed = renamed, lambda: None  # type: ignore[assignment]


def gone() -> None:
    """Not found any more."""


lost = gone
del gone


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        ((n for n in "abc"), ["generator", "Keep what it yields"]),
        (lambda: 1, ["lambda", "`def` at the top level"]),
        (LocalClass, ["class", "local to a function", "Move the class to the top level"]),
        (LocalClass(), ["class", "local to a function", "Move the class to the top level"]),
        (local_function, ["local to a function", "Move the function"]),
        (kept, ["something else is found under that name"]),
        (lost, ["nothing is found under that name"]),
        (sys, ["'module' instances", "import it where it is used"]),
        (threading.RLock(), ["RLock", "make a new one"]),
        (weakref.ref(LocalClass), ["Keep the object itself"]),
        (memoryview(b"a"), ["bytes(view)"]),
        (sys._getframe(), ["traceback.format_exception"]),
        (object().__dir__.__self__.__class__.__dict__, ["mappingproxy", "__getstate__"]),
    ],
)
def test_what_to_do(obj, words):
    found = find([obj])
    assert found is not None
    assert found[0].startswith("Job.17 → [0]")
    assert [word for word in words if word not in found[1]] == []


def test_sockets_and_coroutines():
    with socket.socket() as connection:
        found = find([connection])
    assert found is not None
    assert "connect again" in found[1]
    waiting = routine()
    found = find([waiting])
    waiting.close()
    assert found is not None
    assert "coroutine" in found[1]


class Complaining:
    def __getstate__(self) -> Any:
        raise ZeroDivisionError("of all things")


class Wrong:
    def __reduce__(self) -> Any:
        return 5


class Meta(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("compared")

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Meta):
    """A class that cannot be hashed."""


def test_methods_of_the_user_that_fail():
    found = find([Complaining()])
    assert found is not None
    assert "Complaining' instances: their state cannot be read (ZeroDivisionError: of all things)." in found[1]
    found = find([Wrong()])
    assert found is not None
    assert "neither a name nor a tuple" in found[1]
    found = find([Odd()])
    assert found is not None
    assert "unhashable" in found[1]


def test_nothing_to_find_in_what_can_be_pickled():
    for seed in range(30):
        assert find(graph(seed)) is None
    numpy = pytest.importorskip("numpy")
    assert find([numpy.arange(3), numpy.add, numpy.float64, type(None), ..., len, dict.fromkeys, "a".upper]) is None


def test_where_not_to_go():
    reference = Node(lock=BAD)
    assert find_unpicklable([reference], "Job.17", lambda part: part is reference) is None
    assert find_unpicklable([reference, BAD], "a", lambda part: part is reference) == ("a → [1]", find(BAD)[1])


def test_the_first_one_is_named():
    assert find([{"deep": [[[BAD]]]}, BAD])[0] == "Job.17 → [0]['deep'][0][0][0]"


def test_deep_chains_and_cycles():
    cycle: list[Any] = []
    cycle.append(cycle)
    value: Any = [cycle, BAD]
    for _ in range(100_000):
        value = [value]
    found = find(value)
    assert found is not None
    assert found[0] == "Job.17 → " + "[0]" * 100_000 + "[1]"
