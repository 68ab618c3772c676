"""The backend that keeps everything in this process: the reference for all others, and their oracle in tests."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping

from perdure.backends.base import Backend, NewKey, mismatches, no_key, number_of, refuse_conflicts
from perdure.errors import IdInUse, ReadOnly, StoreClosed
from perdure.records.frame import FORMAT, Encoder, parse_unverified
from perdure.records.values import INTERNAL, Batch, Commit, Description, Receipt, Version


class MemoryBackend(Backend):
    """Frames in dicts; every version is kept until the process ends."""

    def __init__(self, *, new_key: NewKey = no_key, read_only: bool = False):
        self.read_only = read_only
        self._lock = threading.RLock()
        self._store = uuid.uuid4().hex
        self._key_id = new_key()
        self._next_number = 1
        self._versions: dict[int, list[Version]] = {}  # oldest first
        self._ids: dict[int, str] = {}
        self._kinds: dict[int, tuple[str, bool]] = {}  # class name, perdure's own or not
        self._commits: list[Commit] = []
        self._closed = False

    def describe(self) -> Description:
        with self._opened():
            return Description(FORMAT, self._store, self._key_id, len(self._commits), self._next_number)

    def revision(self) -> int:
        with self._opened():
            return len(self._commits)

    def reserve(self, count: int, *, durable: bool = True) -> int:
        with self._opened(write=True):
            first = self._next_number
            self._next_number += count
            return first

    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        with self._opened(write=True):
            self._refuse_conflicts(batch)
            revision = len(self._commits) + 1
            frames = [(draft, encode(draft, revision)) for draft in batch.drafts]
            for draft, frame in frames:
                self._put(draft.id, Version(revision, frame))
                self._kinds[number_of(draft.id)] = (draft.class_name, bool(draft.flags & INTERNAL))
            for id_ in batch.removals:
                self._put(id_, Version(revision, None))
            numbers = sorted(number_of(id_) for id_ in (*(d.id for d in batch.drafts), *batch.removals))
            self._commits.append(Commit(revision, batch.time, batch.note, batch.code, tuple(numbers)))
            if batch.unused[1] == self._next_number:
                self._next_number = batch.unused[0]
            self._next_number = max([self._next_number, *(number + 1 for number in numbers)])
            return Receipt(revision)

    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        with self._opened():
            found = ((id_, self._current(id_, at)) for id_ in ids)
            return {id_: version.frame for id_, version in found if version and version.frame is not None}

    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        names = {}
        for id_, frame in self.read(ids, at).items():
            is_newest = frame is self._versions[number_of(id_)][-1].frame
            names[id_] = self._kinds[number_of(id_)][0] if is_newest else parse_unverified(frame).class_name
        return names

    def ids(self, *, internal: bool = False) -> list[str]:
        with self._opened():
            return [self._ids[number] for number in self._chosen(None, internal, -1)]

    def scan(self, *, class_name: str | None = None, internal: bool | None = None, after: int = -1) -> Iterator[bytes]:
        with self._opened():
            numbers = self._chosen(class_name, internal, after)
        for number in numbers:
            with self._opened():
                frame = self._versions[number][-1].frame
            if frame is not None:
                yield frame

    def changes(self, since: int) -> tuple[int, set[int]]:
        with self._opened():
            return len(self._commits), {n for commit in self._commits[since:] for n in commit.numbers}

    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        with self._opened():
            end = len(self._commits) if before is None else max(before - 1, 0)
            return self._commits[:end][::-1][:limit]

    def history(self, id_: str) -> list[Version]:
        with self._opened():
            if self._ids.get(number_of(id_)) != id_:
                return []
            return self._versions[number_of(id_)][::-1]

    def close(self) -> None:
        self._closed = True

    def _opened(self, *, write: bool = False) -> threading.RLock:
        if self._closed:
            raise StoreClosed("The store was closed.", hint="Open it again with make_store.")
        if write and self.read_only:
            raise ReadOnly("The store was opened with read_only=True.", hint="Open it without, to write.")
        return self._lock

    def _chosen(self, class_name: str | None, internal: bool | None, after: int) -> list[int]:
        return sorted(
            number
            for number, kind in self._kinds.items()
            if number > after
            and self._versions[number][-1].frame is not None
            and class_name in (None, kind[0])
            and internal in (None, kind[1])
        )

    def _current(self, id_: str, at: int | None = None) -> Version | None:
        number = number_of(id_)
        if self._ids.get(number) != id_:
            return None
        for version in reversed(self._versions[number]):
            if at is None or version.revision <= at:
                return version
        return None

    def _put(self, id_: str, version: Version) -> None:
        self._ids[number_of(id_)] = id_
        self._versions.setdefault(number_of(id_), []).append(version)

    def _refuse_conflicts(self, batch: Batch) -> None:
        for draft in batch.drafts:
            if not draft.base and number_of(draft.id) in self._ids:
                raise IdInUse(
                    f"{draft.id} cannot be new: the number {number_of(draft.id)} was given before.",
                    hint="The factory of ids must never give a number twice.",
                    ids=(draft.id,),
                )
        expected: Mapping[str, int] = {
            **{draft.id: draft.base for draft in batch.drafts if draft.base},
            **batch.removals,
            **batch.checks,
        }
        found = {id_: v.revision for id_ in expected if (v := self._current(id_)) and v.frame is not None}
        refuse_conflicts(mismatches(expected, found))
