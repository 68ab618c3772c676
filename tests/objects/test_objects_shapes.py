"""Payloads that begin with the names of their attributes: whatever the names are, and whatever stands in them."""

from __future__ import annotations

import pickle

import pytest

from perdure import Persistable
from perdure.errors import CorruptRecord
from perdure.objects.instances.classes import MOST_SHAPES
from perdure.records.frame import decode, parse_unverified
from perdure.records.shape import MOST_NAMES, parse_shape, shape_of, without_start
from perdure.records.values import PLAIN, SHAPED


class Thing(Persistable):
    """Gets whatever attributes a test likes."""


def thing(**attributes):
    made = Thing()
    vars(made).update(attributes)
    return made


def record_of(store, obj):
    return parse_unverified(store.backend.read([obj.persistent_id])[obj.persistent_id])


def test_names_stand_apart_and_the_record_can_be_read_alone(place):
    store = place.open()
    parent = thing(name="parent")
    store.save_many([parent, *(thing(name=str(number), parent=parent) for number in range(20))])
    last = thing(name="last", parent=parent, rest=[1, 2])
    store.save(last)
    record = record_of(store, last)
    assert record.flags & SHAPED
    shape = parse_shape(record.payload)
    assert shape.names == ("name", "parent", "rest")
    assert shape.links == (1,)
    assert record.payload.startswith(shape.head)


@pytest.mark.parametrize("name", ["", "two words", "ünïcode", "\ud800", "a\nb", '"', "x" * 300])
def test_a_name_may_be_anything(place, name):
    id_ = place.open().save(thing(**{name: 1, "other": [name]}))
    loaded = place.open().load(id_)
    assert getattr(loaded, name) == 1
    assert loaded.other == [name]


def test_a_reference_that_is_sometimes_none(place):
    store = place.open()
    other = thing(name="other")
    things = [thing(number=n, first=other, second=None if n % 2 else other, third=n) for n in range(30)]
    ids = store.save_many(things)
    loaded = place.open().load_many(ids)
    assert [one.number for one in loaded] == list(range(30))
    assert all(one.first is loaded[0].first and one.third == one.number for one in loaded)
    assert all(one.second is (None if one.number % 2 else one.first) for one in loaded)
    assert loaded[0].first.name == "other"


def test_an_attribute_that_is_a_reference_a_list_of_them_and_a_plain_number(place):
    store = place.open()
    other = thing(name="other")
    things = [thing(value=value) for value in [other] * 9 + [[other, other], 7, None, {"of": other}, (other,)]]
    loaded = place.open().load_many(store.save_many(things))
    target = loaded[0].value
    assert all(one.value is target for one in loaded[:9])
    assert [one.value for one in loaded[9:]] == [[target, target], 7, None, {"of": target}, (target,)]


def test_one_that_refers_to_itself_and_to_its_own_dict(place):
    store = place.open()
    one = thing(name="one")
    one.itself, one.again = one, [one]
    two = thing(name="two", parts=[])
    two.parts.append(two.parts)
    first, second = place.open().load_many(store.save_many([one, two]))
    assert first.itself is first
    assert first.again[0] is first
    assert second.parts[0] is second.parts


def test_more_names_and_more_shapes_than_are_kept(place):
    store = place.open()
    wide = thing(**{f"name{number}": number for number in range(MOST_NAMES + 1)})
    many = [thing(**{f"only{number}": number}) for number in range(MOST_SHAPES + 50)]
    loaded = place.open().load_many(store.save_many([wide, *many]))
    assert loaded[0].name200 == MOST_NAMES
    assert [getattr(one, f"only{number}") for number, one in enumerate(loaded[1:])] == list(range(len(many)))


def test_names_that_are_no_texts(place):
    store = place.open()
    odd = Thing()
    vars(odd)[5] = "five"
    assert vars(place.open().load(store.save(odd)))[5] == "five"


def test_what_was_only_looked_at_is_not_written_whatever_the_order_of_its_names(place):
    ids = place.open().save_many([thing(a=1, b=2), thing(b=2, a=1)])
    store = place.open()
    before = store.revision()
    with store.transaction():
        one, two = store.load_many(ids)
        assert (one.a, two.a) == (1, 1)
    assert store.revision() == before
    with store.transaction():
        del one.a
        one.a = 1
    assert list(vars(place.open().load(ids[0]))) in (["a", "b"], ["b", "a"])


def test_a_shape_that_is_none_is_damage():
    for text in (b"", b"[]", b'[["a"],[1]]', b'[["a"],[-1]]', b"[[1],[]]", b"{}", b"[" * 60_000):
        with pytest.raises(CorruptRecord):
            parse_shape(len(text).to_bytes(2, "little") + text)
    assert shape_of([1], []) is None


NAN = float("nan")
CHANGES = [
    (1, True), (1, 1.0), (0.0, -0.0), (NAN, -NAN), (None, 0), (False, None), ("a", "b"), (b"a", "a"), ([1], [True]),
]  # fmt: skip
EQUAL = [(NAN, NAN), (1.5, 1.5), (2**70, 2**70), ("ab", "".join(["a", "b"])), (["ab"], ["".join(["a", "b"])])]


def written(place, before, after):
    """Whether a commit writes an object of which attributes are set anew; what they are then is looked at, too."""
    store = place.open()
    store.save_many([thing(value=Thing(), text="") for _ in range(10)])  # the class learns where references are
    id_ = store.save(thing(value=before, text="x"))
    store = place.open()
    revision = store.revision()
    with store.transaction():
        loaded = store.load(id_)
        loaded.value, loaded.text = after(store), "".join(["x"])
        expected = repr(loaded.value)
    assert repr(place.open().load(id_).value) == expected
    return store.revision() > revision


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_change_of_one_attribute_is_written(place, before, after):
    assert written(place, before, lambda store: after)
    assert written(place, after, lambda store: before)


@pytest.mark.parametrize(("before", "after"), EQUAL)
def test_what_is_set_to_the_same_is_not_written(place, before, after):
    assert not written(place, before, lambda store: after)


class Named(Persistable):
    """Shown by its name, so that what was loaded can be compared by what is shown."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


@pytest.mark.parametrize("value", [0, 1, None, "other"])
def test_a_reference_in_the_place_of_a_value_and_the_other_way_round(place, value):
    assert written(place, Named("new"), lambda store: value)
    id_ = place.open().save(Named("other"))
    assert written(place, value, lambda store: store.load(id_))


class Valued(Persistable):
    """Has one value, and always the same attributes."""

    def __init__(self, value):
        self.value, self.number = value, 7


FRAME_TARGET = 64 * 1024  # bytes; of more C pickle makes several frames


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ([1, "two", 3.5, None], b"]"),
        ([f"{number:05d}" for number in range(5_000)], b"]"),  # a frame of nearly that size
        ([f"{number:05d}" for number in range(20_000)], b"\x80\x05\x95"),
        (["a" * 10_000] * 3 + ["b" * 30_000], b"]"),
        ("text" * FRAME_TARGET, None),  # a large piece
        ({1, 2}, b"]"),
        (pytest.raises, b"\x80\x05\x95"),
        (frozenset([1j]), b"\x80\x05\x95"),
    ],
    ids=["small", "one frame", "several frames", "long texts", "large piece", "set", "function", "complex"],
)
def test_plain_values_have_no_start_where_one_frame_would_hold_them(place, value, start):
    store = place.open()
    made = Valued(value)
    store.save(made)
    record = decode(store.backend.read([made.persistent_id])[made.persistent_id], store.key)
    if start is None:
        assert not record.flags & SHAPED
    else:
        assert record.flags & SHAPED
        assert bool(record.flags & PLAIN) == (value not in (pytest.raises, frozenset([1j])))
        pickled = record.payload[len(parse_shape(record.payload).head) :]
        assert pickled.startswith(start)
        assert pickle.loads(pickled) == [value, 7]
    loaded = place.open().load(made.persistent_id)
    assert (loaded.value, loaded.number) == (value, 7)


@pytest.mark.parametrize("protocol", range(6))
def test_only_a_start_that_tells_nothing_is_left_out(protocol):
    whole = pickle.dumps([1, "two"], protocol)
    assert without_start(whole) == (whole[11:] if protocol == 5 else whole)
    assert without_start(without_start(whole)) == without_start(whole)
    assert without_start(whole + b".") == whole + b"."
    assert [without_start(whole[:end]) for end in range(len(whole))] == [whole[:end] for end in range(len(whole))]
