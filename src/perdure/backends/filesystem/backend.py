"""The backend that keeps a store in a directory: one file an object, named by its id, and a folder of its own.

- Every call takes the store's lock (shared to read, exclusive to write) and gives it back; readers see whole commits.
- One commit is one fsync, two if it replaces what was settled; see `medium` for what a crash leaves.
- A text from outside is never joined to a path: only ids that the store's own log knows are.
- After an error while something was made durable, this backend writes no more.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import attrgetter

from perdure.backends.base import (
    CHUNK,
    Keep,
    NewKey,
    chunks,
    no_key,
    number_of,
    runs_of,
    too_old,
)
from perdure.backends.filesystem.buffers import FilesystemPieces, PieceFiles
from perdure.backends.filesystem.choosing import chosen, known_number, next_number, refuse, refuse_names, revision_at
from perdure.backends.filesystem.folder import ENCRYPTED_LAYOUT
from perdure.backends.filesystem.journal import Entry, Index, Written, revision_of
from perdure.backends.filesystem.medium import Medium
from perdure.backends.naming import checked_path
from perdure.errors import CorruptRecord, OutcomeUnknown, ReadOnly, StoreBusy, StoreClosed
from perdure.files import Files
from perdure.records.frame import Encoder, parse_unverified
from perdure.records.queries import Found, Query, arrange, matcher
from perdure.records.values import INTERNAL, Batch, Commit, Description, Draft, Fields, Past, Receipt, Version


class FilesystemBackend(FilesystemPieces):
    """Frames as files in `directory`; `new_key` is called when the store is made. `timeout` is in seconds.

    With `create=False` or `read_only=True` a store must be there (`StoreNotFound`). Other files are left alone.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        new_key: NewKey = no_key,
        create: bool = True,
        read_only: bool = False,
        timeout: float = 60.0,
        files: Files | None = None,
    ):
        self.read_only = read_only
        self.directory = checked_path(directory)
        self._timeout = timeout
        self._files = files or Files()
        self._medium = Medium(self.directory, self._files)
        self._pieces = PieceFiles(self._medium.own, self._files)
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._holds_file_lock = False
        self._closed = False
        self._failure: OutcomeUnknown | None = None
        self._fields: dict[str, dict[int, tuple[int, Fields]]] = {}  # of classes that were asked for: see `find`
        if create and not read_only:
            self._medium.make(uuid.uuid4().hex, new_key, timeout)
        self._medium.identify()
        if not read_only:
            self._settle_if_needed()
        with self._reading():
            pass  # a log that is damaged, or lost its end, is told now

    def describe(self) -> Description:
        with self._reading() as index:
            told = self._medium.identify()
            is_encrypted = told[0] == ENCRYPTED_LAYOUT
            return Description(*told, index.revision, index.next_number, index.oldest, is_encrypted)

    def revision(self) -> int:
        with self._entered():
            if self._medium.index.revision and self._medium.unchanged():
                return self._medium.index.revision
        with self._reading() as index:
            return index.revision

    def reserve(self, count: int, *, durable: bool = True) -> int:
        with self._writing() as index:
            first = index.next_number
            if count > 0:
                self._medium.record(Entry(index.sequence + 1, first + count), [], durable=durable)
            return first

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        with self._writing() as index:
            refuse(batch, self._medium, self._kept)
            entry = Entry(
                index.sequence + 1,
                next_number(batch, index),
                index.revision + 1,
                batch.time,
                batch.note,
                batch.code,
                removed=[str(id_) for id_ in batch.removals if index.current(id_)],
                oldest=0 if batch.keep is None else index.trimmed(batch.time - batch.keep),
                lean=batch.keep is not None,
            )
            self._commit(entry, batch, encode)
            return Receipt(entry.revision)

    def removals(self) -> dict[str, int]:
        with self._reading() as index:
            return {index.ids[number]: revision for number, revision in index.removed.items()}

    def begin(self, oldest: int, key: int) -> None:
        with self._writing() as index:
            if index.revision:
                raise ValueError(f"the store is at revision {index.revision}")
            self._medium.seal_with(key)
            if oldest > index.oldest:
                self._medium.record(Entry(index.sequence + 1, index.next_number, oldest=oldest), [])

    def mark_encrypted(self) -> None:
        with self._writing() as index:
            self._medium.mark_encrypted(index.revision)

    def replay_part(self, past: Past, batch: Batch) -> None:
        with self._writing() as index:
            refuse_names(batch, self._medium)
            commit = past.commit
            told = (
                () if commit is None else set(commit.numbers).difference(map(number_of, (*past.frames, *past.removed)))
            )
            entry = Entry(
                index.sequence + 1,
                next_number(batch, index),
                past.revision,
                commit and commit.time,
                commit.note if commit else "",
                commit.code if commit else "",
                removed=past.removed,
                forgotten=runs_of(told),
            )
            self._commit(entry, batch, lambda draft, _: past.frames[draft.id])

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        with self._writing() as index:
            number = known_number(index, id_)
            if number is None or revision not in index.versions[number]:
                raise CorruptRecord(
                    f"The store's log knows no {id_} of revision {revision}.", hint="Restore it elsewhere.", ids=(id_,)
                )
            self._medium.settle()
            keep(self._medium.file_of(number, revision))
            self._medium.mend(number, revision, frame)

    def renew_indexes(self) -> None:
        with self._writing():
            self._fields.clear()  # there are none but those in memory; the log tells the classes

    def _commit(self, entry: Entry, batch: Batch, encode: Encoder) -> None:
        """Write the entry, which does not tell yet what the batch writes; with the lock held."""
        groups: dict[tuple[str, bool], list[Draft]] = {}
        for draft in batch.drafts:
            groups.setdefault((draft.class_name, bool(draft.flags & INTERNAL)), []).append(draft)
        frames = [encode(draft, entry.revision) for drafts in groups.values() for draft in drafts]
        written: list[Written] = [(*group, [str(draft.id) for draft in drafts]) for group, drafts in groups.items()]
        if self._medium.is_full:
            self._medium.settle()
            if self._medium.is_bloated:
                self._medium.pack_log()
        entry = entry._replace(sequence=self._medium.index.sequence + 1, written=written)
        with self._pieces.put(batch.buffers):
            self._medium.commit(entry, frames)

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        with self._reading(at) as index:
            frames = {}
            for id_ in ids:
                revision = revision_at(index, id_, at)
                if revision:
                    frames[id_] = self._kept(number_of(id_), revision)
            return frames

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        names, older = {}, []
        with self._reading(at) as index:
            for id_ in ids:
                revision = revision_at(index, id_, at)
                if revision and revision == index.versions[number_of(id_)][-1]:
                    names[id_] = index.classes[number_of(id_)]
                elif revision:
                    older.append(id_)
            names.update((id_, parse_unverified(frame).class_name) for id_, frame in self.read(older, at).items())
        return names

    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        with self._reading(at) as index:
            if at is None:
                return [index.ids[number] for number in chosen(index, None, internal, -1)]
            versions = sorted((number, index.version(number, at)) for number in index.versions)
            return [
                index.ids[number]
                for number, revision in versions
                if revision and self._was_internal(number, revision) == internal
            ]

    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        if at is not None:
            yield from self.scan_at(at, class_name, internal, after)
            return
        with self._reading() as index:
            numbers = iter(chosen(index, class_name, internal, after))
        while chunk := list(islice(numbers, CHUNK)):
            with self._reading() as index:
                versions = [(number, index.version(number)) for number in chunk]
                frames = [self._kept(number, revision) for number, revision in versions if revision]
            yield from frames

    def changes(self, since: int) -> tuple[int, set[int]]:
        with self._reading(since) as index:
            later = index.commits[index.position(since + 1) :]
            return index.revision, {number for commit in later for number in commit.numbers}

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        with self._reading() as index:
            end = len(index.commits) if before is None else index.position(before)
            start = 0 if limit is None else max(end - limit, 0)
            return index.commits[start:end][::-1]

    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        with self._reading() as index:
            wanted = set(revisions)
            found = index.commits[index.position(min(wanted, default=0)) :] if wanted else []
            return {each.revision: each for each in found if each.revision in wanted}

    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        with self._reading(at) as index:
            return [index.ids[number] for number in sorted(numbers) if index.version(number, at)]

    def size(self) -> int:
        with self._reading():
            return self._medium.size() + sum(self._pieces.sizes().values())

    def history(self, id_: str) -> list[Version]:
        with self._reading() as index:
            number = known_number(index, id_)
            if number is None:
                return []
            versions = [Version(revision, self._kept(number, revision)) for revision in index.versions[number]]
            versions += (Version(revision, None) for revision in index.removals.get(number, ()))
            return sorted(versions, key=attrgetter("revision"), reverse=True)

    def pack(self, oldest: int) -> int:
        with self._writing() as index:
            if oldest > index.revision:
                raise ValueError(f"the newest revision is {index.revision}; {oldest} cannot be the oldest")
            if oldest < index.oldest or not oldest:
                return 0
            before = index.forgotten
            if oldest > index.oldest:
                self._medium.record(Entry(index.sequence + 1, index.next_number, oldest=oldest), [])
            dropped = index.forgotten - before
            self._forget(index)
        self._sweep()
        return dropped

    def erase(self, ids: Collection[str]) -> None:
        with self._writing() as index:
            known = [str(id_) for id_ in ids if known_number(index, id_) is not None]
            for id_ in known:
                if index.current(id_):
                    raise ValueError(f"{id_} is still there: it must be removed first")
            if not known:
                return
            if any(index.versions[number_of(id_)] for id_ in known):
                self._medium.record(Entry(index.sequence + 1, index.next_number, erased=known), [])
            self._forget(index)
        self._sweep()

    def find(self, query: Query) -> Found:
        """Goes through all records of the classes; the headers of those that have not changed since are in memory."""
        found, holds = [], matcher(query)
        with self._reading() as index:
            for name in query.classes:
                for number, (_, fields) in self._headers(index, name).items():
                    if holds(fields):
                        found.append((index.ids[number], number, fields))
            return Found(index.revision, arrange(found, query))

    def lacking(self, query: Query) -> list[str]:
        wanted = set(query.fields)
        with self._reading() as index:
            for name in query.classes:
                for number, (_, fields) in self._headers(index, name).items():
                    if not wanted <= fields.keys():
                        return [index.ids[number]]
        return []

    def _headers(self, index: Index, name: str) -> dict[int, tuple[int, Fields]]:
        """Revision and fields of every record of a class, by number; only what changed since is read."""
        known, present = self._fields.get(name, {}), {}
        for number in chosen(index, name, None, -1):
            revision = index.version(number)
            told = known.get(number)
            if told is None or told[0] != revision:
                told = revision, parse_unverified(self._kept(number, revision)).fields
            present[number] = told
        self._fields[name] = present
        return present

    def class_names(self) -> list[str]:
        with self._reading() as index:
            return list(dict.fromkeys(index.classes.values()))

    def close(self) -> None:
        """Settle the journal, so that every file is what its name says. Closing twice is fine.

        A store whose files were removed, or replaced by another's, has nothing to settle.
        """
        if self._closed:
            return
        try:
            if not self.read_only and self._failure is None and self._medium.is_same():
                self._settle_if_needed()
        finally:
            self._closed = True
            self._medium.forget()

    # -- forgetting --------------------------------------------------------------------------------------

    def _forget(self, index: Index) -> None:
        """Let the journal hold nothing of what an entry of it has forgotten, nor the log."""
        self._medium.settle()
        self._medium.drop_doomed()
        if index.oldest:
            self._medium.pack_log()

    def _sweep(self) -> None:
        """Remove what is left of versions that were forgotten, also by a process that died over it; in pieces."""
        with self._writing():
            names = self._medium.olds()
            self._medium.sweep([])
        for chunk in chunks(names):
            with self._writing():
                self._medium.sweep(chunk)

    # -- locks -------------------------------------------------------------------------------------------

    @contextmanager
    def _entered(self) -> Iterator[None]:
        if self._process != os.getpid():
            # The lock and what was read may have been in use by another thread at the moment of the fork.
            medium, self._medium = self._medium, Medium(self.directory, self._files)
            self._medium.resemble(medium)
            self._lock = threading.RLock()
            self._process, self._holds_file_lock = os.getpid(), False
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreBusy(f"Another thread used the store for {self._timeout:g} seconds.", hint="Try again.")
        try:
            if self._closed:
                raise StoreClosed("The store was closed.", hint="Open it again with make_store.")
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _reading(self, at: int | None = None) -> Iterator[Index]:
        with self._entered(), self._file_lock(exclusive=False):
            self._medium.refresh()
            index = self._medium.index
            if at is not None and at < index.oldest:
                raise too_old(at, index.oldest)
            yield index

    @contextmanager
    def _writing(self) -> Iterator[Index]:
        with self._entered():
            if self.read_only:
                raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
            if self._failure is not None:
                raise OutcomeUnknown(
                    f"The store is read-only since an earlier error: {self._failure.message}",
                    hint=self._failure.hint,
                    path=self._failure.path,
                )
            with self._file_lock(exclusive=True):
                self._medium.refresh()
                try:
                    yield self._medium.index
                except OutcomeUnknown as error:
                    self._failure = error
                    raise

    @contextmanager
    def _file_lock(self, *, exclusive: bool) -> Iterator[None]:
        if self._holds_file_lock:
            yield
            return
        self._medium.refuse_gone()
        with self._files.lock(self._medium.path("lock"), exclusive=exclusive, timeout=self._timeout):
            self._holds_file_lock = True
            try:
                yield
            finally:
                self._holds_file_lock = False

    def _settle_if_needed(self) -> None:
        with self._entered():
            if not self._medium.needs_settling:
                return
        with self._writing():
            self._medium.settle()

    # -- parts ---------------------------------------------------------------------------------------------

    def _was_internal(self, number: int, revision: int) -> bool:
        index = self._medium.index
        if revision == index.versions[number][-1]:
            return number in index.internal
        return bool(parse_unverified(self._kept(number, revision)).flags & INTERNAL)

    def _kept(self, number: int, revision: int) -> bytes:
        frame = self._medium.frame(number, revision)
        id_ = self._medium.index.ids[number]
        path = self._medium.place_of(number, revision)
        if frame is None:
            raise CorruptRecord(
                f"{id_} cannot be read: {path} was taken away.", hint="Take it from a backup.", ids=(id_,), path=path
            )
        if revision_of(frame) not in (None, revision):
            raise CorruptRecord(
                f"{path} is revision {revision_of(frame)} of {id_}, but the store has revision {revision}.",
                hint="Take it from a backup.",
                ids=(id_,),
                path=path,
            )
        return frame
