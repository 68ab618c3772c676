"""Ids of objects: `PREFIX.N`.

- The number comes from one counter of a store and is never used again, whatever the prefix.
- Ids sort by number; they are safe as a file name and as a key in a database.
- A text from outside becomes an `Id` only through `parse_id`, which checks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from perdure.counters import machine_counter
from perdure.errors import InvalidId

T_co = TypeVar("T_co", covariant=True)
NextNumber = Callable[..., int]

_SHAPE = re.compile(r"[^\W\d][\w-]{0,99}\.(0|[1-9]\d{0,17})", re.ASCII)
_WIDE_SHAPE = re.compile(r"[^\W\d][\w-]{0,60}\.(0|[1-9][0-9]{0,17})")


class Id(str, Generic[T_co]):
    """The id of an object, a `str` such as `Job.17`; `T_co` is the type of the object, for editors only."""

    __slots__ = ()

    def __new__(cls, prefix: str, number: int | None = None) -> Id[T_co]:
        return str.__new__(cls, prefix if number is None else f"{prefix}.{number}")

    @property
    def prefix(self) -> str:
        return self.rpartition(".")[0]

    @property
    def number(self) -> int:
        return int(self.rpartition(".")[2])

    def _order(self) -> tuple[int, str]:
        return self.number, self.prefix

    def __lt__(self, other: str) -> bool:
        return self._order() < _order_of(other) if isinstance(other, str) else NotImplemented

    def __le__(self, other: str) -> bool:
        return self._order() <= _order_of(other) if isinstance(other, str) else NotImplemented

    def __gt__(self, other: str) -> bool:
        return self._order() > _order_of(other) if isinstance(other, str) else NotImplemented

    def __ge__(self, other: str) -> bool:
        return self._order() >= _order_of(other) if isinstance(other, str) else NotImplemented


def _order_of(text: str) -> tuple[int, str]:
    return (text if isinstance(text, Id) else parse_id(text))._order()


def is_id(text: object) -> bool:
    """Whether `text` has the shape of an id, and so is harmless as a file name."""
    return isinstance(text, str) and (_SHAPE.fullmatch(text) or _WIDE_SHAPE.fullmatch(text)) is not None


def parse_id(text: str) -> Id[Any]:
    """`text` as an `Id`; raises `InvalidId` for anything else than `PREFIX.N`."""
    if not is_id(text):
        raise InvalidId(f"{str(text)[:80]!r} is not an id.", hint="An id looks like Job.17.")
    return Id(text)


class IdFactory:
    """Makes ids `PREFIX.N`; the prefix is the name of the object's class by default.

    `next_id_fn` is called without arguments for each number; it must never give a number twice. Without it, a store
    that is given the factory uses its own counter, and a factory used alone takes numbers from `machine_counter`.
    """

    def __init__(
        self,
        prefix: str | None = None,
        next_id_fn: NextNumber | None = None,
        id_class: type[Id[Any]] = Id,
    ):
        if prefix is not None and not is_id(f"{prefix}.0"):
            raise InvalidId(f"{prefix!r} cannot be the prefix of an id.", hint="Use letters, digits, `_` and `-`.")
        self.prefix = prefix
        self.next_id_fn = next_id_fn
        self.id_class = id_class
        self._reserved: list[int] = []

    def new(self, obj: object) -> Id[Any]:
        """A new id for `obj`, never given before."""
        if self._reserved:
            number = self._reserved.pop()
        else:
            number = self._take(1)[0]
        return self.name(obj, number)

    def reserve(self, n: int) -> None:
        """Take `n` numbers at once; the next `n` calls of `new` are then cheap."""
        self._reserved = [*reversed(self._take(n)), *self._reserved]

    def name(self, obj: object, number: int) -> Id[Any]:
        """The id that `obj` gets with that number."""
        return self.id_class(self.prefix or prefix_of(type(obj)), number)

    def _take(self, n: int) -> list[int]:
        if self.next_id_fn is not None:
            return [self.next_id_fn() for _ in range(n)]
        first = machine_counter().reserve(n)
        return list(range(first, first + n))


class JobIdFactory(IdFactory):
    """An `IdFactory` whose ids begin with `job`."""

    def __init__(self, next_id_fn: NextNumber | None = None):
        super().__init__("job", next_id_fn)


def prefix_of(cls: type) -> str:
    """The prefix for instances of `cls`: its name, or `object` where the name is no good as a file name."""
    name = cls.__name__
    return name if is_id(f"{name}.0") else "object"
