"""The backend that keeps everything in this process: the reference for all others, and their oracle in tests."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import takewhile

from perdure.backends.base import (
    Backend,
    Keep,
    NewKey,
    mismatches,
    no_key,
    not_named_in,
    number_of,
    number_taken,
    refuse_absent,
    refuse_conflicts,
    refuse_referred,
    too_old,
)
from perdure.backends.forking import HeldOverForks
from perdure.errors import ReadOnly, StoreClosed
from perdure.records.buffers import missing_piece, parts_of
from perdure.records.frame import FORMAT, Encoder, flags_of, parse_unverified
from perdure.records.values import INTERNAL, Batch, Buffer, Commit, Description, Past, Receipt, Version


class MemoryBackend(Backend):
    """Frames in dicts; every version is kept until it is packed, or the process ends."""

    def __init__(self, *, new_key: NewKey = no_key, read_only: bool = False):
        self.read_only = read_only
        self.lock = threading.RLock()
        _OPEN.add(self)
        self._store = uuid.uuid4().hex
        self._key_id = new_key()
        self._next_number = 1
        self._revision = 0
        self._oldest = 0
        self._encrypted = False
        self._versions: dict[int, list[Version]] = {}  # oldest first
        self._ids: dict[int, str] = {}
        self._classes: dict[tuple[int, int], str] = {}  # by number and revision
        self._commits: list[Commit] = []  # oldest first
        self._buffers: dict[str, Buffer] = {}  # which nobody can write to
        self._class_names: dict[str, None] = {}
        self._closed = False

    def describe(self) -> Description:
        with self._opened():
            return Description(
                FORMAT, self._store, self._key_id, self._revision, self._next_number, self._oldest, self._encrypted
            )

    def revision(self) -> int:
        with self._opened():
            return self._revision

    def reserve(self, count: int, *, durable: bool = True) -> int:
        with self._opened(write=True):
            first = self._next_number
            self._next_number += count
            return first

    def give_back(self, first: int, end: int) -> bool:
        with self._opened(write=True):
            if self._next_number != end:
                return False
            self._next_number = first
            return True

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        with self._opened(write=True):
            self._refuse(batch)
            revision = self._revision + 1
            numbers = sorted(number_of(id_) for id_ in (*(d.id for d in batch.drafts), *batch.removals))
            self._put_all(batch, encode, revision)
            self._commits.append(Commit(revision, batch.time, batch.note, batch.code, tuple(numbers)))
            if batch.unused[1] == self._next_number:
                self._next_number = batch.unused[0]
            self._next_number = max([self._next_number, *(number + 1 for number in numbers)])
            if batch.keep is not None:
                self._trim(batch.time - batch.keep)
            return Receipt(revision)

    def removals(self) -> dict[str, int]:
        with self._opened():
            last = ((self._ids[number], versions[-1]) for number, versions in self._versions.items())
            return {id_: version.revision for id_, version in last if version.frame is None}

    def begin(self, oldest: int, key: int) -> None:
        with self._opened(write=True):
            if self._revision:
                raise ValueError(f"the store is at revision {self._revision}")
            self._oldest, self._key_id = oldest, key

    def mark_encrypted(self) -> None:
        with self._opened(write=True):
            if self._revision:
                raise ValueError(f"the store is at revision {self._revision}")
            self._encrypted = True

    def replay_part(self, past: Past, batch: Batch) -> None:
        with self._opened(write=True):
            self._put_all(batch, lambda draft, _: past.frames[draft.id], past.revision)
            if past.commit:
                self._commits.append(past.commit)
            numbers = [number_of(id_) for id_ in (*past.frames, *past.removed)]
            self._next_number = max([self._next_number, *(number + 1 for number in numbers)])

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        with self._opened(write=True):
            number = number_of(id_)
            before = {each.revision: each.frame for each in self._versions.get(number, ())}
            keep(before.get(revision) or b"")
            versions = {**before, revision: frame}
            self._versions[number] = [Version(each, versions[each]) for each in sorted(versions)]
            self._ids[number] = id_
            self._classes[number, revision] = parse_unverified(frame).class_name

    def renew_indexes(self) -> None:
        with self._opened(write=True):
            present = [(number, versions[-1]) for number, versions in self._versions.items()]
            for number, version in present:
                if version.frame is not None:
                    self._classes[number, version.revision] = parse_unverified(version.frame).class_name

    def _put_all(self, batch: Batch, encode: Encoder, revision: int) -> None:
        frames = [(draft, encode(draft, revision)) for draft in batch.drafts]
        new = {digest: content for digest, content in batch.buffers.items() if digest not in self._buffers}
        pieces = {digest: _kept(digest, content) for digest, content in new.items()}
        for draft, frame in frames:
            self._put(draft.id, Version(revision, frame))
            self._class_names[draft.class_name] = None
            self._classes[number_of(draft.id), revision] = draft.class_name
        for id_ in batch.removals:
            self._put(id_, Version(revision, None))
        self._buffers.update(pieces)
        self._revision = revision

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        with self._opened(at=at):
            found = ((id_, self._current(id_, at)) for id_ in ids)
            return {id_: version.frame for id_, version in found if version and version.frame is not None}

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        with self._opened(at=at):
            found = ((id_, self._current(id_, at)) for id_ in ids)
            return {id_: self._classes[number_of(id_), v.revision] for id_, v in found if v and v.frame is not None}

    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        with self._opened(at=at):
            numbers = sorted(
                number for number, frame in self._present(at) if bool(flags_of(frame) & INTERNAL) == internal
            )
            return [self._ids[number] for number in numbers]

    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        at = self.revision() if at is None else at
        yield from self.scan_at(at, class_name, internal, after)

    def changes(self, since: int) -> tuple[int, set[int]]:
        with self._opened(at=since):
            return self._revision, {n for commit in self._commits for n in commit.numbers if commit.revision > since}

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        with self._opened():
            return [each for each in reversed(self._commits) if before is None or each.revision < before][:limit]

    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        with self._opened():
            wanted = set(revisions)
            return {each.revision: each for each in self._commits if each.revision in wanted}

    def history(self, id_: str) -> list[Version]:
        with self._opened():
            if self._ids.get(number_of(id_)) != id_:
                return []
            return self._versions[number_of(id_)][::-1]

    def pack(self, oldest: int) -> int:
        with self._opened(write=True):
            if oldest > self._revision:
                raise ValueError(f"the newest revision is {self._revision}; {oldest} cannot be the oldest")
            if oldest <= self._oldest:
                return 0
            dropped = sum(self._forget_before(number, oldest) for number in list(self._versions))
            needed = {version.revision for versions in self._versions.values() for version in versions}
            self._commits = [each for each in self._commits if each.revision >= oldest or each.revision in needed]
            self._oldest = oldest
            return dropped

    def erase(self, ids: Collection[str]) -> None:
        with self._opened(write=True):
            numbers = [number_of(id_) for id_ in ids if self._ids.get(number_of(id_)) == id_]
            for number in numbers:
                if self._versions[number][-1].frame is not None:
                    raise ValueError(f"{self._ids[number]} is still there: it must be removed first")
            for number in numbers:
                self._forget_before(number, self._versions[number][-1].revision)

    def buffer(self, digest: str) -> Buffer:
        with self._opened():
            if digest not in self._buffers:
                raise missing_piece(digest)
            return self._buffers[digest]

    def buffers(self) -> dict[str, int]:
        with self._opened():
            return {digest: len(content) for digest, content in self._buffers.items()}

    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        with self._opened(at=at):
            found = ((number, self._ids.get(number)) for number in sorted(set(numbers)))
            present = ((id_, self._current(id_, at)) for _, id_ in found if id_ is not None)
            return [id_ for id_, version in present if version and version.frame is not None]

    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        with self._opened(write=True):
            gone = not_named_in(digests, self._later(seen))
            for digest in gone:
                self._buffers.pop(digest, None)
            return gone

    def class_names(self) -> list[str]:
        with self._opened():
            return list(self._class_names)

    def close(self) -> None:
        self._closed = True

    def _opened(self, *, write: bool = False, at: int | None = None) -> threading.RLock:
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")
        if write and self.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        if at is not None and at < self._oldest:
            raise too_old(at, self._oldest)
        return self.lock

    # -- versions ----------------------------------------------------------------------------------------

    def _present(self, at: int | None) -> Iterator[tuple[int, bytes]]:
        """Every number with the frame that is there at that revision."""
        for number, id_ in self._ids.items():
            version = self._current(id_, at)
            if version is not None and version.frame is not None:
                yield number, version.frame

    def _current(self, id_: str, at: int | None = None) -> Version | None:
        number = number_of(id_)
        if self._ids.get(number) != id_:
            return None
        for version in reversed(self._versions[number]):
            if at is None or version.revision <= at:
                return version
        return None

    def _later(self, seen: int, *, present: bool = False) -> Iterator[bytes]:
        """The frames that were written after revision `seen`: of every version, or of what is there."""
        for versions in self._versions.values():
            for version in versions[-1:] if present else versions:
                if version.revision > seen and version.frame is not None:
                    yield version.frame

    def _put(self, id_: str, version: Version) -> None:
        self._ids[number_of(id_)] = id_
        self._versions.setdefault(number_of(id_), []).append(version)

    def _forget_before(self, number: int, oldest: int) -> int:
        """Forget the versions of a number that cannot be seen from revision `oldest` on; gives how many."""
        versions = self._versions[number]
        first = max((place for place, version in enumerate(versions) if version.revision <= oldest), default=0)
        for version in versions[:first]:
            self._classes.pop((number, version.revision), None)
        self._versions[number] = versions[first:]
        return first

    def _trim(self, before: float) -> None:
        """Forget what commits made before that time have replaced, and all of those commits but the last."""
        kept = (each for each in self._commits if each.revision >= self._oldest)
        past = list(takewhile(lambda each: each.time < before, kept))
        self._oldest = past[-1].revision if past else self._oldest
        for commit in past:
            for number in commit.numbers:
                self._forget_before(number, self._oldest)
        self._commits = [each for each in self._commits if each.revision >= self._oldest]

    # -- checks ------------------------------------------------------------------------------------------

    def _refuse(self, batch: Batch) -> None:
        for draft in batch.drafts:
            if not draft.base and number_of(draft.id) in self._ids:
                raise number_taken(draft.id, number_of(draft.id))
        expected: Mapping[str, int] = {
            **{draft.id: draft.base for draft in batch.drafts if draft.base},
            **batch.removals,
            **batch.checks,
        }
        asked = {*expected, *batch.needed}
        found = {id_: v.revision for id_ in asked if (v := self._current(id_)) and v.frame is not None}
        for draft in batch.drafts:
            version = self._current(draft.id)
            if version is not None and version.frame is None and version.revision == draft.base:
                found[draft.id] = draft.base  # an object that was removed then comes back
        refuse_conflicts(mismatches(expected, found))
        refuse_absent(batch, found.keys())
        if batch.unreferred:
            refuse_referred(batch, self._later(batch.seen, present=True))


def _kept(digest: str, content: Buffer) -> Buffer:
    """The piece, in memory that is taken once; bytes as they are."""
    if isinstance(content, bytes):
        return content
    kept, start = bytearray(len(content)), 0
    for part in parts_of(digest, content):
        kept[start : start + len(part)] = part
        start += len(part)
    return memoryview(kept).toreadonly()


_OPEN: weakref.WeakSet[MemoryBackend] = weakref.WeakSet()
_HELD = HeldOverForks(lambda: [backend.lock for backend in _OPEN])
