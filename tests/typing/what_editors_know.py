"""Checked by `make check`, never run: what editors know of the objects that come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_type

import perdure
from perdure import Id, Job, Persistable, Run


class User(Persistable):
    def __init__(self, name: str):
        self.name = name


def objects(store: perdure.Store) -> None:
    user_id = store.save(User("A"))
    assert_type(user_id, Id[User])
    assert_type(store.load(user_id), User)
    assert_type(store.load("User.1"), Any)
    assert_type(store.load_many(store.save_many([User("B")])), list[User])
    assert_type(perdure.make_store("memory:"), perdure.Store)
    assert_type(store.find(User, name="A", order_by="-name"), list[User])
    assert_type(store.find("shop:User"), list[Any])
    assert_type(store.count(User), int)


@perdure.job
def length(text: str) -> int:
    return len(text)


@perdure.job(retries=1)
def twice(number: int) -> int:
    return 2 * number


@perdure.flow
def measure(text: str) -> int:
    return twice(length(text))


def runs(store: perdure.Store) -> None:
    assert_type(length("outside a flow"), int)
    run = perdure.start(measure, "text", store=store)
    assert_type(run, Run)
    assert_type(run.jobs(), list[Job])
    assert_type(perdure.rerun(run), Run)


class Row:
    key: int


@perdure.reference("Row", Row, key=lambda row: row.key)
def find_row(key: int, resources: Mapping[str, Any]) -> Row:
    return Row()


def outside() -> None:
    assert_type(find_row(1, {}), Row)
    assert_type(perdure.outside.File("data.csv").size, int)
    assert_type(perdure.outside.Environment("HOME").value, str)
