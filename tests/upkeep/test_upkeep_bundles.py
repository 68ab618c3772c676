"""Bundles carry objects with their code to another store; one that was harmed is refused, and changes nothing."""

from __future__ import annotations

import os
import random
import shutil
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy
import pytest

import perdure
from perdure import Persistable, make_store
from perdure.cli import main
from perdure.code.values import CodeState
from perdure.objects.coding import Source
from perdure.records.buffers import DIGEST_SIZE
from perdure.upkeep import check
from perdure.upkeep.bundles import FIRST_LINE, read_bundle, take_in, untrusted, write_bundle


class Order(Persistable):
    __indexed__ = ("number",)

    def __init__(self, number):
        self.number, self.lines, self.next = number, [], None


class Line(Persistable):
    def __init__(self, order, text):
        self.order, self.text = order, text


@pytest.fixture
def store(tmp_path):
    with make_store(f"sqlite:///{tmp_path}/from.db") as store:
        yield store
        assert check(store) == []


@pytest.fixture(params=["sqlite:///{}/to.db", "file://{}/to"])
def other(tmp_path, request):
    with make_store(request.param.format(tmp_path)) as other:
        other.save(Line(None, "was here before"))
        yield other
        assert check(other) == []


def order():
    first, second = Order(1), Order(2)
    first.next, second.next = second, first
    first.lines = [Line(first, "pen"), Line(first, "ink")]
    second.lines = numpy.arange(50_000.0)
    return first


def test_objects_arrive_with_all_that_they_refer_to(store, other, tmp_path):
    ids = [store.save(order()), store.save({"plain": [1, 2]})]
    store.save(Order(99))  # nobody asked for it
    bundle = write_bundle(store, ids, tmp_path / "some.perdure")
    assert bundle.ids == tuple(ids)
    assert bundle.verified is True
    assert bundle.store == store.backend.describe().store
    before = other.list()
    adopted = take_in(other, bundle)
    first, plain = (other.load(adopted.ids[id_]) for id_ in ids)
    assert (first.number, first.next.next is first, [line.text for line in first.lines]) == (1, True, ["pen", "ink"])
    assert first.lines[0].order is first
    assert numpy.array_equal(first.next.lines, numpy.arange(50_000.0))
    assert plain == {"plain": [1, 2]}
    assert len(other.list()) == len(before) + 5
    assert [found.number for found in other.find(Order, order_by="number")] == [1, 2]
    assert other.transactions(limit=1)[0].note == f"import from {bundle.store}"
    other.collect()
    assert adopted.ids[ids[0]] in other
    code = other.history(adopted.ids[ids[0]])[0].code
    assert isinstance(other.load(code).state, CodeState)
    assert other.undo(adopted.revision)


def test_code_and_texts_that_are_there_already_are_not_written_twice(store, other, tmp_path):
    bundle = write_bundle(store, [store.save(order())], tmp_path / "some.perdure")
    for _ in range(2):
        take_in(other, bundle)
    other.save(Order(3))
    ids = other.list(all=True)
    codes = {other.history(id_)[0].code for id_ in other.list() if id_.startswith("Order")}
    sources = [other.load(id_).digest for id_ in ids if id_.startswith("Source")]
    assert len(codes) == 1
    assert len(sources) == len(set(sources))


def test_only_code_that_is_there_changes_nothing(store, other, tmp_path):
    code = store.history(store.save(Order(1)))[0].code
    bundle = write_bundle(store, [code], tmp_path / "code.perdure")
    take_in(other, bundle)
    revision = other.revision()
    take_in(other, bundle)
    assert other.revision() == revision


def test_a_file_that_is_there_is_not_overwritten(store, tmp_path):
    (tmp_path / "some.perdure").write_text("mine")
    with pytest.raises(perdure.AccessDenied):
        write_bundle(store, [store.save(Order(1))], tmp_path / "some.perdure")
    assert (tmp_path / "some.perdure").read_text() == "mine"


def test_what_is_not_there_leaves_no_file(store, tmp_path):
    for ids in (["Order.77"], [store.save(Order(1)), "Order.78"]):
        with pytest.raises(perdure.NotFound):
            write_bundle(store, ids, tmp_path / "some.perdure")
    assert not list(tmp_path.glob("*.perdure*"))


def test_a_directory_that_is_not_there(store, tmp_path):
    with pytest.raises(perdure.StorageError):
        write_bundle(store, [store.save(Order(1))], tmp_path / "nowhere" / "some.perdure")


def test_what_the_first_format_wrote_goes_along(tmp_path):
    """Its code records tell less than today's; their digests are over what they tell."""
    copied = tmp_path / "shop.db"
    shutil.copy(Path(__file__).parent.parent / "data" / "format-1" / "shop.db", copied)
    with make_store(f"sqlite:///{copied}", trust="all") as old, make_store("memory:") as new:
        bundle = write_bundle(old, old.list(), tmp_path / "old.perdure")
        adopted = take_in(new, bundle)
        assert {record.class_name for record in bundle.records} >= {"perdure:Code", "perdure:Source"}
        assert len(new.list()) == len(old.list())
        code = next(id_ for id_ in adopted.ids.values() if id_.startswith("Code"))
        assert new.load(code).state.locks == ()
        assert check(new) == []


# -- harm ------------------------------------------------------------------------------------------------


@pytest.fixture
def made(store, tmp_path):
    path = tmp_path / "some.perdure"
    write_bundle(store, [store.save(order())], path)
    return path


def test_cut_anywhere_it_is_refused(made):
    data = made.read_bytes()
    places = [*range(0, 400, 7), *range(0, len(data), len(data) // 40), len(data) - 1]
    for place in places:
        made.write_bytes(data[:place])
        with pytest.raises(perdure.CorruptBundle):
            read_bundle(made)


def test_changed_anywhere_it_is_refused(made):
    data = made.read_bytes()
    chance = random.Random(7)
    for _ in range(100):
        place = chance.randrange(len(data))
        made.write_bytes(data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :])
        with pytest.raises((perdure.CorruptBundle, perdure.NewerFormat)):
            read_bundle(made)
    made.write_bytes(data + b"more")
    with pytest.raises(perdure.CorruptBundle):
        read_bundle(made)


def resealed(data):
    """The same with a digest that fits, as somebody makes it who means to change it."""
    body = data[:-DIGEST_SIZE]
    return body + blake2b(body, digest_size=DIGEST_SIZE).digest()


def test_changed_on_purpose_a_seal_tells_where_its_key_is_here(made, monkeypatch, tmp_path):
    data = made.read_bytes()
    start = data.index(b"\n", len(FIRST_LINE) + 3) + 9
    end = start + int.from_bytes(data[start - 8 : start], "little")
    body = data[start : end - 20].replace(b"number", b"mumber")
    assert body != data[start : end - 20]
    frame = body + crc32(body).to_bytes(4, "little") + data[end - 16 : end]
    made.write_bytes(resealed(data[:start] + frame + data[end:]))
    with pytest.raises(perdure.CorruptBundle, match="changed since it was sealed"):
        read_bundle(made)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    assert read_bundle(made).verified is None  # nobody can tell, and it says so


def test_lengths_that_lie_are_refused(made):
    data = made.read_bytes()
    start = data.index(b"\n", len(FIRST_LINE) + 3) + 1
    for length in (0, 1, 2**63, len(data)):
        made.write_bytes(resealed(data[:start] + length.to_bytes(8, "little") + data[start + 8 :]))
        with pytest.raises(perdure.CorruptRecord):
            read_bundle(made)
    for count in (b'"records": 1', b'"records": 999', b'"records": -1', b'"records": "x"', b'"pieces": 0'):
        name = count.partition(b":")[0]
        at = data.index(name)
        end = min(place for place in (data.find(b",", at), data.find(b"}", at)) if place > 0)
        made.write_bytes(resealed(data[:at] + count + data[end:]))
        with pytest.raises(perdure.CorruptRecord):
            read_bundle(made)


NO_BUNDLES = [b"", b"x", b"perdure bundle", b"perdure bundle 1\n", b"perdure bundle 1\n[]\n" + bytes(32),
              b"perdure bundle 1\n{}\n" + bytes(32), b"SQLite format 3\0" + bytes(99)]  # fmt: skip


@pytest.mark.parametrize("data", NO_BUNDLES)
def test_what_is_no_bundle(tmp_path, data):
    (tmp_path / "some.perdure").write_bytes(data)
    with pytest.raises(perdure.CorruptBundle):
        read_bundle(tmp_path / "some.perdure")


def test_a_later_format_and_no_file(tmp_path):
    (tmp_path / "some.perdure").write_bytes(b"perdure bundle 2\n{}")
    with pytest.raises(perdure.NewerFormat):
        read_bundle(tmp_path / "some.perdure")
    with pytest.raises(perdure.NotFound):
        read_bundle(tmp_path / "none.perdure")
    with pytest.raises(perdure.CorruptBundle):
        read_bundle(tmp_path)


def test_a_text_that_is_not_what_its_digest_says_is_refused(store, other, tmp_path):
    """Else later code records of this store would find it by its digest, and name it."""
    source = Source("0" * 64, "import os\n")
    bundle = write_bundle(store, [store.save(source)], tmp_path / "some.perdure")
    before = other.revision()
    with pytest.raises(perdure.CorruptBundle, match="Source"):
        take_in(other, bundle)
    assert other.revision() == before


def test_a_read_only_store_takes_nothing_in(made, store, tmp_path):
    with make_store(store.url, read_only=True) as reading, pytest.raises(perdure.ReadOnly):
        take_in(reading, read_bundle(made))


def test_reading_runs_nothing(store, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    bundle = write_bundle(store, [store.save([Evil()])], tmp_path / "some.perdure")
    assert read_bundle(tmp_path / "some.perdure").ids == bundle.ids
    assert not (tmp_path / "ran").exists()


def test_a_pipe_and_a_directory_are_no_bundles(tmp_path):
    os.mkfifo(tmp_path / "pipe.perdure")
    (tmp_path / "folder.perdure").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(perdure.CorruptBundle, match="is no bundle"):
            read_bundle(tmp_path / f"{name}.perdure")


def test_objects_of_a_bundle_are_read_without_trust(store, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    good, bad = store.save(order()), store.save({"trap": Trap()})
    write_bundle(store, [good, bad], tmp_path / "orders.perdure")
    shown, ids = untrusted(read_bundle(tmp_path / "orders.perdure"))
    loaded = shown.load(ids[good])
    assert (loaded.number, loaded.next.next is loaded) == (1, True)
    assert [line.text for line in loaded.lines] == ["pen", "ink"]
    assert numpy.array_equal(loaded.next.lines, numpy.arange(50_000.0))
    with pytest.raises(perdure.UntrustedRecord, match="mkdir"):
        shown.load(ids[bad])
    assert "mkdir" in str(shown.inspect(ids[bad]))
    loaded.number = 2
    with pytest.raises(perdure.KeyMissing):
        shown.save(loaded)
    assert not (tmp_path / "sprung").exists()


def test_a_bundle_is_shown_on_the_command_line_without_trust(store, tmp_path, capsys):
    id_ = store.save(order())
    write_bundle(store, [id_], tmp_path / "orders.perdure")
    assert main(["import", str(tmp_path / "orders.perdure"), "--show"]) == 0
    shown = capsys.readouterr().out
    assert f"\n{id_}\n" in shown
    assert ".number: 1" in shown
    assert "Nothing was taken in" in shown
