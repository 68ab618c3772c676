"""Arguments of commands as they are stored where a system is compressed or encrypted.

    how (one byte: 1 compressed, 2 encrypted) | length, if it is compressed (8 bytes) | the rest

- Names of commands, times and sizes stay readable, as headers of records do; `perdure prevalence log` shows them.
- Encrypted is under the file's seed as salt, and the number of the command: see `perdure.records.encryption`.
- Compressed are arguments of some KiB and more, where it pays.
"""

from __future__ import annotations

from perdure.errors import CorruptRecord, KeyMissing
from perdure.records.compression import SMALLEST, compressed, decompressed
from perdure.records.encryption import Cipher
from perdure.records.seal import Key

COMPRESSED, ENCRYPTED = 1, 2


class Packer:
    """Packs arguments for one journal file."""

    def __init__(self, key: Key | None, seed: bytes, *, compress: bool):
        self._cipher = None if key is None else Cipher(key, seed)
        self._compress = compress

    def pack(self, short: bytes, sequence: int) -> bytes | None:
        """What is stored in place of the arguments; None: they stay as they are."""
        how, content = 0, short
        if self._compress and len(short) >= SMALLEST and (smaller := compressed(short)) is not None:
            how, content = COMPRESSED, len(short).to_bytes(8, "little") + smaller
        if self._cipher is not None:
            how, content = how | ENCRYPTED, self._cipher.hide(content, _about(sequence, how))
        return bytes([how]) + content if how else None


class Unpacker:
    """Gives the arguments back that one journal file has; the cipher is made when something encrypted is met."""

    def __init__(self, key: Key | None, seed: bytes):
        self._key, self._seed = key, seed
        self._cipher: Cipher | None = None

    def unpack(self, stored: bytes, sequence: int) -> bytes:
        """The arguments; raises `KeyMissing`, `UntrustedRecord` or `CorruptRecord`."""
        how, content = stored[0], stored[1:]
        if how & ENCRYPTED:
            if self._cipher is None:
                self._cipher = Cipher(required(self._key), self._seed)
            content = self._cipher.open(content, _about(sequence, how & COMPRESSED))
        if how & COMPRESSED:
            length = int.from_bytes(content[:8], "little")
            content = decompressed(content[8:], length)
        elif not how:
            raise CorruptRecord("The arguments of a command are stored in a way that is none.")
        return content


def required(key: Key | None) -> Key:
    """The key; raises `KeyMissing`, as what is encrypted cannot be read without it, whoever is trusted."""
    if key is None:
        raise KeyMissing("The system is encrypted, and cannot be read without its key.", hint="Give it as key=…")
    return key


def _about(sequence: int, how: int) -> bytes:
    return b"command" + bytes([how]) + sequence.to_bytes(8, "little")
