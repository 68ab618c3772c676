"""Whether the `with` block of a transaction is still running, though an interruption may have cut off its end.

- A signal may be handled when `__exit__` is entered, before its first line. But a block holds the method that it got at
  its beginning until it is over, and nobody else does: once that is gone, the block is.
- A transaction that is open then is aborted by whoever comes next.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any

from perdure.errors import TransactionError


class Blocked(ABC):
    """What may have a `with` block, whose end is a `BlockEnd`."""

    is_begun = False
    block: weakref.ref[MethodType] | None = None  # what the block holds; None: not known, it was entered by hand

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it has begun, and nothing has ended it."""

    @abstractmethod
    def abort(self) -> None: ...

    @property
    def is_left(self) -> bool:
        """Whether its block is over, and an interruption has kept that from ending it."""
        return self.block is not None and self.block() is None and self.is_open

    def end_if_left(self) -> bool:
        """Abort it if `is_left`; whether it was."""
        if not self.is_left:
            return False
        self.abort()
        return True

    def begin_block(self) -> None:
        """Called at its beginning: what nobody holds now is of somebody who has only looked for an end."""
        if self.block is not None and self.block() is None:
            self.block = None


class BlockEnd:
    """A method `__exit__` that is known to be held."""

    def __init__(self, function: Callable[..., None]):
        self._function = function

    def __get__(self, owner: Blocked | None, cls: type[Any]) -> Any:
        if owner is None:
            return self._function
        method = MethodType(self._function, owner)
        if not owner.is_begun:
            owner.block = weakref.ref(method)
        return method


def part_was_left() -> TransactionError:
    """The error for a transaction of which a part was left open: what was to stay of that, nobody knows."""
    return TransactionError(
        "An interruption has cut off the end of a part of the transaction, so it was aborted.", hint="Do it again."
    )


def was_left() -> TransactionError:
    """The error for a save that finds a transaction left open."""
    return TransactionError(
        "An interruption had cut off the end of a transaction. It was aborted just now: all objects are as they were"
        " when it began, also those that were changed since.",
        hint="Change them again, then save.",
    )


def was_inherited() -> TransactionError:
    """The error for a transaction of another process."""
    return TransactionError(
        "The transaction was opened by the process that this one was forked from; only that one can commit it.",
        hint="Open transactions after the fork.",
    )
