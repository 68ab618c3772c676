"""References to the outside: which objects are stored by tag and key, what keys may be, what resolving gives."""

from __future__ import annotations

import io
import pickle
import pickletools
from dataclasses import dataclass
from typing import Any

import persistent
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure import CannotPickle, CannotResolve, UnknownTag, UntrustedRecord
from perdure.keys import KeyRing
from perdure.pickling import outside
from perdure.pickling.compare import same_state
from perdure.pickling.outline import outside_references
from perdure.pickling.outside import OutsideReference
from perdure.pickling.own.reading import read_values
from perdure.records.frame import encoder, parse_unverified
from perdure.records.values import VALUE, Draft

pytestmark = pytest.mark.usefixtures("registrations")


class Strange(type):
    """A metaclass whose classes cannot be compared or hashed."""

    __hash__ = None

    def __eq__(cls, other):
        raise AssertionError("classes are told apart by identity")


class Row:
    """A row of a table; not comparable, not hashable, not picklable."""

    __hash__ = None

    def __init__(self, key: Any, text: str = ""):
        self.key, self.text = key, text

    def __eq__(self, other):
        raise AssertionError("rows are told apart by identity")

    def __reduce__(self):
        raise AssertionError("rows are not pickled")


class SpecialRow(Row):
    pass


class StrangeRow(Row, metaclass=Strange):
    pass


@dataclass
class Pair:
    left: Any
    right: Any


class Table(dict):
    """Rows by key; counts how often each was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def row(self, key, text="", cls=Row):
        self[key] = cls(key, text)
        return self[key]


@pytest.fixture
def table():
    table = Table()

    @perdure.reference("Row", Row, key=lambda row: row.key)
    def find_row(key, resources):
        table.asked.append(key)
        return resources["table"][key]

    return table


def again(obj, table):
    return perdure.loads(perdure.dumps(obj), resources={"table": table})


def test_an_object_anywhere_in_a_graph(table):
    row = table.row(1)
    loaded = again([row, {"a": (row, {2: row})}, Pair(row, [row])], table)
    assert loaded[0] is row
    assert loaded[1]["a"][0] is row
    assert loaded[1]["a"][1][2] is row
    assert loaded[2].left is row
    assert loaded[2].right[0] is row
    assert table.asked == [1]


def test_the_object_itself(table):
    row = table.row("x")
    assert again(row, table) is row


def test_equal_keys_in_one_load_are_one_object(table):
    table.row(1)
    loaded = again([Row(1), Row(1), Row(True)], table)
    assert loaded[0] is loaded[1]
    assert table.asked == [1, True]  # keys that Python takes for equal are two keys


def test_without_sharing_each_place_has_its_own():
    @perdure.reference("Row", Row, key=lambda row: row.key, shared=False)
    def make_row(key, resources):
        return Row(key)

    row = Row(1)
    first, second, third = perdure.loads(perdure.dumps([row, row, Row(1)]))
    assert first is second
    assert first is not third


def test_subclasses_are_stored_in_the_same_way(table):
    row = table.row(1, cls=SpecialRow)
    strange = table.row(2, cls=StrangeRow)
    loaded = again([row, strange], table)
    assert loaded[0] is row
    assert loaded[1] is strange


def test_the_nearest_class_counts(table):
    @perdure.reference("SpecialRow", SpecialRow, key=lambda row: ("special", row.key))
    def find_special(key, resources):
        return resources["table"][key]

    table["special", 1] = special = SpecialRow(1)
    plain = table.row(1)
    loaded = again([special, plain], table)
    assert loaded[0] is special
    assert loaded[1] is plain


def test_streams_of_dumps(table, tmp_path):
    row = table.row(1)
    with open(tmp_path / "rows", "w+b") as file:
        pickler = perdure.Pickler(file)
        pickler.dump([row])
        pickler.dump({"again": row})
        perdure.dump((row,), file)
        file.seek(0)
        unpickler = perdure.Unpickler(file, resources={"table": table})
        assert unpickler.load()[0] is row
        assert unpickler.load()["again"] is row
        assert perdure.load(file, resources={"table": table})[0] is row


def test_hooks_of_a_subclass_come_first(table):
    class Own(perdure.Pickler):
        def persistent_id(self, obj):
            return "mine" if type(obj) is SpecialRow else None

        def reducer_override(self, obj):
            return (str, (obj.text,)) if type(obj) is Row and obj.text else NotImplemented

    class OwnBack(perdure.Unpickler):
        def persistent_load(self, pid):
            return pid

    file = io.BytesIO()
    row = table.row(1)
    Own(file).dump([row, Row(2, "text"), SpecialRow(3)])
    file.seek(0)
    assert OwnBack(file, resources={"table": table}).load()[1:] == ["text", "mine"]
    file.seek(0)
    assert OwnBack(file, resources={"table": table}).load()[0] is row


def test_graphs_that_are_deeper_than_the_recursion_of_c(table):
    row = table.row(1)
    graph: Any = [row]
    for _ in range(20_000):
        graph = [graph]
    loaded = again(graph, table)
    while type(loaded) is list:
        (loaded,) = loaded
    assert loaded is row


# -- keys ----------------------------------------------------------------------------------------------------------

ATOMS = st.one_of(
    st.text(), st.integers(-(2**4000), 2**4000), st.floats(allow_nan=False), st.booleans(), st.binary()
)  # fmt: skip
KEYS = st.recursive(ATOMS, lambda keys: st.lists(keys, max_size=4).map(tuple), max_leaves=10)


@given(KEYS)
def test_plain_keys_come_back_as_they_were(key):
    got = []
    before = dict(outside._by_tag), dict(outside._by_class)
    try:

        @perdure.reference("Kept", Row, key=lambda row: row.key)
        def keep(key, resources):
            got.append(key)
            return Row(key)

        perdure.loads(perdure.dumps([Row(key)]))
    finally:
        for registry, entries in zip((outside._by_tag, outside._by_class), before, strict=True):
            registry.clear()
            registry.update(entries)
        outside._known = {}
    assert got == [key]
    assert repr(got) == repr([key])


class Text(str):
    pass


class StrangeInt(int, metaclass=Strange):
    pass


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (None, "it is None"),
        ([1], "class list"),
        ((1, {2: 3}), "a part of it is of the class dict"),
        ((1, None), "class NoneType"),
        (Text("a"), "class Text"),
        (StrangeInt(1), "class StrangeInt"),
        (object(), "class object"),
        (1 << 5000, "more than 4096 bits"),
        (tuple(range(1001)), "more than 1000 parts"),
    ],
)
def test_other_keys_are_refused_with_the_path(table, key, told):
    for dump in (perdure.dumps, dump_with_pickler):
        with pytest.raises(CannotPickle) as caught:
            dump({"rows": [Row(1), Row(key)]})
        assert caught.value.path == "dict → ['rows'][1]"
        assert told in str(caught.value)
        assert "'Row'" in str(caught.value)


def dump_with_pickler(obj):
    perdure.Pickler(io.BytesIO()).dump(obj)


def test_a_key_function_that_raises(table):
    row = Row(1)
    del row.key
    with pytest.raises(CannotPickle, match="its key cannot be had: AttributeError") as caught:
        perdure.dumps([row])
    assert caught.value.path == "list → [0]"


def test_what_cannot_be_pickled_beside_a_reference_is_named(table):
    with pytest.raises(CannotPickle) as caught:
        perdure.dumps([Row(1), Row(2), {"bad": lambda: None}])
    assert caught.value.path == "list → [2]['bad']"


# -- many in one call --------------------------------------------------------------------------------------------


@pytest.fixture
def calls(table):
    """The lists of keys that were asked for in one call."""
    calls = []

    def find_rows(keys, resources):
        calls.append(keys)
        return {key: resources["table"][key] for key in keys if key in resources["table"]}

    @perdure.reference("Row", Row, key=lambda row: row.key, many=find_rows)
    def find_row(key, resources):
        table.asked.append(key)
        return resources["table"][key]

    return calls


def test_many_are_had_in_one_call(table, calls):
    rows = [table.row(key) for key in range(10)]
    loaded = again({"rows": rows, "again": Pair(rows[0], (rows[3],))}, table)
    assert all(one is other for one, other in zip(loaded["rows"], rows, strict=True))
    assert loaded["again"].left is rows[0]
    assert (calls, table.asked) == ([list(range(10))], [])


def test_a_lone_key_is_asked_for_by_itself(table, calls):
    row = table.row(1)
    assert again([row, row], table)[1] is row
    assert (calls, table.asked) == ([], [1])


def test_what_is_not_among_the_many_is_asked_for_one_by_one(table, calls):
    table.row(1)
    data = perdure.dumps([Row(1), Row(2), Row(3)])
    with pytest.raises(CannotResolve) as caught:
        perdure.loads(data, resources={"table": table})
    assert (caught.value.path, caught.value.key) == ("list → [1]", 2)
    assert (calls, table.asked) == ([[1, 2, 3]], [2])


def test_keys_that_python_takes_for_equal_are_not_mixed_up(table, calls):
    one, two = table.row(1), table.row(2)
    loaded = again([one, Row(True), two], table)
    assert loaded[0] is one
    assert loaded[2] is two
    assert (calls, table.asked) == ([[1, 2]], [True])


@pytest.mark.parametrize(
    ("many", "told"),
    [
        (lambda keys, resources: resources["other"], "No resource 'other'"),
        (lambda keys, resources: {}[keys[1]], "KeyError: 2"),
        (lambda keys, resources: [1, 2], "gave list, not a mapping"),
    ],
)
def test_many_that_cannot_be_had(many, told):
    perdure.reference("Row", Row, key=lambda row: row.key, many=many)(lambda key, resources: Row(key))
    with pytest.raises(CannotResolve, match=told) as caught:
        perdure.loads(perdure.dumps({"a": (Row(1), Row(2))}))
    assert (caught.value.path, caught.value.tag, caught.value.key) == ("dict → ['a'][0]", "Row", 1)


def test_a_registration_without_many_takes_the_place_of_one_with_it(table, calls):
    @perdure.reference("Row", Row, key=lambda row: row.key)
    def find_row(key, resources):
        return Row(key)

    again([Row(1), Row(2)], table)
    assert calls == []


def test_what_is_made_for_each_place_cannot_be_had_together():
    with pytest.raises(ValueError, match="shared"):
        perdure.reference("Row", Row, key=id, many=lambda keys, resources: {}, shared=False)


def test_keys_of_records_from_elsewhere_may_be_anything(table, calls):
    for tag, key in (("Row", [1]), (["Row"], 1)):
        data = sealed_anew(forged(tag, key))
        with pytest.raises(perdure.CannotLoad):
            perdure.loads(data, resources={"table": table})
    assert calls == []


def sealed_anew(payload):
    """The payload under this user's seal, as another release or program of the same user may have written it."""
    record = parse_unverified(perdure.dumps({}))
    return encoder(KeyRing().personal())(Draft(*record[:8], payload)._replace(base=0), 0)


# -- registering -----------------------------------------------------------------------------------------------


class Record(perdure.Persistable):
    pass


class Guest(persistent.Persistent):
    pass


@pytest.mark.parametrize(
    ("tag", "cls", "error", "told"),
    [
        ("", Row, TypeError, "a tag is a str"),
        (1, Row, TypeError, "a tag is a str"),
        ("list", list, TypeError, "stored by its value"),
        ("type", type, TypeError, "stored by its value"),
        ("meta", Strange, TypeError, "stored by its value"),
        ("Record", Record, TypeError, "records of their own"),
        ("Guest", Guest, TypeError, "records of their own"),
        ("Row", "Row", TypeError, "named by its class"),
        ("Row", Pair, ValueError, "already"),
    ],
)
def test_what_cannot_be_registered(table, tag, cls, error, told):
    with pytest.raises(error, match=told):
        perdure.reference(tag, cls, key=lambda row: row.key)


def test_a_module_may_be_reloaded(table):
    newer = type("Row", (), {"__qualname__": "Row"})

    @perdure.reference("Row", newer, key=lambda row: row.key)
    def find_newer(key, resources):
        return newer()

    assert type(perdure.loads(perdure.dumps(Row(1)))) is newer


# -- resolving -------------------------------------------------------------------------------------------------


def test_the_function_is_left_as_it_is():
    @perdure.reference("Row", Row, key=lambda row: row.key)
    def find_row(key, resources):
        return Row(key)

    assert find_row(1, {}).key == 1


def test_errors_are_picklable_and_name_tag_key_and_path(table):
    data = perdure.dumps({"rows": [Row(7)]})
    with pytest.raises(CannotResolve) as caught:
        perdure.loads(data, resources={"table": table})
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.tag, error.key, error.path) == ("Row", 7, "dict → ['rows'][0]")
    assert isinstance(error, LookupError)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_resource_that_was_not_given_is_named(table):
    with pytest.raises(CannotResolve, match=r"No resource 'table' was given.*resources=\{'table'"):
        perdure.loads(perdure.dumps(Row(7)))


def test_what_is_of_another_class_is_not_taken(table):
    table[1] = "a text"
    with pytest.raises(CannotResolve, match="gave str, not a Row"):
        again([Row(1)], table)


@pytest.mark.parametrize("resources", [[1], "db", {1: 2}])
def test_resources_are_a_mapping_by_names(resources):
    with pytest.raises(TypeError, match="mapping from names"):
        perdure.loads(perdure.dumps(1), resources=resources)


def test_an_error_that_may_pass_comes_out_as_it_is(table):
    @perdure.reference("Row", Row, key=lambda row: row.key)
    def find_row(key, resources):
        raise perdure.StoreBusy("for now")

    with pytest.raises(perdure.StoreBusy):
        perdure.loads(perdure.dumps([Row(1)]))


# -- without the seal --------------------------------------------------------------------------------------------


def forged(tag, key):
    """A pickle that names a reference, by somebody who has no key."""

    class Call:
        def __reduce__(self):
            return outside.outside, (tag, key)

    return pickle.dumps({"here": [Call()]})


def test_without_a_seal_nothing_is_resolved(table):
    table.row(1)
    with pytest.raises(UntrustedRecord, match="_outside"):
        perdure.loads(forged("Row", 1), resources={"table": table})
    with pytest.raises(UntrustedRecord):
        read_values(forged("Row", 1))
    assert table.asked == []


def test_trust_all_resolves_only_what_is_registered(table):
    row = table.row(1)
    data = forged("Row", 1)
    assert perdure.loads(data, trust="all", resources={"table": table})["here"][0] is row
    with pytest.raises(UnknownTag):
        perdure.loads(forged("os.system", "true"), trust="all", resources={"table": table})


def test_references_of_a_payload_are_found_without_executing_anything(table):
    graph = {"a": [Row(1), Pair(Row(2), (3, Row(3)))], ("t", 1): Row("x")}
    record = parse_unverified(perdure.dumps(graph))
    assert record.flags == VALUE
    found = [tuple(found) for found in outside_references(record.payload, record.flags)]
    assert found == [
        ("['a'][0]", "Row", 1),
        ("['a'][1].left", "Row", 2),
        ("['a'][1].right[1]", "Row", 3),
        ("['t', 1]", "Row", "x"),
    ]
    assert table.asked == []


@pytest.mark.parametrize("payload", [b"", b"junk", b"\x80\x05.", pickle.dumps(1)[:-1]])
def test_a_payload_that_cannot_be_followed_has_no_references_to_show(payload):
    assert list(outside_references(payload, VALUE)) == []


# -- comparing -------------------------------------------------------------------------------------------------


def compare(stored, live):
    return same_state(stored, live, outside.identity)


def test_references_are_compared_by_tag_and_key(table):
    assert compare([OutsideReference("Row", 1)], [Row(1)])
    assert compare({"a": Row(1)}, {"a": SpecialRow(1)})
    assert not compare([OutsideReference("Row", 1)], [Row(2)])
    assert not compare([OutsideReference("Row", 1)], [Row(True)])
    assert not compare([OutsideReference("Other", 1)], [Row(1)])
    assert not compare([OutsideReference("Row", 1)], [1])
    assert not compare([OutsideReference("Row", 1)], [Row(None)])  # in doubt, changed
    assert table.asked == []


def test_a_payload_names_the_tag_once_and_nothing_of_the_object(table):
    payload = parse_unverified(perdure.dumps([Row(1, "secret"), Row(2, "secret")])).payload
    names = [argument for _, argument, _ in pickletools.genops(payload) if type(argument) is str]
    assert names == ["perdure", "_outside", "Row"]
