"""How things look in a terminal: colours, tables, times, texts from records made harmless.

- Colours only on a terminal, and never with `NO_COLOR` set or on a dumb one.
- A table fits the terminal's width; what is no terminal gets every cell in full.
- Control characters of texts are never printed: a record cannot write to the terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
_STATES = {
    "succeeded": "green",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "skipped": "dim",
    "running": "cyan",
    "waiting": "dim",
}
UNLIMITED = 1_000_000
NARROWEST = 40
LEAST = 8  # a column is not made narrower than this


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at the stream."""
    return stream.isatty()


def has_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in a colour (or `bold`, `dim`), where colours are wanted."""
    if not colour or not has_colours(stream or sys.stdout):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def state_colour(state: str) -> str:
    """The colour of a run's or job's state; "" where it has none."""
    return _STATES.get(state, "")


def width_of(stream: TextIO | None = None) -> int:
    """How many characters a line may have."""
    if not is_terminal(stream or sys.stdout):
        return UNLIMITED
    return max(NARROWEST, shutil.get_terminal_size().columns)


def clean(text: object) -> str:
    """The text in one line, without anything that a terminal would obey."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in str(text))


def shortened(text: str, width: int) -> str:
    """The text in at most `width` columns."""
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], *, give: Sequence[str] = (), indent: str = ""
) -> list[str]:
    """Aligned lines that fit the terminal. The columns in `give` give way, the first of them first.

    The column `STATE` is coloured. A column without any value is left out.
    """
    texts = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    kept = [place for place in range(len(heads)) if not rows or any(row[place] for row in texts)]
    names = [heads[place] for place in kept]
    texts = [[row[place] for place in kept] for row in texts]
    widths = [max(columns(cell) for cell in column) for column in zip(names, *texts, strict=True)]
    too_much = sum(widths) + 2 * (len(widths) - 1) + len(indent) - width_of()
    for name in give:
        if too_much > 0 and name in names:
            place = names.index(name)
            less = min(too_much, max(0, widths[place] - LEAST))
            widths[place] -= less
            too_much -= less
    lines = [painted(indent + _line(names, widths), "bold")]
    for row in texts:
        colours = [state_colour(cell) if name == "STATE" else "" for name, cell in zip(names, row, strict=True)]
        lines.append(indent + _line(row, widths, colours))
    return lines


def _line(cells: Sequence[str], widths: Sequence[int], colours: Sequence[str] | None = None) -> str:
    parts = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = shortened(cell, width)
        filling = "" if place == len(cells) - 1 else " " * (width - columns(text))
        parts.append(painted(text, colours[place] if colours else "") + filling)
    return "  ".join(parts).rstrip()


def moment(seconds: float | None) -> str:
    """A time in the user's own zone: the hour if it was today, else with the date."""
    if seconds is None:
        return ""
    local = time.localtime(seconds)
    today = time.localtime()[:3] == local[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", local)


def span(seconds: float | None) -> str:
    """A duration as one says it."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{max(seconds, 0):.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tallied(counts: Mapping[str, int]) -> str:
    """`3 succeeded, 1 failed`, in colours."""
    return ", ".join(painted(f"{number} {state}", state_colour(state)) for state, number in counts.items() if number)
