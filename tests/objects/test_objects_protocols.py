"""Every protocol of pickle: what is saved with one is loaded again, and stores that have Python 2's names are read."""

from __future__ import annotations

import collections
import datetime
import decimal
import functools
import pickle
from typing import Any

import pytest
from places import Place

from perdure import ClassNotFound, Persistable
from perdure.objects.payloads import encoding
from perdure.pickling.classes import find_global

VALUES = [
    {"a", "b"},
    frozenset({1}),
    range(3),
    bytearray(b"x"),
    b"bytes",
    1j,
    slice(1, 2),
    ValueError("no"),
    FileNotFoundError("none"),
    collections.OrderedDict(a=1),
    collections.deque([1]),
    datetime.timedelta(1),
    decimal.Decimal("1.5"),
    map,
    functools.reduce,
    object,
]


class Job(Persistable):
    def __init__(self, *parts: Any):
        self.parts = parts


def shown(parts: Any) -> list[str]:
    return [f"{type(part).__name__} {sorted(part) if isinstance(part, set) else part!r}" for part in parts]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_saved_with_a_protocol_is_loaded(place: Place, protocol: int) -> None:
    id_ = place.open(protocol=protocol).save(Job(*VALUES))
    assert shown(place.open(protocol=protocol).load(id_).parts) == shown(VALUES)
    assert place.open().load(id_).parts[0] == {"a", "b"}


def test_deep_things_are_loaded_with_an_old_protocol(place: Place) -> None:
    chain: list[Any] = [{"a"}]
    for _ in range(5_000):
        chain = [chain]
    id_ = place.open(protocol=2).save(Job(chain))
    (loaded,) = place.open().load(id_).parts
    for _ in range(5_000):
        (loaded,) = loaded
    assert loaded == [{"a"}]


def test_what_was_saved_with_names_of_python_2_is_loaded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = encoding._FastPickler
    values = [value for value in VALUES if not isinstance(value, OSError)]  # Python 2 had but one kind of these

    class AsItWas(before):  # type: ignore[valid-type,misc]
        def __init__(self, *arguments: Any, fix_imports: bool, **named: Any):
            super().__init__(*arguments, fix_imports=not fix_imports, **named)

    monkeypatch.setattr(encoding, "_FastPickler", AsItWas)
    id_ = place.open(protocol=2).save(Job(*values))
    assert any(b"__builtin__" in frame for frame in place.open().backend.scan())
    monkeypatch.undo()
    store = place.open(protocol=2)
    assert shown(store.load(id_).parts) == shown(values)
    with store.transaction():
        store.load(id_).parts
    assert len(store.history(id_)) == 1


def test_a_name_that_python_2_had_and_nobody_has_now_is_told_as_it_is() -> None:
    with pytest.raises(ClassNotFound, match="commands:getoutputs cannot"):
        find_global("commands", "getoutputs")
