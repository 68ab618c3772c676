"""The records of a system in a store: its owner, its files, and the pieces of those.

- They are perdure's own, so that `list()` leaves them out, and are found by what their headers tell.
"""

from __future__ import annotations

import pickle
from typing import Any

from perdure.errors import CorruptRecord
from perdure.objects.instances.persistable import Persistable
from perdure.records.values import INTERNAL, PLAIN, SYSTEM_FILE, SYSTEM_PIECE, Draft, Plain, Record


class SystemOwner(Persistable):
    """Says which process writes a prevalent system; "" where none does."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self, system: str):
        self.system = system
        self.owner = ""

    def __record_fields__(self) -> dict[str, Plain]:
        return {"system": self.system, "owner": self.owner}


class SystemFile(Persistable):
    """A file of a prevalent system."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    system: str
    name: str


class SystemPiece(Persistable):
    """A piece of such a file: `content`, at byte `at`."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    file: int
    at: int
    content: bytes


FILES, PIECES = SYSTEM_FILE, SYSTEM_PIECE
INDEXED = {FILES: ("system",), PIECES: ("file",)}


class Piece:
    """A piece; `base` is the revision that wrote it, 0 while it waits to be written."""

    __slots__ = ("at", "base", "content", "number", "size")

    def __init__(self, number: int, at: int, content: bytes):
        self.number, self.at, self.size, self.base = number, at, len(content), 0
        self.content: bytes | None = content

    @property
    def id(self) -> str:
        return f"SystemPiece.{self.number}"

    def without_content(self) -> Piece:
        """The same as it is known when it is stored."""
        found = Piece(self.number, self.at, self.content or b"")
        found.base, found.content = self.base, None
        return found


class File:
    """A file; `pieces` is None until they were looked up."""

    def __init__(self, number: int, name: str, base: int = 0):
        self.number, self.name, self.base = number, name, base
        self.is_changed = not base
        self.pieces: list[Piece] | None = None if base else []

    @property
    def id(self) -> str:
        return f"SystemFile.{self.number}"


def file_draft(system: str, file: File) -> Draft:
    """The record of a file."""
    told: dict[str, Plain] = {"system": system, "name": file.name}
    return _draft(file.id, file.base, FILES, told, told)


def piece_draft(file: int, piece: Piece) -> Draft:
    """The record of a piece of that file."""
    state = {"file": file, "at": piece.at, "content": piece.content}
    return _draft(piece.id, 0, PIECES, {"file": file}, state)


def _draft(id_: str, base: int, class_name: str, fields: dict[str, Plain], state: dict[str, Any]) -> Draft:
    return Draft(id_, base, INTERNAL | PLAIN, class_name, 0, "", (), fields, pickle.dumps(state, 5))


def state_of(record: Record) -> dict[str, Any]:
    """What a record of this module holds, which was verified to be under the store's seal."""
    state = pickle.loads(record.payload)
    if not isinstance(state, dict):
        raise CorruptRecord(f"{record.id} holds no piece of a system.", ids=(record.id,))
    return state
