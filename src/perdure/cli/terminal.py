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
_BOTH_ENDS = ("CALL", "ARGUMENTS", "FLOW")
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


def shortened(text: str, width: int, *, keep: int = 0) -> str:
    """The text in at most `width` columns; of its end about `keep` columns are kept."""
    if columns(text) <= width:
        return text
    end = text[len(text) - keep :] if keep else ""
    while columns(end) > keep:
        end = end[1:]
    start = text[: width - keep]
    while start and columns(start) + 1 + columns(end) > width:
        start = start[:-1]
    return f"{start}…{end}"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    give: Sequence[str] = (),
    indent: str = "",
    stream: TextIO | None = None,
) -> list[str]:
    """Aligned lines that fit the terminal: the columns in `give` give way, the widest first.

    The column `STATE` is coloured. A column without any value is left out.
    """
    texts = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    kept = [place for place in range(len(heads)) if not rows or any(row[place] for row in texts)]
    names = [heads[place] for place in kept]
    texts = [[row[place] for place in kept] for row in texts]
    widths = [max(columns(cell) for cell in column) for column in zip(names, *texts, strict=True)]
    too_much = sum(widths) + 2 * (len(widths) - 1) + len(indent) - width_of(stream)
    giving = [place for place, name in enumerate(names) if name in give]
    while too_much > 0 and any(widths[place] > LEAST for place in giving):
        widths[max(giving, key=lambda place: widths[place])] -= 1
        too_much -= 1
    head = "  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip()
    lines = [painted(indent + head, "bold", stream)]
    for row in texts:
        cells = [_cell(cell, name, width, stream) for cell, name, width in zip(row, names, widths, strict=True)]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def _cell(cell: str, name: str, width: int, stream: TextIO | None) -> str:
    """A cell of that column, filled up to its width; of a call both ends are worth seeing."""
    text = shortened(cell, width, keep=width // 2 if name in _BOTH_ENDS else 0)
    colour = state_colour(text) if name == "STATE" else ""
    return painted(text, colour, stream) + " " * (width - columns(text))


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


def sized(count: int) -> str:
    """A number of bytes, in the unit that fits."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}"


def tallied(counts: Mapping[str, int], stream: TextIO | None = None) -> str:
    """`3 succeeded, 1 failed`, in colours."""
    return ", ".join(
        painted(f"{number} {state}", state_colour(state), stream) for state, number in counts.items() if number
    )
