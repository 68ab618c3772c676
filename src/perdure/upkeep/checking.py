"""Looks through a whole store for anything that is not as it must be; nothing is unpickled or changed.

- Every record decodes, carries a good seal of the store's key, and is kept under its own id.
- Every reference leads to a record; the counter is above all numbers; commits have no gap from the oldest revision on
  that is kept whole. What older versions refer to may have been erased.
- Every older version is there that a commit tells of, unless it was erased, and is as good.
- The code records that objects and commits name are there.
- Every large piece that a version of an object names is there, whole, with the content that its digest tells: that of
  memory-mapped files is compared here alone. What nothing names is no problem; see `unnamed_pieces`.
- Every index has just what the headers of its class tell, in their order.
- In an encrypted store there is no record that is not encrypted.
- Every object is kept under the class that its record tells, so that queries and listings find it.
- One bad record is one problem: the rest is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import starmap

from perdure.backends.base import Backend, chunks
from perdure.backends.encrypted import at_rest
from perdure.errors import CorruptRecord, NewerFormat, PerdureError, StorageError
from perdure.objects.reports import Problem
from perdure.objects.store import Store
from perdure.objects.views.memory import CollectionPaused
from perdure.records.buffers import digests_of
from perdure.records.frame import decoder, parse_unverified, record_of
from perdure.records.seal import Key
from perdure.records.values import BUFFERED, ENCRYPTED, Fields, Record
from perdure.upkeep.histories import check_histories
from perdure.upkeep.indexes import check_indexes
from perdure.upkeep.large import Named, check_pieces


def check(store: Store) -> list[Problem]:
    """Everything that is wrong with the store, best an empty list.

    What other processes commit meanwhile may be seen as dangling references: check a store that is at rest.
    """
    with CollectionPaused():
        return _check(store.backend, store.key)


def _check(backend: Backend, key: Key | None) -> list[Problem]:
    problems = list(_told("Its commits", _check_commits(backend)))
    if key is None:
        problems.append(Problem("", "Its key is not on this machine, so no seal can be verified."))
    try:
        ids = backend.ids() + backend.ids(internal=True)
    except PerdureError as error:
        return [*problems, Problem("", f"Its objects cannot be listed: {error.message}")]
    there = set(ids)
    newest = backend.revision()
    classes: dict[str, str] = {}
    revisions: dict[str, int] = {}
    named: Named = {}
    headers: dict[str, dict[str, Fields]] = {}
    with suppress(CorruptRecord, NewerFormat, StorageError):  # what is wrong there is told below
        headers = {name: {} for name in backend.indexes()}
    for id_, found in _records(backend, ids, key):
        if isinstance(found, str):
            problems.append(Problem(id_, found))
        else:
            classes[id_], revisions[id_] = found.class_name, found.revision
            if found.flags & BUFFERED:
                named.update((digest, (id_, length)) for digest, length in digests_of(found).items())
            if found.class_name in headers:
                headers[found.class_name][id_] = found.fields
            problems += (Problem(id_, what) for what in _check_record(id_, found, there, newest))
    problems += _told("Its encryption", _check_encrypted(at_rest(backend)))
    problems += _told("Its history", starmap(Problem, check_histories(backend, key, revisions, there)))
    problems += _told("Its code records", _check_codes(backend, there))
    problems += _told("Its classes", check_classes(backend, classes))
    problems += _told("Its large pieces", starmap(Problem, check_pieces(backend, named)))
    problems += _told("Its indexes", starmap(Problem, check_indexes(backend, headers)))
    return problems


def _check_encrypted(backend: Backend) -> Iterator[Problem]:
    """Records of an encrypted store that are not: somebody else put them there."""
    if backend.describe().encrypted:
        for frame in backend.scan():
            with suppress(CorruptRecord, NewerFormat):  # which is told of the record already
                record = parse_unverified(frame)
                if not record.flags & ENCRYPTED:
                    yield Problem(record.id, "is not encrypted, as all else in the store is")


def _told(what: str, found: Iterable[Problem]) -> Iterator[Problem]:
    """What a part of the check has found; damage that keeps it from looking is one problem more."""
    try:
        yield from found
    except (CorruptRecord, NewerFormat, StorageError) as error:
        if error.retryable:
            raise
        yield Problem(next(iter(error.ids), ""), f"{what} cannot be looked through: {error.message}")


def classes_told(backend: Backend, ids: Iterable[str]) -> dict[str, str]:
    """The classes of objects that are there, as their records tell; a damaged one is told elsewhere."""
    records = _records(backend, ids, None)
    return {found.id: found.class_name for _, found in records if not isinstance(found, str)}


def check_classes(backend: Backend, classes: Mapping[str, str]) -> Iterator[Problem]:
    """Objects that are kept as of another class than their records tell, or of none, and so are not found by it."""
    for chunk in chunks(classes):
        names = backend.classes(chunk)
        for id_ in chunk:
            if names.get(id_) != classes[id_]:
                kept = f"one of {names[id_]}" if id_ in names else "one of no class"
                yield Problem(id_, f"is of the class {classes[id_]}, but kept as {kept}")


def _check_codes(backend: Backend, there: set[str]) -> Iterator[Problem]:
    """Code records that commits name, and that are not there: each told once."""
    missing: dict[str, int] = {}
    for commit in backend.commits():
        if commit.code and commit.code not in there:
            missing[commit.code] = commit.revision
    for code, revision in missing.items():
        yield Problem("", f"The commit {revision} names the code record {code}, which is not there.")


def _check_commits(backend: Backend) -> Iterator[Problem]:
    commits = backend.commits()
    described = backend.describe()
    first = max(described.oldest, 1)
    revisions = [commit.revision for commit in commits if commit.revision >= first]
    if not described.oldest <= described.revision:
        yield Problem("", f"Its oldest revision is {described.oldest}, and its newest {described.revision}.")
    if revisions != list(range(described.revision, described.revision - len(revisions), -1)):
        yield Problem("", f"Its commits are not consecutive up to revision {described.revision}.")
    if not revisions and described.revision >= first:
        yield Problem("", f"Its commits are missing; its newest revision is {described.revision}.")
    if revisions and revisions[-1] != first:
        yield Problem("", f"The commits below revision {revisions[-1]} are missing.")
    highest = max((number for commit in commits for number in commit.numbers), default=0)
    if highest >= described.next_number:
        yield Problem("", f"Its counter stands at {described.next_number}, and the number {highest} is in use.")


def _records(backend: Backend, ids: Iterable[str], key: Key | None) -> Iterator[tuple[str, Record | str]]:
    """Each id with its record, or with what is wrong with it."""
    decoded = decoder(key, trust_all=key is None)
    for chunk in chunks(ids):
        try:
            frames = backend.read(chunk)
        except PerdureError:
            frames = {}  # one of them is damaged: each is read by itself
        for id_ in chunk:
            try:
                frame = frames.get(id_) or backend.read([id_]).get(id_)
                found: Record | str = "is listed, but not there" if frame is None else record_of(decoded(frame))
            except PerdureError as error:
                found = error.message
            yield id_, found


def _check_record(id_: str, record: Record, there: set[str], newest: int) -> Iterator[str]:
    if record.id != id_:
        yield f"holds the record of {record.id}"
    if not 0 < record.revision <= newest:
        yield f"says that it was written by revision {record.revision}; the newest is {newest}"
    for target in record.references:
        if target not in there:
            yield f"refers to {target}, which is not there"
    if record.code and record.code not in there:
        yield f"names the code record {record.code}, which is not there"
