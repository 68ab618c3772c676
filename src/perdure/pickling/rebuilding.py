"""Reads payloads whose classes are not what they were: states go by names, upgrades run, what is missing is opaque.

- It takes over where C pickle met a layout that is another one by now (`Reshaped`), or a class that is not there.
- Values that are nested in others are done first, as pickle has it; in a circle, whoever was begun last.
- It is slower than C pickle by a factor of ten and more; nothing that fits its classes comes here.
"""

from __future__ import annotations

import _compat_pickle
import copyreg
import pickle
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from perdure.errors import ClassNotFound
from perdure.pickling.declared import DECLARED
from perdure.pickling.lasting import (
    KEEP,
    KEEPING,
    MADE,
    MEMBER,
    MODULE,
    SHAPE,
    keep,
    keeping,
    member,
    require_complete,
    shape,
)
from perdure.pickling.layouts import (
    ARGUMENTS,
    NAMES,
    Told,
    by_name,
    evolved,
    fits_aside,
    layout_of,
    made_of_fields,
    put,
    told_by,
)
from perdure.pickling.opaque import Missing, OpaqueValue
from perdure.pickling.references import named

Find = Callable[[str, str], Any]
_RECONSTRUCT = copyreg._reconstructor  # type: ignore[attr-defined]


class Reshaped(Exception):
    """A payload tells a layout that its class does not have any more: it has to be rebuilt."""


def check_shape(name: str, text: str, version: int = 0, hint: str = "") -> Any:
    """Stands for `_shape` while C pickle reads: the class, if what is told fits it; stops the reading else."""
    known = DECLARED.fitting.get((name, text, version))
    if known is not None:
        cls, module, qualname = known
        if hint:
            found = DECLARED.known.get(name)
        else:
            found = getattr(sys.modules.get(module), "__dict__", {}).get(qualname)
        if found is cls:
            return cls
    cls = shape(name, text, version, hint)
    layout = layout_of(cls) if isinstance(cls, type) else None
    if layout is None or layout.text != text or layout.version != version:
        raise Reshaped
    if version:
        require_complete(cls)
    if len(DECLARED.fitting) < MOST_FITTING:
        DECLARED.fitting[name, text, version] = cls, cls.__module__, cls.__qualname__
    return cls


def check_named(found: Any) -> Any:
    """What was found under a name alone; stops the reading if it has got a layout or a version since.

    Then its objects have their attributes elsewhere by now, new ones, or upgrades.
    """
    if isinstance(found, type) and layout_of(found) is not None:
        raise Reshaped
    return found


def find_named(name: str) -> Any:
    """Stands for `_named` while C pickle reads."""
    return check_named(named(name))


def check_keep(obj: Any, told: tuple[Any, dict[str, Any]]) -> None:
    """Stands for `_keep` while C pickle reads; stops the reading where the class has such an attribute again."""
    if fits_aside(type(obj), told[1]) is None:
        raise Reshaped
    keep(obj, told)


def check_keeping(cls: Any, fields: tuple[Any, ...], aside: dict[str, Any]) -> Any:
    """Stands for `_keeping` while C pickle reads."""
    layout = fits_aside(cls, aside)
    if layout is None or layout.form != ARGUMENTS or len(fields) != len(layout.names):
        raise Reshaped
    return keeping(cls, fields, aside)


CHECKED = {SHAPE: check_shape, named.__name__: find_named, KEEP: check_keep, KEEPING: check_keeping}
MOST_FITTING = 1000  # layouts that are remembered


_OWN = {
    SHAPE: "note_shape", MEMBER: "_member", MADE: "_make", named.__name__: "_named", KEEP: "_keep",
    KEEPING: "_keeping",
}  # fmt: skip


class Rebuilder(pickle._Unpickler):
    """Reads one payload by names. `find` gives classes and functions; with `lenient` what is missing is opaque."""

    proto: int
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    memo: dict[int, Any]

    def __init__(
        self,
        file: Any,
        find: Find,
        *,
        lenient: bool = False,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Iterable[Any] | None = None,
    ):
        super().__init__(file, fix_imports=fix_imports, encoding=encoding, errors=errors, buffers=buffers)
        self._find = find
        self._lenient = lenient
        self._maps_old_names = fix_imports
        self.told: dict[int, tuple[Any, Told]] = {}
        self._missing: dict[str, Missing] = {}
        self._others: dict[int, str] = {}  # names of what was found and is no class
        self._unfilled: dict[int, Any] = {}  # objects whose state has not come yet

    def load(self) -> Any:
        """The next object."""
        value = super().load()  # type: ignore[no-untyped-call,unused-ignore]
        for obj in [*self._unfilled.values()]:  # pickle leaves an empty state out
            self._fill(obj, {})
        return value

    # -- names -----------------------------------------------------------------------------------------------

    def find_class(self, module: str, name: str, /) -> Any:
        if module == MODULE:
            own = _OWN.get(name)
            if own is not None:
                return getattr(self, own)
        if getattr(self, "proto", 4) < 3 and self._maps_old_names:
            if (module, name) in _compat_pickle.NAME_MAPPING:
                module, name = _compat_pickle.NAME_MAPPING[module, name]
            elif module in _compat_pickle.IMPORT_MAPPING:
                module = _compat_pickle.IMPORT_MAPPING[module]
        return self._found(f"{module}:{name}", "", self._find, module, name)

    def _found(self, name: str, hint: str, find: Callable[..., Any], *args: Any) -> Any:
        try:
            found = find(*args)
        except ClassNotFound:
            if not self._lenient:
                raise
            return self._missing.setdefault(name, Missing(name, hint))
        if not isinstance(found, type):
            self._others[id(found)] = name
        elif layout_of(found) is not None:  # it had no version and no layout yet, if nothing tells another
            self.told.setdefault(id(found), (found, Told(NAMES, (), 0)))
        return found

    def _named(self, name: str) -> Any:
        return self._found(name, "", named, name)

    def note_shape(self, name: str, text: str, version: int = 0, hint: str = "") -> Any:
        """Stands for `_shape`: what comes of the class is filled by the names that are told."""
        cls = self._found(name, hint, shape, name, text, version, hint)
        told = told_by(text, version)
        if type(cls) is Missing:
            cls.told = told
        else:
            self.told[id(cls)] = cls, told
        return cls

    def _member(self, cls: Any, name: str, value: Any) -> Any:
        if type(cls) is Missing:
            return OpaqueValue(cls, member, (cls, name, value), {})
        return member(cls, name, value)

    def _keep(self, obj: Any, told: tuple[Any, dict[str, Any]]) -> None:
        state, aside = told
        self._unfilled.pop(id(obj), None)
        if type(obj) is OpaqueValue:
            obj.take(state, aside)
            return
        cls = type(obj)
        layout = self.told.get(id(cls), (None, None))[1]
        before = by_name(state, layout)
        if before is None:
            put(obj, state)  # the class makes something else of it by now
        else:
            put(obj, evolved(cls, {**before, **aside}, layout))

    def _keeping(self, cls: Any, fields: tuple[Any, ...], aside: dict[str, Any]) -> Any:
        if type(cls) is Missing:
            return OpaqueValue(cls, keeping, (cls, fields, aside), {})
        told = self.told[id(cls)][1]
        names = (*told.names, *aside)
        return made_of_fields(cls, told._replace(names=names), (*fields, *aside.values()))

    # -- objects ---------------------------------------------------------------------------------------------

    def _make(self, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = self._others.get(id(cls))
        if name is not None and self._lenient:  # what was a class is something else by now
            cls = self._missing.setdefault(name, Missing(name))
        if type(cls) is Missing:
            return OpaqueValue(cls, None, args, kwargs)
        _, told = self.told.get(id(cls), (None, None))
        if told is not None and told.form == ARGUMENTS and len(args) == len(told.names) and not kwargs:
            return made_of_fields(cls, told, args)
        return self._noted(cls, told, cls.__new__(cls, *args, **kwargs))

    def _noted(self, cls: Any, told: Told | None, obj: Any) -> Any:
        if told is not None and type(obj) is cls:
            self._unfilled[id(obj)] = obj
        return obj

    def _call(self, function: Any, args: Any) -> Any:
        if type(function) is Missing:
            return OpaqueValue(function, function, args, {})
        if function is getattr and isinstance(args[0], (Missing, OpaqueValue)):
            if isinstance(args[0], Missing):  # a nested class, as protocols below 4 spell it
                return self._missing.setdefault(nested := f"{args[0].name}.{args[1]}", Missing(nested))
            return OpaqueValue(args[0].missing, getattr, args, {})
        if function is _RECONSTRUCT and len(args) == 3:
            cls, base, state = args
            if type(cls) is Missing:
                return OpaqueValue(cls, _RECONSTRUCT, args, {})
            _, told = self.told.get(id(cls), (None, None))
            if told is not None and told.form == ARGUMENTS and base is tuple and len(state) == len(told.names):
                return made_of_fields(cls, told, state)
            return self._noted(cls, told, function(*args))
        return function(*args)

    def _fill(self, obj: Any, state: Any) -> bool:
        """Put the state in, if that is to be done by names."""
        self._unfilled.pop(id(obj), None)
        if type(obj) is OpaqueValue:
            obj.take(state)
            return True
        cls = type(obj)
        told = self.told.get(id(cls))
        if told is None:
            return False
        put(obj, evolved(cls, state, told[1]))
        return True

    # -- opcodes ---------------------------------------------------------------------------------------------

    def _newobj(self) -> None:
        args = self.stack.pop()
        self.append(self._make(self.stack.pop(), args, {}))

    def _newobj_ex(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self.append(self._make(self.stack.pop(), args, kwargs))

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _build(self) -> None:
        state = self.stack.pop()
        if not self._fill(self.stack[-1], state):
            self.append(state)
            _inherited[pickle.BUILD[0]](self)

    def _instantiate(self, klass: Any, args: Any) -> None:
        if type(klass) is Missing:
            self.append(OpaqueValue(klass, klass, tuple(args), {}))
        else:
            super()._instantiate(klass, args)  # type: ignore[misc]

    def _items(self, code: int, items: list[Any] | None) -> None:
        """Give items to an opaque object; to any other as pickle does."""
        target = self.stack[-1]
        if code == pickle.SETITEMS[0]:
            target.take_pairs(zip(items[::2], items[1::2], strict=True))  # type: ignore[index]
        else:
            target.take_items(items)

    dispatch: ClassVar[dict[int, Callable[..., Any]]] = {**pickle._Unpickler.dispatch}


def _taking(code: int) -> Callable[[Rebuilder], None]:
    """An opcode that fills a container with what stands above the last mark."""

    def load(self: Rebuilder) -> None:
        if type(self.metastack[-1][-1]) is OpaqueValue:  # type: ignore[attr-defined]
            self._items(code, self.pop_mark())
        else:
            _inherited[code](self)

    return load


def _taking_one(code: int, many: int, count: int) -> Callable[[Rebuilder], None]:
    """The same for one item, or one key with its value, without a mark."""

    def load(self: Rebuilder) -> None:
        if type(self.stack[-1 - count]) is OpaqueValue:
            items = self.stack[-count:]
            del self.stack[-count:]
            self._items(many, items)
        else:
            _inherited[code](self)

    return load


_inherited: dict[int, Callable[..., Any]] = {**pickle._Unpickler.dispatch}
Rebuilder.dispatch.update({
    pickle.NEWOBJ[0]: Rebuilder._newobj,
    pickle.NEWOBJ_EX[0]: Rebuilder._newobj_ex,
    pickle.REDUCE[0]: Rebuilder._reduce,
    pickle.BUILD[0]: Rebuilder._build,
    pickle.APPENDS[0]: _taking(pickle.APPENDS[0]),
    pickle.SETITEMS[0]: _taking(pickle.SETITEMS[0]),
    pickle.ADDITEMS[0]: _taking(pickle.ADDITEMS[0]),
    pickle.APPEND[0]: _taking_one(pickle.APPEND[0], pickle.APPENDS[0], 1),
    pickle.SETITEM[0]: _taking_one(pickle.SETITEM[0], pickle.SETITEMS[0], 2),
})  # fmt: skip
