"""The frame: a record as bytes, on every backend, in every release (formats 1 to 3).

    head | id | code | class | references | fields | payload | CRC-32 | tag

- Format 2 differs from format 1 in the payload alone: it is `SHAPED` (see `perdure.records.shape`), it begins with a
  table of large pieces (`BUFFERED`, see `perdure.records.buffers`), or the rest of it is `COMPRESSED`.
- Format 3 has another frame in its payload, `ENCRYPTED`: see `perdure.records.hidden`. Nothing here opens it.
- The head is little-endian and fixed; a record that does not fit its lengths gets the wide head (flag `WIDE`).
- References are joined by line feeds; fields are JSON; texts are UTF-8.
- The CRC (over all before it) tells damage from a foreign seal; the tag (over all before it) is the seal.
- `decode` never unpickles anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from hmac import compare_digest
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple
from zlib import crc32

from perdure import kernels
from perdure.errors import CorruptRecord, KeyMissing, NewerFormat, PerdureError, UntrustedRecord
from perdure.ids import is_id
from perdure.records.buffers import table_size
from perdure.records.compression import SMALLEST, compressed, decompressed
from perdure.records.seal import TAG_SIZE, Key, own_secret
from perdure.records.shape import Shape, parse_shape
from perdure.records.values import BUFFERED, COMPRESSED, ENCRYPTED, FOREIGN, NO_FIELDS, SHAPED, Draft, Fields, Record

MAGIC = b"\xb7PD"
FORMAT = 1
NEWEST_FORMAT = 3
WIDE = 0x8000
CRC_SIZE = 4
TAIL = CRC_SIZE + TAG_SIZE

# magic, format, flags, class version, key id, revision, lengths of id, code, class, references, fields, payload
_NARROW = Struct("<3sBHHIIBBHHHI")
_WIDE = Struct("<3sBHHIQBBHIIQ")
_LENGTHS = Struct("<HHI")  # the last three of a narrow head
_CRC = Struct("<I")
_as_json = json.JSONEncoder(separators=(",", ":")).encode
NARROW_HEAD = _NARROW.size
WIDE_HEAD = _WIDE.size
_LENGTH_AT = NARROW_HEAD - 4  # where the length of the payload stands
_LENGTH_SIZE = 8  # bytes before a compressed payload, with its length
_PLAIN = frozenset({str, int, float, bool, type(None)})  # types of fields
_MANY = 1000  # heads that are remembered
_FREE = 1 << 20  # bytes of a payload that are unpacked anyway
_SECOND = SHAPED | BUFFERED | COMPRESSED  # what format 1 does not know

Unpacking = tuple[int, int]  # bytes that a payload may become; and how many times what is stored, from a MiB on
Encoder = Callable[[Draft, int], bytes]
Parts = tuple[str, int, int, str, int, str, tuple[str, ...], Fields, bytes, Shape | None]  # see `decoder`
_Middle = tuple[str, int, str, tuple[str, ...], Fields, Shape | None]
Told = tuple[int, int, int, int, dict[bytes, _Middle]]  # revision, flags, where code and payload begin, middles


def encoder(key: Key, *, compress: bool = False) -> Encoder:
    """A function that turns a draft and the revision of its commit into a sealed frame; it may be kept for others.

    With `compress` payloads from some KiB on are compressed where it pays.
    """
    limit = SMALLEST if compress else sys.maxsize
    fork, crc, pack_lengths, join = key.fork, crc32, _LENGTHS.pack, b"".join
    begun: dict[
        tuple[object, ...], tuple[bytes | None, bytes]
    ] = {}  # head up to its lengths, code and class: many share them

    def encode(draft: Draft, revision: int) -> bytes:
        id_, _, flags, class_name, class_version, code, references, fields, payload = draft
        if len(payload) >= limit:
            draft = _squeezed(draft)
            flags, payload = draft.flags, draft.payload
        id_bytes = id_.encode()
        kind = len(id_bytes), flags, class_name, class_version, code, revision
        begin = begun.get(kind)
        if begin is None:
            if len(begun) >= _MANY:
                begun.clear()
            begin = begun[kind] = _begin(draft, len(id_bytes), key.id, revision)
        head, names = begin
        refs_bytes = "\n".join(references).encode() if references else b""
        fields_bytes = _as_json(fields).encode() if fields else b""
        try:
            lengths = pack_lengths(len(refs_bytes), len(fields_bytes), len(payload)) if head else b""
        except StructError:
            head = None
        if head is None:
            head = _wide_head(draft, len(id_bytes), key.id, revision, (len(refs_bytes), len(fields_bytes)))
            lengths, names = b"", code.encode() + class_name.encode()
        body = join((head, lengths, id_bytes, names, refs_bytes, fields_bytes, payload))
        body += crc(body).to_bytes(4, "little")
        state = fork()
        state.update(body)
        return body + state.digest()

    def begin(draft: Draft, id_size: int, revision: int) -> tuple[bytes | None, bytes]:
        return _begin(draft, id_size, key.id, revision)

    if kernels.compiled is not None:
        sealing: Encoder = kernels.compiled.FrameEncoder(own_secret(key), fork, begin, encode, _as_json, limit)
        return sealing
    return encode


def _begin(draft: Draft, id_size: int, key_id: int, revision: int) -> tuple[bytes | None, bytes]:
    """A narrow head up to the lengths that differ, and code and class; no head where they do not fit one."""
    if draft.flags & FOREIGN:
        raise UntrustedRecord(f"{draft.id} has no good seal, and does not get one unread.", ids=(draft.id,))
    code, name = draft.code.encode(), draft.class_name.encode()
    numbers = _format_of(draft.flags), draft.flags, draft.class_version, key_id, revision, id_size, len(code), len(name)
    try:
        return _NARROW.pack(MAGIC, *numbers, 0, 0, 0)[: -_LENGTHS.size], code + name
    except StructError:
        return None, b""


def _wide_head(draft: Draft, id_size: int, key_id: int, revision: int, sizes: tuple[int, int]) -> bytes:
    code, name = draft.code.encode(), draft.class_name.encode()
    numbers = draft.flags | WIDE, draft.class_version, key_id, revision, id_size, len(code), len(name)
    return _WIDE.pack(MAGIC, _format_of(draft.flags), *numbers, *sizes, len(draft.payload))


def _format_of(flags: int) -> int:
    if flags & ENCRYPTED:
        return NEWEST_FORMAT
    return FORMAT + 1 if flags & _SECOND else FORMAT


def decode(frame: bytes, key: Key | None, *, trust_all: bool = False, foreign: Unpacking | None = None) -> Record:
    """The record in `frame`, its seal verified by `key` unless `trust_all`.

    With `foreign`, one without a good seal is given as `FOREIGN`, if its payload is not larger than that.
    Raises `CorruptRecord` for damage, `NewerFormat` for a later format, `UntrustedRecord` for a seal that is not good;
    and for a frame that is encrypted still, since whoever has the key has opened it: then `KeyMissing` if none is here.
    """
    if key is not None and is_sealed(frame, key):
        record = _parse(frame)
        if record.flags & ENCRYPTED:
            raise _hidden(record, frame, key)
        return unpacked(record)
    record = parse_unverified(frame)
    if record.flags & ENCRYPTED:
        raise _hidden(record, frame, key)
    if trust_all:
        return unpacked(record)
    if foreign is not None:
        record = unpacked(record, foreign)
        return record._replace(flags=record.flags | FOREIGN)
    raise UntrustedRecord(
        f"{record.id or 'The record'} does not carry a good seal of the key that it is read with"
        f" ({'none is here' if key is None else key.name}; the record names {sealed_by(frame)}).",
        hint="If you know where it comes from, open it with trust='all'.",
        ids=(record.id,),
    )


def is_sealed(frame: bytes, key: Key) -> bool:
    """Whether the frame carries the seal of that key; then it is as it was written."""
    return key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:])


def decoder(key: Key | None, *, trust_all: bool = False, foreign: Unpacking | None = None) -> Callable[[bytes], Parts]:
    """What `decode` does, as a function for many frames: the usual one, with a good seal, takes the short way.

    It gives the parts of a `Record` as a bare tuple, and after them the shape of the payload, where it has one: then
    the payload is what comes after the shape. (`Record(*parts)` would cost as much as all the slicing.)
    """

    def decode_any(frame: bytes) -> Parts:
        return parts_of(decode(frame, key, trust_all=trust_all, foreign=foreign))

    if key is None:
        return decode_any
    if kernels.compiled is not None:
        given = own_secret(key), key.fork, _middle_of, decode_any
        opening: Callable[[bytes], Parts] = kernels.compiled.FrameDecoder(*given)
        return opening
    return _usual_decoder(key, decode_any)


def _usual_decoder(key: Key, decode_any: Callable[[bytes], Parts]) -> Callable[[bytes], Parts]:
    """What `decoder` gives, for the key that is there; `decode_any` takes what is not usual."""
    fork, same, unpack = key.fork, compare_digest, _NARROW.unpack_from
    heads: dict[bytes, Told] = {}  # by heads without the payload's length

    def decode_usual(frame: bytes) -> Parts:
        state = fork()
        state.update(frame[:-TAG_SIZE])
        if not same(state.digest(), frame[-TAG_SIZE:]) or len(frame) < NARROW_HEAD + TAIL or frame[5] & 0x80:
            return decode_any(frame)
        told = heads.get(frame[:_LENGTH_AT])
        if told is None:
            if len(heads) > _MANY:
                heads.clear()
            _, _, flags, _, _, revision, n_id, *lengths, _ = unpack(frame)
            if flags & (COMPRESSED | ENCRYPTED | FOREIGN):
                return decode_any(frame)
            told = revision, flags, NARROW_HEAD + n_id, NARROW_HEAD + n_id + sum(lengths), {}
            heads[frame[:_LENGTH_AT]] = told
        revision, flags, code_at, payload_at, middles = told
        if flags & SHAPED:
            if payload_at + 2 > len(frame):
                return decode_any(frame)
            payload_at += 2 + frame[payload_at] + (frame[payload_at + 1] << 8)
        # Many records of a bulk have it in common, with its lengths: then nothing of it is decoded again.
        middle = frame[code_at:payload_at]
        known = middles.get(middle)
        if known is None:
            if len(middles) > _MANY:
                middles.clear()
            known = middles[middle] = _middle_of(frame)
        class_name, version, code, references, fields, shape = known
        id_ = frame[NARROW_HEAD:code_at].decode()
        return id_, revision, flags, class_name, version, code, references, fields, frame[payload_at:-TAIL], shape

    return decode_usual


def _middle_of(frame: bytes) -> _Middle:
    """What stands in a frame, whose seal is good, between the id and the values."""
    _, _, _, class_name, version, code, references, fields, _, shape = parts_of(_parse(frame))
    return class_name, version, code, references, fields, shape


def parts_of(record: Record) -> Parts:
    """The parts of a record, with the shape of its payload apart."""
    if not record.flags & SHAPED:
        return (*record, None)
    shape = parse_shape(record.payload)
    return (*record[:-1], record.payload[len(shape.head) :], shape)


def record_of(parts: Parts) -> Record:
    """The record with those parts."""
    shape = parts[9]
    return Record(*parts[:8], parts[8] if shape is None else shape.head + parts[8])


def parse_unverified(frame: bytes) -> Record:
    """The record in `frame` with its checksum verified, but not its seal: for tools that only look.

    A payload that is stored compressed is left so (flag `COMPRESSED`); see `unpacked`.
    """
    if frame[:3] != MAGIC or len(frame) < NARROW_HEAD + TAIL:
        raise CorruptRecord(f"These {len(frame)} bytes are no record of perdure, or one that was cut short.")
    refuse_newer(frame[3])
    if _CRC.unpack(frame[-TAIL:-TAG_SIZE])[0] != crc32(frame[:-TAIL]):
        raise CorruptRecord(f"The record{_named(frame)} is damaged or was cut short: its checksum is wrong.")
    try:
        record = _parse(frame)
    except (StructError, ValueError, RecursionError) as error:
        raise CorruptRecord(f"The record's header cannot be read: {error}.") from error
    _expect_header(record, frame)
    return record


def _expect_header(record: Record, frame: bytes) -> None:
    """Raise `CorruptRecord` for a header that no release of perdure writes: what it tells is shown and looked up."""
    fields = record.fields
    if not isinstance(fields, dict) or not _PLAIN.issuperset(map(type, fields.values())):
        raise CorruptRecord(f"The fields of the record{_named(frame)} are no mapping of plain values.")
    ids = (record.id, *record.references) if record.id else record.references
    if not (all(map(is_id, ids)) and record.class_name.isprintable() and record.code.isprintable()):
        raise CorruptRecord(f"The header of the record{_named(frame)} names something by what is no name.")


def unpacked(record: Record, most: Unpacking | None = None) -> Record:
    """The record with its payload as it was drafted; raises `CorruptRecord` where it cannot be unpacked.

    Raises `UntrustedRecord` for a payload that would be larger than `most`, and `KeyMissing` for an encrypted one.
    """
    if record.flags & ENCRYPTED:
        raise KeyMissing(f"{record.id} is encrypted, and was not opened: the key is not here.", ids=(record.id,))
    if not record.flags & COMPRESSED:
        return record
    payload = record.payload
    start = table_size(payload) if record.flags & BUFFERED else 0
    length = int.from_bytes(payload[start : start + _LENGTH_SIZE], "little")
    if most is not None and (length > most[0] or length > max(_FREE, most[1] * len(payload))):
        raise UntrustedRecord(
            f"{record.id or 'The record'} has no good seal, and {len(payload)} bytes that become {length}.",
            hint="If that much is expected, give limits=perdure.Limits(…) to perdure.loads, or to make_store.",
            ids=(record.id,),
        )
    try:
        rest = decompressed(memoryview(payload)[start + _LENGTH_SIZE :], length)
    except CorruptRecord as error:
        error.ids = (record.id,)
        raise
    return record._replace(flags=record.flags & ~COMPRESSED, payload=payload[:start] + rest)


def _squeezed(draft: Draft) -> Draft:
    """The draft with its payload compressed, but for a table of large pieces; as it is where that does not pay."""
    if draft.flags & COMPRESSED:
        return draft  # made from a record that was not unpacked
    payload = memoryview(draft.payload)
    start = table_size(draft.payload) if draft.flags & BUFFERED else 0
    rest = compressed(payload[start:]) if len(payload) - start >= SMALLEST else None
    if rest is None:
        return draft
    length = (len(payload) - start).to_bytes(_LENGTH_SIZE, "little")
    return draft._replace(flags=draft.flags | COMPRESSED, payload=b"".join((payload[:start], length, rest)))


class Head(NamedTuple):
    """What the head of a frame tells: its layout and numbers, and where fields and payload begin, in bytes."""

    layout: Struct
    numbers: tuple[Any, ...]
    fields_at: int
    payload_at: int

    @property
    def about(self) -> tuple[int, int, int, int]:
        """Flags, revision, and where the id begins and ends."""
        start = self.layout.size
        return self.numbers[2] & ~WIDE, self.numbers[5], start, start + self.numbers[6]


def head_of(frame: bytes) -> Head:
    """The head of a whole frame; nothing is verified."""
    layout = _WIDE if frame[5] & WIDE >> 8 else _NARROW
    numbers = layout.unpack_from(frame)
    fields_at: int = layout.size + sum(numbers[6:10])
    return Head(layout, numbers, fields_at, fields_at + numbers[10])


def enclosing(frame: bytes, head: Head, flags: int, payload: bytes, key: Key) -> bytes:
    """A frame of the newest format with what stands before the fields of that one, and those flags and that payload."""
    _, _, old, version, _, revision, n_id, n_code, n_class, n_refs, *_ = head.numbers
    lengths = n_id, n_code, n_class, n_refs, 0, len(payload)
    begin = head.layout.pack(MAGIC, NEWEST_FORMAT, flags | old & WIDE, version, key.id, revision, *lengths)
    body = b"".join((begin, frame[head.layout.size : head.fields_at], payload))
    body += crc32(body).to_bytes(4, "little")
    return body + key.tag(body)


def refuse_newer(format_: int) -> None:
    """Raise `NewerFormat` for the format of a frame that a later release has written."""
    if not FORMAT <= format_ <= NEWEST_FORMAT:
        raise NewerFormat(
            f"The record has format {format_}; this release of perdure reads up to {NEWEST_FORMAT}.",
            hint="Install a later release.",
        )


def frame_length(head: bytes) -> int | None:
    """The length in bytes of the frame that begins with `head`; None if more of the head is needed to tell."""
    wide = len(head) >= NARROW_HEAD and bool((head[4] | head[5] << 8) & WIDE)
    layout = _WIDE if wide else _NARROW
    return layout.size + sum(layout.unpack_from(head)[6:]) + TAIL if len(head) >= layout.size else None


def sealed_by(frame: bytes) -> str:
    """The name of the key that the frame says it is sealed with."""
    return f"{int.from_bytes(frame[8:12], 'little'):08x}"


def flags_of(frame: bytes) -> int:
    """The flags in a frame, or in its beginning; nothing is verified."""
    return (frame[4] | frame[5] << 8) & ~WIDE


def id_of(frame: bytes) -> str:
    """The id in a frame, or in its first 320 bytes; nothing is verified."""
    flags = frame[4] | frame[5] << 8
    start, length = (WIDE_HEAD, frame[20]) if flags & WIDE else (NARROW_HEAD, frame[16])
    return frame[start : start + length].decode()


def _hidden(record: Record, frame: bytes, key: Key | None) -> PerdureError:
    if key is None:
        return KeyMissing(
            f"{record.id} is encrypted, and the key {sealed_by(frame)} is not on this machine.",
            hint="Take it in with: perdure key import FILE",
            ids=(record.id,),
        )
    return UntrustedRecord(
        f"{record.id} is encrypted, and cannot be opened with the key {key.name}: it was changed or moved, made with"
        f" another key (it names {sealed_by(frame)}), or is in a store that is not encrypted.",
        hint="Take it from a backup.",
        ids=(record.id,),
    )


def _named(frame: bytes) -> str:
    try:
        name = id_of(frame)
    except (UnicodeDecodeError, IndexError):
        return ""
    return f" {name}" if name and name.isprintable() else ""


def _parse(frame: bytes) -> Record:
    (_, format_, flags, version, _, revision, n_id, n_code, n_class, n_refs, n_fields, n_payload) = _NARROW.unpack_from(
        frame
    )
    start = NARROW_HEAD
    if flags & WIDE:
        (_, format_, flags, version, _, revision, n_id, n_code, n_class, n_refs, n_fields, n_payload) = (
            _WIDE.unpack_from(frame)
        )
        start = WIDE_HEAD
        flags &= ~WIDE
    flags &= ~FOREIGN  # nothing that is stored can say this of itself
    refuse_newer(format_)
    code_at = start + n_id
    class_at = code_at + n_code
    refs_at = class_at + n_class
    fields_at = refs_at + n_refs
    payload_at = fields_at + n_fields
    if payload_at + n_payload + TAIL != len(frame):
        raise CorruptRecord(f"The record{_named(frame)} does not have the length that its head tells.")
    return Record(
        frame[start:code_at].decode(),
        revision,
        flags,
        frame[class_at:refs_at].decode(),
        version,
        frame[code_at:class_at].decode(),
        tuple(frame[refs_at:fields_at].decode().split("\n")) if n_refs else (),
        json.loads(frame[fields_at:payload_at]) if n_fields else NO_FIELDS,
        frame[payload_at:-TAIL],
    )
