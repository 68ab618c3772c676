"""Named roots: a mapping from names to whatever a program wants to find again.

- The names stand in one record, `Roots.0`; a persistable value is referred to, any other is kept in a record of its
  own, a `Root`, and so is watched like every object: `store.roots["users"].append(c)` is saved by the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from perdure.errors import ConflictError, IdInUse, InvalidArgument, NotFound
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.guests import is_record
from perdure.objects.instances.persistable import Persistable, entry_of
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.transaction import Transaction

ID = "Roots.0"
ATTEMPTS = 20  # two programs that set different names at the same time both succeed


class RootNames(Persistable):
    """The one record that holds the names."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self) -> None:
        self.names: dict[str, Persistable] = {}

    def __record_fields__(self) -> dict[str, int]:
        return {"names": len(self.names)}

    @staticmethod
    def _resolve_conflict(old: RootNames, stored: RootNames, mine: RootNames) -> RootNames:
        """Two programs may set or delete different names at the same time."""
        for name in {*old.names, *mine.names}:
            before, now = old.names.get(name), mine.names.get(name)
            if now is before:
                continue
            if stored.names.get(name) is not before:
                raise ConflictError(f"Both have changed the root {name!r}.")
            if now is None:
                del stored.names[name]
            else:
                stored.names[name] = now
        return stored


class Root(Persistable):
    """Holds a value that is no record of its own."""

    __module__ = "perdure"  # the name in records, for ever
    __record_internal__ = True

    def __init__(self, name: str, value: Any):
        self.name = name
        self.value = value

    def __record_fields__(self) -> dict[str, str]:
        return {"name": self.name}


class Roots(MutableMapping[str, Any]):
    """`store.roots`. Reading gives the live object; setting saves at once, or with the transaction that is open."""

    def __init__(self, desk: Callable[[], Desk]):
        self._desk = desk

    def __getitem__(self, name: str) -> Any:
        desk = self._desk()
        desk.view.refresh()
        try:
            found = self._names(desk)[name]
        except KeyError:
            raise NotFoundRoot(
                f"There is no root named {name!r}.", hint=f"There are: {', '.join(sorted(self)) or 'none yet'}."
            ) from None
        return found.value if isinstance(found, Root) else found

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise InvalidArgument(f"the name of a root is a str, not {type(name).__name__}")
        self._change(lambda names: self._put(names, name, value))

    def __delitem__(self, name: str) -> None:
        self[name]  # raises if it is not there
        self._change(lambda names: names.pop(name, None))

    def __iter__(self) -> Iterator[str]:
        desk = self._desk()
        desk.view.refresh()
        return iter(list(self._names(desk)))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(iter(self))

    def __repr__(self) -> str:
        return f"<roots: {', '.join(sorted(self)) or 'none'}>"

    @staticmethod
    def _put(names: dict[str, Persistable], name: str, value: Any) -> None:
        held = names.get(name)
        if is_record(value):
            names[name] = value
        elif isinstance(held, Root):
            held.value = value
        else:
            names[name] = Root(name, value)

    def _names(self, desk: Desk) -> dict[str, Persistable]:
        record = self._record(desk)
        return {} if record is None else record.names

    @staticmethod
    def _record(desk: Desk) -> RootNames | None:
        try:
            record: RootNames = desk.view.load_many([ID])[0]
        except NotFound:
            return None
        return record

    def _change(self, change: Callable[[dict[str, Persistable]], Any]) -> None:
        desk = self._desk()
        desk.require_writable()
        if desk.transaction is not None:
            self._apply(desk, change)
            return
        for attempt in range(ATTEMPTS):
            try:
                with Transaction(desk):
                    self._apply(desk, change)
                return
            except (ConflictError, IdInUse) as error:
                if attempt == ATTEMPTS - 1 or set(error.ids) != {ID}:
                    raise

    def _apply(self, desk: Desk, change: Callable[[dict[str, Persistable]], Any]) -> None:
        record = self._record(desk)
        if record is None:
            record = RootNames()
            made = desk.view.enrol(record, facts_of(RootNames), ID)
            past = desk.view.backend.history(ID)
            if past and past[0].frame is None:  # the commit that made it was undone: it comes back
                made.revision, made.forced = past[0].revision, True
        change(record.names)
        entry = entry_of(record)
        assert entry is not None
        desk.view.wake(entry, record)


def refuse_names(id_: str, doing: str) -> None:
    """Raise `InvalidArgument` for the id of the record that holds the names: it goes with the store."""
    if id_ == ID:
        raise InvalidArgument(
            f"{ID} holds the names of the roots, and cannot be {doing}.",
            hint="Change them by store.roots: del store.roots[name].",
            ids=(ID,),
        )


class NotFoundRoot(NotFound, KeyError):
    """There is no root of that name."""

    def __str__(self) -> str:
        return NotFound.__str__(self)
