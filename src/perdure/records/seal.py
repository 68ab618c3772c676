"""Seals: keyed BLAKE2b over a whole frame (RFC 7693; 32-byte key, 16-byte tag).

- A `Key` belongs to one store; its id, a digest of the secret, may be shown, the secret may not.
- Tags are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

TAG_SIZE = 16
SECRET_SIZE = 32


class Key:
    """The secret that a store's records are sealed with."""

    __slots__ = ("_base", "fork", "id", "secret")

    def __init__(self, secret: bytes):
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a key has {SECRET_SIZE} bytes, not {len(secret)}")
        self.secret = secret
        digest = hashlib.blake2b(secret, digest_size=4, person=b"perdure key id").digest()
        self.id = int.from_bytes(digest, "little")
        self._base = hashlib.blake2b(key=secret, digest_size=TAG_SIZE)
        self.fork = self._base.copy  # for loops over many frames: `update` what it gives, `digest` is the tag

    @classmethod
    def new(cls) -> Key:
        return cls(secrets.token_bytes(SECRET_SIZE))

    def tag(self, data: bytes) -> bytes:
        """The 16-byte tag of `data`."""
        state = self._base.copy()
        state.update(data)
        return state.digest()

    def verifies(self, data: bytes, tag: bytes) -> bool:
        return hmac.compare_digest(self.tag(data), tag)

    @property
    def name(self) -> str:
        """The key's id as people see it: eight hexadecimal digits."""
        return f"{self.id:08x}"

    def __repr__(self) -> str:
        return f"<Key {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self.secret, other.secret)

    def __hash__(self) -> int:
        return self.id

    def __reduce__(self) -> tuple[type[Key], tuple[bytes]]:
        return Key, (self.secret,)


def own_secret(key: Key) -> bytes | None:
    """What the compiled part seals with by itself; None for a key of another kind, which seals in its own way."""
    return key.secret if type(key) is Key else None
