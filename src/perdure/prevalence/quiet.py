"""What only reads: operands of operators, loops and C functions that run no code which changes something.

- Python's own types are quiet, but for iterators: taking an item changes them.
- A class of the user's is quiet if each special method of it is generated, of the standard library, or seen by its
  source to only read (`reads_only` tells that of a function).
"""

from __future__ import annotations

import datetime
import operator
import os
import random
import uuid
from collections.abc import Callable, Container, Iterable
from types import (
    BuiltinFunctionType,
    FunctionType,
    GeneratorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from perdure.prevalence import moments

ATOMS = frozenset({
    int, float, complex, bool, str, bytes, tuple, frozenset, type(None), range, datetime.datetime, datetime.date,
    datetime.time, datetime.timedelta, datetime.timezone, uuid.UUID,
})  # fmt: skip
HARMLESS = frozenset({
    abs, all, any, bool, bytes, callable, chr, dict, divmod, enumerate, filter, float, format, frozenset, hash, hex,
    int,
    isinstance, issubclass, iter, len, list, map, max, min, next, ord, pow, print, range, repr, reversed, round, set,
    slice, sorted, str, sum, tuple, zip, bytearray, complex, object,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID,
    moments.now, moments.random, moments.random_source, moments.uuid4,
})  # fmt: skip
READING = {
    dict: frozenset({"get", "keys", "values", "items", "copy"}),
    list: frozenset({"index", "count", "copy"}),
    set: frozenset({
        "copy", "union", "intersection", "difference", "symmetric_difference", "issubset", "issuperset", "isdisjoint",
    }),
    random.Random: frozenset({"random", "choice", "choices", "randint", "randrange", "sample", "uniform", "gauss"}),
}  # fmt: skip
STORING = frozenset({
    "append", "add", "insert", "get", "setdefault", "pop", "discard", "remove", "index", "count", "keys", "values",
    "items", "copy", "clear", "popitem",
})  # fmt: skip
"""Methods of Python's containers that look at no argument but as a key."""
ITERATING = frozenset({enumerate, filter, iter, map, reversed, zip})  # give a new iterator over their arguments
_LATE_ATOMS = frozenset({("decimal", "Decimal"), ("fractions", "Fraction")})  # whose modules few programs need
_CONTAINERS = frozenset({dict, list, set, str, bytes, bytearray, tuple, frozenset, range})
_ALONE = (
    "eq", "ne", "lt", "le", "gt", "ge", "hash", "bool", "len", "length_hint", "iter", "reversed", "contains", "getitem",
    "missing", "str", "repr", "format", "bytes", "fspath", "index", "int", "float", "complex", "round", "trunc",
    "floor", "ceil", "abs", "neg", "pos", "invert",
)  # fmt: skip
_BOTH_WAYS = (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift", "and", "or",
    "xor",
)  # fmt: skip
_ASKED = frozenset(f"__{name}__" for name in (*_ALONE, *_BOTH_WAYS, *(f"r{name}" for name in _BOTH_WAYS))) | {"keys"}
"""What operators, loops and C functions ask an object for."""
_C_CODE = (WrapperDescriptorType, MethodDescriptorType, BuiltinFunctionType, type(None))
_LIBRARY = os.path.dirname(os.__file__) + os.sep

ReadsOnly = Callable[[FunctionType], bool]

QUIET: set[type] = {*_CONTAINERS, *ATOMS, slice, type}  # found out, and not to be called


def is_atom(cls: type) -> bool:
    """Whether it has no state that could change."""
    return cls in ATOMS or (cls.__module__, cls.__qualname__) in _LATE_ATOMS


def in_class(cls: type, name: str) -> Any:
    """What a class has under a name, bare; None: nothing."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return None


def is_quiet(obj: Any, fresh: Container[int], reads_only: ReadsOnly) -> bool:
    """Whether operators and loops read it without a change; `fresh`: addresses of iterators made by the command."""
    cls = type(obj)
    if cls in QUIET or cls is GeneratorType:  # a generator cannot be in a system
        return True
    if hasattr(cls, "__next__"):
        return id(obj) in fresh
    if any(not _class_is_quiet(base, reads_only) for base in cls.__mro__):
        return False
    if not hasattr(cls, "__call__"):  # noqa: B004 (of the class, which is what is kept)
        QUIET.add(cls)
    return True


def is_quiet_argument(obj: Any, fresh: Container[int], reads_only: ReadsOnly) -> bool:
    """The same for C functions, which may call it as well."""
    cls = type(obj)
    if cls in QUIET and cls is not type:
        return True
    if not callable(obj):
        return is_quiet(obj, fresh, reads_only)
    if cls is FunctionType:
        return obj in HARMLESS or id(obj) in fresh or reads_only(obj)
    if cls is MethodType:
        return type(obj.__func__) is FunctionType and reads_only(obj.__func__)
    if cls is BuiltinFunctionType:
        owner = obj.__self__
        if owner is None or type(owner) is ModuleType:
            return obj in HARMLESS or getattr(owner, "__name__", "") == "math"
        return is_atom(type(owner)) or obj.__name__ in READING.get(type(owner), ())
    if cls is MethodDescriptorType:
        return is_atom(obj.__objclass__) or obj.__name__ in READING.get(obj.__objclass__, ())
    if isinstance(obj, type):
        return obj in HARMLESS or is_atom(obj)
    return cls is operator.itemgetter


def is_over_new(args: Iterable[Any], fresh: Container[int]) -> bool:
    """Whether what iterates over these arguments moves on no iterator but the command's own."""
    return all(type(arg) in _STANDING or callable(arg) or id(arg) in fresh for arg in args)


_STANDING = frozenset({*_CONTAINERS, *ATOMS, type({}.keys()), type({}.values()), type({}.items()), GeneratorType})


def _class_is_quiet(cls: type, reads_only: ReadsOnly) -> bool:
    if cls is object or cls in QUIET:
        return True
    own = vars(cls)
    for name in _ASKED & own.keys():
        value = own[name]
        if isinstance(value, _C_CODE):
            continue
        if type(value) is not FunctionType or not (_is_given(cls, value) or (reads_only(value) and name != "__iter__")):
            return False
    return True


def _is_given(cls: type, function: FunctionType) -> bool:
    """Whether a method was generated by `dataclasses`, or is of the standard library."""
    file = function.__code__.co_filename
    if file == "<string>":
        return "__dataclass_params__" in vars(cls)
    return file.startswith("<frozen ") or (file.startswith(_LIBRARY) and "site-packages" not in file)
