"""Taking an object's state out, and putting one in, as the pickle protocol has it (PEP 307, PEP 574).

- A class without any hook of its own is *simple*: its state is its `__dict__`, and nothing of the user's runs.
- For every other class `__reduce_ex__` tells; `Reduced` holds what it said, apart from the class itself.
- Putting a state in never replaces the object: views keep identity, so what a constructor makes is moved over.
"""

from __future__ import annotations

import copyreg
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from sys import getrefcount, intern
from typing import Any, NamedTuple

from perdure.errors import CannotLoad, CannotPickle
from perdure.objects.instances.ghosts import own_slots, slots_of
from perdure.objects.instances.persistable import Persistable
from perdure.pickling.layouts import ASIDE, POSITIONS, kept_aside, layout_of, natural, put

PROTOCOL = 5


_dict_of: Callable[[Any, str], Any] = object.__getattribute__
_NEW_OBJECT = copyreg.__newobj__  # type: ignore[attr-defined]  # what __reduce_ex__(2 and above) gives for plain classes
_NEW_OBJECT_EX = copyreg.__newobj_ex__  # type: ignore[attr-defined]


class Making(NamedTuple):
    """How the bare object is made: `function(*args, **kwargs)`, or `cls.__new__(cls, *args, **kwargs)` without one."""

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Filling(NamedTuple):
    """What is put into the bare object."""

    state: Any
    items: list[Any] | None
    pairs: list[tuple[Any, Any]] | None
    setter: Callable[[Any, Any], None] | None


Reduced = tuple[Making, Filling]
BARE = Making(None, (), {})


def is_simple(cls: type[Any]) -> bool:
    """Whether pickle would store just the `__dict__` of instances, and restore it without running anything."""
    return (
        all(getattr(cls, name) is getattr(object, name) for name in ("__reduce_ex__", "__reduce__", "__getstate__"))
        and reducer_of(cls) is None
        and cls.__dictoffset__ != 0
        and not any(hasattr(cls, name) for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__"))
        and not any(own_slots(base) for base in cls.__mro__)
        and plain_new(cls)
    )


def reducer_of(cls: type[Any]) -> Callable[[Any], Any] | None:
    """What `copyreg` has for the class; nothing for one whose metaclass makes it unhashable."""
    return None if type(cls).__hash__ is None else copyreg.dispatch_table.get(cls)


def plain_new(cls: type[Any]) -> bool:
    """Whether the class leaves `__new__` to `object` (typing's Generic only passes it on)."""
    return all(
        "__new__" not in base.__dict__ or base is object or base.__module__ in ("typing", "_typing")
        for base in cls.__mro__
    )


def simple_state(obj: Any) -> dict[str, Any]:
    """The state of an instance of a simple class: its own dict, not a copy; the object is not woken."""
    state: dict[str, Any] = _dict_of(obj, "__dict__")
    return state


def put_simple_state(obj: Any, state: dict[str, Any]) -> None:
    """Give a simple object its state; names are interned, as attribute names are."""
    into = _dict_of(obj, "__dict__")
    if into:  # what an interruption has left there
        into.clear()
    for name, value in state.items():
        into[intern(name) if type(name) is str else name] = value


def reduced(obj: Any, cls: type[Any]) -> Reduced:
    """What pickle would store of an object that is awake; runs its `__reduce_ex__` or `__getstate__`."""
    by_table = reducer_of(cls)
    told = by_table(obj) if by_table is not None else obj.__reduce_ex__(PROTOCOL)
    if not isinstance(told, tuple) or not 2 <= len(told) <= 6:
        raise CannotPickle(
            f"{cls.__qualname__}.__reduce_ex__ gave {type(told).__name__}, not a tuple of two to six.",
            hint="An object of a store is stored by its state; a global name in its place cannot be.",
        )
    function, args, state, items, pairs, setter = told + (None,) * (6 - len(told))
    if type(state) is dict and not state and getattr(cls, "__setstate__", None) is BaseException.__setstate__:
        state = None  # there is an empty dict once anybody has looked for one
    if type(state) is list or ASIDE:
        state = _named(obj, cls, state)
    if function is _NEW_OBJECT:
        making = Making(None, args[1:], {})
    elif function is _NEW_OBJECT_EX:
        making = Making(None, tuple(args[1]), dict(args[2]))
    else:
        making = Making(function, tuple(args), {})
    return making, Filling(
        state, None if items is None else list(items), None if pairs is None else list(pairs), setter
    )


def _named(obj: Any, cls: type[Any], state: Any) -> Any:
    """A state with the names of its attributes where pickle leaves them out, and with what was kept aside."""
    layout = layout_of(cls)
    if layout is not None and layout.form == POSITIONS and type(state) is list:
        state = dict(zip(layout.names, state, strict=True))
    aside = kept_aside(obj)
    if not aside or layout is None:
        return state
    parts = state if type(state) is tuple else (state, None)
    whole = {**(parts[0] or {}), **(parts[1] or {}), **aside}
    return whole if layout.form == POSITIONS else natural(cls, whole)


def make(cls: type[Any], making: Making) -> Any:
    """The bare object of a reduced one; what comes is checked to be a `Persistable`."""
    if making.function is None:
        return cls.__new__(cls, *making.args, **making.kwargs)
    made = making.function(*making.args)
    if not isinstance(made, Persistable):
        raise CannotLoad(f"{cls.__qualname__} is stored by a function that gave {type(made).__name__} instead of it.")
    return made


def move(source: Any, target: Any) -> None:
    """Give `target` (same layout, its real class assigned) all attributes of `source`."""
    with suppress(AttributeError):  # slots only
        _dict_of(target, "__dict__").update(_dict_of(source, "__dict__"))  # no descriptor of the class is asked
    for descriptor in slots_of(type(target)):
        with suppress(AttributeError):  # a slot that is not set
            descriptor.__set__(target, descriptor.__get__(source))


def fill(obj: Any, filling: Filling) -> None:
    """Put state and items into an object of its real class, in pickle's order."""
    lacking = "append" if filling.items else "__setitem__" if filling.pairs else ""
    if lacking and not hasattr(type(obj), lacking):
        count = len(filling.items or filling.pairs or ())
        raise CannotLoad(
            f"It held {count} items when it was saved; a {type(obj).__qualname__} has no {lacking} to take them.",
            hint="Give the class one, or let it be a list or a dict again.",
        )
    for item in filling.items or ():
        obj.append(item)
    for key, value in filling.pairs or ():
        obj[key] = value
    state = filling.state
    if filling.setter is not None:
        filling.setter(obj, state)
    elif state is not None:
        put(obj, state)


def attributes(obj: Any) -> Iterator[tuple[str, Any]]:
    """All attributes that are set on the object itself, in its dict and in slots; it is not woken."""
    with suppress(AttributeError):  # slots only
        yield from list(_dict_of(obj, "__dict__").items())
    for descriptor in slots_of(type(obj)):
        with suppress(AttributeError):  # a slot that is not set
            yield descriptor.__name__, descriptor.__get__(obj)


def is_held_by_parts(obj: Any) -> bool:
    """Whether somebody else holds a list, dict, set or bytearray that is an attribute: it may change unseen."""
    try:
        return is_held(_dict_of(obj, "__dict__"))
    except AttributeError:
        return False  # slots only


def is_held(state: dict[str, Any]) -> bool:
    """The same of a state."""
    for value in state.values():  # a generator would take twice as long, and a class may not be hashable
        kind = type(value)
        may_change = kind is list or kind is dict or kind is set or kind is bytearray
        if may_change and getrefcount(value) > _ONLY_ATTRIBUTE:
            return True
    return False


_ONLY_ATTRIBUTE = 0


def _most_references(state: dict[str, Any]) -> int:
    """What `is_held` sees as the reference count of a container that nobody else holds: the interpreter's business."""
    global _ONLY_ATTRIBUTE
    while is_held(state):
        _ONLY_ATTRIBUTE += 1
    return _ONLY_ATTRIBUTE


_most_references({"": []})


def clear(obj: Any) -> None:
    """Take all attributes and items away; the object is not woken."""
    with suppress(AttributeError):  # slots only
        _dict_of(obj, "__dict__").clear()  # no descriptor of the class is asked: it would touch the object, or refuse
    for descriptor in slots_of(type(obj)):
        with suppress(AttributeError):  # a slot that is not set
            descriptor.__delete__(obj)
    for kind in _WITH_ITEMS:
        if isinstance(obj, kind):
            kind.clear(obj)  # not what a class of the user's makes of it
            return


def move_items(source: Any, target: Any) -> None:
    """Give `target`, which is empty, what a constructor has put into `source` by itself: items, or arguments."""
    if isinstance(target, BaseException):
        target.args = source.args
    for kind, add in _WITH_ITEMS.items():
        if isinstance(target, kind):
            add(target, source)
            return


_WITH_ITEMS: dict[type[Any], Callable[[Any, Any], None]] = {
    OrderedDict: OrderedDict.update,
    dict: dict.update,
    list: list.extend,
    set: set.update,
    bytearray: bytearray.extend,
    deque: deque.extend,
}
