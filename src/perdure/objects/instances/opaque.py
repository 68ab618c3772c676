"""Records whose class cannot be found: objects that show what is stored of them, and are stored again byte for byte.

- For each such class a class of its own stands in its place, so that what a view knows of a class fits it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.objects.instances.persistable import Persistable
from perdure.pickling.layouts import by_name
from perdure.pickling.opaque import Opaque
from perdure.records.values import Record

_NAME = "__opaque__"
_classes: dict[str, type[Any]] = {}


class OpaqueRecord(Persistable, Opaque):  # this order: instances can become those of any usual class, and back
    """An object of a store whose class is not here; `record` is what is stored, `referred` what it refers to."""

    record: Record
    referred: Sequence[Any]

    def __setattr__(self, name: str, value: object) -> None:
        if name == "changed":
            object.__setattr__(self, name, value)
            return
        raise AttributeError(f"{self.persistent_id} is opaque: its class is not here, so it cannot be changed.")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)


def opaque_class(name: str) -> type[Any]:
    """The class that stands for the class of that name."""
    found = _classes.get(name)
    if found is None:
        found = _classes[name] = type("Opaque", (OpaqueRecord,), {_NAME: name, "__module__": "perdure"})
    return found


def opaque_name(cls: type[Any]) -> str | None:
    """The name of the class that a class stands for; None for all others."""
    name: str | None = cls.__dict__.get(_NAME)
    return name


def fill_opaque(obj: Any, record: Record, referred: Sequence[Any], args: Any, state: Any, items: Any) -> None:
    """Give a bare one what is stored of it."""
    named = by_name(state, None)
    obj.__dict__.update(
        record=record, referred=referred, _class_name=record.class_name, _args=tuple(args), _items=[*(items or ())],
        _state=state if named is None else named,
    )  # fmt: skip
