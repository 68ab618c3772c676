"""Every error about what cannot be saved says the way to it; what could not be found again is not saved."""

from __future__ import annotations

import pytest

import perdure
from perdure import CannotPickle, ConnectionLost, Persistable, make_store
from perdure.backends.server.errors import Trouble, translate


class Holder(Persistable):
    def __init__(self, value):
        self.inner = {"deep": [value]}


class Keyed:
    def __init__(self, key):
        self.key = key


def local():
    class Inner:
        pass

    def function():
        pass

    return Inner, function, Inner()


@pytest.mark.parametrize("part", [0, 1, 2], ids=["class", "function", "instance"])
def test_what_is_local_to_a_function_is_named_with_its_path(part):
    store = make_store("memory:")
    with pytest.raises(CannotPickle, match="local to a function") as caught:
        store.save(Holder(local()[part]))
    assert ".inner['deep'][0]" in caught.value.path
    assert len(store) == 0


def test_a_key_that_equals_nothing_is_refused():
    perdure.reference("keyed-by-number", Keyed, key=lambda obj: obj.key)(lambda key, resources: Keyed(key))
    store = make_store("memory:")
    assert store.load(store.save(Holder(Keyed(1.5)))).inner["deep"][0].key == 1.5
    for key in (float("nan"), (1, float("nan"))):
        with pytest.raises(CannotPickle, match="NaN"):
            store.save(Holder(Keyed(key)))


def test_what_may_be_tried_again_says_so():
    error = translate(Trouble.LOST, Exception("gone"), "the place", 1.0, was_open=True)
    assert isinstance(error, ConnectionLost)
    assert error.retryable
    assert not translate(Trouble.OTHER, Exception("odd"), "the place", 1.0, was_open=True).retryable
