"""What every backend can take, checked once above all of them: notes, numbers, revisions, times.

- A number that is above all that a store can have is as good as the greatest.
- What is refused is `InvalidArgument`, the same on every store.
"""

from __future__ import annotations

from datetime import datetime
from math import inf, isfinite
from operator import index
from typing import Any

from perdure.errors import InvalidArgument

MOST = 2**62 - 1  # of a limit and an offset: their sum is a number that every database takes


def whole_number(name: str, value: Any) -> int:
    """A limit, an offset or a revision: a whole number from 0 on."""
    number = _whole(name, value)
    if number < 0:
        raise InvalidArgument(f"{name} is not negative, but this one is {number}.", hint="Give an int from 0 on.")
    return min(number, MOST)


def revision_of(value: Any) -> int:
    """The revision of a commit that is looked for; there need be none."""
    return min(_whole("revision", value), MOST)


def limit_of(value: Any) -> int | None:
    """A limit; None for none."""
    return None if value is None else whole_number("limit", value)


def below(value: Any) -> int | None:
    """The revision that others are to be below; None for none. Nothing is below what is negative."""
    return None if value is None else max(0, min(_whole("before", value), MOST))


def note_text(note: Any) -> str:
    """A note that every store can keep."""
    if not isinstance(note, str):
        raise InvalidArgument(f"a note is text, not {type(note).__name__}", hint="Give a str.")
    if note.isascii() and "\0" not in note:
        return note
    try:
        sound = "\0" not in note and note.encode() is not None
    except UnicodeEncodeError:
        sound = False
    if not sound:
        raise InvalidArgument(
            f"The note {note!r:.80} holds a character that not every store can keep.",
            hint="Take out NUL characters, and halves of surrogate pairs.",
        )
    return note


def seconds_of(when: datetime) -> float:
    """The time in seconds since 1970; before, or after, all others where it is beyond what the system counts."""
    try:
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        return -inf if when.year < 1970 else inf


def clock_time(seconds: Any) -> float:
    """What a clock says, if a commit can have it for its time."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and isfinite(seconds):
        return float(seconds)
    raise InvalidArgument(
        f"The store's clock says {seconds!r:.40}, which is no time.",
        hint="Its now() gives seconds since 1970, as time.time() does.",
    )


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise InvalidArgument(f"{name} is a whole number, not {value!r:.60}.", hint="Give an int from 0 on.")
    return index(value)
