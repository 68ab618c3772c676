"""Plain values from their pickles: what the compiled part reads is what C pickle reads, to the last shared text."""

from __future__ import annotations

import gc
import pickle
import pickletools
import struct
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ways import COMPILED, needs_kernels

pytestmark = needs_kernels

SHARED = ["".join(("shared", " text", str(number))) for number in range(3)]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-300, 70_000), st.floats(), st.binary(max_size=20),
    st.sampled_from([*SHARED, "", "a", "é", "日本", "\ud800"]), st.text(max_size=300),
)  # fmt: skip
HASHABLE = st.recursive(
    LEAVES.filter(lambda leaf: leaf == leaf), lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=5
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=9),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.sets(HASHABLE, max_size=4),
    ),
    max_leaves=20,
)


def pickle_of(value, *, memo):
    """A pickle as a record has it, without PROTO and FRAME."""
    made = pickle.dumps(value, 5)
    made = made if memo else pickletools.optimize(made)
    return made[2:] if made[2] != pickle.FRAME[0] else made[11:]


def told(value):
    """The value with its kinds, and what in it is the same object."""
    return pickle.dumps(value, 5)


@given(VALUES, st.booleans())
@example([SHARED[0], [SHARED[0]], {SHARED[0]: SHARED[0]}], True)
@example([b"a", [b"a"], "a", ["a"], b"", [b""], "", [""]], False)
@example([0, -1, 255, 256, 65_535, 65_536, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 2**200], False)
@example([float("nan"), -0.0, float("inf"), b"", b"x" * 300, "x" * 300, "x" * 5000], False)
def test_values_are_those_of_c_pickle(value, memo):
    data = pickle_of(value, memo=memo)
    found = COMPILED.unpickled(data)
    if found is NotImplemented:  # numbers beyond 64 bits, and what is large or deep
        assert b"\x8a" in data or len(data) > 200
    else:
        assert told(found) == told(pickle.loads(data))


@given(VALUES, st.integers(0, 400), st.binary(min_size=1, max_size=3), st.booleans())
@example([[1, 2]], 1, b"", True)
@example({(1,): 2}, 1, b"](", False)
def test_what_is_changed_is_left_or_read_the_same_way(value, place, other, memo):
    data = bytearray(pickle_of(value, memo=memo))
    place %= len(data)
    data[place : place + len(other)] = other
    found = COMPILED.unpickled(bytes(data))
    if found is not NotImplemented:  # so there are plain opcodes only, and C pickle calls nothing
        assert told(found) == told(pickle.loads(bytes(data)))


ODD = [
    b"", b".", b"(.", b"N", b"NN.", b"N.N", b"e.", b"(e.", b"](.", b"](Ne.e.", b"N(e.", b"](}(e.", b"(](Ne.", b"]NNe.",
    b"]a.", b"](NNa.", b"}N.", b"}Ns.", b"}(Nu.", b"}(NNNu.", b"}(]Nu.", b"\x8f(]\x90.", b"(]\x91.", b"N(N\x90.",
    b"\x85.", b"(\x85.", b"N\x86.", b"N(N\x86.", b"h\x00.", b"N\x94h\x01.", b"(\x94.", b"\x94.", b"K.", b"M\x00.",
    b"J\x00\x00\x00.", b"G\x00.", b"\x8a.", b"\x8a\x04\x00.", b"\x8a\x00.", b"\x8a\x09" + b"\xff" * 9 + b".",
    b"\x8c\x05abc.", b"\x8c\x01\xff.", b"X\xff\xff\xff\xff.", b"X\x00\x00.", b"C\xff.", b"B\xff\xff\xff\xff.",
    b"N" * 300 + b".", b"(" * 40 + b".", b"]" + b"\x94" * 300 + b".", b")" + b"\x85" * 5000 + b".",
    b"](" + b"N" * 256 + b"e.", b"\x80\x05N.", b"cos\nsystem\n.", b"]\x94(h\x00e.", b"]\x94h\x00a.", b"]\x94(h\x00Ne.",
]  # fmt: skip


@pytest.mark.parametrize("data", ODD, ids=[str(place) for place in range(len(ODD))])
def test_what_is_wrong_is_left_to_c_pickle(data):
    found = COMPILED.unpickled(data)
    if found is not NotImplemented:
        assert repr(found) == repr(pickle.loads(data))


def test_what_is_wrong_is_left():
    left = [data for data in ODD if COMPILED.unpickled(data) is NotImplemented]
    assert set(ODD).difference(left) == {b"\x8a\x00.", b"]\x94(h\x00e.", b"]\x94h\x00a.", b"]\x94(h\x00Ne."}
    assert COMPILED.unpickled("N.") is NotImplemented


def test_values_of_every_length():
    for length in range(4200):
        data = b"](X" + struct.pack("<i", length) + b"x" * length + b"e."
        assert COMPILED.unpickled(data) == (["x" * length] if len(data) <= 4096 else NotImplemented)


def test_nothing_leaks():
    pickles = [
        pickle_of([1, "x" * 50, {"a": (2.5, {3}), "b": ["c", b"d", frozenset("e")]}], memo=memo) for memo in (0, 1)
    ]

    def work(times: int) -> int:
        for _ in range(times):
            for data in ODD:
                COMPILED.unpickled(data)
            for data in pickles:
                for end in range(len(data)):
                    COMPILED.unpickled(data[:end] + b".")
            COMPILED.unpickled_together(pickles)
        gc.collect()
        return sys.getallocatedblocks()

    before = work(5)
    assert work(50) - before < 100


@given(st.lists(VALUES, max_size=12), st.booleans())
@example([[SHARED[0], SHARED[0]], [SHARED[0]], SHARED], True)
def test_texts_that_records_have_in_common_show_in_none_of_them(values, memo):
    pickles = [
        data for value in values if COMPILED.unpickled(data := pickle_of(value, memo=memo)) is not NotImplemented
    ]
    together = COMPILED.unpickled_together(pickles)
    assert [*map(told, together)] == [told(pickle.loads(data)) for data in pickles]


def test_texts_that_records_have_in_common_are_there_once():
    values = [{"state": "NEW", "name": f"job-{number}", "also": "".join("NEW")} for number in range(999)]
    found = COMPILED.unpickled_together([pickle_of(value, memo=False) for value in values])
    assert found == values
    assert len({id(value["state"]) for value in found}) == 1
    assert all(value["state"] is not value["also"] for value in found)  # or saving it would write another pickle
    assert len({id(key) for value in found for key in value}) == 3


def test_where_memory_runs_out_it_says_so():
    testcapi = pytest.importorskip("_testcapi")
    pickles = [pickle_of([1, "text", {"text": (2.5, {3}), "b": [b"d", frozenset("e")]}], memo=memo) for memo in (0, 1)]
    values = [*map(pickle.loads, pickles)]
    failed = 0
    for allocations in range(200):
        testcapi.set_nomemory(allocations, allocations + 1)
        try:
            found = COMPILED.unpickled_together(pickles)
        except MemoryError:
            failed += 1
        else:
            assert found == values
        finally:
            testcapi.remove_mem_hooks()
    assert failed > 10
