"""The payloads of records without a good seal: read by perdure's own reader, and checked to be what records hold."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any

from perdure.pickling.own.bounds import check_keys
from perdure.pickling.own.building import Building, Outside, check_names
from perdure.pickling.own.limits import LIMITS, Limits, Refused, Wrong
from perdure.pickling.own.machine import Machine


class Payload:
    """What is pickled in a payload, one after the other. `cls` is the class of the record, where it has one."""

    def __init__(
        self,
        data: bytes,
        buffers: Any,
        objects: Sequence[Any],
        outside: Outside | None,
        *,
        lenient: bool,
        limits: Limits = LIMITS,
    ):
        self._building = Building(objects, outside, lenient=lenient)
        self._machine = Machine(data, self._building, buffers=buffers, limits=limits)
        self._building.machine = self._machine

    def load(self) -> Any:
        """The next one."""
        return self._machine.load()

    def end(self) -> None:
        """Raise `CorruptRecord` if there are more."""
        self._machine.require_end()

    def making(self) -> tuple[Any, ...]:
        """How the object is made: by its class or another registered one, with arguments."""
        made: tuple[Any, ...] = self.load()
        try:
            _check_making(made)
        except (Refused, Wrong) as error:
            raise self._machine.told(error) from None
        return made

    def filling(self, cls: type[Any]) -> tuple[Any, ...]:
        """What is put into the object."""
        filled: tuple[Any, ...] = self.load()
        self.end()
        try:
            _check_filling(filled)
            check_keys(self._machine, None, [key for key, _ in filled[2] or ()])
        except (Refused, Wrong) as error:
            raise self._machine.told(error) from None
        self.check_state(cls, filled[0])
        return filled

    def check_state(self, cls: type[Any] | None, state: Any) -> None:
        """Raise `UntrustedRecord` for a state with attributes that are Python's own."""
        try:
            if not isinstance(getattr(cls, "__setstate__", None), FunctionType):
                check_names(state)
        except (Refused, Wrong) as error:
            raise self._machine.told(error) from None


def simple_state(
    data: bytes, objects: Sequence[Any], *, lenient: bool, names: tuple[str, ...] | None, limits: Limits = LIMITS
) -> Any:
    """The state of an object of a simple class, or the list of its values where the `names` stand before them."""
    building = Building(objects, lenient=lenient)
    building.machine = machine = Machine(data, building, limits=limits)
    state = machine.load()
    machine.require_end()
    if names is None or names not in _SAFE:
        try:
            check_names(state if names is None else dict.fromkeys(names))
        except (Refused, Wrong) as error:
            raise machine.told(error) from None
        if names is not None and len(_SAFE) < MOST_SAFE:
            _SAFE.add(names)
    return state


MOST_SAFE = 1000
_SAFE: set[tuple[str, ...]] = set()  # names of attributes that are those of a state


def _check_making(made: Any) -> None:
    if type(made) is not tuple or len(made) != 3:
        raise Wrong("it does not say how its object is made")
    function, args, kwargs = made
    if type(args) is not tuple or type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
        raise Wrong("its object is made of something else than arguments")
    if not (function is None or isinstance(function, type)):
        raise Refused("its object is made by something else than a registered class")


def _check_filling(filled: Any) -> None:
    if type(filled) is not tuple or len(filled) != 4:
        raise Wrong("it does not say what its object is filled with")
    _, items, pairs, setter = filled
    if setter is not None:
        raise Refused("its state is put in by a function that it names")
    if not (items is None or type(items) is list) or not (pairs is None or type(pairs) is list):
        raise Wrong("its object is filled with something else than items")
    if any(type(pair) is not tuple or len(pair) != 2 for pair in pairs or ()):
        raise Wrong("its object is filled with something else than pairs")
