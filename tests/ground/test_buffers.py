"""The table of large pieces, how they are handed to a backend, and what is compressed."""

from __future__ import annotations

import os
import pickle
import random
import zlib
from hashlib import blake2b

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import CorruptRecord, PerdureError, TransactionError
from perdure.objects.payloads.pieces import Given, Present, has_large, joined, opened, pieced, taken_out
from perdure.records.buffers import (
    LARGE,
    OUTSIDE,
    OUTSIDE_FIXED,
    PART,
    Piece,
    digest_of,
    digests_of,
    pack_table,
    parts_of,
    read_table,
    table_size,
)
from perdure.records.compression import SMALLEST, compressed, decompressed, is_promising
from perdure.records.frame import decode, encoder, parse_unverified, unpacked
from perdure.records.seal import Key
from perdure.records.values import BUFFERED, COMPRESSED, VALUE, Draft

KEY = Key(b"k" * 32)

pieces = st.builds(
    Piece,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, 2**64 - 1),
    st.sampled_from([OUTSIDE, OUTSIDE_FIXED]) | st.integers(0, 2**40),
)


def draft(payload: bytes, flags: int = VALUE) -> Draft:
    return Draft("Item.1", 0, flags, "shop:Item", 1, "", (), {}, payload)


# -- the table -------------------------------------------------------------------------------------------------------


@given(st.lists(pieces, max_size=5), st.binary(max_size=50))
def test_the_table_comes_back(rows: list[Piece], rest: bytes) -> None:
    payload = pack_table(rows) + rest
    assert read_table(payload) == rows
    assert payload[table_size(payload) :] == rest
    assert digests_of(draft(payload, BUFFERED)) == {row.digest: row.length for row in rows}
    assert digests_of(draft(payload)) == {}


@given(st.binary(max_size=200))
def test_no_payload_makes_reading_its_table_fail_otherwise(payload: bytes) -> None:
    try:
        rows = read_table(payload)
    except CorruptRecord:
        return
    assert payload.startswith(pack_table(rows))


@given(st.lists(st.integers(0, 3 * LARGE // 2), max_size=4), st.booleans())
def test_what_is_taken_out_is_put_in_again(sizes: list[int], writable: bool) -> None:
    parts: list[object] = []
    for size in sizes:
        content = os.urandom(size)
        given_away = memoryview(bytearray(content) if writable else content)
        parts += [b"between", content, Given(given_away if size >= LARGE else None)]
    large = any(size >= LARGE for size in sizes)
    assert has_large(parts) == large
    expected = joined(parts)
    if not large:
        return
    payload = taken_out(parts)
    file, buffers = opened(payload)
    assert file.read() == expected
    assert [memoryview(buffer).readonly for buffer in buffers] == [not writable] * sum(size >= LARGE for size in sizes)
    assert pickle.loads(pickle.dumps(payload)) == payload
    assert type(pickle.loads(pickle.dumps(payload))) is bytes


@pytest.mark.parametrize("seed", range(20))
def test_a_spliced_pickle_is_read_as_any_file(seed: int) -> None:
    chance = random.Random(seed)
    first, second = os.urandom(LARGE), b"line\n" * (LARGE // 4)
    file, _ = opened(taken_out([b"head\n", first, b"mid", second, b"end"]))
    whole = b"head\n" + first + b"mid" + second + b"end"
    position = 0
    while position < len(whole):
        size = chance.choice([1, 4, 1000, LARGE, 2 * LARGE])
        how = chance.choice(["read", "readinto", "readline"])
        if how == "read":
            found = file.read(size)
        elif how == "readinto":
            target = bytearray(size)
            found = bytes(target[: file.readinto(target)])
        else:
            found = file.readline()
            size = whole.find(b"\n", position) + 1 - position or len(whole)
        assert found == whole[position : position + size]
        position += len(found)
    assert (file.read(1), file.readline(), file.readinto(bytearray(1))) == (b"", b"", 0)


@pytest.mark.parametrize("places", [(7, 3), (1000,)])
def test_a_table_with_impossible_places_is_refused(places: tuple[int, ...]) -> None:
    content = bytes(LARGE)
    digest = digest_of(content)
    payload = pack_table([Piece(digest, LARGE, place) for place in places]) + b"0123456789"
    with pytest.raises(CorruptRecord, match="places"):
        opened(pieced(payload, Present({digest: content})))


# -- handing over ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_parts_are_the_content(size: int, kind: type) -> None:
    content = os.urandom(size)
    parts = list(parts_of(digest_of(content), kind(content)))
    assert b"".join(parts) == content
    assert all(len(part) <= PART for part in parts)
    assert digest_of(content) == blake2b(content, digest_size=32).hexdigest()


def test_what_was_changed_on_the_way_is_refused_after_the_last_part() -> None:
    content = bytearray(3 * PART)
    handed = parts_of(digest_of(content), content)
    next(handed)
    content[-1] = 1
    with pytest.raises(TransactionError, match="was changed while") as caught:
        list(handed)
    assert "then save again" in caught.value.hint


# -- compression ------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.integers(1, 500))
def test_what_is_compressed_comes_back(block: bytes, times: int) -> None:
    content = block * times
    small = compressed(content)
    if small is not None:
        assert len(small) <= len(content) * 7 / 8
        assert decompressed(small, len(content)) == content


def test_what_cannot_be_compressed_is_left_alone() -> None:
    assert compressed(os.urandom(100_000)) is None
    assert not is_promising(os.urandom(2_000_000))
    assert is_promising(bytes(2_000_000))
    assert compressed(os.urandom(2_000_000)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        zstandard.compress(bytes(1000))[:-3],
        zstandard.compress(bytes(999)),
        zstandard.compress(bytes(2**30)),  # 32 KiB that say they are a GiB
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**20)),
        zlib.compress(bytes(1000)),
    ],
)
def test_nothing_longer_than_was_told_is_ever_unpacked(content: bytes) -> None:
    with pytest.raises(CorruptRecord, match="stored compressed"):
        decompressed(content, 1000)


def test_frames_are_compressed_only_where_that_is_asked_for_and_pays() -> None:
    texts = b"some text, again and again; " * 1000
    encode = encoder(KEY, compress=True)
    for payload, smaller in ((texts, True), (texts[: SMALLEST - 1], False), (os.urandom(20_000), False)):
        frame = encode(draft(payload), 1)
        assert (frame[3], bool(parse_unverified(frame).flags & COMPRESSED)) == (2 if smaller else 1, smaller)
        assert decode(frame, KEY).payload == payload
        assert decode(frame, None, trust_all=True) == decode(frame, KEY)
        assert not decode(frame, KEY).flags & COMPRESSED
        assert (len(frame) < len(payload) / 2) == smaller
    assert encoder(KEY)(draft(texts), 1)[3] == 1


def test_what_is_compressed_already_is_not_compressed_again() -> None:
    record = parse_unverified(encoder(KEY, compress=True)(draft(b"some text, again and again; " * 20_000), 1))
    again = draft(record.payload + b"x" * 20_000, record.flags)  # as if there were something in it to be saved
    assert parse_unverified(encoder(KEY, compress=True)(again, 2)).payload == again.payload


def test_the_table_stays_readable_in_a_compressed_payload() -> None:
    table = pack_table([Piece("ab" * 32, 70_000, OUTSIDE)])
    payload = table + b"some text, again and again; " * 1000
    frame = encoder(KEY, compress=True)(draft(payload, VALUE | BUFFERED), 1)
    record = parse_unverified(frame)
    assert record.flags & COMPRESSED
    assert digests_of(record) == {"ab" * 32: 70_000}
    assert unpacked(record).payload == decode(frame, KEY).payload == payload


@given(st.binary(max_size=100), st.integers(0, 0xFFFF))
def test_a_payload_that_lies_about_itself_is_damage(payload: bytes, flags: int) -> None:
    record = parse_unverified(encoder(KEY)(draft(payload), 1))._replace(flags=flags | COMPRESSED)
    with pytest.raises(PerdureError):
        unpacked(record)
