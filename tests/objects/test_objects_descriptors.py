"""Descriptors under the name of what is in the `__dict__`: they are not asked when states come and go."""

# ruff: noqa: PT012  # a transaction is one block, and what it raises comes at its end

from __future__ import annotations

import pytest

from perdure import Persistable


class Checked:
    """What is assigned is looked at, and kept under the same name; nothing is said of deleting."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, obj, owner=None):
        return self if obj is None else obj.__dict__[self.name]

    def __set__(self, obj, value):
        if value < 0:
            raise ValueError(value)
        obj.__dict__[self.name] = value


class Level(Persistable):
    height = Checked()

    def __init__(self, height, name):
        self.height, self.name = height, name


class ReadOnly(Persistable):
    """Its own methods set what others only read."""

    def __init__(self, height, name):
        self.__dict__["height"], self.name = height, name

    @property
    def height(self):
        return self.__dict__["height"]

    def lift(self, height):
        self.__dict__["height"] = height


class Deletable(Persistable):
    def __init__(self, height, name):
        self.height, self.name = height, name

    @property
    def height(self):
        return self.__dict__["height"]

    @height.setter
    def height(self, value):
        self.__dict__["height"] = value

    @height.deleter
    def height(self):
        del self.__dict__["height"]


class Reduced(Level):
    def __reduce__(self):
        return (Reduced, (self.height, self.name))


CLASSES = [Level, ReadOnly, Deletable, Reduced]


def change(obj, height):
    if isinstance(obj, ReadOnly):
        obj.lift(height)
    else:
        obj.height = height
    obj.name = "changed"


@pytest.mark.parametrize("cls", CLASSES)
def test_an_abort_takes_changes_back(place, cls):
    store = place.open()
    obj = cls(2, "before")
    store.save(obj)
    with pytest.raises(ZeroDivisionError), store.transaction():
        change(obj, 3)
        raise ZeroDivisionError
    assert (obj.height, obj.name) == (2, "before")


@pytest.mark.parametrize("cls", CLASSES)
def test_a_savepoint_takes_changes_back_and_the_rest_is_saved(place, cls):
    store = place.open()
    obj = cls(2, "before")
    id_ = store.save(obj)
    with store.transaction() as transaction:
        obj.name = "kept"
        point = transaction.savepoint()
        change(obj, 3)
        point.rollback()
        assert (obj.height, obj.name) == (2, "kept")
    again = place.open().load(id_)
    assert (again.height, again.name) == (2, "kept")


@pytest.mark.parametrize("cls", CLASSES)
def test_states_go_and_come_again(place, cls):
    store = place.open()
    obj = cls(2, "before")
    store.save(obj)
    store.invalidate_cache()
    assert (obj.height, obj.name) == (2, "before")
