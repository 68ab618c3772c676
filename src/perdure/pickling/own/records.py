"""The payloads of records without a good seal: read by perdure's own reader, and checked to be what records hold."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any

from perdure.pickling.own.bounds import check_keys
from perdure.pickling.own.building import Building, Outside, check_names
from perdure.pickling.own.limits import Refused, Wrong
from perdure.pickling.own.machine import Machine


class Payload:
    """What is pickled in a payload, one after the other. `cls` is the class of the record, where it has one."""

    def __init__(self, data: bytes, buffers: Any, objects: Sequence[Any], outside: Outside | None, *, lenient: bool):
        self._building = Building(objects, outside, lenient=lenient)
        self._machine = Machine(data, self._building, buffers=buffers)
        self._building.machine = self._machine

    def load(self) -> Any:
        """The next one."""
        return self._machine.load()

    def end(self) -> None:
        """Raise `CorruptRecord` if there are more."""
        self._machine.require_end()

    def making(self) -> tuple[Any, ...]:
        """How the object is made: by its class or another registered one, with arguments."""
        made = self.load()
        with self._machine.told():
            if type(made) is not tuple or len(made) != 3:
                raise Wrong("it does not say how its object is made")
            function, args, kwargs = made
            if type(args) is not tuple or type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
                raise Wrong("its object is made of something else than arguments")
            if not (function is None or isinstance(function, type)):
                raise Refused("its object is made by something else than a registered class")
            return made

    def filling(self, cls: type[Any]) -> tuple[Any, ...]:
        """What is put into the object."""
        filled = self.load()
        self.end()
        with self._machine.told():
            if type(filled) is not tuple or len(filled) != 4:
                raise Wrong("it does not say what its object is filled with")
            state, items, pairs, setter = filled
            if setter is not None:
                raise Refused("its state is put in by a function that it names")
            if not (items is None or type(items) is list) or not (pairs is None or type(pairs) is list):
                raise Wrong("its object is filled with something else than items")
            if any(type(pair) is not tuple or len(pair) != 2 for pair in pairs or ()):
                raise Wrong("its object is filled with something else than pairs")
            check_keys(self._machine, filled, [key for key, _ in pairs or ()])
            self.check_state(cls, state)
            return filled

    def check_state(self, cls: type[Any] | None, state: Any) -> None:
        """Raise `UntrustedRecord` for a state with attributes that are Python's own."""
        with self._machine.told():
            if not isinstance(getattr(cls, "__setstate__", None), FunctionType):
                check_names(state)
