"""Which attributes are plain: kept in an object's dictionary, or in a slot, with nobody's code between."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from perdure.prevalence.quiet import HARMLESS, READING, in_class, is_atom

MISSING: Any = object()
SAFE_READS: set[tuple[type, str]] = set()  # found out


def reads_safely(obj: Any, name: str) -> bool:
    """Whether reading that attribute runs nobody's code."""
    cls = type(obj)
    if cls is ModuleType or isinstance(obj, type):
        return True
    if not is_atom(cls) and cls not in READING:
        if not looks_up_plainly(cls) or hasattr(cls, "__getattr__"):
            return False
        found = in_class(cls, name)
        if found is not None and type(found) is not FunctionType and not is_plain(cls, name):
            return False
    SAFE_READS.add((cls, name))
    return True


def as_any(cls: Any) -> Any:
    """The same; type checkers know too much of `object`."""
    return cls


def looks_up_plainly(cls: Any) -> bool:
    """Whether attributes are found as they usually are."""
    return cls.__getattribute__ is object.__getattribute__


_MEMBER = type(type("_Slotted", (), {"__slots__": ("slot",)}).__dict__["slot"])


def is_plain(cls: type, name: str) -> bool:
    """Whether the attribute is kept in the object's dictionary, or in a slot."""
    found = in_class(cls, name)
    kind = type(found)
    return kind in (type(None), _MEMBER, FunctionType) or not (hasattr(kind, "__get__") or hasattr(kind, "__set__"))


def takes_plainly(cls: type, init: Any) -> bool:
    """Whether an `__init__` (its twin is given) only sets attributes of a new object, and that runs nobody's code."""
    names = init.sets_only
    if names is None or as_any(cls).__setattr__ is not object.__setattr__:
        return False
    if not all(is_plain(cls, name) for name in names):
        return False
    init.makes.add(cls)
    return True


def is_plain_dataclass(cls: Any, init: FunctionType) -> bool:
    """Whether it is made by a generated `__init__` that runs nobody's code."""
    if init.__code__.co_filename != "<string>" or not hasattr(cls, "__dataclass_params__"):
        return False
    if hasattr(cls, "__post_init__") or (
        cls.__setattr__ is not object.__setattr__ and not cls.__dataclass_params__.frozen
    ):
        return False
    return all(
        is_plain(cls, name) and (type(field.default_factory) is not FunctionType or field.default_factory in HARMLESS)
        for name, field in cls.__dataclass_fields__.items()
    )


def slot_value(obj: Any, name: str) -> Any:
    """What is in the slot of that name; `MISSING`: nothing, or there is none."""
    found = in_class(type(obj), name)
    return getattr(obj, name, MISSING) if type(found) is _MEMBER else MISSING
