"""Damage in a database: what is no error to the database, but cannot be in a store, such as NULL for a number.

- Whoever reads lets Python stumble over it, and names it at one place: no call lets an error of Python's own through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from perdure.errors import CorruptRecord, PerdureError

T = TypeVar("T")
P = ParamSpec("P")

# What Python says of values that a damaged database gave, where it expected others.
UNREADABLE = (TypeError, ValueError, KeyError, IndexError, AttributeError)


class _OfDatabase(Protocol):
    place: str
    path: str


B = TypeVar("B", bound=_OfDatabase)


def damaged(place: str, error: Exception, *, path: str = "") -> CorruptRecord:
    """The error for what was read of the database at `place`, where `error` (of `UNREADABLE`) came of it."""
    return CorruptRecord(
        f"{place} is damaged: a row holds what cannot be there ({error!r}).", hint="Go back to a backup.", path=path
    )


def reads(method: Callable[Concatenate[B, P], T]) -> Callable[Concatenate[B, P], T]:
    """Have what a damaged database gives a method named as damage."""

    @wraps(method)
    def reading(self: B, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except PerdureError:
            raise
        except UNREADABLE as error:
            raise damaged(self.place, error, path=self.path) from error

    return reading


def reads_each(method: Callable[Concatenate[B, P], Iterator[T]]) -> Callable[Concatenate[B, P], Iterator[T]]:
    """The same for a method that gives one after another."""

    @wraps(method)
    def reading(self: B, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        try:
            yield from method(self, *args, **kwargs)
        except PerdureError:
            raise
        except UNREADABLE as error:
            raise damaged(self.place, error, path=self.path) from error

    return reading


def expect(kind: type[T], value: object) -> T:
    """`value`, if it is of that kind; else `TypeError`, which is one of `UNREADABLE`."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value
