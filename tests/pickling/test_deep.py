"""The iterative pickler gives what pickle gives, for graphs of any depth."""

from __future__ import annotations

import collections
import copyreg
import datetime
import io
import pickle
from decimal import Decimal
from typing import Any

import pytest
from graphs import Node, Slotted, graph, shape
from hypothesis import given
from hypothesis import strategies as st

from perdure.pickling.deep import DeepPickler

DEPTH = 100_000
PROTOCOLS = (2, 3, 4, 5)


def deep_dumps(obj: Any, protocol: int = 5, cls: type[DeepPickler] = DeepPickler, **options: Any) -> bytes:
    file = io.BytesIO()
    cls(file, protocol, **options).dump(obj)
    return file.getvalue()


@given(seed=st.integers(0, 10**9), protocol=st.sampled_from(PROTOCOLS))
def test_random_graphs_come_back_as_pickle_gives_them(seed, protocol):
    value = graph(seed)
    loaded = pickle.loads(deep_dumps(value, protocol))
    assert shape(loaded) == shape(pickle.loads(pickle.dumps(value, protocol)))
    assert shape(loaded) == shape(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_instances_of_many_classes(protocol):
    value = [
        datetime.datetime(2002, 11, 1), Decimal("0.1"), collections.OrderedDict(a=1), collections.Counter("aab"),
        collections.deque([1, 2], 5), collections.defaultdict(list, a=[1]), range(5), slice(1, 2), len, int, Node,
        type(None), type(...), NotImplemented, ValueError("no"), "abc".upper, collections.namedtuple, bytearray(), b"",
    ]  # fmt: skip
    loaded = pickle.loads(deep_dumps(value, protocol))
    assert repr(loaded).partition(" at 0x")[0] == repr(value).partition(" at 0x")[0]
    assert [type(item) for item in loaded] == [type(item) for item in value]


def lists(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def nodes(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = Node(following=value)
    return value


def tuples_and_dicts(depth: int) -> Any:
    value: Any = ()
    for _ in range(depth // 2):
        value = ({"next": value},)
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while value:
        depth += 1
        if isinstance(value, Node):
            value = value.following
        else:
            value = next(iter(value.values() if isinstance(value, dict) else value))
    return depth


@pytest.mark.parametrize("make", [lists, nodes, tuples_and_dicts])
def test_chains_for_which_pickle_gives_up(make):
    value = make(DEPTH)
    with pytest.raises(RecursionError):
        pickle.dumps(value, 5)
    assert depth_of(pickle.loads(deep_dumps(value))) == DEPTH


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("width", [1, 3, 5])
def test_tuple_in_its_own_list(protocol, width):
    inner: list[Any] = []
    value = (inner,) * width
    inner.append(value)
    loaded = pickle.loads(deep_dumps(value, protocol))
    assert len(loaded) == width
    assert loaded[0][0] is loaded
    assert loaded[0] is loaded[-1]


class Member:
    """Hashed by identity, refers to the set that it is in."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [set, frozenset])
def test_set_whose_member_refers_to_it(protocol, kind):
    member = Member()
    member.home = kind([member])
    loaded = pickle.loads(deep_dumps(member.home, protocol))
    (only,) = loaded
    assert only.home is loaded if protocol >= 4 else type(only.home) is kind


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_file_is_split_into_batches(protocol):
    value = [list(range(2500)), {n: str(n) for n in range(2500)}, set(range(2500))]
    assert pickle.loads(deep_dumps(value, protocol)) == value


class ByArguments:
    """Refers to itself from the arguments of its own construction."""

    def __init__(self, holder: list[Any]):
        self.holder = holder

    def __reduce__(self) -> Any:
        return ByArguments, (self.holder,)


def test_object_that_its_arguments_lead_back_to():
    holder: list[Any] = []
    value = ByArguments(holder)
    holder.append(value)
    expected = pickle.loads(pickle.dumps(value))
    loaded = pickle.loads(deep_dumps(value))
    assert type(loaded) is ByArguments
    assert (loaded.holder[0] is loaded) == (expected.holder[0] is expected)


class BySetter:
    """State goes through a function: the sixth part of the tuple."""

    def __reduce__(self) -> Any:
        return BySetter, (), {"x": [1]}, iter(()), iter(()), set_state


def set_state(obj: Any, state: Any) -> str:
    obj.set_to = state
    return "not used"


def test_state_setter():
    loaded = pickle.loads(deep_dumps([BySetter(), "after"]))
    assert loaded[0].set_to == {"x": [1]}
    assert loaded[1] == "after"


class Old:
    """Known to `copyreg` only."""

    def __init__(self, value: Any):
        self.value = value

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("the table comes first")


def test_copyreg_and_a_table_of_its_own():
    class WithTable(DeepPickler):
        dispatch_table = collections.ChainMap({Old: lambda old: (list, ((old.value, "own"),))})

    copyreg.pickle(Old, lambda old: (list, ((old.value, "copyreg"),)))
    try:
        assert pickle.loads(deep_dumps(Old(1))) == [1, "copyreg"]
        assert pickle.loads(deep_dumps(Old(1), cls=WithTable)) == [1, "own"]
    finally:
        del copyreg.dispatch_table[Old]


class Asked(DeepPickler):
    """Both hooks; they note what they are asked."""

    def persistent_id(self, obj: Any) -> Any:
        return ("node", obj.key) if isinstance(obj, Node) else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Slotted):
            return list, (("overridden",),)
        return NotImplemented


class AskedInC(pickle.Pickler):
    """The same for pickle."""

    persistent_id = Asked.persistent_id
    reducer_override = Asked.reducer_override


class Answering(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return ["loaded", pid]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hooks(protocol):
    value = [Node(key=[1]), Slotted(), len, {"n": Node(key="k")}]
    results = []
    for cls in (Asked, AskedInC):
        file = io.BytesIO()
        cls(file, protocol).dump(value)
        file.seek(0)
        results.append(Answering(file).load())
    assert results[0] == results[1]
    assert results[0][0] == ["loaded", ("node", [1])]


def test_buffers_in_band_and_out_of_band():
    outside: list[pickle.PickleBuffer] = []
    value = [pickle.PickleBuffer(b"read only"), pickle.PickleBuffer(bytearray(b"writable"))]
    data = deep_dumps(value, buffer_callback=outside.append)
    assert [bytes(part) for part in pickle.loads(data, buffers=outside)] == [b"read only", b"writable"]
    assert pickle.loads(deep_dumps(value)) == [b"read only", bytearray(b"writable")]
    assert pickle.loads(deep_dumps([bytearray(b"w" * 200_000), b"r" * 200_000]))[0] == b"w" * 200_000


def test_memo_is_kept_from_dump_to_dump():
    file = io.BytesIO()
    pickler = DeepPickler(file)
    shared = [1]
    pickler.dump([shared])
    pickler.dump([shared, 2])
    file.seek(0)
    unpickler = pickle.Unpickler(file)
    assert unpickler.load()[0] is unpickler.load()[0]


@pytest.mark.parametrize("reduced", [5, (list,), (list, 5), (5, ()), (list, (), 1, 2, 3, 4, 5)])
def test_reduce_of_a_wrong_form(reduced):
    class Wrong(DeepPickler):
        def reducer_override(self, obj: Any) -> Any:
            return reduced

    with pytest.raises(pickle.PicklingError):
        deep_dumps(Node(), cls=Wrong)


def test_text_protocols_are_refused():
    with pytest.raises(ValueError, match="from 2 on"):
        DeepPickler(io.BytesIO(), 0)


def test_a_local_class_is_refused():
    class Local:
        pass

    with pytest.raises((pickle.PicklingError, AttributeError)):
        deep_dumps(Local())
