"""Running a function in a transaction, again and again while others are faster.

- Only errors that say so (`retryable`) are met by another attempt, in a new transaction, after a random wait that
  grows with the attempts, so that those who have met do not meet again.
- A conflict on what had unsaved changes before is not met by another attempt: that would lose them.
- Inside an open transaction the function is a part of that one: it runs once, since its commit is the outer one's.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from perdure.errors import InvalidArgument, PerdureError
from perdure.objects.bounds import whole_number
from perdure.objects.transactions.commits import Desk
from perdure.objects.transactions.transaction import Transaction

T = TypeVar("T")

RETRIES = 10
FIRST_WAIT, LONGEST_WAIT = 0.005, 1.0  # seconds


def run(desk: Desk, function: Callable[..., T], args: Any, kwargs: Any, *, retries: int, note: str) -> T:
    """What the function gives; see `Store.run`."""
    if not callable(function):
        raise InvalidArgument(f"run takes a function, not {function!r:.60}", hint="Give it without calling it.")
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(f"{function.__qualname__} is a coroutine function: run it by `await store.arun(…)`.")
    for attempt in attempts(desk, retries):
        try:
            with Transaction(desk, note, keeps_earlier=True):
                return function(*args, **kwargs)
        except PerdureError as error:
            time.sleep(attempt.wait_after(error))
    raise AssertionError("the last attempt returns or raises")


class Attempt:
    """One attempt of so many."""

    def __init__(self, number: int, most: int):
        self.number = number
        self.most = most

    def wait_after(self, error: PerdureError) -> float:
        """Seconds until the next attempt; raises the error if there is none."""
        before = error.details.get("changed_before")
        if before:
            error.add_note(f"{', '.join(before)} had unsaved changes before; save or drop them first.")
        if not error.retryable or self.number == self.most or before:
            if self.most > 1:
                error.add_note(f"This was attempt {self.number} of at most {self.most}.")
            error.details["attempts"] = self.number
            raise error
        return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2**self.number))


def attempts(desk: Desk, retries: int) -> Iterator[Attempt]:
    """The attempts that there are; one only inside an open transaction."""
    most = 1 if desk.is_in_transaction else whole_number("retries", retries) + 1
    for number in range(1, most + 1):
        yield Attempt(number, most)
