"""`perdure.inspect`: what is in bytes is shown as a tree, and what loading would call is told; nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
import sys
from typing import Any

import numpy as np
import owned
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_own import PIECES, VALUES

import perdure
from perdure import PerdureError
from perdure.pickling.own.looking import CHECKED, REGISTERED, UNKNOWN
from perdure.records.seal import Key

KEY, OTHER = Key(bytes(range(32))), Key(bytes(32))


@pytest.fixture(scope="module", autouse=True)
def registrations():
    """The classes of the tests are known while they run."""
    with owned.all_registered():
        yield


class Harmful:
    """Calls something when it is loaded."""

    def __reduce__(self) -> Any:
        return os.putenv, ("PERDURE_TEST_INSPECTED", "1")


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_of_any_protocol(protocol):
    shared = ["a"]
    data = pickle.dumps({"x": [1, {"y": shared}], "z": shared, "e": Harmful(), "p": owned.Point(1, 2)}, protocol)
    found = perdure.inspect(data)
    text = str(found)
    assert "PERDURE_TEST_INSPECTED" not in os.environ
    assert {call.name: call.known for call in found.calls} == {"posix:putenv": UNKNOWN, "owned:Point": REGISTERED}
    assert all(0 <= call.position < len(data) and call.opcode for call in found.calls)
    for line in (
        "A bare pickle, without a seal", "dict of 4", "  ['x']: list of 2", "      ['y']: list of 1",
        "  ['z']: the same as ['x'][1]['y']", "  ['e']: posix:putenv", "    (0): 'PERDURE_TEST_INSPECTED'",
        "  ['p']: owned:Point", "    .x: 1", "Loading it would call:",
        "  posix:putenv (not known here: refused without a good seal)",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_frames_tell_their_header_and_their_seal():
    data = perdure.dumps(owned.Node(owned.Colour.RED), key=KEY)
    assert [perdure.inspect(data, key=key).seal for key in (KEY, OTHER, None)] == ["good", "not good", "not good"]
    text = str(perdure.inspect(data, key=KEY))
    assert "A value: owned:Node, revision 0" in text
    assert f"seal: good (of the key {KEY.name})" in text
    assert "  .value: owned:Colour.RED" in text
    assert str(perdure.inspect(pickle.dumps([1]))).endswith("Loading it would call nothing.")


def test_nothing_is_imported():
    before = set(sys.modules)
    found = perdure.inspect(b"\x80\x04\x8c\x04this\x8c\x01s\x93.")
    assert found.names == ("this:s",)
    assert "this:s is looked up, not called" in str(found)
    assert set(sys.modules) == before


def test_arrays_and_checked_values():
    found = perdure.inspect(pickle.dumps([np.arange(3), VALUES[-8]]))
    assert {call.known for call in found.calls} <= {CHECKED, REGISTERED}


def test_what_no_reader_would_take_is_shown_all_the_same():
    for data, words in (
        (b"Pmodule.weights\n.", "persistent id"),
        (b"\x80\x02\x82\x05)R.", "extension code 5"),
        (b"\x80\x04\x8c\x02o\x1b\x8c\x01x\x93)R.", r"o\x1b"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93}\x8c\x01aNsb.", "a state is set of something"),
        (b"N.N.K\x05.", "pickle 2: 5"),
        (b"N.\xff", "cannot be followed further"),
        (pickle.dumps([Harmful()])[:-1], "cannot be followed further"),
        (b"](K\x01", "cannot be followed further"),
    ):
        text = str(perdure.inspect(data))
        assert words in text
        assert "\x1b" not in text
    for data in (b"", b"\xff\xff", b"no pickle at all"):
        with pytest.raises(perdure.CorruptRecord):
            perdure.inspect(data)
    with pytest.raises(perdure.InvalidArgument):
        perdure.inspect("text")


def test_what_is_large_is_shortened():
    deep: Any = []
    for _ in range(150):
        deep = [deep]
    value = ["x" * 10_000, list(range(10_000)), deep, 10**5000, b"y" * 10_000, "\x1b[2J\n\u202e"]
    found = perdure.inspect(pickle.dumps(value))
    lines = str(found).splitlines()
    assert len(lines) <= 201
    assert max(map(len, lines)) <= 120
    assert all(line.isprintable() for line in lines)
    assert "… of 10000" in lines[2]
    cycle: list[Any] = []
    cycle.append(cycle)
    assert "  [0]: the same as all of it" in str(perdure.inspect(pickle.dumps(cycle)))


def test_it_says_so_where_a_limit_ends_it():
    found = perdure.inspect(pickle.dumps([[]] * 5 + [[1]] * 5), limits=perdure.Limits(opcodes=10))
    assert "more than 10 opcodes" in found.problem


@given(
    data=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=25).map(lambda pieces: b"".join(pieces) + b"."))
)
def test_whatever_it_is_given(data):
    for content in (data, b"\xb7PD\x01" + data):
        try:
            found = perdure.inspect(content)
        except PerdureError:
            continue
        assert all(line.isprintable() for line in found.lines())


@given(seed=st.integers(0, 10**9), place=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_frames_with_one_byte_changed(seed, place, byte):
    data = bytearray(perdure.dumps(VALUES[seed % 30 :: 30], key=KEY))
    data[int(place * len(data))] = byte
    for read in (
        perdure.inspect,
        lambda data: perdure.loads(data, key=KEY),
        lambda data: perdure.load(io.BytesIO(data)),
    ):
        try:
            repr(read(bytes(data)))
        except PerdureError:
            continue
