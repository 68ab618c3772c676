"""Code records beside a journal: which code made a file of it, or a snapshot; each state of the code once.

- A file `code-DIGEST` has the commit, the modules with their texts, the packages (`perdure.code`), compressed, with a
  CRC-32 before it and a seal after it. Journal files and snapshots name it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable

from perdure.code.capture import capture
from perdure.code.values import CodeState
from perdure.errors import CorruptRecord, UntrustedRecord
from perdure.pickling.classes import MAIN
from perdure.prevalence.folder import CODE, Folder
from perdure.prevalence.packing import required
from perdure.records.encryption import SALT_SIZE, Cipher, new_salt
from perdure.records.seal import TAG_SIZE, Key

HIDDEN = b"\xb7PE"  # before the salt of a code record that is encrypted


def keep_code(folder: Folder, key: Key, modules: Iterable[str]) -> str:
    """Keep what code these modules are, durably; gives the digest under which it is found."""
    state = capture([module for module in modules if module not in ("builtins", "perdure")] or [MAIN])
    path = folder.path(f"{CODE}-{state.digest}")
    if folder.files.kind(path) is None:
        plain = json.dumps({"state": state.as_plain(), "texts": dict(state.texts)}, separators=(",", ":"))
        packed = zlib.compress(plain.encode())
        if folder.is_encrypted:
            salt = new_salt()
            packed = HIDDEN + salt + Cipher(key, salt).hide(packed, state.digest.encode())
        data = zlib.crc32(packed).to_bytes(4, "little") + packed
        folder.files.replace_durably(path, data + key.tag(data))
    return state.digest


def read_code(folder: Folder, key: Key | None, digest: str) -> CodeState | None:
    """The code record of that digest, or None; raises `CorruptRecord` or `UntrustedRecord`."""
    path = folder.path(f"{CODE}-{digest}")
    data = folder.files.read(path)
    if data is None:
        return None
    body, tag = data[:-TAG_SIZE], data[-TAG_SIZE:]
    if zlib.crc32(body[4:]).to_bytes(4, "little") != body[:4]:
        raise CorruptRecord(f"{path} is damaged.", path=path)
    if key is not None and not key.verifies(body, tag):
        raise UntrustedRecord(f"{path} does not carry a good seal of the key {key.name}.", path=path)
    packed = body[4:]
    if packed.startswith(HIDDEN):
        start = len(HIDDEN) + SALT_SIZE
        packed = Cipher(required(key), packed[len(HIDDEN) : start]).open(packed[start:], digest.encode())
    plain = json.loads(zlib.decompress(packed))
    return CodeState.from_plain(plain["state"], plain["texts"])
