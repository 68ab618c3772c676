"""What is left to chance in tests of crashes: the same in each run, unless `make torture` gives another seed.

`PERDURE_TORTURE_SEED` is that seed, `PERDURE_TORTURE_SCALE` how many times as much is tried. They are read when the
tests are collected, since each test gets an environment of its own.
"""

from __future__ import annotations

import os
import random

SEED = int(os.environ.get("PERDURE_TORTURE_SEED", "0"))
SCALE = int(os.environ.get("PERDURE_TORTURE_SCALE", "1"))


def dice(*what: object) -> random.Random:
    """A source of numbers for one test; `what` tells it from those of others."""
    return random.Random(" ".join(map(str, (SEED, *what))))


def seeded(number: int) -> int:
    """The seed for one of several things that are numbered."""
    return number + SEED * 1_000_003


def more(number: int) -> int:
    """How often something is tried, or how long, that is `number` in an ordinary run."""
    return number * SCALE
