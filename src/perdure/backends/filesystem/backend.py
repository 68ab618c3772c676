"""The backend that keeps a store in a directory: one file an object, named by its id, and a folder of its own.

- Every call takes the store's lock (shared to read, exclusive to write) and gives it back; readers see whole commits.
- One commit is one fsync, two if it replaces what was settled; see `medium` for what a crash leaves.
- A text from outside is never joined to a path: only ids that the store's own log knows are.
- After an error while something was made durable, this backend writes no more.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from operator import attrgetter

from perdure.backends.base import CHUNK, Keep, NewKey, chunks, no_key, number_of, runs_of
from perdure.backends.filesystem.buffers import FilesystemPieces, PieceFiles
from perdure.backends.filesystem.choosing import chosen, known_number, next_number, refuse, refuse_names, revision_at
from perdure.backends.filesystem.folder import ENCRYPTED_LAYOUT
from perdure.backends.filesystem.journal import Entry, Index, Written, revision_of
from perdure.backends.filesystem.locking import reading, writing
from perdure.backends.naming import checked_path
from perdure.errors import CorruptRecord
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
        super().__init__(checked_path(directory), files or Files(), read_only=read_only, timeout=timeout)
        self._pieces = PieceFiles(self._medium.own, self._files)
        self._fields: dict[str, dict[int, tuple[int, Fields]]] = {}  # of classes that were asked for: see `find`
        if create and not read_only:
            self._medium.make(uuid.uuid4().hex, new_key, timeout)
        self._medium.identify()
        if not read_only:
            self._settle_if_needed()
        self._newest()  # a log that is damaged, or lost its end, is told now

    @reading
    def describe(self) -> Description:
        index = self._known()
        told = self._medium.identify()
        is_encrypted = told[0] == ENCRYPTED_LAYOUT
        return Description(*told, index.revision, index.next_number, index.oldest, is_encrypted)

    def revision(self) -> int:
        with self._entered():
            if self._is_whole and self._medium.index.revision and self._medium.unchanged():
                return self._medium.index.revision
            return self._newest()

    @reading
    def _newest(self) -> int:
        return self._known().revision

    @writing
    def reserve(self, count: int, *, durable: bool = True) -> int:
        index = self._known()
        first = index.next_number
        if count > 0:
            self._medium.record(Entry(index.sequence + 1, first + count), [], durable=durable)
        return first

    @writing
    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        index = self._known()
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

    @reading
    def removals(self) -> dict[str, int]:
        index = self._known()
        return {index.ids[number]: revision for number, revision in index.removed.items()}

    @writing
    def begin(self, oldest: int, key: int) -> None:
        index = self._known()
        if index.revision:
            raise ValueError(f"the store is at revision {index.revision}")
        self._medium.seal_with(key)
        if oldest > index.oldest:
            self._medium.record(Entry(index.sequence + 1, index.next_number, oldest=oldest), [])

    @writing
    def mark_encrypted(self) -> None:
        self._medium.mark_encrypted(self._known().revision)

    @writing
    def replay_part(self, past: Past, batch: Batch) -> None:
        index = self._known()
        refuse_names(batch, self._medium)
        commit = past.commit
        told = () if commit is None else set(commit.numbers).difference(map(number_of, (*past.frames, *past.removed)))
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

    @writing
    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        index = self._known()
        number = known_number(index, id_)
        if number is None or revision not in index.versions[number]:
            raise CorruptRecord(
                f"The store's log knows no {id_} of revision {revision}.", hint="Restore it elsewhere.", ids=(id_,)
            )
        self._medium.settle()
        keep(self._medium.file_of(number, revision))
        self._medium.mend(number, revision, frame)

    @writing
    def renew_indexes(self) -> None:
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

    @reading
    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        index = self._known(at)
        frames = {}
        for id_ in ids:
            revision = revision_at(index, id_, at)
            if revision:
                frames[id_] = self._kept(number_of(id_), revision)
        return frames

    @reading
    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        names, older = {}, []
        index = self._known(at)
        for id_ in ids:
            revision = revision_at(index, id_, at)
            if revision and revision == index.versions[number_of(id_)][-1]:
                names[id_] = index.classes[number_of(id_)]
            elif revision:
                older.append(id_)
        names.update((id_, parse_unverified(frame).class_name) for id_, frame in self.read(older, at).items())
        return names

    @reading
    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        index = self._known(at)
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
        numbers = iter(self._chosen(class_name, internal, after))
        while chunk := list(islice(numbers, CHUNK)):
            yield from self._present(chunk)

    @reading
    def _chosen(self, class_name: str | None, internal: bool | None, after: int) -> list[int]:
        return list(chosen(self._known(), class_name, internal, after))

    @reading
    def _present(self, numbers: list[int]) -> list[bytes]:
        index = self._known()
        versions = [(number, index.version(number)) for number in numbers]
        return [self._kept(number, revision) for number, revision in versions if revision]

    @reading
    def changes(self, since: int) -> tuple[int, set[int]]:
        index = self._known(since)
        later = index.commits[index.position(since + 1) :]
        return index.revision, {number for commit in later for number in commit.numbers}

    @reading
    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        index = self._known()
        end = len(index.commits) if before is None else index.position(before)
        start = 0 if limit is None else max(end - limit, 0)
        return index.commits[start:end][::-1]

    @reading
    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        index = self._known()
        wanted = set(revisions)
        found = index.commits[index.position(min(wanted, default=0)) :] if wanted else []
        return {each.revision: each for each in found if each.revision in wanted}

    @reading
    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        index = self._known(at)
        return [index.ids[number] for number in sorted(numbers) if index.version(number, at)]

    @reading
    def size(self) -> int:
        return self._medium.size() + sum(self._pieces.sizes().values())

    @reading
    def history(self, id_: str) -> list[Version]:
        index = self._known()
        number = known_number(index, id_)
        if number is None:
            return []
        versions = [Version(revision, self._kept(number, revision)) for revision in index.versions[number]]
        versions += (Version(revision, None) for revision in index.removals.get(number, ()))
        return sorted(versions, key=attrgetter("revision"), reverse=True)

    def pack(self, oldest: int) -> int:
        dropped = self._forget_before(oldest)
        if dropped is not None:
            self._sweep()
        return dropped or 0

    @writing
    def _forget_before(self, oldest: int) -> int | None:
        """How many versions were forgotten; None where all that is older than that is forgotten already."""
        index = self._known()
        if oldest > index.revision:
            raise ValueError(f"the newest revision is {index.revision}; {oldest} cannot be the oldest")
        if oldest < index.oldest or not oldest:
            return None
        before = index.forgotten
        if oldest > index.oldest:
            self._medium.record(Entry(index.sequence + 1, index.next_number, oldest=oldest), [])
        dropped = index.forgotten - before
        self._forget(index)
        return dropped

    def erase(self, ids: Collection[str]) -> None:
        if self._erased(ids):
            self._sweep()

    @writing
    def _erased(self, ids: Collection[str]) -> bool:
        """Whether the store knew any of them."""
        index = self._known()
        known = [str(id_) for id_ in ids if known_number(index, id_) is not None]
        for id_ in known:
            if index.current(id_):
                raise ValueError(f"{id_} is still there: it must be removed first")
        if any(index.versions[number_of(id_)] for id_ in known):
            self._medium.record(Entry(index.sequence + 1, index.next_number, erased=known), [])
        if known:
            self._forget(index)
        return bool(known)

    @reading
    def find(self, query: Query) -> Found:
        """Goes through all records of the classes; the headers of those that have not changed since are in memory."""
        found, holds = [], matcher(query)
        index = self._known()
        for name in query.classes:
            for number, (_, fields) in self._headers(index, name).items():
                if holds(fields):
                    found.append((index.ids[number], number, fields))
        return Found(index.revision, arrange(found, query))

    @reading
    def lacking(self, query: Query) -> list[str]:
        wanted = set(query.fields)
        index = self._known()
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

    @reading
    def class_names(self) -> list[str]:
        index = self._known()
        return list(dict.fromkeys(index.classes.values()))

    def close(self) -> None:
        """Settle the journal, so that every file is what its name says. Closing twice is fine.

        A store whose files were removed, or replaced by another's, has nothing to settle.
        """
        if self._closed:
            return
        with self._entered():
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
        for chunk in chunks(self._olds()):
            self._sweep_some(chunk)

    @writing
    def _olds(self) -> list[str]:
        self._medium.sweep([])
        return self._medium.olds()

    @writing
    def _sweep_some(self, names: list[str]) -> None:
        self._medium.sweep(names)

    def _settle_if_needed(self) -> None:
        if self._medium.needs_settling:
            self._settle()

    @writing
    def _settle(self) -> None:
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
