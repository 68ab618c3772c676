"""The contract of a backend, call by call. `perdure.testing.backend_contract` holds every implementation to it.

A backend keeps *frames* (see `perdure.records.frame`) under ids, and every older version of them. It never looks into
a payload. What holds everywhere:

- Numbers (the N of an id) are unique in a store: one id, one number. A look-up under the right number but the wrong
  prefix finds nothing.
- One `apply` is one atomic, durable step: after a crash all of it is there or none; once it has returned it is there.
- Revisions are consecutive from 1; revision R is the store after the R-th commit; 0 is the empty store.
- Any number of threads may call any method; any number of processes may have the same store open. A caller that
  must wait for another process waits, for at most `timeout` seconds; then `StoreBusy`.
- Nothing stays open between calls: no read transaction, no lock. A backend notices that it was forked, and opens its
  connections anew.
- Errors of the medium become `StorageError` and its children; a failed `apply` leaves the store as it was. After an
  error whose outcome cannot be known (fsync failed) every later write raises `OutcomeUnknown`.
- After `close` every call raises `StoreClosed`; closing twice is fine.
- `new_key` gives the id of the key that a new store notes. It is called once, and only when the store is really made:
  by the one process that makes it, under the lock that keeps the others out.
- A backend that was opened with `read_only=True` never writes to its medium; `apply` and `reserve` raise `ReadOnly`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice

from perdure import kernels
from perdure.backends.lacking import cannot_be_encrypted, cannot_be_filled, cannot_be_mended
from perdure.errors import ConflictError, IdInUse, SnapshotTooOld
from perdure.records.buffers import PART, digests_of
from perdure.records.frame import Encoder, parse_unverified
from perdure.records.queries import Found, Query, arrange, matcher
from perdure.records.values import Batch, Buffer, Commit, Description, Past, Receipt, Version

NewKey = Callable[[], int]
Keep = Callable[[bytes], None]

CHUNK = 500  # records that a scan holds in memory at a time
FEW = 8  # up to so many ids are searched for one by one
SMALL = 1 << 15  # bytes of a frame below which it is read ahead


def no_key() -> int:
    """The id that stands for no key, for a store whose records nobody seals."""
    return 0


class Backend(ABC):
    """Where the records of one store are kept. See the module's text for what holds for every method."""

    read_only: bool = False

    @abstractmethod
    def describe(self) -> Description:
        """What the store says of itself; read afresh at each call."""

    @abstractmethod
    def revision(self) -> int:
        """The newest revision; cheap, since views ask it at every load."""

    @abstractmethod
    def reserve(self, count: int, *, durable: bool = True) -> int:
        """The first of `count` consecutive numbers that nobody else will ever get.

        With `durable=False` a power cut may forget the reservation, but only if no later commit was made durable: good
        for numbers that are shown to nobody before such a commit.
        """

    def give_back(self, first: int, end: int) -> bool:
        """Let numbers from `first` on and below `end`, reserved and shown to nobody, be given again, if that is easy.

        Gives whether they will be; what somebody else has reserved since stands in the way.
        """
        return False

    @abstractmethod
    def apply(self, batch: Batch, encode: Encoder) -> Receipt:
        """Write the batch as the next revision; `encode(draft, revision)` gives each frame.

        Raises `ConflictError` (`.ids`, `.revisions`: id -> (read, found; 0 for none)) when a draft, a removal or a
        check names another base revision than the stored one, and `IdInUse` when a draft with base 0 has a number
        that is or was taken. A draft whose base is the revision that removed its object brings it back. Numbers above
        the counter (from a factory of the user's) move the counter up.
        Removed and replaced versions stay readable through `at`; with `batch.keep`, what was replaced or removed by
        commits that are more than so many seconds older than `batch.time` is forgotten on the way, as by `pack`: from
        the oldest commit on, up to the first that is younger.
        Raises `ConflictError` also where an id of `batch.needed` is not there (revisions: (seen, 0)), and, without
        `.ids`, where a record that was written after `batch.seen` refers to one of `batch.unreferred`. Large pieces
        are taken through `records.buffers.parts_of`, which raises `TransactionError` for one that somebody changes
        meanwhile.
        """

    @abstractmethod
    def read(self, ids: Iterable[str], at: int | None = None) -> dict[str, bytes]:
        """The frames of those ids, as they were at revision `at` (None: now); ids that are not there are left out.

        Raises `SnapshotTooOld` when `at` is below the oldest revision that is kept whole (it may give what it finds if
        all ids have not changed since).
        """

    def read_run(self, first: int, end: int, at: int) -> dict[str, bytes]:
        """Frames whose numbers are from `first` on and below `end`, as they were at revision `at`.

        For reading ahead: any of them may be left out, and are where that would cost more than one look-up. Frames that
        are not `SMALL` always are: nobody knows how many of these there are, and all would be in memory at once.
        """
        return {}

    def watch(self) -> Callable[[], object]:
        """A function that costs next to nothing, for views that ask whether anybody has committed.

        As long as it gives the same (by `==`), nobody has: a commit of any process that has returned shows. Where
        that cannot be told, it gives something else at each call.
        """
        return object

    @abstractmethod
    def classes(self, ids: Iterable[str], at: int | None = None) -> dict[str, str]:
        """The class names of those ids at revision `at`, without reading payloads where that is possible."""

    @abstractmethod
    def ids(self, *, internal: bool = False, at: int | None = None) -> list[str]:
        """The ids of the user's objects, or of perdure's own, in the order of their numbers, as at revision `at`.

        Raises `SnapshotTooOld` as `read` does.
        """

    @abstractmethod
    def scan(
        self,
        *,
        class_name: str | None = None,
        internal: bool | None = None,
        after: int = -1,
        at: int | None = None,
    ) -> Iterator[bytes]:
        """Frames in the order of their numbers, from the first number above `after`.

        All, or one class's, or only the user's (`internal=False`) or perdure's own. At most `CHUNK` of them are held
        at a time. With `at`: those of that revision, and `SnapshotTooOld` as from `read`; without, what other commits
        change meanwhile may be seen or not.
        """

    @abstractmethod
    def changes(self, since: int) -> tuple[int, set[int]]:
        """The newest revision, and the numbers of all ids written or removed after revision `since`.

        Raises `SnapshotTooOld` where not every commit since then is kept.
        """

    @abstractmethod
    def commits(self, before: int | None = None, limit: int | None = None) -> list[Commit]:
        """Commits, newest first; those below revision `before` only.

        All from the oldest revision that is kept whole on; of older ones at least those that wrote what is kept
        (none of them after a commit with `batch.keep`).
        """

    def commits_of(self, revisions: Collection[int]) -> dict[int, Commit]:
        """Those of the commits with these revisions that are kept."""
        found = (self.commits(before=revision + 1, limit=1) for revision in revisions)
        return {each[0].revision: each[0] for each in found if each and each[0].revision in revisions}

    @abstractmethod
    def history(self, id_: str) -> list[Version]:
        """Every kept version of an object, newest first; empty for an id that never was."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, so that a copy of the files alone is the whole store."""

    @abstractmethod
    def pack(self, oldest: int) -> int:
        """Forget every version that nobody can see from revision `oldest` on; gives how many.

        Reading at revisions below it raises `SnapshotTooOld` from now on. Removed objects leave their id behind, so
        that it is never given again. An `oldest` below the present one changes nothing; `ValueError` above the newest
        revision. It may be cut off at any time, and be run again; other calls need not wait for all of it.
        """

    @abstractmethod
    def erase(self, ids: Collection[str]) -> None:
        """Forget all versions of objects that were removed before, on the medium too as far as it lets us.

        The id is never given again; `history` is empty but for the removal. Raises `ValueError` for an object that is
        still there.
        """

    @abstractmethod
    def buffer(self, digest: str) -> Buffer:
        """The large piece of that digest; memory-mapped, copy on write, where the medium is files.

        Raises `CorruptRecord` where it is missing, or known to be damaged; its length and its content are the caller's
        to compare with what the record tells.
        """

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        """The same in order, in parts of some MiB: for what must be copied anyway. Raises as `buffer` does."""
        content = memoryview(self.buffer(digest)).cast("B")
        yield from (content[start : start + PART] for start in range(0, len(content), PART))

    @abstractmethod
    def buffers(self) -> dict[str, int]:
        """The digests of all large pieces that are kept, with their lengths in bytes."""

    @abstractmethod
    def drop_buffers(self, digests: Collection[str], seen: int) -> list[str]:
        """Forget large pieces that no version of revision `seen`, or before it, names; gives those that are gone.

        What a version that was written later names stays: that is looked up while nobody else can commit.
        """

    def removals(self) -> dict[str, int]:
        """The ids of removed objects, with the revisions of their removals: those that can still be told."""
        return {}

    def begin(self, oldest: int, key: int) -> None:
        """Let an empty store have a past from elsewhere: sealed with the key of that id, and kept from `oldest` on.

        Until it has that revision, nobody can read it. `ValueError` where it is not empty any more.
        """
        if oldest or key != self.describe().key:
            raise cannot_be_filled(oldest)

    def mark_encrypted(self) -> None:
        """Note in an empty store that all it will hold is encrypted (see `encrypted`): `describe` tells it for ever.

        Releases that know nothing of it must not open the store any more. `ValueError` where it is not empty.
        """
        raise cannot_be_encrypted()

    def replay(self, past: Past, batch: Batch) -> None:
        """Write a revision of another store, as the next one here: its frames as they are, its commit as it was.

        `batch` is what a commit of the same would be; a removal of what never came here has the base 0. Up to the
        revision that `begin` was told, revisions may be left out. Atomic and durable as `apply`.
        """
        commit = past.commit
        numbers = {number_of(id_) for id_ in (*past.frames, *past.removed)}
        is_whole = commit is not None and set(commit.numbers) == numbers and all(batch.removals.values())
        if is_whole and past.revision == self.revision() + 1:
            self.apply(batch, lambda draft, _: past.frames[draft.id])
        else:
            self.replay_part(past, batch)

    def replay_part(self, past: Past, batch: Batch) -> None:
        """What `replay` does with a revision that comes after a gap, or of which not everything is kept."""
        raise cannot_be_filled(past.revision)

    def mend(self, id_: str, revision: int, frame: bytes, keep: Keep) -> None:
        """Put a good copy of a version of an object in the place of a damaged or missing one.

        `keep` is called with what is there, before that goes. Nothing else changes, no revision is made. Whether the
        copy is good is the caller's to know.
        """
        raise cannot_be_mended()

    def renew_indexes(self) -> None:
        """Make anew, from the headers of the records, what the backend finds them by: classes, indexes.

        What it has of a record that is damaged stays.
        """
        raise cannot_be_mended()

    def scan_at(self, at: int, class_name: str | None, internal: bool | None, after: int) -> Iterator[bytes]:
        """What `scan` does for an older revision: by the ids that were there, a chunk at a time."""
        ids = [id_ for own in (False, True) if internal in (None, own) for id_ in self.ids(internal=own, at=at)]
        numbered = sorted((number, id_) for id_ in ids if (number := number_of(id_)) > after)
        for chunk in chunks(id_ for _, id_ in numbered):
            if class_name is not None:
                names = self.classes(chunk, at)
                chunk = [id_ for id_ in chunk if names[id_] == class_name]
            frames = self.read(chunk, at)
            yield from map(frames.__getitem__, chunk)

    def size(self) -> int | None:
        """How many bytes the store takes on its medium; None where nobody can tell."""
        return None

    def find(self, query: Query) -> Found:
        """The ids that answer the query in one snapshot, and its revision; from an index where there is one.

        Every record of the classes is taken to tell every field of the query (see `lacking`).
        """
        revision, holds = self.revision(), matcher(query)
        found = [
            (record.id, number_of(record.id), record.fields)
            for name in query.classes
            for record in map(parse_unverified, self.scan(class_name=name, at=revision))
            if holds(record.fields)
        ]
        return Found(revision, arrange(found, query))

    def count(self, query: Query) -> tuple[int, int]:
        """The revision, and how many objects answer the query (without limit and offset)."""
        found = self.find(query._replace(order=(), limit=None, offset=0))
        return found.revision, len(found.ids)

    def columns(self) -> list[str]:
        """The names of columns besides the backend's own that rows of records have, for other programs to read."""
        return []

    def class_names(self) -> list[str]:
        """The names of all classes that records have, each once; maybe of some that they only had before."""
        return list(dict.fromkeys(parse_unverified(frame).class_name for frame in self.scan()))

    def ids_of(self, numbers: Collection[int], at: int) -> list[str]:
        """The ids with these numbers that were there at revision `at`, in order; `SnapshotTooOld` as from `read`."""
        ids = [id_ for internal in (False, True) for id_ in self.ids(internal=internal, at=at)]
        wanted = set(numbers)
        return sorted((id_ for id_ in ids if number_of(id_) in wanted), key=number_of)

    def indexes(self) -> dict[str, list[str]]:
        """The fields of each class that the backend has an index of; none where it looks at the headers themselves."""
        return {}

    def lacking(self, query: Query) -> list[str]:
        """Ids of records of the query's classes that do not tell all of its fields: some of them, or none."""
        wanted = set(query.fields)
        for name in query.classes:
            for frame in self.scan(class_name=name):
                record = parse_unverified(frame)
                if not wanted <= record.fields.keys():
                    return [record.id]
        return []

    def referrers(self, ids: Collection[str]) -> dict[str, list[str]]:
        """For each of `ids` that others refer to: the ids of those others (in order, itself left out)."""
        wanted = set(ids)
        found: dict[str, list[str]] = {}
        for frame in self.scan():
            record = parse_unverified(frame)
            for target in wanted.intersection(record.references):
                if target != record.id:
                    found.setdefault(target, []).append(record.id)
        return found


def runs_of(numbers: Iterable[int]) -> str:
    """Sorted numbers as text, runs shortened: `1-20000,20005`. The form in which commits name what they wrote."""
    runs: list[list[int]] = []
    numbers = sorted(numbers)
    found = NotImplemented if kernels.compiled is None else kernels.compiled.runs_of(numbers)
    if found is not NotImplemented:
        return str(found)
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def numbers_of(text: str) -> Iterator[int]:
    """The numbers that `runs_of` wrote."""
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)


def number_of(id_: str) -> int:
    """The number of an id whose shape was checked before."""
    return int(id_.rpartition(".")[2])


def chunks(items: Iterable[str], size: int = CHUNK) -> Iterator[list[str]]:
    """`items` in lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def mismatches(expected: Mapping[str, int], found: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where the revisions that were read differ from those that are stored: id -> (read, found or 0)."""
    return {id_: (base, found.get(id_, 0)) for id_, base in expected.items() if found.get(id_, 0) != base}


def refuse_absent(batch: Batch, present: Collection[str]) -> None:
    """Raise `ConflictError` if an id that drafts newly refer to is not among those that are there."""
    drafted = {draft.id for draft in batch.drafts}
    absent = sorted(set(batch.needed).difference(present, drafted))
    if absent:
        raise ConflictError(
            f"{', '.join(absent[:5])} was removed by another commit, and what is saved is it, or refers to it.",
            hint="Take the reference away, and repeat the change.",
            ids=absent,
            revisions=dict.fromkeys(absent, (batch.seen, 0)),
        )


def refuse_referred(batch: Batch, later: Iterable[bytes]) -> None:
    """Raise `ConflictError`, naming no id, if one of the frames refers to what must be unreferred.

    They are those of what is there and was written after `batch.seen`.
    """
    unreferred = set(batch.unreferred)
    for frame in later if unreferred else ():
        record = parse_unverified(frame)
        found = unreferred.intersection(record.references) - {record.id}
        if found:
            raise ConflictError(
                f"Another commit saved {record.id}, which refers to {min(found)}, while that was to be removed.",
                hint="Look again at what refers to it, and repeat the removal.",
                revisions={},
            )


def not_named_in(digests: Iterable[str], later: Iterable[bytes]) -> list[str]:
    """Those of the digests of large pieces that none of the frames names."""
    left = dict.fromkeys(digests)
    for frame in later:
        for digest in digests_of(parse_unverified(frame)):
            left.pop(digest, None)
    return [*left]


def number_taken(id_: str, number: int) -> IdInUse:
    """The error for a new object whose number was given before."""
    return IdInUse(
        f"{id_} cannot be new: the number {number} was given before.",
        hint="The factory of ids must never give a number twice. Without one, the store's counter was set back: see"
        " what `check` says of it.",
        ids=(id_,),
    )


def too_old(at: int, oldest: int) -> SnapshotTooOld:
    """The error for a revision that is not kept any more."""
    return SnapshotTooOld(
        f"Revision {at} is not kept any more; the oldest is {oldest}.", hint="Begin a new transaction."
    )


def refuse_conflicts(differing: Mapping[str, tuple[int, int]]) -> None:
    """Raise `ConflictError` if there is anything in `differing`: id -> (revision read, revision found)."""
    if not differing:
        return
    shown = ", ".join(
        f"{id_} (read at revision {read}, now " + (f"at {found})" if found else "removed)")
        for id_, (read, found) in list(differing.items())[:5]
    )
    raise ConflictError(
        f"Another commit changed what this one read: {shown}.",
        hint="Load it again and repeat the change.",
        ids=differing,
        revisions=dict(differing),
    )
