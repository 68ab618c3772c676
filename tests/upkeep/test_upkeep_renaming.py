"""Names change in whole stores on every backend, and back; what is uncertain is left alone and reported."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from renaming_shop import shop

import perdure
from perdure.errors import CannotRename, ClassNotFound, CorruptRecord, InvalidArgument, StorageError, TransactionError
from perdure.pickling.renames import Renames
from perdure.records.frame import decode, encoder, parse_unverified
from perdure.records.splicing import Splicer
from perdure.records.values import COMPRESSED, INTERNAL, PLAIN, Batch, Draft
from perdure.upkeep import put_back, rename_in_store, renaming
from perdure.upkeep.renamed import renamed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "objects"))
from places import Place

KINDS = ("memory", "directory", "sqlite", "postgresql", "mysql")
MOVE = Renames({}, {"old_shop": "shop.models"})
CART = Renames({"old_shop:Cart": "old_shop:Basket"})


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    found = Place(request.param, tmp_path)
    yield found
    if found.is_whole:
        with found.open() as store:
            assert store.check() == []
    found.close()


@contextmanager
def opened(place: Place, **settings: Any) -> Iterator[Any]:
    """The store, as another program opens it; one in memory goes on."""
    store = place.open(**settings)
    yield store
    if place.kind != "memory":
        store.close()


@pytest.fixture
def sqlite(tmp_path):
    found = Place("sqlite", tmp_path)
    yield found
    found.close()


def fill(store, old) -> dict[str, str]:
    """Save one of everything; gives the ids."""
    colour = old.Colour.RED
    pen = old.Plain("pen")
    cart = old.Cart(3, lines=[old.Line("pen"), old.Line(colour)], note=old.Cart.Note(), label="Cart", of="old_shop")
    things = {
        "cart": cart, "pen": pen, "box": old.Plain("box", pen), "listed": old.Listed([old.Line(1), pen]),
        "slotted": old.Slotted(old.Line(pen)),
        "classes": old.Plain("c", [old.Line, old.work, old.Cart.Note, old.Colour]),
        "large": old.Plain(old.Line("x" * 100_000), [b"y" * 70_000, old.Line("end")]),
        "packed": old.Plain("z" * 9000, old.Line("old_shop" * 2000)),
    }  # fmt: skip
    store.save_many(list(things.values()))
    ids = {name: thing.persistent_id for name, thing in things.items()}
    store.roots["line"] = old.Line("root")
    store.roots["values"] = {"colour": [colour, "old_shop:Cart"]}
    ids["value"] = store.save([old.Line("value")])
    ids["plain"] = store.save({"old_shop": "Cart"})
    return ids


def look(store, new, ids) -> None:
    """Everything is there under its new name, and texts that look like names are what they were."""
    found = {name: store.load(id_) for name, id_ in ids.items()}
    cart = found["cart"]
    assert isinstance(cart, new.Cart)
    assert (cart.total, cart.label, cart.of, type(cart.note)) == (3, "Cart", "old_shop", new.Cart.Note)
    assert [type(line) for line in cart.lines] == [new.Line, new.Line]
    assert cart.lines[1].of is new.Colour.RED
    assert found["box"].other is found["pen"]
    assert isinstance(found["listed"], new.Listed)
    assert (found["listed"][0].of, found["listed"][1]) == (1, found["pen"])
    assert found["slotted"].line.of is found["pen"]
    assert found["classes"].other == [new.Line, new.work, new.Cart.Note, new.Colour]
    assert (found["large"].name.of, found["large"].other[0]) == ("x" * 100_000, b"y" * 70_000)
    assert found["large"].other[1].of == "end"
    assert (found["packed"].name, found["packed"].other.of) == ("z" * 9000, "old_shop" * 2000)
    assert store.roots["line"].of == "root"
    assert store.roots["values"] == {"colour": [new.Colour.RED, "old_shop:Cart"]}
    assert found["value"][0].of == "value"
    assert found["plain"] == {"old_shop": "Cart"}
    assert store.find(new.Cart, total=3) == [cart]
    assert store.count(new.Cart, total__gt=2) == 1


def test_everything_has_its_new_name_and_nothing_else_has_changed(place):
    with shop() as old, opened(place) as store:
        ids = fill(store, old)
    with opened(place) as store:
        expected = rename_in_store(store, MOVE, dry_run=True)
        before = store.revision()
        report = rename_in_store(store, MOVE)
        assert report == expected._replace(revisions=(before + 1,))
        assert report.refused == ()
        assert report.classes["old_shop:Cart", "shop.models:Cart"] == 1
        assert report.names["old_shop:Line", "shop.models:Line"] >= 8
        assert store.transactions(1)[0].note == "rename old_shop to shop.models"
    with shop("shop.models") as new, opened(place) as store:
        look(store, new, ids)
        assert rename_in_store(store, MOVE).records == 0
        assert store.revision() == before + 1


def test_it_can_be_taken_back_and_done_again(place):
    with shop() as old, opened(place) as store:
        ids = fill(store, old)
    with opened(place) as store:
        (revision,) = rename_in_store(store, MOVE).revisions
        undone = store.undo(revision)
    with shop() as old, opened(place) as store:
        look(store, old, ids)
    with opened(place) as store:
        store.undo(undone)
    with shop("shop.models") as new, opened(place) as store:
        look(store, new, ids)
        with store.at(revision - 1) as past, shop() as old:
            assert isinstance(past.load(ids["pen"]), old.Plain)


def test_one_class_and_what_is_nested_in_it(place):
    with shop() as old, opened(place) as store:
        ids = fill(store, old)
    with opened(place) as store:
        report = rename_in_store(store, CART)
        assert report.classes == {("old_shop:Cart", "old_shop:Basket"): 1}
        assert report.names == {("old_shop:Cart.Note", "old_shop:Basket.Note"): 2}
        assert report.records == 2
    with shop("old_shop", "Basket") as new, opened(place) as store:
        look(store, new, ids)


def test_objects_that_are_loaded_follow(place):
    with shop() as old, opened(place) as store:
        pen = old.Plain("pen")
        store.save(pen)
        with shop("shop.models") as new:
            rename_in_store(place.open(), MOVE)
            again = store.load(pen.persistent_id)
            assert (again.name, isinstance(again, new.Plain)) == ("pen", True)


def test_the_past_and_classes_that_are_not_concerned_stay(place):
    with shop() as old, opened(place) as store:
        pen = store.save(old.Plain("pen"))
        other = store.save({"old_shop:Plain": 1})
        report = rename_in_store(store, Renames({"old_shop:Plain": "x:P"}))
        assert (report.records, report.looked_at >= 2) == (1, True)
        assert [version.class_name for version in store.history(pen)] == ["x:P", "old_shop:Plain"]
        assert len(store.history(other)) == 1


def test_columns_of_other_programs_stay_filled(sqlite):
    import sqlite3

    with shop() as old, sqlite.open(extra_fields={"label": lambda obj: obj.name}) as store:
        store.save_many([old.Plain("a"), old.Plain("b", old.Line(1))])
        rename_in_store(store, MOVE)
    sqlite.opened.clear()
    rename_in_store(sqlite.open(), Renames({"shop.models:Plain": "x:P"}))
    with sqlite3.connect(sqlite.folder / "objects.db") as connection:
        rows = connection.execute("SELECT label FROM records WHERE class > 0 ORDER BY number").fetchall()
    connection.close()
    assert rows == [("a",), ("b",)]


# -- what is uncertain -------------------------------------------------------------------------------------------


def test_what_is_uncertain_is_left_alone_and_reported(place):
    with shop() as old, opened(place) as store:
        blob = pickle.dumps(old.Line("inside"))
        whole = store.save(old.Plain("whole", old.Line(1)))
        refused = store.save(old.Plain("refused", [blob, old.Line(2)]))
        plain = store.save(old.Plain(blob))
        large = store.save(old.Plain("large", pickle.dumps([old.Line(1), "x" * 100_000], 5)))
        alike = store.save(old.Plain(b"old_shop\nLine\n" * 10_000, b"old_shop:Line"))
        report = rename_in_store(store, MOVE)
        assert {each.id for each in report.refused} == {refused, plain, large}
        assert {each.class_name for each in report.refused} == {"old_shop:Plain"}
        assert all("another pickle" in each.why for each in report.refused)
        assert report.records == 2
        assert rename_in_store(store, MOVE).refused == report.refused
    with shop("shop.models") as new, opened(place) as store:
        assert store.load(whole).other.of == 1
        assert store.load(alike).other == b"old_shop:Line"
        assert store.history(refused)[0].class_name == "old_shop:Plain"
        with shop() as old:
            assert type(store.load(refused).other[1]) is old.Line
        assert new.Plain is not old.Plain


def test_extension_codes_are_refused(sqlite):
    import copyreg

    with shop() as old, sqlite.open() as store:
        copyreg.add_extension("old_shop", "Line", 200)
        try:
            coded = store.save(old.Slotted([old.Line(1)]))
        finally:
            copyreg.remove_extension("old_shop", "Line", 200)
        report = rename_in_store(store, Renames({"old_shop:Line": "new:Line"}))
        assert [each.id for each in report.refused] == [coded]
        assert "EXT1 at position" in report.refused[0].why


def test_a_record_without_a_good_seal_is_never_sealed_anew(sqlite):
    with shop() as old, sqlite.open() as store:
        good, bad = store.save(old.Plain("good")), store.save(old.Plain("bad", old.Line(1)))
        plain = store.save(old.Plain("plain"))
        record = decode(store.backend.read([plain])[plain], store.key)
        forged = Draft(*record)._replace(base=record.revision)
        store.backend.apply(Batch([forged], seen=-1), encoder(perdure.Key.new()))
        record = decode(store.backend.read([bad])[bad], store.key)
        store.backend.apply(Batch([Draft(*record)], seen=-1), encoder(perdure.Key.new()))
        report = rename_in_store(store, MOVE)
        assert {each.id for each in report.refused} == {bad, plain}
        assert all("good seal" in each.why for each in report.refused)
        assert (report.records, store.history(good)[0].class_name) == (1, "shop.models:Plain")


def test_wrong_calls(sqlite, tmp_path):
    with shop() as old, sqlite.open() as store:
        store.save(old.Plain("pen"))
        with pytest.raises(TransactionError), store.transaction():
            rename_in_store(store, MOVE)
    with sqlite.open(read_only=True) as store:
        assert rename_in_store(store, MOVE, dry_run=True).records == 1
        with pytest.raises(perdure.ReadOnly):
            rename_in_store(store, MOVE)


# -- others ------------------------------------------------------------------------------------------------------


def test_what_others_write_meanwhile_is_changed_too(place, monkeypatch):
    with shop() as old, opened(place) as store, opened(place) as other:
        ids = store.save_many([old.Plain(f"n{number}", old.Line(number)) for number in range(5)])
        apply, calls = type(store.backend).apply, []

        def meddled(self, batch, encode):
            if batch.note.startswith("rename") and len(calls) < 2:
                calls.append(batch)
                first = other.load(ids[len(calls)])
                first.name += " changed"
                other.save(first)
                ids.append(other.save(old.Plain("new", old.Line(0))))
            return apply(self, batch, encode)

        monkeypatch.setattr(type(store.backend), "apply", meddled)
        report = rename_in_store(place.open(), MOVE)
        assert (report.records, report.refused) == (len(ids), ())
    with shop("shop.models") as new, opened(place) as store:
        found = store.load_many(ids)
        assert all(isinstance(each, new.Plain) for each in found)
        assert sorted(each.name for each in found)[:3] == ["n0", "n1 changed", "n2 changed"]


def test_large_stores_get_several_commits(place, monkeypatch):
    monkeypatch.setattr(renaming, "TOGETHER", 3)
    monkeypatch.setattr(renaming, "STEP", 2)
    with shop() as old, opened(place) as store:
        ids = store.save_many([old.Plain(number, old.Line(1) if number % 2 else None) for number in range(10)])
        told = []
        report = rename_in_store(store, MOVE, progress=lambda done, of: told.append((done, of)))
        assert (report.records, len(report.revisions)) == (10, 3)
        assert told[-1][0] <= told[-1][1]
        assert [done for done, _ in told] == sorted(done for done, _ in told)
    with shop("shop.models") as new, opened(place) as store:
        assert [each.name for each in store.load_many(ids)] == list(range(10))
        for revision in reversed(report.revisions):
            store.undo(revision)
        with pytest.raises(ClassNotFound):
            store.load(ids[0])
        assert new.Plain.__module__ == "shop.models"


# -- without history ---------------------------------------------------------------------------------------------


def test_where_no_history_is_kept_a_copy_is_made_first(place, tmp_path):
    with shop() as old, opened(place, history="off") as store:
        ids = fill(store, old)
        with pytest.raises(InvalidArgument, match="copy_to"):
            rename_in_store(store, MOVE)
    copy = tmp_path / "before.frames"
    with opened(place, history="off") as store:
        report = rename_in_store(store, MOVE, copy_to=copy)
        assert report.records > 8
        with pytest.raises(StorageError, match="not overwritten"):
            rename_in_store(store, MOVE, copy_to=copy)
    with shop("shop.models") as new, opened(place, history="off") as store:
        look(store, new, ids)
        box = store.load(ids["box"])
        box.name = "changed since"
        store.save(box)
    with opened(place, history="off") as store:
        back = put_back(store, MOVE, copy)
        assert (back.records, [each.id for each in back.refused]) == (report.records - 1, [ids["box"]])
        assert put_back(store, MOVE, copy).records == 0
    with opened(place, history="off") as store:
        there = Renames({}, {"shop.models": "old_shop"})
        assert rename_in_store(store, there, copy_to=tmp_path / "second.frames").records == 1
    with shop() as old, opened(place) as store:
        assert store.load(ids["box"]).name == "changed since"
        store.load(ids["box"]).name = "box"
        look(store, old, ids)


def test_a_copy_that_was_cut_short_is_told(sqlite, tmp_path):
    copy = tmp_path / "before.frames"
    with shop() as old, sqlite.open() as store:
        store.save(old.Plain("pen"))
        rename_in_store(store, MOVE, copy_to=copy)
        copy.write_bytes(copy.read_bytes()[:-5])
        with pytest.raises(CorruptRecord, match="cut short"):
            put_back(store, MOVE, copy)
        with pytest.raises(perdure.NotFound):
            put_back(store, MOVE, tmp_path / "nothing")


# -- perdure's own -----------------------------------------------------------------------------------------------


def own(class_name: str, graph: object, fields: dict[str, object]) -> perdure.records.values.Record:  # type: ignore[name-defined]
    from perdure.records.shape import shape_of
    from perdure.records.values import SHAPED, Record

    shape = shape_of(tuple(graph), ())
    payload = shape.head + pickle.dumps(list(graph.values()), 5)
    return Record("Job.1", 7, INTERNAL | SHAPED | PLAIN, class_name, 0, "Code.2", (), fields, payload)


def test_functions_of_jobs_and_runs_have_their_new_names():
    job = own("perdure:Job", {"_name": "work", "_function": "old_shop:work"}, {"function": "old_shop:work", "a": 1})
    draft = renamed(job, MOVE).draft
    assert draft.fields == {"function": "shop.models:work", "a": 1}
    assert b"shop.models:work" in draft.payload
    assert b"old_shop" not in draft.payload
    run = own(
        "perdure:Run",
        {"_flow": "old_shop:total", "_source": "old_shop"},
        {"flow": "old_shop:total", "source": "old_shop"},
    )
    draft = renamed(run, MOVE).draft
    assert draft.fields == {"flow": "shop.models:total", "source": "shop.models"}
    assert b"old_shop" not in draft.payload
    code = own("perdure:Code", {"_plain": {"modules": ["old_shop"]}, "_function": "old_shop:work"}, {"function": "x"})
    assert renamed(code, MOVE) is None
    text = "old_shop:work"
    shared = own("perdure:Job", {"_name": text, "_function": text}, {})
    with pytest.raises(CannotRename, match="needed elsewhere"):
        renamed(shared, MOVE)


def test_a_run_can_be_run_again_under_the_new_names(tmp_path, monkeypatch):
    source = "from perdure import flow, job\n\n@job\ndef half(n):\n    return n / 2\n\n@flow\ndef both(a, b):\n"
    source += "    return [half(a), half(b)]\n"
    (tmp_path / "old_flows.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    import old_flows

    with perdure.make_store(tmp_path / "store") as store:
        run = perdure.start(old_flows.both, 1, 4, store=store, executor="inline")
        assert run.result() == [0.5, 2.0]
        id_ = run.id
        del sys.modules["old_flows"]
        (tmp_path / "old_flows.py").rename(tmp_path / "new_flows.py")
    with perdure.make_store(tmp_path / "store") as store:
        report = rename_in_store(store, Renames({}, {"old_flows": "new_flows"}))
        assert report.names["old_flows:half", "new_flows:half"] == 2
    with perdure.make_store(tmp_path / "store") as store:
        again = store.load(id_)
        assert (again.flow, {job.function for job in again.jobs()}) == ("new_flows:both", {"new_flows:half"})
        perdure.rerun(again, all=True, executor="inline")
        assert again.result() == [0.5, 2.0]
        assert [len(job.attempts) for job in again.jobs()] == [2, 2]


# -- splicing ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(1, 2**31), st.sampled_from(["", "Code.7"]), st.lists(st.sampled_from(["A.1", "B.22"]), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), st.binary(max_size=200),
    st.sampled_from([PLAIN, 0, PLAIN | INTERNAL]), st.integers(0, 500), st.integers(1, 2**31), st.integers(-1, 1),
)  # fmt: skip
def test_a_spliced_frame_is_the_one_that_is_encoded(
    base, code, references, fields, payload, flags, version, revision, guess
):
    key = perdure.Key.new()
    draft = Draft("Item.5", 0, flags, "old_shop:Item", version, code, tuple(references), fields, payload)
    frame = encoder(key)(draft, base)
    splicer = Splicer(key, MOVE.of_text, MOVE.signs, lambda name: True, encoder(key))
    drafts, rest = splicer.drafts([frame], max(revision + guess, 1))
    if flags != PLAIN or any(sign in frame[28 + 6 + len(code) + len("old_shop:Item") : -20] for sign in MOVE.signs):
        assert (drafts, rest) == ([], [frame])
        return
    assert rest == []
    assert drafts[0].fields == fields
    assert drafts[0][:5] == ("Item.5", base, flags, "shop.models:Item", version)
    expected = encoder(key)(draft._replace(class_name="shop.models:Item"), revision)
    assert splicer.encode(drafts[0], revision) == expected
    damaged = bytearray(frame)
    damaged[-1] ^= 1
    assert splicer.drafts([bytes(damaged)], revision) == ([], [bytes(damaged)])
    other = encoder(key)(draft._replace(class_name="other:Item"), base)
    assert splicer.drafts([other, frame[:20]], revision) == ([], [frame[:20]])


def test_what_is_compressed_is_changed_as_well(sqlite):
    with shop() as old, sqlite.open() as store:
        id_ = store.save(old.Plain("z" * 9000, old.Line("old_shop" * 2000)))
        assert parse_unverified(store.backend.read([id_])[id_]).flags & COMPRESSED
        assert rename_in_store(store, MOVE).records == 1
        assert parse_unverified(store.backend.read([id_])[id_]).flags & COMPRESSED
