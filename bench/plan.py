"""What is measured, in which order, and how much is allowed: the rows of the table, as data.

- A row of `--only` is a stage: what runs for it (sides in turn), and the comparisons that it makes possible.
- Stages of one group share the folders of their sides; a stage names the one that must have run before it.
- Limits are those that the project has set itself; a comparison without one is there to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from data import CHANGED, CHANGES, NEW
from peers import PREVALENT, RELSTORAGE_POSTGRESQL, RIVALS
from table import Comparison


class Run(NamedTuple):
    """One task of one side."""

    side: str
    task: str
    place: str  # the folder of its store
    called: str = ""  # what the names of its figures begin with; empty: the side's name


class Stage(NamedTuple):
    """One step of a round."""

    runs: Sequence[Run]
    comparisons: Sequence[Comparison]
    rivals: str = ""  # their task; empty: they have none
    needs: tuple[str, ...] = ()


def by_all(figure: str) -> Mapping[str, str]:
    """That figure of every rival, by column."""
    return {rival.column: f"{rival.side} {figure}" for rival in RIVALS}


OBJECTS: dict[str, Stage] = {
    "save": Stage(
        (Run("limits", "save", "limit"), Run("kept", "save_many", "many"), Run("kept", "transaction", "block")),
        (
            Comparison(
                "save all in one commit, save_many", "kept save_many", "limits save", 1.0, rivals=by_all("save"),
            ),
            Comparison("save all in one commit, transaction", "kept transaction", "limits save", 1.0),
            Comparison(
                "bytes on disk for an object, history on", "kept bytes", "limits bytes", 1.3, "B",
                rivals=by_all("bytes"),
            ),
        ),
        "save",
    ),
    "history-off": Stage(
        (Run("kept", "save_off", "off"),),
        (Comparison("bytes on disk for an object, history off", "kept bytes off", "limits bytes", 1.2, "B"),),
        needs=("save",),
    ),
    "load": Stage(
        (Run("limits", "load", "limit"), Run("kept", "load_many", "many")),
        (
            Comparison("load all cold, load_many", "kept load_many", "limits load", 1.1),
            Comparison(
                "load all cold and look at all", "kept touch", "limits touch", 1.1, rivals=by_all("touch")
            ),
            Comparison("load all again by id, warm", "kept again", "limits again", 5.0, rivals=by_all("again")),
            Comparison("load all again by load_many, warm", "kept again many", "limits again"),
        ),
        "load",
        ("save",),
    ),
    "ghosts": Stage(
        (Run("limits", "load", "limit", "limits bulk"), Run("kept", "ghosts", "block"),
         Run("kept", "load_each", "block"), Run("limits", "load_each", "limit")),
        (
            Comparison(
                "load all cold through ghosts", "kept ghosts", "limits bulk touch", 2.2, rivals=by_all("load each")
            ),
            Comparison(
                "load all cold by id, one by one", "kept load each", "limits bulk touch", 2.2,
                rivals=by_all("load each"),
            ),
            Comparison("the same, a bare SELECT for each", "limits load each", "limits bulk touch"),
        ),
        "load_each",
        ("save",),
    ),
    "memory": Stage(
        (Run("limits", "memory", "limit"), Run("kept", "memory", "block"), Run("bare", "imported", "bare"),
         Run("bare", "python", "bare")),
        (
            Comparison("memory to open and load one", "kept memory", "", 30.0, "MiB", rivals=by_all("memory")),
            Comparison("the same, bare sqlite3 and pickle", "limits memory", unit="MiB"),
            Comparison("memory of a bare import perdure", "bare imported", unit="MiB"),
            Comparison("memory of bare Python", "bare python", unit="MiB"),
        ),
        "memory",
        ("save",),
    ),
    "change-one": Stage(
        (Run("limits", "change_one", "limit"), Run("kept", "change_one", "block")),
        (
            Comparison(
                f"{CHANGES} commits of one change, all held", "kept change one", "limits change one", 1.5,
                rivals=by_all("change one"),
            ),
        ),
        "change_one",
        ("save",),
    ),
    "change": Stage(
        (Run("limits", "change", "limit"), Run("kept", "change", "block")),
        (
            Comparison(
                f"load {CHANGED:,}, change, commit, cold", "kept change cold", "limits change cold", 1.2,
                rivals=by_all("change cold"),
            ),
            Comparison(
                f"change {CHANGED:,} held, commit", "kept change warm", "limits change warm", 1.2,
                rivals=by_all("change warm"),
            ),
        ),
        "change",
        ("save",),
    ),
    "commits": Stage(
        (Run("limits", "commits", "limit"), Run("kept", "commits", "block")),
        (
            Comparison(
                f"{NEW} commits of one new object", "kept commits", "limits commits", 1.2, rivals=by_all("commits")
            ),
        ),
        "commits",
        ("save",),
    ),
    "rich": Stage(
        (Run("limits", "save_rich", "limit-rich"), Run("kept", "save_rich", "many-rich")),
        (
            Comparison(
                "save all, with set, dataclass, shared text", "kept save rich", "limits save rich", 1.2,
                rivals=by_all("save rich"),
            ),
        ),
        "save_rich",
    ),
    "rich-commits": Stage(
        (Run("limits", "commits_rich", "limit-rich"), Run("kept", "commits_rich", "many-rich")),
        (
            Comparison(
                f"{NEW} commits of one of these", "kept commits rich", "limits commits rich", 1.2,
                rivals=by_all("commits rich"),
            ),
        ),
        "commits_rich",
        ("rich",),
    ),
    "check": Stage(
        (Run("checking", "check", "checking"),),
        (
            Comparison("check five times as many / read every record", "checking check", "checking read", 3.0),
            Comparison("check five times as many / load all of them", "checking check", "checking loaded"),
        ),
    ),
    "evolution": Stage(
        (Run("evolving", "load", "evolving"),),
        (
            Comparison(
                "load all of a versioned dataclass, nothing to upgrade / of a plain class", "evolving on",
                "evolving off", 1.03,
            ),
        ),
    ),
    "trust": Stage(
        (Run("own", "read", "own"), Run("own", "seal", "seal")),
        (
            Comparison("save_many with a seal / without", "own seal save", "own blank save", 1.15),
            Comparison("load_many with a seal / without", "own seal load", "own blank load", 1.2),
            Comparison("loads of a small pickle without a seal", "own bare", "", 50e-6),
            Comparison("load_many without the key, for each object", "own store", "", 50e-6),
            Comparison("the same / with the key", "own store", "own sealed"),
        ),
    ),
}  # fmt: skip


def large(most: int, few: int) -> dict[str, list[Comparison]]:
    """The comparisons of stores of many objects, by row."""
    return {
        "growth": [
            Comparison(f"{CHANGES} commits in a store of {most:,} / of {few:,}", "most commits", "few commits", 1.3)
        ],
        "walk": [
            Comparison(f"memory to walk {most:,} objects", "most walk memory", "", 150.0, "MiB"),
            Comparison(f"memory to walk {few:,} objects", "few walk memory", unit="MiB"),
            Comparison("walk, for each object", "most walk each"),
        ],
        "rename": [
            Comparison(f"rename the class of {most:,} / read and write their rows", "most rename", "most rewrite", 3.0)
        ],
    }


POSTGRESQL = [
    Comparison(
        "PostgreSQL: save all in one commit", "kept_postgresql save", "limits_postgresql save", 1.3,
        rivals={RELSTORAGE_POSTGRESQL.column: f"{RELSTORAGE_POSTGRESQL.side} save"},
    ),
    Comparison("PostgreSQL: load all cold, load_many", "kept_postgresql load", "limits_postgresql load", 1.3),
    Comparison(
        "PostgreSQL: load all cold and look at all", "kept_postgresql touch", "limits_postgresql touch", 1.3,
        rivals={RELSTORAGE_POSTGRESQL.column: f"{RELSTORAGE_POSTGRESQL.side} touch"},
    ),
]  # fmt: skip


def of_prevalent(figure: str) -> Mapping[str, str]:
    """That figure of the rivals in prevalence, by column."""
    return {rival.column: f"{rival.side} {figure}" for rival in PREVALENT}


# Each task in turn by all sides, if they have it.
PREVALENCE_TASKS = ("durable", "shared", "build", "replay", "snapshot", "load")
PREVALENCE = [
    Comparison(
        "durable commands, one thread", "prevalent durable", "prevalent_limits durable", 1 / 0.9,
        rivals=of_prevalent("durable"),
    ),
    Comparison(
        "durable commands, 8 threads", "prevalent shared", "prevalent_limits shared", 1 / 0.9,
        rivals=of_prevalent("shared"),
    ),
    Comparison("journal, for a small command", "prevalent bytes", "", 80.0, "B", rivals=of_prevalent("bytes")),
    Comparison(
        "replay / read, check, unpickle, apply", "prevalent replay", "prevalent_limits replay", 1 / 0.7,
        rivals=of_prevalent("replay"),
    ),
    Comparison("replay / unpickle and apply, in memory", "prevalent replay", "prevalent_limits apply"),
    Comparison("pause for a snapshot", "prevalent pause", "", 20.0, "ms", rivals=of_prevalent("pause")),
    Comparison("snapshot in all", "prevalent snapshot", rivals=of_prevalent("snapshot")),
    Comparison(
        "open from a snapshot / unpickle", "prevalent open", "prevalent_limits open", 1.3, rivals=of_prevalent("open")
    ),
    Comparison("reads", "prevalent read", "prevalent_limits read", 1.05),
    Comparison("a command that raises, undone", "prevalent undo"),
]  # fmt: skip

FLOWS = [
    Comparison("flow in processes / a bare pool", "flows processes", "flow_limits pool"),
    Comparison("flow in processes / a commit a job", "flows processes", "flow_limits commits"),
    Comparison("flow inline / a commit a job", "flows inline", "flow_limits commits"),
]

STARTUP = [
    Comparison("import perdure (less bare python)", "import", "", 0.1, less="python"),
    Comparison("import perdure, by importtime", "import told", "", 0.1),
    Comparison("first job of a cold command", "first job", "", 0.3),
    Comparison("bare python", "python"),
]

CODE = [
    Comparison("code record: a new state of 1,000 files", "codes new state", "", 0.01),
    Comparison("code record: the same state again", "codes same state"),
]

LARGE_ROWS = ("growth", "walk", "rename")
ROWS = (*OBJECTS, *LARGE_ROWS, "postgresql", "prevalence", "flows", "code", "startup")


def needed(rows: Iterable[str]) -> set[str]:
    """The stages of `OBJECTS` among these rows, and those that must run before them."""
    found = {row for row in rows if row in OBJECTS}
    return found | {before for row in found for before in OBJECTS[row].needs}
