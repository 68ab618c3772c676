"""Where the tests of objects keep their stores, and what they save there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure import Persistable, Store, make_store
from perdure.objects.instances.persistable import GHOST, entry_of


class Holder(Persistable):
    """Refers to something, so that loading the holder gives a ghost of it."""

    def __init__(self, target: Any):
        self.target = target


class Place:
    """Where a store is; `open` opens it once more, as another program would (without what is in memory)."""

    def __init__(self, kind: str, folder: Path):
        self.kind = kind
        self.folder = folder
        self.is_on_server = kind in ("postgresql", "mysql")
        if self.is_on_server:
            import servers  # late: processes that tests start import this module too, from this folder alone

            self.url = f"{servers.url_of(kind)}#table={servers.table_of(folder)}"
        else:
            self.url = {
                "memory": "memory:",
                "directory": str(folder / "objects"),
                "sqlite": f"sqlite:////{(folder / 'objects.db').as_posix().lstrip('/')}",
            }[kind]
        self.opened: list[Store] = []
        self.is_whole = True  # a test that harms the store on purpose says so

    def open(self, **settings: Any) -> Store:
        if self.kind == "memory" and self.opened:
            first = self.opened[0]
            settings.pop("read_only", None)
            store = Store(first.backend, first.key, **settings)
        else:
            store = make_store(self.url, **settings)
        self.opened.append(store)
        return store

    def close(self) -> None:
        """Close every store that was opened; nothing is left on a server."""
        for store in self.opened:
            store.close()
        if self.is_on_server:
            import servers

            servers.drop_tables(self.kind, {servers.table_of(self.folder)})

    def ghost(self, obj: Any) -> Any:
        """`obj` as it is seen by who only loaded something that refers to it."""
        id_ = self.open().save(Holder(obj))
        ghost = self.open().load(id_).target
        assert entry_of(ghost).state == GHOST
        return ghost

    def copy(self, obj: Any) -> Any:
        """`obj` saved here and loaded by another program."""
        id_ = self.open().save(obj)
        return self.open().load(id_)
