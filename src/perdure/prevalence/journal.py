"""The journal as it is written: entries appended to a file that was filled with zeros, and made durable.

- A file is written by one opening of the system only; the next one begins a new file, with its own mark and seed.
- Order for a new file: filled and synced under another name, renamed, the directory synced, `reached` noted; only then
  is a command in it acknowledged.
- Zeros come first, a step at a time, so that later syncs need not change the file's length. A full disk is met there,
  before anything of a command is written.
- A write that fails is taken back, durably; where that fails, or a sync does, nothing more is ever written
  (`OutcomeUnknown`): what the disk has then, nobody can tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.errors import OutcomeUnknown, StorageError, WriterDeposed
from perdure.held import HeldFile
from perdure.prevalence.commands import Stored
from perdure.prevalence.entries import PACKED, Head, encode_entry, encode_head, mark_of, new_mark
from perdure.prevalence.folder import JOURNAL, Folder, Reached
from perdure.prevalence.packing import Packer
from perdure.records.seal import Key

STEP = 1 << 20  # bytes of zeros at a time
FILE_BYTES = 16 << 20  # a new file is begun beyond that


class MarkMet(Exception):
    """The file's mark is in the commands (once in a billion): they belong into a new file, which has another mark."""


class Journal:
    """Writes entries from command `following` on; nothing is made before the first one."""

    def __init__(
        self,
        folder: Folder,
        key: Key,
        following: int,
        previous: tuple[int, int],
        *,
        code: Callable[[], str],
        now: Callable[[], float],
        step: int = STEP,
        file_bytes: int = FILE_BYTES,
        epoch: int = 0,
        compress: bool = False,
    ):
        self.following = following  # number of the next command
        self.durable = following - 1  # the last command that is durable
        self.bytes = 0  # written by this opening
        self.seed = b""
        self.head: Head | None = None
        self._folder = folder
        self._key = key
        self._previous = previous
        self._code = code
        self._now = now
        self._step = step
        self._file_bytes = file_bytes
        self._epoch = epoch
        self._packer: Packer | None = None  # of the arguments in the file; None: they stand as they are
        self._compress = compress
        self._file: HeldFile | None = None
        self._sealer: Any = None
        self._mark = b""
        self._is_retired = False
        self._end = self._filled = self._durable_end = self._crc = 0
        self._broken: OutcomeUnknown | WriterDeposed | None = None

    def begin(self) -> bytes:
        """Make sure that there is a file with room; gives the seed of the chance of its commands."""
        if self._broken is not None:
            raise self._broken
        if self._file is None:
            with self._unless_unknown():
                self._begin_file()
        return self.seed

    @property
    def is_open(self) -> bool:
        """Whether there is a file to which the next entry is appended."""
        return self._file is not None

    @property
    def is_new(self) -> bool:
        """Whether the next entry is in another file than the last one: what it refers to must be told again."""
        return self._file is None

    @property
    def is_full(self) -> bool:
        """Whether it is time for another file."""
        return self._file is not None and (self._end >= self._file_bytes or self._is_retired)

    @property
    def place(self) -> tuple[int, int]:
        """The newest file's first command, and up to which byte it is written; (0, 0): no file was begun."""
        return (0, 0) if self.head is None else (self.head.first, self._end)

    def retire(self) -> None:
        """Have the next command begin a new file, at its own cost."""
        self._is_retired = True

    def rotate(self) -> None:
        """Let the next entry begin a new file."""
        if self._file is not None:
            self.sync()
            with self._unless_unknown():
                self._finish_file()

    def packed(self, stored: Stored, place: int) -> tuple[int, bytes]:
        """Flags and bytes of arguments as they go into the file, of the command at that place of the next entry."""
        packer = self._packer
        if packer is None or (packed := packer.pack(stored.short, self.following + place)) is None:
            return stored.flags, stored.short
        return stored.flags | PACKED, packed

    def write(self, records: bytes, count: int) -> None:
        """Append an entry with so many commands; not durable before `sync`. If it fails, it leaves nothing.

        Raises `MarkMet` where the commands must go into another file.
        """
        head = self.head
        assert head is not None
        entry, crc = encode_entry(head.mark, self._crc, self.following - head.first, self._durable_end, records)
        sealer = self._sealer.copy()
        sealer.update(entry)
        tag = sealer.digest()
        data = entry + tag
        if data.find(self._mark, 1) > 0:
            raise MarkMet
        end = self._end + len(data)
        file = self._file
        assert file is not None
        if end > self._filled and self._step:
            self._fill(end)
        try:
            file.write(self._end, data)
        except StorageError:
            self._take_back(len(data))
            raise
        except WriterDeposed as error:
            self._broken = error
            raise
        sealer.update(tag)
        following, written = self.following + count, self.bytes + len(data)
        # All at once: an interruption comes before or after it.
        self._sealer, self._crc, self._end, self.following, self.bytes = sealer, crc, end, following, written

    def sync(self) -> None:
        """Make all that was written durable."""
        if self._broken is not None:
            raise self._broken
        if self._file is None or self._durable_end == self._end:
            return
        self._make_durable(self._file)

    @property
    def is_behind(self) -> bool:
        """Whether something was written that is not durable yet."""
        return self._file is not None and self._durable_end != self._end

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be written any more."""
        return self._broken is not None

    def close(self) -> None:
        """Make everything durable, note how far it came, and cut the zeros off."""
        try:
            if self._file is not None and self._broken is None:
                self.rotate()
        finally:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    # -- files -----------------------------------------------------------------------------------------------

    def _begin_file(self) -> None:
        folder, files = self._folder, self._folder.files
        seed = secrets.token_bytes(16)
        head = Head(
            folder.id, self.following, new_mark(), seed, self._now(), self._code(), self._previous, 0, self._epoch
        )
        begun = encode_head(head)
        sealer = self._key.fork()
        sealer.update(begun)
        tag = sealer.digest()
        sealer.update(tag)
        start = begun + tag
        path = folder.numbered(JOURNAL, self.following)
        filled = max(self._step, len(start))
        files.write_parts(f"{path}.new", [start, bytes(filled - len(start))])
        files.sync(f"{path}.new")
        files.rename(f"{path}.new", path)
        files.sync_directory(folder.directory)
        folder.note(Reached(self.following, self.following - 1))
        if folder.is_encrypted or self._compress:
            self._packer = Packer(self._key if folder.is_encrypted else None, seed, compress=self._compress)
        head, mark, file = head._replace(end=len(start)), mark_of(head), HeldFile(files, path)
        self._sealer, self._crc, self._end, self._durable_end = sealer, 0, len(start), len(start)
        self.head, self.seed, self._mark, self._is_retired, self._filled = head, seed, mark, False, filled
        self._file = file  # last: from here on it is written to

    def _finish_file(self) -> None:
        """Cut the zeros off a file in which all is durable, and note its last command."""
        head, file = self.head, self._file
        assert head is not None
        assert file is not None
        self._folder.files.truncate(file.path, self._end)
        self._make_durable(file)
        self._folder.note(Reached(head.first, self.following - 1))
        self._previous = (head.first, self._crc)
        self._file = None
        file.close()

    def _fill(self, end: int) -> None:
        file = self._file
        assert file is not None
        wanted = -(-end // self._step) * self._step
        file.write(self._filled, bytes(wanted - self._filled))
        self._make_durable(file)
        self._filled = wanted

    def _make_durable(self, file: HeldFile) -> None:
        try:  # for every command: a context costs as much as a third of the write
            file.sync()
        except (OutcomeUnknown, WriterDeposed) as error:
            self._broken = error
            raise
        self._durable_end, self.durable = self._end, self.following - 1

    @contextmanager
    def _unless_unknown(self) -> Iterator[None]:
        """Write nothing more after an error whose outcome nobody knows."""
        try:
            yield
        except (OutcomeUnknown, WriterDeposed) as error:
            self._broken = error
            raise

    def _take_back(self, length: int) -> None:
        """Put zeros where an entry was to be, durably, so that no half of it is met later."""
        file = self._file
        assert file is not None
        try:
            file.write(self._end, bytes(length))
            file.sync()
        except StorageError as error:
            self._broken = OutcomeUnknown(
                f"A command could neither be written to {file.path} nor be taken back: {error.message}",
                hint="Check the disk, then open the system again.",
                path=file.path,
            )
            raise self._broken from error
