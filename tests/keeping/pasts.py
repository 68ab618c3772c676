"""Stores with a past in which everything happened, and how two of them are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure import Persistable, Store, make_store
from perdure.backends.base import Backend
from perdure.objects.reports import Problem
from perdure.objects.stores import KeyId
from perdure.records.seal import Key
from perdure.records.values import Version
from perdure.upkeep import check

LARGE = bytes(range(256)) * 400  # bytes that are a large piece


class Note(Persistable):
    __indexed__ = ("state",)

    def __init__(self, text: Any, state: str = "new", *others: Any):
        self.text, self.state, self.others = text, state, list(others)


class Places:
    """Where stores are made, of one kind or another; nothing of them is left on a server.

    At the end of a test each store that was opened is whole, unless the test has said that it is `damaged`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.damaged = False
        self._opened: dict[tuple[str, str], tuple[Store, dict[str, Key]]] = {}
        self._stores: list[Store] = []
        self._tables: set[tuple[str, str]] = set()

    def url(self, kind: str, name: str) -> str:
        if kind in ("postgresql", "mysql"):
            import servers  # late: processes that tests start import this module too, from this folder alone

            table = servers.table_of(self.folder / name)
            self._tables.add((kind, table))
            return f"{servers.url_of(kind)}#table={table}"
        path = self.folder / name
        return {"memory": "memory:", "directory": str(path), "sqlite": f"sqlite:///{path}.db"}[kind]

    def open(self, kind: str, name: str = "store", **settings: Any) -> Store:
        store = make_store(self.url(kind, name), **settings)
        self._stores.append(store)
        self._opened[kind, name] = store, {"key": settings["key"]} if isinstance(settings.get("key"), Key) else {}
        return store

    def empty(self, kind: str, name: str, of: Store) -> Backend:
        """The backend of a new store that is to be filled from another."""
        key = {} if kind == "memory" else {"key": KeyId(of.backend.describe().key)}
        return self.open(kind, name, **key).backend

    def problems(self) -> list[Problem]:
        """What check finds in the stores that were opened: each opened anew, but for those that are in memory."""
        found: list[Problem] = []
        for (kind, name), (store, key) in [*self._opened.items()]:
            again = store if kind == "memory" or self.damaged else self.open(kind, name, **key)
            has_key = again.key is not None and (kind != "memory" or again.key.id == again.backend.describe().key)
            if has_key and not self.damaged:  # one in memory that was filled has another
                found += check(again)
        return found

    def close(self) -> None:
        for store in self._stores:
            store.close()
        for kind, table in self._tables:
            import servers

            servers.drop_tables(kind, {table})


def live(store: Store) -> None:
    """Let everything happen in a store: it is changed, removed, brought back, undone, and forgotten."""
    with store.transaction(note="the beginning, ☼"):
        notes = [Note(f"note {number}", ("new", "old")[number % 2]) for number in range(6)]
        store.roots["notes"] = notes
    large = Note(LARGE, "large", notes[0])
    store.save(large)
    for number in range(3):
        notes[number].text = {"changed": number}
        store.save(notes[number])
    gone, secret = Note("gone"), Note("a secret")
    gone_id, secret_id = store.save_many([gone, secret])
    secret.text = "another secret"
    store.save(secret)
    store.remove(gone_id)
    store.undo(store.backend.revision())
    store.remove(gone_id)
    store.forget(secret_id)
    large.text = LARGE[::-1]
    store.save(large)
    store.save({"a": "value", "of": notes[3]})


def everything(backend: Backend, *, with_indexes: bool = True) -> dict[str, Any]:
    """All that a backend tells of its store, but for its own id and format."""
    described = backend.describe()
    ids = [id_ for internal in (False, True) for id_ in backend.ids(internal=internal)]
    known = [*ids, *backend.removals()]
    return {
        "described": described._replace(store="", format=0),
        "commits": backend.commits(),
        "ids": ids,
        "classes": backend.classes(ids),
        "histories": {id_: _seen(backend.history(id_)) for id_ in known},
        "removals": backend.removals(),
        "pieces": {digest: bytes(backend.buffer(digest)) for digest in sorted(backend.buffers())},
        "indexes": sorted((name, sorted(fields)) for name, fields in backend.indexes().items()) if with_indexes else [],
        "earlier": [backend.ids(at=at) for at in range(described.oldest, described.revision + 1)],
    }


def _seen(versions: list[Version]) -> list[Version]:
    """Without a removal that nothing is kept before of: of a packed store it tells nothing."""
    while len(versions) > 1 and versions[-1].frame is None:
        versions = versions[:-1]
    return versions
