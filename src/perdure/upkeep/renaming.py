"""Changes names of classes and modules in a whole store, by ordinary commits; nothing is imported or unpickled.

- A store of up to `TOGETHER` records that are changed gets one commit. A larger one gets several; each is whole, and
  to run it again after it was cut off does the rest, since what is changed already does not come under the rules.
- What others write meanwhile is read again and changed as well, never overwritten.
- A record that cannot be changed with certainty, or that does not carry a good seal, is left alone and reported.
- History keeps what was there. Where the store is opened with `history="off"`, a copy is written first.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from perdure.backends.base import Backend, chunks, number_of
from perdure.backends.encrypted import at_rest
from perdure.errors import (
    CannotRename,
    ConflictError,
    CorruptRecord,
    InvalidArgument,
    NewerFormat,
    StorageError,
    TransactionError,
    UntrustedRecord,
)
from perdure.files import Files
from perdure.objects.store import Store
from perdure.objects.transactions.commits import ROUNDS, Desk
from perdure.objects.transactions.signing import signing
from perdure.objects.views.memory import CollectionPaused
from perdure.pickling.renames import Renames
from perdure.records.frame import decode, encoder, id_of
from perdure.records.seal import Key
from perdure.records.splicing import SplicedDraft, Splicer
from perdure.records.values import BUFFERED, COMPRESSED, PLAIN, Batch, Draft
from perdure.upkeep.renamed import Changed, renamed

TOGETHER = 100_000  # records that one commit changes
MOST_BYTES = 256 << 20  # of frames that one commit changes
STEP = 1000  # records after which progress is told

Progress = Callable[[int, int], None]


class Refused(NamedTuple):
    """A record of which nothing was changed, and why."""

    id: str
    class_name: str
    why: str


class RenameReport(NamedTuple):
    """What was changed, or with `dry_run` would be.

    `classes` counts the records of each class whose own name changes, and `names` the names in payloads, both by
    (old, new). `records` is how many were changed, of `looked_at`; `revisions` are those of the commits.
    """

    records: int
    looked_at: int
    classes: Changed
    names: Changed
    refused: tuple[Refused, ...]
    revisions: tuple[int, ...]


def rename_in_store(
    store: Store,
    renames: Renames,
    *,
    dry_run: bool = False,
    copy_to: str | os.PathLike[str] | None = None,
    note: str = "",
    progress: Progress | None = None,
) -> RenameReport:
    """Change names in all records of a store; `store.undo` takes each commit back.

    `copy_to` is a new file that gets the frames of all records that are changed, as they were, before that is done; it
    must be given where the store keeps no history, else `InvalidArgument`. Raises `TransactionError` inside a
    transaction, `ConflictError` if others change the same records all the time.
    """
    desk = store.desk()
    if desk.is_in_transaction:
        raise TransactionError("A rename makes commits of its own.", hint="Call it outside of the transaction.")
    if not dry_run:
        desk.require_writable()
        if desk.keep is not None and copy_to is None:
            raise InvalidArgument(
                "This store keeps no history, so that nothing could be taken back.",
                hint="Give copy_to, a file for what is there now; or open the store without history='off'.",
            )
    work = _Work(
        store, desk, renames, note or note_of(renames), progress, None if copy_to is None or dry_run else _Copy(copy_to)
    )
    work.run(dry_run=dry_run)
    return work.report()


class _Copy:
    """The file that gets what was there."""

    def __init__(self, path: str | os.PathLike[str]):
        self._path = os.path.abspath(path)
        self._files = Files()
        self._end = 0
        if self._files.kind(self._path) is not None:
            raise StorageError(
                f"{self._path} is there already, and is not overwritten.", hint="Name a new file.", path=self._path
            )

    def add(self, frames: Iterable[bytes]) -> None:
        """Write frames behind one another; durable when it returns."""
        data = b"".join(frames)
        if not self._end:
            self._files.write_new(self._path, data)
        else:
            self._files.write_at(self._path, self._end, data)
        self._files.sync(self._path)
        if not self._end:
            self._files.sync_directory(os.path.dirname(self._path))
        self._end += len(data)


class _Before(NamedTuple):
    """The class of what a draft replaces, and what was changed in its payload."""

    class_name: str
    changed: Changed


_CLASSES: Callable[[Draft], tuple[str, str]] = itemgetter(5, 3)  # of a spliced draft: old and new


class _Work:
    """One rename of a store: passes over what is there, until nobody has written in between."""

    def __init__(
        self, store: Store, desk: Desk, renames: Renames, note: str, progress: Progress | None, copy: _Copy | None
    ):
        self.backend: Backend = store.backend
        self.desk = desk
        self.key: Key | None = store.key
        self.renames = renames
        self.note = note
        self.progress = progress
        self.copy = copy
        self.classes: Changed = Counter()
        self.names: Changed = Counter()
        self.refused: dict[str, Refused] = {}
        self.revisions: list[int] = []
        self.records = self.looked_at = 0
        self.indexes = self.backend.indexes()
        self.told = {*self.indexes, *map(renames.of_text, self.indexes)}  # classes whose fields the backend asks for
        self.has_columns = desk.view.extra_fields is not None
        self.pending: dict[str, _Before] = {}  # by ids, of drafts that were not spliced
        self.splicer: Splicer | None = None
        if self.key is not None:
            encode = encoder(self.key, compress=True)
            self.splicer = Splicer(self.key, renames.of_text, renames.signs, self._tells_fields, encode)

    def report(self) -> RenameReport:
        refused = tuple(self.refused.values())
        return RenameReport(
            self.records,
            self.looked_at,
            Counter({key: n for key, n in self.classes.items() if key[0] != key[1]}),
            +self.names,
            refused,
            tuple(self.revisions),
        )

    def run(self, *, dry_run: bool) -> None:
        """Look at every record; then at what others wrote since, as often as that comes to anything."""
        seen = self.backend.revision()
        with CollectionPaused():
            again = self._change(self.backend.scan(), seen, dry_run=dry_run)
            for _ in range(ROUNDS if not dry_run else 0):
                newest, numbers = self.backend.changes(seen)
                own = len([revision for revision in self.revisions if seen < revision <= newest])
                if newest - seen == own and not again:
                    return
                ids = self.backend.ids_of(numbers, newest)
                frames = (frame for chunk in chunks(ids) for frame in self.backend.read(chunk, newest).values())
                seen, self.looked_at = newest, self.looked_at - len(again)
                again = self._change(frames, newest, dry_run=dry_run)
        if again:
            raise ConflictError(
                f"Others change {', '.join(sorted(again)[:5])} all the time.",
                hint="Repeat the call; what was changed by now stays changed.",
                ids=again,
                revisions={},
            )

    def _change(self, frames: Iterator[bytes], seen: int, *, dry_run: bool) -> set[str]:
        """Change what comes; gives the ids that others have changed in between."""
        again: set[str] = set()
        drafts: list[Draft] = []
        size, self.next = 0, seen + 1
        of = self.backend.describe().next_number
        while some := list(islice(frames, STEP)):
            self.looked_at += len(some)
            drafts += self._drafts(some)
            size += sum(map(len, some))
            if len(drafts) >= TOGETHER or size >= MOST_BYTES:
                again |= self._commit(drafts, seen, dry_run=dry_run)
                drafts, size = [], 0
            if self.progress is not None:
                self.progress(min(number_of(id_of(some[-1])), of), of)
        if drafts:
            again |= self._commit(drafts, seen, dry_run=dry_run)
        return again

    def _drafts(self, frames: list[bytes]) -> list[Draft]:
        """Drafts of those frames in which something is to be changed, and can be."""
        found, rest = ([], frames) if self.splicer is None else self.splicer.drafts(frames, self.next)
        for frame in rest:
            draft = self._draft(frame)
            if draft is not None:
                found.append(draft)
        return found

    def _draft(self, frame: bytes) -> Draft | None:
        """The record with its new names; None where nothing is to be changed, or nothing can."""
        may_hide = frame[5] & ((COMPRESSED | BUFFERED) >> 8) or not frame[4] & PLAIN
        if not may_hide and not any(sign in frame for sign in self.renames.signs):
            return None
        try:
            record = decode(frame, self.key, trust_all=self.key is None)
        except (UntrustedRecord, CorruptRecord, NewerFormat) as error:
            if any(sign in frame for sign in self.renames.signs) or frame[5] & COMPRESSED >> 8:
                self._refuse(_id_in(frame), "", error.message)
            return None
        try:
            found = renamed(record, self.renames, self.backend)
        except (CannotRename, CorruptRecord) as error:
            self._refuse(record.id, record.class_name, error.message)
            return None
        if found is None:
            return None
        self.pending[record.id] = _Before(record.class_name, found.changed)
        return found.draft

    def _commit(self, drafts: list[Draft], seen: int, *, dry_run: bool) -> set[str]:
        """Write drafts as one commit; gives the ids of those that others have changed, which are left out."""
        again: set[str] = set()
        if not dry_run:
            assert self.splicer is not None  # require_writable has asked for the key
            if self.copy is not None:
                self.copy.add(self._stored(drafts))
            for _ in range(ROUNDS):
                try:
                    with signing(self.desk, self.splicer.encode) as apply:
                        receipt = apply(self._batch(drafts, seen))
                except ConflictError as error:
                    if not error.ids:
                        raise
                    again.update(error.ids)
                    drafts = [draft for draft in drafts if draft.id not in again]
                    if not drafts:
                        break
                else:
                    self.revisions.append(receipt.revision)
                    self.next = receipt.revision + 1
                    break
            else:
                again.update(draft.id for draft in drafts)
                drafts = []
        self._count(drafts)
        return again

    def _batch(self, drafts: list[Draft], seen: int) -> Batch:
        names = {(self._old_class(draft), draft.class_name) for draft in drafts} if self.indexes else set()
        indexed = indexed_fields(names, self.indexes)
        return Batch(drafts, seen=seen, time=self.desk.clock.now(), note=self.note, indexed=indexed)

    def _stored(self, drafts: list[Draft]) -> Iterator[bytes]:
        """The frames that the drafts replace; of those that were changed since, the commit will tell."""
        for chunk in chunks(draft.id for draft in drafts):
            yield from at_rest(self.backend).read(chunk).values()

    def _old_class(self, draft: Draft) -> str:
        return draft.code if type(draft) is SplicedDraft else self.pending[draft.id].class_name

    def _count(self, drafts: list[Draft]) -> None:
        self.records += len(drafts)
        spliced = drafts
        if self.pending:
            spliced = [draft for draft in drafts if type(draft) is SplicedDraft]
            for draft in drafts:
                if type(draft) is not SplicedDraft:
                    before = self.pending[draft.id]
                    self.names.update(before.changed)
                    if before.class_name != draft.class_name:
                        self.classes[before.class_name, draft.class_name] += 1
        self.classes.update(map(_CLASSES, spliced))
        self.pending.clear()

    def _refuse(self, id_: str, class_name: str, why: str) -> None:
        self.refused[id_] = Refused(id_, class_name, why)

    def _tells_fields(self, class_name: str) -> bool:
        return self.has_columns or class_name in self.told


def _id_in(frame: bytes) -> str:
    try:
        return id_of(frame)
    except (UnicodeDecodeError, IndexError):
        return "(a record)"


def indexed_fields(
    names: Iterable[tuple[str, str]], indexes: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    """The fields that queries ask for of classes which get new names: those of the old and of the new one."""
    indexed: dict[str, tuple[str, ...]] = {}
    for old, new in names:
        fields = (*indexed.get(new, ()), *indexes.get(old, ()), *indexes.get(new, ()))
        if fields:
            indexed[new] = tuple(dict.fromkeys(fields))
    return indexed


def class_changes(pairs: Iterable[tuple[str, str]]) -> Changed:
    """How often each (old, new) name is among the pairs."""
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def note_of(renames: Renames) -> str:
    """What the history says of a rename, in one line."""
    told = [f"{':'.join(old)} to {':'.join(new)}" for old, new in renames.renames.items()]
    told += [f"{old} to {new}" for old, new in renames.moves.items()]
    return f"rename {told[0] if told else 'nothing'}" + (f" and {len(told) - 1} more" if len(told) > 1 else "")
