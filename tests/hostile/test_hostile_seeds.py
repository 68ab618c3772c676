"""What fuzzing has found, and what it may begin with: given to the reader, `inspect`, the rewriter and frames again."""

from __future__ import annotations

from pathlib import Path

import pytest
import routes
import targets
from hypothesis import given
from hypothesis import strategies as st

SEEDS = sorted((Path(__file__).parent / "seeds").iterdir())
SMALL = [data for _, data in routes.records() if len(data) < 300]


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_what_was_found_once_is_named_or_loads(path):
    targets.once(path.read_bytes())


@given(data=st.sampled_from(SMALL), place=st.floats(0, 0.999), byte=st.integers(0, 255), cut=st.floats(0.5, 1))
def test_hostile_records_that_are_changed_or_cut(data, place, byte, cut):
    changed = bytearray(data[: int(len(data) * cut) + 1])
    changed[int(place * len(changed))] = byte
    targets.once(bytes(changed))


@given(st.binary(max_size=120))
def test_bodies_of_frames(data):
    for body in (data, b"\xb7PD\x01" + data, b"\xb7PD\x02" + data):
        targets.once(body, "frame")
