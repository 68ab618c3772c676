"""Renames and moves: what a name in a record means, and what names cannot be declared."""

from __future__ import annotations

import functools
import pickle

import pytest

import perdure
from perdure.pickling.declared import DECLARED

OLD = """
class Cart(Persistable):
    def __init__(self): self.items = [1]
    class Line:
        def __init__(self): self.count = 2
class Colour(enum.Enum):
    RED = 1
def double(x): return 2 * x
"""
NEW = """
class Basket(Persistable):
    class Row:
        pass
class Colour(enum.Enum):
    CRIMSON = 1
def twice(x): return 2 * x
"""


def test_a_class_and_what_is_nested_in_it_has_another_name(define):
    shop = define("shop.models", OLD)
    value = {"line": shop.Cart.Line(), "class": shop.Cart, "call": functools.partial(shop.double, 4)}
    data = [perdure.dumps(value, protocol) for protocol in range(6)]
    shop = define("shop.models", NEW)
    for each in data:
        with pytest.raises(perdure.ClassNotFound, match=r"shop.models:(Cart|Cart.Line|double) cannot be found.*rename"):
            perdure.loads(each)
    perdure.rename("shop.models:Cart", "shop.models:Basket")
    perdure.rename("shop.models:Basket.Line", "shop.models:Basket.Row")
    perdure.rename("shop.models:double", "shop.models:twice")
    for each in data:
        loaded = perdure.loads(each)
        assert type(loaded["line"]) is shop.Basket.Row
        assert loaded["line"].count == 2
        assert loaded["class"] is shop.Basket
        assert loaded["call"]() == 8


def test_plain_pickles_of_others_are_read_with_the_same_names(define):
    shop = define("shop.models", OLD)
    data = [pickle.dumps([shop.Cart.Line(), shop.double], protocol) for protocol in range(6)]
    shop = define("shop.models", NEW + "class Cart: pass\n")
    perdure.rename("shop.models:Cart.Line", "shop.models:Basket.Row")
    perdure.rename("shop.models:double", "shop.models:twice")
    for each in data:
        line, double = perdure.loads(each, trust="all")
        assert type(line) is shop.Basket.Row
        assert double is shop.twice


def test_a_module_moves_with_everything_below_it(define):
    old = define("old_shop.parts.models", OLD)
    data = perdure.dumps([old.Cart(), old.Colour.RED, old.double])
    define("old_shop", None)
    new = define("shop.parts.models", OLD)
    perdure.move_module("old_shop", "shop")
    cart, red, double = perdure.loads(data)
    assert type(cart) is new.Cart
    assert red is new.Colour.RED
    assert double is new.double


def test_a_module_may_move_into_itself(define):
    data = perdure.dumps([define("shop.models", OLD).Cart()])
    define("shop", None)
    new = define("shop.core.models", OLD)
    perdure.move_module("shop", "shop.core")
    assert type(perdure.loads(data)[0]) is new.Cart
    assert type(perdure.loads(perdure.dumps([new.Cart()]))[0]) is new.Cart  # a new name is not moved again


def test_a_class_may_be_nested_into_one_of_its_own_name(define):
    data = perdure.dumps(define("shop", "class Cart: pass\n").Cart())
    new = define("shop", "class Cart:\n    class Data: pass\n")
    perdure.rename("shop:Cart", "shop:Cart.Data")
    assert type(perdure.loads(data)) is new.Cart.Data
    assert type(perdure.loads(perdure.dumps(new.Cart.Data()))) is new.Cart.Data


def test_a_member_of_an_enumeration_has_another_name(define):
    data = perdure.dumps(define("shop", OLD).Colour.RED)
    shop = define("shop", NEW)
    with pytest.raises(perdure.CannotLoad, match=r"no member RED any more.*perdure.rename\(\"shop:Colour.RED\""):
        perdure.loads(data)
    perdure.rename("shop:Colour.RED", "shop:Colour.CRIMSON")
    assert perdure.loads(data) is shop.Colour.CRIMSON


def test_renames_follow_one_another_and_the_longest_old_name_counts():
    perdure.move_module("a", "b")
    perdure.move_module("a.special", "c")
    perdure.rename("b.x:One", "b.x:Two")
    perdure.rename("b.x:Two", "d:Three")
    assert DECLARED.current("a.x:One.Inner") == "d:Three.Inner"
    assert DECLARED.current("a.special.x:One") == "c.x:One"
    assert DECLARED.current("ab.x:One") == "ab.x:One"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_circles_are_refused_and_nothing_of_them_stays(order):
    declare = [
        lambda: perdure.rename("shop:Cart", "market:Cart"),
        lambda: perdure.move_module("market", "shop"),
    ]
    declare[order[0]]()
    before = (DECLARED.renames, DECLARED.moves)
    with pytest.raises(perdure.InvalidRename, match="circle"):
        declare[order[1]]()
    assert (DECLARED.renames, DECLARED.moves) == before


@pytest.mark.parametrize(("old", "new"), [("a", "b.c"), ("shop", "shop")])
def test_moves_that_never_end_are_refused(old, new):
    if old == "a":
        perdure.move_module("b", "a")
    with pytest.raises(perdure.InvalidRename):
        perdure.move_module(old, new)


def test_one_old_name_means_one_new_one():
    perdure.rename("shop:Cart", "shop:Basket")
    perdure.rename("shop:Cart", "shop:Basket")  # the same again is nothing new
    with pytest.raises(perdure.InvalidRename, match=r"shop:Trolley.*shop:Basket before") as caught:
        perdure.rename("shop:Cart", "shop:Trolley")
    assert caught.value.path == "shop:Cart"


@pytest.mark.parametrize("name", ["", "shop Cart", "shop:", ":Cart", "shop:Cart\n", "shop:Ca rt", 7])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(perdure.InvalidRename):
        perdure.rename(name, "shop:Cart")
    with pytest.raises(perdure.InvalidRename):
        perdure.move_module("shop", name)


def test_a_file_of_renames(define, tmp_path):
    shop = define("old_shop", OLD)
    store = perdure.make_store(tmp_path / "store")
    id_ = store.save(shop.Cart())
    store.close()
    define("old_shop", None)
    shop = define("shop", NEW)
    file = tmp_path / "renames.toml"
    file.write_text('[rename]\n"old_shop:Cart" = "old_shop:Basket"\n[move_module]\nold_shop = "shop"\n')
    with perdure.make_store(tmp_path / "store", names=file) as store:
        assert store.load(id_).__class__ is shop.Basket


@pytest.mark.parametrize(
    "text",
    ["[rename", '[renames]\n"a:B" = "a:C"', "[rename]\na = 1", '[rename]\n"a:B" = "a:C"\n"a:C" = "a:B"', "x = 1"],
)
def test_a_file_that_says_something_else_declares_nothing(tmp_path, text):
    file = tmp_path / "renames.toml"
    file.write_text(text)
    with pytest.raises(perdure.InvalidRename):
        perdure.declare_names(file)
    assert not DECLARED.active


def test_queries_find_what_was_saved_under_old_names(define, place):
    text = "class Cart(Persistable):\n    __indexed__ = ('size',)\n    def __init__(self, size): self.size = size\n"
    old = define("old_shop", text)
    place.open().save_many([old.Cart(size) for size in range(4)])
    define("old_shop", None)
    new = define("shop", text + "@perdure.versioned('shop.Sub')\nclass Sub(Cart): pass\n")
    perdure.move_module("old_shop", "shop")
    store = place.open()
    store.save_many([new.Cart(2), new.Sub(3)])
    for _ in range(2):
        assert [cart.size for cart in store.find(new.Cart, size__gt=1, order_by="size")] == [2, 2, 3, 3]
        assert store.count(new.Cart) == 6
        assert store.count(new.Sub) == 1
        assert len([*store.iterate(new.Cart)]) == 6


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(perdure.NotFound, match=r"There is no file .*none\.toml\. Look at the path\.$"):
        perdure.make_store("memory:", names=tmp_path / "none.toml")


def test_a_class_that_nobody_could_import_is_registered():
    @perdure.register_class
    class Local(perdure.Persistable):
        def __init__(self):
            self.size = 3

    store = perdure.make_store("memory:")
    id_ = store.save(Local())
    again = perdure.Store(store.backend, store.key)
    assert again.load(id_).__class__ is Local
    assert again.load(id_).size == 3
    perdure.versioned("local", formerly=["shop:Local"])(Local)
    with pytest.raises(perdure.NameClash, match="shop:Local is claimed by shop:Local, but it is the name of"):
        perdure.register_class(type("Local", (), {"__module__": "shop", "__qualname__": "Local"}))
    with pytest.raises(perdure.InvalidArgument):
        perdure.register_class(7)  # type: ignore[type-var]
