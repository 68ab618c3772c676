"""Frames with another class name, put together from the stored ones: what stands beside the name is not parsed.

- Only for records that have nothing else to be changed: narrow heads, payloads that name nothing and are not packed.
- The seal of the stored frame is verified before anything of it is used; the new frame gets one of its own.
- A `SplicedDraft` tells backends what they ask for; its payload is the new frame, sealed for the revision that will
  most likely be its own, its code the old class name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import NamedTuple
from zlib import crc32

from perdure import kernels
from perdure.records.frame import MAGIC, NARROW_HEAD, TAIL, WIDE, Encoder
from perdure.records.seal import TAG_SIZE, Key, own_secret
from perdure.records.values import BUFFERED, COMPRESSED, INTERNAL, NO_FIELDS, PLAIN, Draft, Fields

_MANY = 1000  # heads, and names, that are remembered
_NOT_ALONE = INTERNAL | BUFFERED | COMPRESSED | WIDE


class SplicedDraft(Draft):
    """A draft whose payload is the frame that is to be stored, made for one revision in advance."""

    __slots__ = ()


class _Head(NamedTuple):
    """What frames with the same beginning share: where their parts are; new class names by old ones."""

    fits: bool
    code_at: int
    class_at: int
    class_end: int
    flags: int
    version: int
    names: dict[bytes, _Names]
    sizes: bytes  # of id and code

    def fields(self, frame: bytes) -> Fields:
        """The fields in the header of a frame."""
        start = self.class_end + (frame[20] | frame[21] << 8)
        text = frame[start : start + (frame[22] | frame[23] << 8)]
        found: Fields = json.loads(text) if text else NO_FIELDS
        return found


def _head(frame: bytes) -> _Head:
    flags = frame[4] | frame[5] << 8
    code_at = NARROW_HEAD + frame[16]
    class_at = code_at + frame[17]
    fits = frame[:3] == MAGIC and bool(flags & PLAIN) and not flags & _NOT_ALONE
    version = frame[6] | frame[7] << 8
    return _Head(fits, code_at, class_at, class_at + (frame[18] | frame[19] << 8), flags, version, {}, frame[16:18])


_Names = tuple[
    str, str, bytes, bytes, bool
]  # old, new, the new one's bytes, the sizes up to theirs, whether fields are told


class Splicer:
    """Makes drafts of frames whose class name alone changes, and the frames of these.

    `rename` gives the new name of a class; where one of `signs` stands in the rest of a frame, that may have to be
    changed too. `tells_fields` says, by the new name, of which classes the drafts must tell the fields. `encode` is
    for all other drafts.
    """

    def __init__(
        self,
        key: Key,
        rename: Callable[[str], str],
        signs: Iterable[bytes],
        tells_fields: Callable[[str], bool],
        encode: Encoder,
    ):
        self._fork = key.fork
        self._secret = own_secret(key)
        self._rename = rename
        self._signs = tuple(signs)
        self._tells_fields = tells_fields
        self._encode = encode
        self._heads: dict[bytes, _Head] = {}

    def drafts(self, frames: Iterable[bytes], revision: int) -> tuple[list[Draft], list[bytes]]:
        """The drafts of frames whose class is renamed, and the frames that must be looked at as a whole.

        `revision` is what the commit of the drafts will most likely get. Of the other frames neither the seal nor
        anything else was found to be good. Frames without any sign are in neither list.
        """
        found: list[Draft] = []
        rest: list[bytes] = []
        if kernels.compiled is not None:
            found, rest = kernels.compiled.splice(
                list(frames), revision.to_bytes(4, "little"), self._secret, self._fork, self._heads, self._signs,
                self._learn, self._named, _Head.fields, NO_FIELDS, SplicedDraft,
            )  # fmt: skip
            return found, rest
        heads, signs, fork, same, crc = self._heads, self._signs, self._fork, compare_digest, crc32
        new, none, tail, body_end, number, join = tuple.__new__, (), -TAG_SIZE, -TAIL, int.from_bytes, b"".join
        written = revision.to_bytes(4, "little")
        for frame in frames:
            begin, lengths = frame[:12], frame[16:20]
            head = heads.get(begin + lengths)
            if head is None:
                head = self._learn(begin + lengths, frame)
            class_end = head.class_end
            if not head.fits:
                rest.append(frame)
                continue
            for sign in signs:
                if frame.find(sign, class_end, body_end) >= 0:
                    rest.append(frame)
                    break
            else:
                name = frame[head.class_at : class_end]
                old, class_name, encoded, length, tells = head.names.get(name) or self._named(head, name)
                if encoded == name and name:
                    continue
                state = fork()
                state.update(frame[:tail])
                if not (length and name and class_end <= len(frame) - TAIL and same(state.digest(), frame[tail:])):
                    rest.append(frame)
                    continue
                body = join((begin, written, length, frame[20 : head.class_at], encoded, frame[class_end:body_end]))
                body += crc(body).to_bytes(4, "little")
                state = fork()
                state.update(body)
                found.append(
                    new(
                        SplicedDraft,
                        (
                            frame[NARROW_HEAD : head.code_at].decode(), number(frame[12:16], "little"), head.flags,
                            class_name, head.version, old, none, head.fields(frame) if tells else NO_FIELDS,
                            body + state.digest(),
                        ),
                    )
                )  # fmt: skip
        return found, rest

    def encode(self, draft: Draft, revision: int) -> bytes:
        """The frame of any draft."""
        if type(draft) is not SplicedDraft:
            return self._encode(draft, revision)
        frame = draft[8]
        if int.from_bytes(frame[12:16], "little") == revision:
            return frame
        body = frame[:12] + revision.to_bytes(4, "little") + frame[16:-TAIL]
        body += crc32(body).to_bytes(4, "little")
        state = self._fork()
        state.update(body)
        return body + state.digest()

    def _learn(self, kind: bytes, frame: bytes) -> _Head:
        if len(frame) < NARROW_HEAD + TAIL:
            return _NO_HEAD
        if len(self._heads) > _MANY:
            self._heads.clear()
        head = self._heads[kind] = _head(frame)
        return head

    def _named(self, head: _Head, name: bytes) -> _Names:
        if len(head.names) > _MANY:
            head.names.clear()
        try:
            old = name.decode()
        except UnicodeDecodeError:
            return "", "", b"", b"", False  # a damaged one
        text = self._rename(old)
        encoded = text.encode()
        length = head.sizes + len(encoded).to_bytes(2, "little") if len(encoded) < WIDE else b""
        head.names[name] = found = old, text, encoded, length, self._tells_fields(text)
        return found


_NO_HEAD = _head(bytes(NARROW_HEAD))
