"""Large pieces of a whole store: which records name them, which are damaged, and which nothing names any more.

- Older versions of objects count: what history can still show is kept.
- Nothing is unpickled; pieces are read part by part.
- A piece that nothing names is no damage: a version that was forgotten left it, or a crash in the middle of a commit.
- Of an encrypted store pieces are looked at as they are at rest, under the digests that they have there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import chain

from perdure.backends.base import Backend, number_of
from perdure.backends.encrypted import at_rest
from perdure.errors import CorruptRecord, NewerFormat, PerdureError, SnapshotTooOld
from perdure.objects.store import Store
from perdure.records.buffers import DIGEST_SIZE, digests_of
from perdure.records.frame import parse_unverified

Named = dict[str, tuple[str, int]]  # digest -> the id of an object that names it, and its length in bytes


def unnamed_pieces(store: Store) -> dict[str, int]:
    """The large pieces that no version of any object names, with their sizes in bytes: what could be dropped."""
    backend = at_rest(store.backend)
    kept = backend.buffers()
    return {digest: kept[digest] for digest in kept.keys() - named_pieces(backend).keys()} if kept else {}


def drop_unnamed(store: Store) -> dict[str, int]:
    """Drop what `unnamed_pieces` tells, but for what others came to name meanwhile; gives what was dropped."""
    seen = store.backend.revision()  # first: what is written from here on, the backend looks at when it drops
    unnamed = unnamed_pieces(store)
    gone = at_rest(store.backend).drop_buffers(unnamed, seen) if unnamed else ()
    return {digest: unnamed[digest] for digest in gone}


def named_pieces(backend: Backend, present: Named | None = None) -> Named:
    """The digests that versions of objects name, present ones and older ones: each with one such id, and its length.

    `present` is what present ones name, if that is known already. Raises `CorruptRecord` for a record that cannot be
    read: nobody knows what it names.
    """
    named = dict(present or {})
    frames = ((None, frame) for frame in backend.scan()) if present is None else ()
    for id_, frame in chain(frames, older_versions(backend)):
        record = parse_unverified(frame)
        for digest, length in digests_of(record).items():
            named.setdefault(digest, (id_ or record.id, length))
    return named


def older_versions(backend: Backend) -> Iterator[tuple[str, bytes]]:
    """Every kept version of an object that is not its present one: its id, and the frame."""
    present = {number_of(id_): id_ for internal in (False, True) for id_ in backend.ids(internal=internal)}
    times: Counter[int] = Counter()
    last: dict[int, int] = {}  # number -> the newest commit that tells of it
    for commit in backend.commits():
        times.update(commit.numbers)
        for number in commit.numbers:
            last.setdefault(number, commit.revision)
    most = 0 if backend.describe().oldest else 1  # of a packed store a version may be there without its commit
    gone = _ids_of_removed(backend, {number: at for number, at in last.items() if number not in present})
    for number, count in times.items():
        id_ = present.get(number) if count > most else None
        id_ = id_ or gone.get(number)
        for version in backend.history(id_) if id_ else ():
            if version.frame is not None:
                yield id_ or "", version.frame


def _ids_of_removed(backend: Backend, removed: dict[int, int]) -> dict[int, str]:
    """The ids of objects that were removed, by their numbers; `removed` tells the commits that did it."""
    at_once: dict[int, list[int]] = {}
    for number, revision in removed.items():
        at_once.setdefault(revision, []).append(number)
    found: dict[int, str] = {}
    for revision, numbers in at_once.items():
        with suppress(SnapshotTooOld):  # nothing of that time is kept
            found.update((number_of(id_), id_) for id_ in backend.ids_of(numbers, revision - 1))
    return found


def check_pieces(backend: Backend, present: Named | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with large pieces: the id of an object that names it, and what it is."""
    below = at_rest(backend)
    return ((id_, what) for _, id_, what in damaged_pieces(below, present if below is backend else None))


def damaged_pieces(backend: Backend, present: Named | None = None) -> Iterator[tuple[str, str, str]]:
    """The digests of large pieces that are damaged or missing, each with the id of an object, and what is wrong."""
    try:
        kept = backend.buffers()
        named = named_pieces(backend, present)
    except (CorruptRecord, NewerFormat):
        return  # told already of the record that is damaged; which pieces are needed, nobody knows
    for digest, (id_, length) in named.items():
        if digest not in kept:
            yield digest, id_, f"names the large piece {digest}, which is not there"
            continue
        try:
            found, size = blake2b(digest_size=DIGEST_SIZE), 0
            for part in backend.buffer_parts(digest):
                found.update(part)
                size += len(part)
        except PerdureError as error:
            yield digest, id_, error.message
            continue
        if size != length or found.hexdigest() != digest:
            yield (
                digest,
                id_,
                f"names the large piece {digest}, which is damaged: it has {size} bytes of {length}"
                + ("" if size != length else ", and other content"),
            )
