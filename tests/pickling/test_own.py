"""Perdure's own reader: what it makes without a seal, what it refuses and how it says so, within which limits."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import fractions
import io
import ipaddress
import operator
import pathlib
import pickle
import pickletools
import subprocess
import sys
import textwrap
import types
import uuid
import zoneinfo
from typing import Any

import numpy as np
import owned
import pytest
from graphs import Node, graph, shape
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure import Limits, PerdureError, Persistable, UntrustedRecord
from perdure.pickling.own import registry
from perdure.pickling.own.reading import read, read_values
from perdure.pickling.own.values import EXCEPTIONS
from perdure.records.seal import Key

KEY, OTHER = Key(bytes(range(32))), Key(bytes(32))
UTC = datetime.UTC
ROME = zoneinfo.ZoneInfo("Europe/Rome")
PROTOCOLS = range(6)


@pytest.fixture(scope="module", autouse=True)
def registrations():
    """The classes of the tests are known while they run."""
    with owned.all_registered():
        yield


VALUES: list[Any] = [
    None, True, 0, -1, 255, 65535, 2**31, -(10**700), 0.5, float("inf"), 2j, "", "Пример\n\\", "\udc80", "x" * 300, b"",
    b"\x00\xff", b"y" * 300, bytearray(b"raw"), (), (1,), (1, 2, 3, 4), [], [1, [2]], {}, {"a": {1: (2,)}}, set(), {1},
    frozenset({1, (2, 3)}), ..., range(3), range(5, 1, -2), slice(1, None, 2), collections.OrderedDict(b=1, a=2),
    collections.deque([1, 2], 5), collections.Counter("abca"), collections.defaultdict(list, a=[1]),
    types.SimpleNamespace(a=1), decimal.Decimal("-1.50"), decimal.Decimal("Infinity"), fractions.Fraction(-1, 3),
    uuid.UUID(int=5), uuid.UUID("a7229a42-e9a4-11f1-bdf6-0242ac110002"),
    pathlib.PurePosixPath("a/b"), pathlib.Path("x"), pathlib.PureWindowsPath("c:/x"),
    ipaddress.ip_address("1.2.3.4"), ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("10.0.0.1/8"), array.array("d", [1.0, 2.0]), array.array("B"), array.array("q", [-1]),
    datetime.timedelta(-1, 5, 7), datetime.date(1, 2, 3), datetime.time(1, 2, 3, 4), datetime.time(1, tzinfo=UTC),
    datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999), datetime.datetime(2020, 10, 25, 2, 30, fold=1),
    datetime.datetime(2020, 1, 1, tzinfo=UTC), datetime.datetime(2020, 1, 1, tzinfo=ROME), UTC, ROME,
    datetime.timezone(datetime.timedelta(hours=2), "EET"), owned.Point(1, 2), owned.Span(0.5), owned.Colour.RED,
    owned.Right.READ | owned.Right.WRITE, owned.Pair(1, [2]), owned.Stack([1, 2]), owned.Table(a=1), owned.Tags({1}),
]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__} {value!r:.30}")
def test_values_that_need_no_seal(value, protocol):
    for data in (pickle.dumps(value, protocol), perdure.dumps(value, protocol, key=OTHER)):
        loaded, expected = perdure.loads(data, key=KEY), perdure.loads(data, trust="all")
        assert (type(loaded), repr(loaded)) == (type(value), repr(expected))
        assert loaded == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_of_registered_classes(protocol):
    mixed = owned.Mixed()
    mixed.left, mixed.more = [1], 2
    stack = owned.Stack([1])
    stack.label = stack
    setting = owned.Setting({"a": 1})
    chain = owned.Node(1, owned.Node(2))
    chain.following.following = chain
    made = [mixed, chain, stack, setting, owned.Trouble("x", 1), owned.Point, owned.Colour]
    if protocol < 2:
        del made[:2]  # slots need protocol 2
    for data in (pickle.dumps(made, protocol), perdure.dumps(made, protocol, key=OTHER)):
        *first, stack, setting, trouble, point, colour = perdure.loads(data, key=KEY)
        for mixed, chain in [first] if first else []:
            assert (mixed.left, mixed.more, vars(mixed)) == ([1], 2, {"more": 2})
            assert (chain.value, chain.following.value, chain.following.following is chain) == (1, 2, True)
        assert (stack, stack.label is stack) == ([1], True)
        assert setting.value == {"a": 1}
        assert (type(trouble), trouble.args) == (owned.Trouble, ("x", 1))
        assert (point, colour) == (owned.Point, owned.Colour)


class Reduced:
    """Pickles as what it is given."""

    def __init__(self, function: Any, *args: Any):
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


READ, WRITE = Reduced(getattr, owned.Right, "READ"), Reduced(getattr, owned.Right, "WRITE")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_members_as_early_releases_of_python_3_11_wrote_them(protocol):
    assert read(pickle.dumps(Reduced(getattr, owned.Colour, "BLUE"), protocol)) is owned.Colour.BLUE
    assert read(pickle.dumps([Reduced(operator.or_, READ, WRITE)], protocol)) == [owned.Right.READ | owned.Right.WRITE]


@pytest.mark.parametrize(
    "value",
    [
        Reduced(getattr, owned.Colour, "mro"),
        Reduced(getattr, owned.Colour, "__members__"),
        Reduced(getattr, owned.Point, "x"),
        Reduced(getattr, Reduced(getattr, owned.Colour, "RED"), "value"),
        Reduced(getattr, owned.Colour, 5),
        Reduced(getattr, "text", "upper"),
        Reduced(operator.or_, 1, 2),
        Reduced(operator.or_, READ, True),
        Reduced(operator.or_, READ, Reduced(getattr, owned.Colour, "RED")),
        Reduced(operator.or_, 1, READ),
        Reduced(operator.or_, {1}, {2}),
        Reduced(operator.or_, owned.Right, owned.Colour),
    ],
    ids=lambda value: f"{value.call[0].__name__} {value.call[1][1]!r:.20}".split(" at 0x")[0],
)
def test_nothing_else_is_looked_up_or_joined(value):
    with pytest.raises(PerdureError):
        read(pickle.dumps(value))


def test_members_of_enumerations_that_are_not_here():
    with pytest.raises(UntrustedRecord, match="Colour"):
        read(pickle.dumps(Reduced(getattr, owned.Colour, "RED")).replace(b"owned", b"gonee"))


def test_exceptions_of_python():
    for kind in EXCEPTIONS:
        for args in ((), ("text",), ("text", 5)):
            try:
                error = kind(*args)
            except TypeError:
                continue
            loaded = read(pickle.dumps(error))
            assert (type(loaded), loaded.args) == (kind, error.args)


ARRAYS: list[Any] = [
    np.arange(6.0), np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3), "f4")), np.array(5), np.zeros((0, 3)),
    np.array(["a", "bc"]), np.array([b"a", b"bc"]), np.array([True]), np.array([1 + 2j]), np.array([[1, 2]], ">i2"),
    np.array(["2020-01-01"], "M8[ns]"), np.array([5], "m8[25s]"), np.array(["a", None, 1.5], object), np.float32(2.5),
    np.datetime64("2020-01-01"), np.str_("x"), np.bool_(True), np.array(["", ""]),
]  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value!r:.40}")
def test_arrays_of_plain_kinds(value, protocol):
    loaded = read(pickle.dumps(value, protocol))
    assert (type(loaded), loaded.dtype, loaded.shape) == (type(value), value.dtype, value.shape)
    assert np.array_equal(loaded, value)
    if isinstance(value, np.ndarray):
        assert loaded.flags.f_contiguous == value.flags.f_contiguous
        assert loaded.flags.writeable


def test_arrays_beside_the_pickle():
    buffers: list[Any] = []
    data = pickle.dumps([np.arange(5), b"x"], 5, buffer_callback=buffers.append)
    assert np.array_equal(read(data, buffers=buffers)[0], np.arange(5))


@pytest.mark.parametrize(
    "value", [np.zeros(2, [("a", "i4")]), np.array([[1], {2}], object), np.ma.masked_array([1]), np.array([print])]
)
def test_other_arrays_are_refused(value):
    with pytest.raises(UntrustedRecord):
        read(pickle.dumps(value))


def test_numpy_is_not_imported_for_a_pickle(tmp_path):
    (tmp_path / "array").write_bytes(pickle.dumps(np.arange(3)))
    program = textwrap.dedent("""
        import perdure, sys
        data = open("array", "rb").read()
        try:
            perdure.loads(data)
        except perdure.UntrustedRecord as error:
            assert "Import numpy" in str(error) and "numpy" not in sys.modules
        else:
            raise SystemExit("it was made")
        import numpy
        assert perdure.loads(data).tolist() == [0, 1, 2]
    """)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_the_error_says_where_what_why_and_what_to_do():
    data = pickle.dumps([1, owned.Stranger()])
    with pytest.raises(UntrustedRecord, match=r"STACK_GLOBAL at position \d+ .*owned:Stranger") as caught:
        perdure.loads(data)
    error = caught.value
    assert data[error.position : error.position + 1] == pickle.STACK_GLOBAL
    assert (error.opcode, "owned:Stranger" in error.reason) == ("STACK_GLOBAL", True)
    assert "perdure.register_class" in error.hint
    assert "trust='all'" in error.hint
    assert perdure.loads(data, trust="all")[1].value == 1


def test_the_same_from_files_and_streams():
    data = pickle.dumps([owned.Stranger()])
    with pytest.raises(UntrustedRecord):
        perdure.load(io.BytesIO(data))
    with pytest.raises(UntrustedRecord):
        perdure.Unpickler(io.BytesIO(data)).load()
    file = io.BytesIO(b"".join(pickle.dumps(owned.Point(n), n) for n in PROTOCOLS) + b"rest")
    assert [perdure.load(file).x for _ in PROTOCOLS] == list(PROTOCOLS)
    assert file.read() == b"rest"


def test_frames_of_one_pickler_with_another_key():
    file = io.BytesIO()
    pickler = perdure.Pickler(file, key=OTHER)
    shared = owned.Point(1, 2)
    for _ in range(3):
        pickler.dump([shared])
    pickler.clear_memo()
    pickler.dump(owned.Span(2.0))
    file.seek(0)
    unpickler = perdure.Unpickler(file, key=KEY)
    first, second, third, last = (unpickler.load() for _ in range(4))
    assert first[0] is second[0] is third[0]
    assert (first, last) == ([shared], owned.Span(2.0))


def test_frames_with_and_without_a_seal_do_not_go_on_from_one_another():
    files = []
    for key in (KEY, OTHER):
        file = io.BytesIO()
        pickler = perdure.Pickler(file, key=key)
        pickler.dump([1])
        begun = file.tell()
        pickler.dump([2])
        files.append((file.getvalue()[:begun], file.getvalue()[begun:]))
    for first, second in ((files[0][0], files[1][1]), (files[1][0], files[0][1])):
        unpickler = perdure.Unpickler(io.BytesIO(first + second), key=KEY)
        assert unpickler.load() == [1]
        with pytest.raises(perdure.CorruptRecord, match="earlier ones"):
            unpickler.load()


def test_a_state_that_its_class_refuses():
    data = pickle.dumps(owned.Setting(1)).replace(b"kept", b"lost")
    with pytest.raises(perdure.CannotLoad, match=r"LookupError: lost.*owned:Setting"):
        perdure.loads(data)


def test_what_is_registered_is_found_by_name_alone():
    name = "made_here:Local"

    class Local:
        pass

    Local.__module__, Local.__qualname__ = name.split(":")
    data = b"\x80\x04\x8c\x09made_here\x8c\x05Local\x93)\x81."
    with pytest.raises(UntrustedRecord, match=name):
        perdure.loads(data)
    perdure.register_class(Local)
    assert type(perdure.loads(data)) is Local
    assert "made_here" not in sys.modules


def test_of_two_classes_of_one_name_the_one_that_is_there():
    module = types.ModuleType("passing_by")
    sys.modules["passing_by"] = module
    try:
        for number in range(3):
            made = type("Guest", (perdure.Persistable,), {"__module__": "passing_by", "number": number})
            module.Guest = made
            assert type(perdure.loads(pickle.dumps(made()))) is made
    finally:
        del sys.modules["passing_by"]


def test_values_alone_ask_no_class_of_the_program():
    for value in VALUES:
        data, has_class = pickle.dumps([value]), type(value).__module__ == "owned" or "owned." in repr(value)
        if has_class:
            with pytest.raises(UntrustedRecord, match="names the class owned:"):
                read_values(data)
        else:
            assert repr(read_values(data)) == repr([value])
    with pytest.raises(perdure.CorruptRecord, match="follow its end"):
        read_values(b"N.N.")


# -- limits ------------------------------------------------------------------------------------------------------

TOO_MUCH: dict[str, tuple[Any, Any]] = {  # a limit: what is just within 10, and what is not
    "bytes": (0, "too many bytes"),
    "opcodes": ([1, 2], [1] * 20),
    "objects": ([[]] * 5, [[] for _ in range(20)]),
    "memo": ([[]] * 5, [[] for _ in range(20)]),
    "depth": ([[[[[]]]]], [[[[[[[[[[[[]]]]]]]]]]]]),
    "printed": ([1, [2, 3]], [[1, 2, 3]] * 5),
    "string": ("0123456789", b"0123456789a"),
    "integer": (511, 2**40),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_each_limit(name):
    within, beyond = TOO_MUCH[name]
    limits = Limits(**{name: 10})
    assert perdure.loads(pickle.dumps(within, 2), limits=limits) == within
    with pytest.raises(UntrustedRecord, match=r"more than 10|longer than 10") as caught:
        perdure.loads(pickle.dumps(beyond, 2), limits=limits)
    assert "perdure.Limits" in caught.value.hint
    assert perdure.loads(pickle.dumps(beyond, 2)) == beyond


def test_the_limits_of_names_and_circles():
    with pytest.raises(UntrustedRecord, match="longer than 4"):
        perdure.loads(pickle.dumps(owned.Point(1)), limits=Limits(name=4))
    tangle: list[Any] = [[] for _ in range(4)]
    for each in tangle:
        each.extend(tangle)
    with pytest.raises(UntrustedRecord, match="circles"):
        perdure.loads(pickle.dumps(tangle), limits=Limits(circles=2))
    assert len(perdure.loads(pickle.dumps(tangle))) == 4


def test_what_is_made_of_the_same_values_many_times():
    key = datetime.date(2020, 1, 1), 2.5
    values = [frozenset([key]) for _ in range(300)], [{key} for _ in range(300)], [{key: 1} for _ in range(300)]
    for protocol in PROTOCOLS:
        data = pickle.dumps(values, protocol)
        assert perdure.loads(data) == perdure.loads(pickletools.optimize(data)) == values


def test_frames_of_one_pickler_are_counted_one_by_one():
    file = io.BytesIO()
    pickler = perdure.Pickler(file, key=OTHER)
    values = [{(number, *range(300)): [[number]]} for number in range(30)]
    for value in values:
        pickler.dump(value)
    file.seek(0)
    unpickler = perdure.Unpickler(file, key=KEY, limits=Limits(objects=10))
    assert [unpickler.load() for _ in values] == values


def test_arrays_that_are_larger_than_their_pickle():
    data = pickle.dumps(np.zeros(3, "S1"), 2)
    empty = data.replace(b"S1", b"S0").replace(b"K\x03\x85", b"\x8a\x06" + bytes(5) + b"\x01\x85")
    empty = empty.replace(b"X\x03\0\0\0\0\0\0", b"X\0\0\0\0").replace(b"K\x01K\x01K\0t", b"K\0K\x01K\0t")
    with pytest.raises(UntrustedRecord, match="without any bytes"):
        read(empty)
    length = b"\x8b" + (100_000).to_bytes(4, "little") + b"\x7f" * 100_000
    wide = data.replace(b"K\x03\x85", b"(" + length + b"q\x63" + b"h\x63" * 50 + b"t")
    with pytest.raises(perdure.CorruptRecord, match="whole numbers"):
        read(wide)


def test_limits_are_numbers_that_nobody_changes():
    for wrong in (-1, 1.5, "10", None, True):
        with pytest.raises(perdure.InvalidArgument, match="depth"):
            Limits(depth=wrong)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().depth = 5


# -- whatever it is given ------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.sampled_from([bytes([code]) for code in range(256)]),
    st.sampled_from([
        b"]", b"}", b")", b"(", b"\x8f", b"K\x01", b"\x94", b"h\x00", b"q\x00", b"N", b"2", b"\x8c\x01x", b"R", b"b",
        b"\x81", b"\x85", b"\x86", b"cowned\nNode\n", b"cowned\nPoint\n", b"cbuiltins\nset\n", b"cowned\nStranger\n",
        b"cdatetime\ndatetime\n", b"cuuid\nUUID\n", b"cperdure\n_shape\n", b"cperdure\n_member\n",
        b"ccopyreg\n__newobj__\n", b"a",
        b"cbuiltins\ngetattr\n", b"ccollections\ndefaultdict\n", b"cowned\nColour\n", b"}\x8c\x01xK\x01s", b"e", b"u",
    ]),
)  # fmt: skip


def only_perdures_errors(data: bytes) -> None:
    for source in (perdure.loads, lambda data: perdure.load(io.BytesIO(data))):
        try:
            value = source(data)
        except PerdureError:
            continue
        except EOFError:
            if not data:
                continue
            raise
        repr(value)


@given(data=st.binary(max_size=200))
def test_garbage(data):
    only_perdures_errors(data)


@given(pieces=st.lists(PIECES, max_size=25))
def test_garbage_made_of_opcodes(pieces):
    only_perdures_errors(b"".join(pieces) + b".")


@given(seed=st.integers(0, 10**9), protocol=st.integers(0, 5), place=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_one_byte_changed(seed, protocol, place, byte):
    values = [graph(seed, 6, kinds=8), *VALUES[seed % 30 :: 30], owned.Stack([1])]
    data = bytearray(pickle.dumps(values, protocol))
    data[int(place * len(data))] = byte
    only_perdures_errors(bytes(data))


@given(seed=st.integers(0, 10**9), protocol=st.integers(0, 5))
def test_random_graphs_are_those_of_pickle(seed, protocol):
    data = pickle.dumps(graph(seed, kinds=8), protocol)
    assert shape(perdure.loads(data)) == shape(pickle.loads(data))


def test_classes_of_the_graphs_are_strangers():
    with pytest.raises(UntrustedRecord, match="graphs:Node"):
        perdure.loads(pickle.dumps(Node(a=1)))


class Outer:
    class Inner(Persistable):
        pass


def test_a_class_inside_another_is_looked_for_once(monkeypatch):
    name = f"{__name__}:Outer.Inner"
    assert registry.class_named(name) is Outer.Inner
    monkeypatch.setattr(registry, "_imported", None)
    assert registry.class_named(name) is Outer.Inner
