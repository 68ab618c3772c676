"""What the contract says of large pieces: stored once each, and dropped when nothing names them.

- A part of `BackendContract`, whose fixture `backend` it uses.
"""

from __future__ import annotations

from hashlib import blake2b

import pytest

from perdure.backends.base import Backend
from perdure.errors import CorruptRecord
from perdure.records.buffers import OUTSIDE, Piece, pack_table
from perdure.records.values import BUFFERED, Draft
from perdure.testing.backend_drafts import commit, draft


def digest_of(content: bytes) -> str:
    """A name for the piece, as `perdure.records.buffers` gives it."""
    return blake2b(content, digest_size=32).hexdigest()


def _naming(id_: str, digest: str) -> Draft:
    """A draft whose payload names a piece."""
    return draft(id_, pack_table([Piece(digest, 70_000, OUTSIDE)]))._replace(flags=BUFFERED)


class BuffersContract:
    """What holds for every backend that keeps large pieces."""

    @pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
    def test_a_piece_comes_back_as_it_was(self, backend: Backend, size: int) -> None:
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        digest = digest_of(content)
        commit(backend, draft("Item.1"), buffers={digest: memoryview(content)})
        assert bytes(backend.buffer(digest)) == b"".join(map(bytes, backend.buffer_parts(digest))) == content
        assert backend.buffers() == {digest: size}

    def test_pieces_are_kept_once(self, backend: Backend) -> None:
        first, second = b"a" * 70_000, b"b" * 70_000
        commit(backend, draft("Item.1"), buffers={digest_of(first): first})
        commit(backend, draft("Item.2"), buffers={digest_of(first): first, digest_of(second): bytearray(second)})
        assert backend.buffers() == {digest_of(first): 70_000, digest_of(second): 70_000}
        assert bytes(backend.buffer(digest_of(second))) == second

    def test_what_is_not_there_is_damage(self, backend: Backend) -> None:
        with pytest.raises(CorruptRecord, match="0000"):
            backend.buffer("0" * 64)

    def test_pieces_that_a_later_version_names_are_not_dropped(self, backend: Backend) -> None:
        content, other = b"a" * 70_000, b"b" * 70_000
        digest = digest_of(content)
        commit(backend, draft("Item.1"), buffers={digest: content, digest_of(other): other})
        commit(backend, _naming("Item.2", digest))
        commit(backend, draft("Item.2", base=2), draft("Item.3"), seen=2)  # an older version names it now
        assert backend.drop_buffers([digest, digest_of(other)], 1) == [digest_of(other)]
        assert backend.buffers() == {digest: 70_000}
        assert backend.drop_buffers([digest], 1) == []
        backend.pack(3)
        assert backend.drop_buffers([digest], 1) == [digest]
        assert backend.buffers() == {}

    def test_pieces_that_nothing_names_are_dropped_whatever_is_saved_meanwhile(self, backend: Backend) -> None:
        content = b"a" * 70_000
        digest = digest_of(content)
        commit(backend, draft("Item.1"), buffers={digest: content})
        commit(backend, draft("Item.2"))
        assert set(backend.drop_buffers([digest, "0" * 64], 1)) == {digest, "0" * 64}
        assert backend.buffers() == {}
        with pytest.raises(CorruptRecord):
            backend.buffer(digest)
        commit(backend, draft("Item.3"), buffers={digest: content})
        assert bytes(backend.buffer(digest)) == content

    def test_what_is_given_out_may_be_written_to_without_harm(self, backend: Backend) -> None:
        content = b"a" * 70_000
        digest = digest_of(content)
        commit(backend, draft("Item.1"), buffers={digest: content})
        view = memoryview(backend.buffer(digest))
        if not view.readonly:
            view[:1] = b"b"
        assert bytes(backend.buffer(digest)) == content
