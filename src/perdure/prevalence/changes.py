"""What a command has changed, noted change by change, so that it can be taken back.

- Noted before it is done: attributes, items, and what the methods of lists, dictionaries and sets change. Taking back
  goes from the last to the first, and gives the very same order of keys and items.
- What cannot be noted (C code that may change anything, classes with ways of their own, iterators that are moved on) is
  `lost`: then nothing is taken back here, and the state has to be read again.
- What only reads changes nothing where its operands are quiet (see `quiet`). What is inside of containers, and what is
  a key, is taken to be compared and hashed without a change.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any, Protocol

from perdure.prevalence.moments import local
from perdure.prevalence.plain import (
    MISSING,
    SAFE_READS,
    as_any,
    is_plain,
    is_plain_dataclass,
    looks_up_plainly,
    reads_safely,
    slot_value,
    takes_plainly,
)
from perdure.prevalence.quiet import (
    HARMLESS,
    ITERATING,
    QUIET,
    READING,
    STORING,
    in_class,
    is_atom,
    is_over_new,
    is_quiet,
    is_quiet_argument,
)

MOST = 10_000  # items of a container that is copied before a change that cannot be noted otherwise

_READ = frozenset({dict, list, tuple, str, bytes, bytearray, range})
_NONE: dict[int, Any] = {}
_UNSEEN = frozenset({isinstance, issubclass, callable})  # look at an argument's class only


class Twin(Protocol):
    """A watched function."""

    sets_only: frozenset[str] | None  # attributes of its first argument, if it does nothing but setting these
    makes: set[type]  # classes whose new objects take them plainly
    reads_only: bool

    def __call__(self, changes: Changes, /, *args: Any, **keywords: Any) -> Any: ...


class Changes:
    """The changes of one command; `twin_of` gives the watched twin of a function, if it has one."""

    __slots__ = ("fresh", "log", "lost", "root", "twin_of")

    def __init__(self, root: Any, twin_of: Callable[[FunctionType], Twin | None]):
        self.root = root
        self.log: list[tuple[Any, ...]] = []
        self.lost = False
        self.fresh = _NONE  # iterators and small functions that were made by this command, by their addresses
        self.twin_of = twin_of

    def take_back(self) -> None:
        """Undo everything, the last change first."""
        for undo, *args in reversed(self.log):
            undo(*args)
        self.log.clear()

    # -- what reads -------------------------------------------------------------------------------------------

    def quiet(self, obj: Any) -> Any:
        """`obj`, which is about to be read by an operator or a loop."""
        if type(obj) not in QUIET and not is_quiet(obj, self.fresh, self._reads_only):
            self.lost = True
        return obj

    def small(self, function: Any) -> Any:
        """A `lambda` whose own changes are noted."""
        self._made_here(function)
        return function

    def _made_here(self, obj: Any) -> None:
        if self.fresh is _NONE:
            self.fresh = {}
        self.fresh[id(obj)] = obj

    def _given(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """C code gets these, and may read or call them."""
        for arg in (*args, *keywords.values()) if keywords else args:
            if not is_quiet_argument(arg, self.fresh, self._reads_only):
                self.lost = True

    def _reads_only(self, function: FunctionType) -> bool:
        twin = self.twin_of(function)
        return twin is not None and twin.reads_only

    # -- attributes and items --------------------------------------------------------------------------------

    def get_attribute(self, obj: Any, name: str) -> Any:
        """`obj.name`."""
        if (type(obj), name) not in SAFE_READS and not reads_safely(obj, name):
            self.lost = True
        return getattr(obj, name)

    def set_attribute(self, value: Any, obj: Any, name: str) -> None:
        """`obj.name = value`."""
        cls: Any = type(obj)
        if cls.__setattr__ is not object.__setattr__ or not is_plain(cls, name):
            self.lost = True
        else:
            self._note_attribute(obj, name)
        setattr(obj, name, value)

    def delete_attribute(self, obj: Any, name: str) -> None:
        """`del obj.name`."""
        own, cls = getattr(obj, "__dict__", None), as_any(type(obj))
        if cls.__delattr__ is not object.__delattr__ or not is_plain(cls, name):
            self.lost = True
        elif type(own) is dict and name in own:
            self._copy(own)
        elif slot_value(obj, name) is not MISSING:
            self._note_attribute(obj, name)
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
        self.quiet(right)
        if cls is list and operate == "__iadd__":
            self.log.append((_cut, left, len(left)))
        elif cls in (list, dict, set):
            self._copy(left)
        elif not is_atom(cls):
            self.lost = True
        return _OPERATORS[operate](left, right)

    # -- calls -----------------------------------------------------------------------------------------------

    def call(self, function: Any, /, *args: Any, **keywords: Any) -> Any:
        """`function(…)`."""
        cls = type(function)
        if cls is FunctionType:
            if function not in HARMLESS:
                return self._call_function(function, args, keywords)
        elif cls is MethodType:
            if type(function.__func__) is FunctionType:
                return self._call_function(function.__func__, (function.__self__, *args), keywords)
            self.lost = True
        elif isinstance(function, type):
            if function not in HARMLESS and not is_atom(function):
                return self._make(function, args, keywords)
            return self._call_harmless(function, args, keywords)
        elif cls is type(len):
            return self._call_builtin(function, args, keywords)
        else:
            self.lost = True
        return function(*args, **keywords)

    def _call_builtin(self, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        owner = function.__self__
        cls = type(owner)
        if owner is None or cls is ModuleType:
            if function in HARMLESS or getattr(owner, "__name__", "") == "math":
                return self._call_harmless(function, args, keywords)
        elif isinstance(owner, type):  # of a class, such as dict.fromkeys
            if owner in HARMLESS or is_atom(owner):
                return self._call_harmless(function, args, keywords)
        elif cls in READING or is_atom(cls):
            return self.call_method(owner, function.__name__, *args, **keywords)
        self.lost = True
        return function(*args, **keywords)

    def _call_harmless(self, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """C code that changes nothing but by what it is given."""
        if function not in _UNSEEN:
            self._given(args, keywords)
        if function is print and "file" in keywords:
            self.lost = True
        made = function(*args, **keywords)
        if function in ITERATING and is_over_new(args, self.fresh):
            self._made_here(made)
        return made

    def call_method(self, obj: Any, name: str, /, *args: Any, **keywords: Any) -> Any:
        """`obj.name(…)`."""
        cls = type(obj)
        reading = READING.get(cls)
        if reading is not None:
            if name not in reading:
                self._note_method(cls, obj, name, args, keywords)
            elif cls is random.Random and not (local.moment and local.moment.gives(obj)):
                self.log.append((obj.setstate, obj.getstate()))
            if name not in STORING:
                self._given(args, keywords)
        elif cls is ModuleType or isinstance(obj, type):
            return self.call(getattr(obj, name), *args, **keywords)
        elif is_atom(cls):
            self._given(args, keywords)
        else:
            own = getattr(obj, "__dict__", None)
            found = in_class(cls, name)
            if type(own) is dict and name in own and not hasattr(type(found), "__set__"):
                return self.call(own[name], *args, **keywords)
            if type(found) is FunctionType and looks_up_plainly(cls):
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
        init, plainly = cls.__init__, type(cls) is type and as_any(cls).__new__ is object.__new__
        if plainly and type(init) is FunctionType:
            twin = self.twin_of(init)
            if twin is not None:
                if cls in twin.makes or takes_plainly(cls, twin):
                    return cls(*args, **keywords)
                made = object.__new__(cls)
                twin(self, made, *args, **keywords)
                return made
            if is_plain_dataclass(cls, init):
                return cls(*args, **keywords)
        elif plainly and init is object.__init__:
            return cls(*args, **keywords)
        self.lost = True
        return cls(*args, **keywords)

    # -- notes -----------------------------------------------------------------------------------------------

    def _note_attribute(self, obj: Any, name: str) -> None:
        own = getattr(obj, "__dict__", None)
        old = own[name] if own is not None and name in own else slot_value(obj, name)
        if old is MISSING:
            self.log.append((_remove_attribute, obj, name))
        else:
            self.log.append((setattr, obj, name, old))

    def _note_key(self, obj: dict[Any, Any], key: Any) -> None:
        old = obj.get(key, MISSING)
        if old is MISSING:
            self.log.append((obj.pop, key, None))
        else:
            self.log.append((dict.__setitem__, obj, key, old))

    def _note_removal(self, obj: dict[Any, Any], key: Any) -> None:
        if key in obj:
            last = next(reversed(obj))
            if last is key or (is_atom(type(last)) and is_atom(type(key)) and last == key):
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
                self._note_leaving(obj, args[0])
        else:
            self._copy(obj)

    def _note_leaving(self, obj: set[Any], item: Any) -> None:
        """What is taken out of a set may be another object than the equal one that was given."""
        if is_atom(type(item)):
            twin = _Equal(item)
            if twin in obj and twin.other is not MISSING:
                self.log.append((obj.add, twin.other))
                return
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


class _Equal:
    """Finds the item of a set that is equal to another one."""

    def __init__(self, item: Any):
        self._item, self.other = item, MISSING

    def __hash__(self) -> int:
        return hash(self._item)

    def __eq__(self, other: object) -> bool:
        if self._item != other:
            return False
        self.other = other
        return True


def _remove_attribute(obj: Any, name: str) -> None:
    if name in getattr(obj, "__dict__", ()) or slot_value(obj, name) is not MISSING:
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
