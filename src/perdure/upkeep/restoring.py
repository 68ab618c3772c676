"""Fills a store from a backup, or from another store: every frame as it is, every revision under its number.

- The place must be new or empty, or hold the beginning of the very same past: then an earlier attempt is gone on with.
- Each revision is one commit of the backend. Cut off, the store is as it once was at an earlier revision.
- All of a backup is verified before anything is written; where the key is here, so is every seal.
- At the end everything is read again, and compared with what was to be written.
- A filled store has an id of its own: it is another store from then on, with backups of its own.
- What is encrypted is carried as it is at rest into a store that is encrypted, and needs no key. Into one that is not,
  or the other way round, it goes through the key; that has to be said, but for a plain past in an encrypted store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from perdure.backends.base import Backend
from perdure.backends.encrypted import EncryptedBackend, at_rest
from perdure.errors import CorruptBackup, CorruptRecord, InvalidArgument, KeyMissing, NotEmpty, UntrustedRecord
from perdure.keys import KeyRing
from perdure.objects.reports import Restored
from perdure.objects.store import Store
from perdure.objects.stores import KeyId, KeySource, key_from, make_store
from perdure.records.buffers import digests_of
from perdure.records.frame import decode, encoder, parse_unverified
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.values import Draft
from perdure.upkeep.backup_files import BackupFile
from perdure.upkeep.large import check_pieces, drop_unnamed
from perdure.upkeep.past import Filling, Step, Telling, revisions_of, size_of, told

Progress = Callable[[int, int], None]


class Origin(NamedTuple):
    """What a store is filled from. `steps` gives all of its past, each time anew."""

    key: int
    oldest: int
    revision: int
    next_number: int
    indexes: Mapping[str, list[str]]
    size: int
    steps: Callable[[], Iterable[Step]]
    encrypted: bool = False


def restore(
    path: str | os.PathLike[str],
    url: str | os.PathLike[str],
    *,
    key: KeySource | None = None,
    whole_only: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Restored:
    """Make the store at `url` from a backup: its objects, their history, ids, roots, indexes and code records.

    `url` names a new place or an empty store; one that an earlier attempt has begun to fill is gone on with. The
    store's key need not be here to restore; where it is, every seal is verified. A file whose last increment was cut
    off is refused, unless with `whole_only` what is whole of it is enough. `options` are those of `make_store`. With
    `encrypt=True` a backup that is not encrypted, and whose key is here, fills an encrypted store; of one that is, no
    other store is made.
    Raises `CorruptBackup`, `NotEmpty`, `NotFound`, `NewerFormat`, and what opening a store raises.
    """
    file = BackupFile(path)
    contents = file.contents()
    if contents.torn and not whole_only:
        newest = contents.increments[-1]
        error = file.corrupt(f"ends with {contents.torn} bytes of an increment that is not whole")
        error.hint = (
            f"What is whole goes up to revision {newest.revision}; say --whole-only (whole_only=True) for that."
        )
        raise error
    origin = Origin(
        contents.key, contents.oldest, contents.revision, contents.next_number, contents.indexes,
        sum(each.records for each in contents.increments), lambda: file.steps(contents.end), contents.encrypted,
    )  # fmt: skip
    if origin.encrypted and options.get("encrypt") is False:
        raise InvalidArgument(
            f"{path} is the backup of an encrypted store, and makes no other.",
            hint="Restore it, and let `perdure copy --no-encrypt` make a copy of that.",
        )
    found = _key_of(origin, key)
    with open_target(url, origin.key, options) as store:
        backend = _target(store.backend, origin, found, encrypt=origin.encrypted or None)
        return fill(backend, origin, found, progress)._replace(torn=contents.torn, unfilled=_unfilled(store))


def copy_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    key: KeySource | None = None,
    encrypt: bool | None = None,
    new_key: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Restored:
    """Copy a store with its whole history to another place, of whichever kind.

    Others may go on with it meanwhile: what is copied is its newest revision at the beginning. Cut off, or called again
    later, it goes on where the target ends. The copy of an encrypted store is encrypted; with `encrypt` (True or False)
    it is as that says. With `new_key` the copy gets a key of its own, and everything in it is sealed, and encrypted,
    with that: for when others may have come to know the old one. Both take the store's key. `options` are those of
    `make_store` for the target: with its `extra_fields` columns get what headers of records tell.
    Raises `NotEmpty` for a target that holds something else, `InvalidArgument` for one that is encrypted and should not
    be, or the other way round, `KeyMissing`, `UntrustedRecord` for a bad seal, and what opening a store raises.
    """
    with make_store(source, key=key, read_only=True) as store:
        described = store.backend.describe()
        to_open = new_key or (described.encrypted and encrypt is False)
        if to_open and store.key is None:
            raise KeyMissing(f"The key {described.key:08x} of {source} is not on this machine.")
        backend = store.backend if to_open else at_rest(store.backend)
        origin = Origin(
            described.key, described.oldest, described.revision, described.next_number, backend.indexes(),
            size_of(backend, 0, described.revision), lambda: _steps(backend, described.revision),
            described.encrypted and not to_open,
        )  # fmt: skip
        with open_target(target, None if new_key else described.key, options) as other:
            if other.backend.describe().store == described.store:
                raise InvalidArgument(f"{source} and {target} are the same store.", hint="Name another place.")
            wanted = encrypt if encrypt is not None else described.encrypted or None
            found = store.key
            if new_key:
                found, origin = _sealed_anew(origin, store.key, other)
            erased = _erased(backend) if other.backend.revision() else ()
            filled = _target(other.backend, origin, found, encrypt=wanted)
            copied = fill(filled, origin, found, progress, erased=erased)
            if erased and drop_unnamed(other):
                other.backend.erase(erased)  # once more: nothing of what was dropped stays in the files
            other.backend.reserve(max(backend.describe().next_number - other.backend.describe().next_number, 0))
            return copied._replace(unfilled=_unfilled(other))


def _erased(backend: Backend) -> list[str]:
    """Ids of objects of which a store has nothing but their removal: what an earlier copy has of them goes, too."""
    gone = backend.removals()
    return [id_ for id_ in gone if all(version.frame is None for version in backend.history(id_))]


def _sealed_anew(origin: Origin, old: Key | None, target: Store) -> tuple[Key, Origin]:
    """The key of the target, which is not that of the origin, and all of the origin sealed with it."""
    key = target.key
    if key is None or key == old:
        raise InvalidArgument(
            "The store to be filled has the same key, or one that is not on this machine.", hint="Name a new place."
        )
    encode = encoder(key, compress=True)

    def anew(frame: bytes) -> bytes:
        record = decode(frame, old)
        return encode(Draft(record.id, 0, *record[2:]), record.revision)

    def steps() -> Iterator[Step]:
        for past, pieces in origin.steps():
            yield Step(past._replace(frames={id_: anew(frame) for id_, frame in past.frames.items()}), pieces)

    return key, origin._replace(key=key.id, steps=steps)


def _target(backend: Backend, origin: Origin, key: Key | None, *, encrypt: bool | None) -> Backend:
    """The backend to be filled, as it takes what the origin gives: `encrypt` is whether it is to be encrypted."""
    below = at_rest(backend)
    described = below.describe()
    if encrypt and not described.encrypted and not described.revision:
        below.mark_encrypted()
        described = below.describe()
    if encrypt is not None and described.encrypted != encrypt:
        raise InvalidArgument(
            f"The store to be filled is {'' if described.encrypted else 'not '}encrypted, and should"
            f" {'' if encrypt else 'not '}be.",
            hint="Name a new place, or say encrypt=True or encrypt=False (--encrypt, --no-encrypt) for what is wanted.",
        )
    if described.encrypted == origin.encrypted:
        return below
    if key is None:
        raise KeyMissing(f"Nothing can be encrypted here: the key {origin.key:08x} is not on this machine.")
    return EncryptedBackend(below, key)


def fill(
    backend: Backend,
    origin: Origin,
    key: Key | None,
    progress: Progress | None = None,
    *,
    erased: Collection[str] = (),
) -> Restored:
    """Write what is not there yet of a past into a store, and read all of it again. Nothing stays of what was `erased`.

    Raises `NotEmpty`, `UntrustedRecord` for a bad seal, and `CorruptRecord` where what is read is not what was written.
    """
    _expect_beginning(backend, origin)
    filling, telling = Filling(backend, origin.indexes), Telling()
    written = records = 0
    if isinstance(backend, EncryptedBackend):
        told(backend, backend.revision())  # so that it knows which large pieces are there, from an earlier attempt
    known = set(backend.buffers())
    pieces = -len(known)
    for past, brought in origin.steps():
        for id_, frame in past.frames.items():
            if key is not None and not key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:]):
                raise UntrustedRecord(
                    f"{id_} of revision {past.revision} does not carry a good seal of the key {key.name}.", ids=(id_,)
                )
        telling.add(past)
        written += filling.add(past, {digest: content for digest, content in brought.items() if digest not in known})
        known.update(brought)
        records += len(past.frames)
        if progress:
            progress(records, max(records, origin.size))
    filling.finish(origin.next_number)
    stale = [id_ for id_ in erased if any(version.frame is not None for version in backend.history(id_))]
    if stale:
        backend.erase(stale)
    _read_again(backend, origin.revision, telling.digest())
    sealed = None if key is None else True
    return Restored(origin.revision, written, records, pieces + len(known), sealed)


def _unfilled(store: Store) -> tuple[str, ...]:
    """The extra fields of a store that not every record of the user's tells, or that nobody has asked for."""
    given = () if store.extra_fields is None else store.extra_fields.names
    known = {name.lower() for name in given}
    lacking = {name for name in at_rest(store.backend).columns() if name.lower() not in known}
    for frame in store.backend.scan(internal=False) if given else ():
        lacking.update(set(given).difference(parse_unverified(frame).fields))
    return tuple(sorted(lacking))


def _read_again(backend: Backend, revision: int, digest: bytes) -> None:
    if told(backend, revision) != digest:
        raise CorruptRecord(
            "The store, read again, is not what was written into it.", hint="Begin anew, in another place."
        )
    for id_, what in check_pieces(backend):
        raise CorruptRecord(f"{id_} {what}", hint="Begin anew, in another place.", ids=(id_,))


def _expect_beginning(backend: Backend, origin: Origin) -> None:
    """Make an empty store ready, or raise `NotEmpty` for one that is not the beginning of the same past."""
    described = backend.describe()
    there = described.revision
    if not there:
        backend.begin(origin.oldest, origin.key)
        if backend.describe().oldest == origin.oldest:
            return
    elif (described.key, described.oldest) == (origin.key, origin.oldest) and there <= origin.revision:
        newest = backend.commits_of([there]).get(there)
        for past, _ in origin.steps():
            if past.revision >= there:
                if past.revision == there and past.commit == newest:
                    return
                break
    raise NotEmpty(
        f"The store to be filled is not empty: it is at revision {there}, and not the beginning of the other one.",
        hint="Name a place where no store is.",
    )


def _steps(backend: Backend, until: int) -> Iterator[Step]:
    """All of a store's past up to a revision, each large piece with the first revision that names it."""
    known: set[str] = set()
    for past in revisions_of(backend, 0, until):
        named = {digest for frame in past.frames.values() for digest in digests_of(parse_unverified(frame))} - known
        known |= named
        yield Step(past, {digest: backend.buffer(digest) for digest in named})


def _key_of(origin: Origin, given: KeySource | None) -> Key | None:
    """The key that was given, or is on this machine; raises `CorruptBackup` where another one was given."""
    if given is None:
        return KeyRing().get(origin.key)
    found = key_from(given)
    if found is not None and found.id != origin.key:
        raise CorruptBackup(
            f"The backup is of a store that is sealed with the key {origin.key:08x}; {found.name} was given.",
            hint="Give the key of that store, or none.",
        )
    return found


def open_target(url: str | os.PathLike[str], key: int | None, options: Mapping[str, Any]) -> Store:
    """The store to be filled; made if it is not there, to be sealed with the key of that id, or one of its own."""
    store: Any = make_store(url, key=None if key is None else KeyId(key), **options)
    if not isinstance(store, Store):
        raise InvalidArgument(f"{url} is kept by {type(store).__name__}, which is no perdure.Store.")
    return store
