"""Stores that earlier releases wrote are read for ever: one folder a format in `tests/data`."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

import perdure
from perdure import make_store
from perdure.records.frame import decode, parse_unverified
from perdure.records.seal import Key
from perdure.records.shape import parse_shape
from perdure.records.values import BUFFERED, COMPRESSED, PLAIN, SHAPED
from perdure.upkeep import check

DATA = Path(__file__).resolve().parent.parent / "data"
FORMAT_1, FORMAT_2 = DATA / "format-1", DATA / "format-2"
KEY = Key(bytes(range(32)))


@pytest.fixture(params=["shop.db", "shop"])
def old(request, tmp_path, monkeypatch):
    """A copy of a store that the first release wrote, and its classes."""
    monkeypatch.syspath_prepend(str(FORMAT_1))
    source, copy = FORMAT_1 / request.param, tmp_path / request.param
    if source.is_dir():
        shutil.copytree(source, copy)
        return str(copy)
    shutil.copy(source, copy)
    return f"sqlite:////{copy.as_posix().lstrip('/')}"


def test_a_store_of_format_1_loads(old):
    with make_store(old, key=KEY, read_only=True) as store:
        assert check(store) == []
        ada, ben = store.roots["customers"]
        assert (ada.name, ben.name, ada.friend is ben, ben.friend is ada) == ("Ada", "Ben", True, True)
        assert (ada.orders[0].amount, ada.orders[0].currency, ada.orders[1]["for"] is ben) == (3, "EUR", True)
        assert ada.tags == {"new", "dear", "old"}
        queue = store.roots["queue"]
        assert (queue[0] is ada, queue[1:3], queue[3] is queue, queue.name) == (True, [1, "two"], True, "waiting")
        by_class = {store.history(id_)[0].class_name: store.load(id_) for id_ in store.list()}
        slotted = by_class["format1_shop:Slotted"]
        assert (slotted.number, slotted.customer is ada) == (7, True)
        assert by_class["format1_shop:Fraught"].secret == "open sesame"
        assert by_class["builtins:list"] == [1, ben, {"three"}]
        assert [version.note for version in store.history(ada.persistent_id)] == ["second", "first"]


def test_a_run_of_format_1_is_read_and_run_again(old, monkeypatch):
    with make_store(old, key=KEY) as store:
        (run,) = [store.load(id_) for id_ in store.list(all=True) if id_.startswith("Run.")]
        assert (run.state, run.result()) == (perdure.RunState.SUCCEEDED, {"total": 4})
        assert [len(job.attempts) for job in run.jobs()] == [1, 2, 1, 1]
        (failed, mended) = run.jobs()[1].attempts
        assert (failed.state, failed.error_type, failed.error) == ("failed", "ValueError", "3 is odd")
        assert mended.code.state.modules[0].name == "format1_shop"
        monkeypatch.setenv("MENDED", "1")
        perdure.rerun(run, all=True)
        assert (run.result(), [len(job.attempts) for job in run.jobs()]) == ({"total": 4}, [2, 3, 2, 2])
        assert check(store) == []


def test_a_store_of_format_1_is_written_on(old):
    with make_store(old, key=KEY) as store:
        ada, _ = store.roots["customers"]
        ada.name = "Ada Lovelace"
        store.save(ada)
    with make_store(old, key=KEY) as store:
        assert store.roots["customers"][0].name == "Ada Lovelace"
        assert check(store) == []


def test_large_pieces_and_compressed_records_of_format_2_are_read(tmp_path):
    known = runpy.run_path(str(FORMAT_2 / "make_large.py"))
    copy = shutil.copytree(FORMAT_2 / "large", tmp_path / "large")
    with make_store(copy, key=known["KEY"], read_only=True) as store:
        assert check(store) == []
        assert store.load_many(store.list()) == known["VALUES"]
        flags = [parse_unverified(frame).flags & (BUFFERED | COMPRESSED) for frame in store.backend.scan()]
        assert flags == [BUFFERED, COMPRESSED, BUFFERED | COMPRESSED]
        assert len(store.backend.buffers()) == 3


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A copy of a store of format 2 whose plain values are whole pickles, and what is known of it."""
    monkeypatch.syspath_prepend(str(FORMAT_2))
    return shutil.copytree(FORMAT_2 / "parts", tmp_path / "parts"), runpy.run_path(str(FORMAT_2 / "make_parts.py"))


def plain_values(store):
    """The pickles of the plain values in a store, by ids."""
    records = (decode(frame, KEY) for frame in store.backend.scan())
    shaped = [record for record in records if record.flags & (SHAPED | PLAIN) == SHAPED | PLAIN]
    return {record.id: record.payload[len(parse_shape(record.payload).head) :] for record in shaped}


@pytest.mark.parametrize("key", [KEY, None], ids=["sealed", "foreign"])
def test_whole_pickles_of_plain_values_are_read(parts, key):
    path, known = parts
    with make_store(path, key=key, read_only=True) as store:
        both, first, *others = store.load_many(store.list())
        assert [(part.owner, {**vars(part), "owner": None}) for part in others] == [
            (first, {**state, "owner": None}) for state in known["PLAIN"]
        ]
        assert (first.name, both.owner is first, both.both) == ("first", True, [first, {"of": first}])


def test_whole_pickles_of_plain_values_that_were_only_looked_at_are_not_written_anew(parts):
    path, known = parts
    with make_store(path, key=KEY, code="off") as store:
        before, whole = store.revision(), plain_values(store)
        assert len(whole) == 1 + len(known["PLAIN"])
        assert all(pickled[:3] == b"\x80\x05\x95" for pickled in whole.values())
        with store.transaction():
            assert all(vars(part) for part in store.load_many([*whole]))
        assert (store.revision(), plain_values(store)) == (before, whole)
        parts = store.load_many([*whole])
        assert not any(part.changed for part in parts)
        store.save_many(parts[1:2])
        assert plain_values(store)[parts[0].persistent_id] == whole[parts[0].persistent_id]
        parts[1].number = 2
        store.save(parts[1])
    with make_store(path, key=KEY) as store:
        assert check(store) == []
        now = plain_values(store)
        (changed,) = [id_ for id_ in now if now[id_] != whole[id_]]
        assert (store.load(changed).number, now[changed][:1]) == (2, b"]")
