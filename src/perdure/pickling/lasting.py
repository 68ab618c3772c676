"""What payloads say of classes beside their names: the layout that they had, their version, the names of members.

- A class with a layout is named by a call of `_shape`, with its name and a text, once in each payload. The values of
  its instances are stored just as pickle stores them; who reads compares one text.
- A versioned class is named by its stable name there, with its version and where it was last.
- `_member` names a member of an enumeration; `_made` makes what was opaque before. `_keep` fills an object and
  `_keeping` makes a named tuple of which the record has attributes that its class has no more.
- These names, all in `perdure`, are part of format 2 for ever.
- `Telling` is what a pickler does with all that.
"""

from __future__ import annotations

import copyreg
import enum
import sys
from contextlib import suppress
from functools import reduce
from operator import or_
from types import FunctionType
from typing import Any

from perdure.errors import CannotLoad, ClassNotFound
from perdure.pickling.classes import find, public_module
from perdure.pickling.declared import DECLARED, versioned_of
from perdure.pickling.layouts import ARGUMENTS, ASIDE, Layout, keep_aside, kept_aside, layout_of, put
from perdure.pickling.opaque import Missing, OpaqueValue, makes
from perdure.pickling.outside import REGISTERED, reduction
from perdure.pickling.references import named

MODULE = "perdure"
SHAPE, MEMBER, MADE, KEEP, KEEPING = "_shape", "_member", "_made", "_keep", "_keeping"
NEW_OBJECTS = 2  # the first protocol that makes objects by `__new__`
_ENUM_REDUCES = (enum.Enum.__reduce_ex__, enum.Flag.__reduce_ex__)  # early releases of 3.11 have one for flags


def shape(name: str, text: str, version: int = 0, hint: str = "") -> Any:
    """The class of that name. `text` tells the layout that it had; perdure's unpicklers compare it.

    A stable name comes with the `version`, and the `hint` where its class was last: that module is imported if need be.
    """
    return stable(name, hint) if hint else find(name)


def stable(name: str, hint: str) -> Any:
    """The class with that stable name; the module of `hint`, where it was last, is imported if need be."""
    there = None
    if name not in DECLARED.known and DECLARED.current(name) == name:
        with suppress(ClassNotFound):
            there = find(hint)
    try:
        return find(name)
    except ClassNotFound as error:
        error.message += f" It was {hint} when this was saved."
        error.details["where"] = hint
        if isinstance(there, type):
            error.message += f" A class is there, but it does not declare that name{_other_name(there)}."
            error.hint = (
                f'Put @perdure.versioned("{name}", …) over it, with the version that it had, or formerly="{name}".'
            )
        raise


def _other_name(cls: type[Any]) -> str:
    versioned = versioned_of(cls)
    return "" if versioned is None else f" (it is {versioned.name})"


def member(cls: Any, name: str, value: Any) -> Any:
    """The member of an enumeration with that name (several flags: joined by `|`). Raises `CannotLoad`."""
    found = cls.__dict__.get("_member_map_", {})
    if name in found and not DECLARED.renames:
        return found[name]
    if issubclass(cls, enum.Flag) and name not in found:
        return reduce(or_, (_one(cls, each, value) for each in name.split("|") if each), cls(0))
    return _one(cls, name, value)


def is_renamed(cls: Any, name: str) -> bool:
    """Whether a member, or one of several flags, that was called so is declared to be called otherwise."""
    called = _called(cls)
    return bool(DECLARED.renames) and any(each in DECLARED.members(called) for each in name.split("|"))


def _called(cls: Any) -> str:
    return f"{public_module(cls.__module__)}:{cls.__qualname__}"


def _one(cls: Any, name: str, value: Any) -> Any:
    """One member by its name of then: what is declared of that comes before what is called so now."""
    found = cls.__dict__.get("_member_map_", {})
    called = _called(cls)
    now = DECLARED.members(called).get(name, name) if DECLARED.renames else name
    if now not in found:
        raise CannotLoad(
            f"{called} has no member {now} {'' if now != name else 'any more '}(its value was {value!r:.80}).",
            hint=f'If it is called otherwise now, say so: perdure.rename("{called}.{name}", "{called}.NEW_NAME").',
            path=f"{called}.{name}",
        )
    return found[now]


def keep(obj: Any, told: tuple[Any, dict[str, Any]]) -> None:
    """Give a bare object its state, and keep beside it what the class has no place for."""
    state, aside = told
    if state is not None:
        put(obj, state)
    keep_aside(obj, aside)


def keeping(cls: Any, fields: tuple[Any, ...], aside: dict[str, Any]) -> Any:
    """A named tuple, and beside it fields that its class has no more."""
    made = cls.__new__(cls, *fields)
    keep_aside(made, aside)
    return made


for _function, _name in ((shape, SHAPE), (member, MEMBER), (keep, KEEP), (keeping, KEEPING)):
    _function.__module__ = MODULE
    _function.__qualname__ = _function.__name__ = _name

LASTING = (shape, member, named, makes, keep, keeping)


class Telling:
    """A mix-in for picklers, for their `reducer_override`."""

    def told(self, cls: Any) -> Any:
        """How a class is named, if it has a layout."""
        layout = layout_of(cls)
        if layout is None or not is_found(cls, layout):
            return NotImplemented
        if layout.version:
            require_complete(cls)
        return shape, layout.args

    def of_instance(self, obj: Any) -> Any:
        """How an object that is neither class nor function is stored, where that is not pickle's way."""
        cls = type(obj)
        if isinstance(cls, enum.EnumType):
            return _told_member(cls, obj)
        if cls is Missing:
            return _told_missing(obj)
        if cls is OpaqueValue:
            return obj.reduced_with(keep) or NotImplemented  # it says itself what was stored
        if ASIDE and (aside := kept_aside(obj)):
            return _told_with(obj, cls, aside)
        return reduction(obj) if REGISTERED else NotImplemented


def require_complete(cls: type[Any]) -> None:
    """Raise `MissingUpgrade` for a versioned class whose steps have a gap: at its first use, not at an old record."""
    versioned = versioned_of(cls)
    if versioned is not None:
        versioned.require_complete()


def is_found(cls: type[Any], layout: Layout) -> bool:
    """Whether the class is what is found under its name; where it is not, pickle says so."""
    found: Any = sys.modules.get(cls.__module__)
    qualname = cls.__qualname__
    if getattr(found, "__dict__", {}).get(qualname) is cls:
        return True
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is cls or DECLARED.known.get(layout.args[0]) is cls


def _told_with(obj: Any, cls: Any, aside: dict[str, Any]) -> Any:
    layout = layout_of(cls)
    if layout is None or layout.sets_itself:
        return NotImplemented
    if layout.form == ARGUMENTS:
        return keeping, (cls, tuple(obj), aside)
    state = obj.__reduce_ex__(NEW_OBJECTS)[2]
    return copyreg.__newobj__, (cls,), (state, aside), None, None, keep  # type: ignore[attr-defined]


def _told_missing(missing: Missing) -> Any:
    told = missing.told
    if told is None:
        return named, (missing.name,)
    args = (missing.name, told.form + " ".join(told.names))
    return shape, ((*args, told.version, missing.hint) if missing.hint else args)


def _told_member(cls: Any, obj: Any) -> Any:
    if cls.__reduce_ex__ not in _ENUM_REDUCES or "<locals>" in cls.__qualname__:
        return NotImplemented
    name = obj._name_
    if issubclass(cls, enum.Flag) and name not in cls._member_map_:
        flags = [*obj]
        if reduce(or_, flags, cls(0)) != obj:
            return NotImplemented  # bits that no member has
        name = "|".join(flag._name_ for flag in flags)
    return (member, (cls, name, obj._value_)) if name is not None else NotImplemented


def is_class_or_function(obj: Any) -> bool:
    """What pickle stores by name."""
    return isinstance(obj, (type, FunctionType))
