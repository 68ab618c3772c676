"""Members of enumerations that are renamed: on load, at rest, by an upgrade of the store."""

from __future__ import annotations

import enum
import pickle

import pytest

import perdure
from perdure.errors import CannotRename
from perdure.pickling.renames import Renames
from perdure.pickling.rewriting import rewritten
from perdure.records.frame import parse_unverified
from perdure.upkeep import rename_in_store, upgrade

BEFORE = """
class Colour(enum.Enum):
    RED = "RED"
    GREEN = ("green", 2)
class Rights(enum.Flag):
    READ = 1
    WRITE = 2
class Outer:
    class Kind(enum.Enum):
        A = 1
class Holder(Persistable):
    pass
"""
AFTER = """
class Colour(enum.Enum):
    GREEN = ("green", 2)
    CRIMSON = "RED"
class Rights(enum.Flag):
    WRITE = 1
    SEE = 2
class Outer:
    class Kind(enum.Enum):
        B = 1
class Holder(Persistable):
    pass
"""
RENAMES = {
    "shop:Colour.RED": "shop:Colour.CRIMSON", "shop:Rights.READ": "shop:Rights.SEE",
    "shop:Outer.Kind.A": "shop:Outer.Kind.B",
}  # fmt: skip


def values_of(shop):
    both = shop.Rights.READ | shop.Rights.WRITE
    return [shop.Colour.RED, "RED", shop.Colour.GREEN, "GREEN", "green", both, "READ", shop.Rights.READ,
            shop.Outer.Kind.A, {shop.Colour.RED: shop.Colour}, shop.Rights(0), "shop:Colour"]  # fmt: skip


def check(values, shop):
    assert values == [
        shop.Colour.CRIMSON, "RED", shop.Colour.GREEN, "GREEN", "green", shop.Rights.SEE | shop.Rights.WRITE, "READ",
        shop.Rights.SEE, shop.Outer.Kind.B, {shop.Colour.CRIMSON: shop.Colour}, shop.Rights(0), "shop:Colour",
    ]  # fmt: skip


def declare():
    for old, new in RENAMES.items():
        perdure.rename(old, new)


@pytest.mark.parametrize("protocol", range(6))
def test_members_are_renamed_on_load(define, protocol):
    shop = define("shop", BEFORE)
    data = perdure.dumps(values_of(shop), protocol)
    shop = define("shop", AFTER)
    declare()
    check(perdure.loads(data), shop)


def test_what_is_declared_comes_before_a_new_member_of_the_old_name(define):
    shop = define("shop", BEFORE)
    data = perdure.dumps([shop.Colour.RED, shop.Rights.READ])
    shop = define("shop", AFTER.replace("class Rights", "    RED = 5\nclass Rights"))
    perdure.rename("shop:Colour.RED", "shop:Colour.CRIMSON")
    perdure.rename("shop:Rights.READ", "shop:Rights.VIEW")
    perdure.rename("shop:Rights.VIEW", "shop:Rights.SEE")
    assert perdure.loads(data) == [shop.Colour.CRIMSON, shop.Rights.SEE]


def test_the_class_may_be_renamed_before_or_after(define):
    shop = define("shop", BEFORE)
    data = perdure.dumps([shop.Colour.RED, shop.Rights.READ])
    shop = define("shop", AFTER.replace("class Colour", "class Paint").replace("class Rights", "class May"))
    perdure.rename("shop:Colour.RED", "shop:Colour.CRIMSON")
    perdure.rename("shop:Colour", "shop:Paint")
    perdure.rename("shop:Rights", "shop:May")
    perdure.rename("shop:May.READ", "shop:May.SEE")
    assert perdure.loads(data) == [shop.Paint.CRIMSON, shop.May.SEE]


def test_a_member_that_is_renamed_to_nothing_says_both_names(define):
    shop = define("shop", BEFORE)
    data = perdure.dumps(shop.Colour.RED)
    define("shop", AFTER)
    perdure.rename("shop:Colour.RED", "shop:Colour.SCARLET")
    with pytest.raises(perdure.CannotLoad, match=r"no member SCARLET \(its value was 'RED'\)") as caught:
        perdure.loads(data)
    assert caught.value.path == "shop:Colour.RED"


@pytest.mark.parametrize("protocol", range(6))
def test_members_are_renamed_at_rest_and_the_same_text_as_data_stays(define, protocol):
    shop = define("shop", BEFORE)
    payload = parse_unverified(perdure.dumps(values_of(shop), protocol)).payload
    result = rewritten(payload, Renames(RENAMES))
    assert result.changed["shop:Colour.RED", "shop:Colour.CRIMSON"] == 1
    shop = define("shop", AFTER)
    check(pickle.loads(result.data), shop)
    assert rewritten(result.data, Renames(RENAMES)).data == result.data


def test_the_class_moves_along_at_rest(define, place):
    shop = define("shop", BEFORE)
    holder = shop.Holder()
    holder.values = values_of(shop)
    store = place.open()
    id_ = store.save(holder)
    report = rename_in_store(store, Renames(RENAMES, {"shop": "lib.mall"}))
    assert (report.records, report.refused) == (1, ())
    assert report.names["shop:Rights.READ|WRITE", "lib.mall:Rights.SEE|WRITE"] == 1
    define("shop", None)
    mall = define("lib.mall", AFTER)
    check(place.open().load(id_).values, mall)


def test_a_member_of_a_script_and_one_whose_class_is_not_here_are_renamed_too(define):
    shop = define("shop", BEFORE)
    store = perdure.make_store("memory:")
    holder = shop.Holder()
    holder.value = [shop.Colour.RED, "RED"]
    id_ = store.save(holder)
    define("shop", "class Holder(Persistable): pass")
    again = perdure.Store(store.backend, store.key)
    opaque = again.load(id_, missing="opaque")
    opaque.more = 1
    again.save(opaque)  # names the class by a call now, as members of scripts do
    assert rename_in_store(again, Renames(RENAMES)).records == 1
    shop = define("shop", AFTER)
    assert perdure.Store(store.backend, store.key).load(id_).value == [shop.Colour.CRIMSON, "RED"]


def test_a_member_does_not_leave_its_class(define):
    shop = define("shop", BEFORE)
    payload = parse_unverified(perdure.dumps([shop.Colour.RED])).payload
    with pytest.raises(CannotRename, match="leave its class"):
        rewritten(payload, Renames({"shop:Colour.RED": "mall:Paint.RED"}))


class Odd(enum.Enum):
    ONE = frozenset({1})


def test_a_value_that_cannot_be_written_again_keeps_it_from_being_renamed():
    renames = Renames({f"{__name__}:Odd.ONE": f"{__name__}:Odd.TWO"})
    alone = parse_unverified(perdure.dumps([Odd.ONE])).payload
    assert b"TWO" in rewritten(alone, renames).data
    shared = parse_unverified(perdure.dumps([Odd.ONE, Odd.ONE.name])).payload
    with pytest.raises(CannotRename, match="is data as well"):
        rewritten(shared, renames)


def test_an_upgrade_of_the_store_writes_the_new_names(define, place):
    shop = define("shop", BEFORE)
    store = place.open()
    ids = store.save_many([values_of(shop), [shop.Colour.GREEN]])
    shop = define("shop", AFTER)
    declare()
    store = place.open()
    assert upgrade(store).written == 1
    assert upgrade(store).written == 0
    perdure.pickling.declared.DECLARED.clear()
    check(place.open().load(ids[0]), shop)


def test_the_name_of_a_layout_that_is_data_as_well_stays(define):
    shop = define("shop", "@dataclass(slots=True)\nclass Size:\n    x: int\n    y: int\n")
    name = perdure.pickling.layouts.layout_of(shop.Size).args[0]
    payload = parse_unverified(perdure.dumps([name, shop.Size(1, 2), name])).payload
    result = rewritten(payload, Renames({"shop:Size": "shop:Area"}))
    shop = define("shop", "@dataclass(slots=True)\nclass Area:\n    x: int\n    y: int\n")
    assert pickle.loads(result.data) == [name, shop.Area(1, 2), name]
