"""The values of the standard library that are made without a good seal: each by a function that checks its arguments.

- What C code takes from pickles unchecked (the bytes of a `datetime`) is taken apart and checked here.
- Nothing is looked up, imported or opened by what a pickle says; a time zone is one that this machine has.
- The modules are imported with this one, whatever a pickle names.
"""

from __future__ import annotations

import array
import builtins
import collections
import datetime
import decimal
import fractions
import ipaddress
import os
import pathlib
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

from perdure.pickling.own.bounds import check_keys, quadratic
from perdure.pickling.own.limits import Refused, Wrong
from perdure.pickling.own.literals import WIDE
from perdure.pickling.own.stack import Callee, Pending

Make = Callable[..., Any]

_FRACTION = re.compile(r"-?[0-9]+(/[0-9]+)?")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_TYPECODES = "bBuhHiIlLqQfd"
_FACTORIES = ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple")


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Wrong(what)


def _all(kind: type[Any], values: Any) -> bool:
    return all(type(value) is kind for value in values)


# -- of Python itself -----------------------------------------------------------------------------------------


def _complex(real: Any, imaginary: Any) -> complex:
    _require(_all(float, (real, imaginary)), "the parts of a complex number are floats")
    return complex(real, imaginary)


def _encode(text: Any, encoding: Any) -> bytes:
    _require(type(text) is str and encoding in ("latin1", "latin-1"), "bytes come as a text in Latin-1")
    try:
        return bytes(text.encode("latin-1"))
    except UnicodeEncodeError as error:
        raise Wrong("bytes come as a text in Latin-1") from error


def _bytes(*args: Any) -> bytes:
    _require(not args, "bytes come as a text in Latin-1")
    return b""


def _bytearray(content: Any = b"", encoding: Any = "latin-1") -> bytearray:
    if type(content) is str:
        content = _encode(content, encoding)
    _require(type(content) is bytes, "the content of a bytearray is bytes")
    return bytearray(content)


def _range(builder: Any, *bounds: Any) -> range:
    _require(_all(int, bounds) and len(bounds) == 3 and bounds[2] != 0, "a range is made of three whole numbers")
    builder.machine.spend(quadratic(*bounds))  # it finds its length
    return range(*bounds)


def _slice(*bounds: Any) -> slice:
    _require(
        len(bounds) == 3 and all(type(bound) in (int, type(None)) for bound in bounds),
        "a slice is made of whole numbers",
    )
    return slice(*bounds)


def _set_of(kind: type[Any]) -> Make:
    def make(builder: Any, items: Any = ()) -> Any:
        _require(type(items) in (list, tuple), "the members of a set come as a list")
        check_keys(builder.machine, None, items)
        return kind(items)

    return make


def _exception(kind: type[BaseException]) -> Make:
    def make(*args: Any) -> BaseException:
        return kind(*args)

    return make


# -- numbers, ids, addresses, paths ---------------------------------------------------------------------------


def _decimal(builder: Any, text: Any) -> decimal.Decimal:
    _require(type(text) is str and len(text) <= 10_000, "a Decimal is made of a text")
    builder.machine.has_wide_numbers |= len(text) > WIDE
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation as error:
        raise Wrong(f"{text!r:.40} is no number") from error


def _fraction(builder: Any, *parts: Any) -> fractions.Fraction:
    if len(parts) == 1 and type(parts[0]) is str and _FRACTION.fullmatch(parts[0]):
        parts = tuple(map(int, parts[0].split("/")))
    _require(len(parts) in (1, 2) and _all(int, parts) and parts[-1:] != (0,), "a Fraction is made of whole numbers")
    builder.machine.spend(quadratic(*parts))  # it finds their greatest common divisor
    builder.machine.has_wide_numbers |= max(map(int.bit_length, parts)) > 8 * WIDE
    return fractions.Fraction(*parts)


def _uuid(*args: Any) -> Pending:
    _require(not args, "a UUID is made without arguments")

    def finish(state: Any) -> uuid.UUID:
        number = state.get("int") if type(state) is dict else None
        _require(type(number) is int and 0 <= number < 1 << 128, "a UUID is a whole number of 128 bits")
        safe = state.get("is_safe")
        found = [each for each in uuid.SafeUUID if type(safe) is type(each.value) and safe == each.value]
        return uuid.UUID(int=number, is_safe=(found or [uuid.SafeUUID.unknown])[0])

    return Pending(finish)


def _path(kind: type[pathlib.PurePath]) -> Make:
    def make(*parts: Any) -> pathlib.PurePath:
        _require(_all(str, parts), "a path is made of texts")
        if not issubclass(kind, pathlib.PurePosixPath if os.name == "posix" else pathlib.PureWindowsPath):
            _require(not issubclass(kind, pathlib.Path), f"a {kind.__name__} cannot be made on this system")
        return kind(*parts)

    return make


def _address(kind: Any, types_: tuple[type[Any], ...]) -> Make:
    def make(value: Any) -> Any:
        parts = value if type(value) is tuple else (value,)
        _require(0 < len(parts) <= 2 and all(type(part) in types_ for part in parts), "an address is a number or text")
        return kind(value)

    return make


def _array(code: Any, *rest: Any) -> array.array[Any]:
    _require(type(code) is str and len(code) == 1 and code in _TYPECODES, "an array has a type code")
    content = rest[0] if len(rest) == 1 else None
    numbers = str if code == "u" else float if code in "fd" else int
    _require(type(content) is list and _all(numbers, content), "an array is made of numbers")
    return array.array(code, content)  # type: ignore[arg-type]  # it is a list


def _array_of_bytes(kind: Any, code: Any, form: Any, content: Any) -> array.array[Any]:
    _require(type(kind) is Callee and kind.name == "array", "an array is made of bytes")
    _require(type(code) is str and len(code) == 1 and code in _TYPECODES, "an array has a type code")
    _require(type(form) is int and type(content) is bytes, "an array is made of bytes")
    rebuild: Any = array._array_reconstructor  # type: ignore[attr-defined]
    made = rebuild(array.array, code, form, content)
    assert isinstance(made, array.array)
    return made


# -- containers -----------------------------------------------------------------------------------------------


def _ordered(*args: Any) -> collections.OrderedDict[Any, Any]:
    made: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    if args:  # as Python 2 wrote it
        _require(len(args) == 1 and type(args[0]) is list, "an OrderedDict is made of pairs")
        for pair in args[0]:
            _require(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) is str, "it is made of pairs")
            made[pair[0]] = pair[1]
    return made


def _deque(items: Any = (), maxlen: Any = None) -> collections.deque[Any]:
    _require(type(items) in (tuple, list), "a deque is made of a list")
    _require(maxlen is None or (type(maxlen) is int and maxlen >= 0), "the length of a deque is a whole number")
    return collections.deque(items, maxlen)


def _counter(counts: Any = None) -> collections.Counter[Any]:
    _require(counts is None or type(counts) is dict, "a Counter is made of a dict")
    made: collections.Counter[Any] = collections.Counter()
    dict.update(made, counts or {})
    return made


def _defaultdict(factory: Any = None) -> collections.defaultdict[Any, Any]:
    if factory is None:
        return collections.defaultdict(None)
    if type(factory) is not Callee or factory.name not in _FACTORIES:
        raise Refused("a defaultdict calls something else than list, dict, int and the like")
    return collections.defaultdict(getattr(builtins, factory.name))


def _namespace() -> types.SimpleNamespace:
    return types.SimpleNamespace()


# -- times ----------------------------------------------------------------------------------------------------


def _state_bytes(state: Any, length: int) -> bytes:
    content = state.encode("latin-1", "replace") if type(state) is str else state
    _require(type(content) is bytes and len(content) == length, "a time is stored in bytes")
    found: bytes = content
    return found


def _zone_of(zones: tuple[Any, ...]) -> datetime.tzinfo | None:
    zone = zones[0] if zones else None
    _require(len(zones) <= 1 and type(zone) in (type(None), datetime.timezone, zoneinfo.ZoneInfo), "no time zone")
    found: datetime.tzinfo | None = zone
    return found


def _checked(make: Make, *args: Any, **kwargs: Any) -> Any:
    try:
        return make(*args, **kwargs)
    except (ValueError, OverflowError) as error:
        raise Wrong(f"there is no such time: {error}") from error


def _timedelta(*parts: Any) -> Any:
    _require(len(parts) <= 3 and _all(int, parts), "a timedelta is made of whole numbers")
    return _checked(datetime.timedelta, *parts)


def _date(state: Any) -> Any:
    high, low, month, day = _state_bytes(state, 4)
    return _checked(datetime.date, high << 8 | low, month, day)


def _time(state: Any, *zones: Any) -> Any:
    hour, minute, second, *micro = _state_bytes(state, 6)
    fold, hour = divmod(hour, 128)
    return _checked(
        datetime.time, hour, minute, second, int.from_bytes(bytes(micro), "big"), _zone_of(zones), fold=fold
    )


def _datetime(state: Any, *zones: Any) -> Any:
    high, low, month, day, hour, minute, second, *micro = _state_bytes(state, 10)
    fold, month = divmod(month, 128)
    parts = high << 8 | low, month, day, hour, minute, second, int.from_bytes(bytes(micro), "big"), _zone_of(zones)
    return _checked(datetime.datetime, *parts, fold=fold)


def _timezone(offset: Any, *names: Any) -> Any:
    _require(type(offset) is datetime.timedelta and len(names) <= 1 and _all(str, names), "no time zone")
    if not names and not offset:
        return datetime.UTC
    return _checked(datetime.timezone, offset, *names)


def _zone(key: Any, cached: Any = True) -> zoneinfo.ZoneInfo:
    """A zone of the system's own files: the package `tzdata` would be imported for others."""
    _require(type(key) is str and type(cached) in (bool, int), "a time zone has a name")
    is_here = _ZONE.fullmatch(key) and any(os.path.isfile(os.path.join(folder, key)) for folder in zoneinfo.TZPATH)
    if not is_here:
        raise Refused(f"there is no time zone {key!r:.60} on this system")
    try:
        return zoneinfo.ZoneInfo(key) if cached else zoneinfo.ZoneInfo.no_cache(key)
    except (ValueError, OSError) as error:
        raise Refused(f"there is no time zone {key!r:.60} on this system") from error


ZONE_BY_KEY = Callee("ZoneInfo._unpickle", _zone)


def _attribute(builder: Any, of: Any, name: Any) -> Any:
    """`getattr` for what pickle writes it for: time zones, and members of enumerations (CPython 3.11.0 to 3.11.3)."""
    if type(of) is Callee and of.name == "ZoneInfo" and name == "_unpickle":
        return ZONE_BY_KEY
    if type(of) is Callee or type(name) is not str or not name.isidentifier():
        raise Refused("an attribute is looked up")
    return builder.member_of(of, name)


def _joined(builder: Any, flags: Any, more: Any) -> Any:
    """`operator.or_` for what these releases write it for: several flags."""
    return builder.joined(flags, more)


# -- the table ------------------------------------------------------------------------------------------------

OBJECT = Callee("object")
RECONSTRUCT = Callee("_reconstructor", takes_names=True)  # the registry does it
NEW_OBJECT = Callee("__newobj__", takes_names=True)

FILLED = (collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque)

# Built-in exceptions that do nothing but hold what they are given.
_EXCEPTIONS = [
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BufferError",
    "EOFError",
    "Exception",
    "FloatingPointError",
    "IndexError",
    "InterruptedError",
    "IsADirectoryError",
    "FileExistsError",
    "FileNotFoundError",
    "KeyError",
    "LookupError",
    "MemoryError",
    "NameError",
    "NotADirectoryError",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PermissionError",
    "RecursionError",
    "ReferenceError",
    "RuntimeError",
    "StopAsyncIteration",
    "StopIteration",
    "SyntaxError",
    "SystemError",
    "TimeoutError",
    "TypeError",
    "UnboundLocalError",
    "ValueError",
    "Warning",
    "ZeroDivisionError",
    "UserWarning",
    "DeprecationWarning",
    "RuntimeWarning",
    "FutureWarning",
    "ConnectionError",
    "ConnectionResetError",
    "ConnectionAbortedError",
    "ConnectionRefusedError",
    "BrokenPipeError",
]
EXCEPTIONS = frozenset(getattr(builtins, name) for name in _EXCEPTIONS)


def _rows() -> Iterator[tuple[str, str, Callee]]:
    yield "builtins", "complex", Callee("complex", _complex)
    yield "builtins", "bytes", Callee("bytes", _bytes)
    yield "builtins", "bytearray", Callee("bytearray", _bytearray, copies=True)
    yield "builtins", "range", Callee("range", _range, gets_builder=True)
    yield "builtins", "slice", Callee("slice", _slice)
    yield "builtins", "object", OBJECT
    yield "builtins", "getattr", Callee("getattr", _attribute, takes_names=True, gets_builder=True)
    for module in ("_operator", "operator"):
        yield module, "or_", Callee("or_", _joined, gets_builder=True)
    for name in ("bool", "dict", "float", "int", "list", "str", "tuple"):
        yield "builtins", name, Callee(name)
    yield "builtins", "set", Callee("set", _set_of(set), gets_builder=True, copies=True)
    yield "builtins", "frozenset", Callee("frozenset", _set_of(frozenset), gets_builder=True, copies=True)
    for name in _EXCEPTIONS:
        yield "builtins", name, Callee(name, _exception(getattr(builtins, name)))
    yield "_codecs", "encode", Callee("encode", _encode, copies=True)
    yield "copyreg", "_reconstructor", RECONSTRUCT
    yield "copyreg", "__newobj__", NEW_OBJECT
    yield "decimal", "Decimal", Callee("Decimal", _decimal, gets_builder=True)
    yield "fractions", "Fraction", Callee("Fraction", _fraction, gets_builder=True)
    yield "uuid", "UUID", Callee("UUID", new=_uuid)
    for kind in ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath"):
        for module in ("pathlib", "pathlib._local"):
            yield module, kind, Callee(kind, _path(getattr(pathlib, kind)))
    for version in ("IPv4", "IPv6"):
        for kind in ("Address", "Network", "Interface"):
            name = f"{version}{kind}"
            yield "ipaddress", name, Callee(name, _address(getattr(ipaddress, name), (int, str)))
    yield "array", "array", Callee("array", _array, copies=True)
    of_bytes = Callee("_array_reconstructor", _array_of_bytes, takes_names=True, copies=True)
    yield "array", "_array_reconstructor", of_bytes
    yield "collections", "OrderedDict", Callee("OrderedDict", _ordered, copies=True)
    yield "collections", "deque", Callee("deque", _deque, copies=True)
    yield "collections", "Counter", Callee("Counter", _counter, copies=True)
    yield "collections", "defaultdict", Callee("defaultdict", _defaultdict, takes_names=True)
    yield "types", "SimpleNamespace", Callee("SimpleNamespace", _namespace)
    yield "datetime", "timedelta", Callee("timedelta", _timedelta)
    yield "datetime", "date", Callee("date", _date)
    yield "datetime", "time", Callee("time", _time)
    yield "datetime", "datetime", Callee("datetime", _datetime)
    yield "datetime", "timezone", Callee("timezone", _timezone)
    yield "zoneinfo", "ZoneInfo", Callee("ZoneInfo")
    yield "zoneinfo", "ZoneInfo._unpickle", ZONE_BY_KEY


_PYTHON_2 = {"builtins": "__builtin__", "copyreg": "copy_reg"}
TABLE: dict[tuple[str, str], Any] = {(module, name): callee for module, name, callee in _rows()}
TABLE.update({(_PYTHON_2[module], name): callee for (module, name), callee in TABLE.items() if module in _PYTHON_2})
TABLE["__builtin__", "xrange"] = TABLE["builtins", "range"]
TABLE.update({("exceptions", name): TABLE["builtins", name] for name in _EXCEPTIONS})
for _module in ("builtins", "__builtin__"):
    TABLE[_module, "Ellipsis"] = ...
    TABLE[_module, "NotImplemented"] = NotImplemented
