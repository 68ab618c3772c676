"""Classes whose instances the compiled part can pickle by itself, since pickle runs nothing of the user's for them.

- Asked by it once for each class, and again when the class or one of its bases has changed.
- Attributes are looked up in the `__dict__` of the classes: nobody's descriptors are run.
- What is in doubt is not usual: then C pickle does all of it.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import sys
from types import MemberDescriptorType, WrapperDescriptorType
from typing import Any

from perdure import kernels
from perdure.objects.instances.guests import is_guest_class
from perdure.objects.instances.persistable import Persistable
from perdure.pickling.classes import MAIN
from perdure.pickling.lasting import member, shape
from perdure.pickling.layouts import ARGUMENTS, ASIDE, is_named_tuple, layout_of
from perdure.pickling.opaque import Missing, OpaqueValue
from perdure.pickling.outside import REGISTERED, kind_of
from perdure.pickling.references import reference

PLAIN, MEMBER, REDUCED, STATED, NAMED = range(5)  # the kinds of instances.c

_REDUCED = {("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")}
_REDUCED |= {("decimal", "Decimal")}
_NO_CODE = sys.stdlib_module_names - {MAIN} | {"perdure"}
_POINTER = object.__basicsize__ // 2
_NOTHING = object()
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE: made by no class statement, whatever it calls itself

# The kind, what payloads say of the class (None: its name), its module and name there, its name in records, whether a
# code record tells of its module, and what makes the state of STATED.
Told = tuple[int, tuple[Any, ...] | None, str, str, str, bool, Any]


def told(cls: type[Any]) -> Told | None:
    """What is to be known of a class to pickle its instances; None where that is not usual."""
    if type(cls) not in (type, enum.EnumType) or issubclass(cls, (Persistable, Missing, OpaqueValue, type)):
        return None
    module, qualname = cls.__module__, cls.__qualname__
    if is_guest_class(cls) or type(module) is not str or type(qualname) is not str:
        return None
    way, layout = _way(cls), layout_of(cls)
    if way is None or (layout.version if layout is not None else module == MAIN):
        return None
    kind, state = way
    if kind == NAMED and (layout is None or layout.form != ARGUMENTS):
        return None
    args = None if layout is None else layout.args
    name = f"{module}:{qualname}" if layout is None else layout.args[0]
    return kind, args, module, qualname, name, has_code(module), state


def has_code(module: str) -> bool:
    """Whether a code record tells of a module: it is neither Python's own nor perdure's."""
    return module.partition(".")[0] not in _NO_CODE


def _way(cls: type[Any]) -> tuple[int, Any] | None:
    """The kind of a class, and what makes its state where that is not its `__dict__`."""
    if (cls.__module__, cls.__qualname__) in _REDUCED:
        return (REDUCED, None) if cls.__flags__ & _IMMUTABLE else None
    found = {name: _found(cls, name) for name in _ASKED}
    if type(cls) is enum.EnumType:
        return (MEMBER, None) if _is_usual_enumeration(cls, found) else None
    if found["__getattribute__"] is _OF_TUPLES["__getattribute__"] and issubclass(cls, tuple):
        found["__getattribute__"] = _USUAL["__getattribute__"]  # another object, which does the same
    if any(found[name] is not usual for name, usual in _USUAL.items()):
        return None
    slots = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    if issubclass(cls, tuple):
        usual = found["__getstate__"] is _PLAIN_STATE and not slots and not cls.__dictoffset__
        usual = usual and is_named_tuple(cls) and found["__iter__"] is _OF_TUPLES["__iter__"]
        return (NAMED, None) if usual else None
    if found["__getnewargs__"] is not _NOTHING or not _is_of_slots_only(cls, slots):
        return None
    if cls.__dictoffset__:
        return (PLAIN, None) if found["__getstate__"] is _PLAIN_STATE and not slots else None
    is_usual = found["__getstate__"] in (_PLAIN_STATE, _FROZEN_STATE) and slots
    made = all(type(_found(cls, name)) is MemberDescriptorType for name in slots)
    return (STATED, cls.__getstate__) if is_usual and made else None


def _found(cls: type[Any], name: str) -> Any:
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), _NOTHING)


def _is_usual_enumeration(cls: type[Any], found: dict[str, Any]) -> bool:
    """Whether its members are told by `lasting.member`, and have their names and values in their `__dict__` alone."""
    if issubclass(cls, enum.Flag) or not cls.__dictoffset__ or "<locals>" in cls.__qualname__:
        return False
    if any(_found(cls, name) is not _NOTHING for name in ("_name_", "_value_")):
        return False
    return (
        found["__reduce_ex__"] in _MEMBER_REDUCES
        and found["__class__"] is _USUAL["__class__"]
        and type(found["__getattribute__"]) is WrapperDescriptorType  # no function: of `object`, `int` or `str`
    )


def _is_of_slots_only(cls: type[Any], slots: list[str]) -> bool:
    """Whether there is nothing in its instances but slots, a `__dict__` and a list of weak references."""
    beside = (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0) + len(slots)
    return cls.__itemsize__ == 0 and cls.__basicsize__ == object.__basicsize__ + beside * _POINTER


_USUAL = {
    name: _found(object, name)
    for name in ("__reduce_ex__", "__reduce__", "__getattribute__", "__getattr__", "__class__", "__getnewargs_ex__")
}
_ASKED = (*_USUAL, "__getstate__", "__getnewargs__", "__iter__")
_OF_TUPLES = {name: _found(tuple, name) for name in ("__getattribute__", "__iter__")}
_PLAIN_STATE = _found(object, "__getstate__")
_FROZEN_STATE = dataclasses._dataclass_getstate  # type: ignore[attr-defined]  # of those with slots
_MEMBER_REDUCES = tuple(
    vars(owner)["__reduce_ex__"] for owner in (enum.Enum, enum.Flag) if "__reduce_ex__" in vars(owner)
)

if kernels.built is not None:
    tables = copyreg.dispatch_table, copyreg._extension_registry, ASIDE, REGISTERED  # type: ignore[attr-defined]
    kernels.built.bind_usual(told, kind_of, (reference, shape, member), tables)
