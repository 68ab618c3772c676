"""One record with names of classes and modules changed: header, payload, and the fields that tell names.

- Nothing is imported or unpickled. What cannot be changed with certainty raises `CannotRename`, and then nothing of
  the record is changed.
- The texts in perdure's own records that are names of functions (`Job`, `Run`) are changed too; code records are not:
  they tell what was.
- Large pieces stay where they are; a pickle in one of them that names something to be changed is a reason to refuse.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from perdure.backends.base import Backend
from perdure.errors import CannotRename
from perdure.pickling.nested import holds_old_name
from perdure.pickling.renames import Renames
from perdure.pickling.rewriting import rewritten
from perdure.pickling.slots import Followed, Kind, Slot, text_of
from perdure.records.buffers import Piece, pack_table, read_table, table_size
from perdure.records.shape import parse_shape
from perdure.records.values import BUFFERED, CLASS_FIELD, LINKED, PLAIN, SHAPED, Draft, Fields, Record

Changed = Counter[tuple[str, str]]
Rename = Callable[[str], str]

_FILL_LIST = {pickle.APPEND[0], pickle.APPENDS[0]}
_FILL_DICT = {pickle.SETITEM[0], pickle.SETITEMS[0]}
_EXTENSIONS = (pickle.EXT1, pickle.EXT2, pickle.EXT4)


class _OwnTexts(NamedTuple):
    """Which attributes and fields of a class of perdure's are names of functions; and which may be of a module."""

    functions: Mapping[str, str]
    modules: Mapping[str, str]


_OWN: dict[str, _OwnTexts] = {
    "perdure:Job": _OwnTexts({"_function": "function"}, {}),
    "perdure:Run": _OwnTexts({"_flow": "flow"}, {"_source": "source"}),
}


class Renamed(NamedTuple):
    """The draft of a record that was changed, and how often which names were, without the header's."""

    draft: Draft
    changed: Changed


def renamed(record: Record, renames: Renames, backend: Backend | None = None) -> Renamed | None:
    """The record after the renames, to be written over what it was read from; None where nothing is to be changed.

    Its large pieces are those of `backend`. Raises `CannotRename`, `CorruptRecord`.
    """
    texts = {attribute: rename for attribute, _, rename in _own_texts(record.class_name, renames)}
    payload, changed = _payload(record, renames, texts, backend)
    fields = _fields(record, renames)
    class_name = renames.of_text(record.class_name)
    if class_name == record.class_name and fields == record.fields and payload == record.payload:
        return None
    draft = Draft(
        record.id, record.revision, record.flags, class_name, record.class_version, record.code, record.references,
        fields, payload,
    )  # fmt: skip
    return Renamed(draft, changed)


def _own_texts(class_name: str, renames: Renames) -> Iterator[tuple[str, str, Rename]]:
    """Attributes that are names, with their fields and what renames them."""
    own = _OWN.get(class_name)
    if own is not None:
        yield from ((attribute, field, renames.of_text) for attribute, field in own.functions.items())
        yield from ((attribute, field, renames.of_module) for attribute, field in own.modules.items())


def _fields(record: Record, renames: Renames) -> Fields:
    changed: dict[str, Any] = {}
    for _, field, rename in _own_texts(record.class_name, renames):
        value = record.fields.get(field)
        if isinstance(value, str):
            changed[field] = rename(value)
    where = record.fields.get(CLASS_FIELD)
    if isinstance(where, str) and renames.of_text(where) != where:
        changed[CLASS_FIELD] = renames.of_text(where)
    return {**record.fields, **changed} if changed else record.fields


def _payload(
    record: Record, renames: Renames, texts: Mapping[str, Rename], backend: Backend | None
) -> tuple[bytes, Changed]:
    payload = record.payload
    pieces = read_table(payload) if record.flags & BUFFERED else []
    _refuse_pieces(pieces, renames, backend)
    if not (
        renames.may_be_in(payload)
        or _may_have_extensions(record)
        or (texts and any(sign in payload for sign in renames.signs))
    ):
        return payload, Counter()
    start = table_size(payload) if pieces else 0
    shape = parse_shape(payload) if record.flags & SHAPED else None
    if shape is not None:
        start = len(shape.head)
    holes = {piece.place: piece.length for piece in pieces if not piece.is_outside}

    def names(run: Followed) -> Iterator[tuple[Slot, str]]:
        attributes = _items(run, shape.names) if shape is not None else _pairs(run, record.flags)
        for attribute, slot in attributes:
            rename = texts.get(attribute)
            text = text_of(slot) if rename is not None and slot.kind is Kind.TEXT else None
            if rename is not None and text is not None and rename(text) != text:
                yield slot, rename(text)

    result = rewritten(payload[start:], renames, keeps_memo=True, holes=holes, name_texts=names if texts else None)
    places = iter(result.holes)
    moved = [piece if piece.is_outside else piece._replace(place=next(places)) for piece in pieces]
    head = pack_table(moved) if pieces else payload[:start]
    return head + result.data, result.changed


def _may_have_extensions(record: Record) -> bool:
    """Whether a payload names something and has bytes that could be extension codes."""
    return not record.flags & PLAIN and any(code in record.payload for code in _EXTENSIONS)


def _items(run: Followed, names: tuple[str, ...]) -> Iterator[tuple[str, Slot]]:
    """The values of a state's attributes, which are the items of a list."""
    items = [slot for event in run.events if event.op.code in _FILL_LIST and event.takes[0] is run.top
             for slot in event.takes[1:]]  # fmt: skip
    return zip(names, items, strict=False)


def _pairs(run: Followed, flags: int) -> Iterator[tuple[str, Slot]]:
    """The same where the state is a dict."""
    state = run.top.parts[0] if flags & LINKED and run.top.parts else run.top
    for event in run.events:
        if event.op.code in _FILL_DICT and event.takes[0] is state:
            for key, value in zip(event.takes[1::2], event.takes[2::2], strict=False):
                yield (text_of(key) or "") if key.kind is Kind.TEXT else "", value


def _refuse_pieces(pieces: list[Piece], renames: Renames, backend: Backend | None) -> None:
    """Raise `CannotRename` for a large piece that begins as a pickle does, and names something to be changed."""
    if backend is None:
        return
    for piece in pieces:
        first = bytes(memoryview(next(iter(backend.buffer_parts(piece.digest)), b""))[:2])
        is_pickle = first[:1] == pickle.PROTO and first[1:] <= b"\x05"
        if is_pickle and holds_old_name(bytes(backend.buffer(piece.digest)), renames):
            raise CannotRename(f"The large piece {piece.digest} is another pickle, which names what is to be renamed.")
