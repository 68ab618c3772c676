"""Hiding and opening frames, notes and large pieces, without a store."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import CorruptRecord
from perdure.records import hidden
from perdure.records.buffers import PART, digest_of
from perdure.records.frame import encoder, parse_unverified
from perdure.records.hidden import UNKNOWN_NOTE, Hiding
from perdure.records.seal import Key
from perdure.records.values import Draft

KEY = Key(b"the key of what is encrypted....")
OTHER = Key(b"another key, of somebody else...")


def nowhere(digest: str) -> Any:
    raise AssertionError(f"nothing names {digest}")


def frame_of(payload: bytes = b"payload", revision: int = 3) -> bytes:
    return encoder(KEY)(Draft("Item.17", 0, 0x28, "shop:Item", 2, "Code.1", ("A.1",), {"x": 1}, payload), revision)


def damaged() -> CorruptRecord:
    return CorruptRecord("It is damaged.")


def opened_piece(hiding: Hiding, stored: bytes, size: int) -> bytes:
    parts = iter([stored[start : start + size] for start in range(0, len(stored), size)])
    return b"".join(hiding.open_piece(parts, damaged))


@given(st.binary(max_size=300), st.integers(1, 2**40))
def test_a_frame_comes_back_and_its_header_is_to_be_seen(payload: bytes, revision: int) -> None:
    frame = frame_of(payload, revision)
    outer = Hiding(KEY).hide(frame, nowhere)
    assert Hiding(KEY).open(outer) == frame
    assert Hiding(OTHER).open(outer) is None
    told = parse_unverified(outer)
    assert (told.id, told.revision, told.class_name, told.references) == ("Item.17", revision, "shop:Item", ("A.1",))
    assert not told.fields
    assert outer != Hiding(KEY).hide(frame, nowhere)


@given(st.text(max_size=300))
def test_a_note_comes_back(note: str) -> None:
    stored = Hiding(KEY).hide_note(note)
    assert Hiding(KEY).open_note(stored) == note
    assert bool(stored) == bool(note)
    if note:
        assert stored.isascii()
        assert Hiding(OTHER).open_note(stored) == UNKNOWN_NOTE
        for place in range(10, len(stored), 7):
            changed = stored[:place] + ("A" if stored[place] != "A" else "B") + stored[place + 1 :]
            assert Hiding(KEY).open_note(changed) in (UNKNOWN_NOTE, note)  # the last digit has bits that mean nothing
            assert Hiding(KEY).open_note(stored[:place]) == UNKNOWN_NOTE


def test_notes_of_nonsense() -> None:
    for note in ("encrypted:", "encrypted:x", "encrypted:☼", "encrypted:" + "A" * 40):
        assert Hiding(KEY).open_note(note) == UNKNOWN_NOTE
    assert Hiding(KEY).open_note("an ordinary one") == "an ordinary one"


@pytest.mark.parametrize("size", [0, 1, 70_000, PART - 1, PART, PART + 1, 2 * PART])
def test_a_piece_comes_back_in_whatever_parts_it_is_read(size: int) -> None:
    content = (b"0123456789" * (size // 10 + 1))[:size]
    stored = Hiding(KEY).hide_piece(digest_of(content), content)
    assert stored == Hiding(KEY).hide_piece(digest_of(content), memoryview(bytearray(content)))  # once for a content
    for step in (7 if size < 100_000 else 70_001, PART, len(stored)):
        assert opened_piece(Hiding(KEY), stored, step) == content
    if size:
        with pytest.raises(CorruptRecord):
            opened_piece(Hiding(OTHER), stored, PART)


def test_parts_of_pieces_cannot_be_moved() -> None:
    content = bytes(range(256)) * 8192  # two parts that are equal
    hiding = Hiding(KEY)
    stored = hiding.hide_piece(digest_of(content), content)
    first = 12 + 4 + int.from_bytes(stored[12:16], "little")
    head, one, two = stored[:12], stored[12:first], stored[first:]
    assert one != two  # that they are is not to be seen
    for changed in (head + two + one, head + one + one, head + one, head + one + two + one, head + two, b"", head):
        with pytest.raises(CorruptRecord):
            opened_piece(hiding, changed, PART)


def test_another_thread_may_take_a_new_salt_at_any_moment() -> None:
    class Raced(Hiding):
        """Between any two looks at the salt, another thread has taken a new one."""

        @property
        def _salt(self) -> bytes:
            return hidden.new_salt()

        @_salt.setter
        def _salt(self, salt: bytes) -> None: ...

    raced = Raced(KEY)
    for _ in range(5):
        assert Hiding(KEY).open(raced.hide(frame_of(), nowhere)) == frame_of()
        assert Hiding(KEY).open_note(raced.hide_note("note")) == "note"


def test_threads_hide_and_open_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden, "_MESSAGES", 3)
    monkeypatch.setattr(hidden, "_CIPHERS", 2)
    hiding, frames, wrong = Hiding(KEY), [frame_of(bytes([n]) * 50) for n in range(20)], []

    def work() -> None:
        for frame in frames * 5:
            if hiding.open(hiding.hide(frame, nowhere)) != frame:
                wrong.append(frame)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


def test_a_salt_is_for_so_many_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hidden, "_MESSAGES", 4)
    hiding = Hiding(KEY)
    payloads = [parse_unverified(hiding.hide(frame_of(), nowhere)).payload for _ in range(10)]
    assert len({payload[:16] for payload in payloads}) == 3
    assert len({payload[16:28] for payload in payloads}) == 10
