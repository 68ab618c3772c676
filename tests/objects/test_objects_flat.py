"""Values that do without a memo, saved by Python and by the compiled part: the same records, and what comes of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways import COMPILED, IS_BUILT, needs_kernels

from perdure import Key, Persistable, Store, kernels
from perdure.backends.memory import MemoryBackend
from perdure.objects.instances.classes import facts_of
from perdure.objects.instances.persistable import entry_of
from perdure.objects.payloads.encoding import Encoder
from perdure.pickling.flat import LARGE, MOST
from perdure.records.frame import decode
from perdure.records.shape import parse_shape
from perdure.records.values import PLAIN, SHAPED

KEY = Key(bytes(range(32)))


class Part(Persistable):
    def __init__(self, **given: Any):
        self.__dict__.update(given)


@pytest.fixture(params=["compiled", "pure"])
def way(request, monkeypatch):
    if request.param == "compiled" and not IS_BUILT and not os.environ.get("CI"):
        pytest.skip("the compiled part is not built here")
    monkeypatch.setattr(kernels, "compiled", COMPILED if request.param == "compiled" else None)
    return request.param


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def deep(length: int) -> Any:
    made: Any = "inside"
    for number in range(length):
        made = (made, number) if number % 2 else [made]
    return made


TEXT = "".join(["a ", "text"])
ENDLESS: list[Any] = []
ENDLESS.append([ENDLESS])
VALUES = {
    "nothing": None,
    "usual": {"number": 1, "tags": ["a", "bc"], "pair": ("d", 2.5), "sizes": {"wide": 3}},
    "twice": [TEXT, TEXT],
    "no items twice": [(), ()],
    "a character twice": ["x", {"x": 1}],
    "endless": ENDLESS,
    **{f"{count} texts": texts(count) for count in (MOST - 3, MOST - 2, MOST - 1, 128, 300)},
    **{f"{count} items": [*range(count)] for count in (LARGE - 1, LARGE, LARGE + 1)},
    **{f"{count} pairs": dict.fromkeys(range(count)) for count in (LARGE - 1, LARGE)},
    **{f"{count} in a tuple": (*range(count),) for count in (LARGE - 1, LARGE)},
    **{f"{size} characters": "x" * size for size in (255, 256, 1000, 59_900, 60_000, 65_000, 65_530, 66_000, 200_000)},
    **{f"{count} deep": deep(count) for count in (40, 58, 59, 60, 70, 98, 99, 100)},
    "many numbers": [[*range(LARGE - 1)] for _ in range(30)],
    "a large number": [2**64, "beside it"],
    "half a pair": ["\ud800", "beside it"],
    "bytes": [b"", b"one"],
    "sets": [{1}, set(), frozenset({2})],
    "a set of a text": {"one"},
}


def pickled(value: Any, *, compiled: bool, protocol: int = 5) -> Any:
    """What comes of encoding an object with that value."""
    obj = Part(value=value, number=7)
    facts = facts_of(Part)
    facts.links_to_learn, facts.shapes = 0, {}
    facts.shape(tuple(vars(obj)))
    encoder = Encoder(entry_of, protocol)
    found = COMPILED.encode_simple(encoder, obj, facts) if compiled else encoder.encode_simple_in_python(obj, facts)
    assert found is not NotImplemented
    return found if found is None else (found[0], found[1], found[3])


@needs_kernels
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", VALUES)
def test_both_write_the_same(name, protocol):
    value = VALUES[name]
    assert pickled(value, compiled=True, protocol=protocol) == pickled(value, compiled=False, protocol=protocol)


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([TEXT, "", "x", ()])
STATES = st.recursive(
    ATOMS | st.binary(max_size=3) | st.sets(st.text(max_size=3), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=5)
        | inner.map(lambda each: [each, each])
    ),
    max_leaves=40,
)


@needs_kernels
@given(STATES)
def test_both_write_the_same_of_any_values(value):
    assert pickled(value, compiled=True) == pickled(value, compiled=False)


def payloads(store: Store) -> dict[str, bytes]:
    """The pickles of plain values, by ids."""
    records = [decode(frame, KEY) for frame in store.backend.scan()]
    plain = [record for record in records if record.flags & (SHAPED | PLAIN) == SHAPED | PLAIN]
    return {record.id: record.payload[len(parse_shape(record.payload).head) :] for record in plain}


def test_what_is_met_twice_is_one_again_and_a_pickle_of_it_has_a_memo(way):
    backend = MemoryBackend()
    store = Store(backend, KEY, code="off")
    inner = ["one", "two"]
    once, twice = store.save_many([Part(first=inner, other=["three"]), Part(first=inner, other=inner)])
    found = payloads(store)
    assert found[once] == b"](](\x8c\x03one\x8c\x03twoe]\x8c\x05threeae."
    assert found[twice] == b"]\x94(]\x94(\x8c\x03one\x94\x8c\x03two\x94eh\x01e."
    one, other = Store(backend, KEY, code="off").load_many([once, twice])
    assert (one.first, one.other) == (inner, ["three"])
    assert other.first is other.other


@pytest.mark.parametrize("name", VALUES)
def test_what_was_only_looked_at_is_not_written_anew(way, name):
    backend = MemoryBackend()
    (id_,) = Store(backend, KEY, code="off").save_many([Part(value=VALUES[name], number=1)])
    store = Store(backend, KEY, code="off")
    before = store.revision()
    with store.transaction():
        found = store.load(id_)
        assert repr(found.value) == repr(VALUES[name])
    assert store.revision() == before
    assert not found.changed
    found.number = 2
    store.save(found)
    assert Store(backend, KEY, code="off").load(id_).number == 2
