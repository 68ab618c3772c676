"""Answers `find` and `count`: the question in the user's words becomes a `Query`, its answer ids as the view sees them.

- The answer is that of the view's revision. Where the backend answers as of a later one, what was changed since is left
  out of its answer and judged by the headers of the view's own revision.
- Inside a transaction its own work counts: what it touched or saved is judged as it is in memory.
- An index is only asked if every record of the classes tells the fields: looked at once in each store, class and field,
  and from then on in what was changed since, as a program with an older class may have written it.
- No module is imported for a record whose seal is not good.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from perdure.backends.base import Backend, chunks, number_of
from perdure.errors import (
    CannotIndex,
    ClassNotFound,
    InvalidArgument,
    NotIndexed,
    PerdureError,
    SnapshotTooOld,
    WrongView,
)
from perdure.objects.bounds import limit_of, whole_number
from perdure.objects.instances.classes import is_kind_of, known_facts
from perdure.objects.instances.columns import ExtraFields, indexed_fields
from perdure.objects.instances.ghosts import real_class
from perdure.objects.instances.indexing import ALLOWED, attribute, cannot_index, indexed_names, plain
from perdure.objects.instances.persistable import GHOST, Persistable, entry_of
from perdure.objects.transactions.commits import Desk
from perdure.objects.views.naming import class_named
from perdure.objects.views.view import View
from perdure.pickling.classes import find, main_module_name, shown_name
from perdure.pickling.declared import DECLARED
from perdure.records.frame import decode, parse_unverified
from perdure.records.queries import OPERATORS, Condition, Query, arrange, matcher
from perdure.records.values import NO_FIELDS, Fields, Plain, Record

Order = str | Sequence[str]
Row = tuple[str, int, Fields]  # id, number, fields

_ARGUMENTS = ("order_by", "limit", "offset", "subclasses", "scan")
MOST_CHANGED = 1000  # records that are looked at one by one for what they lack
ATTEMPTS = 3  # to be answered at a revision whose changes are known


class Asked(NamedTuple):
    """A question: of which class, and the query without the names of classes in records."""

    cls: type[Any]
    query: Query
    subclasses: bool
    scan: bool


class Finding:
    """What one store knows about its classes and indexes; shared by all its views, and only ever added to."""

    def __init__(self, backend: Backend, extra: ExtraFields | None):
        self._backend = backend
        self.extra = extra
        self._elsewhere: set[str] = set()  # names of classes that are not imported for a query, or could not be
        # class name and field that every record told -> at which revision
        self._complete: dict[tuple[str, str], int] = {}

    # -- questions -----------------------------------------------------------------------------------------

    def asked(
        self,
        cls: type[Any] | str,
        conditions: Mapping[str, Any],
        order_by: Order = (),
        limit: int | None = None,
        offset: int = 0,
        *,
        subclasses: bool = True,
        scan: bool = False,
    ) -> Asked:
        """The question in the user's words. Raises `NotIndexed`, `CannotIndex`, `ClassNotFound`, `InvalidArgument`."""
        real = find(cls) if isinstance(cls, str) else cls
        if not isinstance(real, type):
            raise InvalidArgument(
                f"A class is asked for, or its name (module:Name), not {cls!r:.60}", hint="Give the class itself."
            )
        limit = limit_of(limit)
        offset = whole_number("offset", offset)
        known = self.fields_of(real)
        told = tuple(_condition(self._backend, name, value, known) for name, value in conditions.items())
        names = _names(order_by)
        order = tuple((name.removeprefix("-"), name.startswith("-")) for name in names)
        query = Query((), told, order, limit, offset)
        unknown = [name for name in query.fields if name not in known]
        if unknown and not scan:
            raise _not_indexed(real, unknown[0])
        return Asked(real, query, subclasses, scan)

    def asked_as_find(self, cls: type[Any] | str, arguments: Mapping[str, Any]) -> Asked:
        """The question that the arguments of `Store.find` mean."""
        own = {name: arguments[name] for name in _ARGUMENTS if name in arguments}
        return self.asked(cls, {name: value for name, value in arguments.items() if name not in own}, **own)

    def fields_of(self, cls: type[Any]) -> tuple[str, ...]:
        """The fields that records of a class tell for queries."""
        names = indexed_names(cls)
        facts = known_facts(cls)
        if facts is not None and facts.indexed != names:
            facts.learn_index()
        return indexed_fields(names, self.extra)

    # -- classes -------------------------------------------------------------------------------------------

    def names(self, desk: Desk, cls: type[Any], *, subclasses: bool) -> tuple[str, ...]:
        """The names in records of a class, and of all that are subclasses of it and can be imported here."""
        return tuple(name for name, _ in self.classes(desk, cls, subclasses=subclasses))

    def classes(self, desk: Desk, cls: type[Any], *, subclasses: bool) -> Iterator[tuple[str, type[Any]]]:
        """The same names with their classes; perdure's own only if such a one is asked for."""
        for name in self._backend.class_names():
            other = self._class(desk, name)
            if other is None or (_is_internal(other) and not _is_internal(cls)):
                continue
            if other is cls or (subclasses and is_kind_of(other, cls)):
                yield name, other

    def _class(self, desk: Desk, name: str) -> type[Any] | None:
        """The class of that name; None where it is not here, or its module may not be imported."""
        now = DECLARED.current(name) if DECLARED.active else name
        module = now.partition(":")[0]
        fields = NO_FIELDS
        if now not in DECLARED.known and module not in sys.modules and module != main_module_name():
            trusted = None if name in self._elsewhere else self._trusted(desk, name)
            if trusted is None:
                return None
            self._elsewhere.add(name)  # what fails is not tried again; what does not is imported then
            fields = trusted.fields
        try:
            found = class_named(name, fields)
        except ClassNotFound:
            return None
        except Exception:  # noqa: BLE001 (the user's module is run, anything may come out; loading its objects says it)
            return None
        return found if isinstance(found, type) else None

    def _trusted(self, desk: Desk, name: str) -> Record | None:
        """The first record of that class, if its seal is good and it names the class itself; else None."""
        view = desk.view
        for frame in self._backend.scan(class_name=name):
            try:
                record = decode(frame, view.key, trust_all=view.trust_all)
            except PerdureError:
                record = None
            if record is None or record.class_name != name:  # no seal is on the list that told the name
                self._elsewhere.add(name)
                return None
            return record
        return None

    def require_complete(self, names: Sequence[str], fields: Sequence[str], cls: type[Any], revision: int) -> None:
        """Raise `NotIndexed` if a record of these classes does not tell all the fields, at that revision or later."""
        asked = [(name, field) for name in names for field in fields]
        since = min((self._complete.get(pair, -1) for pair in asked), default=revision)
        if since >= revision:
            return
        newest, lacking = self._lacking(tuple(names), fields, since)
        if lacking:
            shown = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
            raise NotIndexed(
                f"Not every {cls.__qualname__} of the store was saved with {' and '.join(fields)}: {shown} was not.",
                hint="Give scan=True, which loads them all."
                if self._backend.read_only
                else f"Run store.reindex({cls.__qualname__}) once, or give scan=True, which loads them all.",
                ids=lacking,
            )
        for pair in asked:
            self._complete[pair] = max(newest, self._complete.get(pair, -1))

    def _lacking(self, names: tuple[str, ...], fields: Sequence[str], since: int) -> tuple[int, list[str]]:
        """A revision, and ids of records that lacked a field then; at revision `since`, if there was one, none did."""
        changed = self._changed(since) if since >= 0 else None
        if changed is not None:
            newest, ids = changed
            frames = self._backend.read(ids, newest) if ids else {}
            records = [parse_unverified(frame) for frame in frames.values()]
            return newest, [
                each.id for each in records if each.class_name in names and any(f not in each.fields for f in fields)
            ]
        newest = self._backend.revision()  # first: what is written from here on is looked at the next time
        return newest, self._backend.lacking(Query(names, order=tuple((field, False) for field in fields)))

    def _changed(self, since: int) -> tuple[int, list[str]] | None:
        """The newest revision, and ids that were written after another one; None if they are many, or not known."""
        try:
            newest, numbers = self._backend.changes(since)
            if len(numbers) > MOST_CHANGED:
                return None
            return newest, self._backend.ids_of(numbers, newest) if numbers else []
        except SnapshotTooOld:
            return None


# -- answers ---------------------------------------------------------------------------------------------


def find_ids(finding: Finding, desk: Desk, asked: Asked) -> list[str]:
    """The ids that answer the question, as the view sees the store."""
    desk.view.refresh()
    names = finding.names(desk, asked.cls, subclasses=asked.subclasses)
    query = asked.query._replace(classes=names)
    holds = matcher(query)
    if asked.scan:
        rows = [row for row in _scanned(finding, desk, asked, names) if holds(row[2])]
        return arrange(rows, query)
    view = desk.view
    finding.require_complete(names, query.fields, asked.cls, view.revision)
    own = _own(finding, desk, asked)
    excluded = own.keys() | desk.removed.keys()
    if not excluded:
        found = view.backend.find(query)
        if found.revision == view.revision:
            return found.ids
    ids, later = _candidates(view, query, len(excluded))
    kept = [id_ for id_ in ids if id_ not in excluded and number_of(id_) not in later]
    if later:
        kept += [id_ for id_ in view.backend.ids_of(later, view.revision) if id_ not in excluded]
    rows = [*_stored(finding, desk, kept, query), *own.values()]
    return arrange([row for row in rows if holds(row[2])], query)


def count(finding: Finding, desk: Desk, asked: Asked) -> int:
    """How many objects answer the question."""
    view = desk.view
    if not asked.scan and not view.in_transaction:
        view.refresh()
        names = finding.names(desk, asked.cls, subclasses=asked.subclasses)
        query = asked.query._replace(classes=names)
        finding.require_complete(names, query.fields, asked.cls, view.revision)
        revision, number = view.backend.count(query)
        if revision == view.revision:
            return number
    return len(find_ids(finding, desk, asked))


def _candidates(view: View, query: Query, spare: int) -> tuple[list[str], set[int]]:
    """Ids that answer the query now, and the numbers of what was changed after the view's revision.

    With a limit there are as many as it asks for besides `spare` ids and those of the numbers.
    """
    seen, later = view.revision, set[int]()
    for _ in range(ATTEMPTS):
        wide = query._replace(offset=0)
        if query.limit is not None:
            wide = wide._replace(limit=query.limit + query.offset + spare + len(later))
        found = view.backend.find(wide)
        if found.revision <= seen:
            return found.ids, later
        seen, later = view.backend.changes(view.revision)
    found = view.backend.find(query._replace(limit=None, offset=0))  # others commit all the time
    return found.ids, view.backend.changes(view.revision)[1]


def _own(finding: Finding, desk: Desk, asked: Asked) -> dict[str, Row]:
    """What the open transaction has touched or saved of the class, as it is in memory; nothing outside of one."""
    if not desk.view.in_transaction:
        return {}
    removed = desk.removed
    rows = {}
    view = desk.view
    touched = [*view.enlisted.values(), *(kept.obj for kept in view.still_napping().values())]
    for entry, obj in [*((entry_of(obj), obj) for obj in touched), *view.changed_guests()]:
        cls = real_class(obj)
        if entry is None or entry.state == GHOST or entry.id in removed:
            continue
        wanted = cls is asked.cls or (asked.subclasses and is_kind_of(cls, asked.cls))
        if wanted and (_is_internal(asked.cls) or not _is_internal(cls)):
            rows[entry.id] = (entry.id, entry.number, _live(obj, asked.query.fields, finding.extra))
    return rows


def _live(obj: Any, fields: Iterable[str], extra: ExtraFields | None) -> Fields:
    """The fields of an object in memory, as they would be saved now."""
    name = shown_name(real_class(obj))
    told = extra.of(obj, name, unsaved=True) if extra is not None and not set(extra.names).isdisjoint(fields) else {}
    found: dict[str, Plain] = {}
    for field in fields:
        if field in told:
            found[field] = told[field]
            continue
        value = attribute(obj, name, field)
        try:
            found[field] = plain(value, unsaved=True)
        except ValueError as error:
            raise cannot_index(obj, name, field, value, error) from error
    return found


def _stored(finding: Finding, desk: Desk, ids: Sequence[str], query: Query) -> Iterator[Row]:
    """The fields of stored objects of the query's classes, by their headers at the view's revision."""
    view = desk.view
    fields = query.fields
    if not fields:
        names = view.backend.classes(ids, view.revision)
        yield from ((id_, number_of(id_), {}) for id_ in ids if names.get(id_) in query.classes)
        return
    for chunk in chunks(ids):
        frames = view.backend.read(chunk, view.revision)
        for id_, frame in frames.items():
            record = parse_unverified(frame)
            if record.class_name not in query.classes:
                continue
            told = record.fields
            if any(field not in told for field in fields):  # it was indexed after the view's revision
                told = _live(view.load_many([id_])[0], fields, finding.extra)
            yield id_, number_of(id_), told


def _scanned(finding: Finding, desk: Desk, asked: Asked, names: tuple[str, ...]) -> Iterator[Row]:
    """The fields of all objects of those classes, loaded for it and let go again."""
    view = desk.view
    own = _own(finding, desk, asked)
    yield from own.values()
    elsewhere = own.keys() | desk.removed.keys()
    for name in names:
        frames = view.backend.scan(class_name=name, at=view.revision)
        for chunk in chunks(id_ for frame in frames if (id_ := parse_unverified(frame).id) not in elsewhere):
            objects = view.load_many(chunk)
            for id_, obj in zip(chunk, objects, strict=True):
                yield id_, number_of(id_), _live(obj, asked.query.fields, finding.extra)
            with view.lock:
                view.rest(objects)


def _is_internal(cls: Any) -> bool:
    return bool(getattr(cls, "__record_internal__", False))


# -- questions in the user's words ---------------------------------------------------------------------------


def _names(order_by: Any) -> list[str]:
    """The fields to order by, each with its sign."""
    names = [order_by] if isinstance(order_by, str) else order_by
    if not isinstance(names, Iterable):
        raise InvalidArgument(
            f"order_by is a name or several, not {order_by!r:.60}.", hint='Write order_by="-created".'
        )
    told = list(names)
    for name in told:
        if not isinstance(name, str) or not name.removeprefix("-").isidentifier():
            raise InvalidArgument(
                f"order_by names {name!r:.60}, which is no name of an attribute.",
                hint="Write the name, with one - before it for descending.",
            )
    return told


def _condition(backend: Backend, name: str, value: Any, known: Sequence[str]) -> Condition:
    """`state="new"`, `size__lt=3`; a field whose own name ends like an operator is taken as a field."""
    field, _, suffix = name.rpartition("__")
    if name in known or not field or suffix not in OPERATORS:
        field, suffix = name, "eq"
    operator = OPERATORS[suffix]
    if operator == "in":
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise InvalidArgument(f"{name} takes several values, not {type(value).__name__}")
        return Condition(field, operator, tuple(_asked_for(backend, name, each) for each in value))
    told = _asked_for(backend, name, value)
    if operator == "prefix" and not isinstance(told, str):
        raise InvalidArgument(f"{name} takes a text, not {type(value).__name__}")
    return Condition(field, operator, told)


def _asked_for(backend: Backend, name: str, value: Any) -> Plain:
    if isinstance(value, Persistable):
        _refuse_foreign(backend, name, value)
    try:
        return plain(value, unsaved=True)
    except ValueError as error:
        raise CannotIndex(
            f"{name} cannot be {type(value).__qualname__}: {error}.", hint=f"Allowed are {ALLOWED}.", attribute=name
        ) from error


def _refuse_foreign(backend: Backend, name: str, obj: Persistable) -> None:
    """Raise `WrongView` for an object of another store: its id means something else here."""
    entry = entry_of(obj)
    other = None if entry is None else cast(View, entry.view).backend
    if entry is None or other is None or other is backend or other.describe().store == backend.describe().store:
        return
    raise WrongView(
        f"{name} is asked for as {entry.id} of another store.",
        hint="Ask for the object of that id in this one.",
        ids=(entry.id,),
    )


def _not_indexed(cls: type[Any], field: str) -> NotIndexed:
    there = ", ".join(indexed_names(cls))
    return NotIndexed(
        f"{cls.__qualname__} has no index of {field!r}" + (f", but of {there}." if there else "."),
        hint=f"Write __indexed__ = ({field!r},) in the class and run store.reindex({cls.__qualname__}),"
        " or give scan=True, which loads and compares them all.",
        attribute=field,
    )
