"""What a bulk puts into rows of SQLite is the same, whether the compiled part makes it or Python."""

from __future__ import annotations

import gc
import sqlite3
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways import COMPILED, needs_kernels, ways

from perdure import kernels
from perdure.backends.sqlite.writing import any_twice, drafted, refuse_twice, row_values
from perdure.errors import IdInUse, PerdureError
from perdure.records.frame import encoder
from perdure.records.seal import Key
from perdure.records.values import FOREIGN, INTERNAL, Draft

KEY = Key(bytes(range(32)))
ERRORS = PerdureError, LookupError, TypeError, ValueError
KNOWN = {("shop:Item", 0): 1, ("shop:Item", INTERNAL): -1, ("perdure:Run", INTERNAL): -2}

IDS = st.sampled_from(["Item.1", "Item.2", "Order.3", "Item.007", "x.", "7", "\ud800.1", "x.123456789012345678901"])
FLAGS = st.sampled_from([0, 0x28, INTERNAL, INTERNAL | 0x28, FOREIGN])
CLASSES = st.sampled_from(["shop:Item", "perdure:Run", "shop:Unknown"])
PAYLOADS = st.sampled_from([b"", b"payload", b"x" * 70_000])
FIELDS = st.sampled_from([{}, {"state": "new"}])
DRAFTS = st.builds(
    Draft, IDS, st.integers(0, 2), FLAGS, CLASSES, st.just(0), st.just("Code.1"), st.just(("A.1",)), FIELDS, PAYLOADS
)


@needs_kernels
@given(st.lists(DRAFTS, max_size=4))
def test_drafts_are_summed_up_the_same(drafts):
    compiled, plain = ways(lambda: drafted(drafts), *ERRORS)
    assert compiled == plain


@needs_kernels
@given(st.lists(DRAFTS, max_size=4), st.integers(0, 2))
def test_rows_are_the_same(drafts, start):
    numbers = [*range(100, 100 + len(drafts))]

    def values():
        return row_values(encoder(KEY), drafts, numbers, KNOWN, 7, min(start, len(drafts)), len(drafts))

    compiled, plain = ways(values, *ERRORS)
    assert compiled == plain


@needs_kernels
@given(st.lists(st.integers(0, 700) | st.just(70_000), max_size=14))
def test_rows_of_all_lengths_have_the_same_seals(sizes):
    """They are sealed several at a time, next to what takes the longer way."""
    drafts = [Draft(f"Item.{size}", 0, 0x28, "shop:Item", 0, "", (), {}, b"x" * size) for size in sizes]
    numbers, encode = [*range(len(drafts))], encoder(KEY)
    compiled, plain = ways(lambda: row_values(encode, drafts, numbers, KNOWN, 7, 0, len(drafts)))
    assert compiled == plain
    assert [*compiled[3::4]] == [encode(draft, 7) for draft in drafts]


@needs_kernels
def test_rows_of_drafts_hold_what_is_bound_without_an_adapter():
    drafts = [Draft(f"Item.{number}", 0, 0x28, "shop:Item", 0, "", (), {}, b"payload") for number in range(3)]
    encode = encoder(KEY)
    for values in ways(lambda: row_values(encode, drafts, [0, 1, 2], KNOWN, 7, 1, 3)):
        assert [*map(type, values)] == [int, int, int, bytearray] * 2
        assert values == (1, 7, 1, encode(drafts[1], 7), 2, 7, 1, encode(drafts[2], 7))


@needs_kernels
def test_what_seals_otherwise_makes_its_own_frames():
    draft = Draft("Item.1", 0, 0x28, "shop:Item", 0, "", (), {}, b"payload")
    compiled, plain = ways(lambda: row_values(lambda given_, revision: b"own", [draft], [1], KNOWN, 7, 0, 1))
    assert compiled == plain == (1, 7, 1, b"own")


@needs_kernels
def test_what_makes_no_sense_is_refused(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    encode, draft = encoder(KEY), Draft("Item.1", 0, 0x28, "shop:Item", 0, "", (), {}, b"payload")
    for start, stop in ((-1, 1), (0, 2), (1, 0)):
        with pytest.raises(IndexError):
            COMPILED.row_values(encode, [draft], [1], KNOWN, 7, start, stop)
    with pytest.raises(IndexError):
        COMPILED.row_values(encode, [draft], [], KNOWN, 7, 0, 1)
    with pytest.raises(TypeError):
        COMPILED.row_values(encode, [("Item.1",)], [1], KNOWN, 7, 0, 1)
    assert COMPILED.drafted([("Item.1",)]) is COMPILED.drafted(()) is NotImplemented


@needs_kernels
@given(st.lists(st.integers(-2, 200) | st.sampled_from([2**40, 2**63 - 1, 2**70]), max_size=20))
def test_whether_a_number_is_there_twice_is_seen_the_same(numbers):
    assert ways(lambda: any_twice(numbers)) == [len({*numbers}) < len(numbers)] * 2


@pytest.mark.parametrize("bases", [(0, 0), (0, 3), (3, 0)])
def test_a_new_draft_with_the_number_of_another_is_refused(bases):
    drafts = [
        Draft(id_, base, 0, "shop:Item", 0, "", (), {}, b"")
        for id_, base in zip(("Item.1", "Order.1"), bases, strict=True)
    ]
    new, there = ("Item.1", "Order.1") if bases == (0, 3) else ("Order.1", "Item.1")
    with pytest.raises(IdInUse) as caught:
        refuse_twice(drafts)
    assert caught.value.ids == (new, there)


def test_two_versions_of_one_object_are_not_what_is_refused_here():
    drafts = [Draft("Item.1", 3, 0, "shop:Item", 0, "", (), {}, payload) for payload in (b"one", b"other")]
    assert refuse_twice(drafts) is None  # type: ignore[func-returns-value]


def test_sqlite_reads_such_a_frame_as_bytes():
    connection = sqlite3.connect(":memory:")
    draft = Draft("Item.1", 0, 0x28, "shop:Item", 0, "", (), {}, b"payload")
    values = row_values(encoder(KEY), [draft], [1], KNOWN, 7, 0, 1)
    (found,) = connection.execute("SELECT ?", (values[3],)).fetchone()
    assert type(found) is bytes
    assert found == encoder(KEY)(draft, 7)


@needs_kernels
def test_nothing_leaks(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", COMPILED)
    encode = encoder(KEY)
    drafts = [Draft(f"Item.{number}", 0, 0x28, "shop:Item", 0, "", (), {}, b"payload") for number in range(3)]
    wrong = [*drafts, drafts[0]._replace(class_name="shop:Unknown")]

    def work(times: int) -> int:
        for _ in range(times):
            COMPILED.drafted(wrong)
            COMPILED.row_values(encode, drafts, [0, 1, 2], KNOWN, 7, 0, 3)
            with pytest.raises(KeyError):
                COMPILED.row_values(encode, wrong, [0, 1, 2, 3], KNOWN, 7, 0, 4)
        gc.collect()
        return sys.getallocatedblocks()

    before = work(50)
    assert work(1500) - before < 200
