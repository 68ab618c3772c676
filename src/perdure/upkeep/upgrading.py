"""Bringing a whole store to its classes as they are now: what loading would change is written, with the same code.

- Written is what has an old version, an old name, other attributes than its class, or such values inside; nothing else.
  So it may be cut off, and begun again.
- Each batch is a transaction of its own; what others changed meanwhile is looked at again, never overwritten.
- What cannot be loaded (a step that raises, a class that is not here) stays as it is, and is reported.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from perdure.backends.base import chunks
from perdure.errors import ConflictError, NotFound, PerdureError, SnapshotTooOld, TransactionError
from perdure.objects.instances.classes import ClassFacts
from perdure.objects.instances.guests import is_guest
from perdure.objects.instances.persistable import ENTRIES
from perdure.objects.payloads.decoding import Loading, ObjectUnpickler, StoredReference, parts_to_make
from perdure.objects.payloads.pieces import attached
from perdure.objects.reports import Problem, Upgraded
from perdure.objects.store import Store
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.steps import replace
from perdure.objects.transactions.transaction import Transaction
from perdure.objects.views.view import View
from perdure.pickling.declared import DECLARED
from perdure.pickling.lasting import MEMBER, is_renamed, member
from perdure.pickling.layouts import by_name
from perdure.pickling.outside import OutsideReference
from perdure.pickling.rebuilding import find_named
from perdure.pickling.references import MODULE, named
from perdure.records.frame import decode, parts_of
from perdure.records.shape import parse_shape
from perdure.records.values import KIND_BITS, PLAIN, SHAPED, STATE, VALUE, Record

ATTEMPTS = 20  # to write a batch of which others write something at the same time
SHOWN = 100  # problems that a report has

Progress = Callable[[int, int], None]


def upgrade(store: Store, *, dry_run: bool = False, batch: int = 500, progress: Progress | None = None) -> Upgraded:
    """Write every record anew that is not as its class is now; gives what was written and what could not be.

    With `dry_run` nothing is written. `progress(done, of)` is called after each batch. Raises `TransactionError` inside
    a transaction.
    """
    if store.desk().transaction is not None:
        raise TransactionError("An upgrade makes commits of its own.", hint="Call it outside of the transaction.")
    thread = threading.get_ident()
    desk = store._new_desk(lambda: threading.get_ident() == thread)
    if not dry_run:
        desk.require_writable()
    desk.view.refresh()
    work = _Upgrade(desk, dry_run=dry_run)
    ids = [id_ for internal in (False, True) for id_ in store.backend.ids(internal=internal, at=desk.view.revision)]
    done = 0
    for chunk in chunks(ids, batch):
        work.do(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, len(ids))
    return Upgraded(work.written, len(ids), work.failures, tuple(work.problems))


class _Old(NamedTuple):
    """A record that is to be written anew."""

    id: str
    is_value: bool


class _Upgrade:
    def __init__(self, desk: Desk, *, dry_run: bool):
        self._desk = desk
        self._dry_run = dry_run
        self.written = 0
        self.failures = 0
        self.problems: list[Problem] = []

    def do(self, ids: list[str]) -> None:
        """Look at these, and write those that are to be written."""
        view = self._desk.view
        view.refresh()
        old = [*self._old_among(view, ids)]
        if self._dry_run:
            self.written += len(old)
            return
        if not old:
            return
        try:
            self._write(old)
        except ConflictError:
            raise
        except PerdureError:  # one of them: each by itself, then
            for each in old:
                try:
                    self._write([each])
                except PerdureError as error:
                    self._note(each.id, error)

    def _note(self, id_: str, error: PerdureError) -> None:
        self.failures += 1
        if len(self.problems) < SHOWN:
            self.problems.append(Problem(id_, str(error)))

    def _old_among(self, view: View, ids: Iterable[str]) -> Iterator[_Old]:
        for id_, frame in view.backend.read(ids, view.revision).items():
            try:
                record = attached(decode(frame, view.key, trust_all=view.trust_all), view.backend)
                if record.flags & KIND_BITS == VALUE:
                    if _holds_old(record):
                        yield _Old(id_, True)
                else:
                    facts = view.facts_named(record.class_name, id_, record.fields)
                    if is_old(record, facts):
                        yield _Old(id_, False)
            except SnapshotTooOld:
                raise
            except PerdureError as error:
                self._note(id_, error)

    def _write(self, old: list[_Old]) -> None:
        view, attempt = self._desk.view, 0
        while True:
            attempt += 1
            try:
                with Transaction(self._desk, "upgrade"):
                    objects = view.load_many([each.id for each in old])
                    for each, obj in zip(old, objects, strict=True):
                        self._force(each, obj)
                self.written += len(old)
                return
            except (ConflictError, NotFound):
                if attempt == ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, 0.001 * 2 ** min(attempt, 7)))
                view.refresh()
                old = [*self._old_among(view, [each.id for each in old])]

    def _force(self, each: _Old, obj: Any) -> None:
        view = self._desk.view
        if each.is_value:
            replace(self._desk, each.id, obj)
        elif is_guest(obj):
            obj._p_activate()
            obj._p_changed = True
        else:
            view.touch(ENTRIES[id(obj)], obj, force=True)


def is_old(record: Record, facts: ClassFacts) -> bool:
    """Whether a record would be another one, were its object written now. Raises what loading it raises."""
    if record.class_name != facts.name or record.class_version != facts.version:
        parts_to_make(
            facts, record, _references(record), OutsideReference, lenient=False
        )  # says what stands against it
        return True
    plan = facts.plan
    if plan is not None:
        if record.flags & SHAPED:
            if not plan.fits(parts_of(record)):
                return True
        elif record.flags & KIND_BITS != STATE:
            loading = _loading(record, record.payload)
            loading.load()
            stored = loading.load()[0]
            named = by_name(stored, None)
            now = plan.state(record, stored)
            if type(stored) is list or (named is not None and [*named] != [*(by_name(now, None) or {})]):
                return True
    return _holds_old(record)


def _references(record: Record) -> list[StoredReference]:
    return [StoredReference(id_) for id_ in record.references]


def _holds_old(record: Record) -> bool:
    """Whether a value inside is of a class that has changed, or has another name now."""
    if record.flags & PLAIN:
        return False
    payload = record.payload
    if record.flags & SHAPED:
        payload = payload[len(parse_shape(payload).head) :]
    loading = _loading(record, payload)
    for _ in range(1 if record.flags & KIND_BITS in (STATE, VALUE) else 2):
        loading.load()
    return bool(loading.was_rebuilt or loading.fast.has_old_names)


def _loading(record: Record, payload: bytes) -> Any:
    return Loading(payload, _references(record), OutsideReference, lenient=False, kind=_Noting)


class _Noting(ObjectUnpickler):
    """Notes whether anything is named that is called otherwise now."""

    has_old_names = False

    def find_class(self, module: str, name: str) -> Any:
        if DECLARED.active:
            self._note(f"{module}:{name}")
            if module == MODULE and name == named.__name__:
                return self._named
            if module == MODULE and name == MEMBER:
                return self._member
        return super().find_class(module, name)

    def _named(self, name: str) -> Any:
        self._note(name)
        return find_named(name)

    def _member(self, cls: Any, name: str, value: Any) -> Any:
        found = member(cls, name, value)
        if name != found._name_ and is_renamed(cls, name):
            self.has_old_names = True
        return found

    def _note(self, name: str) -> None:
        if DECLARED.current(name) != name:
            self.has_old_names = True
