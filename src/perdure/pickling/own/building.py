"""Makes what pickles name, of the table and of the classes that the program has registered; everything else is refused.

- An object of a registered class gets its state only if this load has made it, and only once.
- The state goes by names into its `__dict__` and slots; or to the `__setstate__` of its class, if that has one.
- Layouts, versions and upgrades are those of the reader by names (`rebuilding`).
- With `lenient`, what is not known is opaque: it shows what is stored of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from operator import or_
from types import FunctionType
from typing import Any

from perdure.errors import CannotLoad, PerdureError
from perdure.pickling import lasting, references
from perdure.pickling.layouts import ARGUMENTS, NAMES, Told, by_name, evolved, layout_of, made_of_fields, put, told_by
from perdure.pickling.opaque import Missing, OpaqueValue
from perdure.pickling.outside import NAME as OUTSIDE
from perdure.pickling.outside import is_plain
from perdure.pickling.own.bounds import amount_of
from perdure.pickling.own.filling import Filling
from perdure.pickling.own.frames import LENT
from perdure.pickling.own.limits import Refused, Wrong
from perdure.pickling.own.registry import class_named
from perdure.pickling.own.stack import Callee, Pending
from perdure.pickling.own.values import EXCEPTIONS, FILLED, NEW_OBJECT, OBJECT, RECONSTRUCT, TABLE

OWN = "perdure"
Outside = Callable[[str, Any], Any]


class Building:
    """What one load, or several of one stream, make. `objects` are those that the payload refers to, by place."""

    def __init__(self, objects: Sequence[Any] = (), outside: Outside | None = None, *, lenient: bool = False):
        self.objects = objects
        self.outside = outside
        self.lenient = lenient
        self.machine: Filling  # that it builds for
        self._classes: dict[int, type[Any]] = {}  # by address: those that were looked up in this load
        self._told: dict[int, Told] = {}  # by address of the class
        self._shells: dict[int, Any] = {}  # by address: objects that have no state yet
        self._filled: dict[int, Any] = {}  # containers of the standard library, made in this load
        self._missing: dict[str, Missing] = {}

    # -- names -----------------------------------------------------------------------------------------------

    def find(self, module: str, name: str) -> Any:
        """What a name means here. Raises `Refused`."""
        if not is_dotted(module) or not is_dotted(name):
            raise Refused(f"{module!r:.80}, {name!r:.80} is no name of a class or function")
        found = TABLE.get((module, name))
        if found is not None:
            return found
        if module == OWN and name in _OWN:
            return _OWN[name]
        lent = LENT.get((module, name))
        if lent is not None:
            return lent.here()
        return self._class(f"{module}:{name}")

    def _class(self, name: str, hint: str = "") -> Any:
        cls = class_named(name)
        if cls is None:
            if self.lenient:
                return self._missing.setdefault(name, Missing(name, hint))
            raise Refused(f"it names {name}, which is no plain value, and no class that this program has registered")
        self._classes[id(cls)] = cls
        self.machine.know(cls)
        if layout_of(cls) is not None:  # it had no version and no layout yet, if nothing tells another
            self._told.setdefault(id(cls), Told(NAMES, (), 0))
        return cls

    def _named(self, name: Any) -> Any:
        return self._class(_text(name))

    def _shape(self, name: Any, text: Any, version: Any = 0, hint: Any = "") -> Any:
        if type(version) is not int or version < 0:
            raise Wrong("the version of a class is a number")
        told = told_by(_text(text), version)
        cls = self._class(_text(name), _text(hint))
        if type(cls) is Missing:
            cls.told = told
        else:
            self._told[id(cls)] = told
        return cls

    def _member(self, cls: Any, name: Any, value: Any) -> Any:
        _text(name)
        if type(cls) is Missing:
            return OpaqueValue(cls, lasting.member, (cls, name, value), {})
        if id(cls) not in self._classes or not isinstance(cls, enum.EnumType):
            raise Refused("a member is asked of what is no registered enumeration")
        return lasting.member(cls, name, value)

    def member_of(self, cls: Any, name: str) -> Any:
        """The member of a registered enumeration with that name. Raises `Refused` for all that is none."""
        return self._member(cls, name, None)

    def joined(self, flags: Any, more: Any) -> Any:
        """Flags of one registered enumeration together; `more` may be the bits of no member."""
        cls: Any = type(flags)
        if cls is OpaqueValue and type(more) in (OpaqueValue, int):
            return OpaqueValue(flags.missing, or_, (flags, more), {})
        if id(cls) not in self._classes or not issubclass(cls, enum.Flag) or type(more) not in (cls, int):
            raise Refused("values are joined that are no flags of one registered enumeration")
        bits = more if type(more) is int else more._value_
        return _by_class(cls, lambda: cls(flags._value_ | bits))

    def _reference(self, place: Any) -> Any:
        if type(place) is not int or not 0 <= place < len(self.objects):
            raise Wrong(f"there is no reference {place!r:.20}")
        return self.objects[place]

    def _outside(self, tag: Any, key: Any) -> Any:
        if self.outside is None:
            raise Refused("perdure._outside refers to something outside, which is only resolved under a good seal")
        if not is_plain(tag, key):
            raise Wrong("a reference to the outside has a tag and a plain key")
        return self.outside(tag, key)

    # -- objects ---------------------------------------------------------------------------------------------

    def call(self, function: Any, args: tuple[Any, ...], *, names: bool) -> Any:
        """What a name makes of arguments."""
        if type(function) is Callee:
            return self._called(function, args, names)
        if names:
            raise Refused("a constructor stands among the arguments of a class")
        if type(function) is Missing:
            return OpaqueValue(function, function, args, {})
        cls = self._require_class(function, "calls")
        if isinstance(cls, enum.EnumType) and len(args) != 1:
            raise Refused("a member of an enumeration is asked for by something else than its value")
        self.machine.keep(args)
        return self._noted(cls, _by_class(cls, lambda: cls(*args)))

    def _called(self, function: Callee, args: tuple[Any, ...], names: bool) -> Any:
        if names and not function.takes_names:
            raise Refused("a constructor stands among arguments")
        if function is RECONSTRUCT:
            return self._reconstruct(*args) if len(args) == 3 else self._refuse_call(function)
        if function is NEW_OBJECT:
            return self.make(args[0], args[1:], {}) if args else self._refuse_call(function)
        if function.build is None:
            return self._refuse_call(function)
        if function.copies:
            self.machine.copy(amount_of(args))
        try:
            made = function.build(self, *args) if function.gets_builder else function.build(*args)
        except (TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, PerdureError):
                raise
            raise Wrong(f"{function.name} cannot be made of these arguments: {error}") from error
        if type(made) in FILLED:
            self._filled[id(made)] = made
            self.machine.watch(made)
        elif type(made) in EXCEPTIONS or type(made).__name__ == "SimpleNamespace":
            self._shells[id(made)] = made
        return made

    def _refuse_call(self, function: Callee) -> Any:
        raise Refused(f"{function.name} is called in a way in which no pickle of a value calls it")

    def make(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A bare object."""
        if type(cls) is Callee:
            if cls.new is None or kwargs:
                self._refuse_call(cls)
            return cls.new(*args)  # type: ignore[misc] # it is there
        if type(cls) is Missing:
            return OpaqueValue(cls, None, args, kwargs)
        cls = self._require_class(cls, "makes an object")
        self.machine.keep((args, kwargs) if kwargs else args)
        told = self._told.get(id(cls))
        if told is not None and told.form == ARGUMENTS and len(args) == len(told.names) and not kwargs:
            return _by_class(cls, lambda: made_of_fields(cls, told, args))
        return self._noted(cls, _by_class(cls, lambda: cls.__new__(cls, *args, **kwargs)))

    def _made(self, cls: Any, args: Any, kwargs: Any) -> Any:
        if type(args) is not tuple or type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
            raise Wrong("arguments come as something else than a tuple and a dict")
        return self.make(cls, args, kwargs)

    def _keep(self, obj: Any, told: Any) -> None:
        """A state, and beside it attributes that the class had no place for."""
        if type(told) is not tuple or len(told) != 2:
            raise Wrong("a state comes with what is kept beside it")
        state, aside = told
        _check_aside(aside)
        if type(obj) is OpaqueValue:
            obj.take(state, aside)
            return
        whole = by_name(state, self._told.get(id(type(obj))))
        self.build(obj, state if whole is None else {**whole, **aside})

    def _keeping(self, cls: Any, fields: Any, aside: Any) -> Any:
        """The same of a named tuple."""
        _check_aside(aside)
        if type(cls) is Missing:
            return OpaqueValue(cls, lasting.keeping, (cls, fields, aside), {})
        cls = self._require_class(cls, "makes an object")
        told = self._told.get(id(cls))
        if told is None or told.form != ARGUMENTS or type(fields) is not tuple or len(fields) != len(told.names):
            raise Wrong("a named tuple comes with a value for each of its fields")
        self.machine.keep((fields, aside))
        whole = told._replace(names=(*told.names, *aside))
        return _by_class(cls, lambda: made_of_fields(cls, whole, (*fields, *aside.values())))

    def _reconstruct(self, cls: Any, base: Any, state: Any) -> Any:
        """As protocols 0 and 1 make objects."""
        if base is OBJECT and state is None:
            return self.make(cls, (), {})
        kind = _BASES.get(base.name) if type(base) is Callee else None
        if kind is None or type(state) is not kind:
            raise Refused("an object is made of a base that it does not have")
        if type(cls) is Missing:
            return OpaqueValue(cls, None, (state,), {})
        cls = self._require_class(cls, "makes an object")
        if isinstance(cls, enum.EnumType):
            raise Refused("a member of an enumeration is made anew")
        self.machine.copy(amount_of(state))
        told = self._told.get(id(cls))
        if told is not None and told.form == ARGUMENTS and kind is tuple and len(state) == len(told.names):
            return _by_class(cls, lambda: made_of_fields(cls, told, state))
        made = _by_class(cls, lambda: kind.__new__(cls, state))
        if kind in (list, dict):
            kind.__init__(made, state)
        return self._noted(cls, made)

    def _require_class(self, cls: Any, what: str) -> Any:
        if id(cls) not in self._classes or issubclass(cls, type):
            raise Refused(f"it {what} of something that is no registered class")
        return cls

    def _noted(self, cls: type[Any], obj: Any) -> Any:
        if type(obj) is cls and not isinstance(cls, enum.EnumType):  # members are everybody's
            self._shells[id(obj)] = obj
        return obj

    def build(self, obj: Any, state: Any) -> Any:
        """Put a state in; gives the object, or what it has become."""
        if type(obj) is Pending:
            return obj.finish(state)
        if type(obj) is OpaqueValue:
            obj.take(state)
            return obj
        if id(obj) not in self._shells:
            raise Refused(f"a {type(obj).__name__} gets a state, which it has already, or was not made here to get")
        del self._shells[id(obj)]
        cls: Any = type(obj)
        if not isinstance(getattr(cls, "__setstate__", None), FunctionType):
            check_names(state)
        if cls in EXCEPTIONS or cls.__name__ == "SimpleNamespace":
            if type(state) is not dict:
                raise Refused(f"a {cls.__name__} gets a {type(state).__name__} as its state")
            obj.__dict__.update(state)
            return obj
        _by_class(cls, lambda: self._put(cls, obj, state))
        return obj

    def _put(self, cls: type[Any], obj: Any, state: Any) -> None:
        told = self._told.get(id(cls))
        put(obj, state if told is None else evolved(cls, state, told))

    def target(self, obj: Any) -> Any:
        """What items are put into."""
        if type(obj) is OpaqueValue:
            return _Items(obj)
        if id(obj) in self._filled or id(obj) in self._shells:  # both hold what they name, so that no id is another's
            return obj
        raise Refused(f"items are put into a {type(obj).__name__}, which was not made here to get any")

    def persistent(self, key: Any) -> Any:
        """A persistent id has no meaning here."""
        raise Refused("it holds a persistent id")

    def extension(self, code: int) -> Any:
        """Nor has an extension code."""
        raise Refused("extension codes name whatever this process has registered for them")

    def finish(self) -> None:
        """Pickle leaves an empty state out: objects whose layout is told get it by names."""
        for obj in [*self._shells.values()]:
            if id(type(obj)) in self._told:
                _by_class(type(obj), partial(self._put, type(obj), obj, {}))
        self._shells.clear()
        self._filled.clear()


_OWN: dict[str, Callee] = {
    lasting.SHAPE: Callee(lasting.SHAPE, Building._shape, gets_builder=True),
    lasting.MEMBER: Callee(lasting.MEMBER, Building._member, takes_names=True, gets_builder=True),
    lasting.MADE: Callee(lasting.MADE, Building._made, takes_names=True, gets_builder=True),
    lasting.KEEP: Callee(lasting.KEEP, Building._keep, gets_builder=True),
    lasting.KEEPING: Callee(lasting.KEEPING, Building._keeping, takes_names=True, gets_builder=True),
    references.NAMED: Callee(references.NAMED, Building._named, gets_builder=True),
    references.NAME: Callee(references.NAME, Building._reference, gets_builder=True),
    OUTSIDE: Callee(OUTSIDE, Building._outside, gets_builder=True),
}
_BASES: dict[str, type[Any]] = {kind.__name__: kind for kind in (list, dict, tuple, int, float, str, bytes)}


class _Items:
    """An opaque object, as a container."""

    __slots__ = ("_obj",)

    def __init__(self, obj: OpaqueValue):
        self._obj = obj

    def append(self, item: Any) -> None:
        self._obj.take_items([item])

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        self._obj.take_pairs([(key, value)])


def is_dotted(name: str) -> bool:
    """Whether it is a name, or several with dots between."""
    return name.isidentifier() or all(part.isidentifier() for part in name.split("."))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Wrong("the name of a class is a text")
    return value


def _check_aside(aside: Any) -> None:
    if type(aside) is not dict:
        raise Wrong("what is kept beside a state is a dict")
    check_names(aside)


def check_names(state: Any) -> None:
    """Raise `Refused` if a state sets what is Python's own: `__class__`, `__setstate__` and the like."""
    for part in state if type(state) is tuple else (state,):
        if type(part) is dict:
            for name in part:
                if type(name) is not str:
                    raise Wrong("an attribute is called by something else than a text")
                if name.startswith("__") and name.endswith("__"):
                    raise Refused(f"it sets the attribute {name!r:.60}")


def _by_class(cls: Any, do: Callable[[], Any]) -> Any:
    """What code of a registered class does; whatever it raises becomes `CannotLoad`."""
    try:
        return do()
    except (PerdureError, Refused, Wrong, MemoryError):
        raise
    except Exception as error:  # the user's own code runs here: anything may come out
        raise CannotLoad(
            f"The object cannot be built from what is stored: {type(error).__name__}: {error}"
            f" ({cls.__module__}:{cls.__qualname__}).",
            hint="Its class refused the stored state; the exception that it raised is the cause of this one.",
        ) from error
