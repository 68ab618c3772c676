"""Figures become rows, and rows a table: medians, ratios pair by pair, limits and whether they are kept.

- A ratio is the median of the ratios of the rounds, each of two measurements that were taken one after the other.
- A row without a limit side compares its own median with the limit.
- Limits of the next release are shown beside the figures, and never count as missed.
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
    next_at_most: float | None = None  # of the next release
    unit: str = "s"
    less: str = ""  # what is taken off `ours` before it counts


class Row(NamedTuple):
    """One row: what was compared, in words and figures."""

    title: str
    limit: float | None
    ours: float
    ratio: float
    least: float
    most: float
    cpu_ratio: float | None
    verdict: str
    missed: bool
    unit: str
    relative: bool


def row_of(comparison: Comparison, rounds: Rounds) -> Row | None:
    """The row of a comparison; None if its figures were not measured."""
    measured = [figures for figures in rounds if comparison.ours in figures]
    if not measured:
        return None
    ours = [figures[comparison.ours] - figures.get(comparison.less, 0.0) for figures in measured]
    limit = [figures[comparison.limit] for figures in measured] if comparison.limit else []
    ratios = [value / base for value, base in zip(ours, limit, strict=True)] if limit else ours
    found = median(ratios)
    return Row(
        title=comparison.title,
        limit=median(limit) if limit else None,
        ours=median(ours),
        ratio=found,
        least=min(ratios),
        most=max(ratios),
        cpu_ratio=_cpu_ratio(comparison, measured),
        verdict=_verdict(comparison, found),
        missed=comparison.at_most is not None and found > comparison.at_most,
        unit=comparison.unit,
        relative=bool(limit),
    )


def _cpu_ratio(comparison: Comparison, rounds: Rounds) -> float | None:
    ours, limit = comparison.ours + CPU, comparison.limit + CPU
    ratios = [figures[ours] / figures[limit] for figures in rounds if figures.get(ours) and figures.get(limit)]
    return median(ratios) if ratios else None


def _verdict(comparison: Comparison, found: float) -> str:
    at_most = comparison.at_most if comparison.at_most is not None else comparison.next_at_most
    if at_most is None:
        return ""
    kept = found <= at_most
    if comparison.at_most is None:
        return f"next: at most {at_most:g}: {found:.2f} {'ok' if kept else 'not yet'}"
    return f"at most {at_most:g}: {found:.2f} {'ok' if kept else 'MISSED'}"


def cells_of(row: Row) -> list[str]:
    """A row as it is printed."""
    spread = f"{row.ratio:.2f} ({row.least:.2f}–{row.most:.2f})"
    return [
        row.title,
        "" if row.limit is None else amount(row.limit, row.unit),
        amount(row.ours, row.unit),
        spread if row.relative else f"({amount(row.least, row.unit)}–{amount(row.most, row.unit)})",
        "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}",
        row.verdict,
    ]


def amount(value: float, unit: str) -> str:
    """A figure and its unit."""
    if unit != "s":
        return f"{value:.0f} {unit}"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def render(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown whose columns are also straight on a terminal."""
    widths = [max(len(line[column]) for line in [heads, *lines]) for column in range(len(heads))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [heads, rule, *lines]
    )


def render_rows(rows: Sequence[Row]) -> str:
    """The table of all rows."""
    heads = ["what", "limit", "perdure", "ratio (least–most)", "ratio of CPU", "allowed: found"]
    return render(heads, [cells_of(row) for row in rows])


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
