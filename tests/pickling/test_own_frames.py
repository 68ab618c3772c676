"""pandas' frames of plain columns need no seal; others are refused, and whatever is wrong in them is named."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure import PerdureError, UntrustedRecord
from perdure.pickling.own import frames

DAYS = pd.to_datetime(["2020-01-01", "2021-01-01"])
MIXED = pd.DataFrame({
    "a": [1, 2], "b": ["x", None], "c": DAYS, "d": [1.5, np.nan], "e": [True, False], "f": ["Füller", ""],
    "g": pd.to_timedelta([1, 2], unit="s"), "h": np.array([1, 2], "i2"),
})  # fmt: skip
PLAIN: list[Any] = [
    MIXED, MIXED[["f", "a", "d"]], MIXED.iloc[1:], pd.DataFrame(), pd.DataFrame(np.ones((3, 4))), DAYS,
    pd.DataFrame({"a": [1.0]}, index=["row"]), pd.DataFrame({"a": [1, 2]}, index=DAYS), pd.Series([1, 2], name="s"),
    pd.Series(["a", None]), pd.DataFrame({"o": np.array(["a", 1], object)}), pd.Index([3, 1]),
    pd.RangeIndex(5, name="n"),
    pd.Index(["a", "b"], name="labels"), pd.Series(DAYS), pd.DataFrame({0: [1], "x": ["y"]}),
]  # fmt: skip
OTHERS: list[Any] = [
    pd.DataFrame({"a": pd.Categorical(["x", "y"])}), DAYS.tz_localize("UTC"), pd.MultiIndex.from_tuples([(1, 2)]),
    pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}), pd.date_range("2020", periods=3),
    pd.DataFrame({"a": [{1}]}),
    pd.period_range("2020", periods=2), pd.interval_range(0, 2),
]  # fmt: skip


def same(one: Any, other: Any) -> None:
    """Assert that both are alike, kinds of columns and names too."""
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        pd.testing.assert_index_equal(one, other)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("place", range(len(PLAIN)))
def test_plain_ones_need_no_seal(place, protocol):
    same(perdure.loads(pickle.dumps(PLAIN[place], protocol)), PLAIN[place])


def test_columns_that_take_no_bytes():
    with pytest.raises(UntrustedRecord, match="too long to compute"):
        perdure.loads(pickle.dumps(pd.DataFrame(np.zeros((0, 200_000)))))
    same(perdure.loads(pickle.dumps(pd.DataFrame(np.zeros((0, 5000))))), pd.DataFrame(np.zeros((0, 5000))))


def test_attributes_and_buffers_beside():
    frame = pd.DataFrame({"a": np.arange(5)})
    frame.attrs["unit"] = "m"
    buffers: list[Any] = []
    data = pickle.dumps({"frame": frame}, 5, buffer_callback=buffers.append)
    loaded = perdure.loads(data, buffers=buffers)["frame"]
    same(loaded, frame)
    assert loaded.attrs == {"unit": "m"}


@pytest.mark.parametrize("place", range(len(OTHERS)))
def test_others_are_refused(place):
    with pytest.raises(UntrustedRecord):
        perdure.loads(pickle.dumps(OTHERS[place]))


def test_pandas_is_not_imported_for_a_pickle(tmp_path):
    (tmp_path / "frame").write_bytes(pickle.dumps(MIXED[["a"]]))
    program = textwrap.dedent("""
        import perdure, sys
        data = open("frame", "rb").read()
        try:
            perdure.loads(data)
        except perdure.UntrustedRecord as error:
            assert "Import pandas" in str(error) and "pandas" not in sys.modules
        else:
            raise SystemExit("it was made")
    """)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


def column(*told: Any) -> Any:
    return frames._texts(told)


def test_texts_whose_places_lie():
    places = np.array([0, 1, 3], "<i8").tobytes()
    assert column("large_string", 2, 0, 0, [None, places, b"abc"], [], None) == ["a", "bc"]
    assert column("large_string", 1, 0, 1, [b"\x02", places, b"abc"], [], None) == ["bc"]
    assert column("large_string", 2, 1, 0, [b"\x01", places, b"abc"], [], None) == ["a", None]
    for wrong in (
        ("large_string", 2, 0, 0, [None, places, b"ab"], [], None),
        ("large_string", 3, 0, 0, [None, places, b"abc"], [], None),
        ("large_string", 2**60, 0, 0, [None, places, b"abc"], [], None),
        ("large_string", -1, 0, 0, [None, places, b"abc"], [], None),
        ("large_string", 2, 0, 0, [b"", places, b"abc"], [], None),
        ("large_string", 2, 0, 0, [None, places, b"a\xff\xff"], [], None),
        ("large_string", 2, 0, 0, [None, places[::-1], b"abc"], [], None),
        ("large_string", 2, 0, 0, [None, places, b"abc"], [1], None),
        ("string", 2, 0, 0, [None, places[:9], b"abc"], [], None),
        ("int64", 2, 0, 0, [None, places, b"abc"], [], None),
        ("string",),
    ):
        with pytest.raises((frames.Wrong, frames.Refused)):
            column(*wrong)


DATA = pickle.dumps(MIXED)


@given(place=st.integers(0, len(DATA) - 1), byte=st.integers(0, 255))
def test_one_byte_changed(place, byte):
    data = DATA[:place] + bytes([byte]) + DATA[place + 1 :]
    try:
        repr(perdure.loads(data))
    except PerdureError:
        return
