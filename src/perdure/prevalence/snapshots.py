"""Snapshots: a whole system in one file, written beside what goes on, read back before it counts.

    head | text | pickle of the root | length of the pickle | CRC-32 of all before | tag

- Order: written under another name in slices, each synced; synced; read back and verified; renamed; the directory
  synced. Only then may older files go.
- The tag is keyed BLAKE2b over all before it. Nothing is unpickled before it was found to be good.
- With `compress` the pickle is stored as one Zstandard frame. Of an encrypted system each slice is hidden by itself:
  its length (4 bytes), the message (see `perdure.records.encryption`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple, cast
from zlib import crc32

from perdure.errors import CorruptJournal, NewerFormat, PerdureError, StorageError, UntrustedRecord
from perdure.files import Files
from perdure.held import HeldFile
from perdure.prevalence.folder import SNAPSHOT, Folder
from perdure.prevalence.packing import required
from perdure.prevalence.pickles import dump_deep, dump_system, load_system
from perdure.records.compression import LEVEL
from perdure.records.encryption import Cipher, new_salt
from perdure.records.seal import TAG_SIZE, Key

MAGIC = b"\xb7PS"
FORMAT = 1
HEAD = Struct("<3sBII")  # magic, format, CRC of the text, length of the text
TAIL = Struct("<QI")
SLICE = 1 << 20  # bytes that are written and synced at a time, so that the journal's syncs do not wait for long


class Told(NamedTuple):
    """What the head of a snapshot tells."""

    system: str
    sequence: int  # the last command in it
    time: float  # of that command
    made: float
    code: str
    compressed: bool
    salt: str = ""  # of what is encrypted; "": it is not


class Snapshot(NamedTuple):
    """A snapshot that was verified."""

    told: Told
    data: memoryview  # the pickle, compressed or not, encrypted or not
    key: Key | None

    def load(self, path: str) -> Any:
        """The root that is in it."""
        data = self.data if not self.told.salt else memoryview(self._opened())
        if not self.told.compressed:
            return load_system(data, path)
        import zstandard  # only who compresses pays for it

        try:
            plain = zstandard.ZstdDecompressor().stream_reader(data).readall()
        except zstandard.ZstdError as error:
            raise CorruptJournal(f"The snapshot {path} cannot be unpacked: {error}.", path=path, offset=0) from error
        return load_system(plain, path)

    def _opened(self) -> bytes:
        cipher = Cipher(required(self.key), bytes.fromhex(self.told.salt))
        parts: list[bytes] = []
        at = 0
        while at < len(self.data):
            size = int.from_bytes(self.data[at : at + 4], "little")
            parts.append(cipher.open(self.data[at + 4 : at + 4 + size], _about(len(parts), self.told.sequence)))
            at += 4 + size
        return b"".join(parts)


class _Slices:
    """Takes the small writes of a pickler, and writes large ones to a file, each synced."""

    def __init__(self, file: HeldFile, key: Key, start: int, told: Told):
        self._told = told
        self._cipher = Cipher(key, bytes.fromhex(told.salt)) if told.salt else None
        self._count = 0
        self._file = file
        self._at = start
        self._waiting: list[bytes] = []
        self._size = 0
        self.crc = 0
        self.sealer = key.fork()
        self.length = 0

    def write(self, data: bytes) -> None:
        self._waiting.append(bytes(data))
        self._size += len(data)
        if self._size >= SLICE:
            self.flush()

    def flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        if self._cipher is not None:
            data = self._cipher.hide(data, _about(self._count, self._told.sequence))
            data, self._count = len(data).to_bytes(4, "little") + data, self._count + 1
        self.put(data)
        self.length += len(data)

    def put(self, data: bytes) -> None:
        self.crc = crc32(data, self.crc)
        self.sealer.update(data)
        self._file.write(self._at, data)
        self._file.sync()
        self._at += len(data)


def write_snapshot(files: Files, path: str, root: Any, told: Told, key: Key) -> None:
    """Write it to `path`, durably but for the file's name. What the user's classes raise comes out as it is."""
    try:
        _write(files, path, root, told, key, dump_system)
    except RecursionError:
        _write(files, path, root, told, key, dump_deep)


def _write(files: Files, path: str, root: Any, told: Told, key: Key, dump: Any) -> None:
    plain = told._asdict()
    if not told.salt:
        del plain["salt"]
    text = json.dumps(plain, separators=(",", ":")).encode()
    begun = HEAD.pack(MAGIC, FORMAT, crc32(text), len(text)) + text
    files.write_new(path, b"")
    file = HeldFile(files, path)
    try:
        slices = _Slices(file, key, 0, told)
        slices.put(begun)
        if told.compressed:
            import zstandard

            with zstandard.ZstdCompressor(level=LEVEL).stream_writer(cast(Any, slices), closefd=False) as packing:
                dump(root, packing)
        else:
            dump(root, slices)
        slices.flush()
        slices.put(slices.length.to_bytes(8, "little"))
        slices.put(slices.crc.to_bytes(4, "little"))
        file.write(slices._at, slices.sealer.digest())
        file.sync()
    finally:
        file.close()


def put_in_place(folder: Folder, written: str, sequence: int, key: Key) -> None:
    """Verify what was written, and give it the name of a snapshot, durably; removes it if it is not good."""
    try:
        read_snapshot(folder.files, written, folder.id, key)
    except PerdureError as error:
        with suppress(StorageError):
            folder.files.unlink(written)
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"A snapshot was written, but does not read back: {error.message}", hint="Check the disk.", path=written
        ) from error
    path = folder.numbered(SNAPSHOT, sequence)
    folder.files.rename(written, path)
    folder.files.sync_directory(folder.directory)


def read_snapshot(files: Files, path: str, system: str, key: Key | None) -> Snapshot:
    """A snapshot whose seal is good (without a key: whose CRC is); `CorruptJournal`, `UntrustedRecord` else."""
    data = files.read(path)
    if not data:
        raise CorruptJournal(f"The snapshot {path} is {'missing' if data is None else 'empty'}.", path=path, offset=0)
    try:
        magic, format_, crc, length = HEAD.unpack_from(data)
        if magic == MAGIC and format_ > FORMAT:
            raise NewerFormat(
                f"The snapshot {path} has format {format_}; this release reads up to {FORMAT}.",
                hint="Install a later release.",
                path=path,
            )
        text = data[HEAD.size : HEAD.size + length]
        if magic != MAGIC or crc32(text) != crc:
            raise ValueError("its head is wrong")
        told = Told(**json.loads(text))
        start, end = HEAD.size + length, len(data) - TAIL.size - TAG_SIZE
        size, whole = TAIL.unpack_from(data, end)
        if size != end - start:
            raise ValueError("its length is wrong")
        view = memoryview(data)
        sealed = key is not None and _is_sealed(view, key)
        if not sealed and crc32(view[: end + 8]) != whole:
            raise ValueError("its checksum is wrong")
    except (ValueError, KeyError, TypeError, StructError) as error:
        raise CorruptJournal(f"The snapshot {path} is damaged: {error}.", path=path, offset=0) from error
    if told.system != system:
        raise CorruptJournal(f"The snapshot {path} is of another system ({told.system}).", path=path, offset=0)
    if key is not None and not sealed:
        raise UntrustedRecord(
            f"The snapshot {path} does not carry a good seal of the key {key.name}.",
            hint="If you know where it comes from, open it with trust='all'.",
            path=path,
        )
    return Snapshot(told, view[start:end], key)


def salt_for(folder: Folder) -> str:
    """A new salt for a snapshot of that system, if it is encrypted."""
    return new_salt().hex() if folder.is_encrypted else ""


def _about(slice_: int, sequence: int) -> bytes:
    return b"snapshot" + sequence.to_bytes(8, "little") + slice_.to_bytes(8, "little")


def _is_sealed(data: memoryview, key: Key) -> bool:
    state = key.fork()
    state.update(data[:-TAG_SIZE])
    return state.digest() == bytes(data[-TAG_SIZE:])


def newest_good(
    folder: Folder, key: Key | None, until: int | None = None
) -> Iterator[tuple[int, Snapshot | PerdureError]]:
    """The snapshots up to that command, the newest first, each verified, or the error that it is not good for."""
    for sequence in reversed(folder.numbers(SNAPSHOT)):
        if until is not None and sequence > until:
            continue
        path = folder.numbered(SNAPSHOT, sequence)
        try:
            found = read_snapshot(folder.files, path, folder.id, key)
            if found.told.sequence != sequence:
                raise CorruptJournal(f"The snapshot {path} is that of command {found.told.sequence}.", path=path)
            yield sequence, found
        except (CorruptJournal, UntrustedRecord) as error:
            yield sequence, error
