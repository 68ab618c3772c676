"""What a store remembers: commits, versions of objects, and which revision a time or a wish stands for.

- Versions are told from the headers of their records: nothing is unpickled.
- A time stands for the newest commit that is not later; times of commits are those of the machines that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from perdure.backends.base import Backend, too_old
from perdure.errors import InvalidArgument, NotFound
from perdure.objects.bounds import below, limit_of, seconds_of
from perdure.pickling.own.limits import Limits
from perdure.records.frame import decode
from perdure.records.seal import Key
from perdure.records.values import Commit, Fields, Version

PAGE = 500  # commits that are looked at together
Keep = timedelta | int | datetime
_KEPT = "Give a timedelta, a datetime, or a number of revisions from 1 on."


class ObjectVersion(NamedTuple):
    """One stored version of an object, as its header tells: nothing of it was unpickled.

    `time` (seconds since 1970, UTC) is None, and `note` empty, where the commit itself is not kept any more.
    """

    revision: int
    time: float | None
    note: str
    class_name: str
    fields: Fields
    references: tuple[str, ...]
    code: str
    removed: bool


def versions_of(
    backend: Backend,
    id_: str,
    key: Key | None,
    limits: Limits,
    *,
    trust_all: bool,
    limit: int | None,
    before: int | None,
) -> list[ObjectVersion]:
    """The kept versions of an object, newest first; those below revision `before` only. Raises `NotFound`."""
    versions: Sequence[Version] = backend.history(id_)
    if not versions:
        raise NotFound(f"There never was a {id_} in this store.", hint="`list` gives the ids there are.", ids=(id_,))
    end = below(before)
    versions = [version for version in versions if end is None or version.revision < end][: limit_of(limit)]
    commits = backend.commits_of([version.revision for version in versions])
    found = []
    for revision, frame in versions:
        commit = commits.get(revision)
        time, note = (None, "") if commit is None else (commit.time, commit.note)
        if frame is None:
            code = "" if commit is None else commit.code
            found.append(ObjectVersion(revision, time, note, "", {}, (), code, True))
            continue
        record = decode(frame, key, trust_all=trust_all, foreign=limits.unpacking)
        told = (record.class_name, record.fields, record.references, record.code, False)
        found.append(ObjectVersion(revision, time, note, *told))
    return found


def revision_at(backend: Backend, when: int | datetime) -> int:
    """The revision that `when` means: itself, or the newest that was there at that time; 0 before the first.

    A time without a zone is local time. Raises `NotFound` for a revision that is not there yet, `SnapshotTooOld` for
    one that is not kept any more.
    """
    described = backend.describe()
    if isinstance(when, datetime):
        revision = _at_time(backend, seconds_of(when))
        if revision < described.oldest:
            raise too_old(revision, described.oldest)
        return revision
    if isinstance(when, bool) or not isinstance(when, int):
        raise InvalidArgument(
            f"a point in a store's history is a revision or a datetime, not {type(when).__name__}",
            hint="`transactions` lists the revisions and their times.",
        )
    if when < 0:
        raise InvalidArgument(
            f"revisions begin at 0, the empty store; there is no {when}", hint="`transactions` lists the revisions."
        )
    if when > described.revision:
        raise NotFound(
            f"There is no revision {when} yet; the newest is {described.revision}.",
            hint="`transactions` lists the revisions.",
        )
    if when < described.oldest:
        raise too_old(when, described.oldest)
    return when


def oldest_kept(backend: Backend, keep: Keep, now: Callable[[], float]) -> int:
    """The oldest revision that is still needed where so much is to be kept. Raises `InvalidArgument`."""
    newest = backend.revision()
    if isinstance(keep, timedelta):
        if keep < timedelta(0):
            raise InvalidArgument(f"no time can be kept that is less than none: {keep}", hint=_KEPT)
        return _last_before(backend, now() - keep.total_seconds())
    if isinstance(keep, datetime):
        return _last_before(backend, seconds_of(keep))
    if isinstance(keep, bool) or not isinstance(keep, int):
        raise InvalidArgument(
            f"what is kept is a timedelta, a number of revisions or a datetime, not {type(keep).__name__}", hint=_KEPT
        )
    if keep < 1:
        raise InvalidArgument(
            f"the newest revision is always kept: the number of revisions is at least 1, not {keep}", hint=_KEPT
        )
    return max(newest - keep + 1, 0)


def _at_time(backend: Backend, time: float) -> int:
    """The newest revision whose commit was not made later; 0 if there is none."""
    before: int | None = None
    while commits := backend.commits(before, PAGE):
        for commit in commits:
            if commit.time <= time:
                return commit.revision
        before = commits[-1].revision
    return 0


def _last_before(backend: Backend, time: float) -> int:
    """The last of the oldest commits, of those kept whole, before the first that was made later; 0 if there is none.

    Not `_at_time`: one commit with a clock that is behind must not let what was made just before it be forgotten.
    """
    before: int | None = None
    oldest, found = backend.describe().oldest, 0
    while commits := backend.commits(before, PAGE):
        for commit in commits:
            if commit.revision < oldest:
                return found
            found = 0 if commit.time > time else found or commit.revision
        before = commits[-1].revision
    return found


def commits_between(backend: Backend, before: int | None, limit: int | None) -> list[Commit]:
    """Commits, newest first, below revision `before`; at most `limit`."""
    return backend.commits(below(before), limit_of(limit))
