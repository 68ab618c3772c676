"""Conflicts that a class can resolve: what was read, what another commit made of it, what this one would write.

- `_resolve_conflict(old, stored, mine)`, a static or class method, gets three copies that belong to no store, and
  returns the one that is to be written. What they refer to is a `Referred`: the same one for the same id.
- Whatever it raises, or returns instead, leaves the conflict as it was; the cause is told with it.
- What was removed, or is of another class by now, is never merged; nor is what was only read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.errors import ClassNotFound, ConflictError, SnapshotTooOld
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.columns import header_fields
from perdure.objects.instances.persistable import Persistable, entry_of
from perdure.objects.payloads.decoding import resolver_for
from perdure.objects.payloads.encoding import Encoder
from perdure.objects.payloads.filling import detached, detached_guest, new_guest
from perdure.objects.payloads.pieces import attached, contents_of, lasting
from perdure.objects.views.naming import class_named
from perdure.objects.views.view import View
from perdure.records.buffers import digests_of
from perdure.records.frame import decode
from perdure.records.values import KEPT, KIND_BITS, NO_FIELDS, VALUE, Batch, Draft, Fields, Record


class Referred(Persistable):
    """Stands for an object that a copy refers to. It tells its id, and is the same one in all three copies.

    BTrees order the values that they compare, so it has an order: that of the ids.
    """

    __slots__ = ("id", "mark")

    def __init__(self, id_: str):
        self.id = id_
        self.mark = 0

    @property
    def persistent_id(self) -> str:
        """The id of the object that it stands for."""
        return self.id

    def __repr__(self) -> str:
        return f"<{self.id}>"

    def __lt__(self, other: object) -> bool:
        return self.id < other.id if isinstance(other, Referred) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.id > other.id if isinstance(other, Referred) else NotImplemented


def resolve(view: View, batch: Batch, error: ConflictError) -> tuple[Batch, list[str]]:
    """The batch with merged drafts in place of those that conflict, and their ids.

    Raises the error if one cannot be merged.
    """
    places = {draft.id: place for place, draft in enumerate(batch.drafts)}
    if not all(id_ in places and error.revisions.get(id_, (0, 0))[1] for id_ in error.ids):
        raise error
    methods = {id_: _method(view, batch.drafts[places[id_]]) for id_ in error.ids}
    if None in methods.values():
        raise error
    frames = view.backend.read(error.ids)
    drafts = [*batch.drafts]
    needed = {*batch.needed}
    for id_, method in methods.items():
        draft = drafts[places[id_]]
        if id_ not in frames or method is None:
            raise error  # removed in this very moment
        stored = attached(decode(frames[id_], view.key, trust_all=view.trust_all), view.backend)
        drafts[places[id_]] = merged = _merge(method, _old(view, draft, error), stored, draft, view, error)
        needed.update(set(merged.references).difference(stored.references, places))
    named = {digest for draft in drafts for digest in digests_of(draft)}
    buffers = {**batch.buffers, **contents_of(drafts[places[id_]] for id_ in methods)}
    buffers = {digest: content for digest, content in buffers.items() if digest in named}
    return batch._replace(drafts=drafts, needed=needed, seen=-1, buffers=buffers), [*methods]


def _method(view: View, draft: Draft) -> tuple[type[Any], Callable[..., Any]] | None:
    """The class of a draft and how it resolves conflicts, if it does."""
    if draft.flags & KIND_BITS == VALUE:
        return None
    entry = view.entry(draft.id)
    try:
        cls = entry.cls if entry is not None else class_named(draft.class_name, draft.fields)
        facts = facts_of(cls)
    except ClassNotFound:
        return None
    method = _resolve_guests(cls) if facts.guest else getattr(cls, "_resolve_conflict", None)
    return (cls, method) if method is not None and facts.name == draft.class_name else None


def _resolve_guests(cls: type[Any]) -> Callable[..., Any] | None:
    """`_p_resolveConflict` of a class of ZODB's, which takes and gives states, as a method that does so with copies."""
    if getattr(cls, "_p_resolveConflict", None) is None:
        return None

    def resolve(old: Any, stored: Any, mine: Any) -> Any:
        merged = new_guest(cls)
        state = merged._p_resolveConflict(old.__getstate__(), stored.__getstate__(), mine.__getstate__())
        merged.__setstate__(state)
        return merged

    return resolve


def _old(view: View, draft: Draft, error: ConflictError) -> Record:
    """What the draft was made from."""
    try:
        # What is there at the oldest revision that is kept may have been written before it.
        at = max(draft.base, view.backend.describe().oldest)
        frame = view.backend.read([draft.id], at).get(draft.id)
    except SnapshotTooOld as cause:
        raise error from cause
    record = None if frame is None else decode(frame, view.key, trust_all=view.trust_all)
    if record is None or record.revision != draft.base:
        raise error
    return attached(record, view.backend)


def _merge(
    how: tuple[type[Any], Callable[..., Any]],
    old: Record,
    stored: Record,
    draft: Draft,
    view: View,
    error: ConflictError,
) -> Draft:
    mine = Record(*draft)._replace(payload=lasting(draft.payload))  # else it is made of the caller's own arrays
    cls, method = how
    if any(record.flags & KIND_BITS == VALUE or _class_of(record) is not cls for record in (old, stored, mine)):
        raise error
    referred: dict[str, Referred] = {}
    outside: dict[str, Any] = {}

    def copy(record: Record) -> Any:
        objects = [referred.setdefault(id_, Referred(id_)) for id_ in record.references]
        make = detached_guest if facts_of(cls).guest else detached
        return make(cls, record, objects, resolver_for(record, view.resources, outside))

    try:
        merged = method(copy(old), copy(stored), copy(mine))
        if type(merged) is not cls or entry_of(merged) is not None:
            raise TypeError(
                f"{cls.__qualname__}._resolve_conflict gave {type(merged).__name__}, not a copy to be written"
            )
        facts = facts_of(cls)
        encoder = Encoder(_only_referred, view.protocol)
        payload, references, _, flags = encoder.encode(merged, facts)
        encoder.release()
        flags |= facts.flags | (draft.flags | stored.flags) & KEPT
        draft = draft._replace(
            class_version=facts.version,
            base=stored.revision,
            flags=flags,
            references=references,
            fields=NO_FIELDS,
            payload=payload,
        )
        return draft._replace(fields=_fields(draft, cls, view))
    except Exception as cause:  # the user's own code ran: anything may come out
        raise error from cause


def _fields(merged: Draft, cls: type[Any], view: View) -> Fields:
    """What the header of a merged object tells. Its properties may look through references: here to the objects."""
    facts = facts_of(cls)
    if facts.fields is None and view.extra_fields is None:
        return NO_FIELDS
    record = Record(*merged)
    make = detached_guest if facts.guest else detached
    copy = make(cls, record, view.objects_of(merged.references), resolver_for(record, view.resources, {}))
    return header_fields(copy, facts, view.extra_fields)


def _class_of(record: Record) -> Any:
    """The class that a record names, by whatever name and version: the copies are as the class is now."""
    try:
        return class_named(record.class_name, record.fields)
    except ClassNotFound:
        return None


def _only_referred(obj: Any) -> Any:
    """What the encoder asks for the entry of an object that a merged one refers to."""
    if isinstance(obj, Referred):
        return obj
    raise ValueError(f"what is merged refers to a {type(obj).__name__} that is in none of the three copies")
