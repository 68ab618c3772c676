"""Finds the part of an object graph that cannot be pickled, and says the way to it and what to do about it.

- The walk is iterative and visits each object once; it only begins after pickling has failed.
- A part is blamed only if it cannot be pickled by itself: what merely holds it is walked through.
- Nothing of the user's is compared, hashed or shown by its own `__repr__`; what its `__reduce_ex__` raises is the find.
"""

from __future__ import annotations

import copyreg
import importlib
import io
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from perdure.pickling.outside import REGISTERED, BadKey, key_of, kind_of

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, type(...), type(NotImplemented)})
_LONGEST_KEY = 60

_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair, io.FileIO)
_ADVICE: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        _FILES,
        "Keep the file's name (and position), and open it again in __setstate__, as perdure.outside.open_files() does.",
    ),
    (
        (type(threading.Lock()), type(threading.RLock())),
        "Leave the lock out in __getstate__ and make a new one in __setstate__.",
    ),
    (
        (types.GeneratorType, types.AsyncGeneratorType, types.CoroutineType),
        "Keep what it yields (a list), or the arguments that it is made from.",
    ),
    ((types.ModuleType,), "Keep the module's name instead, and import it where it is used."),
    ((threading.Thread,), "Leave the thread out in __getstate__ and start a new one after loading."),
    (
        (types.FrameType, types.TracebackType),
        "Keep its text instead: traceback.format_exception gives it.",
    ),
    ((weakref.ReferenceType,), "Keep the object itself, or leave the weak reference out in __getstate__."),
    ((memoryview,), "Keep bytes(view) instead."),
)
_SOCKET = "Keep the address instead, and connect again in __setstate__."
_LAMBDA = "Define it with `def` at the top level of a module."
_LOCAL_FUNCTION = "Move the function to the top level of its module."
_LOCAL_CLASS = "Move the class to the top level of its module."
_OTHER_UNDER_NAME = "Give it the name under which its module holds it (a decorator may need functools.wraps)."
_ANYTHING = "Leave it out in __getstate__, or give its class a __reduce__ method."


class _Place(NamedTuple):
    """An object on the walk: the place that led to it, and what to add to that place's path."""

    obj: Any
    holder: int
    step: str


def find_unpicklable(obj: object, name: str, stop_at: Callable[[object], bool]) -> tuple[str, str] | None:
    """The path to the first part of `obj` that cannot be pickled, and the reason with what to do about it.

    `name` stands for `obj` itself; where `stop_at` gives True the walk does not go on. None: nothing was found.
    """
    places = [_Place(obj, -1, "")]
    waiting = [0]
    seen: set[int] = set()
    while waiting:
        index = waiting.pop()
        part = places[index].obj
        if is_atom(part) or id(part) in seen:
            continue
        seen.add(id(part))
        if stop_at(part):
            continue
        found = _parts(part)
        if isinstance(found, str):
            return _path(places, index, name), found
        first = len(places)
        places.extend(_Place(child, index, step) for step, child in found)
        waiting.extend(reversed(range(first, len(places))))
    return None


def _path(places: list[_Place], index: int, name: str) -> str:
    steps = []
    while index:
        steps.append(places[index].step)
        index = places[index].holder
    return f"{name} → {''.join(reversed(steps))}" if steps else name


def is_atom(obj: Any) -> bool:
    """Whether it has no parts, and no identity that counts."""
    cls = type(obj)
    return type(cls) is type and cls in ATOMS  # a metaclass of the user's may make its classes unhashable


Parts = list[tuple[str, Any]]


def _parts(obj: Any) -> Parts | str:
    """What a pickler would go on with, each with its step of the path; or the reason why it would stop here."""
    cls = type(obj)
    if cls is list or cls is tuple:
        return [(f"[{index}]", item) for index, item in enumerate(obj)]
    if cls is dict:
        return list(dict_steps(obj.items()))
    if cls is set or cls is frozenset:
        return [(f"[member {index}]", item) for index, item in enumerate(obj)]
    if cls is types.FunctionType or cls is type:
        return [] if cls is type and obj in _NAMELESS else _look_up(obj, obj.__qualname__)
    if cls is pickle.PickleBuffer:
        return []
    kind = kind_of(obj) if REGISTERED else None
    if kind is not None:
        try:
            return [(".key", key_of(kind, obj))]
        except BadKey as error:
            return str(error)
    try:
        reduce = copyreg.dispatch_table.get(cls)
        if reduce is None and issubclass(cls, type):
            return _look_up(obj, obj.__qualname__)
        reduced = obj.__reduce_ex__(4) if reduce is None else reduce(obj)
        return _look_up(obj, reduced) if isinstance(reduced, str) else _reduced_parts(obj, reduced)
    except Exception as error:  # noqa: BLE001 - the user's own methods run here, and what they raise is the answer
        return _reason(obj, error)


_NAMELESS = (type(None), type(...), type(NotImplemented))


def dict_steps(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, Any]]:
    """Keys and values with the steps that lead to them."""
    for index, (key, value) in enumerate(items):
        yield f"[key {index}]", key
        yield f"[{_spell_key(key)}]", value


def _spell_key(key: Any) -> str:
    if type(key) is tuple and all(map(is_atom, key)):
        text = ", ".join(map(repr, key))
    else:
        text = repr(key) if is_atom(key) else f"<{type(key).__qualname__}>"
    return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}…"


def _reduced_parts(obj: Any, reduced: Any) -> Parts | str:
    if not isinstance(reduced, tuple) or not 2 <= len(reduced) <= 6 or not isinstance(reduced[1], tuple):
        return f"cannot pickle {_class(obj)!r} instances: __reduce__ gives neither a name nor a tuple of 2 to 6 parts."
    func, args, state, list_items, dict_items, setter = (*reduced, None, None, None, None)[:6]
    if getattr(func, "__name__", "") in ("__newobj__", "__newobj_ex__"):
        made: Parts = [(".__class__", args[0])]
        made += [(f".__getnewargs__()[{index}]", item) for index, item in enumerate(args[1:])]
    else:
        made = [(".__reduce__()[0]", func)]
        made += [(f".__reduce__()[1][{index}]", item) for index, item in enumerate(args)]
    parts = list(state_steps(state))
    parts += [(f"[{index}]", item) for index, item in enumerate(list_items or ())]
    parts += dict_steps(dict_items or ())
    parts.append((".__reduce__()[5]", setter))
    return made + parts


def state_steps(state: Any) -> Iterator[tuple[str, Any]]:
    """Attributes by their names where the state is the usual one; else as items of what `__getstate__` gave."""
    attributes, slots = state, None
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict and type(state[0]) in (dict, type(None)):
        attributes, slots = state
    for group in (attributes, slots):
        if type(group) is dict and all(type(key) is str for key in group):
            for key, value in group.items():
                yield f".{key}", value
        elif group is not None:
            yield ".__getstate__()", group


def _look_up(obj: Any, qualname: str) -> Parts | str:
    """No parts if the object is found under its name, as a pickle would store it; else the reason."""
    module_name = getattr(obj, "__module__", None) or _holder_of(obj, qualname)
    kind = "class" if isinstance(obj, type) else "function" if callable(obj) else "object"
    what = f"cannot pickle the {kind} {module_name}.{qualname}"
    if "<lambda>" in qualname.rpartition(".")[2]:
        return f"cannot pickle a lambda of {module_name} ({qualname}). {_LAMBDA}"
    if "<locals>" in qualname:
        return f"{what}: it is local to a function. {_LOCAL_CLASS if kind == 'class' else _LOCAL_FUNCTION}"
    try:
        found: Any = sys.modules.get(module_name) or importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError):
        return f"{what}: nothing is found under that name. Define it at the top level of an importable module."
    if found is not obj:
        return f"{what}: something else is found under that name. {_OTHER_UNDER_NAME}"
    return []


def _holder_of(obj: Any, qualname: str) -> str:
    """The module that holds an object which does not say where it is from (ufuncs of numpy, for one)."""
    for name, module in list(sys.modules.items()):
        if name != "__main__" and getattr(module, "__dict__", {}).get(qualname) is obj:
            return name
    return "__main__"


def _reason(obj: Any, error: Exception) -> str:
    bases = type(obj).__mro__
    sockets = (sys.modules["socket"].socket,) if "socket" in sys.modules else ()  # not imported for this
    for classes, advice in (*_ADVICE, (sockets, _SOCKET)):
        if any(base is cls for base in bases for cls in classes):  # issubclass would ask the user's metaclass
            return f"cannot pickle {_class(obj)!r} instances. {advice}"
    if isinstance(error, TypeError) and "pickle" in str(error):
        return f"cannot pickle {_class(obj)!r} instances. {_ANYTHING}"
    return f"cannot pickle {_class(obj)!r} instances: their state cannot be read ({type(error).__name__}: {error})."


def told_apart(reason: str) -> tuple[str, str]:
    """What was found, and what to do about it; the second is empty where nobody knows."""
    what, dot, advice = reason.partition(". ")
    return (f"{what}.", advice) if dot else (reason, "")


def _class(obj: Any) -> str:
    cls = type(obj)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
