"""The frame: a record as bytes, on every backend, in every release (format 1).

    head | id | code | class | references | fields | payload | CRC-32 | tag

- The head is little-endian and fixed; a record that does not fit its lengths gets the wide head (flag `WIDE`).
- References are joined by line feeds; fields are JSON; texts are UTF-8.
- The CRC (over all before it) tells damage from a foreign seal; the tag (over all before it) is the seal.
- `decode` never unpickles anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hmac import compare_digest
from struct import Struct
from struct import error as StructError
from zlib import crc32

from perdure.errors import CorruptRecord, NewerFormat, UntrustedRecord
from perdure.records.seal import TAG_SIZE, Key
from perdure.records.values import NO_FIELDS, Draft, Fields, Record

MAGIC = b"\xb7PD"
FORMAT = 1
WIDE = 0x8000
CRC_SIZE = 4
TAIL = CRC_SIZE + TAG_SIZE

# magic, format, flags, class version, key id, revision, lengths of id, code, class, references, fields, payload
_NARROW = Struct("<3sBHHIIBBHHHI")
_WIDE = Struct("<3sBHHIQBBHIIQ")
_CRC = Struct("<I")
NARROW_HEAD = _NARROW.size
WIDE_HEAD = _WIDE.size

Encoder = Callable[[Draft, int], bytes]
Parts = tuple[str, int, int, str, int, str, tuple[str, ...], Fields, bytes]  # of a Record, in its order


def encoder(key: Key) -> Encoder:
    """A function that turns a draft and the revision of its commit into a sealed frame."""
    pack, pack_crc, key_id, fork, crc = _NARROW.pack, _CRC.pack, key.id, key.fork, crc32
    middles: dict[tuple[str, str, tuple[str, ...]], tuple[int, int, int, bytes]] = {}  # what many have in common

    def encode(draft: Draft, revision: int) -> bytes:
        id_, _, flags, class_name, class_version, code, references, fields, payload = draft
        id_bytes = id_.encode()
        common = middles.get((code, class_name, references))
        if common is None:
            code_bytes, class_bytes, refs_bytes = code.encode(), class_name.encode(), "\n".join(references).encode()
            common = len(code_bytes), len(class_bytes), len(refs_bytes), code_bytes + class_bytes + refs_bytes
            middles[code, class_name, references] = common
        n_code, n_class, n_refs, middle = common
        fields_bytes = json.dumps(fields, separators=(",", ":")).encode() if fields else b""
        try:
            head = pack(
                MAGIC, FORMAT, flags, class_version, key_id, revision,
                len(id_bytes), n_code, n_class, n_refs, len(fields_bytes), len(payload),
            )  # fmt: skip
        except StructError:
            head = _WIDE.pack(
                MAGIC, FORMAT, flags | WIDE, class_version, key_id, revision,
                len(id_bytes), n_code, n_class, n_refs, len(fields_bytes), len(payload),
            )  # fmt: skip
        body = b"".join((head, id_bytes, middle, fields_bytes, payload))
        body += pack_crc(crc(body))
        state = fork()
        state.update(body)
        return body + state.digest()

    return encode


def decode(frame: bytes, key: Key | None, *, trust_all: bool = False) -> Record:
    """The record in `frame`, its seal verified by `key` unless `trust_all`.

    Raises `CorruptRecord` for damage, `NewerFormat` for a later format, `UntrustedRecord` for a seal that is not good.
    """
    if key is not None and key.verifies(frame[:-TAG_SIZE], frame[-TAG_SIZE:]):
        return _parse(frame)
    record = parse_unverified(frame)
    if trust_all:
        return record
    raise UntrustedRecord(
        f"{record.id or 'The record'} does not carry a good seal of the key that it is read with"
        f" ({'none is here' if key is None else key.name}; the record names {sealed_by(frame)}).",
        hint="If you know where it comes from, open it with trust='all'.",
        ids=(record.id,),
    )


def decoder(key: Key | None, *, trust_all: bool = False) -> Callable[[bytes], Parts]:
    """What `decode` does, as a function for many frames: the usual one, with a good seal, takes the short way.

    It gives the parts of a `Record` as a bare tuple: `Record(*parts)` costs as much as all the slicing.
    """
    if key is None:
        return lambda frame: decode(frame, None, trust_all=trust_all)
    fork, same, unpack = key.fork, compare_digest, _NARROW.unpack_from
    middles: dict[bytes, tuple[str, int, str, tuple[str, ...], Fields]] = {}  # what stands between id and payload

    def decode_usual(frame: bytes) -> Parts:
        state = fork()
        state.update(frame[:-TAG_SIZE])
        if not same(state.digest(), frame[-TAG_SIZE:]) or frame[5] & 0x80 or frame[3] != FORMAT:
            return decode(frame, key, trust_all=trust_all)
        _, _, flags, version, _, revision, n_id, n_code, n_class, n_refs, n_fields, n_payload = unpack(frame)
        code_at = NARROW_HEAD + n_id
        payload_at = code_at + n_code + n_class + n_refs + n_fields
        if payload_at + n_payload + TAIL != len(frame):
            return decode(frame, key, trust_all=trust_all)
        # Many records of a bulk have it in common, with its lengths: then nothing of it is decoded again.
        middle = frame[16:24] + frame[code_at:payload_at]
        known = middles.get(middle)
        if known is None or known[1] != version:
            record = _parse(frame)
            known = middles[middle] = record.class_name, version, record.code, record.references, record.fields
        class_name, version, code, references, fields = known
        id_ = frame[NARROW_HEAD:code_at].decode()
        return id_, revision, flags, class_name, version, code, references, fields, frame[payload_at:-TAIL]

    return decode_usual


def parse_unverified(frame: bytes) -> Record:
    """The record in `frame` with its checksum verified, but not its seal: for tools that only look."""
    if frame[:3] != MAGIC or len(frame) < NARROW_HEAD + TAIL:
        raise CorruptRecord(f"These {len(frame)} bytes are no record of perdure, or one that was cut short.")
    if frame[3] > FORMAT:
        raise NewerFormat(
            f"The record has format {frame[3]}; this release of perdure reads up to {FORMAT}.",
            hint="Install a later release.",
        )
    if _CRC.unpack(frame[-TAIL:-TAG_SIZE])[0] != crc32(frame[:-TAIL]):
        raise CorruptRecord(f"The record{_named(frame)} is damaged or was cut short: its checksum is wrong.")
    try:
        record = _parse(frame)
    except (StructError, ValueError, RecursionError) as error:
        raise CorruptRecord(f"The record's header cannot be read: {error}.") from error
    if not isinstance(record.fields, dict):
        raise CorruptRecord(f"The fields of the record{_named(frame)} are no mapping.")
    return record


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
    if format_ != FORMAT:
        raise NewerFormat(
            f"The record has format {format_}; this release of perdure reads up to {FORMAT}.",
            hint="Install a later release.",
        )
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
