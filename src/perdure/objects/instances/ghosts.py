"""Ghost classes: one generated subclass for each class of persistable objects.

- A ghost class adds no slots, so `__class__` can be assigned in both directions at any time.
- Its `__getattribute__`, `__setattr__`, `__delattr__` and just those special methods that the class has (Python looks
  those up on the type) first wake the object: state filled, real class assigned; then the operation is done again.
- `__class__`, `persistent_id` and `changed` are answered without waking.
- It does not appear in users' `__init_subclass__` registries, and their metaclass' own code is not run for it.
- Classes on `list`, `dict`, `set` and other built-in types get none: C code reads those past any hook (`is_eager`).
"""

from __future__ import annotations

import struct
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import MemberDescriptorType
from typing import Any

from perdure import kernels
from perdure.errors import StoreClosed
from perdure.objects.instances.persistable import DOZING, ENTRIES, GHOST, Entry, Persistable, Sample, entry_of

assign_class: Callable[[Any, type[Any]], None] = object.__dict__["__class__"].__set__

_NEVER_FORWARDED = {
    "__class__", "__new__", "__init__", "__del__", "__getattribute__", "__getattr__", "__setattr__", "__delattr__",
    "__init_subclass__", "__subclasshook__", "__class_getitem__", "__dict__", "__weakref__", "__doc__", "__module__",
    "__slots__", "__annotations__", "__qualname__", "__name__", "__set_name__", "__orig_bases__", "__parameters__",
    "__abstractmethods__", "__match_args__", "__dataclass_fields__", "__dataclass_params__", "__static_attributes__",
    "__firstlineno__", "__annotate__", "__annotations_cache__", "__annotate_func__", "__post_init__", "__replace__",
}  # fmt: skip
_UNWOKEN = frozenset({"persistent_id", "changed"})

_POINTER = struct.calcsize("P")
_lock = threading.Lock()
_ghost_classes: dict[int, tuple[type[Any], type[Any] | None]] = {}  # by address: metaclasses may not be hashable


def ghost_class(cls: type[Any]) -> type[Any] | None:
    """The ghost class of `cls`; None where the class cannot have one, so that its objects load eagerly."""
    found = _ghost_classes.get(id(cls))
    if found is None:
        with _lock:
            found = _ghost_classes.get(id(cls))
            if found is None:
                ghost = None if is_eager(cls) else _generate(cls)
                found = _ghost_classes[id(cls)] = (cls, ghost)
                if ghost is not None:
                    _ghost_classes[id(ghost)] = (ghost, ghost)
    return found[1]


def real_class(obj: Any) -> type[Any]:
    """The class of `obj` as its author wrote it, whether it is a ghost or not."""
    cls = type(obj)
    real: type[Any] = cls.__dict__.get("_perdure_ghost_of", cls)
    return real


def is_eager(cls: type[Any]) -> bool:
    """Whether instances have a base whose C code reads past any hook: more room than slots, dict and weak list need."""
    room = object.__basicsize__ + _POINTER * (2 + sum(len(own_slots(base)) for base in cls.__mro__))
    return cls.__itemsize__ != 0 or cls.__basicsize__ > room


def own_slots(cls: type[Any]) -> list[str]:
    """The attributes that the class itself declares by `__slots__`, as they are called on instances."""
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    prefix = f"_{cls.__name__.lstrip('_')}"
    return [
        f"{prefix}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def slots_of(cls: type[Any]) -> Iterator[Any]:
    """The descriptors of all slots: a subclass may have a property, or anything, under their names."""
    for base in cls.__mro__:
        for name in own_slots(base):
            descriptor = base.__dict__.get(name)
            if type(descriptor) is MemberDescriptorType:
                yield descriptor


def wake(obj: Any, name: str | None = None, *, writing: bool = False) -> None:
    """Make an ordinary object of a ghost or dozing one. `name` is the attribute that is asked for or assigned."""
    if kernels.compiled is not None and kernels.compiled.awaken(obj, name, writing):
        return
    entry = ENTRIES.get(id(obj))
    if entry is not None:
        sample = _sample_of(entry, obj, name)
        entry.view.wake(entry, obj, writing=writing)
        if sample is not None:
            entry.sample = sample
    elif has_state(obj):
        assign_class(obj, real_class(obj))  # part of a cycle that is being freed: a `__del__` may still look at it
    else:
        raise StoreClosed(f"This {type(obj).__name__} was never loaded, and is being freed.", hint="Look at it before.")


def _sample_of(entry: Entry, obj: Any, name: str | None) -> Sample | None:
    """One attribute of an object that is as its record, if it is of a kind that can be compared with any other."""
    if name is None or entry.state != DOZING or not entry.facts.simple or entry.view.is_napping(entry):
        return None
    revision = entry.revision  # before the value, which another thread may change
    value = object.__getattribute__(obj, "__dict__").get(name, entry)
    kind = type(value)
    is_plain = kind is str or kind is int or kind is float or kind is bool or value is None
    return (revision, name, value) if is_plain else None


def has_state(obj: Any) -> bool:
    """Whether any attribute is set on the object itself; it is not woken."""
    with suppress(AttributeError):  # slots only
        if object.__getattribute__(obj, "__dict__"):
            return True
    for descriptor in slots_of(type(obj)):
        with suppress(AttributeError):  # a slot that is not set
            descriptor.__get__(obj)
            return True
    return False


def _get_attribute(self: Any, name: str) -> Any:
    if name == "__class__":
        return real_class(self)
    if name in _UNWOKEN:
        return object.__getattribute__(self, name)
    wake(self, name)
    return getattr(self, name)


def _set_attribute(self: Any, name: str, value: Any) -> None:
    if name == "changed":
        object.__setattr__(self, name, value)
        return
    wake(self, name, writing=True)
    setattr(self, name, value)


def _delete_attribute(self: Any, name: str) -> None:
    wake(self, name, writing=True)
    delattr(self, name)


_in_c: dict[str, Any] = {}  # those of them that are also there in C
if kernels.built is not None:
    _in_c = kernels.built.bind_ghosts(vars(kernels), _get_attribute, _set_attribute, _UNWOKEN | {"__class__"})


def _generate(cls: type[Any]) -> type[Any] | None:
    body: dict[str, Any] = {
        "__slots__": (),
        "_perdure_ghost_of": cls,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__getattribute__": _get_attribute,
        "__setattr__": _set_attribute,
        "__delattr__": _delete_attribute,
    }
    if kernels.compiled is not None:
        body |= _in_c
    for name in _special_methods(cls):
        body[name] = _forward(cls, name)
    if hasattr(cls, "__del__"):
        body["__del__"] = _finalize
    ghost = _subclass(cls, body)
    if (
        ghost is not None
        and kernels.compiled is not None
        and not any("__getattr__" in vars(kind) for kind in cls.__mro__)
    ):
        kernels.compiled.quicken(ghost)  # else the interpreter itself has to see to both
    return ghost


def _special_methods(cls: type[Any]) -> set[str]:
    """The special methods that `cls` really has, plus those of `object` that would show the ghost."""
    names = {
        name
        for base in cls.__mro__
        if base is not object and base is not Persistable
        for name, value in base.__dict__.items()
        if name.startswith("__") and name.endswith("__") and value is not None
    }
    return {name for name in names | {"__reduce_ex__", "__dir__", "__sizeof__"} if name not in _NEVER_FORWARDED}


def _forward(cls: type[Any], name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        wake(self)
        return getattr(type(self), name)(self, *args, **kwargs)

    method.__name__ = name
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    return method


def _finalize(self: Any) -> None:
    """A ghost that was never loaded has nothing to finalize; loading it for that would be absurd.

    Afterwards it dozes again: a `__del__` that looks at what refers to the object may bring it to life again.
    """
    entry = entry_of(self)
    if has_state(self) if entry is None else entry.state != GHOST:
        ghost, cls = type(self), real_class(self)
        assign_class(self, cls)
        try:
            cls.__del__(self)
        finally:
            if entry is not None and entry.state == DOZING and type(self) is cls:
                assign_class(self, ghost)


def _subclass(cls: type[Any], body: dict[str, Any]) -> type[Any] | None:
    """A subclass of `cls` that nobody hears of; None where the class forbids any."""
    metaclass = type(cls)
    make: Any = ABCMeta.__new__ if issubclass(metaclass, ABCMeta) else type.__new__
    listens = any("__init_subclass__" in base.__dict__ for base in cls.__mro__[:-1])
    own = cls.__dict__.get("__init_subclass__")
    if listens:  # type.__new__ calls the parent's, so it is replaced there for the blink of an eye
        type.__setattr__(cls, "__init_subclass__", classmethod(lambda *args, **kwargs: None))
    try:
        ghost: type[Any] = make(metaclass, cls.__name__, (cls,), body)
    except TypeError:
        return None
    finally:
        if listens and own is not None:
            type.__setattr__(cls, "__init_subclass__", own)
        elif listens:
            type.__delattr__(cls, "__init_subclass__")
    return ghost
