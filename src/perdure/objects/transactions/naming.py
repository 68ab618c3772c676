"""What new objects are called: ids by the user's factory, or with numbers from the store's counter.

- Numbers are reserved in blocks, which grow with the commit; what is left over goes back.
- Ids of new objects are plain texts here, as those of loaded ones are: an `Id` takes twice the memory, and is one more
  object for the collector of garbage. The caller of the store gets an `Id`.
"""

from __future__ import annotations

import operator
import os
from typing import Any

from perdure.backends.base import Backend
from perdure.ids import Id, IdFactory
from perdure.objects.instances.classes import ClassFacts
from perdure.records.values import INTERNAL

FIRST_BLOCK, LAST_BLOCK = 32, 8192  # numbers reserved at a time: grows with the commit


class Numbers:
    """Numbers for new objects, reserved in blocks. A few stay for the next commit; more go back with the batch."""

    def __init__(self, backend: Backend):
        self._backend = backend
        self._block = FIRST_BLOCK
        self.end = 0  # after the last one that was reserved
        self._left = iter(range(0))
        self._process = os.getpid()

    def take(self) -> int:
        for number in self._left:
            return number
        first = self._backend.reserve(self._block, durable=False)
        self.end = first + self._block
        self._left = iter(range(first + 1, self.end))
        self._block = min(self._block * 8, LAST_BLOCK)
        return first

    def check_process(self) -> None:
        """A forked child must not go on with the numbers of its parent."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._left = iter(range(0))

    def give_back(self, *, all: bool = False) -> tuple[int, int]:
        """What goes back, as (first, end): what is left over, if it is too much to be kept."""
        if self._process != os.getpid():
            self.check_process()
        self._block = FIRST_BLOCK
        left = operator.length_hint(self._left)
        if left <= FIRST_BLOCK and not all:
            return self.end, self.end
        self._left = iter(range(0))
        return self.end - left, self.end

    def return_all(self) -> None:
        """Nothing will be named any more: numbers that nobody else can have come after are free again."""
        first, end = self.give_back(all=True)
        if first < end and not self._backend.read_only:
            self._backend.give_back(first, end)


class Naming:
    """Gives ids to new objects: by the user's factory, or from the store's counter."""

    def __init__(self, backend: Backend, factory: IdFactory | None):
        self._factory = factory
        self.counts = factory is None  # whether all numbers come from the store's counter
        self.numbers = Numbers(backend)

    def new(self, obj: Any, facts: ClassFacts) -> tuple[str, int]:
        """An id, and its number."""
        factory = self._factory
        if factory is None:
            number = self.numbers.take()
            return f"{facts.prefix}.{number}", number
        # A number is one object's, whatever its prefix: perdure's own records must take theirs from the same source.
        named = factory.new(obj) if factory.next_id_fn is not None else factory.name(obj, self.numbers.take())
        return (f"{facts.prefix}.{named.number}" if facts.flags & INTERNAL else str.__str__(named)), named.number

    def new_value(self, value: Any) -> Id[Any]:
        factory = self._factory or IdFactory()
        counts = factory.next_id_fn is None
        named = factory.name(value, self.numbers.take()) if counts else factory.new(value)
        return named if type(named) is Id else Id(named)
