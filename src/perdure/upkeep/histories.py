"""Looks through the older versions of a store's objects, and compares them with the commits that tell of them.

- A version that a commit tells of is there, unless the object was erased; each carries a good seal.
- An object of which one commit tells, and whose present record is of that commit, is not looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from perdure.backends.base import Backend, number_of
from perdure.backends.encrypted import at_rest
from perdure.errors import PerdureError
from perdure.records.frame import decode
from perdure.records.seal import Key
from perdure.records.values import Version


def check_histories(
    backend: Backend, key: Key | None, present: Mapping[str, int], listed: set[str]
) -> Iterator[tuple[str, str]]:
    """What is wrong: the id, and what it is. `present` are the revisions of records that are good, by their ids.

    `listed` are the ids of all objects that are there.
    """
    oldest = backend.describe().oldest
    ids = {number_of(id_): id_ for id_ in (*backend.removals(), *listed)}
    told: dict[int, list[int]] = {}
    for commit in backend.commits():  # newest first
        if commit.revision >= oldest:
            for number in commit.numbers:
                told.setdefault(number, []).append(commit.revision)
    for number, revisions in told.items():
        id_ = ids.get(number)
        if id_ is None and type(at_rest(backend)).removals is Backend.removals:
            continue  # the backend cannot tell what was removed
        if id_ is None:
            yield "", f"The commit {revisions[0]} names the number {number}, of which nothing is there."
        elif len(revisions) > 1 or (id_ in present and present[id_] != revisions[0]) or id_ not in listed:
            yield from ((id_, what) for what in _check_versions(backend, key, id_, revisions, oldest))


def _check_versions(backend: Backend, key: Key | None, id_: str, revisions: list[int], oldest: int) -> Iterator[str]:
    try:
        versions = backend.history(id_)
    except PerdureError as error:
        yield f"has a version that cannot be read: {error.message}"
        return
    there = {version.revision for version in versions}
    first = versions[-1] if versions else Version(0, None)
    for revision in revisions:
        if revision in there or (revision == oldest and not backend.ids_of([number_of(id_)], oldest)):
            continue  # or a removal before which nothing is kept: a restored store does not have that
        # Before a removal that is the oldest version, all was erased or packed.
        if first.frame is not None or revision > first.revision:
            yield f"has no version of revision {revision}, which a commit tells of"
    untold = sorted(revision for revision in there if revision > oldest and revision not in revisions)
    if untold:
        yield f"has a version of revision {untold[0]}, of which no commit tells"
    for version in versions[1:] if versions and versions[0].frame is not None else versions:
        if version.frame is None:
            continue
        try:
            record = decode(version.frame, key, trust_all=key is None)
        except PerdureError as error:
            yield f"has a version of revision {version.revision} that cannot be read: {error.message}"
            continue
        if (record.id, record.revision) != (id_, version.revision):
            yield f"has {record.id} of revision {record.revision} in the place of its own of {version.revision}"
