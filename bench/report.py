"""The report: what was measured, where, against whom, the tables, and where the time of a flow goes.

- In a page it stands between two markers; what is around them is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from peers import EVERY
from table import Rounds, Row, render_parts, render_rows

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
JOBS = 20  # objects for each job of the flow: 20,000 and 1,000
KEPT = ("objects", "large", "postgresql")  # the groups of the first table


def jobs_of(size: int) -> int:
    """How many jobs a flow has."""
    return max(2, size // JOBS)


def text(
    measured: Mapping[str, Rounds],
    tables: Mapping[str, Sequence[Row]],
    size: int,
    where: Sequence[str],
    rivals: Sequence[str],
) -> str:
    """The whole report."""
    rounds = max((len(found) for name, found in measured.items() if name != "startup"), default=0)
    lines = [
        f"{size:,} objects of ten attributes, flows of {jobs_of(size):,} jobs; rounds: {rounds}, sides taking turns;",
        "medians, and a ratio is the median of the rounds' ratios to the limit, a rival's too.",
        "",
        *(f"- {line}" for line in where),
    ]
    if rivals:
        lines += ["", "Rivals:", "", *(f"- {line}" for line in rivals)]
    kept = list(chain.from_iterable(tables.get(group, ()) for group in KEPT))
    others = list(chain.from_iterable(rows for group, rows in tables.items() if group not in (*KEPT, "prevalence")))
    columns = [rival.column for rival in EVERY]
    prevalent = tables.get("prevalence", ())
    lines += chain.from_iterable(("", render_rows(rows, columns)) for rows in (kept, prevalent, others) if rows)
    for executor in ("processes", "inline"):
        parts = render_parts(measured.get("flows", []), f"flows {executor}")
        if parts:
            lines += [
                "",
                f"Where the time of the flow goes, executor `{executor}`, in the engine's process:",
                "",
                parts,
            ]
    return "\n".join(lines) + "\n"


def has_markers(page: Path) -> bool:
    """Whether the report can be put into that page: it has both markers, each once and on a line of its own."""
    if not page.is_file():
        return False
    lines = page.read_text(encoding="utf-8").splitlines()
    places = [lines.index(marker) if lines.count(marker) == 1 else -1 for marker in (BEGIN, END)]
    return 0 <= places[0] < places[1]


def put_into(page: Path, said: str) -> None:
    """Replace what is between the markers of that page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{said}\n{END}{after}", encoding="utf-8")
