"""Backs up a store that is in use into one file; the second time only what came since.

- The first backup, and one that has to begin anew, is written beside the file and takes its name when it is durable.
- An increment is appended. Cut off anywhere, the file is what it was before, and the next one cuts off what is left.
- A record that is damaged, or whose seal is not good, is told, and nothing is written: a backup holds nothing bad.
- Nothing is unpickled; frames are copied as they are, encrypted ones too. The key is not in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from perdure.backends.base import Backend
from perdure.backends.encrypted import at_rest
from perdure.errors import CorruptRecord, InvalidArgument, SnapshotTooOld, StorageError, UntrustedRecord
from perdure.files import Files
from perdure.objects.reports import BackedUp
from perdure.objects.store import Store
from perdure.records.buffers import digests_of
from perdure.records.frame import parse_unverified
from perdure.records.seal import TAG_SIZE, Key
from perdure.upkeep.backup_files import BackupFile, BackupWriter, Contents
from perdure.upkeep.past import revisions_of, size_of

ATTEMPTS = 3  # where the store is packed while it is read

Progress = Callable[[int, int], None]


class _Counted(NamedTuple):
    revision: int
    records: int
    pieces: int


def backup(
    store: Store, path: str | os.PathLike[str], *, progress: Progress | None = None, files: Files | None = None
) -> BackedUp:
    """See `Store.backup`."""
    files = files or Files()
    place = os.path.realpath(path)
    for attempt in range(ATTEMPTS):
        oldest = store.backend.describe().oldest
        try:
            return _backup(store, place, files, progress)
        except (SnapshotTooOld, CorruptRecord):
            # A large piece that was there a moment ago is missing, too, when a store is packed.
            if attempt + 1 == ATTEMPTS or store.backend.describe().oldest == oldest:
                raise
    raise AssertionError("the last attempt gives something or raises")


def _backup(store: Store, place: str, files: Files, progress: Progress | None) -> BackedUp:
    if files.kind(place) is None:
        return _whole(store, place, files, progress, anew=False)
    with files.lock(place, exclusive=True):
        file = BackupFile(place, files=files)
        contents = file.contents()
        _refuse_other(at_rest(store.backend), contents, place)
        if contents.revision < store.backend.describe().oldest:
            return _whole(store, place, files, progress, anew=True)
        return _increment(store, place, files, contents, progress)


def _whole(store: Store, place: str, files: Files, progress: Progress | None, *, anew: bool) -> BackedUp:
    with files.lock(f"{place}.new", exclusive=True, create=True), files.beside(place) as aside:
        writer = BackupWriter.new(files, aside)
        counted = _write(store, writer, 0, frozenset(), progress)
    return BackedUp(0, *counted, writer.end, writer.end, anew, 0)


def _increment(store: Store, place: str, files: Files, contents: Contents, progress: Progress | None) -> BackedUp:
    since, start = contents.revision, contents.end
    if contents.torn:
        files.truncate(place, start)
        files.sync(place)  # else what was cut off could come back behind what is written next
    if store.backend.revision() == since:
        return BackedUp(since, since, 0, 0, 0, start, False, contents.torn)
    writer = BackupWriter(files, place, start, contents.chain)
    try:
        counted = _write(store, writer, since, contents.pieces, progress)
    except BaseException:
        with suppress(StorageError):  # what cannot be cut off now does not count, and is cut off by the next one
            files.truncate(place, start)
        raise
    return BackedUp(since, *counted, writer.end - start, writer.end, False, contents.torn)


def _write(
    store: Store, writer: BackupWriter, since: int, known: frozenset[str], progress: Progress | None
) -> _Counted:
    """One increment; gives its newest revision, and how much is in it."""
    backend, key = at_rest(store.backend), store.key
    described = backend.describe()
    until = described.revision
    of = size_of(backend, since, until) if progress else 0
    told = {"encrypted": True} if described.encrypted else {}
    writer.begin(store=described.store, key=described.key, since=since, oldest=described.oldest, **told)
    pieces: set[str] = set(known)
    records = 0
    for past in revisions_of(backend, since, until):
        for frame in past.frames.values():
            _add_record(backend, writer, frame, key, pieces)
        writer.revision(past)
        records += len(past.frames)
        if progress:
            progress(records, max(of, records))
    after = backend.describe()
    if after.oldest != described.oldest:
        raise SnapshotTooOld("The store was packed while it was backed up.", hint="Repeat it.")
    writer.finish(revision=until, next=after.next_number, indexes=backend.indexes(), time=store.desk().clock.now())
    return _Counted(until, records, len(pieces) - len(known))


def _add_record(backend: Backend, writer: BackupWriter, frame: bytes, key: Key | None, pieces: set[str]) -> None:
    record = parse_unverified(frame)
    if key is not None and not key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:]):
        raise UntrustedRecord(
            f"{record.id} does not carry a good seal of the store's key, and would be no good in a backup.",
            hint="`perdure check` lists all of them.",
            ids=(record.id,),
        )
    for digest, length in digests_of(record).items():
        if digest not in pieces:
            writer.piece(digest, length, backend.buffer_parts(digest))
            pieces.add(digest)
    writer.record(frame)


def _refuse_other(backend: Backend, contents: Contents, place: str) -> None:
    """Raise `InvalidArgument` for a backup that this store cannot go on with."""
    described = backend.describe()
    why = ""
    if contents.store != described.store:
        why = "is the backup of another store, or of the one that this one was restored from"
    elif contents.revision > described.revision:
        why = f"goes up to revision {contents.revision}; the store is at {described.revision} only"
    elif contents.last is not None and contents.last.revision >= max(described.oldest, 1):
        found = backend.commits_of([contents.last.revision]).get(contents.last.revision)
        if found != contents.last:
            why = f"has another commit as revision {contents.last.revision} than the store"
    if why:
        raise InvalidArgument(f"{place} {why}.", hint="Give a new name.", path=place)
