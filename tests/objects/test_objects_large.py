"""Large pieces of objects: kept apart and once each, found changed by their digests, loaded without being copied."""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import servers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies
from places import Place

import perdure
from perdure import Persistable, Store, files
from perdure.errors import CorruptRecord, SnapshotTooOld, TransactionError
from perdure.records.buffers import LARGE, PART, digests_of
from perdure.records.frame import parse_unverified
from perdure.records.values import BUFFERED, COMPRESSED
from perdure.upkeep import check, drop_unnamed, unnamed_pieces
from perdure.upkeep.large import named_pieces

SOME = 20_000  # items of eight bytes: more than is kept in a record


class Sample(Persistable):
    """Gets whatever attributes a test likes."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


class Told(Sample):
    """Says itself what its state is."""

    def __getstate__(self):
        return dict(vars(self))


class Marked(np.ndarray):
    """A subclass that carries something more."""

    def __array_finalize__(self, obj):
        self.mark = getattr(obj, "mark", None)

    def __reduce__(self):
        function, args, state = super().__reduce__()
        return function, args, (*state, self.mark)

    def __setstate__(self, state):
        *state, self.mark = state
        super().__setstate__(tuple(state))


def record_of(store: Store, id_: str):
    return parse_unverified(store.backend.read([id_])[id_])


def digest_of(content) -> str:
    return blake2b(content, digest_size=32).hexdigest()


# -- what is kept apart --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Sample, Told])
def test_large_pieces_come_back(place: Place, cls: type[Sample]) -> None:
    numbers, noise, text = np.arange(SOME), os.urandom(LARGE), "ünïcode" * 20_000
    store = place.open()
    sample = cls(numbers=numbers, noise=noise, changing=bytearray(noise), text=text, name="first", other=Sample(n=1))
    id_ = store.save(sample)
    record = record_of(store, id_)
    assert record.flags & BUFFERED
    assert len(record.payload) < 1000
    assert digests_of(record) == store.backend.buffers()
    assert set(digests_of(record)) == {digest_of(numbers), digest_of(noise), digest_of(text.encode())}

    loaded = place.open().load(id_)
    assert (loaded.numbers == numbers).all()
    assert (loaded.noise, loaded.changing, loaded.text, loaded.name) == (noise, noise, text, "first")
    assert [type(loaded.noise), type(loaded.changing)] == [bytes, bytearray]
    assert loaded.other.n == 1


def test_what_is_smaller_stays_in_the_record(store: Store) -> None:
    size = LARGE // 8 - 1
    small = Sample(numbers=np.arange(size), noise=os.urandom(LARGE - 1), many=[str(n) for n in range(50_000)])
    record = record_of(store, store.save(small))
    assert not record.flags & BUFFERED
    assert store.backend.buffers() == {}
    assert record_of(store, store.save(Sample(numbers=np.arange(size + 1)))).flags & BUFFERED


def test_a_content_is_kept_once(store: Store) -> None:
    content = os.urandom(2 * LARGE)
    with store.transaction():
        first = Sample(noise=content, again=bytearray(content), more=np.frombuffer(content, dtype=np.uint8))
        ids = store.save_many([first, Sample(other=content)])
    store.save(np.frombuffer(bytearray(content), dtype=np.uint16))
    assert store.backend.buffers() == {digest_of(content): 2 * LARGE}
    store.invalidate_cache()
    loaded = store.load(ids[0])
    loaded.again[0] ^= 1  # each has memory of its own
    assert loaded.noise == content
    assert loaded.more.tobytes() == content


def test_plain_values_roots_copies_and_lists(place: Place) -> None:
    store = place.open()
    array = np.arange(SOME)
    ids = [store.save(array), store.save([array, {"again": array}]), store.save(bytes(LARGE))]
    store.roots["array"] = {"numbers": array}
    named = store.save(Sample(n=1))
    store.replace(named, Sample(array=array))

    other = place.open()
    assert (other.load(ids[0]) == array).all()
    one, two = other.load(ids[1])
    assert one is two["again"]
    assert (one == array).all()
    assert other.load(ids[2]) == bytes(LARGE)
    assert (other.roots["array"]["numbers"] == array).all()
    assert (other.load(named).array == array).all()


def test_a_class_on_a_list_and_deep_graphs(place: Place) -> None:
    store = place.open()
    eager = Items([np.arange(SOME)])
    deep: list[object] = [np.arange(SOME), bytes(LARGE)]
    for _ in range(20_000):
        deep = [deep]
    ids = store.save_many([eager, Sample(deep=deep)])
    other = place.open()
    assert (other.load(ids[0])[0] == np.arange(SOME)).all()
    found = other.load(ids[1]).deep
    while len(found) == 1:
        found = found[0]
    assert (found[0] == np.arange(SOME)).all()
    assert found[1] == bytes(LARGE)


class Items(list, Persistable):
    pass


def test_an_older_protocol_keeps_it_all_in_the_record(place: Place) -> None:
    store = place.open(protocol=4)
    id_ = store.save(Sample(numbers=np.arange(SOME)))
    assert (place.open().load(id_).numbers == np.arange(SOME)).all()


# -- every kind of array ---------------------------------------------------------------------------------------------

ARRAYS = {
    "fortran": lambda: np.asfortranarray(np.arange(3 * SOME).reshape(300, 200)),
    "structured": lambda: np.zeros(SOME, dtype=[("name", "U5"), ("value", "<f8"), ("pair", "i4", (2,))]),
    "no items": lambda: np.zeros((0, SOME)),
    "no dimensions": lambda: np.array(3.5),
    "not contiguous": lambda: np.arange(4 * SOME).reshape(200, -1)[::2, ::3],
    "reversed": lambda: np.arange(SOME)[::-1],
    "objects": lambda: np.array([{"n": number} for number in range(SOME)], dtype=object),
    "big-endian": lambda: np.arange(SOME, dtype=">i8"),
    "dates": lambda: np.arange(SOME).astype("datetime64[s]"),
    "texts": lambda: np.array([f"text {number}" for number in range(SOME)]),
    "booleans": lambda: np.arange(10 * SOME) % 3 == 0,
    "complex": lambda: np.arange(SOME) * 1j,
    "masked": lambda: np.ma.masked_greater(np.arange(SOME), 100),
    "a view of a part": lambda: np.arange(4 * SOME)[100 : 100 + SOME],
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("writable", [True, False])
def test_arrays_of_every_kind(place: Place, kind: str, writable: bool) -> None:
    array = ARRAYS[kind]()
    array.setflags(write=writable)
    expected = pickle.loads(pickle.dumps(array, 5))
    id_ = place.open().save(Sample(array=array))
    loaded = place.open().load(id_).array
    assert (loaded.dtype, loaded.shape, loaded.strides) == (expected.dtype, expected.shape, expected.strides)
    assert loaded.flags.writeable == expected.flags.writeable
    assert pickle.dumps(loaded, 5) == pickle.dumps(expected, 5)
    if kind != "objects":
        assert loaded.tobytes() == array.tobytes()


def test_a_subclass_with_more_in_it(place: Place) -> None:
    array = np.arange(SOME).view(Marked)
    array.mark = "mine"
    loaded = place.open().load(place.open().save(Sample(array=array))).array
    assert (type(loaded), loaded.mark) == (Marked, "mine")
    assert (np.asarray(loaded) == np.arange(SOME)).all()


@pytest.mark.filterwarnings("ignore")  # hypothesis makes dtypes that are on their way out
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_any_array_comes_back(store: Store, data: st.DataObject) -> None:
    dtype = data.draw(numpy_strategies.array_dtypes() | numpy_strategies.scalar_dtypes())
    array = data.draw(numpy_strategies.arrays(dtype, numpy_strategies.array_shapes(min_side=0), fill=st.nothing()))
    if array.size:
        array = np.tile(array, (LARGE // array.nbytes + 1, *[1] * (array.ndim - 1)))
    if data.draw(st.booleans()):
        array = np.asfortranarray(array)
    if data.draw(st.booleans()):
        array = array[::2]
    id_ = store.save(Sample(array=array))
    store.invalidate_cache()
    loaded = store.load(id_).array
    expected = pickle.loads(pickle.dumps(array, 5))
    assert (loaded.dtype, loaded.shape, loaded.strides) == (expected.dtype, expected.shape, expected.strides)
    assert loaded.tobytes() == expected.tobytes()  # which numpy changes in some dates that are none


def test_tables(place: Place) -> None:
    frame = pd.DataFrame(
        {
            "number": np.arange(SOME),
            "value": np.linspace(0, 1, SOME),
            "text": [f"text {number}" for number in range(SOME)],
            "kind": pd.Categorical(["a", "b"] * (SOME // 2)),
            "when": pd.date_range("2020", periods=SOME, freq="s"),
        }
    )
    table = pa.table({"number": np.arange(SOME), "text": [f"text {number}" for number in range(SOME)]})
    store = place.open()
    id_ = store.save(Sample(frame=frame, table=table, column=frame["value"]))
    assert len(store.backend.buffers()) >= 3
    loaded = place.open().load(id_)
    pd.testing.assert_frame_equal(loaded.frame, frame)
    pd.testing.assert_series_equal(loaded.column, frame["value"])
    assert loaded.table.equals(table)
    loaded.frame.loc[3, "value"] = 7.0


# -- what was changed ------------------------------------------------------------------------------------------------


def test_what_was_only_looked_at_is_not_written(place: Place) -> None:
    store = place.open()
    id_ = store.save(Told(array=np.arange(SOME), noise=os.urandom(LARGE), members={"a", "b", "c"}))
    other = place.open()
    loaded = other.load(id_)
    before = other.revision()
    for _ in range(3):
        with other.transaction():
            assert loaded.array[3] == 3
            assert len(loaded.noise) == LARGE
    assert other.revision() == before


def test_an_array_that_was_changed_in_place_is_found(place: Place) -> None:
    store = place.open()
    id_ = store.save(Sample(array=np.arange(SOME), other=np.ones(SOME)))
    loaded = place.open().load(id_)
    other = place.opened[-1]
    loaded.array[5] = -1
    other.save(loaded)
    assert len(other.backend.buffers()) == 3
    assert place.open().load(id_).array[5] == -1
    with other.transaction():
        loaded.other[:] = 2
    assert (place.open().load(id_).other == 2).all()
    assert [version.revision for version in other.history(id_)] == [3, 2, 1]


def test_a_flag_that_was_changed_is_found(store: Store) -> None:
    sample = Sample(array=np.arange(SOME))
    id_ = store.save(sample)
    sample.array.setflags(write=False)
    before = store.revision()
    store.save(sample)
    assert store.revision() == before + 1
    store.invalidate_cache()
    assert not store.load(id_).array.flags.writeable


def test_unequal_bytes_with_equal_pieces_are_compared_without_loading_any(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A text that is one object in memory, and two when it was loaded, makes other bytes of the same state.
    words = ["".join(["some", "thing", str(number)]) for number in range(10)]
    sample = Told(array=np.arange(SOME), noise=os.urandom(LARGE), words=set(words), again=list(words))
    store.save(sample)
    sample.again = ["".join(word) for word in words]
    monkeypatch.setattr(store.backend, "buffer", None)  # to ask for a piece would raise
    monkeypatch.setattr(store.backend, "buffer_parts", None)
    before = store.revision()
    sample.changed_not = None
    del sample.changed_not
    store.save(sample)
    assert store.revision() == before
    sample.again.append("more")
    store.save(sample)
    assert store.revision() == before + 1


def test_an_array_that_a_variable_holds_keeps_its_object_watched(store: Store) -> None:
    array = np.arange(SOME)
    sample = Sample(array=array)
    id_ = store.save(sample)
    array[0] = 100
    with store.transaction():
        pass
    part = sample.array[10:20]
    del array
    part[0] = 200
    store.save(sample)
    base = np.arange(2 * SOME)
    sample.array = base[SOME:]
    store.save(sample)
    base[SOME] = 300
    with store.transaction():
        pass
    del part, base, sample
    store.invalidate_cache()
    assert [version.revision for version in store.history(id_)] == [5, 4, 3, 2, 1][: len(store.history(id_))]
    assert store.load(id_).array[0] == 300


def test_small_arrays_and_tables_that_a_variable_holds_are_watched_too(store: Store) -> None:
    array, frame = np.arange(10), pd.DataFrame({"n": [1.0, 2.0]})
    first, second = Sample(array=array), Sample(frame=frame)
    ids = store.save_many([first, second])
    array[0] = 100
    frame.loc[0, "n"] = 100.0
    with store.transaction():
        pass
    del array, frame
    store.invalidate_cache()
    assert store.load(ids[0]).array[0] == 100
    assert store.load(ids[1]).frame["n"][0] == 100


def test_what_nobody_holds_dozes(store: Store) -> None:
    sample = Sample(array=np.arange(SOME), table=pa.table({"n": [1]}), frame=pd.DataFrame({"n": [1.0]}))
    store.save(sample)
    assert store.desk().view.enlisted == {}


def test_an_array_that_is_changed_while_it_is_saved_stores_nothing_wrong(store: Store) -> None:
    array = np.zeros(2 * PART)
    meddler = Meddler(meddles=True)
    meddler.array = array
    with pytest.raises(TransactionError, match="was changed while"):
        store.save_many([Sample(array=array), meddler])
    assert store.list() == []
    assert store.backend.buffers() == {}
    meddler.meddles = False
    store.save_many([Sample(array=array), meddler])
    assert len(store.backend.buffers()) == 1


def test_a_savepoint_brings_an_array_back(place: Place) -> None:
    store = place.open()
    sample, untouched = Sample(array=np.arange(SOME)), Sample(array=np.arange(SOME) + 1)
    store.save_many([sample, untouched])
    with store.transaction() as transaction:
        sample.array[0] = 5
        new = Sample(array=np.arange(SOME) * 2, noise=bytearray(LARGE))
        store.save(new)
        savepoint = transaction.savepoint()
        sample.array[0] = new.array[0] = untouched.array[0] = 6
        new.noise[0] = 6
        savepoint.rollback()
        assert (sample.array[0], new.array[0], untouched.array[0], new.noise[0]) == (5, 0, 1, 0)
    other = place.open()
    assert [other.load(obj.persistent_id).array[0] for obj in (sample, new, untouched)] == [5, 0, 1]


class Summed(Sample):
    """Two that add to the array at the same time add up."""

    @staticmethod
    def _resolve_conflict(old, stored, mine):
        mine.array = stored.array + mine.array - old.array
        return mine


def test_conflicts_of_arrays_are_merged(place: Place) -> None:
    store = place.open()
    id_ = store.save(Summed(array=np.zeros(SOME)))
    first, second = place.open(), place.open()
    one, two = first.load(id_), second.load(id_)
    one.array[0] += 1
    two.array[:] += 10
    first.save(one)
    second.save(two)
    assert list(place.open().load(id_).array[:3]) == [11, 10, 10]
    assert list(two.array[:3]) == [11, 10, 10]


def test_the_store_as_it_was_and_a_commit_taken_back(place: Place) -> None:
    store = place.open()
    sample = Sample(array=np.arange(SOME), texts=["some text"] * 2000)
    id_ = store.save(sample)
    first = store.revision()
    sample.array[0] = 9
    sample.texts.append("more")
    store.save(sample)
    past = store.at(first).load(id_)
    assert (past.array[0], len(past.texts)) == (0, 2000)
    store.undo(store.revision())
    assert (sample.array[0], len(sample.texts)) == (0, 2000)
    again = place.open().load(id_)
    assert (again.array[0], len(again.texts)) == (0, 2000)
    assert len(store.backend.buffers()) == 2


@pytest.mark.parametrize("moment", ["before it is read", "before it is written"])
def test_a_pack_comes_in_between_while_a_commit_is_taken_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store, other = place.open(), place.open()
    sample = Sample(array=np.arange(SOME))
    id_ = store.save(sample)
    sample.array = None
    store.save(sample)
    name = {"before it is read": "buffer", "before it is written": "apply"}[moment]
    going_on = getattr(type(store.backend), name)

    def packing(backend, *arguments):
        monkeypatch.setattr(type(store.backend), name, going_on)
        assert other.pack().pieces == 1
        return going_on(backend, *arguments)

    monkeypatch.setattr(type(store.backend), name, packing)
    if moment == "before it is read":
        with pytest.raises(SnapshotTooOld):
            store.undo(2)
        assert place.open().load(id_).array is None
    else:
        store.undo(2)
        assert list(place.open().load(id_).array[-2:]) == [SOME - 2, SOME - 1]
    assert store.check() == []


class Meddler(Sample):
    """Writes, while it is pickled, into an array that another object has given away."""

    def __getstate__(self):
        if self.meddles:
            self.array[-1] += 1
        return {"meddles": False}


def test_an_abort_puts_an_array_back(place: Place) -> None:
    store = place.open()
    sample = Sample(array=np.arange(SOME))
    store.save(sample)
    with pytest.raises(ZeroDivisionError), store.transaction():
        sample.array[0] = 1 // (sample.array[1:].fill(5) or 0)
    assert sample.array[0] == 0
    assert len(store.backend.buffers()) == 1


# -- loading -----------------------------------------------------------------------------------------------------------


def memory_of(array: np.ndarray) -> object:
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


def test_a_directory_store_maps_files_and_never_changes_them(tmp_path: Path) -> None:
    store = perdure.make_store(tmp_path / "store")
    id_ = store.save(Sample(array=np.arange(SOME)))
    store.invalidate_cache()
    loaded = store.load(id_)
    assert isinstance(memory_of(loaded.array), mmap.mmap)
    loaded.array[:] = 0  # in memory alone
    (path,) = (tmp_path / "store").glob(".perdure/buffers/*/*")
    assert path.read_bytes() == np.arange(SOME).tobytes()
    assert path.name == digest_of(np.arange(SOME))
    store.close()
    assert loaded.array.sum() == 0


def test_many_arrays_leave_files_to_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(files, "MOST_MAPS", len(files._maps) + 3)
    store = perdure.make_store(tmp_path / "store")
    ids = store.save_many([Sample(array=np.arange(SOME) + number) for number in range(5)])
    store.close()
    store = perdure.make_store(tmp_path / "store")
    loaded = store.load_many(ids)
    kinds = [type(memory_of(one.array)) for one in loaded]
    assert kinds == ([mmap.mmap] * 5 if sys.version_info >= (3, 13) else [mmap.mmap] * 3 + [bytearray] * 2)
    for number, one in enumerate(loaded):
        one.array[0] += 1
        assert list(one.array[:2]) == [number + 1, number + 1]
    store.save_many(loaded)
    del loaded, one
    store.invalidate_cache()
    gc.collect()
    assert isinstance(memory_of(store.load(ids[4]).array), mmap.mmap)


@pytest.mark.parametrize("url", ["store", "sqlite:///{}/store.db", "memory:"])
def test_nothing_is_read_before_it_is_touched(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = perdure.make_store(url.format(tmp_path))
    id_ = store.save(Sample(inner=Sample(array=np.arange(SOME)), n=1))
    store.invalidate_cache()
    monkeypatch.setattr(store.backend, "buffer", None)
    assert store.load(id_).n == 1


@pytest.mark.parametrize("what", ["array", "noise"])
@pytest.mark.parametrize("url", ["store", "sqlite:///store.db"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damage_is_found(url: str, what: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = np.random.default_rng(1).bytes(4 * LARGE)
    store = perdure.make_store(url)
    id_ = store.save(Sample(**{what: content if what == "noise" else np.frombuffer(bytearray(content), dtype="u1")}))
    digest = digest_of(content)
    store.close()
    damage(tmp_path, digest, how)
    other = perdure.make_store(url)
    problems = [problem for problem in check(other) if digest in problem.what]
    assert [problem.id for problem in problems] == [id_]
    loaded = other.load(id_) if url == "store" and what == "array" and how == "changed" else None
    if loaded is None:
        with pytest.raises(CorruptRecord, match=digest) as caught:
            other.load(id_)
        assert caught.value.ids == (id_,)
        assert caught.value.message.startswith(f"{id_} cannot be loaded.")
    else:
        assert loaded.array.tobytes() != content  # memory-mapped: `check` is what tells


def damage(folder: Path, digest: str, how: str) -> None:
    """Do to the one large piece of a closed store what perdure never does."""
    import sqlite3

    database = folder / "store.db"
    if database.exists():
        change = {
            "changed": "UPDATE buffer_parts SET content = zeroblob(length(content))",
            "cut": "UPDATE buffer_parts SET content = substr(content, 1, 1000), size = 1000",
            "gone": "DELETE FROM buffers",
        }
        with sqlite3.connect(database) as connection:
            connection.execute(change[how])
        connection.close()
        return
    path = folder / "store" / ".perdure" / "buffers" / digest[:2] / digest
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000] if how == "cut" else bytes(path.stat().st_size))


def test_older_versions_count_among_those_that_name_a_piece(place: Place) -> None:
    store = place.open()
    kept, gone = Sample(array=np.arange(SOME)), Sample(array=np.arange(SOME) + 1)
    removed = store.save_many([kept, gone])[1]
    kept.array[0] = 9
    store.save(kept)
    store.remove(removed)
    kept.array = None
    store.save(kept)
    contents = (np.arange(SOME), np.arange(SOME) + 1, np.array([9, *range(1, SOME)]))
    assert named_pieces(store.backend).keys() == set(map(digest_of, contents))
    assert unnamed_pieces(store) == {}
    assert check(store) == []
    store.backend.drop_buffers([digest_of(contents[1])], store.revision())
    place.is_whole = False
    assert [problem.id for problem in check(store)] == [removed]
    assert digest_of(contents[1]) in check(store)[0].what


def test_what_nothing_names_is_dropped(place: Place) -> None:
    store = place.open()
    first, second = Sample(array=np.arange(SOME)), Sample(array=np.arange(SOME) + 1)
    ids = store.save_many([first, second])
    first.array[0] = 9
    store.save(first)
    store.remove(ids[1])
    store.backend.pack(store.revision())
    unnamed = {digest_of(np.arange(SOME)): 8 * SOME, digest_of(np.arange(SOME) + 1): 8 * SOME}
    assert unnamed_pieces(store) == unnamed
    assert check(store) == []
    assert drop_unnamed(store) == unnamed
    assert (drop_unnamed(store), len(store.backend.buffers())) == ({}, 1)
    assert place.open().load(ids[0]).array[0] == 9


def test_a_damaged_record_keeps_its_pieces(tmp_path: Path) -> None:
    store = perdure.make_store(tmp_path / "store")
    id_ = store.save(Sample(array=np.arange(SOME)))
    store.close()
    path = tmp_path / "store" / id_
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    store = perdure.make_store(tmp_path / "store")
    with pytest.raises(CorruptRecord):
        drop_unnamed(store)
    assert len(store.backend.buffers()) == 1
    assert [problem.id for problem in check(store)] == [id_]


# -- compression -------------------------------------------------------------------------------------------------------


def test_payloads_from_some_kib_on_are_compressed_where_it_pays(place: Place) -> None:
    store = place.open()
    ids = store.save_many([Sample(n="x" * 1000), Sample(n=["some text"] * 10_000), Sample(n=os.urandom(20_000))])
    small, repeated, noise = (record_of(store, id_) for id_ in ids)
    assert [bool(record.flags & COMPRESSED) for record in (small, repeated, noise)] == [False, True, False]
    other = place.open()
    assert other.load(ids[1]).n == ["some text"] * 10_000
    before = other.revision()
    other.load(ids[1]).n.append(1)
    other.save(other.load(ids[1]))
    with other.transaction():
        other.load(ids[1])
    assert other.revision() == before + 1


def test_pieces_are_compressed_in_a_database_where_it_pays(tmp_path: Path) -> None:
    sizes = {}
    for name, array in (("zeros", np.zeros(SOME * 20)), ("noise", np.random.default_rng(1).random(SOME * 20))):
        store = perdure.make_store(f"sqlite:///{tmp_path}/{name}.db")
        id_ = store.save(Sample(array=array))
        store.close()
        sizes[name] = (tmp_path / f"{name}.db").stat().st_size
        assert (perdure.make_store(f"sqlite:///{tmp_path}/{name}.db").load(id_).array == array).all()
    assert sizes["zeros"] < 200_000
    assert 8 * SOME * 20 < sizes["noise"] < 8 * SOME * 20 * 1.1


# -- how much memory it takes ------------------------------------------------------------------------------------------

# Of one array on the two kinds of store that need no server; the others, and all that is done often, take 256 MiB.
LARGEST = int(os.environ.get("PERDURE_TEST_LARGEST_MIB", "256")) << 20

STEP = """
import sys
import numpy as np
import perdure
from perdure import Persistable

class Sample(Persistable):
    pass

def peak():
    # Not ru_maxrss, which a new process takes over from the one that started it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

url, step, kind, size = sys.argv[1:3] + [sys.argv[3], int(sys.argv[4])]
store = perdure.make_store(url)
store.save(Sample())  # whatever is imported late is there now
base = peak()
if step == "save":
    sample = Sample()
    if kind == "array":
        sample.data = np.arange(size // 8)
    else:
        sample.data = bytes([7]) * size
    store.roots["sample"] = sample
else:
    data = store.roots["sample"].data
    assert len(data) * (8 if kind == "array" else 1) == size
    assert int(data.sum()) == (size // 8) * (size // 8 - 1) // 2 if kind == "array" else data.count(7) == size
print((peak() - base) / size)
"""


def share_of_memory(url: str, step: str, kind: str, size: int, program: str = STEP) -> float:
    """How much memory a step took at its peak, as a multiple of the size of what it saved or loaded."""
    done = subprocess.run(
        [sys.executable, "-c", program, url, step, kind, str(size)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")


@on_linux
def test_what_is_measured_is_the_step_alone(tmp_path: Path) -> None:
    waste = STEP.replace("sample.data = np.arange(size // 8)", "sample.data = np.arange(size // 8); w = b'x' * size")
    ballast = b"x" * (400 << 20)  # of this process, which the step must not take over
    for name, program, least in (("one", STEP, 0.9), ("two", waste, 1.9)):
        assert least < share_of_memory(str(tmp_path / name), "save", "array", 64 << 20, program) < least + 0.3
    assert len(ballast) == 400 << 20


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["array", "bytes"])
@pytest.mark.parametrize("url", ["store", "sqlite:///store.db"])
def test_memory_for_a_large_piece_is_little_more_than_its_size(
    url: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    size = LARGEST if kind == "array" else 256 << 20
    for step in ("save", "load"):
        assert 0.9 < share_of_memory(url, step, kind, size) < 1.2


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.KINDS)
def test_memory_for_a_large_piece_on_a_server_is_little_more_than_its_size(kind: str, tmp_path: Path) -> None:
    table = servers.table_of(tmp_path)
    url = f"{servers.url_of(kind)}#table={table}"
    try:
        for step in ("save", "load"):
            assert 0.9 < share_of_memory(url, step, "array", 128 << 20) < 1.2
    finally:
        servers.drop_tables(kind, {table})
