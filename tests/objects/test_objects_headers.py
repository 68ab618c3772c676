"""Headers of records that somebody else has written: what no release writes is named, and steers no terminal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import PerdureError, Persistable, Store, UntrustedRecord, make_store
from perdure.cli import main
from perdure.records.buffers import pack_table, read_table, table_size
from perdure.records.frame import encoder, parse_unverified
from perdure.records.seal import Key
from perdure.records.values import Draft, Record

STRANGER = encoder(Key(bytes(range(32))))
EVIL = "\x1b[2J\r\x07\x9b\u202eevil"
HEADERS: dict[str, dict[str, Any]] = {
    "the class": {"class_name": f"module:{EVIL}"},
    "the id": {"id": f"Note{EVIL}.2"},
    "another id": {"id": "Note.77"},
    "no id": {"id": "../../etc/passwd"},
    "the code record": {"code": EVIL},
    "a code record that is none": {"code": "zzz"},
    "references": {"references": (EVIL, "../../etc/passwd")},
    "references without end": {"references": ("Note." + "9" * 400,)},
    "names of fields": {"fields": {EVIL: EVIL, "state": EVIL}},
    "fields that are lists": {"fields": {"state": [1, [2]]}},
    "a field that is no number": {"fields": {"state": float("nan")}},
    "a field that is too long": {"fields": {"state": "x" * 5000}},
    "a class of perdure's own": {"flags": 4, "class_name": "perdure:Code"},
}
LOOKS: dict[str, Callable[[Store, str], Any]] = {
    "load": lambda store, id_: store.load(id_),
    "load all": lambda store, id_: [*map(store.load, store.list(all=True))],
    "find": lambda store, id_: store.find(Note, state="new"),
    "in order": lambda store, id_: store.find(Note, order_by="state"),
    "iterate": lambda store, id_: [*store.iterate(Note)],
    "history": lambda store, id_: store.history(id_),
    "inspect": lambda store, id_: str(store.inspect(id_)),
    "check": lambda store, id_: str(store.check()),
    "collect": lambda store, id_: store.collect(dry_run=True),
    "repair": lambda store, id_: store.repair(),
    "backup": lambda store, id_: store.backup(f"{store.backend.directory}.backup"),
}


class Note(Persistable):
    __indexed__ = ("state",)

    def __init__(self) -> None:
        self.state = "new"


@pytest.fixture(params=HEADERS)
def changed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A directory with one record whose header somebody else has written, under their key."""
    with make_store(tmp_path / "store") as store:
        id_, _ = store.save_many([Note(), Note()])
    path = tmp_path / "store" / str(id_)
    values = parse_unverified(path.read_bytes())._asdict()
    revision = values.pop("revision")
    path.write_bytes(STRANGER(Draft(base=0, **{**values, **HEADERS[request.param]}), revision))
    return tmp_path / "store", str(id_)


@pytest.mark.parametrize("how", LOOKS)
def test_whatever_a_header_tells_comes_out_as_an_error_that_can_be_printed(changed, how):
    place, id_ = changed
    with make_store(place) as store:
        try:
            told = LOOKS[how](store, id_)
        except PerdureError as error:
            told = str(error)
        if isinstance(told, str):
            assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "words", [["ls", "--all"], ["show", "ID"], ["inspect", "ID"], ["check", "STORE"], ["history", "ID"]]
)
def test_whatever_a_header_tells_steers_no_terminal(changed, words, capsys, monkeypatch):
    place, id_ = changed
    monkeypatch.setenv("PERDURE_STORE", str(place))
    main([{"ID": id_, "STORE": str(place)}.get(word, word) for word in words])
    shown = "".join(capsys.readouterr())
    assert shown.replace("\n", "").isprintable()


def test_a_large_piece_that_is_named_again_and_again(tmp_path):
    with make_store(tmp_path / "store") as store:
        note = Note()
        note.text = b"x" * 70_000
        id_ = store.save(note)
    path = tmp_path / "store" / str(id_)
    values = parse_unverified(path.read_bytes())._asdict()
    revision, payload = values.pop("revision"), values.pop("payload")
    again = pack_table(read_table(payload) * 20_000) + payload[table_size(payload) :]
    path.write_bytes(STRANGER(Draft(base=0, payload=again, **values), revision))
    with make_store(tmp_path / "store") as store:
        tracemalloc.start()
        try:
            assert "1400000000 bytes of large pieces" in store.inspect(id_).problem
            with pytest.raises(UntrustedRecord):
                store.load(id_)
            assert tracemalloc.get_traced_memory()[1] < 100 << 20
        finally:
            tracemalloc.stop()


def test_errors_escape_what_they_repeat():
    error = PerdureError(f"named {EVIL}", hint="Look.")
    assert str(error) == "named \\x1b[2J\\r\\x07\\x9b\\u202eevil Look."
    assert str(PerdureError("Füller ☼\nand a second line")) == "Füller ☼\nand a second line"


def test_headers_of_other_records_are_what_they_were():
    told = Record("Note.2", 3, 0, "shop:Bür<locals>.Note", 1, "Code.4", ("Note.1", "Ä.7"), {"a": None, "b": 1.5}, b"N.")
    values = told._asdict()
    del values["revision"]
    assert parse_unverified(STRANGER(Draft(base=0, **values), 3)) == told
    assert perdure.inspect(STRANGER(Draft(base=0, **values), 3)).record == told
