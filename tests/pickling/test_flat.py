"""Flat values: their pickles are ordinary ones, without what notes texts and containers in the memo."""

from __future__ import annotations

import enum
import pickle
import pickletools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.pickling.flat import LARGE, MOST, FlatPickler, is_flat

TEXT, LIST, DICT, TUPLE = "".join(["a ", "text"]), ["one"], {"one": 1}, ("one",)
ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)
NAMED: dict[str, object] = {}
NAMED["itself"] = NAMED


class Text(str):
    pass


class Level(enum.IntEnum):
    LOW = 1


def chain(length: int) -> list[object]:
    made: list[object] = []
    for _ in range(length - 1):
        made = [made]
    return made


def texts(count: int) -> list[object]:
    return [f"text {number}" for number in range(count)]


FLAT = {
    "nothing": [],
    "one": [1],
    "atoms": [0, -1, 255, 256, 65536, 2**31, -(2**31) - 1, 2**63, -(2**200), 0.5, float("nan"), True, False, None],
    "texts": ["", "ü", "\U0001f600", "\ud800", "x" * 255, "y" * 256, "z" * 60_000],
    "containers": [
        [],
        ["a"],
        ["b", "c"],
        {},
        {"d": 1},
        {"e": 2, 3: "f"},
        ("g",),
        ("h", 1),
        ("i", 1, 2),
        ("j", 1, 2, 3),
    ],
    "inside one another": [[{"a": ([{}],)}], {("b", 1): {"c": ["d"]}}],
    "no items, twice": [(), [(), ()]],
    "as many texts": texts(MOST - 1),
    "as many items": [[*range(LARGE - 1)]],
    "many numbers": [[*range(LARGE - 1)] for _ in range(20)],
    "deep": chain(MOST),
}
OTHERS = {
    "a text twice": [TEXT, TEXT],
    "a text as key and value": [{TEXT: TEXT}],
    "a text within and without": [TEXT, [TEXT]],
    "a list twice": [LIST, LIST],
    "a dict twice": [[DICT], DICT],
    "a tuple twice": [TUPLE, (TUPLE,)],
    "a character twice": ["x", ["x"]],  # Python has one of each
    "a list in itself": ENDLESS,
    "a dict in itself": [NAMED],
    "itself deep": [[ENDLESS]],
    "more texts": texts(MOST),
    "more items": [[*range(LARGE)]],
    "a tuple of more items": [(*range(LARGE),)],
    "a dict of more items": [dict.fromkeys(range(LARGE))],
    "more of itself": [*range(LARGE)],
    "deeper": chain(MOST + 1),
    "bytes": [b"one"],
    "a set": [{1}],
    "a frozenset": [[frozenset({1})]],
    "a complex number": [1j],
    "a bytearray": [bytearray(b"one")],
    "of a class": [Text("text")],
    "a member": [Level.LOW],
    "a class": [int],
}


@pytest.mark.parametrize("name", FLAT)
def test_a_pickle_of_flat_values_is_what_is_left_without_the_memo(name):
    values = FLAT[name]
    assert is_flat(values)
    made = FlatPickler().dump(values)
    assert made is not None
    whole = pickle.dumps(values, 5)
    if len(whole) < 60_000:
        assert made == pickletools.optimize(whole)
    assert all(opcode.name != "MEMOIZE" for opcode, _, _ in pickletools.genops(made))
    assert repr(pickle.loads(made)) == repr(values)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_flat(name):
    assert not is_flat(OTHERS[name])


def test_one_pickler_for_many_and_a_text_that_is_written_apart():
    pickler = FlatPickler()
    for number in range(3):
        assert pickle.loads(pickler.dump([number, "text", [number]])) == [number, "text", [number]]
        assert pickler.dump(["x" * 70_000]) is None
        assert pickler.dump([[*range(LARGE - 1)] for _ in range(MOST - 1)]) is None  # several frames


ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("shared")
VALUES = st.recursive(
    ATOMS | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=5)
        | inner.map(lambda each: [each, each])
    ),
    max_leaves=30,
)


@given(st.lists(VALUES, max_size=8))
def test_what_refers_back_or_is_bytes_is_what_is_not_flat(values):
    whole = pickle.dumps(values, 5)
    names = {opcode.name for opcode, _, _ in pickletools.genops(whole)}
    noted = sum(opcode.name == "MEMOIZE" for opcode, _, _ in pickletools.genops(whole))
    needs_memo = names & {"BINGET", "LONG_BINGET", "SHORT_BINBYTES", "BINBYTES"}
    assert is_flat(values) == (not needs_memo and noted <= MOST)
    if is_flat(values):
        assert FlatPickler().dump(values) == pickletools.optimize(whole)
