"""Goes through a payload for its references to the outside, without importing, calling or making anything it names.

- Whatever the payload names becomes a stand-in that keeps what is put into it and does nothing else.
- Steps of a path are those of `paths`: attributes by name, items by place, values of dicts by key.
- A payload that cannot be followed in this way, or that has large pieces, has no references that could be shown:
  nothing is raised for it.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, NamedTuple

from perdure.pickling import lasting, outside, references
from perdure.pickling.layouts import by_name, told_by
from perdure.pickling.outside import OutsideReference, same_text
from perdure.pickling.paths import dict_steps, is_atom, state_steps
from perdure.records.shape import parse_shape
from perdure.records.values import BUFFERED, KIND_BITS, LINKED, REDUCED, SHAPED, STATE


class Found(NamedTuple):
    """A reference to the outside, and the steps that lead to it from what was pickled."""

    steps: str
    tag: str
    key: Any


def outside_references(payload: bytes, flags: int) -> Iterator[Found]:
    """The references to the outside in a payload, each object once; `flags` are those of its record."""
    waiting: list[tuple[str, Any]] = [("", _outline(payload, flags))]
    seen: set[int] = set()
    while waiting:
        steps, part = waiting.pop()
        if is_atom(part) or id(part) in seen:
            continue
        seen.add(id(part))
        if type(part) is OutsideReference:
            yield Found(steps, part.tag, part.key)
        else:
            waiting += [(steps + step, nested) for step, nested in reversed(list(_parts(part)))]


def path_to(name: str, payload: bytes, flags: int, tag: str, key: Any) -> str:
    """The path from `name`, what was pickled, to the first reference of that tag and key; `name` if there is none."""
    wanted = same_text(tag, key)
    for found in outside_references(payload, flags):
        if same_text(found.tag, found.key) == wanted:
            return joined(name, found.steps)
    return name


def joined(name: str, steps: str) -> str:
    """A path as errors show it."""
    return f"{name} → {steps}" if steps else name


class Layout(NamedTuple):
    """A class of a payload: its name, the names of its attributes, as told or of one object, its version."""

    name: str
    names: tuple[str, ...]
    version: int


def told_layouts(payload: bytes, flags: int) -> tuple[tuple[str, ...] | None, list[Layout]]:
    """The names of the attributes in the state of a record, and the layouts of what is inside of it, each once.

    Those that the payload tells, and of other objects the attributes that they have; the standard library's classes,
    and perdure's own, only where they are told. None, and none, where it cannot be followed.
    """
    inside: list[_StandIn] = []
    made = _outline(payload, flags, inside)
    names = None
    if isinstance(made, _StandIn) and flags & KIND_BITS in (STATE, REDUCED):
        state = by_name(made.state, None)
        names = None if state is None else tuple(map(str, state))
    return names, list(dict.fromkeys(filter(None, map(_layout, inside))))


def _layout(made: _StandIn) -> Layout | None:
    told = made.told
    if told is None:
        top = made.name.partition(":")[0].partition(".")[0]
        if not top or top in _NOT_TOLD or (made.is_called and type(made.state) is not dict):  # or of a function
            return None
        told = Layout(made.name, (), 0)
    return told if told.names else told._replace(names=tuple(sorted(map(str, by_name(made.state, None) or ()))))


_NOT_TOLD = sys.stdlib_module_names | {outside.MODULE}


class _Kind(type):
    """Tells objects that a call has made from those that `__new__` made alone, as pickles make plain ones."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.is_called = True
        return made


class _StandIn(metaclass=_Kind):
    """Any object of any class: what it was made with, and what was put into it."""

    args: tuple[Any, ...]
    state: Any
    items: list[Any]
    pairs: list[tuple[Any, Any]]
    name = ""
    told: Layout | None = None
    among: list[_StandIn] | None = None  # where each is noted that is made
    is_called = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.args, made.state, made.items, made.pairs = args, None, [], []
        if cls.among is not None:
            cls.among.append(made)
        return made

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __call__(self, *args: Any) -> Any:
        return _StandIn(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.items.append(item)

    add = append

    def extend(self, items: Iterable[Any]) -> None:
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class _Outliner(pickle.Unpickler):
    inside: list[_StandIn] | None = None

    def _class(self, name: str = "", *_: Any, told: Layout | None = None) -> Any:
        return _Kind("_StandIn", (_StandIn,), {"name": str(name), "told": told, "among": self.inside})

    def _tell(self, name: str, text: str, version: int = 0, *_: str) -> Any:
        told = Layout(name, told_by(text, version).names, version)
        cls: type[_StandIn] = self._class(name, told=told)
        if told.names:
            cls.__new__(cls)  # so that it is noted also where another function makes the objects
        return cls

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == outside.MODULE:
            if global_name == outside.NAME:
                return OutsideReference
            if global_name == references.named.__name__:
                return self._class  # it gives the class that it is called with the name of
            if global_name == lasting.SHAPE:
                return self._tell
        return self._class(f"{module_name}:{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn(pid)


def _outline(payload: bytes, flags: int, inside: list[_StandIn] | None = None) -> Any:
    if flags & BUFFERED:
        return None
    try:
        shape = parse_shape(payload) if flags & SHAPED else None
        unpickler = _Outliner(io.BytesIO(payload if shape is None else payload[len(shape.head) :]), buffers=repeat(b""))
        unpickler.inside = inside
        graph = unpickler.load()
        if shape is not None:
            return _made((), dict(zip(shape.names, graph, strict=True)))
        if flags & KIND_BITS == STATE:
            return _made((), graph[0] if flags & LINKED else graph)
        if flags & KIND_BITS == REDUCED:
            state, items, pairs, _ = unpickler.load()
            return _made(graph[1], state, items, pairs)
        return graph
    # What C pickle raises where a stand-in does not do what the real thing would.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError):
        return None


def _made(args: tuple[Any, ...], state: Any, items: Any = None, pairs: Any = None) -> _StandIn:
    made: _StandIn = _StandIn(*args)
    made.state, made.items, made.pairs = state, items or [], pairs or []
    return made


def _parts(part: Any) -> Iterator[tuple[str, Any]]:
    cls = type(part)
    if cls is list or cls is tuple:
        yield from ((f"[{index}]", item) for index, item in enumerate(part))
    elif cls is dict:
        yield from dict_steps(part.items())
    elif cls is set or cls is frozenset:
        yield from ((f"[member {index}]", item) for index, item in enumerate(part))
    elif issubclass(cls, _StandIn):
        yield from state_steps(part.state)
        yield from ((f"[{index}]", item) for index, item in enumerate(part.items))
        yield from dict_steps(part.pairs)
        yield from ((f".__reduce__()[1][{index}]", item) for index, item in enumerate(part.args))
