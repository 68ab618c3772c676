"""Hiding bytes from who does not have the key: AES-256-GCM (NIST SP 800-38D), by the package `cryptography`.

- The key of a cipher is derived from the secret of a `Key` and a salt of 16 random bytes, by keyed BLAKE2b with a
  purpose of its own: neither seals nor other salts tell anything about it. A salt is for one file, or one record; it is
  no secret.
- Each message has a random nonce of 12 bytes before it. NIST allows 2**32 messages with random ones: a salt is for far
  fewer. A counter would have to be durable before it is used, also where a write is taken back and done again.
- `about` says what the message is and where it belongs; it is not stored, and what is given when it is opened must be
  the same. So nothing can be moved to another place, even by who may write to the disk.
- The length stays visible. Nothing is compressed here: who compresses does so before.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import cache
from typing import Any

from perdure.errors import DriverMissing, UntrustedRecord
from perdure.records.seal import Key
from perdure.records.values import Buffer

SALT_SIZE = 16
NONCE_SIZE = 12
OVERHEAD = NONCE_SIZE + 16  # bytes that a message is longer by


class Cipher:
    """Hides and opens messages under one salt; raises `DriverMissing` where `cryptography` is not installed."""

    def __init__(self, key: Key, salt: bytes):
        if len(salt) != SALT_SIZE:
            raise ValueError(f"a salt has {SALT_SIZE} bytes, not {len(salt)}")
        derived = hashlib.blake2b(key=key.secret, salt=salt, person=b"perdure encrypt", digest_size=32)
        self._aead, self._refusal = _library()[0](derived.digest()), _library()[2]

    def hide(self, content: Buffer, about: bytes) -> bytes:
        """The message for that content: nonce, what is hidden, tag."""
        nonce = secrets.token_bytes(NONCE_SIZE)
        hidden: bytes = self._aead.encrypt(nonce, content, about)
        return nonce + hidden

    def open(self, message: Buffer, about: bytes) -> bytes:
        """The content of a message; raises `UntrustedRecord` where key, salt, `about` or a byte of it are others."""
        view = memoryview(message)
        try:
            content: bytes = self._aead.decrypt(bytes(view[:NONCE_SIZE]), view[NONCE_SIZE:], about)
        except (self._refusal, ValueError) as error:
            raise UntrustedRecord(
                "What is encrypted cannot be opened: it was changed, moved, or made with another key.",
                hint="Take it from a backup, or give the key that it was made with.",
            ) from error
        return content


def siv_cipher(key: Key) -> tuple[Any, type[Exception]]:
    """AES-SIV (RFC 5297) with the key for large pieces, and what it raises: equal messages are equal when hidden.

    For what is large enough, and named by its content, so that this tells no more than the names do.
    """
    _, siv, refusal = _library()
    derived = hashlib.blake2b(key=key.secret, person=b"perdure pieces", digest_size=64)
    return siv(derived.digest()), refusal


def require_library() -> None:
    """Raise `DriverMissing` where nothing can be encrypted."""
    _library()


def new_salt() -> bytes:
    """A salt that nothing else has."""
    return secrets.token_bytes(SALT_SIZE)


@cache
def _library() -> tuple[Any, Any, type[Exception]]:
    """The ciphers' classes, and what they raise; imported when something is first encrypted."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
    except ImportError as error:
        raise DriverMissing(
            "Encryption needs the package 'cryptography', which is not installed.",
            hint="Install it with: pip install 'perdure[encryption]'.",
        ) from error
    return AESGCM, AESSIV, InvalidTag
