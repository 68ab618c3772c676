"""Random lives of stores on every backend; see `perdure.testing.store_machine`."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from servers import KINDS, drop_tables, table_of, url_of

from perdure import Store, make_store
from perdure.testing.history_machine import HistoryMachine


def opener(kind, folder):
    """A function that opens the same store at each call."""
    if kind == "memory":
        first = make_store("memory:", code="off")
        return lambda: Unclosed(first.backend, first.key, code="off")
    if kind in KINDS:
        url = f"{url_of(kind)}?table={table_of(folder)}"
    else:
        url = str(folder) if kind == "directory" else f"sqlite:///{folder}.db"
    return lambda: make_store(url, code="off")


class Unclosed(Store):
    """A store in memory that is still there when it is opened again."""

    def close(self):
        for view in list(self._views):
            view.close()


EXAMPLES = {"memory": 150, "directory": 25, "sqlite": 25, "postgresql": 8, "mysql": 8}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_store_and_plain_dicts_are_alike(kind, tmp_path):
    numbers = itertools.count()
    folders = (tmp_path / str(number) for number in numbers)
    try:
        run_state_machine_as_test(
            lambda: HistoryMachine(opener(kind, next(folders))),
            settings=settings(max_examples=EXAMPLES[kind], stateful_step_count=30),
        )
    finally:
        if kind in KINDS:
            drop_tables(kind, {table_of(tmp_path / str(number)) for number in range(next(numbers))})
