"""What an encrypted store keeps: frames inside of frames, notes of commits, large pieces; see decision 043.

    hidden record   head, id, code, class, references as ever; no fields; the payload is
                    table of large pieces, as they are at rest | salt (16) | message: the whole frame that is hidden
    hidden note     "encrypted:" | base64 of salt, message
    hidden piece    magic (4) | length of the content (8) | for each MiB of it: length of the message (4), message;
                    inside, one byte (1: compressed) and that part

- A message of a record or note is `perdure.records.encryption`'s: AES-256-GCM with a random nonce, under a key that is
  derived for a salt. A process takes a new salt now and then, so random nonces are few for each.
- The id and the revision of a record are authenticated with its message, and the seal is over all of the frame.
- A piece is AES-SIV (RFC 5297), which needs no nonce: one content is one message, so that the digest of what is stored
  names it, nothing is stored twice, and who compares digests and lengths needs no key. The length and the number of
  the part are authenticated.
- What is hidden was compressed before, never together with what is somebody else's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import NamedTuple

from perdure.errors import CorruptRecord, StorageError, UntrustedRecord
from perdure.records.buffers import OUTSIDE_FIXED, PART, Piece, pack_table, parts_of, read_table, table_size
from perdure.records.compression import compressed, decompressed, is_promising
from perdure.records.encryption import SALT_SIZE, Cipher, new_salt, siv_cipher
from perdure.records.frame import TAIL, enclosing, head_of, parse_unverified
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.values import BUFFERED, ENCRYPTED, INTERNAL, KEPT, Buffer

NOTE = "encrypted:"
UNKNOWN_NOTE = "(encrypted)"
MOST = 2**31 - 2**16  # bytes of a frame that the library encrypts in one call

_MAGIC = b"\xb7PH\x01"
_HEAD = len(_MAGIC) + 8  # bytes of a piece before its first message
_LENGTH = 4  # bytes before each message of a piece
_SHOWN = INTERNAL | KEPT | BUFFERED  # flags of what is hidden that are shown
_MESSAGES = 1 << 24  # under one salt; NIST SP 800-38D allows 2**32
_CIPHERS = 1000  # that are remembered, by their salts


class AtRest(NamedTuple):
    """A large piece as it is stored: its digest, its length, and that of the content; in bytes."""

    digest: str
    stored: int
    length: int


class StoredPiece(bytes):
    """A large piece as it is at rest, for who puts one back under the digest that it has there."""


class Hiding:
    """Hides and opens what belongs to one store, with its key. Any number of threads may use it."""

    def __init__(self, key: Key):
        self.key = key
        self._ciphers: dict[bytes, Cipher] = {}
        self._salt, self._left = b"", 0
        self._siv, self._refusal = siv_cipher(key)

    # -- records -----------------------------------------------------------------------------------------

    def hide(self, frame: bytes, pieces: Callable[[str], AtRest]) -> bytes:
        """The frame in which that one is hidden; `pieces` tells where the large pieces that it names are at rest."""
        head = head_of(frame)
        flags, revision, id_at, id_end = head.about
        id_ = frame[id_at:id_end]
        if len(frame) > MOST:
            raise StorageError(
                f"{id_.decode()} has {len(frame)} bytes, which are too many to be encrypted at once.",
                hint="Give parts of it an id of their own: classes of Persistable.",
                ids=(id_.decode(),),
            )
        table = b""
        if flags & BUFFERED:
            named = (pieces(piece.digest) for piece in read_table(frame[head.payload_at :]))
            table = pack_table([Piece(each.digest, each.stored, OUTSIDE_FIXED) for each in named])
        salt, cipher = self._current()
        payload = b"".join((table, salt, cipher.hide(frame, _about(revision, id_))))
        return enclosing(frame, head, flags & _SHOWN | ENCRYPTED, payload, self.key)

    def open(self, frame: bytes) -> bytes | None:
        """The frame that is hidden in that one; None where it is not sealed with the key, or was changed.

        Whether what comes out has a good seal itself is left to whoever decodes it.
        """
        if not self.key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:]):
            return None
        head = head_of(frame)
        flags, revision, id_at, id_end = head.about
        start = head.payload_at
        try:
            start += table_size(frame[start:]) if flags & BUFFERED else 0
            cipher = self._cipher(frame[start : start + SALT_SIZE])
            return cipher.open(memoryview(frame)[start + SALT_SIZE : -TAIL], _about(revision, frame[id_at:id_end]))
        except (CorruptRecord, UntrustedRecord, ValueError):  # a salt that is cut short
            return None

    def pieces_of(self, frame: bytes, hidden: bytes) -> dict[str, AtRest]:
        """Where the large pieces that a frame names are at rest, as the one tells in which it was hidden."""
        inner, outer = read_table(parse_unverified(frame).payload), read_table(parse_unverified(hidden).payload)
        pairs = zip(inner, outer, strict=False)
        return {here.digest: AtRest(there.digest, there.length, here.length) for here, there in pairs}

    # -- notes -------------------------------------------------------------------------------------------

    def hide_note(self, note: str) -> str:
        """The note as it is stored; one that is empty stays so."""
        if not note:
            return note
        salt, cipher = self._current()
        return NOTE + base64.b64encode(salt + cipher.hide(note.encode("utf-8", "surrogatepass"), b"note")).decode()

    def open_note(self, note: str) -> str:
        """The note as it was given; `UNKNOWN_NOTE` where it cannot be had."""
        if not note.startswith(NOTE):
            return note
        try:
            stored = base64.b64decode(note.removeprefix(NOTE), validate=True)
            return self._cipher(stored[:SALT_SIZE]).open(stored[SALT_SIZE:], b"note").decode("utf-8", "surrogatepass")
        except (UntrustedRecord, ValueError, binascii.Error):
            return UNKNOWN_NOTE

    # -- large pieces ------------------------------------------------------------------------------------

    def hide_piece(self, digest: str, content: Buffer) -> bytes:
        """A large piece as it is stored. Raises `TransactionError` if somebody changes it meanwhile."""
        length = memoryview(content).nbytes
        head = _MAGIC + length.to_bytes(8, "little")
        promising = is_promising(memoryview(content).cast("B"))
        found = [head]
        for number, part in enumerate(parts_of(digest, content)):
            smaller = compressed(part) if promising else None
            body = b"".join((b"\0", part) if smaller is None else (b"\1", smaller))
            message: bytes = self._siv.encrypt(body, [head, number.to_bytes(8, "little")])
            found += (len(message).to_bytes(_LENGTH, "little"), message)
        return b"".join(found)

    def open_piece(self, stored: Iterator[Buffer], damaged: Callable[[], CorruptRecord]) -> Iterator[bytes]:
        """The content of a large piece, a MiB at a time; raises what `damaged` gives where that cannot be had."""
        reading = _Reading(stored)
        head = reading.take(_HEAD)
        if len(head) != _HEAD or not head.startswith(_MAGIC):
            raise damaged()
        left, number = int.from_bytes(head[len(_MAGIC) :], "little"), 0
        while left:
            length = min(left, PART)
            message = reading.take(int.from_bytes(reading.take(_LENGTH), "little"))
            try:
                body: bytes = self._siv.decrypt(message, [head, number.to_bytes(8, "little")])
                part = decompressed(memoryview(body)[1:], length) if body[:1] == b"\1" else body[1:]
            except (self._refusal, ValueError, CorruptRecord) as error:
                raise damaged() from error
            if len(part) != length:
                raise damaged()
            yield part
            left, number = left - length, number + 1
        if reading.take(1):
            raise damaged()

    # -- ciphers -----------------------------------------------------------------------------------------

    def _current(self) -> tuple[bytes, Cipher]:
        """The salt under which this process hides now."""
        salt = self._salt  # read once: other threads may change it meanwhile
        if self._left <= 0 or not salt:
            salt = self._salt = new_salt()
            self._left = _MESSAGES
        self._left -= 1
        return salt, self._cipher(salt)

    def _cipher(self, salt: bytes) -> Cipher:
        found = self._ciphers.get(salt)
        if found is None:
            if len(self._ciphers) >= _CIPHERS:
                self._ciphers.clear()
            found = self._ciphers[salt] = Cipher(self.key, salt)
        return found


class _Reading:
    """So many bytes at a time of what comes in parts."""

    def __init__(self, parts: Iterator[Buffer]):
        self._parts = parts
        self._left = bytearray()

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or what there is."""
        while len(self._left) < count:
            part = next(self._parts, None)
            if part is None:
                break
            self._left += part
        taken = bytes(self._left[:count])
        del self._left[:count]
        return taken


def _about(revision: int, id_: bytes) -> bytes:
    return b"record" + revision.to_bytes(8, "little") + id_
