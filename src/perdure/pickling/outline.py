"""Goes through a payload for its references to the outside, without importing, calling or making anything it names.

- Whatever the payload names becomes a stand-in that keeps what is put into it and does nothing else.
- Steps of a path are those of `paths`: attributes by name, items by place, values of dicts by key.
- A payload that cannot be followed in this way, or that has large pieces, has no references that could be shown:
  nothing is raised for it.
"""

from __future__ import annotations

import io
import pickle
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
    """A class whose layout a payload tells: its name, the names of its attributes, its version."""

    name: str
    names: tuple[str, ...]
    version: int


def told_layouts(payload: bytes, flags: int) -> tuple[tuple[str, ...] | None, list[Layout]]:
    """The names of the attributes in the state of a record, and the layouts that its payload tells, each once.

    None, and none, where it cannot be followed.
    """
    found: list[Layout] = []
    made = _outline(payload, flags, found)
    names = None
    if isinstance(made, _StandIn) and flags & KIND_BITS in (STATE, REDUCED):
        state = by_name(made.state, None)
        names = None if state is None else tuple(map(str, state))
    return names, list(dict.fromkeys(found))


class _StandIn:
    """Any object of any class: what it was made with, and what was put into it."""

    args: tuple[Any, ...]
    state: Any
    items: list[Any]
    pairs: list[tuple[Any, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        made.args, made.state, made.items, made.pairs = args, None, [], []
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


def _stand_in_class(name: str = "", *_: Any) -> type[_StandIn]:
    return type("_StandIn", (_StandIn,), {"name": name})


class _Outliner(pickle.Unpickler):
    told: list[Layout] | None = None

    def _tell(self, name: str, text: str, version: int = 0, *_: str) -> Any:
        if self.told is not None:
            self.told.append(Layout(name, told_by(text, version).names, version))
        return _stand_in_class(name)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == outside.MODULE:
            if global_name == outside.NAME:
                return OutsideReference
            if global_name == references.named.__name__:
                return _stand_in_class  # it gives the class that it is called with the name of
            if global_name == lasting.SHAPE:
                return self._tell
        return _stand_in_class(f"{module_name}:{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn(pid)


def _outline(payload: bytes, flags: int, told: list[Layout] | None = None) -> Any:
    if flags & BUFFERED:
        return None
    try:
        shape = parse_shape(payload) if flags & SHAPED else None
        unpickler = _Outliner(io.BytesIO(payload if shape is None else payload[len(shape.head) :]), buffers=repeat(b""))
        unpickler.told = told
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
