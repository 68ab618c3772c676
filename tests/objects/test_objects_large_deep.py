"""Large pieces of objects that are nested deeper than C pickle goes are kept apart, too."""

from __future__ import annotations

from typing import Any

import pytest
from places import Place

from perdure import Persistable
from perdure.upkeep import unnamed_pieces

DEPTH = 20_000


class Job(Persistable):
    def __init__(self, chain: Any, data: Any):
        self.chain, self.data = chain, data


def chain(end: Any = None) -> list[Any]:
    found: list[Any] = [] if end is None else [end]
    for _ in range(DEPTH):
        found = [found]
    return found


DATA = {
    "bytes": (b"x" * 200_000, 1),
    "text": ("ä" * 100_000, 1),
    "bytearray": (bytearray(100_000), 1),
    "the same twice": ([b"y" * 70_000] * 2, 1),
    "some": ([b"a" * 70_000, "b" * 80_000, bytearray(90_000), b"c" * 65_535], 3),
    "many small things": ([str(number) for number in range(50_000)], 0),
    "like a frame": (b"\x95" + (100_000 - 9).to_bytes(8, "little") + b"z" * (100_000 - 9), None),
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("name", DATA)
def test_what_is_large_is_taken_out(place: Place, name: str, protocol: int) -> None:
    data, pieces = DATA[name]
    store = place.open(code="off", protocol=protocol)
    id_ = store.save(Job(chain(), data))
    if pieces is not None and not (protocol == 4 and "bytearray" in name):
        assert len(store.backend.buffers()) <= 3 if name == "some" else len(store.backend.buffers()) == pieces
    other = place.open(code="off", protocol=protocol)
    assert other.load(id_).data == data
    with other.transaction():
        other.load(id_).chain
    assert len(other.history(id_)) == 1
    assert unnamed_pieces(store) == {}


def test_what_is_large_deep_within_is_taken_out(place: Place) -> None:
    id_ = place.open(code="off").save(Job(chain(b"x" * 100_000), "y" * 100_000))
    store = place.open(code="off")
    assert len(store.backend.buffers()) == 2
    found = store.load(id_).chain
    for _ in range(DEPTH):
        (found,) = found
    assert found == [b"x" * 100_000]
