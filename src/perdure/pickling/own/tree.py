"""What was found by a look, as lines of text: a tree, shortened and escaped, made without recursion.

- No line of it is longer than `WIDTH`; nothing in it can steer a terminal.
- What was shown before is not shown again: its path is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from perdure.pickling.own.looking import Beside, Made, Named, Told

WIDTH = 120
LONGEST_TEXT = 80  # characters, or bytes, of one value
MOST_MEMBERS = 100  # of one container
DEEPEST = 30

_ATOMS = (str, bytes, bytearray, int, float, complex, bool, type(None), type(...))
_CONTAINERS = (list, tuple, dict, set, frozenset)
Line = tuple[int, str, str, Any]  # indentation, label, path, value


def lines_of(label: str, value: Any) -> Iterator[str]:
    """The lines that show a value."""
    seen: dict[int, str] = {}
    waiting: list[Line] = [(0, label, "", value)]
    while waiting:
        level, label, path, part = waiting.pop()
        before = seen.get(id(part))
        begin = "  " * level + (f"{label}: " if label else "")
        if before is not None:
            yield _cut(f"{begin}the same as {before or 'all of it'}")
            continue
        yield _cut(begin + _shown(part))
        if not isinstance(part, _ATOMS) and not (type(part) is tuple and not part):
            seen[id(part)] = path
            some = [*islice(_steps(part), MOST_MEMBERS + 1)]
            more = [(level + 1, step, f"{path}{step}", each) for step, each in some]
            if level >= DEEPEST and more:
                yield "  " * (level + 1) + "…"
                continue
            if len(more) > MOST_MEMBERS:
                more[-1] = (level + 1, "", path, Told("…"))
            waiting += reversed(more)


def _shown(part: Any) -> str:
    """A value in one line, without what is in it."""
    kind = type(part)
    if kind is Beside:
        return "a buffer that is not in it"
    if kind in (str, bytes, bytearray):
        short = part[:LONGEST_TEXT]
        return f"{short!r}" + (f" … of {len(part)}" if len(part) > LONGEST_TEXT else "")
    if kind is int and part.bit_length() > 256:
        return f"a number of {part.bit_length()} bits"
    if kind in _CONTAINERS:
        return f"{kind.__name__} of {len(part)}" if part else f"{kind.__name__}, empty"
    if kind is Named:
        return f"<{escaped(part.name)}>"
    if kind is Told:
        return escaped(part.text)
    if kind is Made:
        return escaped(part.by.name) if type(part.by) is Named else "made by a value"
    return f"{part!r}"[:LONGEST_TEXT] if isinstance(part, _ATOMS) else f"a {kind.__name__}"


def _steps(part: Any) -> Iterator[tuple[str, Any]]:
    """What is in a value, each with the step to it."""
    kind = type(part)
    if kind in (list, tuple):
        yield from ((f"[{place}]", each) for place, each in enumerate(part))
    elif kind in (set, frozenset):
        yield from ((f"{{{place}}}", each) for place, each in enumerate(part))
    elif kind is dict:
        for place, (key, value) in enumerate(part.items()):
            if isinstance(key, _ATOMS):
                yield f"[{_shown(key)}]", value
            else:
                yield f"[key {place}]", key
                yield f"[value {place}]", value
    elif kind is Made:
        if type(part.by) is not Named:
            yield "(by)", part.by
        yield from ((f"({place})", each) for place, each in enumerate(part.args))
        yield from ((f"({escaped(name)}=)", each) for name, each in part.kwargs.items())
        for state in part.states:
            yield from _of_state(state)
        yield from ((f"[{place}]", each) for place, each in enumerate(part.items))
        for key, value in part.pairs:
            yield f"[{_shown(key)}]", value


def _of_state(state: Any) -> Iterator[tuple[str, Any]]:
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    if all(type(each) in (dict, type(None)) for each in parts):
        for each in parts:
            for name, value in (each or {}).items():
                yield (f".{escaped(name)}" if type(name) is str else f".({_shown(name)})"), value
    else:
        yield ".__setstate__()", state


def escaped(text: str) -> str:
    """A text that is safe to print, shortened."""
    short = text[: 2 * LONGEST_TEXT]
    return short if short.isprintable() else ascii(short)[1:-1]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
