"""Words of a command line become the arguments of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from perdure.cli.binding import bind
from perdure.errors import FlowError


def free(a, b=2):
    return a, b


def paths(paths):
    return paths


def listed(numbers: list[int], scale: float = 1.0):
    return numbers, scale


def later(name: str, files: Sequence[Path] = (), *, loud: bool = False):
    return name, files, loud


def many(first, *rest: int, **options):
    return first, rest, options


def maybe(limit: int | None = None, name: Optional[str] = None):  # noqa: UP045  # the older spelling counts, too
    return limit, name


def pair(point: tuple[int, str]):
    return point


def plain(items: tuple, keep: set[str] = frozenset()):
    return items, keep


def typed(number: int):
    return number


def unknown(value: NotThere):  # noqa: F821  # an annotation that cannot be evaluated
    return value


def only_by_place(a, /, b=1):
    return a, b


GOOD = [
    (free, "1", (1, 2)),
    (free, "x 2.5", ("x", 2.5)),
    (free, "None True", (None, True)),
    (free, "b=7 x", ("x", 7)),
    (free, "a=1 b=[1,2]", (1, [1, 2])),
    (free, "c=1", ("c=1", 2)),
    (free, "1 2 3", (1, [2, 3])),
    (free, "'1' x'", ("1", "x'")),
    (free, "1,2", ("1,2", 2)),
    (free, "{'a':1} -3", ({"a": 1}, -3)),
    (free, "__import__('os') 1e3", ("__import__('os')", 1000.0)),
    (paths, "a.py", "a.py"),
    (paths, "a.py b.py", ["a.py", "b.py"]),
    (listed, "1", ([1], 1.0)),
    (listed, "1 2 3", ([1, 2, 3], 1.0)),
    (listed, "1 2 scale=3", ([1, 2], 3.0)),
    (listed, "[1,2]", ([1, 2], 1.0)),
    (listed, "numbers=4 5", ([4], 5.0)),
    (later, "007 a b", ("007", [Path("a"), Path("b")], False)),
    (later, "x loud=yes", ("x", (), True)),
    (later, "x loud=0", ("x", (), False)),
    (many, "1 2 3", (1, (2, 3), {})),
    (many, "x", ("x", (), {})),
    (maybe, "", (None, None)),
    (maybe, "3 None", (3, None)),
    (maybe, "None 3", (None, "3")),
    (pair, "1 2", (1, "2")),
    (plain, "1 x keep=y", ((1, "x"), {"y"})),
    (typed, "4", 4),
    (unknown, "4", 4),
    (only_by_place, "a=1", ("a=1", 1)),
]


@pytest.mark.parametrize(("function", "words", "expected"), GOOD)
def test_words_are_bound(function, words, expected):
    args, kwargs = bind(function, words.split())
    assert function(*args, **kwargs) == expected


BAD = [
    (free, "", "free(a, b=2) was called wrongly: missing: a."),
    (typed, "4 5", "typed(number: int) was called wrongly: too many arguments: 5."),
    (typed, "4.5", "number: '4.5' is no whole number."),
    (listed, "1 x", "numbers: 'x' is no whole number."),
    (listed, "1 scale=x", "scale: 'x' is no number."),
    (later, "x loud=loud", "loud: 'loud' is neither true nor false."),
    (typed, "number=1 number=2", "number is given twice."),
    (typed, "number=1 2", "too many arguments: 2."),
]


@pytest.mark.parametrize(("function", "words", "sentence"), BAD)
def test_wrong_words(function, words, sentence):
    with pytest.raises(FlowError) as caught:
        bind(function, words.split())
    assert sentence in str(caught.value)
