"""Random lives of a store: objects in it and plain dicts are told the same, and must be alike after every step.

- One view works in transactions, with savepoints, or by bare calls; others commit in threads of their own meanwhile.
- What must conflict does, and nothing else; what was aborted or rolled back is as it was, in memory too.
- The store is closed and opened again, or left behind as a killed process leaves it, at any moment.
- A subclass says how stores are opened; it may add rules, for what its backend can do besides.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.errors import ConflictError, NotFound, StillReferred
from perdure.objects.store import Store
from perdure.objects.transactions.savepoints import Savepoint
from perdure.objects.transactions.transaction import Transaction
from perdure.testing.store_items import Item, Queue, State, Tally, is_alike, merged, revision_of, shown
from perdure.upkeep import check

_picks = st.integers(0, 1000)


class Point(NamedTuple):
    """A savepoint, and what everything was to be like then."""

    savepoint: Savepoint
    mine: dict[str, State]
    removed: dict[str, State]
    checked: set[str]


class StoreMachine(RuleBasedStateMachine):
    """`open_store` gives the store, the same one at each call."""

    def __init__(self, open_store: Callable[[], Store]):
        super().__init__()
        self._open = open_store
        self.store = open_store()
        self.left: list[Store] = []
        self.stored: dict[str, State] = {}
        self.revision = 0
        self.kept: set[str] = set()  # saved by name, not only because something refers to it
        self.objects: dict[str, Any] = {}  # held, of this view
        self.transaction: Transaction | None = None
        self.base: dict[str, State] = {}
        self.mine: dict[str, State] = {}
        self.removed: dict[str, State] = {}
        self.checked: set[str] = set()
        self.points: list[Point] = []

    # -- objects -----------------------------------------------------------------------------------------

    @property
    def now(self) -> dict[str, State]:
        """What this view is to see."""
        return self.stored if self.transaction is None else self.mine

    def pick(self, pick: int) -> str | None:
        """One of the ids that this view sees."""
        ids = [*self.now]
        return ids[pick % len(ids)] if ids else None

    def load(self, id_: str) -> Any:
        """The object, which is the one that was held before, if any was."""
        obj = self.store.load(id_)
        assert self.objects.setdefault(id_, obj) is obj
        return obj

    @initialize()
    def save_some(self) -> None:
        """To begin with, there is something to work on, made by one commit."""
        self.begin()
        for kind in (Tally, Queue, Item, Tally):
            self.save_new(1, [0], kind)
        self.commit()
        self.begin()

    @rule(value=_picks, picks=st.lists(_picks, max_size=2), kind=st.sampled_from([Item, Queue, Tally]))
    def save_new(self, value: int, picks: list[int], kind: type[Any]) -> None:
        """A new object, maybe with another new one behind it."""
        others = [id_ for id_ in map(self.pick, picks) if id_ is not None]
        obj = kind(value, [self.load(id_) for id_ in others])
        behind = Item(-value, []) if value % 3 == 0 else None
        if behind is not None:
            obj.others.append(behind)
        id_ = str(self.store.save(obj))
        if self.transaction is not None and behind is not None:
            self.kept.add(str(self.store.save(behind)))
        self.kept.add(id_)
        self.objects[id_] = obj
        written = {id_: shown(obj)}
        if behind is not None:
            self.objects[str(behind.persistent_id)] = behind
            written[str(behind.persistent_id)] = shown(behind)
        self._write(written)

    @rule(pick=_picks, value=_picks, more=st.lists(_picks, max_size=2), refer=st.none() | _picks)
    def change(self, pick: int, value: int, more: list[int], refer: int | None) -> None:
        """Other values, in place."""
        id_ = self.pick(pick)
        if id_ is None:
            return
        obj = self.load(id_)
        obj.value = value
        obj.log.extend(more)
        if refer is not None:
            other = self.pick(refer)
            assert other is not None
            obj.others[:] = [self.load(other)]
        if self.transaction is None:
            self.store.save(obj)
        self._write({id_: shown(obj)}, forced=id_ not in self.kept)

    @rule(pick=_picks)
    def look(self, pick: int) -> None:
        """Nothing is written by it."""
        id_ = self.pick(pick)
        if id_ is not None:
            assert shown(self.load(id_)) == self.now[id_]._replace(revision=0)

    @rule(pick=_picks)
    def remove(self, pick: int) -> None:
        """What nobody refers to goes; the rest must not."""
        id_ = self.pick(pick)
        if id_ is None:
            return
        if self.transaction is not None:
            if self.now[id_].revision and not self._referrers(id_, self.now):
                self.store.remove(id_)
                self.removed[id_] = self.mine.pop(id_)
                self.objects.pop(id_, None)
            return
        if self._referrers(id_, self.now):
            try:
                self.store.remove(id_)
            except StillReferred:
                return
            raise AssertionError(f"{id_} was removed, though others refer to it")
        self.store.remove(id_)
        self.objects.pop(id_, None)
        del self.stored[id_]
        self.revision += 1

    def _write(self, written: dict[str, State], *, forced: bool = False) -> None:
        if self.transaction is not None:
            for id_, state in written.items():
                self.mine[id_] = state._replace(revision=self.base[id_].revision if id_ in self.base else 0)
            return
        written = {id_: state for id_, state in written.items() if forced or not is_alike(state, self.stored.get(id_))}
        if forced:
            self.kept.update(written)  # which is noted in its record
        if written:
            self.revision += 1
            self.stored.update({id_: state._replace(revision=self.revision) for id_, state in written.items()})

    @staticmethod
    def _referrers(id_: str, states: dict[str, State]) -> list[str]:
        return [other for other, state in states.items() if id_ in state.others and other != id_]

    # -- transactions ------------------------------------------------------------------------------------

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin(self) -> None:
        self.transaction = self.store.transaction()
        self.transaction.__enter__()
        self.base, self.mine = dict(self.stored), dict(self.stored)
        self.removed, self.checked, self.points = {}, set(), []

    @precondition(lambda self: self.transaction is not None)
    @rule(pick=_picks)
    def read_current(self, pick: int) -> None:
        id_ = self.pick(pick)
        if id_ is not None and self.transaction is not None:
            self.transaction.read_current(self.load(id_))
            if self.mine[id_].revision:
                self.checked.add(id_)

    @precondition(lambda self: self.transaction is not None)
    @rule()
    def savepoint(self) -> None:
        assert self.transaction is not None
        savepoint = self.transaction.savepoint()
        self.points.append(Point(savepoint, *copy.deepcopy((self.mine, self.removed, self.checked))))

    @precondition(lambda self: self.points)
    @rule(pick=_picks)
    def rollback(self, pick: int) -> None:
        del self.points[pick % len(self.points) + 1 :]
        point = self.points[-1]
        point.savepoint.rollback()
        self.mine, self.removed, self.checked = copy.deepcopy(point[1:])
        self._see_held()
        for id_ in self.mine:
            self.load(id_)

    @precondition(lambda self: self.transaction is not None)
    @rule(how=st.sampled_from(["commit", "commit", "commit", "abort", "die"]), again=st.booleans())
    def end(self, how: str, again: bool) -> None:
        """Mostly it is committed; maybe the next one begins at once."""
        if how == "commit":
            self.commit()
        elif how == "abort":
            self.abort()
        else:
            self.die()
        if again:
            self.begin()

    def abort(self) -> None:
        assert self.transaction is not None
        self.transaction.abort()
        self.mine = self.base
        self._see_held()
        self.transaction, self.points, self.base = None, [], {}
        self._forget_gone()

    def commit(self) -> None:
        """It conflicts if others have changed what is written here, or what was to be checked."""
        assert self.transaction is not None
        written = {id_: state for id_, state in self.mine.items() if not is_alike(state, self.base.get(id_))}
        asked = {*(id_ for id_ in written if id_ in self.base), *self.removed, *self.checked}
        conflicts = {id_ for id_ in asked if self.base[id_].revision != revision_of(self.stored.get(id_))}
        needed = {(id_, other) for id_, state in written.items() for other in state.others}
        needed -= {(id_, other) for id_ in written if id_ in self.base for other in self.base[id_].others}
        resolved = {id_ for id_ in conflicts if id_ in written and id_ in self.stored and id_.startswith("Tally")}
        if resolved == conflicts:
            conflicts = set()
            for id_ in resolved:
                written[id_] = merged(self.base[id_], self.stored[id_], written[id_])
                needed.update((id_, other) for other in written[id_].others if other not in self.stored[id_].others)
        lost = {other for _, other in needed if other not in self.stored and other not in written}
        after = {**self.stored, **written}
        referred = {id_ for id_ in self.removed if not {*self._referrers(id_, after)} <= self.removed.keys()}
        transaction, self.transaction, self.points = self.transaction, None, []
        self.base = {}
        try:
            transaction.commit()
        except (ConflictError, StillReferred) as error:
            refused = {*error.ids}
        else:
            refused = set()
        done = "merged" if resolved else "committed" if written or self.removed else "nothing to commit"
        event("commit refused" if refused else done)
        if refused:
            assert refused in (conflicts, lost) or refused <= referred
            self._forget_gone()
            return
        assert not conflicts | lost | referred
        if written or self.removed:
            self.revision += 1
            self.stored.update({id_: state._replace(revision=self.revision) for id_, state in written.items()})
            for id_ in self.removed:
                del self.stored[id_]
        self._forget_gone()
        assert transaction.revision is not None

    def _see_held(self) -> None:
        """Everything that is held is as it is to be; what is new again has no id."""
        for id_, obj in [*self.objects.items()]:
            if id_ in self.mine:
                assert obj.persistent_id == id_
                assert shown(obj) == self.mine[id_]._replace(revision=0)
            elif id_ not in self.base:
                assert obj.persistent_id is None
                del self.objects[id_]

    def _forget_gone(self) -> None:
        for id_ in [id_ for id_ in self.objects if id_ not in self.stored]:
            del self.objects[id_]

    # -- others ------------------------------------------------------------------------------------------

    @rule(pick=_picks, value=_picks, fate=st.sampled_from(["change", "contend", "refer", "remove", "new"]))
    def another_commits(self, pick: int, value: int, fate: str) -> None:
        """A view of another thread does something, and is gone; `contend`: to what is changed here."""
        ids = [*self.stored]
        if fate == "contend":
            changed = {id_ for id_, state in self.base.items() if not is_alike(state, self.mine.get(id_))}
            ids = [id_ for id_ in ids if id_ in changed] or ids
        if not ids and fate != "new":
            return
        id_ = ids[pick % len(ids)] if ids else ""
        if fate == "remove" and (self._referrers(id_, self.stored)):
            return
        states = in_thread(lambda: self._as_another(id_, ids[value % len(ids)] if ids else "", value, fate))
        if fate == "remove":
            del self.stored[id_]
            if self.transaction is None:
                self.objects.pop(id_, None)
        elif all(is_alike(state, self.stored.get(id_)) for id_, state in states.items()):
            return
        self.revision += 1
        self.stored.update({id_: state._replace(revision=self.revision) for id_, state in states.items()})

    def _as_another(self, id_: str, other: str, value: int, fate: str) -> dict[str, State]:
        if fate == "remove":
            self.store.remove(id_)
            return {}
        obj: Any = Item(value, []) if fate == "new" else self.store.load(id_)
        with self.store.transaction():
            if fate in ("change", "contend"):
                obj.value = value
            elif fate == "refer":
                obj.others.append(self.store.load(other))
            else:
                self.kept.add(str(self.store.save(obj)))
        return {str(obj.persistent_id): shown(obj)}

    # -- the store ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.transaction is None)
    @rule(how=st.sampled_from(["reopen", "die", "let go"]))
    def leave(self, how: str) -> None:
        """The store is closed and opened, or what is in memory goes."""
        if how == "die":
            self.die()
            return
        self.objects = {}
        if how == "let go":
            self.store.invalidate_cache()
            return
        self.store.close()
        self.store = self._open()

    def die(self) -> None:
        """What a killed process leaves behind; see also `perdure.testing.crashes`."""
        self.left.append(self.store)  # it is not closed before the end
        self.transaction, self.points, self.objects, self.base = None, [], {}, {}
        self.store = self._open()

    @invariant()
    def sees_what_it_is_to_see(self) -> None:
        """In a transaction nothing is touched by it: what was not looked at for a while must be committed, too."""
        if self.transaction is None:
            assert self.store.list() == sorted(self.stored, key=lambda id_: int(id_.rpartition(".")[2]))
            assert self.store.revision() == self.revision
            self.look_at_all()
        for id_ in self.removed if self.transaction is not None else ():
            try:
                self.store.load(id_)
            except NotFound:
                continue
            raise AssertionError(f"{id_} was removed in this transaction, and is still seen")

    @rule()
    def look_at_all(self) -> None:
        now = {id_: state._replace(revision=0) for id_, state in self.now.items()}
        assert {id_: shown(obj) for id_, obj in zip(now, self.store.load_many(now), strict=True)} == now

    def teardown(self) -> None:
        try:
            if self.transaction is not None:
                self.transaction.abort()
            assert check(self.store) == []
        finally:
            for store in (*self.left, self.store):
                store.close()


def in_thread(function: Callable[[], Any]) -> Any:
    """What the function gives, or raises, in a thread of its own."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
