"""Objects of a store that hold something from outside of it: stored by tag and key, resolved when they are loaded."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from places import Holder

from perdure import CannotPickle, CannotResolve, Persistable, UnknownTag, make_store
from perdure.objects.instances.persistable import GHOST, entry_of
from perdure.pickling import outside
from perdure.pickling.outline import outside_references
from perdure.records.frame import parse_unverified
from perdure.records.values import OUTSIDE, PLAIN

pytestmark = pytest.mark.usefixtures("registrations")


class Row:
    __hash__ = None

    def __init__(self, key: Any, text: str = ""):
        self.key, self.text = key, text

    def __eq__(self, other):
        raise AssertionError("rows are told apart by identity")


class Job(Persistable):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Reduced(Persistable):
    """Takes part in its own pickling."""

    def __init__(self, row, parts=()):
        self.row, self.parts = row, list(parts)

    def __getstate__(self):
        return {"row": self.row, "parts": self.parts}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.text = state["row"].text  # the object is there when the state is


class Queue(list, Persistable):
    """Has no ghost class: it loads at once."""


class Summary:
    """A plain object whose state methods look at what it holds."""

    def __init__(self, row):
        self.row, self.text = row, row.text

    def __getstate__(self):
        return {"row": self.row}

    def __setstate__(self, state):
        self.row, self.text = state["row"], state["row"].text


@pytest.fixture
def table():
    return {}


@pytest.fixture
def asked(table):
    """The keys that were resolved, in order."""
    asked = []

    @outside.reference("Row", Row, key=lambda row: row.key)
    def find_row(key, resources):
        asked.append(key)
        return resources["table"][key]

    return asked


@pytest.fixture
def rows(table, asked):
    for key in (1, 2, 3):
        table[key] = Row(key, f"row {key}")
    return list(table.values())


def frame(store, id):
    return parse_unverified(store.backend.read([id])[id])


def test_everywhere_in_a_state(place, table, rows, asked):
    one, two, three = rows
    job = Job(row=one, parts=[one, {"two": (two,)}], nested=Holder({"row": three}))
    id = place.open().save(job)
    loaded = place.open(resources={"table": table}).load(id)
    assert asked == [1, 2]
    assert loaded.row is one
    assert loaded.parts[0] is one
    assert loaded.parts[1]["two"][0] is two
    assert asked == [1, 2]
    assert loaded.nested.target["row"] is three
    assert asked == [1, 2, 3]


def test_it_is_resolved_when_the_holder_is_touched(place, table, rows, asked):
    id = place.open().save(Holder(Job(row=rows[0])))
    job = place.open(resources={"table": table}).load(id).target
    assert entry_of(job).state == GHOST
    assert asked == []
    assert job.row is rows[0]


@pytest.mark.parametrize("holder", [Reduced, lambda row: Queue([row, [row]])], ids=["state methods", "no ghosts"])
def test_other_kinds_of_classes(place, table, rows, asked, holder):
    id = place.open().save(holder(rows[0]))
    store = place.open(resources={"table": table})
    loaded = store.load(id)
    if isinstance(loaded, Queue):
        assert loaded[0] is loaded[1][0] is rows[0]
    else:
        assert loaded.row is rows[0]
        assert loaded.text == "row 1"
    assert asked == [1]
    with store.transaction():
        store.load(id)
    assert len(store.transactions()) == 1


def test_plain_values_and_roots(place, table, rows):
    first = place.open()
    id = first.save([rows[0], rows[0]])
    row_id = first.save(rows[1])
    first.roots["today"] = {"row": rows[2]}
    store = place.open(resources={"table": table})
    loaded = store.load(id)
    assert loaded[0] is loaded[1] is rows[0]
    assert store.load(row_id) is rows[1]
    assert store.roots["today"]["row"] is rows[2]
    assert frame(store, id).flags & OUTSIDE


def test_a_copy_under_another_id(place, table, rows):
    store = place.open(resources={"table": table})
    id = store.save(Job(row=rows[0]))
    store.replace(id, Job(row=rows[1]))
    store.invalidate_cache()
    assert store.load(id).row is rows[1]


def test_one_bulk_asks_once_for_each_key(place, table, rows, asked):
    ids = place.open().save_many([Job(row=rows[number % 2]) for number in range(200)])
    jobs = place.open(resources={"table": table}).load_many(ids)
    assert asked == [1, 2]
    assert all(job.row is rows[number % 2] for number, job in enumerate(jobs))


def test_one_bulk_may_be_had_in_one_call(place, table, rows, asked):
    calls = []

    def find_rows(keys, resources):
        calls.append(keys)
        return {key: resources["table"][key] for key in keys}

    ids = place.open().save_many([*(Job(row=rows[number % 3]) for number in range(30)), Reduced(rows[0]), [rows[1]]])
    outside.reference("Row", Row, key=lambda row: row.key, many=find_rows)(lambda key, resources: Row(key))
    store = place.open(resources={"table": table})
    loaded = store.load_many(ids)
    assert all(job.row is rows[number % 3] for number, job in enumerate(loaded[:30]))
    assert loaded[30].row is rows[0]
    assert loaded[31][0] is rows[1]
    assert [sorted(keys) for keys in calls] == [[1, 2, 3]]  # in which order a database gives records is its own affair
    store.invalidate_cache()
    del table[2]
    with pytest.raises(CannotResolve, match="KeyError: 2") as caught:
        store.load_many(ids)
    affected = {f"{ids[0]} → .row", f"{ids[31]} → [0]"}
    assert caught.value.path in affected if place.is_on_server else caught.value.path == f"{ids[0]} → .row"
    assert caught.value.tag == "Row"


def test_records_without_any_do_not_say_so(place, rows):
    store = place.open()
    with_row, without = store.save_many([Job(row=rows[0]), Job(row="a text")])
    assert frame(store, with_row).flags & (OUTSIDE | PLAIN) == OUTSIDE
    assert frame(store, without).flags & (OUTSIDE | PLAIN) == PLAIN
    assert [
        found[1:] for found in outside_references(frame(store, with_row).payload, frame(store, with_row).flags)
    ] == [("Row", 1)]


def test_a_flag_is_not_left_over_from_a_save_that_failed(place, rows):
    store = place.open()
    with pytest.raises(CannotPickle):
        store.save(Job(row=rows[0], bad=lambda: None))
    id = store.save(Job(when=Job))  # names a class, so it is not plain
    assert not frame(store, id).flags & OUTSIDE


def in_another_order(names):
    """An equal set that pickles to other bytes."""
    made = set()
    for name in sorted(names):
        made.add(name)
    assert list(made) != list(names)
    return made


# -- changes -----------------------------------------------------------------------------------------------------


def commits_of(store, change):
    before = len(store.transactions())
    with store.transaction():
        change()
    return len(store.transactions()) - before


def test_what_was_only_looked_at_is_not_written_nor_resolved_again(place, table, rows, asked):
    id = place.open().save(Job(row=rows[0], rows={"a": [rows[1]]}, names={f"n{n}" for n in range(500)}))
    store = place.open(resources={"table": table})
    job = store.load(id)
    del asked[:]
    assert commits_of(store, lambda: job.rows["a"][0].text) == 0
    assert commits_of(store, lambda: setattr(job, "names", in_another_order(job.names))) == 0
    assert asked == []


def test_another_key_is_a_change_and_another_object_of_the_key_is_none(place, table, rows, asked):
    id = place.open().save(Job(row=rows[0], rows=[rows[1]]))
    store = place.open(resources={"table": table})
    job = store.load(id)
    assert commits_of(store, lambda: setattr(job, "row", Row(1, "the same row, had elsewhere"))) == 0
    assert commits_of(store, lambda: setattr(job.row, "text", "its own business")) == 0
    assert commits_of(store, lambda: job.rows.append(rows[2])) == 1
    assert commits_of(store, lambda: setattr(job, "row", rows[1])) == 1
    assert commits_of(store, lambda: setattr(job.rows[0], "key", 3)) == 1


def test_state_methods_that_look_at_it_do_not_stop_a_commit(place, table, rows):
    id = place.open().save(Job(summary=Summary(rows[0]), names={f"n{n}" for n in range(500)}))
    store = place.open(resources={"table": table})
    job = store.load(id)
    assert job.summary.text == "row 1"
    commits_of(store, lambda: setattr(job, "names", in_another_order(job.names)))
    store.invalidate_cache()
    assert store.load(id).summary.row is rows[0]


def test_state_methods_that_look_at_another_record_do_not_stop_a_commit(place):
    id = place.open().save(Job(summary=Summary(Job(text="other")), names={f"n{n}" for n in range(500)}))
    store = place.open()
    job = store.load(id)
    assert job.summary.text == "other"
    commits_of(store, lambda: setattr(job, "names", in_another_order(job.names)))
    store.invalidate_cache()
    assert store.load(id).summary.text == "other"


def test_an_abort_resolves_again(place, table, rows):
    store = place.open(resources={"table": table})
    job = Job(row=rows[0])
    store.save(job)

    def change():
        job.row = rows[1]
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        commits_of(store, change)
    assert job.row is rows[0]


def test_what_cannot_be_stored_any_more_is_changed_and_harms_no_other(place, table, rows):
    """A look at other objects does not fail for it; the commit that would write it does."""
    ids = place.open().save_many([Job(row=rows[0]), Job(row=rows[1])])
    store = place.open(resources={"table": table})
    job = store.load(ids[0])
    job.row = Row(None)
    store.invalidate_cache()
    assert job.row.key is None
    other = place.open()
    other.save(Job(row=rows[2]))
    assert store.load(ids[1]).row is rows[1]
    with pytest.raises(CannotPickle):
        store.save(job)
    job.row = rows[2]
    store.save(job)


def test_a_savepoint_brings_references_back(place, table, rows):
    store = place.open(resources={"table": table})
    job = Job(row=rows[0], rows=[rows[1]])
    id = store.save(job)
    with store.transaction() as tx:
        job.row = rows[2]
        point = tx.savepoint()
        job.row = rows[1]
        job.rows.append(rows[0])
        point.rollback()
        assert job.row is rows[2]
        assert len(job.rows) == 1
        assert job.rows[0] is rows[1]
    assert place.open(resources={"table": table}).load(id).row is rows[2]


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_errors_name_id_path_tag_and_key_and_the_object_stays_a_ghost(place, table, rows):
    id = place.open().save(Job(parts={"rows": [rows[1]]}))
    store = place.open(resources={"table": table})
    row = table.pop(2)
    for _ in range(2):
        with pytest.raises(CannotResolve) as caught:
            store.load(id)
        error = caught.value
        assert (error.ids, error.path, error.tag, error.key) == ((id,), f"{id} → .parts['rows'][0]", "Row", 2)
        assert "KeyError" in str(error)
    table[2] = row
    assert store.load(id).parts["rows"][0] is row


def test_one_that_is_gone_does_not_hide_the_others(place, table, rows):
    bad, good = place.open().save_many([Job(row=rows[0]), Job(row=rows[1])])
    store = place.open(resources={"table": table})
    del table[1]
    with pytest.raises(CannotResolve):
        store.load_many([bad, good])
    assert store.load(good).row is rows[1]


def test_paths_through_state_methods_and_attributes_that_refer(place, table, rows):
    target = Job(name="other")
    ids = place.open().save_many([Reduced(rows[0], [rows[1]]), Job(target=target, row=rows[2]), Queue([1, rows[0]])])
    store = place.open(resources={"table": {1: rows[0]}})
    paths = []
    for id in ids:
        store.resources.pop(1, None)
        with pytest.raises(CannotResolve) as caught:
            place.open(resources={"table": {} if id == ids[2] else {1: rows[0]}}).load(id)
        paths.append(caught.value.path)
    assert paths == [f"{ids[0]} → .parts[0]", f"{ids[1]} → .row", f"{ids[2]} → [1]"]


def test_an_unknown_tag(place, table, rows, registrations):
    id = place.open().save(Job(row=rows[0]))
    del outside._by_tag["Row"]
    with pytest.raises(UnknownTag, match=r"perdure\.reference") as caught:
        place.open(resources={"table": table}).load(id)
    assert (caught.value.tag, caught.value.path) == ("Row", f"{id} → .row")


def test_no_resources(place, rows):
    id = place.open().save(Job(row=rows[0]))
    with pytest.raises(CannotResolve, match=r"make_store\(url, resources="):
        place.open().load(id)


def test_a_key_that_cannot_be_stored(place, rows):
    store = place.open()
    with pytest.raises(CannotPickle) as caught:
        store.save(Job(rows=[rows[0], Row(None)]))
    assert caught.value.path.endswith(" → .rows[1]")
    assert "it is None" in str(caught.value)
    assert store.list() == []
    with pytest.raises(CannotPickle) as caught:
        store.save({"rows": Row([1])})
    assert caught.value.path == "dict → ['rows']"


def test_what_else_cannot_be_pickled_is_named_beside_it(place, rows):
    with pytest.raises(CannotPickle) as caught:
        place.open().save(Job(row=rows[0], bad=[lambda: None]))
    assert caught.value.path.endswith(" → .bad[0]")


def test_resources_are_a_mapping(tmp_path):
    with pytest.raises(TypeError, match="mapping from names"):
        make_store("memory:", resources=["table"])


def test_the_function_may_use_the_store(place, rows, registrations):
    """Resolving may load other objects of the same view."""
    index_id = place.open().save(Job(names={1: "one"}))

    @outside.reference("Row", Row, key=lambda row: row.key)
    def named_row(key, resources):
        return Row(key, resources["store"]().load(index_id).names[key])

    id = place.open().save(Job(row=rows[0]))
    stores = []
    store = place.open(resources={"store": lambda: stores[0]})
    stores.append(store)
    assert store.load(id).row.text == "one"


def test_each_thread_and_task_resolves_for_itself(place, table, rows, asked):
    id = place.open().save(Job(row=rows[0]))
    store = place.open(resources={"table": table})
    got = [store.load(id).row]
    thread = threading.Thread(target=lambda: got.append(store.load(id).row))
    thread.start()
    thread.join()

    async def task():
        return store.load(id).row

    got.append(asyncio.run(task()))
    assert [row is rows[0] for row in got] == [True] * 3
    assert asked == [1, 1, 1]
