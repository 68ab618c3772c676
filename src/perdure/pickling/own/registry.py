"""Which classes of the running program perdure's own reader knows: a table by exact names; nothing is imported for it.

- The classes that the program has given to `register_class` or `versioned`, and every `Persistable` it has imported.
- Where a module was run again, its newest class counts; one that was made in a function needs to be registered.
- Renames and moves that the program declares are followed.
"""

from __future__ import annotations

from typing import Any

from perdure.pickling.classes import MAIN, imported_as, public_module, shown_name
from perdure.pickling.declared import DECLARED

_roots: list[type[Any]] = []
OWN = "perdure"
_MAIN = f"{MAIN}:"
_known: dict[str, type[Any]] = {}
_subclasses: Any = type.__dict__["__subclasses__"]


def follow(root: type[Any]) -> None:
    """Let every class built on this one be known, those to come, too."""
    _roots.append(root)


def class_named(name: str) -> type[Any] | None:
    """The class that a record calls `module:Qualified.Name`, or by its stable name; None for one that is not known."""
    if name.startswith(_MAIN):  # as pickle spells the classes of a script
        name = f"{public_module(MAIN)}:{name.removeprefix(_MAIN)}"
    if DECLARED.active:
        name = DECLARED.current(name)
        found = DECLARED.known.get(name)
        if isinstance(found, type):
            return found
    cls = _known.get(name)
    if cls is None or not _is_current(cls):
        _known.clear()
        _known.update(_imported())
        cls = _known.get(name)
    return cls


def _is_current(cls: type[Any]) -> bool:
    """Whether it is what its module has under its name now; perdure's own classes are wherever they live."""
    return cls.__module__ == OWN or imported_as(cls.__module__, cls.__qualname__) is cls


def _imported() -> dict[str, type[Any]]:
    """All that is built on what is followed, by name; of two classes of one name the one that was made last."""
    found: dict[str, type[Any]] = {}
    seen: set[int] = set()
    waiting = [*_roots]
    for cls in waiting:
        if id(cls) not in seen:
            seen.add(id(cls))
            waiting += _subclasses(cls)
            if "<" not in cls.__qualname__ and not _is_generated(cls):
                name = shown_name(cls)
                if name not in found or not _is_current(found[name]):
                    found[name] = cls
    return found


def _is_generated(cls: type[Any]) -> bool:
    """Whether it is one of perdure's own making, in the place of a class: a ghost class, or that of what is opaque."""
    return "_perdure_ghost_of" in cls.__dict__ or "__opaque__" in cls.__dict__
