"""How a stored state of a class becomes one of today's: decided once for each class and each shape of its records."""

from __future__ import annotations

from typing import Any

from perdure.pickling.layouts import Layout, Told, completed, evolved
from perdure.records.frame import Parts
from perdure.records.shape import Shape, declared_names, parse_shape
from perdure.records.values import SHAPED, Record


class Plan:
    """For a class that has a version, or attributes by its declaration; other classes have none."""

    __slots__ = ("_fitting", "_unfitting", "cls", "layout")

    def __init__(self, cls: type[Any], layout: Layout):
        self.cls = cls
        self.layout = layout
        self._fitting: dict[int, Shape] = {}  # by address, held: shapes whose states need nothing
        self._unfitting: dict[int, Shape] = {}

    def fits(self, parts: Parts) -> bool:
        """Whether the state in a record of a simple class is as the class has it now."""
        shape = parts[9]
        if shape is None or not self.is_current(parts[4]):
            return False
        if self._fitting.get(id(shape)) is shape:
            return True
        return self._unfitting.get(id(shape)) is not shape and self._look_at(shape)

    def is_current(self, version: int) -> bool:
        """Whether a record of that version needs no step of an upgrade."""
        own = self.layout.version
        return version == own or (own == 1 and version == 0)

    def state(self, record: Record, state: Any) -> Any:
        """The state in a record as the class has it now; raises what `evolved` does."""
        names: tuple[str, ...] = ()
        if record.flags & SHAPED:
            names = declared_names(parse_shape(record.payload))
        elif type(state) is list:  # of a dataclass, before format 2 told the names
            names = self.layout.names
        return evolved(self.cls, state, Told(self.layout.form, names, record.class_version))

    def _look_at(self, shape: Shape) -> bool:
        told = Told(self.layout.form, declared_names(shape), self.layout.version)
        fits = not any(name not in shape.names and name not in told.names for name in self.layout.defaults)
        if fits:  # nothing is added, but something may have to be said
            completed(self.cls, self.layout, dict.fromkeys(shape.names), told)
        (self._fitting if fits else self._unfitting)[id(shape)] = shape
        return fits
