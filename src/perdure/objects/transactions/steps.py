"""What a store is asked for: saving, replacing, removing. The open transaction does it, or else a step of its own."""

from __future__ import annotations

from itertools import repeat
from typing import Any

from perdure import kernels
from perdure.errors import ConflictError, NotFound, TransactionError
from perdure.ids import Id
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.guests import is_record
from perdure.objects.instances.persistable import GHOST, Persistable
from perdure.objects.transactions.commits import Commit, Desk, Open
from perdure.objects.transactions.transaction import Transaction, let_go
from perdure.objects.views.view import View
from perdure.records.frame import decode, flags_of, parse_unverified
from perdure.records.values import CODE, INTERNAL


def save_many(desk: Desk, objects: list[Any]) -> list[Id[Any]]:
    """Save objects as one step, or with the transaction that is open; gives their ids in order.

    The list is nobody else's from here on.
    """
    desk.require_writable()
    if desk.transaction is not None:
        return _join_all(desk, desk.transaction, objects)
    step = Commit(desk)
    are_records = all(map(isinstance, objects, repeat(Persistable)))
    step.saved = objects if are_records else [obj for obj in objects if is_record(obj)]
    values = {}  # place -> id
    if len(step.saved) < len(objects):
        values = {place: desk.naming.new_value(obj) for place, obj in enumerate(objects) if not is_record(obj)}
        step.values = [(id_, objects[place]) for place, id_ in values.items()]
    try:
        step.run(everything=False)
    except ConflictError as error:
        let_go(desk.view, error.ids)
        raise
    if not values:
        return _ids_of(desk.view, objects)
    return [values.get(place) or _id_of(desk.view, obj) for place, obj in enumerate(objects)]


def _ids_of(view: View, objects: list[Any]) -> list[Id[Any]]:
    if kernels.compiled is not None:
        found: list[Id[Any]] = kernels.compiled.ids_of(objects)
        if found is not NotImplemented:
            return found
    return [_id_of(view, obj) for obj in objects]


def _id_of(view: View, obj: Any) -> Id[Any]:
    entry = view.own_entry(obj)
    assert entry is not None
    return Id(entry.id)


def _join_all(desk: Desk, transaction: Open, objects: list[Any]) -> list[Id[Any]]:
    step = transaction.step
    ids = [_join(desk, step, obj) for obj in objects]
    if desk.view.joining is None and isinstance(transaction, Transaction):
        desk.view.joining = desk.joining(transaction, step)  # for what is saved next, maybe thousands
    return ids


def _join(desk: Desk, step: Commit, obj: Any) -> Id[Any]:
    """Let the open transaction save `obj`; its id is given at once."""
    if not is_record(obj):
        id_ = desk.naming.new_value(obj)
        step.values.append((id_, obj))
        return id_
    entry = desk.view.own_entry(obj)
    if entry is None:
        facts = facts_of(type(obj))
        entry = desk.view.enrol(obj, facts, *desk.naming.new(obj, facts))
    step.removals.pop(entry.id, None)  # removed before, in the same transaction: it stays
    step.saved.append(obj)
    return Id(entry.id)


def replace(desk: Desk, id_: str, obj: Any) -> None:
    """Store a copy of `obj` under `id_`, in place of what is there."""
    desk.require_writable()
    step = desk.transaction.step if desk.transaction is not None else Commit(desk)
    if step.drop_value(id_):
        if is_record(obj):
            step.copies.append((id_, obj, 0))
        else:
            step.values.append((id_, obj))
        return
    if _is_new(desk, id_):
        raise TransactionError(
            f"{id_} was saved in this very transaction; there is nothing in the store yet that could be replaced.",
            hint="Change the object itself, or replace it after the commit.",
            ids=(id_,),
        )
    base = next((copy[2] for copy in step.copies if copy[0] == id_), None)
    if base is None:
        base = _stored(desk, id_)[1]
    step.drop_copies(id_)
    step.copies.append((id_, obj, base))
    if desk.transaction is None:
        step.run(everything=False)


def remove(desk: Desk, id_: str, *, code_too: bool = False) -> None:
    """Remove the object of that id; it lives on in memory as one that was never saved.

    Raises `TransactionError` for a code record, which commits and records name, unless that was looked at.
    """
    desk.require_writable()
    view = desk.view
    step = desk.transaction.step if desk.transaction is not None else Commit(desk)
    if _is_new(desk, id_) or step.drop_value(id_):
        step.removals[id_] = 0  # in this transaction only: nothing is written of it
        return
    entry = view.entry(id_)
    obj = entry() if entry is not None else None
    base = next((copy[2] for copy in step.copies if copy[0] == id_), None)
    frame, revision = _stored(desk, id_) if base is None else (None, base)
    if frame is not None and flags_of(frame) & INTERNAL and not code_too:
        _refuse_code(id_, parse_unverified(frame).class_name)
    if entry is not None and obj is not None and entry.state == GHOST:
        view.wake(entry, obj)  # whoever holds it keeps its state
    if entry is not None and entry.revision:
        revision = entry.revision
    step.drop_copies(id_)
    step.removals[id_] = revision
    if desk.transaction is not None:
        view.mark = None  # `load` looks whether an id was removed
    else:
        step.run(everything=False)


def _refuse_code(id_: str, class_name: str) -> None:
    if class_name == CODE:
        raise TransactionError(
            f"{id_} is a code record, which tells of what made other objects.",
            hint="`forget` removes it, if nothing names it.",
            ids=(id_,),
        )


def _is_new(desk: Desk, id_: str) -> bool:
    """Whether the open transaction has saved an object under that id, and has not removed it."""
    entry = desk.view.entry(id_) if desk.is_in_transaction and id_ not in desk.removed else None
    return entry is not None and entry() is not None and entry.revision == 0 and entry.state != GHOST


def _stored(desk: Desk, id_: str) -> tuple[bytes, int]:
    view = desk.view
    frame = view.backend.read([id_], view.revision).get(id_)
    if frame is None or id_ in desk.removed:
        raise NotFound(f"There is no {id_} in the store.", ids=(id_,))
    return frame, decode(frame, view.key, trust_all=view.trust_all).revision
