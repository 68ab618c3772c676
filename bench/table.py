"""Figures become rows, and rows a table: medians, ratios pair by pair, limits and whether they are kept.

- A ratio is the median of the ratios of the rounds, each of two measurements that were taken one after the other.
- A row without a limit side compares its own median with the limit.
- A rival's figure is its ratio to the same limit; without a limit side it is the figure itself.
- What perdure cannot do yet is a row all the same, which says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from work import CPU

Rounds = Sequence[Mapping[str, float]]  # what each round measured, by name


class Comparison(NamedTuple):
    """One row to be: figures by name (a missing `limit`: the figure itself counts), and how much is allowed."""

    title: str
    ours: str
    limit: str = ""
    at_most: float | None = None
    unit: str = "s"
    less: str = ""  # what is taken off `ours` before it counts
    rivals: Mapping[str, str] = {}  # figures by column


class Row(NamedTuple):
    """One row: what was compared, in words and figures."""

    title: str
    limit: float | None
    ours: float | None  # None: perdure has no figure, and the four after this one mean nothing
    ratio: float
    least: float
    most: float
    cpu_ratio: float | None
    verdict: str
    missed: bool
    unit: str
    relative: bool
    rivals: Mapping[str, float]  # by column


def row_of(comparison: Comparison, rounds: Rounds) -> Row | None:
    """The row of a comparison; None if nothing was measured for it."""
    names = {comparison.ours, comparison.limit, *comparison.rivals.values()}
    if not any(name in figures for figures in rounds for name in names):
        return None
    measured = [figures for figures in rounds if comparison.ours in figures]
    ours = [figures[comparison.ours] - figures.get(comparison.less, 0.0) for figures in measured]
    bases = [figures[comparison.limit] for figures in measured] if comparison.limit else []
    ratios = [value / base for value, base in zip(ours, bases, strict=True)] if bases else ours
    limits = [figures[comparison.limit] for figures in rounds if comparison.limit in figures]
    found = median(ratios or [0.0])
    return Row(
        title=comparison.title,
        limit=median(limits) if limits else None,
        ours=median(ours) if ours else None,
        ratio=found,
        least=min(ratios, default=0.0),
        most=max(ratios, default=0.0),
        cpu_ratio=_cpu_ratio(comparison, measured),
        verdict=_verdict(comparison, found if ours else None),
        missed=bool(ours) and comparison.at_most is not None and found > comparison.at_most,
        unit=comparison.unit,
        relative=bool(comparison.limit),
        rivals=_rivals(comparison, rounds),
    )


def _rivals(comparison: Comparison, rounds: Rounds) -> dict[str, float]:
    base = comparison.limit
    found = {}
    for column, name in comparison.rivals.items():
        ratios = [
            figures[name] / (figures[base] if base else 1.0)
            for figures in rounds
            if name in figures and (not base or base in figures)
        ]
        if ratios:
            found[column] = median(ratios)
    return found


def _cpu_ratio(comparison: Comparison, rounds: Rounds) -> float | None:
    ours, limit = comparison.ours + CPU, comparison.limit + CPU
    ratios = [figures[ours] / figures[limit] for figures in rounds if figures.get(ours) and figures.get(limit)]
    return median(ratios) if ratios else None


def _verdict(comparison: Comparison, found: float | None) -> str:
    if comparison.at_most is None:
        return "" if found is not None else "not there yet"
    said = f"at most {comparison.at_most:g}: "
    if found is None:
        return said + "not there yet"
    return f"{said}{found:.2f} {'ok' if found <= comparison.at_most else 'MISSED'}"


def cells_of(row: Row, columns: Sequence[str] = ()) -> list[str]:
    """A row as it is printed."""
    if row.ours is None:
        spread = ""
    elif row.relative:
        spread = f"{row.ratio:.2f} ({row.least:.2f}–{row.most:.2f})"
    else:
        spread = f"({amount(row.least, row.unit)}–{amount(row.most, row.unit)})"
    rivals = {
        column: (short(value) if row.relative else amount(value, row.unit)) for column, value in row.rivals.items()
    }
    return [
        row.title,
        "" if row.limit is None else amount(row.limit, row.unit),
        "" if row.ours is None else amount(row.ours, row.unit),
        spread,
        "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}",
        row.verdict,
        *(rivals.get(column, "") for column in columns),
    ]


def short(ratio: float) -> str:
    """A ratio in about three digits."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


def amount(value: float, unit: str) -> str:
    """A figure and its unit."""
    if unit != "s":
        return f"{value:.0f} {unit}"
    if value < 0.01:
        return f"{value * 1000:.2g} ms" if value >= 0.001 else f"{value * 1e6:.0f} µs"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def render(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are also straight on a terminal."""
    widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [heads, rule, *lines]
    )


def render_rows(rows: Sequence[Row], columns: Sequence[str] = ()) -> str:
    """The table of all rows, with a column for each rival of which there is a figure."""
    filled = [column for column in columns if any(column in row.rivals for row in rows)]
    heads = ["what", "limit", "perdure", "ratio (least–most)", "ratio of CPU", "allowed: found", *filled]
    return render(heads, [cells_of(row, filled) for row in rows])


def render_parts(rounds: Rounds, prefix: str) -> str:
    """Where the time goes: the parts of a breakdown, the greatest first; empty if it was not measured."""
    part, calls = f"{prefix} part ", f"{prefix} calls "
    names = {name.removeprefix(part) for figures in rounds for name in figures if name.startswith(part)}
    seconds = {name: median(figures.get(part + name, 0.0) for figures in rounds) for name in names}
    whole = sum(seconds.values())
    lines = [
        [
            name,
            amount(value, "s"),
            f"{value / whole:.0%}",
            f"{median(figures.get(calls + name, 0) for figures in rounds):.0f}",
        ]
        for name, value in sorted(seconds.items(), key=lambda pair: -pair[1])
    ]
    return render(["part", "time", "share", "calls"], lines) if lines else ""
