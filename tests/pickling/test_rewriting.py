"""Names change in pickles of every shape, and nothing else does; what is uncertain is refused by a named error."""

from __future__ import annotations

import importlib
import io
import pickle
import pickletools
import pkgutil
import random
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import NAMES, OLD, after, before, described, installed

from perdure.errors import CannotRename, CorruptRecord, InvalidRename
from perdure.pickling.classes import find
from perdure.pickling.references import named
from perdure.pickling.renames import Renames
from perdure.pickling.rewriting import rewritten

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
RULES: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {OLD: "new_place"}),
    ({}, {OLD: "a.much.longer.package.with_a_module"}),
    ({}, {OLD: "n"}),
    ({}, {OLD: f"{OLD}.inside"}),
    ({f"{OLD}:Plain": f"{OLD}:Basket"}, {}),
    ({f"{OLD}:Plain": "shop:Cart"}, {}),
    ({f"{OLD}:Plain": "shop:Shop.Cart"}, {}),  # what is at the top becomes nested
    ({f"{OLD}:Plain.Inner": f"{OLD}:Inner"}, {}),  # and the other way round
    ({f"{OLD}:Plain.Inner": "shop:Elsewhere.Outer.Inside"}, {}),
    ({f"{OLD}:Plain.Inner.Deep": "shop:Deep", f"{OLD}:Plain.Inner": "shop:In"}, {OLD: "rest"}),
    ({f"{OLD}:Plain.Inner.Deep": f"{OLD}:Deep"}, {}),
    ({f"{OLD}:Plain": f"{OLD}:Plain.Plain"}, {}),
    ({f"{OLD}:work": "shop:labour", f"{OLD}:Colour": "shop:Paint", f"{OLD}:Holder": "shop:Plain"}, {}),
    ({f"{OLD}:{name}": f"shop:{name.replace('.', '')}New" for name in NAMES}, {}),
    ({f"{OLD}:Plain": "b:Plain", "b:Plain": "c:Basket"}, {"c": "d.e"}),
    ({}, {"another_place": "no_matter"}),
]


def graph(seed: int, size: int, world: Any) -> list[Any]:
    """A random graph of objects of those classes, in which names of classes and modules are data as well."""
    choose = random.Random(seed)
    texts = [OLD, "Plain", "Inner", "Plain.Inner", "Plain.Inner.Deep", "Colour", "work", f"{OLD}:Plain", "text", ""]
    texts += [world.Plain.__module__, world.Plain.__qualname__, world.Plain.Inner.__qualname__, "Пример" * 50]
    values = [1, -1, 2**40, 0.5, None, True, b"bytes", OLD.encode(), *texts]
    things = [world.Plain, world.Plain.Inner, world.Plain.Inner.Deep, world.Plain.Other, world.Slotted, world.work,
              world.Colour, world.Colour.RED, world.Colour.BLUE, world.Stack.Tone.DARK, world.Plain.Inner.call, len,
              partial, set]  # fmt: skip
    made: list[Any] = [choose.choice(values)]

    def some() -> Any:
        kind = choose.random()
        return choose.choice(made) if kind < 0.5 else choose.choice(things if kind < 0.7 else values)

    for _ in range(size):
        made.append(_make(choose.randrange(16), some, world, choose))
    return made[-10:]


def _make(kind: int, some: Any, world: Any, choose: random.Random) -> Any:
    few = range(choose.randrange(4))
    makers: list[Callable[[], Any]] = [
        lambda: [some() for _ in few],
        lambda: tuple(some() for _ in few),
        lambda: {choose.choice((OLD, "Plain", 1)): some() for _ in few},
        lambda: {choose.choice((OLD, "Plain", 1)) for _ in few},
        lambda: partial(world.work, some(), Plain=1),
        lambda: world.Pair(some(), some()),
        lambda: world.Keyed(value=some()),
        lambda: world.Raised(OLD, 1),
        lambda: world.Holder(OLD.encode() * choose.randrange(30)),
        lambda: world.Data(some()),
        lambda: world.Stack([some() for _ in few]),
        lambda: _with(world.Slotted(), left=some()),
        lambda: "Inner" + "x" * choose.choice((0, 1, 300)),
    ]
    if kind < len(makers):
        return makers[kind]()
    cls = choose.choice((world.Plain, world.Plain.Inner, world.Plain.Inner.Deep, world.Plain.Other))
    return _with(cls(), **{choose.choice((OLD, "Plain", "Inner", "x")): some() for _ in few})


def _with(obj: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(obj, name, value)
    return obj


@given(
    st.integers(0, 2**32), st.integers(1, 40), st.sampled_from(PROTOCOLS), st.sampled_from(range(len(RULES))),
    st.sampled_from(("pickled", "optimized", "in Python", "unframed")),
)  # fmt: skip
@example(0, 40, 2, 7, "pickled")
@example(0, 40, 4, 0, "optimized")
def test_the_result_loads_to_the_same_with_other_names(seed, size, protocol, rule, how):
    renames = Renames(*RULES[rule])
    old = before()
    buffers: list[pickle.PickleBuffer] = []
    with installed(old):
        data = pickled(graph(seed, size, old[OLD]), protocol, how, buffers)
        expected = described(pickle.loads(data, buffers=buffers), renames)
    result = rewritten(data, renames)
    with installed(after(renames)):
        assert described(pickle.loads(result.data, buffers=buffers)) == expected
        assert described(pickle._loads(result.data, buffers=buffers)) == expected  # type: ignore[attr-defined]
    pickletools.dis(result.data, out=io.StringIO())  # it is whole, and its memo is used as it must be
    assert rewritten(result.data, renames) == (result.data, {}, ())  # once more changes nothing more


def pickled(value: Any, protocol: int, how: str, buffers: list[pickle.PickleBuffer]) -> bytes:
    callback = buffers.append if protocol >= 5 else None
    if how == "in Python":
        return pickle._dumps(value, protocol, buffer_callback=callback)  # type: ignore[attr-defined]
    data = pickle.dumps(value, protocol, buffer_callback=callback)
    if how == "optimized":
        return pickletools.optimize(data)
    return without_frames(data) if how == "unframed" else data


def without_frames(data: bytes) -> bytes:
    """The same pickle, as picklers below protocol 4 would write it in one stream."""
    cuts = [position for opcode, _, position in pickletools.genops(data) if opcode.name == "FRAME"]
    for position in reversed(cuts):
        data = data[:position] + data[position + 9 :]
    return data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_plain_move_gives_the_very_bytes_that_pickle_gives(protocol):
    renames = Renames({}, {OLD: "somewhere.new"})
    results = []
    for world in (before(), after(renames)):
        module = world.get(OLD) or world["somewhere.new"]
        with installed(world):
            value = [module.Plain(), module.Plain.Inner(), module.Colour.RED, module.work, [module.Data(1)] * 2]
            results.append(pickle.dumps(value, protocol))
    result = rewritten(results[0], renames)
    assert result.data == results[1]
    assert result.changed[f"{OLD}:Plain", "somewhere.new:Plain"] >= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_text_that_is_data_as_well_stays(protocol):
    old = before()
    with installed(old):
        cls = old[OLD].Plain
        data = pickle.dumps({"table": cls.__qualname__, "of": cls.__module__, "cls": cls, "again": cls()}, protocol)
    with installed(after(renames := Renames({f"{OLD}:Plain": "shop:Basket"}))):
        found = pickle.loads(rewritten(data, renames).data)
    assert (found["table"], found["of"]) == ("Plain", OLD)
    assert (found["cls"].__module__, found["cls"].__qualname__) == ("shop", "Basket")
    assert type(found["again"]) is found["cls"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_several_pickles_in_a_row(protocol):
    renames = Renames({}, {OLD: "new_place"})
    old = before()
    with installed(old):
        module = old[OLD]
        apart = b"".join(pickle.dumps(value, protocol) for value in (module.Plain(), OLD, [module.work]))
        together = io.BytesIO()
        pickler = pickle.Pickler(together, protocol)
        for value in (module.Plain, [module.Plain, module.work], OLD):
            pickler.dump(value)
    for data in (apart, together.getvalue()):
        with installed(old):
            expected = [described(each, renames) for each in loaded(data, together=data is not apart)]
        result = rewritten(data, renames).data
        with installed(after(renames)):
            assert [described(each) for each in loaded(result, together=data is not apart)] == expected


def loaded(data: bytes, *, together: bool) -> list[Any]:
    file = io.BytesIO(data)
    unpickler = pickle.Unpickler(file)
    return [(unpickler.load() if together else pickle.load(file)) for _ in range(3)]


def test_large_frames_and_texts_between_them():
    old = before()
    with installed(old):
        value = [[old[OLD].Plain(), "x" * 100_000, old[OLD].work, list(range(50_000)), old[OLD].Data(b"y" * 90_000)]]
        data = pickle.dumps(value, 5)
    renames = Renames({}, {OLD: "n"})
    with installed(old):
        expected = described(pickle.loads(data), renames)
    result = rewritten(data, renames).data
    with installed(after(renames)):
        assert described(pickle._loads(result)) == expected  # type: ignore[attr-defined] # the stricter one
        assert described(pickle.load(io.BytesIO(result))) == expected


# -- Python 2's names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_names_of_python_2_are_met_in_either_spelling(protocol):
    import collections

    data = pickle.dumps([collections.UserDict, set], protocol)
    assert b"UserDict\n" in data
    for old in ("collections:UserDict", "UserDict:IterableUserDict"):
        assert pickle.loads(rewritten(data, Renames({old: "collections:Counter"})).data) == [collections.Counter, set]
    back = rewritten(pickle.dumps([collections.Counter], protocol), Renames({"collections:Counter": "copyreg:pickle"}))
    assert b"copy_reg\npickle\n" in back.data
    import copyreg

    assert pickle.loads(back.data) == [copyreg.pickle]


def test_a_name_that_python_2_called_otherwise_is_not_written():
    data = b"\x80\x02cshop\nJob\n."
    with pytest.raises(CannotRename, match="it would mean something else in protocol 2") as caught:
        rewritten(data, Renames({"shop:Job": "Queue:Job"}))
    assert (caught.value.position, caught.value.opcode) == (2, "GLOBAL")
    assert rewritten(b"\x80\x03" + data[2:], Renames({"shop:Job": "Queue:Job"})).data == b"\x80\x03cQueue\nJob\n."


def test_instances_of_protocol_0():
    data = b"(i__main__\nOld\np0\n(dp1\nb."
    assert rewritten(data, Renames({"__main__:Old": "shop.models:New"})).data == b"(ishop.models\nNew\np0\n(dp1\nb."
    with pytest.raises(CannotRename, match=r"INST at position 1 cannot name shop:A\.New, which is nested"):
        rewritten(data, Renames({"__main__:Old": "shop:A.New"}))


# -- texts that are names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("is_data", [False, True])
@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (named, "shop:Cart", "store:Basket"),
        (named, "shop:Cart.Line", "store:Basket.Line"),
        (find, "shop.deep:work", "store.rest.deep:work"),
        (importlib.import_module, "shop.deep", "store.rest.deep"),
        (pkgutil.resolve_name, "shop:Cart", "store:Basket"),
    ],
)
def test_names_that_functions_are_called_with(protocol, is_data, function, old, new):
    renames = Renames({"shop:Cart": "store:Basket"}, {"shop": "store.rest"})
    data = pickle.dumps((Call(function, old), old) if is_data else (Call(function, old),), protocol)
    result = rewritten(data, renames)
    names = [arg for opcode, arg, _ in pickletools.genops(result.data) if "UNICODE" in opcode.name and "shop" in arg]
    assert names == ([old] if is_data else [])
    assert new.encode() in result.data
    assert result.changed == {(old, new): 1}


class Call:
    """Is pickled as a call that need not succeed."""

    def __init__(self, function: Any, *args: Any):
        self.called = function, args

    def __reduce__(self):
        return self.called


# -- what is uncertain -------------------------------------------------------------------------------------------

SHOP = Renames({"shop:Cart": "shop:Basket"}, {"lib": "library"})
UNCERTAIN = {
    "a computed name": (
        b"\x80\x04\x8c\x04shop\x8c\x08builtins\x8c\x03str\x93)R\x93.", "STACK_GLOBAL", "does not stand"
    ),
    "a name in Python 2's str": (b"\x80\x04U\x04shopU\x04Cart\x93.", "STACK_GLOBAL", "does not stand"),
    "a persistent name": (b"\x80\x04\x8c\x04shopPname\n\x93.", "STACK_GLOBAL", "does not stand"),
    "an extension code": (b"\x80\x02\x82\x01.", "EXT1", "extension code"),
    "an extension code of two": (b"\x80\x02\x83\x01\x00.", "EXT2", "extension code"),
    "an extension code of four": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4", "extension code"),
    "a name for import": (b"\x80\x02cimportlib\nimport_module\nc__builtin__\nstr\n)R\x85R.", "REDUCE", "made up"),
    "relative import": (
        b"\x80\x02cimportlib\nimport_module\nX\x03\x00\x00\x00libX\x01\x00\x00\x00a\x86R.", "REDUCE", "and more"
    ),
    "taken from an imported module": (
        b"\x80\x02c__builtin__\ngetattr\ncimportlib\nimport_module\nVshop\n\x85RVCart\n\x86R.",
        "REDUCE", "by a call",
    ),
    "a pickle in bytes": (pickle.dumps(b"head\x80\x02cshop\nCart\n."), "SHORT_BINBYTES", "another pickle"),
    "a pickle in a bytearray": (pickle.dumps(bytearray(b"cshop\nCart\n."), 5), "BYTEARRAY8", "another pickle"),
    "a pickle in a pickle in bytes": (
        pickle.dumps(pickle.dumps([b"cshop\nCart\n."]), 3), "SHORT_BINBYTES", "another pickle"
    ),
    "a pickle in bytes, the second of two": (pickle.dumps(b"N.cshop\nCart\n."), "SHORT_BINBYTES", "another pickle"),
    "a pickle in Python 2's bytes": (b"U\x0ccshop\nCart\n.\x85.", "SHORT_BINSTRING", "another pickle"),
    "a pickle in bytes as text": (
        pickle.dumps(b"\xff\xfe\x80\x02cshop\nCart\n.", 2), "BINUNICODE", "another pickle"
    ),
    "a pickle in bytes of protocol 0": (pickle.dumps(b"cshop\nCart\n.", 0), "UNICODE", "another pickle"),
    "a later one in bytes of protocol 0": (pickle.dumps(b"\x80\x02cshop\nCart\n.", 0), "UNICODE", "another pickle"),
    "a name of ten bytes in bytes of protocol 0": (
        pickle.dumps(b"\x80\x04\x8c\x0alib.models\x8c\x04Cart\x93.", 0), "UNICODE", "another pickle"
    ),
    "a pickle in a text of protocol 0": (pickle.dumps("cshop\nCart\n.", 0), "UNICODE", "another pickle"),
    "a pickle in that, in bytes": (
        pickle.dumps(pickle.dumps("cshop\nCart\n.", 0)), "SHORT_BINBYTES", "another pickle"
    ),
    "a pickle in a line of Python 2": (b"S'cshop\\nCart\\n.'\n.", "STRING", "another pickle"),
    "a later one in a line of Python 2": (b"(lS\"\\x80\\x02cshop\\nCart\\n.\"\na.", "STRING", "another pickle"),
    "an uncertain pickle in bytes": (
        pickle.dumps(b"\x80\x02cshop\nOther\n\x82\x01."), "SHORT_BINBYTES", "another pickle"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNCERTAIN)
def test_what_is_uncertain_is_refused(what):
    data, opcode, reason = UNCERTAIN[what]
    with pytest.raises(CannotRename, match=reason) as caught:
        rewritten(data, SHOP)
    assert caught.value.opcode == opcode
    assert pickletools.code2op[chr(data[caught.value.position])].name == opcode


def test_what_merely_looks_alike_is_left_alone():
    texts = [
        "shop",
        "Cart",
        "shop:Cart",
        "cshop\nCart\n",
        b"shop.Cart",
        b"cshop\nCart\n",
        zlib.compress(b"cshop\nCart\n."),
    ]
    for protocol in PROTOCOLS:
        data = pickle.dumps([*texts, {"shop": "Cart"}, bytearray(b"shop")], protocol)
        assert rewritten(data, SHOP).data == data
    data = b"\x80\x02c__builtin__\ngetattr\ncshop\nCart\nc__builtin__\nstr\n)R\x86R."
    assert b"cshop\nBasket\n" in rewritten(data, SHOP).data
    below = Renames({"shop:Cart.Line": "shop:Row"})
    with pytest.raises(CannotRename, match="whose name is made up"):
        rewritten(data, below)


def test_a_text_for_each_look_up_where_one_was_shared():
    """Two classes of one module, of which one moves: the text of the module stays for the other."""
    data = b"\x80\x04\x8c\x04shop\x94\x8c\x04Cart\x93h\x00\x8c\x04Item\x93\x86."
    moved = rewritten(data, Renames({"shop:Cart": "store:Cart"})).data
    assert moved == b"\x80\x04\x8c\x04shop\x94\x8c\x04Cart00\x8c\x05store\x8c\x04Cart\x93h\x00\x8c\x04Item\x93\x86."


def test_operands_are_found_by_what_is_on_the_stack():
    """Looking backwards would meet other texts, or none."""
    for data in (
        b"\x80\x04\x8c\x04shop\x8c\x04Cart\x8c\x05other0\x93.",
        b"\x80\x04\x8c\x04Cartq\x000\x8c\x04shoph\x00\x93.",
        b"\x80\x04\x8c\x04shop\x8c\x04Cart(\x8c\x05other\x8c\x05names1\x93.",
        b"\x80\x04(\x8c\x04shop2\x8c\x04Cart\x93\x86.",
    ):
        result = rewritten(data, Renames({"shop:Cart": "shop:Basket"})).data
        assert b"Basket" in result
        assert result.replace(b"\x06Basket", b"\x04Cart").replace(b"\x00\x00", b"\x00\x00") == data


# -- what is no pickle -------------------------------------------------------------------------------------------

FRAME_OF = {size: b"\x80\x04\x95" + bytes([size]) + bytes(7) for size in (1, 2, 4, 16)}
BROKEN = [
    b"", b".", b"N", b"\xff", b"N.N", b"N.\x00", b"cshop\nCart", b"\x80", b"\x80\x09N.", b"h\x00.", b"gx\n.", b"0.",
    b"\x8c\xffshort.", b"X\xff\xff\xff\xff.", b"T\xff\xff\xff\xff.", b"\x93.", b"NN\x93.", b"]N\x93.", b"R.", b"(.",
    b"t.", b"e.", b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", FRAME_OF[1] + b"K\x01.", FRAME_OF[4] + b"C\x05abcde.",
    FRAME_OF[16] + FRAME_OF[2][2:] + b"N.", FRAME_OF[16] + b"N.N.", b"Nr\xff\xff\xff\xff.", b"Np99999999999\n.",
    b"c\xff\n\xff\n.", b"(o.", b"\x86.", b"\x81.", b"b.", b"N\x94h\x05.", b"\x98.", b"Q.", b"2.", b"1.",
    b"\x80\x04N.junk", b"N.\n",
]  # fmt: skip


@pytest.mark.parametrize("data", BROKEN)
def test_what_is_no_pickle_is_corrupt(data):
    with pytest.raises(CorruptRecord) as caught:
        rewritten(data, SHOP)
    assert isinstance(caught.value.position, int)


@given(st.binary(max_size=60) | st.lists(st.sampled_from(sorted(
    [bytes([code]) for code in range(256)] + [b"cshop\nCart\n", b"\x8c\x04shop", b"\x8c\x04Cart", b"h\x00", b"q\x00",
     b"\x80\x04", b"\x80\x02", b"ilib\nX\n", b"c__builtin__\ngetattr\n", b"X\x04\x00\x00\x00shop", b"Vshop\n",
     b"cperdure\n_named\n", b"\x8c\x09shop:Cart", b"S'shop'\n", b"\x86", b"\x85R", b"R", b"\x93", b"."]
)), max_size=25).map(b"".join))  # fmt: skip
def test_hostile_bytes_give_a_named_error_or_a_pickle(data):
    try:
        result = rewritten(data + b".", SHOP)
    except (CannotRename, CorruptRecord):
        return
    assert rewritten(result.data, SHOP).data == result.data


@given(st.integers(0, 2**32), st.sampled_from(PROTOCOLS), st.data())
def test_damaged_pickles_give_a_named_error_or_a_pickle(seed, protocol, more):
    old = before()
    with installed(old):
        data = bytearray(pickle.dumps(graph(seed, 12, old[OLD]), protocol))
    for place in more.draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        data[place] = more.draw(st.integers(0, 255))
    renames = Renames(*RULES[9])
    try:
        result = rewritten(bytes(data), renames)
    except (CannotRename, CorruptRecord):
        return
    assert rewritten(result.data, renames).data == result.data  # whole, and nothing of the old names is left


@pytest.mark.parametrize(
    "build", [b"(" * 200_000 + b"t" * 200_000, b")" + b"\x85" * 200_000, b"]" + b"\x94]h\x00a" * 50_000]
)
def test_depth_is_no_matter(build):
    data = b"\x80\x04" + build + b"cshop\nCart\n\x86."
    assert rewritten(data, SHOP).data == data.replace(b"Cart", b"Basket")


# -- rules -------------------------------------------------------------------------------------------------------


def test_rules_follow_one_another_and_the_most_specific_one_counts():
    renames = Renames({"a:A": "b:B", "b:B": "c:C", "a:A.In": "x:In"}, {"a": "z", "c": "d", "a.sub": "s"})
    assert renames.of("a", "A") == ("d", "C")
    assert renames.of("a", "A.Other") == ("d", "C.Other")
    assert renames.of("a", "A.In.Deep") == ("x", "In.Deep")
    assert renames.of("a", "AB") == ("z", "AB")
    assert renames.of("a.sub.more", "AB") == ("s.more", "AB")
    assert renames.of("ab", "A") == ("ab", "A")
    assert renames.of_text("a.sub:work") == "s:work"
    assert renames.of_text("no name") == "no name"
    assert renames.of_module("a.sub") == "s"


@pytest.mark.parametrize(
    ("renames", "moves", "message"),
    [
        ({"a:A": "b:B", "b:B": "a:A"}, {}, "circle: a:A → b:B → a:A"),
        ({}, {"a": "b.c", "b": "a"}, "circle"),
        ({"a:A": "b:A"}, {"b": "a"}, "circle"),
        ({"a:A": "a:A"}, {}, "which it is"),
        ({}, {"a": "a"}, "which it is"),
        ({"shop.Cart": "shop:Cart"}, {}, "no name of a class"),
        ({"shop:Cart": "shop:"}, {}, "no name of a class"),
        ({"shop:Cart": "shop:Cart\nx"}, {}, "no name of a class"),
        ({"shop:Cart": "shop:Cart x"}, {}, "no name of a class"),
        ({"shop:Cart": "a..b:Cart"}, {}, "no name of a class"),
        ({}, {"shop:Cart": "x"}, "no name of a module"),
        ({"perdure:Job": "shop:Job"}, {}, "perdure's own"),
        ({}, {"shop": "perdure.shop"}, "perdure's own"),
    ],
)
def test_bad_rules_are_refused(renames, moves, message):
    with pytest.raises(InvalidRename, match=message):
        Renames(renames, moves)


def test_where_one_memo_or_several_makes_a_difference_it_is_refused():
    first = b"\x80\x04\x8c\x04shop\x94\x8c\x04Cart\x94\x93."
    second = b"\x80\x04\x8c\x01x\x94\x8c\x01y\x94h\x00."  # the x, or the name in the first pickle
    renames = Renames({}, {"shop": "store"})
    with pytest.raises(CannotRename, match="with one memo or with several"):
        rewritten(first + second, renames)
    assert (
        rewritten(first + second, renames, keeps_memo=False).data == first.replace(b"\x04shop", b"\x05store") + second
    )
    kept = rewritten(first + second, renames, keeps_memo=True).data
    assert (kept.count(b"shop"), kept.count(b"store")) == (1, 1)  # data of the second pickle
    assert rewritten(second + second, renames).data == second + second


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_text_deep_in_tuples_is_data(protocol):
    old = before()
    with installed(old):
        text, cls = old[OLD].Plain.__qualname__, old[OLD].Plain
        data = pickle.dumps([cls, (((text,), 1), 2), ((cls.Inner, ((cls.Inner.Deep,),)),)], protocol)
    renames = Renames({f"{OLD}:Plain": "shop:Basket", f"{OLD}:Plain.Inner.Deep": "shop:Deep"})
    with installed(after(renames)):
        found = pickle.loads(rewritten(data, renames).data)
        assert found[1] == ((("Plain",), 1), 2)
        assert found[2][0][0].__qualname__ == "Basket.Inner"
        assert found[2][0][1][0][0].__module__ == "shop"
