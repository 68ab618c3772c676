"""Code records as their records tell, without making objects of them.

- They are opened as any record is: only if the seal is good, or if all are trusted.
- A text is compared with the digest that the code record names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from perdure.backends.base import Backend
from perdure.code.archives import Archive
from perdure.code.sources import is_text_of
from perdure.code.values import CodeState
from perdure.errors import CorruptRecord, NotFound
from perdure.objects.payloads.decoding import StoredReference, comparable
from perdure.objects.payloads.pieces import attached
from perdure.records.frame import Parts, record_of

Decode = Callable[[bytes], Parts]


class StoredCode(NamedTuple):
    """A code record: its state, the ids of the texts that are kept (by digest), the digests of those erased."""

    id: str
    state: CodeState
    sources: Mapping[str, str]
    erased: tuple[str, ...]
    text_of: Callable[[str], str | None]

    def archive(self) -> Archive:
        """What can be imported of it."""
        return Archive(self.id, self.state, self.text_of)


def read_code(backend: Backend, decode: Decode, id_: str) -> StoredCode:
    """The code record of that id.

    Raises `NotFound`, and what `decode` raises for a record that is damaged or has no good seal.
    """
    frame = backend.read([id_]).get(id_)
    if frame is None:
        raise NotFound(f"The code record {id_} is not in the store.", ids=(id_,))
    held = comparable(attached(record_of(decode(frame)), backend), None)
    references: dict[str, StoredReference] = held["sources"]
    sources = {digest: reference.id for digest, reference in references.items()}

    def text_of(digest: str) -> str | None:
        source = sources.get(digest, "")
        found = backend.read([source]).get(source) if source else None
        if found is None:
            return None
        text: str = comparable(attached(record_of(decode(found)), backend), None)["text"]
        if not is_text_of(text, digest):
            raise CorruptRecord(f"{source} is not the text that {id_} names.", ids=(source,))
        return text

    return StoredCode(id_, CodeState.from_plain(held["_plain"]), sources, tuple(held.get("erased", ())), text_of)
