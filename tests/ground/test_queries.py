"""The order of the values of fields: keys compare as the values do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.records.queries import LONGEST_TEXT, Condition, Query, arrange, bounds, matches, sort_key

numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3).map(lambda n: 2**53 + n),
    st.floats(allow_nan=False),
    st.booleans(),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def same_order(first, second) -> bool:
    keys = sort_key(first), sort_key(second)
    return (first < second, first == second) == (keys[0] < keys[1], keys[0] == keys[1])


@given(numbers, numbers)
def test_numbers_sort_as_python_compares_them(first, second):
    assert same_order(first, second)


@given(texts, texts)
def test_texts_sort_by_code_points(first, second):
    assert same_order(first, second)


@given(numbers, texts)
def test_none_before_numbers_before_texts(number, text):
    assert sort_key(None) < sort_key(number) < sort_key(text)


@pytest.mark.parametrize("value", [math.nan, 2**63, -(2**63) - 1, "x" * (LONGEST_TEXT + 1), "\ud800", b"x", (1,), 1j])
def test_what_cannot_be_indexed(value):
    with pytest.raises(ValueError, match=r"NaN|64 bits|longer|surrogate|neither"):
        sort_key(value)


@given(numbers, numbers, texts)
def test_ranges_hold_for_their_kind_only(value, limit, text):
    for operator, expected in (
        ("<", value < limit),
        ("<=", value <= limit),
        (">", value > limit),
        (">=", value >= limit),
    ):
        query = Query(("m:C",), (Condition("f", operator, limit),))
        assert matches({"f": value}, query) == expected
        assert not matches({"f": text}, query)
        assert not matches({}, query)


@given(texts, texts)
def test_prefixes(text, prefix):
    query = Query(("m:C",), (Condition("f", "prefix", prefix),))
    assert matches({"f": text}, query) == text.startswith(prefix)
    assert matches({"f": prefix + text}, query)


def test_a_bound_is_a_range_only():
    with pytest.raises(ValueError, match="no range"):
        bounds(Condition("f", "==", 1))


def test_ties_stand_in_the_order_of_numbers():
    rows = [("A.10", 10, {"f": 1}), ("A.9", 9, {"f": 1}), ("A.1", 1, {"f": 2})]
    assert arrange(rows, Query(("m:C",), order=(("f", True),))) == ["A.1", "A.9", "A.10"]
    assert arrange(rows, Query(("m:C",), order=(("f", False),), limit=1, offset=1)) == ["A.10"]
    assert Query((), (Condition("a", "==", 1), Condition("b", "==", 1)), (("a", True),)).fields == ("a", "b")
