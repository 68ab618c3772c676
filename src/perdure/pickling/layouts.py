"""The attributes that the instances of a class have by its declaration, and how a stored state becomes one of today's.

- Declared attributes are the fields of dataclasses and named tuples, and slots. A class that writes its own state, and
  has no version, has no layout: it takes care of itself. Nor has a class with a plain `__dict__` only.
- `Told` is what a record says of the layout that the class had when it was written.
- A state goes by names: what the class lacks now is kept, in the object or beside it, and is said once; new fields get
  their defaults.
- Upgrades are run on the state before anything of it reaches the object.
"""

from __future__ import annotations

import atexit
import collections
import copyreg
import dataclasses
import warnings
from collections.abc import Callable, Iterable
from sys import getrefcount, intern
from typing import Any, NamedTuple
from weakref import ref

from perdure.errors import CannotLoad, EvolutionWarning, NewerClass
from perdure.pickling.classes import shown_name
from perdure.pickling.declared import versioned_of

ARGUMENTS, POSITIONS, NAMES = "(", "[", ""  # how the values are stored: to __new__, as a list, by their names

_GET_STATE = dataclasses._dataclass_getstate  # type: ignore[attr-defined]  # of frozen dataclasses with slots
_SET_STATE = dataclasses._dataclass_setstate  # type: ignore[attr-defined]
_TUPLES = collections.namedtuple.__code__.co_filename
_slot_names: Callable[[type[Any]], list[str]] = copyreg._slotnames  # type: ignore[attr-defined]
_set = object.__setattr__


class Told(NamedTuple):
    """The layout that a record tells: in which form the values are stored, of which names, of which version."""

    form: str
    names: tuple[str, ...]
    version: int


class Layout:
    """What is declared of a class now."""

    __slots__ = (
        "args", "defaults", "form", "has_dict", "name", "names", "needs", "sets_itself", "slots", "text", "version",
    )  # fmt: skip

    def __init__(self, cls: type[Any], form: str, names: Iterable[str], version: int):
        self.form = form
        self.names = tuple(names)
        self.text = form + " ".join(self.names)
        self.version = version
        self.name = shown_name(cls)
        versioned = versioned_of(cls)
        # What payloads say of the class: see `perdure.pickling.lasting.shape`.
        self.args: tuple[Any, ...] = (self.name, self.text)
        if versioned is not None:
            self.args = (versioned.name, self.text, version, self.name)
        self.slots = frozenset(_slot_names(cls))
        self.has_dict = cls.__dictoffset__ != 0
        self.sets_itself = getattr(cls, "__setstate__", _SET_STATE) is not _SET_STATE
        self.defaults: dict[str, Callable[[], Any]] = {}
        self.needs: frozenset[str] = frozenset()  # fields that have no default
        self._learn_defaults(cls)

    def _learn_defaults(self, cls: type[Any]) -> None:
        needs = []
        if self.form == ARGUMENTS:
            given = cls._field_defaults
            self.defaults = {name: _giver(given[name]) for name in self.names if name in given}
        elif dataclasses.is_dataclass(cls):
            for field in dataclasses.fields(cls):
                if field.default is not dataclasses.MISSING:
                    self.defaults[field.name] = _giver(field.default)
                elif field.default_factory is not dataclasses.MISSING:
                    self.defaults[field.name] = field.default_factory
                elif field.init:
                    needs.append(field.name)
        self.needs = frozenset(needs)


def _giver(value: Any) -> Callable[[], Any]:
    return lambda: value


_layouts: dict[int, tuple[Any, Layout | None]] = {}  # by address: metaclasses may not be hashable


def layout_of(cls: type[Any]) -> Layout | None:
    """The layout of a class; None where there is nothing that a record should tell of it."""
    known = _layouts.get(id(cls))
    return known[1] if known is not None and known[0]() is cls else _look_up(cls)


def _look_up(cls: type[Any]) -> Layout | None:
    place = id(cls)
    try:
        found = _described(cls)
    except Exception:  # noqa: BLE001 (metaclasses and descriptors of the user's: what cannot be asked is not told)
        found = None
    _layouts[place] = ref(cls, lambda _: _layouts.pop(place, None)), found
    return found


def forget_layout(cls: type[Any]) -> None:
    """Something was declared of the class: look at it anew."""
    _layouts.pop(id(cls), None)


def _described(cls: type[Any]) -> Layout | None:
    versioned = versioned_of(cls)
    version = 0 if versioned is None else versioned.version
    if not cls.__flags__ & _HEAP or issubclass(cls, type):
        return None
    kind: Any = cls
    plain = all(getattr(cls, name) is getattr(object, name) for name in ("__reduce_ex__", "__reduce__"))
    if plain and type(cls).__hash__ is not None and cls in copyreg.dispatch_table:
        plain = False
    if plain and issubclass(cls, tuple) and is_named_tuple(cls):
        return Layout(cls, ARGUMENTS, kind._fields, version)
    own = kind.__getstate__ is not _PLAIN_STATE
    if (own and kind.__getstate__ is not _GET_STATE) or hasattr(cls, "__getnewargs__") or not plain:
        return Layout(cls, NAMES, (), version) if version else None
    if dataclasses.is_dataclass(cls):
        form = POSITIONS if own else NAMES
        if form == NAMES and hasattr(cls, "__setstate__") and not version:
            return None
        return Layout(cls, form, (field.name for field in dataclasses.fields(cls)), version)
    slots = _slot_names(cls)
    if version or (slots and not hasattr(cls, "__setstate__")):
        return Layout(cls, NAMES, slots, version)
    return None


_PLAIN_STATE: Any = object.__getstate__
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


def is_named_tuple(cls: type[Any]) -> bool:
    """Whether the instances of a tuple's subclass are made with what `collections.namedtuple` says."""
    code = getattr(getattr(cls, "__getnewargs__", None), "__code__", None)
    return isinstance(getattr(cls, "_fields", None), tuple) and code is not None and code.co_filename == _TUPLES


def told_by(text: str, version: int) -> Told:
    """The layout that a text (`Layout.text`) tells."""
    form = text[:1] if text[:1] in (ARGUMENTS, POSITIONS) and text else NAMES
    return Told(form, tuple(text[len(form) :].split()), version)


# -- states ------------------------------------------------------------------------------------------------


def by_name(state: Any, told: Told | None) -> dict[str, Any] | None:
    """A state as a new dict of attributes; None where it is something else that the class made of it."""
    if state is None:
        return {}
    if type(state) is dict:
        return dict(state)
    if type(state) is tuple and len(state) == 2 and all(type(part) in (dict, type(None)) for part in state):
        return {**(state[0] or {}), **(state[1] or {})}
    if told is not None and told.form == POSITIONS and type(state) is list and len(state) <= len(told.names):
        return dict(zip(told.names, state, strict=False))
    return None


def evolved(cls: type[Any], state: Any, told: Told | None) -> Any:
    """A stored state as the class has it now: a dict of attributes, or what the class itself made of it.

    Raises `NewerClass`, and what the steps of an upgrade raise.
    """
    layout = layout_of(cls)
    version = 0 if told is None else told.version
    named = by_name(state, told)
    before = state if named is None else named
    if layout is None or not layout.version:
        if version:
            raise newer(cls, version, 0)
        found = before
    else:
        found = _upgraded(cls, before, version or 1, layout.version)
    if layout is None or type(found) is not dict or (layout.sets_itself and not layout.version):
        return state if found is named and type(state) is not list else found
    return completed(cls, layout, found, told)


def _upgraded(cls: type[Any], state: Any, version: int, newest: int) -> Any:
    if version > newest:
        raise newer(cls, version, newest)
    versioned = versioned_of(cls)
    return state if version == newest or versioned is None else versioned.upgraded(state, version)


def newer(cls: type[Any], version: int, newest: int) -> NewerClass:
    """The error for a record of a version that the class does not have yet."""
    has = f"is at version {newest} here" if newest else "has no version here"
    by = f"version {version}" if version else "a version"
    return NewerClass(
        f"It was written by {by} of {shown(cls)}, which {has}.",
        hint="Use the release of your program that wrote it, or a later one.",
        version=version,
        known=newest,
    )


def completed(cls: type[Any], layout: Layout, state: dict[str, Any], told: Told | None) -> dict[str, Any]:
    """The state with the defaults of fields that are new; what the class has no more is said, and kept."""
    before = () if told is None else told.names
    for name in layout.names:
        if name not in state and name not in before:
            give = layout.defaults.get(name)
            if give is not None:
                state[name] = give()
            elif name in layout.needs:
                _say(cls, name, "is new and has no default: objects that were stored before do not have it")
    for name in state:
        if name not in layout.names and _is_gone(layout, name, before):
            _say(cls, name, "is no more an attribute of the class; what is stored of it is kept")
    if layout.form == POSITIONS:  # in the order in which it would be stored now
        return {name: state[name] for name in (*layout.names, *state) if name in state}
    return state


def _is_gone(layout: Layout, name: str, before: tuple[str, ...]) -> bool:
    """Whether an attribute that is not declared was declared before, or has no place any more."""
    if name in layout.slots or (layout.has_dict and not layout.names):
        return False  # a class that declares nothing may have any attribute
    return name in before or not layout.has_dict


_said: set[tuple[str, str]] = set()


def _say(cls: type[Any], name: str, what: str) -> None:
    if (shown(cls), name) not in _said:
        _said.add((shown(cls), name))
        warnings.warn(f"{shown(cls)}: {name!r} {what}.", EvolutionWarning, stacklevel=2)


def shown(cls: type[Any]) -> str:
    """A class as messages name it."""
    return f"{cls.__module__}:{cls.__qualname__}"


def natural(cls: type[Any], state: Any) -> Any:
    """A dict of attributes in the form in which `object.__getstate__` gives those of the class; else what it is."""
    if type(state) is not dict:
        return state
    slots = [name for name in _slot_names(cls) if name in state]
    if not slots:
        return state
    rest = {name: value for name, value in state.items() if name not in slots}
    return rest or None, {name: state[name] for name in slots}


# -- objects -----------------------------------------------------------------------------------------------


def put(obj: Any, state: Any) -> None:
    """Put an evolved state into a bare object: by its `__setstate__`, or by names."""
    cls = type(obj)
    layout = layout_of(cls)
    if layout is None or layout.sets_itself:
        set_state = getattr(obj, "__setstate__", None)
        if set_state is not None:
            if type(state) is tuple and issubclass(cls, BaseException):  # it had slots, and was none
                state = by_name(state, None) or state
            set_state(natural(cls, state) if layout is not None and layout.version else state)
            return
    if type(state) is not dict:
        named = by_name(state, None if layout is None else Told(layout.form, layout.names, 0))
        if named is None:
            raise CannotLoad(f"A {cls.__qualname__} cannot be given a {type(state).__name__} as its state.")
        state = named
    put_named(obj, state)


def put_named(obj: Any, state: dict[str, Any]) -> None:
    """Set attributes by their names, in slots or in the `__dict__`; what has no place there is kept aside."""
    cls = type(obj)
    slots = _slot_names(cls)
    into = obj.__dict__ if cls.__dictoffset__ else None
    aside = {}
    for name, value in state.items():
        if name in slots:
            _set(obj, name, value)
        elif into is not None:
            into[intern(name) if type(name) is str else name] = value
        else:
            aside[name] = value
    if aside:
        keep_aside(obj, aside)


class _Hold:
    """In the place of a weak reference to what allows none."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any):
        self.obj = obj

    def __call__(self) -> Any:
        return self.obj

    def is_last(self) -> bool:
        """Whether nobody else holds it."""
        return getrefcount(self.obj) <= _ALONE


_ALONE = 0
while not _Hold(object()).is_last():  # what the interpreter itself counts
    _ALONE += 1

ASIDE: dict[int, tuple[Any, dict[str, Any]]] = {}  # by address: stored attributes that objects have no place for
atexit.register(ASIDE.clear)  # while there is still everything that objects need to end
_LEAST_HELD = 1000
_most_held = _LEAST_HELD


def keep_aside(obj: Any, attributes: dict[str, Any]) -> None:
    """Keep attributes as long as the object lives; somewhat longer, if it allows no weak references."""
    place = id(obj)
    try:
        ASIDE[place] = ref(obj, lambda _: ASIDE.pop(place, None)), attributes
    except TypeError:
        ASIDE[place] = _Hold(obj), attributes
        if len(ASIDE) > _most_held:
            _let_go()


def _let_go() -> None:
    """Forget what was kept for objects that nobody else holds any more."""
    global _most_held
    for place, (held, _) in [*ASIDE.items()]:
        if type(held) is _Hold and held.is_last():
            ASIDE.pop(place, None)
    _most_held = max(_LEAST_HELD, 2 * len(ASIDE))


def kept_aside(obj: Any) -> dict[str, Any]:
    """What was kept aside for the object."""
    found = ASIDE.get(id(obj))
    return found[1] if found is not None and found[0]() is obj else {}


def fits_aside(cls: type[Any], attributes: Iterable[str]) -> Layout | None:
    """The layout of the class, if it has none of these attributes again."""
    layout = layout_of(cls)
    return None if layout is None or any(name in layout.names for name in attributes) else layout


def made_of_fields(cls: type[Any], told: Told, values: Iterable[Any]) -> Any:
    """A named tuple (or what became of its class) of the values that were stored for the told names."""
    layout = layout_of(cls)
    state = evolved(cls, dict(zip(told.names, values, strict=True)), told)
    if layout is None or layout.form != ARGUMENTS:
        kind: Any = cls
        obj = kind.__new__(cls)
        put(obj, state)
        return obj
    missing = [name for name in layout.names if name not in state]
    if missing:
        raise CannotLoad(
            f"{shown(cls)} has a field {missing[0]!r} without a default, which what is stored does not have.",
            hint="Give it a default, or the class a version and an upgrade (perdure.versioned, perdure.upgrade).",
        )
    new: Any = cls.__new__
    made = new(cls, *(state[name] for name in layout.names))
    rest = {name: value for name, value in state.items() if name not in layout.names}
    if cls.__dictoffset__:
        made.__dict__.update(rest)
    elif rest:
        keep_aside(made, rest)
    return made
