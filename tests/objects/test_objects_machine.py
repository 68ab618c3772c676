"""Random lives of stores on every backend; see `perdure.testing.store_machine`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from perdure import Store, make_store
from perdure.testing.history_machine import HistoryMachine


def opener(kind, folder):
    """A function that opens the same store at each call."""
    if kind == "memory":
        first = make_store("memory:", code="off")
        return lambda: Unclosed(first.backend, first.key, code="off")
    url = str(folder) if kind == "directory" else f"sqlite:///{folder}.db"
    return lambda: make_store(url, code="off")


class Unclosed(Store):
    """A store in memory that is still there when it is opened again."""

    def close(self):
        for view in list(self._views):
            view.close()


@pytest.mark.parametrize("kind", ["memory", "directory", "sqlite"])
def test_a_store_and_plain_dicts_are_alike(kind, tmp_path):
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: HistoryMachine(opener(kind, tmp_path / str(next(numbers)))),
        settings=settings(max_examples=100 if kind == "memory" else 25, stateful_step_count=30),
    )
