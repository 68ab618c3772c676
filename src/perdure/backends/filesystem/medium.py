"""The files of one store in a directory: how a commit gets to the disk, and how a crash is undone or finished.

    directory/Job.17          the present frame of the object Job.17
    directory/.perdure/       perdure's own: store, lock, log, journal (the intents), own/, old/17.3, aside/

- The commit point is one fsync of the journal, which holds the whole commit, frames included. Only then are files put
  in place; whatever a crash leaves of them, the journal tells what they must be.
- Frames are read from the journal until they are settled, so that nobody sees half of a commit.
- To settle: make the journal and the files durable, then the log, and only then empty the journal; many commits share
  that.
- The file `settled` tells, durably, how far the log goes at least: a log that lost its end is not taken for whole.
- A settled file is given its second name in `old`, durably, before a newer version takes its first name.
- What is forgotten is first forgotten durably by an entry; then its files go, and the log is replaced by a shorter one.
- Every method but those of `Folder` is called with the store's lock held, exclusively by those that write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from zlib import crc32

from perdure.backends.base import number_of
from perdure.backends.filesystem.folder import Folder
from perdure.backends.filesystem.journal import (
    Entry,
    Index,
    encode_entry,
    encode_line,
    packed,
    parse_journal,
    parse_log,
    revision_of,
)
from perdure.errors import CorruptRecord, InvalidId, StorageError
from perdure.files import DIRECTORY, FILE, Files
from perdure.records.frame import WIDE_HEAD

JOURNAL_COMMITS = 64
JOURNAL_BYTES = 4 << 20
LOG_BYTES = 1 << 20  # a log of fewer is not made shorter without being asked
HEAD_BYTES = 64  # the beginning of a log tells which packing it is of, so whether it took the place of another
NAME_BYTES = 250  # what file systems allow is 255


class Medium(Folder):
    """The directory of a store: paths, index, journal and log."""

    def __init__(self, directory: str, files: Files):
        super().__init__(directory, files)
        self.forget()

    def forget(self) -> None:
        """Drop everything that is known, so that the next `refresh` reads all of it anew."""
        self.index = Index()
        self._log_end = 0
        self._log_head = b""
        self._log_stamp: tuple[int, ...] | None = None
        self._packed_end = 0  # how long the log was when it was last packed, or first read
        self._journal_end = 0
        self._settled_sequence = 0
        self._settled_revision = 0
        self._noted = 0  # the last sequence that the file `settled` was seen to tell
        self._doomed: list[tuple[int, int]] = []  # number and revision of files that nobody needs any more
        self._unsettled: dict[int, dict[int, tuple[int, int]]] = {}  # number -> revision -> place in the journal
        self._entries: list[Entry] = []  # those of the journal
        self._in_place: set[int] = set()  # revisions whose files this process put in place itself

    # -- knowing what there is ---------------------------------------------------------------------------

    def unchanged(self) -> bool:
        """Whether log and journal end where this process read them to, and the log is the same one, and the store."""
        return (
            self.files.size(self.path("journal")) == self._journal_end
            and self.files.stamp(self.path("log")) == self._log_stamp
            and self.is_same()
        )

    def refresh(self) -> None:
        """Take in what was written since; whatever is torn at an end is left out."""
        if self._log_end + self._journal_end and self.unchanged():
            return
        if self.recognise():
            self.forget()
        stamp = self.files.stamp(self.path("log"))
        log_size, journal_size = self._sizes()
        if (
            log_size < self._log_end
            or (log_size == self._log_end and journal_size < self._journal_end)
            or (self._log_end and self.files.read(self.path("log"), 0, len(self._log_head)) != self._log_head)
            or (log_size and not self._log_end)
        ):
            self.forget()
        self._log_stamp = stamp
        anew = not self._log_end
        if log_size != self._log_end:
            self._read_log()
        self._read_journal()
        if anew:
            self._refuse_shortened()
        if log_size != self._log_end and not self._entries:
            # A torn tail comes from a crash while settling, and then the journal still holds what it was to be.
            raise CorruptRecord(
                f"The log {self.path('log')} is damaged from byte {self._log_end} on.",
                hint="Take the store from a backup.",
                path=self.path("log"),
            )

    def _refuse_shortened(self) -> None:
        """Raise `CorruptRecord` if the log, just read from its beginning, does not reach as far as it once did."""
        data = (self.files.read(self.path("settled")) or b"").split()
        noted = len(data) == 2 and data[1].isdigit() and data[0] == b"%08x" % crc32(data[1])
        self._noted = int(data[1]) if noted else 0
        orphan = "" if self.index.sequence or noted else self._record_without_entry()
        if self._noted > self._settled_sequence or orphan:
            why = f"is empty, yet there is {orphan}" if orphan else "has lost entries at its end"
            raise CorruptRecord(
                f"The log {self.path('log')} {why}.", hint="Take the store from a backup.", path=self.path("log")
            )

    def _record_without_entry(self) -> str:
        """The path of a record that lies in the store, or nothing; for stores that have no file `settled`."""
        for folder in (self.path("own"), self.path("old"), self.directory):
            for name in sorted(self.files.list(folder)) if self.files.kind(folder) == DIRECTORY else ():
                path = os.path.join(folder, name)
                if self.files.kind(path) == FILE and revision_of(self.files.read(path, 0, WIDE_HEAD) or b""):
                    return path
        return ""

    def _sizes(self) -> tuple[int, int]:
        log, journal = self.files.size(self.path("log")), self.files.size(self.path("journal"))
        if log is None or journal is None:
            raise StorageError(f"{self.own} is incomplete.", hint="Take the store from a backup.", path=self.own)
        return log, journal

    def _read_log(self) -> None:
        data = self.files.read(self.path("log"), self._log_end) or b""
        start = self._log_end
        for entry, end in parse_log(data):
            if entry.sequence > self.index.sequence or not start + self._log_end:
                if entry.revision > max(self.index.revision + 1, self.index.oldest):
                    raise self._gap(entry)
                self._take_in(entry)
            self._log_end = start + end
            self._settled_sequence = entry.sequence
            self._settled_revision = entry.revision or self._settled_revision
        if self._log_end != start:
            self._empty_journal_view()
        if not start:
            self._log_head, self._packed_end = data[: min(HEAD_BYTES, self._log_end)], self._log_end

    def _take_in(self, entry: Entry) -> None:
        self.index.add(entry)
        for number, revision in self.index.dropped:
            self._unsettled.get(number, {}).pop(revision, None)
        self._doomed += self.index.dropped
        self.index.dropped = []

    def _read_journal(self) -> None:
        data = self.files.read(self.path("journal"), self._journal_end) or b""
        for entry, frames, end in parse_journal(data, self._journal_end):
            if entry.sequence <= self._settled_sequence:
                if self._entries:
                    return  # older than what is before it: a remnant
                continue
            follows = entry.revision <= max(self.index.revision + 1, self.index.oldest)
            if entry.sequence > self.index.sequence + 1 or not follows:
                if self._entries:
                    return
                raise self._gap(entry)
            if entry.sequence > self.index.sequence:
                self._take_in(entry)
            self._keep(entry, frames, end)

    def _keep(self, entry: Entry, frames: list[tuple[int, int]], end: int) -> None:
        self._entries.append(entry)
        self._journal_end = end
        for id_, place in zip(entry.ids(), frames, strict=True):
            if entry.revision in self.index.versions[number_of(id_)]:  # else a later entry, read before, has dropped it
                self._unsettled.setdefault(number_of(id_), {})[entry.revision] = place

    def _gap(self, entry: Entry) -> CorruptRecord:
        return CorruptRecord(
            f"The log {self.path('log')} lacks what came before revision {entry.revision}.",
            hint="Take the store from a backup.",
            path=self.path("log"),
        )

    def _empty_journal_view(self) -> None:
        self._journal_end = 0
        self._unsettled.clear()
        self._entries.clear()
        self._in_place.clear()

    # -- reading frames ----------------------------------------------------------------------------------

    def frame(self, number: int, revision: int) -> bytes | None:
        """One version's frame; None if its file was taken away."""
        place = self._unsettled.get(number, {}).get(revision)
        if place is not None:
            return self.files.read(self.path("journal"), *place)
        return self.files.read(self.place_of(number, revision))

    def place_of(self, number: int, revision: int) -> str:
        """The path of one version's file; the parts come from checked ids and numbers only."""
        if not self.index.is_present(number, revision):
            return self.path(f"old/{number}.{revision}")
        return self._present_place(self.index.ids[number], number in self.index.own)

    def _present_place(self, id_: str, internal: bool) -> str:
        return self.path(f"own/{id_}") if internal else os.path.join(self.directory, id_)

    def refuse_name(self, id_: str, internal: bool) -> str | None:
        """Why a new object cannot get that name, or None; raises `InvalidId` for one that is too long."""
        if len(id_.encode()) > NAME_BYTES:
            raise InvalidId(f"{id_[:40]}… is too long for the name of a file.", ids=(id_,))
        if self.files.kind(self._present_place(id_, internal)) is None:
            return None
        return f"{self.directory} has a file of that name, which is not the store's"

    # -- writing -----------------------------------------------------------------------------------------

    def commit(self, entry: Entry, frames: list[bytes]) -> None:
        """Make the commit durable, then put its files in place."""
        self._keep_superseded(entry)
        self.record(entry, frames)
        # The commit is durable; a file that cannot be put in place now is put there when the journal is settled.
        with suppress(StorageError):
            self._put_in_place(entry, frames)
            self._in_place.add(entry.revision)
        self.drop_doomed()

    def record(self, entry: Entry, frames: list[bytes], *, durable: bool = True) -> None:
        """Append an entry to the journal. If that fails, the journal ends where it did."""
        self._cut_journal()
        start = self._journal_end
        data, places = encode_entry(entry, frames)
        try:
            self.files.write_at(self.path("journal"), start, data)
            if durable:
                self.files.sync(self.path("journal"))
        except StorageError:
            with suppress(StorageError):  # a torn entry does not verify, and is cut before the next one is written
                self.files.truncate(self.path("journal"), start)
            raise
        self._take_in(entry)
        self._keep(entry, [(start + offset, length) for offset, length in places], start + len(data))

    def _cut_journal(self) -> None:
        if self.files.size(self.path("journal")) != self._journal_end:
            # A process may have been killed with the log written and not yet durable.
            self._sync_log()
            self._cut(self.path("journal"), self._journal_end)

    def _cut(self, path: str, end: int) -> None:
        if self.files.size(path) != end:
            self.files.truncate(path, end)
            # Else the remnant could come back behind what is written next.
            self.files.sync(path)

    def _keep_superseded(self, entry: Entry) -> None:
        linked = False
        for id_ in (*entry.ids(), *entry.removed):
            number = number_of(id_)
            revision = self.index.version(number)
            if revision and revision not in self._unsettled.get(number, {}):
                present = self.place_of(number, revision)
                linked |= self.files.link(present, self.path(f"old/{number}.{revision}"))
        if linked:
            self.files.sync_directory(self.path("old"))

    def _put_in_place(self, entry: Entry, frames: list[bytes]) -> None:
        index = self.index
        for id_, frame in zip(entry.ids(), frames, strict=True):
            number = number_of(id_)
            present = self._present_place(id_, number in index.own)
            if len(index.versions[number]) > 1:
                self._step_aside(number, index.versions[number][-2], present)
            self._place(frame, present)
        for id_ in entry.removed:
            number = number_of(id_)
            present = self._present_place(id_, number in index.own)
            if index.versions[number]:  # else it was removed elsewhere, and nothing of it came here
                self._step_aside(number, index.versions[number][-1], present)
                self.files.unlink(present)

    def _step_aside(self, number: int, revision: int, present: str) -> None:
        if revision in self._unsettled.get(number, {}):  # else it was done before the commit
            self.files.link(present, self.path(f"old/{number}.{revision}"))

    def file_of(self, number: int, revision: int) -> bytes:
        """What the file of one version holds, whatever that is; nothing where there is none."""
        return self.files.read(self.place_of(number, revision)) or b""

    def mend(self, number: int, revision: int, frame: bytes) -> None:
        """Put a file in the place of a damaged or missing one, durably. All must be settled."""
        place = self.place_of(number, revision)
        self.files.write_new(self.path("aside/frame"), frame)
        self.files.sync(self.path("aside/frame"))
        self.files.rename(self.path("aside/frame"), place)
        self.files.sync_directory(os.path.dirname(place))

    def _place(self, frame: bytes, target: str) -> None:
        aside = self.path("aside/frame")
        self.files.write_new(aside, frame)
        self.files.rename(aside, target)

    # -- settling ----------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the journal should be settled before it grows further."""
        commits = self.index.revision - self._settled_revision
        return self._journal_end > JOURNAL_BYTES or commits >= JOURNAL_COMMITS

    def is_settled(self, revision: int) -> bool:
        """Whether the files of that commit are surely in place."""
        return revision <= self._settled_revision

    @property
    def needs_settling(self) -> bool:
        """Whether there is anything in the journal, or the log has a tail that was not read."""
        log, journal = self._sizes()
        return journal > 0 or log != self._log_end

    def settle(self) -> None:
        """Move what the journal holds into durable files and the log; running it again changes nothing."""
        if not self._entries:
            self._note_settled()
            self._cut_journal()
            return
        self._sync_journal()
        self._sync_files(list(self._settle_files()))
        self._extend_log()
        self._note_settled()
        self._clear_journal()

    # -- forgetting --------------------------------------------------------------------------------------

    def drop_doomed(self) -> None:
        """Remove the files of versions that were forgotten; those that cannot be now, `sweep` removes later."""
        doomed, self._doomed = self._doomed, []
        with suppress(StorageError):
            for number, revision in doomed:
                self.files.unlink(self.path(f"old/{number}.{revision}"))

    @property
    def is_bloated(self) -> bool:
        """Whether most of a long log may be of what was forgotten since."""
        return self.index.oldest > self.index.base and self._log_end > max(LOG_BYTES, 3 * self._packed_end)

    def pack_log(self) -> None:
        """Replace the log, once the journal is settled, by the shortest that says the same of what is kept."""
        lines = b"".join(map(encode_line, packed(self.index)))
        self.files.replace_durably(self.path("log"), lines)
        self.forget()
        self.refresh()
        self._doomed = []

    def size(self) -> int:
        """How many bytes all files of the store take."""
        index = self.index
        present = (self._present_place(index.ids[n], n in index.own) for n in index.versions if n not in index.removed)
        older = map(self.path, (f"old/{name}" for name in self.olds()))
        return sum(self.files.size(path) or 0 for path in (self.path("log"), self.path("journal"), *present, *older))

    def olds(self) -> list[str]:
        """The names of all files of older versions, those that nobody needs any more among them."""
        return [name for name in self.files.list(self.path("old")) if name.replace(".", "", 1).isdigit()]

    def sweep(self, names: list[str]) -> None:
        """Remove those of the files of older versions that the index does not know, and what a crash left aside."""
        self.files.unlink(self.path("aside/frame"))
        for name in names:
            number, _, revision = name.partition(".")
            if int(revision or 0) not in self.index.versions.get(int(number), ()):
                self.files.unlink(self.path(f"old/{name}"))

    def _note_settled(self) -> None:
        if self._noted < self._settled_sequence:
            self._sync_log()  # the note must never be ahead of the log, which a killed process may have written
            text = b"%d" % self._settled_sequence
            self.files.replace_durably(self.path("settled"), b"%08x %s\n" % (crc32(text), text))
            self._noted = self._settled_sequence

    def _sync_journal(self) -> None:
        # Entries of a killed process may be whole and yet not durable.
        self.files.sync(self.path("journal"))

    def _settle_files(self) -> Iterator[str]:
        """Have every file of the journal's commits in place, and name those that must be made durable."""
        touched: dict[int, None] = dict.fromkeys(self._unsettled)
        touched.update((number_of(id_), None) for entry in self._entries for id_ in entry.removed)
        verify = any(entry.revision and entry.revision not in self._in_place for entry in self._entries)
        for number in touched:
            for revision in self._unsettled.get(number, ()):
                place = self.place_of(number, revision)
                if verify:
                    frame = self.frame(number, revision)
                    if frame is not None and self.files.read(place) != frame:
                        self._place(frame, place)
                yield place
            if verify and number in self.index.removed:
                self.files.unlink(self._present_place(self.index.ids[number], number in self.index.own))

    def _sync_files(self, places: list[str]) -> None:
        self.files.sync_many(places, directory=self.own)
        for directory in (self.directory, self.path("own"), self.path("old")):
            self.files.sync_directory(directory)

    def _extend_log(self) -> None:
        self._cut(self.path("log"), self._log_end)
        if self._settled_sequence == self.index.sequence:
            return  # an error came after the log was extended, and this is the second attempt
        kept = [entry for entry in self._entries if entry.revision or entry.oldest or entry.erased]
        if kept[-1:] != self._entries[-1:]:
            kept.append(self._entries[-1])  # the counter
        lines = b"".join(map(encode_line, kept))
        try:
            self.files.write_at(self.path("log"), self._log_end, lines)
            self._sync_log()
        except StorageError:
            with suppress(StorageError):  # the journal still has it all
                self.files.truncate(self.path("log"), self._log_end)
            raise
        if not self._log_end:
            self._log_head = lines[:HEAD_BYTES]
        self._log_end += len(lines)
        self._log_stamp = self.files.stamp(self.path("log"))
        self._settled_sequence = self.index.sequence
        self._settled_revision = self.index.revision

    def _sync_log(self) -> None:
        self.files.sync(self.path("log"))

    def _clear_journal(self) -> None:
        # Not synced: entries that the log has already are passed over, should they come back.
        self.files.truncate(self.path("journal"), 0)
        self._empty_journal_view()
