"""A standby's own copy of the journal: the bytes of the writer's files, verified before they are written.

- Whatever came durably here is a beginning of what the writer has, and opens as any system does.
- A single entry is appended and synced. Of several at once each may tell that the one before it is durable, which is
  not so here yet: so the file is written anew beside itself, and takes its place when all of it is durable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from perdure.errors import CorruptJournal
from perdure.held import HeldFile
from perdure.prevalence.entries import Found, Head, begins_sealed, parse_head, take_entries
from perdure.prevalence.folder import JOURNAL, Folder, Reached
from perdure.prevalence.reading import JournalFile
from perdure.records.seal import Key


class Entry(NamedTuple):
    """An entry that is durable here and not carried out yet."""

    file: JournalFile  # which it is in, without its content
    last: int  # the number of its last command
    data: bytes


class Copy:
    """The journal of a standby, which goes on after command `last`."""

    def __init__(self, folder: Folder, key: Key, last: int, newest: JournalFile | None):
        self.last = last
        self.bytes = 0  # that came
        self.head: Head | None = None
        self.crc = 0
        self._folder, self._key = folder, key
        self._end = self._in_file = 0  # the byte and the command that the newest file goes to
        self._sealer: Any = None
        self._file: HeldFile | None = None
        if newest is not None:
            self.head, self._end, self.crc = newest.head, newest.found.end, newest.found.crc
            self._sealer = key.fork()
            self._sealer.update(newest.data[: self._end])
            self._in_file, self.last = newest.found.last, max(last, newest.found.last)

    def position(self) -> dict[str, Any] | None:
        """Up to where it goes, as the writer can look it up; None if there is no file."""
        if self.head is None:
            return None
        return {"first": self.head.first, "seed": self.head.seed.hex(), "end": self._end, "crc": self.crc}

    def add(self, first: int, at: int, data: bytes) -> list[Entry]:
        """Verify what comes next, and make it durable. Raises `UntrustedRecord`, `CorruptJournal`, a `StorageError`."""
        path = self._folder.numbered(JOURNAL, first)
        head, start, crc = self.head, 0, self.crc
        if at == 0:
            head, start, crc = parse_head(data, path), 0, 0
            is_next = first <= self.last + 1 and (
                self.head is None or first > self.head.first or (first == self.head.first and not self.crc)
            )
            sealer, start = begins_sealed(data, head, self._key), head.end
        else:
            is_next = head is not None and first == head.first and at == self._end
            sealer = None if self._sealer is None else self._sealer.copy()
        if not is_next or head is None or head.first != first or head.system != self._folder.id:
            raise CorruptJournal(f"What came does not go on where {path} ends.", path=path, offset=at)
        file = JournalFile(path, b"", head, Found(head.end, first - 1, first, 0, 0))
        entries, last = [], self._in_file if at else first - 1
        for begin, end, following, count in take_entries(data, start, head, crc, sealer):
            last, crc = last + count, following
            entries.append(Entry(file, last, data[begin:end]))
        self._write(first, path, at, data, len(entries))
        self.head, self._end, self.crc, self._sealer = head, at + len(data), crc, sealer
        self._in_file, self.last = last, max(self.last, last)
        self.bytes += len(data)
        return entries

    def previous(self) -> tuple[int, int]:
        """What the next journal file says of this one."""
        if self.head is None:
            return 0, 0
        return (self.head.first, self.crc) if self.crc else self.head.previous

    def sync(self) -> None:
        """All of it is durable already."""

    def retire(self) -> None:
        """A file ends where the writer's does."""

    def close(self) -> None:
        """Close the file that is open."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, first: int, path: str, at: int, data: bytes, count: int) -> None:
        files = self._folder.files
        if at and count == 1:
            if self._file is None:
                self._file = HeldFile(files, path)
            self._file.write(at, data)
            self._file.sync()
            return
        self.close()
        before = (files.read(path, 0, at) or b"") if at else b""
        files.replace_durably(path, before + data)
        if not at:
            self._folder.note(Reached(first, first - 1))
