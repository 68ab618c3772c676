"""Stores that earlier releases wrote are read for ever: one folder a format in `tests/data`."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

import perdure
from perdure import make_store
from perdure.records.frame import parse_unverified
from perdure.records.seal import Key
from perdure.records.values import BUFFERED, COMPRESSED
from perdure.upkeep import check

DATA = Path(__file__).resolve().parent.parent / "data"
FORMAT_1 = DATA / "format-1"
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
    known = runpy.run_path(str(DATA / "format-2" / "make_large.py"))
    copy = shutil.copytree(DATA / "format-2" / "large", tmp_path / "large")
    with make_store(copy, key=known["KEY"], read_only=True) as store:
        assert check(store) == []
        assert store.load_many(store.list()) == known["VALUES"]
        flags = [parse_unverified(frame).flags & (BUFFERED | COMPRESSED) for frame in store.backend.scan()]
        assert flags == [BUFFERED, COMPRESSED, BUFFERED | COMPRESSED]
        assert len(store.backend.buffers()) == 3
