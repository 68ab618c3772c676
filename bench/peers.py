"""The rivals: which column is whose, which of them are installed here, and with which settings they are measured.

- What is not installed is said, with the reason, and never left out silently.
- gc3pie needs an older Python: it is measured by the interpreter that is named for it, if that has it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple


class Rival(NamedTuple):
    """A column of the table."""

    column: str
    side: str  # the module with its tasks
    package: str  # whose version is said; empty: a part of Python
    settings: str


RIVALS = (
    Rival("ZODB", "peer_zodb", "ZODB", "FileStorage, which keeps history; a BTree by key"),
    Rival("RelStorage", "peer_relstorage", "RelStorage", "on SQLite, free of history; synchronous=FULL (else NORMAL)"),
    Rival("Durus", "peer_durus", "Durus", "FileStorage, synced after each commit (else never)"),
    Rival("shelve", "peer_shelve", "", "dbm.dumb, which neither syncs to the disk nor commits several keys at once"),
    Rival("sqlitedict", "peer_sqlitedict", "sqlitedict", "write-ahead log, synchronous=FULL (else OFF)"),
    Rival("diskcache", "peer_diskcache", "diskcache", "synchronous=FULL (else NORMAL), nothing evicted"),
    Rival("gc3pie", "peer_gc3pie", "gc3pie", "a file for each object, which neither syncs nor commits several at once"),
)
RELSTORAGE_POSTGRESQL = Rival(
    "RelStorage", "peer_relstorage_postgresql", "RelStorage", "on PostgreSQL by psycopg2, free of history"
)
PREVALENT = (
    Rival("coopy", "peer_coopy", "coopy", 'durability="sync", no seal; commands wait while a snapshot is made'),
    Rival("eventsourcing", "peer_eventsourcing", "eventsourcing", "on SQLite, one aggregate, a save for each event"),
)
EVERY = (*RIVALS, *PREVALENT)  # with columns of their own


class Present(NamedTuple):
    """A rival that can be measured here."""

    rival: Rival
    interpreter: str
    said: str  # what it is, in a line of the report


def find(wanted: Sequence[str], gc3pie: str | None) -> tuple[list[Present], list[str]]:
    """The rivals of those names that are here, and a line for each that is not."""
    present, absent = [], []
    for rival in EVERY:
        if rival.column not in wanted:
            continue
        found = look_for(rival, gc3pie if rival.column == "gc3pie" else None)
        if isinstance(found, Present):
            present.append(found)
        else:
            absent.append(found)
    return present, absent


def look_for(rival: Rival, interpreter: str | None = None) -> Present | str:
    """The rival as it is installed, for that interpreter (else this one); or the sentence that says why not."""
    if interpreter:
        return _by_another(rival, interpreter)
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if not rival.package:
        return Present(rival, sys.executable, f"{rival.column}, {_shelf_settings(rival)} ({python})")
    try:
        return Present(rival, sys.executable, f"{rival.package} {version(rival.package)}, {rival.settings}")
    except PackageNotFoundError:
        why = " (it needs Python 3.9 or older: `--gc3pie` names one that has it)" if rival.column == "gc3pie" else ""
        return f"{rival.column}: not installed here{why}"


def _by_another(rival: Rival, interpreter: str) -> Present | str:
    program = (
        "import sys, importlib.metadata as m, gc3libs.persistence; "
        "print(m.version(sys.argv[1]), '%d.%d' % sys.version_info[:2])"
    )
    command = [interpreter, "-c", program, rival.package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{rival.column}: not installed here ({interpreter}: {error.strerror})"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason is told"])[-1]
        return f"{rival.column}: not installed here ({interpreter}: {reason})"
    found, python = done.stdout.split()
    return Present(rival, interpreter, f"{rival.package} {found} by Python {python}, {rival.settings}")


def _shelf_settings(rival: Rival) -> str:
    """The settings said for `dbm.dumb`; another module of `dbm` is only named."""
    import dbm
    import tempfile

    with tempfile.TemporaryDirectory() as folder, dbm.open(f"{folder}/shelf", "c") as opened:
        module = type(opened).__module__
    return rival.settings if module == "dbm.dumb" else f"{module}, `sync` after each commit"


def default_gc3pie() -> str | None:
    """The interpreter that `make bench` made for gc3pie."""
    place = Path(sys.prefix) / "gc3pie" / "bin" / "python"
    return str(place) if place.exists() else None
