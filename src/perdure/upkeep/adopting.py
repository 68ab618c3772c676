"""Records of another store become this one's: with new ids, and sealed with its key, in one commit.

- Payloads hold no ids, so nothing is unpickled for that; only code records and texts are looked into, since whoever
  finds them by their digests must find what these say.
- Code records and texts that the store has already stand for those that come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from perdure.backends.base import Backend
from perdure.code.sources import is_text_of
from perdure.code.values import plain_digest
from perdure.errors import CorruptBundle, CorruptRecord, NewerFormat
from perdure.objects.coding import BARE, Code, Source
from perdure.objects.payloads.decoding import comparable
from perdure.objects.payloads.pieces import attached
from perdure.objects.store import Store
from perdure.objects.transactions.signing import signing
from perdure.pickling.classes import name_of
from perdure.records.frame import parse_unverified, unpacked
from perdure.records.values import INTERNAL, KEPT, Batch, Buffer, Draft, Fields, Record

_CODE, _SOURCE = name_of(Code), name_of(Source)
_IDS = ("run", "job", "result")  # fields of perdure's own records that name others


class Adopted(NamedTuple):
    """What came of it: the new id of each old one, and the revision."""

    ids: Mapping[str, str]
    revision: int


def adopt(
    store: Store, records: Sequence[Record], pieces: Mapping[str, memoryview], *, kept: Iterable[str], note: str
) -> Adopted:
    """Write the records; those of the ids in `kept` stay even if nothing refers to them."""
    desk = store.desk()
    desk.require_writable()
    view, backend = desk.view, store.backend
    _verify(records, pieces)
    ids = _here(backend, records)
    needed = set(ids.values())
    new = [record for record in records if record.id not in ids]
    if not new:
        return Adopted(ids, backend.revision())
    first = backend.reserve(len(new))
    ids |= {record.id: f"{record.id.rpartition('.')[0]}.{first + place}" for place, record in enumerate(new)}
    wanted = set(kept)
    drafts = [_draft(record, ids, is_kept=record.id in wanted) for record in new]
    buffers: dict[str, Buffer] = dict(pieces)
    batch = Batch(
        drafts,
        time=desk.clock.now(),
        note=note,
        needed=needed,
        indexed=_indexed(drafts),
        buffers=buffers,
        keep=desk.keep,
    )
    with signing(desk) as apply:
        receipt = apply(batch)
    view.refresh()
    return Adopted(ids, receipt.revision)


def _draft(record: Record, ids: Mapping[str, str], *, is_kept: bool) -> Draft:
    internal = record.flags & INTERNAL
    return Draft(
        id=ids[record.id],
        base=0,
        flags=record.flags | KEPT if is_kept and not internal else record.flags,
        class_name=record.class_name,
        class_version=record.class_version,
        code=ids.get(record.code, ""),
        references=tuple(ids[target] for target in record.references),
        fields=_mapped(record.fields, ids) if internal else record.fields,
        payload=record.payload,
    )


def _mapped(fields: Fields, ids: Mapping[str, str]) -> Fields:
    told = {name: fields[name] for name in _IDS if name in fields}
    return {
        **fields,
        **{name: ids.get(value, value) if isinstance(value, str) else value for name, value in told.items()},
    }


def _indexed(drafts: Iterable[Draft]) -> dict[str, tuple[str, ...]]:
    """The fields that each of the user's classes tells in all of its records."""
    found: dict[str, tuple[str, ...]] = {}
    for draft in drafts:
        if draft.fields and not draft.flags & INTERNAL:
            names = found.get(draft.class_name, tuple(draft.fields))
            found[draft.class_name] = tuple(name for name in names if name in draft.fields)
    return {name: fields for name, fields in found.items() if fields}


def _here(backend: Backend, records: Iterable[Record]) -> dict[str, str]:
    """Those of the code records and texts that the store has: the old id -> the one here."""
    known: dict[tuple[str, str], str] = {}
    for name in (_CODE, _SOURCE):
        for frame in backend.scan(class_name=name):
            try:
                record = parse_unverified(frame)
            except (CorruptRecord, NewerFormat):
                continue
            if not record.fields.get("erased"):
                known[name, str(record.fields.get("digest"))] = record.id
    pairs = ((record.id, known.get((record.class_name, str(record.fields.get("digest"))))) for record in records)
    return {old: new for old, new in pairs if new is not None}


def _verify(records: Iterable[Record], pieces: Mapping[str, memoryview]) -> None:
    """Raise `CorruptBundle` if a code record or a text is not what the digest in its header says."""
    source = _Pieces(pieces)
    for record in records:
        if record.class_name not in (_CODE, _SOURCE):
            continue
        told = str(record.fields.get("digest"))
        try:
            held = comparable(attached(unpacked(record), source), None)
            if record.class_name == _SOURCE:
                good = is_text_of(held["text"], told) and held["digest"] == told
            else:
                good = plain_digest(held["_plain"]) == told.removeprefix(BARE) and held["digest"] == told
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise _other(record) from error
        if not good:
            raise _other(record)


def _other(record: Record) -> CorruptBundle:
    return CorruptBundle(f"{record.id} is not what its digest says: it was changed.", ids=(record.id,))


class _Pieces:
    """Large pieces as payloads ask for them."""

    def __init__(self, pieces: Mapping[str, memoryview]):
        self._pieces = pieces

    def buffer(self, digest: str) -> Buffer:
        return self._pieces[digest]

    def buffer_parts(self, digest: str) -> Iterator[Buffer]:
        yield self._pieces[digest]
