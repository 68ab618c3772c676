"""Attributes that a class has no more, and no place for: kept beside its values, through any number of saves."""

from __future__ import annotations

import gc
import warnings

import pytest

import perdure
from perdure.pickling import layouts
from perdure.pickling.renames import Renames
from perdure.upkeep import rename_in_store, upgrade

HOLDER = "class Holder(Persistable): pass\n"
KINDS = {
    "slots": ("@dataclass(slots=True)\nclass Size:\n    x: object\n", "    gone: object = 9\n"),
    "frozen": ("@dataclass(frozen=True, slots=True)\nclass Size:\n    x: object\n", "    gone: object = 9\n"),
    "weak": ("@dataclass(slots=True, weakref_slot=True)\nclass Size:\n    x: object\n", "    gone: object = 9\n"),
    "tuple": ("class Size(typing.NamedTuple):\n    x: object\n", "    gone: object = 9\n"),
    "plain": (
        """class Size:
    def __init__(self, x, gone=None):
        self.x = x
        if gone: self.gone = gone
    __slots__ = ('x',""",
        "'gone')\n",
    ),
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::perdure.EvolutionWarning")


@pytest.fixture(params=KINDS)
def texts(request):
    """The class without the attribute, and with it."""
    head, more = KINDS[request.param]
    return HOLDER + (head + ")\n" if request.param == "plain" else head), HOLDER + head + more


@pytest.mark.parametrize("protocol", range(6))
def test_values_keep_what_their_class_has_no_place_for(define, texts, protocol):
    without, with_it = texts
    if "NamedTuple" not in with_it:
        protocol = max(protocol, 2)  # pickle itself refuses slots below that
    shop = define("shop", with_it)
    size = shop.Size(1, [2])
    data = perdure.dumps([size, size, shop.Size(3, 4)], protocol)
    for _ in range(3):
        shop = define("shop", without)
        loaded = perdure.loads(data)
        assert loaded[0] is loaded[1]
        assert [each.x for each in loaded[:3]] == [1, 1, 3]
        assert not hasattr(loaded[0], "gone")
        data = perdure.dumps([*loaded, shop.Size(5)], protocol)
    define("shop", with_it)
    loaded = perdure.loads(data)
    assert [(each.x, each.gone) for each in loaded[:3]] == [(1, [2]), (1, [2]), (3, 4)]
    assert loaded[0] is loaded[1]
    assert (loaded[3].x, getattr(loaded[3], "gone", 9)) == (5, 9)


def test_values_in_records_keep_it(define, texts, place):
    without, with_it = texts
    shop = define("shop", with_it)
    holder, other = shop.Holder(), shop.Holder()
    holder.sizes = [shop.Size(1, other)]
    store = place.open()
    id_ = store.save(holder)
    define("shop", without)
    store = place.open()
    assert upgrade(store).written == 1
    assert upgrade(store).written == 0
    holder = store.load(id_)
    revision = store.revision()
    with store.transaction():
        assert holder.sizes[0].x == 1
    assert store.revision() == revision
    holder.more = [holder.sizes[0]]
    store.save(holder)
    define("shop", with_it)
    holder = place.open().load(id_)
    assert holder.more[0] is holder.sizes[0]
    assert (holder.more[0].x, holder.more[0].gone.persistent_id) == (1, "Holder.2")


def test_what_is_kept_may_lead_back(define):
    without, with_it = (HOLDER + text for text in (KINDS["slots"][0], "".join(KINDS["slots"])))
    shop = define("shop", with_it)
    size = shop.Size(1)
    size.gone = [size]
    data = perdure.dumps(size)
    define("shop", without)
    data = perdure.dumps(perdure.loads(data))
    define("shop", with_it)
    again = perdure.loads(data)
    assert again.gone[0] is again


def test_a_step_of_an_upgrade_sees_what_was_kept(define):
    head, more = KINDS["frozen"]
    data = perdure.dumps(define("shop", head + more).Size(1, 2))
    define("shop", head)
    data = perdure.dumps([perdure.loads(data)])
    versioned = '@perdure.versioned("shop.Size", version=2, formerly=["shop:Size"])\n'
    define("shop", f"{versioned}{head}    z: int = 0\nperdure.upgrade(Size, 1, rename={{'gone': 'z'}})\n")
    (size,) = perdure.loads(data)
    assert (size.x, size.z) == (1, 2)


def test_a_tuple_whose_fields_were_reordered_and_one_that_is_a_class_now(define):
    data = perdure.dumps(define("shop", "class P(typing.NamedTuple):\n    a: int\n    b: int\n    c: int\n").P(1, 2, 3))
    define("shop", "class P(typing.NamedTuple):\n    a: int\n    b: int\n")
    data = perdure.dumps(perdure.loads(data))
    shop = define("shop", "class P(typing.NamedTuple):\n    b: int\n    a: int\n")
    assert perdure.loads(data) == shop.P(b=2, a=1)
    data = perdure.dumps(perdure.loads(data))
    define("shop", "@dataclass\nclass P:\n    c: int\n    b: int\n    a: int\n")
    loaded = perdure.loads(data)
    assert (loaded.a, loaded.b, loaded.c) == (1, 2, 3)


def test_it_stays_where_the_class_is_not_here_and_through_a_rename_at_rest(define, texts):
    without, with_it = texts
    shop = define("shop", with_it)
    holder = shop.Holder()
    holder.size = shop.Size(1, 2)
    store = perdure.make_store("memory:")
    id_ = store.save(holder)

    def saved_again(text, **settings):
        define("shop", text)
        again = perdure.Store(store.backend, store.key)
        holder = again.load(id_, **settings)
        holder.count = getattr(holder, "count", 0) + 1
        again.save(holder)
        return holder.size

    saved_again(without)
    assert isinstance(saved_again(HOLDER, missing="opaque"), perdure.Opaque)
    assert isinstance(saved_again(HOLDER, missing="opaque"), perdure.Opaque)
    assert saved_again(without).x == 1
    assert rename_in_store(perdure.Store(store.backend, store.key), Renames({"shop:Size": "shop:Area"})).records == 1
    define("shop", with_it.replace("Size", "Area"))
    area = perdure.Store(store.backend, store.key).load(id_).size
    assert (area.x, area.gone) == (1, 2)


def test_what_nobody_holds_any_more_is_let_go(define):
    head, more = KINDS["frozen"]
    shop = define("shop", head + more)
    data = perdure.dumps([shop.Size(n, n) for n in range(500)])
    define("shop", head)
    layouts.ASIDE.clear()
    for _ in range(10):
        held = perdure.loads(data)
        gc.collect()
    assert len(layouts.ASIDE) <= 4 * 500
    assert [layouts.kept_aside(each) for each in held] == [{"gone": n} for n in range(500)]
    del held
    gc.collect()
    layouts._let_go()
    assert len(layouts.ASIDE) == 0


def test_it_is_said_once(define, texts):
    without, with_it = texts
    data = perdure.dumps([define("shop", with_it).Size(1, 2)])
    define("shop", without)
    with pytest.warns(perdure.EvolutionWarning, match="shop:Size: 'gone' is no more an attribute.*is kept"):
        data = perdure.dumps(perdure.loads(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perdure.loads(data)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_reader_of_what_is_not_sealed_keeps_it_too(define, texts, protocol):
    without, with_it = texts
    mine, other = perdure.Key(bytes(range(32))), perdure.Key(bytes(32))
    shop = define("shop", with_it)
    data = perdure.dumps([shop.Size(1, [2]), shop.Size(3, 4)], protocol)
    for _ in range(2):
        perdure.register_class(define("shop", without).Size)
        data = perdure.dumps(perdure.loads(data), protocol, key=other)
        loaded = perdure.loads(data, key=mine)
        assert [each.x for each in loaded] == [1, 3]
        data = perdure.dumps(loaded, protocol)
    perdure.register_class(define("shop", with_it).Size)
    data = perdure.dumps(perdure.loads(data), key=other)
    assert [(each.x, each.gone) for each in perdure.loads(data, key=mine)] == [(1, [2]), (3, 4)]


HOSTILE = {
    "a dunder": ("obj", (None, {"__class__": 1})),
    "no dict": ("obj", (None, [1])),
    "no pair": ("obj", None),
    "another's state": ([], (None, {"x": 1})),
    "a class": (int, (None, {"x": 1})),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_kept_cannot_be_misused_without_a_seal(define, what):
    cls = perdure.register_class(define("shop", KINDS["slots"][0]).Size)
    target, told = HOSTILE[what]

    class Call:
        def __reduce__(self):
            return perdure._keep, (cls(1) if target == "obj" else target, told)

    data = perdure.dumps([Call()], key=perdure.Key(bytes(32)))
    with pytest.raises(perdure.PerdureError):
        perdure.loads(data, key=perdure.Key(bytes(range(32))))
