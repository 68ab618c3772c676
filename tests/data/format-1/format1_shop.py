"""What the stores of this folder hold: a class for each way in which a record is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from perdure import Persistable, flow, job


class Customer(Persistable):
    """Simple: attributes that are references, nested references, plain values."""

    def __init__(self, name: str, friend: Customer | None = None):
        self.name = name
        self.friend = friend
        self.orders: list[Any] = []
        self.tags = {"new", "dear"}


class Slotted(Persistable):
    """Slots, so that its state goes through __reduce_ex__."""

    __slots__ = ("customer", "number")

    def __init__(self, number: int, customer: Customer):
        self.number, self.customer = number, customer


class Queue(list, Persistable):  # type: ignore[type-arg]
    """Without ghosts: items, attributes, and itself among its items."""


class Fraught(Persistable):
    """Has methods of its own for its state."""

    def __init__(self, secret: str):
        self.secret = secret

    def __getstate__(self) -> dict[str, str]:
        return {"hidden": self.secret[::-1]}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.secret = state["hidden"][::-1]


@dataclass
class Price:
    """No record of its own: part of another's state."""

    amount: int
    currency: str


@job
def half(number: int) -> int:
    """Fails for odd numbers, until the environment says that it is mended."""
    if number % 2 and "MENDED" not in os.environ:
        raise ValueError(f"{number} is odd")
    return number // 2


@job
def total(numbers: list[int]) -> int:
    """The end of the flow."""
    return sum(numbers)


@flow
def halves(numbers: list[int]) -> Any:
    """Two that succeed, one that fails."""
    return {"total": total([half(number) for number in numbers])}
