"""Opcodes that make plain containers and fill them; what is filled was made by this very pickle."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from perdure.pickling.own.bounds import CONTAINERS, FRAIL, KINDS, check_keys, is_nested
from perdure.pickling.own.limits import LIMIT_HINT, Refused, Wrong
from perdure.pickling.own.stack import OWED, Arguments, Stack, require_values


class Filling(Stack):
    """A machine whose stack can be filled into containers."""

    kinds = CONTAINERS  # and registered classes that are built on one of them
    kept: list[Any]  # what objects of classes were given, where containers are nested in it
    frail: list[Any]  # containers whose destructors call each other

    def know(self, cls: type[Any]) -> None:
        """Objects of that class may be made."""
        if issubclass(cls, KINDS):
            self.kinds |= {cls}

    def keep(self, content: Any) -> None:
        """Note what an object of a class is given: it is looked at when the pickle ends."""
        if is_nested(content, self.kinds):
            self.kept.append(content)

    def watch(self, container: Any) -> None:
        """Note a container that was made by name."""
        if type(container) in FRAIL:
            self.frail.append(container)

    def target(self, obj: Any) -> Any:
        """What items are put into in the place of an object that is no plain container. Raises `Refused`."""
        raise Refused(f"items are put into a {type(obj).__name__}")


def _mark(machine: Filling) -> None:
    if len(machine.marks) >= machine.limits.depth:
        raise Refused(f"containers are nested more than {machine.limits.depth} deep", LIMIT_HINT)
    machine.marks.append(machine.stack)
    machine.stack = []


# -- made ----------------------------------------------------------------------------------------------------


def _empty(kind: type[Any]) -> Callable[[Filling], None]:
    def action(machine: Filling) -> None:
        machine.count_made()
        machine.stack.append(kind())

    return action


def _empty_tuple(machine: Filling) -> None:
    machine.stack.append(())


def _list(machine: Filling) -> None:
    items = machine.to_mark()
    require_values(items)
    machine.count_made()
    machine.stack.append(items)


def _push_tuple(machine: Filling, items: tuple[Any, ...]) -> None:
    machine.count_made()
    machine.stack.append(items if OWED.isdisjoint(map(type, items)) else Arguments(items))


def _tuple(machine: Filling) -> None:
    _push_tuple(machine, tuple(machine.to_mark()))


def _tuple_of(count: int) -> Callable[[Filling], None]:
    def action(machine: Filling) -> None:
        stack = machine.stack
        items = tuple(stack[-count:])
        if len(items) < count:
            raise Wrong("its stack is empty")
        del stack[-count:]
        _push_tuple(machine, items)

    return action


def _dict(machine: Filling) -> None:
    items = machine.to_mark()
    made: dict[Any, Any] = {}
    machine.count_made()
    machine.stack.append(made)
    _set_items(machine, made, items)


def _frozenset(machine: Filling) -> None:
    items = machine.to_mark()
    require_values(items)
    machine.count_made()
    check_keys(machine, None, items)
    machine.stack.append(frozenset(items))


# -- filled --------------------------------------------------------------------------------------------------


def _append(machine: Filling) -> None:
    item = machine.value()
    target = machine.stack[-1]
    if type(target) is list:
        target.append(item)
    else:
        _extend(machine, target, [item])


def _appends(machine: Filling) -> None:
    items = machine.to_mark()
    _extend(machine, machine.stack[-1], items)


def _extend(machine: Filling, target: Any, items: list[Any]) -> None:
    require_values(items)
    if type(target) is list:
        target.extend(items)
    else:
        target = machine.target(target)
        for item in items:
            type(target).append(target, item)


def _set_item(machine: Filling) -> None:
    value, key = machine.value(), machine.value()
    _set_items(machine, machine.stack[-1], [key, value])


def _set_items_to_mark(machine: Filling) -> None:
    items = machine.to_mark()
    _set_items(machine, machine.stack[-1], items)


def _set_items(machine: Filling, target: Any, items: list[Any]) -> None:
    require_values(items)
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values):
        raise Wrong("a key has no value")
    check_keys(machine, target, keys)
    if type(target) is dict:
        target.update(zip(keys, values, strict=True))
        return
    target = machine.target(target)
    set_item = type(target).__setitem__
    for key, value in zip(keys, values, strict=True):
        set_item(target, key, value)


def _add_items(machine: Filling) -> None:
    items = machine.to_mark()
    require_values(items)
    target = machine.stack[-1]
    check_keys(machine, target, items)
    if type(target) is set:
        target.update(items)
        return
    target = machine.target(target)
    add = type(target).add
    for item in items:
        add(target, item)


ACTIONS: dict[int, Callable[[Any], None]] = {
    pickle.MARK[0]: _mark,
    pickle.EMPTY_LIST[0]: _empty(list),
    pickle.EMPTY_DICT[0]: _empty(dict),
    pickle.EMPTY_SET[0]: _empty(set),
    pickle.EMPTY_TUPLE[0]: _empty_tuple,
    pickle.LIST[0]: _list,
    pickle.TUPLE[0]: _tuple,
    pickle.TUPLE1[0]: _tuple_of(1),
    pickle.TUPLE2[0]: _tuple_of(2),
    pickle.TUPLE3[0]: _tuple_of(3),
    pickle.DICT[0]: _dict,
    pickle.FROZENSET[0]: _frozenset,
    pickle.APPEND[0]: _append,
    pickle.APPENDS[0]: _appends,
    pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items_to_mark,
    pickle.ADDITEMS[0]: _add_items,
}
