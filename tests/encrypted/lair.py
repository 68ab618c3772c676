"""Where encrypted stores are kept in tests, and everything that lies there, as who has no key sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hoard import Hoard

from perdure import Store, make_store
from perdure.backends.encrypted import at_rest

EVERYWHERE = ("memory", "directory", "sqlite", "postgresql", "mysql")
ON_DISK = ("directory", "sqlite")


class Lair:
    """A place on one kind of backend; other places of the kind have other names."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self._stores: list[Store] = []
        self._tables: set[tuple[str, str]] = set()

    def url(self, name: str = "store", kind: str = "") -> str:
        kind = kind or self.kind
        if kind in ("postgresql", "mysql"):
            import servers

            table = servers.table_of(self.folder / name)
            self._tables.add((kind, table))
            return f"{servers.url_of(kind)}#table={table}"
        path = self.folder / name
        return {"memory": "memory:", "directory": str(path), "sqlite": f"sqlite:///{path}.db"}[kind]

    def open(self, name: str = "store", kind: str = "", **settings: Any) -> Store:
        store = make_store(self.url(name, kind), **settings)
        self._stores.append(store)
        return store

    def again(self, store: Store, **settings: Any) -> Store:
        """The same store, as another program opens it; one in memory cannot be closed for that."""
        if self.kind == "memory":
            return Store(store.backend, store.key, **settings)
        store.close()
        return self.open(**settings)

    def everything(self, store: Store) -> bytes:
        """All bytes of the store, wherever they lie."""
        if self.kind == "memory":
            below: Any = at_rest(store.backend)
            kept = below._versions, below._commits, below._classes, below._ids, below._class_names
            frames = [each.frame or b"" for versions in below._versions.values() for each in versions]
            return b"\n".join([repr(kept).encode(), *frames, *map(bytes, below._buffers.values())])
        if self.kind in ON_DISK:
            return b"\n".join(path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file())
        import servers

        found: list[bytes] = []
        table = servers.table_of(self.folder / "store")
        for name in servers.tables_like(self.kind, table):
            for row in servers.query(self.kind, f"SELECT * FROM {name}"):
                found += (bytes(each) if isinstance(each, (bytes, memoryview)) else repr(each).encode() for each in row)
        return b"\n".join(found)

    def close(self) -> None:
        for store in self._stores:
            store.close()
        for kind, table in self._tables:
            import servers

            servers.drop_tables(kind, {table})


def fill(store: Store) -> str:
    """Save what is full of words that nobody may read; gives the id of the first."""
    second = Hoard(2)
    first = Hoard(1, second)
    with store.transaction(note="plain-in-note"):
        store.roots["plain-in-root"] = [first, second, Hoard(3)]
    first.others.append("more")
    second.array[0] ^= 1
    with store.transaction(note="plain-in-note again"):
        store.save_many([first, second])
    return first.persistent_id
