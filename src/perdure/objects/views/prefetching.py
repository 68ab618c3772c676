"""Reading ahead along a path of attributes, `items.owner`: one read for all objects of each step.

- What an attribute holds is gone through as far as lists, tuples, sets and the values of dicts go.
- Nothing is touched by it: what is loaded dozes. Other objects than those on the path are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from perdure.errors import InvalidArgument, NoSuchPath
from perdure.objects.instances import states
from perdure.objects.instances.ghosts import real_class
from perdure.objects.instances.guests import is_record
from perdure.objects.instances.persistable import Persistable
from perdure.objects.views.reader import Reader

Paths = str | Sequence[str]


def prefetch(reader: Reader, objects: Iterable[Any], paths: Paths) -> None:
    """Load what the paths lead to, from each of the objects on.

    Raises `NoSuchPath` where none of the objects of a step has the attribute, or where those that do hold something
    that is neither a reference nor a container of any, nor None.
    """
    beginning = [obj for obj in objects if isinstance(obj, Persistable)]
    for path in paths_of(paths):
        level = beginning
        for name in path.split("."):
            level = _step(level, name, path)
            reader.load_states(level)


def paths_of(paths: Any) -> Iterable[str]:
    """One path or several; raises `InvalidArgument` for what is none."""
    found = (paths,) if isinstance(paths, str) else tuple(paths) if isinstance(paths, Iterable) else (paths,)
    if not all(isinstance(path, str) for path in found):
        raise InvalidArgument(
            f"prefetch is a path of attributes or several, not {paths!r:.60}.", hint='Write prefetch="items.owner".'
        )
    return found


def _step(level: list[Any], name: str, path: str) -> list[Any]:
    """The objects that the attribute refers to, each once."""
    found: dict[int, Any] = {}
    is_there = plain = False
    for obj in level:
        for attribute, value in states.attributes(obj):
            if attribute == name:
                is_there = True
                before = len(found)
                found.update((id(target), target) for target in _targets(value))
                plain = plain or (len(found) == before and not _may_hold_references(value))
    if level and (not is_there or (plain and not found)):
        what = "leads to no object" if is_there else "is no attribute of theirs"
        raise NoSuchPath(
            f"{path!r} leads nowhere: {name!r} {what}, looked for in {len(level)} objects, the first of class"
            f" {real_class(level[0]).__qualname__}.",
            hint="A path is made of attributes that hold references, or lists, tuples, sets or dicts of them.",
            path=path,
        )
    return list(found.values())


def _targets(value: Any) -> Iterator[Any]:
    """The objects that are records of their own in a value, through containers however deep."""
    seen = {id(value)}
    waiting = [value]
    while waiting:
        part = waiting.pop()
        kind = type(part)
        if issubclass(kind, Persistable):
            yield part
            continue
        inside = part.values() if kind is dict else part if kind in _CONTAINERS else ()
        for each in inside:
            if id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)


def _may_hold_references(value: Any) -> bool:
    kind = type(value)
    return value is None or kind is dict or kind in _CONTAINERS or is_record(value)


_CONTAINERS = (list, tuple, set, frozenset)
