"""The whole past of a store, revision by revision: read from any backend, and written anew into any other.

- Frames are carried as they are, under their seals; nothing is unpickled, and no key is needed.
- What is read is a consistent snapshot, whoever commits meanwhile; `SnapshotTooOld` if it is packed away over it.
- Of a store that was packed, the first part is what can be seen at its oldest revision, in order of when it was
  written; after that follows every commit.
- What was written anew reads the same again: `Telling` makes one digest of either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from perdure.backends.base import Backend, chunks, number_of, runs_of
from perdure.errors import CorruptRecord
from perdure.records.frame import parse_unverified
from perdure.records.queries import sort_key
from perdure.records.values import INTERNAL, Batch, Buffer, Commit, Draft, Past, Plain

DIGEST_SIZE = 16  # bytes; of what `Telling` gives


def revisions_of(backend: Backend, since: int, until: int) -> Iterator[Past]:
    """Everything that the store has of the revisions above `since`, up to `until`, in order."""
    oldest = backend.describe().oldest
    gone = {number_of(id_): (id_, revision) for id_, revision in backend.removals().items()}
    if since < oldest:
        yield from _first_part(backend, oldest, gone)
        since = oldest
    later = [commit for commit in backend.commits(before=until + 1) if commit.revision > since]
    for commit in reversed(later):
        yield _written_by(backend, commit, oldest, gone)


def size_of(backend: Backend, since: int, until: int) -> int:
    """How many records `revisions_of` will give, about: for who shows progress."""
    base = len(backend.ids()) if since < backend.describe().oldest else 0
    return base + sum(len(each.numbers) for each in backend.commits(before=until + 1) if each.revision > since)


def _first_part(backend: Backend, oldest: int, gone: Mapping[int, tuple[str, int]]) -> Iterator[Past]:
    commits = {commit.revision: commit for commit in backend.commits(before=oldest + 1)}
    ids: dict[int, list[str]] = {revision: [] for revision in (*commits, oldest)}
    removed: dict[int, list[str]] = {}
    for chunk in chunks(id_ for own in (False, True) for id_ in backend.ids(internal=own, at=oldest)):
        for id_, frame in backend.read(chunk, oldest).items():
            ids.setdefault(parse_unverified(frame).revision, []).append(id_)
    for id_, revision in gone.values():
        if revision <= oldest:
            ids.setdefault(revision, [])
            removed.setdefault(revision, []).append(id_)
    for revision in sorted(ids):
        frames = {id_: frame for chunk in chunks(ids[revision]) for id_, frame in backend.read(chunk, oldest).items()}
        yield Past(revision, commits.get(revision), _sorted(frames), tuple(sorted(removed.get(revision, ()))))


def _written_by(backend: Backend, commit: Commit, oldest: int, gone: Mapping[int, tuple[str, int]]) -> Past:
    revision = commit.revision
    read = (backend.read(chunk, revision) for chunk in chunks(backend.ids_of(commit.numbers, revision)))
    found = (pair for each in read for pair in each.items())
    frames = {id_: frame for id_, frame in found if parse_unverified(frame).revision == revision}
    left = set(commit.numbers).difference(map(number_of, frames))
    removed = set(backend.ids_of(left, revision - 1)) if left and revision > max(oldest, 1) else set()
    removed.update(gone[number][0] for number in left if number in gone and gone[number][1] == revision)
    return Past(revision, commit, _sorted(frames), tuple(sorted(removed)))


def _sorted(frames: Mapping[str, bytes]) -> dict[str, bytes]:
    return {id_: frames[id_] for id_ in sorted(frames, key=number_of)}


class Telling:
    """A digest of a past, revision by revision."""

    def __init__(self) -> None:
        self._state = blake2b(digest_size=DIGEST_SIZE)

    def add(self, past: Past) -> None:
        """Take in the next revision."""
        commit = past.commit
        told = None if commit is None else (commit.time, commit.note, commit.code, runs_of(commit.numbers))
        self._state.update(repr((past.revision, told, past.removed, len(past.frames))).encode("utf-8", "surrogatepass"))
        for frame in past.frames.values():
            self._state.update(len(frame).to_bytes(8, "little"))
            self._state.update(frame)

    def digest(self) -> bytes:
        return self._state.digest()


def told(backend: Backend, until: int) -> bytes:
    """The digest of all that the store has up to that revision."""
    telling = Telling()
    for past in revisions_of(backend, 0, until):
        telling.add(past)
    return telling.digest()


class Step(NamedTuple):
    """A revision, with the large pieces that its records brought."""

    past: Past
    pieces: Mapping[str, Buffer]


class Filling:
    """Writes a past into a store that has none, or the beginning of the same.

    `indexes` are the fields of each class that queries ask for; without, whatever all its records tell.
    """

    def __init__(self, backend: Backend, indexes: Mapping[str, list[str]]):
        self.backend = backend
        self._indexes = indexes
        self._there = backend.revision()
        self._known: dict[int, int] = {}  # number -> the revision that wrote or removed it last

    def add(self, past: Past, pieces: Mapping[str, Buffer]) -> bool:
        """Write the next revision, unless it is there; gives whether it was written."""
        new = past.revision > self._there
        if new:
            self.backend.replay(past, self._batch(past, pieces))
        for id_ in (*past.frames, *past.removed):
            self._known[number_of(id_)] = past.revision
        return new

    def finish(self, next_number: int) -> None:
        """Bring the counter to where it was."""
        missing = next_number - self.backend.describe().next_number
        if missing > 0:
            self.backend.reserve(missing)

    def _batch(self, past: Past, pieces: Mapping[str, Buffer]) -> Batch:
        commit = past.commit or Commit(past.revision, 0.0, "", "", ())
        drafts = [self._draft(id_, frame) for id_, frame in past.frames.items()]
        return Batch(
            drafts,
            {id_: self._known.get(number_of(id_), 0) for id_ in past.removed},
            seen=past.revision - 1,
            time=commit.time,
            note=commit.note,
            code=commit.code,
            counted=True,
            indexed=self._indexed(drafts),
            buffers=pieces,
        )

    def _draft(self, id_: str, frame: bytes) -> Draft:
        record = parse_unverified(frame)
        if record.id != id_:
            raise CorruptRecord(f"The record of {id_} is that of {record.id}.", ids=(id_, record.id))
        values: dict[str, Any] = record._asdict()
        del values["revision"]
        return Draft(base=self._known.get(number_of(id_), 0), **values)

    def _indexed(self, drafts: list[Draft]) -> dict[str, tuple[str, ...]]:
        if self._indexes:
            names = {draft.class_name for draft in drafts}
            return {name: tuple(self._indexes[name]) for name in names if name in self._indexes}
        found: dict[str, dict[str, None]] = {}
        for draft in drafts:
            if not draft.flags & INTERNAL:
                fit = {name: None for name, value in draft.fields.items() if _is_sortable(value)}
                before = found.get(draft.class_name, fit)
                found[draft.class_name] = {name: None for name in before if name in fit}
        return {name: tuple(fields) for name, fields in found.items() if fields}


def _is_sortable(value: Plain) -> bool:
    try:
        sort_key(value)
    except ValueError:
        return False
    return True
