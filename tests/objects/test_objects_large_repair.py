"""A large piece that was damaged on its medium is made whole by saving its content again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import Place
from servers import execute, table_of

from perdure import DiskFull, Persistable
from perdure.upkeep import check


class Table(Persistable):
    def __init__(self, numbers: Any):
        self.numbers = numbers


def changed(place: Place) -> None:
    """One byte of the only large piece is another one now."""
    if place.kind == "directory":
        path = piece_of(place)
        content = bytearray(path.read_bytes())
        content[4006] ^= 1
        path.write_bytes(content)
        return
    if place.is_on_server:
        turned = "set_byte(content, 5, 77)" if place.kind == "postgresql" else "INSERT(content, 5, 1, x'4d')"
        execute(place.kind, f"UPDATE {table_of(place.folder)}_pieces SET content = {turned}")
        return
    with sqlite3.connect(place.folder / "objects.db") as connection:
        connection.execute("UPDATE buffer_parts SET content = zeroblob(size)")
    connection.close()


def cut(place: Place) -> None:
    if place.kind == "directory":
        piece_of(place).write_bytes(piece_of(place).read_bytes()[:1000])
        return
    if place.is_on_server:
        short = "substring(content, 1, 100)"
        execute(place.kind, f"UPDATE {table_of(place.folder)}_pieces SET content = {short}, length = 100")
        return
    with sqlite3.connect(place.folder / "objects.db") as connection:
        connection.execute("UPDATE buffer_parts SET content = substr(content, 1, 100)")
    connection.close()


def piece_of(place: Place) -> Path:
    (path,) = (place.folder / "objects" / ".perdure" / "buffers").glob("*/*")
    return path


@pytest.fixture
def on_disk(place: Place) -> Place:
    if place.kind == "memory":
        pytest.skip("nothing damages what is in this process")
    return place


@pytest.mark.parametrize("damage", [changed, cut])
def test_saving_the_content_again_repairs_it(on_disk: Place, damage: Callable[[Place], None]) -> None:
    numbers = np.arange(20_000.0)
    store = on_disk.open(code="off")
    first = store.save(Table(numbers))
    store.close()
    damage(on_disk)
    store = on_disk.open(code="off")
    assert [problem.id for problem in check(store)] == [first]
    second = store.save(Table(numbers.copy()))
    store.close()
    store = on_disk.open(code="off")
    assert check(store) == []
    for id_ in (first, second):
        assert (store.load(id_).numbers == numbers).all()


def test_a_repair_outlives_the_commit_that_made_it_and_failed(on_disk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if on_disk.kind != "directory":
        pytest.skip("in a database it goes with the commit")
    numbers = np.arange(20_000.0)
    store = on_disk.open(code="off")
    id_ = store.save(Table(numbers))
    store.close()
    changed(on_disk)
    store = on_disk.open(code="off")

    def full(*_: object) -> None:
        raise DiskFull("no space")

    monkeypatch.setattr(type(store.backend._medium), "commit", full)
    with pytest.raises(DiskFull):
        store.save(Table(numbers))
    monkeypatch.undo()
    assert check(store) == []
    assert (store.load(id_).numbers == numbers).all()


def test_what_is_there_is_looked_through_once(on_disk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.arange(20_000.0)
    on_disk.open(code="off").save(Table(numbers))
    store = on_disk.open(code="off")
    store.save(Table(numbers))
    if on_disk.kind == "directory":
        monkeypatch.setattr("perdure.backends.filesystem.buffers.PieceFiles.parts", None)
    elif on_disk.is_on_server:
        monkeypatch.setattr("perdure.backends.server.uploading.Uploads._is_sound", None)
    else:
        monkeypatch.setattr("perdure.backends.sqlite.buffers.is_sound", None)
    store.save(Table(numbers))
    assert len(store.backend.buffers()) == 1
