"""Repairs what can be repaired of a store without guessing; see decision 33.

- A version of an object that is damaged or missing is put back from a backup, bit for bit: only where what is there
  does not carry a good seal, and the copy does.
- A large piece is put back by its content, which its digest names. Of an encrypted store nothing is opened for it.
- Indexes, and under which class an object is kept, are made anew from the headers of the records, if they disagree.
- A counter that stands below a number in use is moved above it.
- No healthy record is touched, none is removed, and no revision is made but for large pieces. What is taken out is kept
  in a folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from perdure.backends.base import Backend, chunks
from perdure.backends.encrypted import at_rest
from perdure.errors import CorruptRecord, InvalidArgument, PerdureError, StorageError, UntrustedRecord
from perdure.files import Files
from perdure.objects.reports import Problem, Repaired
from perdure.objects.store import Store
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.signing import signing
from perdure.records.buffers import digest_of
from perdure.records.frame import parse_unverified
from perdure.records.hidden import StoredPiece
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.values import Batch, Buffer
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.checking import check, check_classes, classes_told
from perdure.upkeep.indexes import check_indexes
from perdure.upkeep.large import damaged_pieces

Progress = Callable[[int, int], None]


class _Copy(NamedTuple):
    """A good copy of a version."""

    id: str
    revision: int
    frame: bytes


def repair(
    store: Store,
    *,
    source: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Repaired:
    """See `Store.repair`."""
    desk = store.desk()
    desk.require_writable()
    backend, key = at_rest(store.backend), store.key
    assert key is not None  # require_writable has asked for it
    found = tuple(check(store))
    place = getattr(backend, "path", "") or getattr(backend, "directory", "")  # of those whose medium is files
    removed = Removed(folder or (f"{place}.removed" if place else None), dry_run=dry_run)
    work = _Repair(desk, key, removed, dry_run)
    if source is not None:
        work.mend(_good_copies(backend, key, source), progress)
    work.renew()
    work.bring_pieces({} if source is None else _pieces_in(source))
    work.move_counter()
    left = found if dry_run else tuple(check(store))
    return Repaired(found, tuple(work.done), left, work.removed.folder if work.removed.count else "")


class Removed:
    """The folder for what is taken out of a store; made when there is something."""

    def __init__(self, folder: str | os.PathLike[str] | None, *, dry_run: bool):
        self.folder = "" if folder is None else os.path.abspath(folder)
        self.count = 0
        self._dry_run = dry_run
        self._files = Files()

    def keep(self, name: str, content: bytes) -> None:
        """Keep something, durably; before it is taken out."""
        if self._dry_run or not content:
            return
        if not self.folder:
            raise InvalidArgument(
                "What is taken out of this store has no place to be kept.", hint="Name a folder: folder=…, --folder."
            )
        self._files.make_directories(self.folder)
        path = os.path.join(self.folder, name)
        place, number = path, 1
        while self._files.kind(place) is not None:  # of an earlier repair
            place, number = f"{path}.{number}", number + 1
        self._files.replace_durably(place, content)
        self.count += 1


class _Repair:
    """One repair: what is to be done, done and noted."""

    def __init__(self, desk: Desk, key: Key, removed: Removed, dry_run: bool):
        self._desk, self._backend = desk, at_rest(desk.view.backend)
        self._key, self.removed, self._dry_run = key, removed, dry_run
        self.done: list[Problem] = []

    def mend(self, copies: Iterator[_Copy], progress: Progress | None) -> None:
        """Put good copies in the place of versions that are not good."""
        for done, copy in enumerate(copies, 1):
            what = f"its version of revision {copy.revision} is put back from the backup"
            if not self._dry_run:
                keep = partial(self.removed.keep, f"{copy.id}.{copy.revision}")
                try:
                    self._backend.mend(*copy, keep)
                except CorruptRecord:
                    continue  # check says so
            self.done.append(Problem(copy.id, what))
            if progress:
                progress(done, done)

    def renew(self) -> None:
        """Make indexes anew, if any of them disagrees with the headers."""
        backend = self._backend
        listed = _listed(backend)
        classes = classes_told(self._desk.view.backend, listed)  # of an encrypted store what is inside
        damaged = listed - classes.keys()  # what an index should say of those, nobody knows
        told = (*_told(check_indexes(backend)), *_told(check_classes(backend, classes)))
        if any(id_ not in damaged for id_, _ in told):
            if not self._dry_run:
                backend.renew_indexes()
            self.done.append(Problem("", "Its indexes are made anew from the headers of the records."))

    def bring_pieces(self, good: dict[str, Buffer]) -> None:
        """Write large pieces anew that are damaged or missing, where their content is known."""
        damaged = {digest: id_ for digest, id_, _ in damaged_pieces(self._backend)}
        found = {digest: StoredPiece(good[digest]) for digest in damaged if digest in good}
        if not found:
            return
        if not self._dry_run:
            for digest in found:
                self.removed.keep(f"piece.{digest[:16]}", self._content(digest))
            with signing(self._desk) as apply:
                apply(Batch([], time=self._desk.clock.now(), note="repair", buffers=found, keep=self._desk.keep))
        for digest in found:
            self.done.append(Problem(damaged[digest], f"its large piece {digest} is put back from the backup"))

    def _content(self, digest: str) -> bytes:
        """What the store has of a damaged piece, as far as it can be read."""
        with suppress(PerdureError):
            return bytes(self._backend.buffer(digest))
        return b""

    def move_counter(self) -> None:
        """Move the counter above all numbers."""
        numbers = (number for commit in self._backend.commits() for number in commit.numbers)
        highest, stands = max(numbers, default=0), self._backend.describe().next_number
        if highest >= stands:
            if not self._dry_run:
                self._backend.reserve(highest + 1 - stands)
            self.done.append(Problem("", f"Its counter is moved from {stands} to {highest + 1}."))


def _good_copies(backend: Backend, key: Key, source: str | os.PathLike[str]) -> Iterator[_Copy]:
    """Every version in a backup whose like in the store is damaged or missing."""
    file = BackupFile(source)
    contents = file.contents()
    if contents.key != key.id:
        raise InvalidArgument(f"{source} is the backup of a store with another key.", hint="Give one of this store.")
    described = backend.describe()
    oldest, newest = described.oldest, {commit.revision: commit for commit in backend.commits()}
    seen: dict[str, int] = {}  # of what was written up to the oldest revision, the version that is kept
    for past, _ in file.steps(contents.end):
        if past.revision <= oldest:
            seen.update(dict.fromkeys((*past.frames, *past.removed), past.revision))
    for past, _ in file.steps(contents.end):
        if past.revision > described.revision:
            break
        if past.revision in newest and past.commit not in (None, newest[past.revision]):
            raise InvalidArgument(
                f"{source} has another commit as revision {past.revision} than the store.",
                hint="Give a backup of this store.",
            )
        kept = [id_ for id_ in past.frames if past.revision > oldest or seen[id_] == past.revision]
        for chunk in chunks(kept):
            copies = [_Copy(id_, past.revision, past.frames[id_]) for id_ in chunk]
            if _found(backend, chunk, max(past.revision, oldest)) != [copy.frame for copy in copies]:
                yield from (_sound(key, copy) for copy in copies if not _is_good(backend, key, copy, oldest))


def _found(backend: Backend, ids: list[str], revision: int) -> list[bytes | None]:
    """The frames of those ids at that revision, None where there is none; nothing at all if one cannot be read."""
    try:
        frames = backend.read(ids, revision)
    except PerdureError:
        return []
    return [frames.get(id_) for id_ in ids]


def _is_good(backend: Backend, key: Key, copy: _Copy, oldest: int) -> bool:
    """Whether what the store has in its place carries a good seal, or was erased on purpose."""
    for frame in _found(backend, [copy.id], max(copy.revision, oldest)):
        if frame is not None and _sealed(key, frame) and parse_unverified(frame).revision == copy.revision:
            return True
    try:
        versions = backend.history(copy.id)
    except PerdureError:
        return False
    return bool(versions) and versions[-1].frame is None  # of what was erased, only its removal is left


def _sealed(key: Key, frame: bytes) -> bool:
    return key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:])


def _sound(key: Key, copy: _Copy) -> _Copy:
    """The copy, whose own seal is good, too."""
    if not _sealed(key, copy.frame):
        raise UntrustedRecord(f"The copy of {copy.id} in the backup does not carry a good seal.", ids=(copy.id,))
    return copy


def _pieces_in(source: str | os.PathLike[str]) -> dict[str, Buffer]:
    file = BackupFile(source)
    steps = file.steps(file.contents().end)
    return {
        digest: content for _, pieces in steps for digest, content in pieces.items() if digest_of(content) == digest
    }


def _told(problems: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The problems, up to what cannot be read at all, which is no question of indexes."""
    with suppress(CorruptRecord, StorageError):
        yield from problems


def _listed(backend: Backend) -> set[str]:
    """The ids of all objects, as far as they can be listed."""
    with suppress(CorruptRecord, StorageError):
        return {id_ for internal in (False, True) for id_ in backend.ids(internal=internal)}
    return set()
