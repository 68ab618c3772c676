"""What a command has changed, noted change by change, so that it can be taken back.

- Noted before it is done: attributes, items, and what the methods of lists, dictionaries and sets change. Taking back
  goes from the last to the first, and gives the very same order of keys and items.
- What cannot be noted (C code that may change anything, classes with ways of their own) is `lost`: then nothing is
  taken back here, and the state has to be read again.
- What only reads (comparing, iterating, arithmetic) is taken to change nothing. Properties and the like are not.
"""

from __future__ import annotations

import datetime
import operator
import random
import uuid
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any

from perdure.prevalence import moments

MOST = 10_000  # items of a container that is copied before a change that cannot be noted otherwise

_READ = frozenset({dict, list, tuple, str, bytes, bytearray, range})
_ATOMS = frozenset({
    int, float, complex, bool, str, bytes, tuple, frozenset, type(None), range, datetime.datetime, datetime.date,
    datetime.time, datetime.timedelta, datetime.timezone, uuid.UUID,
})  # fmt: skip
_HARMLESS = frozenset({
    abs, all, any, bool, bytes, callable, chr, dict, divmod, enumerate, filter, float, format, frozenset, hash, hex,
    int,
    isinstance, issubclass, iter, len, list, map, max, min, next, ord, pow, print, range, repr, reversed, round, set,
    slice, sorted, str, sum, tuple, zip, bytearray, complex, object,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID,
    moments.now, moments.random, moments.random_source, moments.uuid4,
})  # fmt: skip
_READING = {
    dict: frozenset({"get", "keys", "values", "items", "copy"}),
    list: frozenset({"index", "count", "copy"}),
    set: frozenset({
        "copy", "union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset", "isdisjoint",
    }),
    random.Random: frozenset({"random", "choice", "choices", "randint", "randrange", "sample", "uniform", "gauss"}),
}  # fmt: skip
_LATE_ATOMS = frozenset({("decimal", "Decimal"), ("fractions", "Fraction")})  # whose modules few programs need
_missing: Any = object()
_safe_reads: set[tuple[type, str]] = set()

Twin = Callable[..., Any]


class Changes:
    """The changes of one command; `twin_of` gives the watched twin of a function, if it has one."""

    __slots__ = ("log", "lost", "root", "twin_of")

    def __init__(self, root: Any, twin_of: Callable[[FunctionType], Twin | None]):
        self.root = root
        self.log: list[tuple[Any, ...]] = []
        self.lost = False
        self.twin_of = twin_of

    def take_back(self) -> None:
        """Undo everything, the last change first."""
        for undo, *args in reversed(self.log):
            undo(*args)
        self.log.clear()

    # -- attributes and items --------------------------------------------------------------------------------

    def get_attribute(self, obj: Any, name: str) -> Any:
        """`obj.name`."""
        if (type(obj), name) not in _safe_reads and not _reads_safely(obj, name):
            self.lost = True
        return getattr(obj, name)

    def set_attribute(self, value: Any, obj: Any, name: str) -> None:
        """`obj.name = value`."""
        cls: Any = type(obj)
        if cls.__setattr__ is not object.__setattr__ or not _is_plain(cls, name):
            self.lost = True
        else:
            self._note_attribute(obj, name)
        setattr(obj, name, value)

    def delete_attribute(self, obj: Any, name: str) -> None:
        """`del obj.name`."""
        own, cls = getattr(obj, "__dict__", None), _any(type(obj))
        if cls.__delattr__ is not object.__delattr__ or type(own) is not dict:
            self.lost = True
        else:
            self._copy(own)
        delattr(obj, name)

    def get_item(self, obj: Any, key: Any) -> Any:
        """`obj[key]`."""
        if type(obj) not in _READ:
            self.lost = True
        return obj[key]

    def set_item(self, value: Any, obj: Any, key: Any) -> None:
        """`obj[key] = value`."""
        cls = type(obj)
        if cls is dict:
            self._note_key(obj, key)
        elif cls is list and type(key) is int and -len(obj) <= key < len(obj):
            self.log.append((list.__setitem__, obj, key % len(obj), obj[key]))
        elif cls is list:
            self._copy(obj)
        else:
            self.lost = True
        obj[key] = value

    def delete_item(self, obj: Any, key: Any) -> None:
        """`del obj[key]`."""
        if type(obj) is dict:
            self._note_removal(obj, key)
        elif type(obj) is list:
            self._copy(obj)
        else:
            self.lost = True
        del obj[key]

    # `a.b += c` and `a[b] += c` read before `c` is looked at, and write afterwards.

    def begin_attribute(self, obj: Any, name: str) -> tuple[Any, ...]:
        return self.set_attribute, obj, name, self.get_attribute(obj, name)

    def begin_item(self, obj: Any, key: Any) -> tuple[Any, ...]:
        return self.set_item, obj, key, self.get_item(obj, key)

    def end_in_place(self, begun: tuple[Any, ...], operate: str, value: Any) -> None:
        store, obj, key, found = begun
        store(self.in_place(found, operate, value), obj, key)

    def in_place(self, left: Any, operate: str, right: Any) -> Any:
        """`left += right` and the like; gives the new left."""
        cls = type(left)
        if cls is list and operate == "__iadd__":
            self.log.append((_cut, left, len(left)))
        elif cls in (list, dict, set):
            self._copy(left)
        elif not _is_atom(cls):
            self.lost = True
        return _OPERATORS[operate](left, right)

    # -- calls -----------------------------------------------------------------------------------------------

    def call(self, function: Any, /, *args: Any, **keywords: Any) -> Any:
        """`function(…)`."""
        cls = type(function)
        if cls is FunctionType:
            if function not in _HARMLESS:
                return self._call_function(function, args, keywords)
        elif cls is MethodType:
            if type(function.__func__) is FunctionType:
                return self._call_function(function.__func__, (function.__self__, *args), keywords)
            self.lost = True
        elif isinstance(function, type):
            if function not in _HARMLESS and not _is_atom(function):
                return self._make(function, args, keywords)
        elif cls is type(len):
            owner = function.__self__
            if owner is not None and type(owner) is not ModuleType:
                return self.call_method(owner, function.__name__, *args, **keywords)
            if function not in _HARMLESS and getattr(owner, "__name__", "") != "math":
                self.lost = True
        else:
            self.lost = True
        return function(*args, **keywords)

    def call_method(self, obj: Any, name: str, /, *args: Any, **keywords: Any) -> Any:
        """`obj.name(…)`."""
        cls = type(obj)
        reading = _READING.get(cls)
        if reading is not None:
            if name not in reading:
                self._note_method(cls, obj, name, args, keywords)
        elif cls is ModuleType or isinstance(obj, type):
            return self.call(getattr(obj, name), *args, **keywords)
        elif not _is_atom(cls):
            own = getattr(obj, "__dict__", None)
            found = _in_class(cls, name)
            if type(own) is dict and name in own:
                return self.call(own[name], *args, **keywords)
            if type(found) is FunctionType and _looks_up_plainly(cls):
                return self._call_function(found, (obj, *args), keywords)
            if isinstance(found, (staticmethod, classmethod)):
                return self.call(getattr(obj, name), *args, **keywords)
            self.lost = True
        return getattr(obj, name)(*args, **keywords)

    def _call_function(self, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        marked = getattr(function, "__perdure_command__", None)
        if marked is not None:  # inside of a command of the same root it is a plain method
            if not args or args[0] is not self.root:
                self.lost = True
                return function(*args, **keywords)
            function = marked[2]
        twin = self.twin_of(function)
        if twin is None:
            self.lost = True
            return function(*args, **keywords)
        return twin(self, *args, **keywords)

    def _make(self, cls: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A new object: what its `__init__` does to itself need not be noted."""
        if issubclass(cls, BaseException) and type(cls.__init__) is not FunctionType:
            return cls(*args, **keywords)
        init, is_plain = cls.__init__, type(cls) is type and _any(cls).__new__ is object.__new__
        if is_plain and type(init) is FunctionType:
            twin = self.twin_of(init)
            if twin is not None:
                if getattr(twin, "only_itself", False):
                    return cls(*args, **keywords)
                made = object.__new__(cls)
                twin(self, made, *args, **keywords)
                return made
            if getattr(cls, "__dataclass_params__", None) is not None and not hasattr(cls, "__post_init__"):
                return cls(*args, **keywords)
        elif is_plain and init is object.__init__:
            return cls(*args, **keywords)
        self.lost = True
        return cls(*args, **keywords)

    # -- notes -----------------------------------------------------------------------------------------------

    def _note_attribute(self, obj: Any, name: str) -> None:
        own = getattr(obj, "__dict__", None)
        old = own[name] if own is not None and name in own else _slot_value(obj, name)
        if old is _missing:
            self.log.append((_remove_attribute, obj, name))
        else:
            self.log.append((setattr, obj, name, old))

    def _note_key(self, obj: dict[Any, Any], key: Any) -> None:
        old = obj.get(key, _missing)
        if old is _missing:
            self.log.append((obj.pop, key, None))
        else:
            self.log.append((dict.__setitem__, obj, key, old))

    def _note_removal(self, obj: dict[Any, Any], key: Any) -> None:
        if key in obj:
            last = next(reversed(obj))
            if last is key or (_is_atom(type(last)) and _is_atom(type(key)) and last == key):
                self.log.append((dict.__setitem__, obj, last, obj[key]))  # it was the last one, and will be
            else:
                self._copy(obj)

    def _copy(self, obj: Any) -> None:
        if len(obj) > MOST:
            self.lost = True
        else:
            self.log.append((_put_back, obj, obj.copy()))

    def _note_method(self, cls: type, obj: Any, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if cls is random.Random:
            self.lost = True
        elif cls is list:
            self._note_list(obj, name, args)
        elif not args:
            self._copy(obj)
        elif cls is dict:
            self._note_dict(obj, name, args, keywords)
        elif name == "add":
            if args[0] not in obj:
                self.log.append((obj.discard, args[0]))
        elif name in ("discard", "remove"):
            if args[0] in obj:
                self.log.append((obj.add, args[0]))
        else:
            self._copy(obj)

    def _note_list(self, obj: list[Any], name: str, args: tuple[Any, ...]) -> None:
        if name in ("append", "extend"):
            self.log.append((_cut, obj, len(obj)))
        elif name == "pop" and not args and obj:
            self.log.append((_put_last, obj, len(obj), obj[-1]))
        else:
            self._copy(obj)

    def _note_dict(self, obj: dict[Any, Any], name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if name == "setdefault":
            if args[0] not in obj:
                self.log.append((obj.pop, args[0], None))
        elif name == "pop":
            self._note_removal(obj, args[0])
        elif name == "update" and len(args) == 1 and type(args[0]) is dict:
            for key in (*args[0], *keywords):
                self._note_key(obj, key)
        else:
            self._copy(obj)


def _is_atom(cls: type) -> bool:
    """Whether it has no state that could change."""
    return cls in _ATOMS or (cls.__module__, cls.__qualname__) in _LATE_ATOMS


def _reads_safely(obj: Any, name: str) -> bool:
    """Whether reading that attribute runs nobody's code."""
    cls = type(obj)
    if cls is ModuleType or isinstance(obj, type):
        return True
    if not _is_atom(cls) and cls not in _READING:
        if not _looks_up_plainly(cls) or hasattr(cls, "__getattr__"):
            return False
        found = _in_class(cls, name)
        if found is not None and type(found) is not FunctionType and not _is_plain(cls, name):
            return False
    _safe_reads.add((cls, name))
    return True


def _any(cls: Any) -> Any:
    return cls  # type checkers know too much of `object`


def _looks_up_plainly(cls: Any) -> bool:
    return cls.__getattribute__ is object.__getattribute__


def _in_class(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


_MEMBER = type(type("_Slotted", (), {"__slots__": ("slot",)}).__dict__["slot"])


def _is_plain(cls: type, name: str) -> bool:
    """Whether the attribute is kept in the object's dictionary, or in a slot."""
    found = _in_class(cls, name)
    return found is None or type(found) is _MEMBER or not hasattr(type(found), "__get__") or type(found) is FunctionType


def _slot_value(obj: Any, name: str) -> Any:
    found = _in_class(type(obj), name)
    return getattr(obj, name, _missing) if type(found) is _MEMBER else _missing


def _remove_attribute(obj: Any, name: str) -> None:
    if name in getattr(obj, "__dict__", ()) or _slot_value(obj, name) is not _missing:
        delattr(obj, name)


def _cut(obj: list[Any], length: int) -> None:
    del obj[length:]


def _put_last(obj: list[Any], length: int, value: Any) -> None:
    if len(obj) < length:
        obj.append(value)


def _put_back(obj: Any, copy: Any) -> None:
    obj.clear()
    if type(obj) is list:
        obj.extend(copy)
    else:
        obj.update(copy)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name)
    for name in (
        "__iadd__", "__isub__", "__imul__", "__imatmul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__",
        "__ilshift__", "__irshift__", "__iand__", "__ior__", "__ixor__",
    )
}  # fmt: skip
