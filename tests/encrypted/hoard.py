"""A class whose objects, and whose text, are full of what nobody may read: plain-in-source."""

from __future__ import annotations

import random
from typing import Any

import perdure
from perdure import Persistable
from perdure.prevalence import command

# Names of classes are shown, and so are references; these words must never be.
WORDS = ("plain-in-source", "plain_attribute", "plain-in-state", "plain-in-field", "plain-in-root", "plain-in-note",
         "plain-in-large", "plain-in-array")  # fmt: skip
# Random, so that it is not compressed: a word in it would be found.
LARGE = random.Random(7).randbytes(100_000) + b"plain-in-large" + random.Random(8).randbytes(1_200_000)


class Hoard(Persistable):
    __indexed__ = ("field",)

    def __init__(self, number: int, *others: Any):
        self.plain_attribute = "plain-in-state"
        self.field = f"plain-in-field {number}"
        self.large = LARGE if number == 1 else b""
        self.array = bytearray(random.Random(9).randbytes(70_000) + b"plain-in-array") if number == 2 else None
        self.others = list(others)


@perdure.job
def gather(word: str) -> list[Any]:
    return [word, LARGE]


@perdure.job
def fail(word: str) -> None:
    raise ValueError(f"plain-in-field {word}")


@perdure.flow
def collecting(word: str) -> Any:
    return gather(word)


@perdure.flow
def failing(word: str) -> Any:
    return fail(word)


class System:
    def __init__(self) -> None:
        self.words: list[str] = []

    @command
    def add(self, word: str) -> None:
        self.words.append(word)
