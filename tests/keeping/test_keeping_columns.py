"""Columns for other programs are filled when a store is copied or restored; what was not is said."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest
from pasts import Note, Places

from perdure import Persistable, copy_store, restore
from perdure.cli import main
from perdure.upkeep import check

COLUMNS = {"state": attrgetter("state"), "text": attrgetter("text")}


class Bare(Persistable):
    """Tells nothing in its header."""


def rows(places: Places, kind: str, name: str) -> list[tuple[object, ...]]:
    if kind == "sqlite":
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(places.folder / f"{name}.db")) as connection:
            return connection.execute("SELECT state, text FROM records WHERE class > 0 ORDER BY number").fetchall()
    import servers

    table = servers.table_of(places.folder / name)
    return servers.query(kind, f"SELECT state, text FROM {table} WHERE class > 0 ORDER BY number")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_columns_get_what_headers_tell(kind: str, places: Places, tmp_path: Path) -> None:
    store = places.open("directory", extra_fields=COLUMNS, code="off")
    notes = [Note(f"note {number}") for number in range(3)]
    store.save_many(notes)
    notes[1].text = "changed"
    store.save(notes[1])
    store.backup(tmp_path / "b")
    expected = [("new", "note 0"), ("new", "changed"), ("new", "note 2")]
    done = copy_store(places.url("directory", "store"), places.url(kind, "copy"), extra_fields=COLUMNS)
    assert (rows(places, kind, "copy"), done.unfilled) == (expected, ())
    done = restore(tmp_path / "b", places.url(kind, "restored"), extra_fields=COLUMNS)
    assert (rows(places, kind, "restored"), done.unfilled) == (expected, ())
    copy = places.open(kind, "copy", extra_fields=COLUMNS)
    assert copy.count(Note, text="changed") == 1
    assert check(copy) == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_what_is_not_filled_is_said_and_a_reindex_fills_it(kind: str, places: Places) -> None:
    store = places.open("directory", code="off")
    store.save_many([Note("one"), Bare()])
    done = copy_store(places.url("directory", "store"), places.url(kind, "copy"), extra_fields=COLUMNS)
    assert done.unfilled == ("state", "text")  # the headers of notes tell the one, those of others neither
    assert rows(places, kind, "copy") == [("new", None), (None, None)]
    store.save(Note("two"))
    done = copy_store(places.url("directory", "store"), places.url(kind, "copy"))
    assert done.unfilled == ("state", "text")  # they are there, and nobody has asked for them
    copy = places.open(kind, "copy", extra_fields=COLUMNS)
    copy.reindex(Note)
    with pytest.warns(UserWarning, match="extra field"):
        copy.reindex(Bare)
    assert rows(places, kind, "copy") == [("new", "one"), (None, None), ("new", "two")]


def test_the_verb_says_what_was_not_filled(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    places.open("directory", code="off").save(Note("one"))
    url, copy = places.url("directory", "store"), places.url("sqlite", "copy")
    places.open("sqlite", "copy", extra_fields=COLUMNS).close()
    assert main(["copy", url, copy]) == 0
    told = capsys.readouterr().err
    assert ("state, text" in told, "extra_fields" in told) == (True, True)
    assert main(["copy", copy, places.url("sqlite", "plain")]) == 0
    assert capsys.readouterr().err == ""
