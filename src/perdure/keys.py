"""The keys of this user: where the secrets live that seal the records of stores.

- A key is durable before anybody seals with it; it is never overwritten and never made twice silently.
- The directory is the user's alone (mode 0700), and so is every file in it (0600).
- A key file is text: a header with the key's name, the secret in hexadecimal digits, a checksum.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from perdure.errors import AccessDenied, CorruptRecord, KeyMissing, NewerFormat
from perdure.files import Files
from perdure.records.seal import Key

KEY_FORMAT = 1
_HEADER = re.compile(r"perdure key (\d+) ([0-9a-f]{8})")
_SUFFIX = ".key"
_LONGEST = 4096  # bytes that are looked at: no key file has as many


class KeyRing:
    """The keys in one directory: the user's configuration directory, unless another is given."""

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, files: Files | None = None):
        self.directory = Path(directory) if directory is not None else _default_directory()
        self._files = files or Files()

    def get(self, key_id: int) -> Key | None:
        """The key of that id, or None if it is not on this machine."""
        path = self._path(key_id)
        if self._files.kind(str(path)) is None:
            return None
        key = read_key_file(path, files=self._files)
        if key.id != key_id:
            raise CorruptRecord(f"{path} holds the key {key.name}.", hint="Give it its own name.", path=str(path))
        return key

    def require(self, key_id: int) -> Key:
        """The key of that id; raises `KeyMissing`, which says how to bring it here."""
        key = self.get(key_id)
        if key is None:
            raise KeyMissing(
                f"The key {key_id:08x} is not on this machine.",
                hint="Copy its file from where the store was made, and take it in with: perdure key import FILE",
                path=str(self.directory),
            )
        return key

    def make(self) -> Key:
        """A new key, durable when this returns."""
        key = Key.new()
        while self._files.kind(str(self._path(key.id))) is not None:
            key = Key.new()  # ids have 32 bits only
        self.add(key)
        return key

    def add(self, key: Key) -> None:
        """Keep a key from elsewhere; adding it twice is fine."""
        self._make_directory()
        with self._files.lock(str(self.directory / "lock"), create=True):
            write_key_file(self._path(key.id), key, files=self._files)

    def personal(self) -> Key:
        """The key of `perdure.dumps` and other work without a store; made when it is first asked for."""
        mark = self.directory / "personal"
        key = self._named_by(mark)
        if key is not None:
            return key
        self._make_directory()
        with self._files.lock(str(self.directory / "personal.lock"), create=True):
            key = self._named_by(mark)
            if key is None:
                key = self.make()
                self._files.replace_durably(str(mark), f"{key.name}\n".encode(), mode=0o600)
        return key

    def names(self) -> list[str]:
        """The names of all keys here, sorted."""
        if self._files.kind(str(self.directory)) is None:
            return []
        found = (name.removesuffix(_SUFFIX) for name in self._files.list(str(self.directory)) if name.endswith(_SUFFIX))
        return sorted(name for name in found if re.fullmatch("[0-9a-f]{8}", name))

    def _named_by(self, mark: Path) -> Key | None:
        data = self._files.read(str(mark))
        if data is None:
            return None
        name = data.decode("ascii", "replace").strip()
        if not re.fullmatch("[0-9a-f]{8}", name):
            raise CorruptRecord(f"{mark} does not name a key.", hint="Write the name of a key into it.", path=str(mark))
        return self.require(int(name, 16))

    def _path(self, key_id: int) -> Path:
        return self.directory / f"{key_id:08x}{_SUFFIX}"

    def _make_directory(self) -> None:
        self._files.make_directories(str(self.directory), mode=0o700)


def read_key_file(path: str | os.PathLike[str], *, files: Files | None = None) -> Key:
    """The key in a file that `write_key_file` made; raises `KeyMissing`, `CorruptRecord` or `NewerFormat`."""
    data = (files or Files()).read(os.fspath(path), 0, _LONGEST)
    if data is None:
        raise KeyMissing(
            f"There is no key file {path}.", hint="Give the file to: perdure key import FILE", path=str(path)
        )
    lines = data.decode("ascii", "replace").split()
    header = _HEADER.match(" ".join(lines[:4]))
    if header is None:
        raise CorruptRecord(f"{path} is no key file of perdure.", path=str(path))
    if int(header[1]) > KEY_FORMAT:
        raise NewerFormat(
            f"The key file {path} has format {header[1]}; this release reads up to {KEY_FORMAT}.",
            hint="Install a later release.",
            path=str(path),
        )
    if len(lines) != 6 or not re.fullmatch("[0-9a-f]{64}", lines[4]) or lines[5] != _check(lines[4]):
        raise CorruptRecord(f"The key file {path} is damaged.", hint="Take it from a backup.", path=str(path))
    key = Key(bytes.fromhex(lines[4]))
    if key.name != header[2]:
        raise CorruptRecord(f"The key file {path} names another key than it holds.", path=str(path))
    return key


def write_key_file(path: str | os.PathLike[str], key: Key, *, files: Files | None = None) -> None:
    """Write a key for safe keeping (mode 0600), durably; never over another key or another file."""
    files = files or Files()
    place = os.path.abspath(path)
    if files.kind(place) is not None:
        if read_key_file(place, files=files) == key:
            return
        raise AccessDenied(
            f"{path} holds another key, which is not overwritten.", hint="Choose another name.", path=str(path)
        )
    secret = key.secret.hex()
    text = f"perdure key {KEY_FORMAT} {key.name}\n{secret}\n{_check(secret)}\n"
    files.replace_durably(place, text.encode(), mode=0o600)


def _check(secret: str) -> str:
    return hashlib.blake2b(secret.encode(), digest_size=8, person=b"perdure key file").hexdigest()


def _default_directory() -> Path:
    from platformdirs import user_config_path

    return user_config_path("perdure", appauthor=False) / "keys"
