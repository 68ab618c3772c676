"""Reading pickles that stand one after the other, without a seal: what `loads`, `load` and stores call."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any

from perdure.pickling.own.building import Building, Outside
from perdure.pickling.own.limits import LIMITS, Limits, Refused
from perdure.pickling.own.machine import Machine


def reader(
    data: bytes,
    objects: Sequence[Any] = (),
    outside: Outside | None = None,
    *,
    lenient: bool = False,
    limits: Limits = LIMITS,
    buffers: Iterable[Any] | None = None,
    encoding: str = "ASCII",
    errors: str = "strict",
    memo: dict[int, Any] | None = None,
) -> Machine:
    """A machine for the pickles in `data`; its `load` gives one after the other."""
    if encoding != "bytes":
        codecs.lookup(encoding)  # the caller's mistake is not the pickle's
    building = Building(objects, outside, lenient=lenient)
    machine = Machine(data, building, limits=limits, buffers=buffers, encoding=encoding, errors=errors, memo=memo)
    building.machine = machine
    return machine


class _OfValues(Building):
    """Makes values of the standard library, and of no class of the program's."""

    def _class(self, name: str, hint: str = "") -> Any:
        raise Refused(f"it names the class {name}")


def read_values(data: bytes) -> Any:
    """The one value in `data`, if no code of the program's is needed for it; else `UntrustedRecord`."""
    building = _OfValues()
    building.machine = machine = Machine(data, building)
    value = machine.load()
    machine.require_end()
    return value


def read(data: bytes, **settings: Any) -> Any:
    """The one value in `data`; see `reader`. Raises `CorruptRecord` for what follows it."""
    machine = reader(data, **settings)
    value = machine.load()
    machine.require_end()
    return value
