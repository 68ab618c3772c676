"""Bundles: objects, all that they refer to, and the code that made them, in one file for another store.

    line "perdure bundle 1" | line of JSON: what is in it | length and frame of each record |
    digest, length and bytes of each large piece | BLAKE2b of all before

- Written whole or not at all; a file that is there is not overwritten.
- Reading one unpickles nothing and imports nothing. Every length and the digest at the end are checked first.
- Taking one in is one commit: new ids, references and code records mapped, all sealed with the store's own key. Who
  calls for that trusts the bundle: what is in it can run code when it is loaded.
- Where the key is at hand that the records were sealed with, each seal must be good.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from perdure.backends.base import Backend, chunks, number_of
from perdure.backends.memory import MemoryBackend
from perdure.errors import (
    AccessDenied,
    CorruptBundle,
    FlowError,
    InvalidId,
    NewerFormat,
    NotFound,
)
from perdure.files import Files
from perdure.ids import parse_id
from perdure.keys import KeyRing
from perdure.objects.store import Store
from perdure.pickling.own.limits import LIMITS, Limits
from perdure.records.buffers import DIGEST_SIZE, digest_of, digests_of
from perdure.records.frame import decode, parse_unverified, sealed_by
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.values import ENCRYPTED, Record
from perdure.upkeep.adopting import Adopted, adopt
from perdure.upkeep.codes import RUN

FIRST_LINE = b"perdure bundle "
FORMAT = 1
SUFFIX = ".perdure"
_LONGEST_HEAD = 1 << 20
_ENDED = ("succeeded", "failed", "cancelled")


class Bundle(NamedTuple):
    """What is in a bundle. `store` and `key` name where it is from; `ids` are those that were asked for.

    `verified` is whether every seal is good, None where the key is not on this machine.
    """

    ids: tuple[str, ...]
    store: str
    key: str
    records: tuple[Record, ...]
    pieces: Mapping[str, memoryview]
    verified: bool | None

    def record(self, id_: str) -> Record:
        """The record of that id."""
        return next(record for record in self.records if record.id == id_)


def write_bundle(store: Store, ids: Iterable[str], path: str | os.PathLike[str]) -> Bundle:
    """Write the objects of those ids, all that they refer to, and the code records of all of these.

    Raises `NotFound`, `FlowError` for a run that has not ended, `AccessDenied` for a file that is there, and what
    reading a record raises.
    """
    place, files = os.path.abspath(path), Files()
    if files.kind(place) is not None:
        raise AccessDenied(f"{path} is there already, and is not overwritten.", hint="Choose another name.", path=place)
    wanted = tuple(dict.fromkeys(parse_id(id_) for id_ in ids))
    backend = store.backend
    frames = _reached(store, wanted)
    pieces = {digest: None for frame in frames.values() for digest in digests_of(parse_unverified(frame))}
    described = backend.describe()
    head = {"ids": wanted, "store": described.store, "key": f"{described.key:08x}", "records": len(frames),
            "pieces": len(pieces)}  # fmt: skip
    with files.beside(place) as aside:
        files.write_parts(aside, _with_digest(_parts(head, frames.values(), pieces, backend)))
        files.sync(aside)
    return read_bundle(place)


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """What is in the file; raises `CorruptBundle` (cut short, changed, none at all), `NewerFormat`, `NotFound`."""
    place = os.fspath(path)
    if os.path.exists(place) and not os.path.isfile(place):  # a pipe would wait for somebody who writes
        raise _corrupt(place, "is no bundle of perdure")
    try:
        with open(place, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.", hint="Look at the path.", path=place) from None
    except (ValueError, IsADirectoryError):  # mmap says so of an empty file
        raise _corrupt(place, "is no bundle of perdure") from None
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror}.", path=place) from error
    head, start = _head(data, place)
    end = len(data) - DIGEST_SIZE
    if end < start or blake2b(data[:end], digest_size=DIGEST_SIZE).digest() != data[end:]:
        raise _corrupt(place, "was cut short or changed since it was written")
    cursor = _Cursor(data[:end], start, place)
    frames = [bytes(cursor.take(cursor.number())) for _ in range(head["records"])]
    pieces: dict[str, memoryview] = {}
    for _ in range(head["pieces"]):
        digest = bytes(cursor.take(DIGEST_SIZE)).hex()
        pieces[digest] = cursor.take(cursor.number())
        if digest_of(pieces[digest]) != digest:
            raise _corrupt(place, f"holds a large piece that is not what its digest {digest[:8]} names")
    if cursor.place != end:
        raise _corrupt(place, "has bytes that belong to nothing")
    return _checked(place, head, frames, pieces)


def take_in(store: Store, bundle: Bundle, *, note: str = "") -> Adopted:
    """Put everything in a bundle into the store, as one commit sealed with its key; old ids -> new ones.

    Code records and texts that the store has are not written twice. Raises `CorruptBundle` for a text that is not
    what its digest says, and what a commit raises.
    """
    return adopt(store, bundle.records, bundle.pieces, kept=bundle.ids, note=note or f"import from {bundle.store}")


def untrusted(bundle: Bundle, *, limits: Limits = LIMITS) -> tuple[Store, Mapping[str, str]]:
    """A store in memory that has everything in a bundle, and the ids there by those in the bundle.

    Nobody vouches for it: objects are made by perdure's own reader, of plain values and registered classes, within the
    limits; what it does not make is `UntrustedRecord` when it is loaded. Raises `CorruptBundle` as `take_in` does.
    """
    nobody = Key.new()
    backend = MemoryBackend(new_key=lambda: nobody.id)
    adopted = adopt(Store(backend, nobody, code="off"), bundle.records, bundle.pieces, kept=bundle.ids, note="")
    return Store(backend, None, code="off", limits=limits), adopted.ids


def _reached(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """The frames of objects, of all that they refer to, and of the code records of all of these."""
    backend, trusting = store.backend, store.desk().view.trust_all
    at = backend.revision()
    found: dict[str, bytes] = {}
    todo = list(ids)
    while todo:
        frames: dict[str, bytes] = {}
        for chunk in chunks(todo):
            frames.update(backend.read(chunk, at))
        absent = [id_ for id_ in todo if id_ not in frames]
        if absent:
            raise NotFound(f"There is no {', '.join(absent[:5])} in this store.", ids=absent)
        further: dict[str, None] = {}
        for id_, frame in frames.items():
            record = decode(frame, store.key, trust_all=trusting)
            if record.class_name == RUN and str(record.fields.get("state")) not in _ENDED:
                raise FlowError(
                    f"{id_} has not ended, and would belong to nobody elsewhere.",
                    hint=f"Go on with it first: perdure resume {id_}, or perdure rerun {id_}.",
                    ids=(id_,),
                )
            further.update(dict.fromkeys((*record.references, *([record.code] if record.code else []))))
        found.update(frames)
        todo = [id_ for id_ in further if id_ not in found]
        if todo:  # a code record that was never kept by anything else may be gone
            there = backend.classes(todo, at)
            todo = [id_ for id_ in todo if id_ in there]
    return dict(sorted(found.items(), key=lambda item: number_of(item[0])))


def _parts(
    head: Mapping[str, Any], frames: Iterable[bytes], pieces: Iterable[str], backend: Backend
) -> Iterator[bytes | memoryview]:
    yield FIRST_LINE + b"%d\n" % FORMAT + json.dumps(head, sort_keys=True).encode("ascii") + b"\n"
    for frame in frames:
        yield len(frame).to_bytes(8, "little") + frame
    for digest in pieces:
        content = memoryview(backend.buffer(digest)).cast("B")
        yield bytes.fromhex(digest) + len(content).to_bytes(8, "little")
        yield content


def _with_digest(parts: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    state = blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        state.update(part)
        yield part
    yield state.digest()


def _head(data: memoryview, place: str) -> tuple[dict[str, Any], int]:
    """What the two first lines say, checked, and where they end."""
    begin = bytes(data[:_LONGEST_HEAD])
    first, _, rest = begin.partition(b"\n")
    number = first.removeprefix(FIRST_LINE)
    if not first.startswith(FIRST_LINE) or not number.isdigit():
        raise _corrupt(place, "is no bundle of perdure")
    if int(number) > FORMAT:
        raise NewerFormat(
            f"{place} is a bundle of format {int(number)}; this release reads up to {FORMAT}.",
            hint="Install a later release.",
            path=place,
        )
    line, newline, _ = rest.partition(b"\n")
    try:
        head = json.loads(line)
        good = newline and isinstance(head, dict) and all(isinstance(head[key], str) for key in ("store", "key"))
        good = good and all(isinstance(head[key], int) and head[key] >= 0 for key in ("records", "pieces"))
        head["ids"] = tuple(map(parse_id, head["ids"]))
    except (ValueError, KeyError, TypeError, InvalidId, RecursionError):
        good = False
    if not good:
        raise _corrupt(place, "does not say what is in it")
    return head, len(first) + len(line) + 2


def _checked(place: str, head: dict[str, Any], frames: list[bytes], pieces: dict[str, memoryview]) -> Bundle:
    """The bundle, after a look at each record."""
    keys: dict[str, Key | None] = {}
    records, verified = [], True
    for frame in frames:
        record = parse_unverified(frame)
        parse_id(record.id)
        if record.flags & ENCRYPTED:  # no release writes such a one
            raise _corrupt(place, f"holds a {record.id} that is encrypted")
        name = sealed_by(frame)
        if name not in keys:
            keys[name] = KeyRing().get(int(name, 16))
        key = keys[name]
        if key is None:
            verified = False
        elif not key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:]):
            raise _corrupt(place, f"holds a {record.id} that was changed since it was sealed with the key {name}")
        missing = digests_of(record).keys() - pieces.keys()
        if missing:
            raise _corrupt(place, f"lacks a large piece of {record.id}")
        records.append(record)
    known = {record.id for record in records}
    absent = {target for record in records for target in record.references} - known | set(head["ids"]) - known
    if absent or len(known) != len(records):
        raise _corrupt(place, f"lacks {', '.join(sorted(absent)[:5])}" if absent else "holds a record twice")
    return Bundle(head["ids"], head["store"], head["key"], tuple(records), pieces, verified or None)


class _Cursor:
    """Reads a bundle from the front; never past its end."""

    def __init__(self, data: memoryview, place: int, name: str):
        self._data, self.place, self._name = data, place, name

    def take(self, size: int) -> memoryview:
        begin, self.place = self.place, self.place + size
        if self.place > len(self._data):
            raise _corrupt(self._name, "says that more is in it than there is")
        return self._data[begin : self.place]

    def number(self) -> int:
        return int.from_bytes(self.take(8), "little")


def _corrupt(place: str, what: str) -> CorruptBundle:
    return CorruptBundle(f"{place} {what}.", hint="Have it exported and sent again.", path=place)
