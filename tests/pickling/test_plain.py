"""Plain values are read from any pickle; nothing else is built, imported, called or waited for."""

from __future__ import annotations

import builtins
import codecs
import copyreg
import io
import pickle
import struct
import sys
import time
from typing import Any

import pytest
from graphs import Node, graph, shape
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import CannotLoad, CorruptRecord, UntrustedRecord
from perdure.pickling import plain
from perdure.pickling.plain import load_plain, load_plain_from

REFUSALS = (CorruptRecord, UntrustedRecord, CannotLoad)
WITHOUT_SLOTS = 10
PLAIN_KINDS = 8  # of graphs.graph: the first ones make plain containers


@given(seed=st.integers(0, 10**9), protocol=st.integers(0, 5))
def test_plain_graphs_of_every_protocol(seed, protocol):
    data = pickle.dumps(graph(seed, kinds=PLAIN_KINDS), protocol)
    if b"Ellipsis" in data:
        with pytest.raises(UntrustedRecord, match="Ellipsis"):
            load_plain(data)
    else:
        assert shape(load_plain(data)) == shape(pickle.loads(data))


VALUES = [
    None, True, 12, -(10**50), 1.5, 2j, "text", "Пример\n\\", b"", b"\x00\xff", bytearray(), bytearray(b"\x00\xff"), (),
    (1,), (1, 2, 3, 4), [], [1], {}, {"a": 1}, set(), {1, 2}, frozenset(), frozenset({1, (2, 3)}), list(range(3000)),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("implementation", [pickle._dumps, pickle.dumps])
def test_each_kind_of_value(protocol, implementation):
    loaded = load_plain(implementation(VALUES, protocol))
    assert loaded == VALUES
    assert [type(item) for item in loaded] == [type(item) for item in VALUES]


def test_buffers_come_from_the_caller():
    outside: list[Any] = []
    data = pickle.dumps(
        [pickle.PickleBuffer(b"a"), pickle.PickleBuffer(bytearray(b"b"))], 5, buffer_callback=outside.append
    )
    assert [bytes(part) for part in load_plain(data, buffers=outside)] == [b"a", b"b"]
    with pytest.raises(CannotLoad, match="buffers"):
        load_plain(data)


def test_several_in_one_file():
    file = io.BytesIO(b"".join(pickle.dumps(n, n) for n in range(6)) + b"rest")
    assert [load_plain_from(file) for _ in range(6)] == list(range(6))
    assert file.read() == b"rest"


class Trap:
    """Shows whether anything of it was run."""

    sprung = False

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


REFUSED = {
    "an instance": pickle.dumps(Trap()),
    "an instance, protocol 2": pickle.dumps(Node(a=1), 2),
    "an instance, protocol 0": pickle.dumps(Node(a=1), 0),
    "a class": pickle.dumps(Node),
    "a function": pickle.dumps(len),
    "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "old eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "a builtin under another alias": b"c__builtins__\nset\n)R.",
    "io.open": b"cio\nopen\n(S'x'\ntR.",
    "a dotted name": b"\x80\x04" + stack_global("builtins", "set.__init__") + b".",
    "a dotted module": b"\x80\x04" + stack_global("os.path", "join") + b".",
    "an attribute of an attribute": b"cbuiltins\nset.mro\n.",
    "a name in two lines": b"\x80\x04" + short("builtins\nset") + short("") + b"\x93.",
    "a name from a number": b"\x80\x04K\x01" + short("set") + b"\x93.",
    "a name that is bytes": b"\x80\x04C\x08builtins" + short("set") + b"\x93.",
    "a name that is a str of Python 2": b"\x80\x04U\x08builtins" + short("set") + b"\x93.",
    "a constructor as the result": b"cbuiltins\nset\n.",
    "a constructor in a list": b"(cbuiltins\nset\nl.",
    "a constructor as a key": b"}cbuiltins\nset\nNs.",
    "a constructor as an argument": b"cbuiltins\nset\n(cbuiltins\nset\ntR.",
    "a constructor with a state": b"cbuiltins\nset\n}b.",
    "a constructor with slots": b"cbuiltins\nset\n(N}S'_build'\nNstb.",
    "a value that is called": b"S'a'\n)R.",
    "a list that is called": b"]]R.",
    "a constructor with a list of arguments": b"cbuiltins\nset\n]R.",
    "a value with a state": b"]}b.",
    "BUILD of a constructor that was kept": b"cbuiltins\nset\nq\x000h\x00}b.",
    "NEWOBJ": b"\x80\x02cbuiltins\nset\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04cbuiltins\nset\n)}\x92.",
    "OBJ": b"(cbuiltins\nset\no.",
    "INST": b"(ibuiltins\nset\n.",
    "PERSID": b"Pkey\n.",
    "BINPERSID": b"K\x01Q.",
    "EXT2": b"\x80\x02\x83\x01\x01.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "items for a set by APPENDS": b"cbuiltins\nset\n)R(K\x01e.",
    "members for what is no set": b"]](K\x01\x90.",
    "items for a number": b"K\x01K\x01K\x01s.",
    "a bytearray that is extended": b"\x80\x05\x96" + struct.pack("<Q", 1) + b"a(K\x01e.",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    codecs.lookup("ascii")  # Python imports a codec when it is first used, which is not the pickle's doing
    before = set(sys.modules)
    with pytest.raises(UntrustedRecord) as caught:
        load_plain(REFUSED[name])
    assert caught.value.position < len(REFUSED[name])
    assert caught.value.opcode
    assert "position" in str(caught.value)
    assert not Trap.sprung
    assert set(sys.modules) == before


def test_the_error_names_position_opcode_and_reason():
    with pytest.raises(UntrustedRecord, match=r"GLOBAL at position 2 names os.system") as caught:
        load_plain(b"K\x010cos\nsystem\n(S'true'\ntR."[1:].replace(b"\x010", b"N0", 1))
    assert (caught.value.position, caught.value.opcode) == (2, "GLOBAL")


def test_nothing_is_imported():
    module = "perdure_test_module_that_is_not_there"
    with pytest.raises(UntrustedRecord):
        load_plain(f"c{module}\nname\n.".encode())
    with pytest.raises(UntrustedRecord):
        load_plain(b"cthis\ns\n.")
    assert "this" not in sys.modules


def test_extension_codes_with_a_warm_cache():
    copyreg.add_extension(Trap.__module__, "spring", 240)
    try:
        data = pickle.dumps(spring, 2)
        assert pickle.loads(data) is spring  # now the code is in the cache, and find_class is not asked any more
        called = data[:-1] + b")R."
        for hostile in (data, called):
            with pytest.raises(UntrustedRecord, match="EXT1"):
                load_plain(hostile)
        assert not Trap.sprung
    finally:
        copyreg.remove_extension(Trap.__module__, "spring", 240)
        copyreg.clear_extension_cache()


CORRUPT = {
    "nothing": b"",
    "no opcode": b"\xff",
    "no end": b"]",
    "an empty stack": b".",
    "two values": b"NN.",
    "a mark at the end": b"(N.",
    "no mark": b"Nt.",
    "trailing bytes": b"N.N",
    "an unknown protocol": b"\x80\x06N.",
    "a text that is cut off": b"X\x05\x00\x00\x00abc",
    "a text longer than memory": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "bytes longer than memory": b"\x8e" + b"\xff" * 8 + b".",
    "a negative length": b"T\xff\xff\xff\xff.",
    "a long with a negative length": b"\x8b\xff\xff\xff\xff.",
    "a frame longer than the pickle": b"\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.",
    "a frame longer than memory": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
    "GET of nothing": b"h\x05.",
    "GET before PUT": b"h\x00Nq\x00.",
    "GET of a text": b"gabc\n.",
    "PUT of nothing": b"q\x00.",
    "PUT across a mark": b"N(q\x00t.",
    "PUT with a sign": b"Np-1\n.",
    "PUT with an underscore": b"Np1_0\n.",
    "PUT with too many digits": b"Np" + b"9" * 50 + b"\n.",
    "a memo index of four gigabytes": b"Nr\xff\xff\xff\xff.",
    "POP of nothing": b"0.",
    "DUP of nothing": b"2.",
    "a key without a value": b"(Nd.",
    "an odd number for SETITEMS": b"}(Nu.",
    "a list as a key": b"}]Ns.",
    "a set of a list": b"\x80\x04\x8f(]\x90.",
    "a line without end": b"I12",
    "a number that is none": b"Iabc\n.",
    "a number of 100,000 digits": b"L" + b"9" * 100_000 + b"L\n.",
    "a float that is none": b"Fabc\n.",
    "a str without quotes": b"Sabc\n.",
    "a text that is no UTF-8, with surrogates": b"X\x01\x00\x00\x00",
    "a read-only number": b"\x80\x05K\x01\x98.",
    "a bytearray of a number": b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    "bytes of a number": b"cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR.",
    "a complex number of a text": b"cbuiltins\ncomplex\n(S'1'\nS'2'\ntR.",
    "a set of a text": b"cbuiltins\nset\n(S'abc'\ntR.",
    "bytes in another encoding": b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
    "bytes beyond Latin-1": b"c_codecs\nencode\n(V\\u20ac\nS'latin1'\ntR.",
}


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt(name):
    with pytest.raises(CorruptRecord):
        load_plain(CORRUPT[name])


@pytest.mark.parametrize("protocol", range(6))
def test_cut_off_anywhere(protocol):
    data = pickle.dumps([1, "text", {"a": (1, 2.5)}, {3}, b"bytes", 10**30], protocol)
    for length in range(len(data)):
        with pytest.raises(CorruptRecord):
            load_plain(data[:length])


@given(data=st.binary(max_size=200))
def test_garbage(data):
    try:
        value = load_plain(data)
    except REFUSALS:
        return
    assert type(value).__module__ == "builtins"


OPCODES = [bytes([code]) for code in range(256) if bytes([code]) in plain.scan.__globals__["_ACTIONS"]]
PIECES = st.one_of(
    st.sampled_from(OPCODES),
    st.sampled_from([b"]", b"}", b")", b"(", b"\x8f", b"K\x01", b"\x94", b"h\x00", b"q\x00", b"N", short("builtins")]),
    st.sampled_from([b"cbuiltins\nset\n", b"cbuiltins\nbytearray\n", b"c_codecs\nencode\n", short("set"), b"S'a'\n"]),
)


@given(pieces=st.lists(PIECES, max_size=25))
def test_garbage_made_of_opcodes(pieces):
    try:
        value = load_plain(b"".join(pieces) + b".")
    except REFUSALS:
        return
    assert type(value).__module__ == "builtins"


@given(seed=st.integers(0, 10**9), protocol=st.integers(0, 5), place=st.floats(0, 0.999), byte=st.integers(0, 255))
def test_one_byte_changed(seed, protocol, place, byte):
    data = bytearray(pickle.dumps(graph(seed, 10, kinds=WITHOUT_SLOTS), protocol))
    data[int(place * len(data))] = byte
    try:
        value = load_plain(bytes(data))
    except REFUSALS:
        return
    assert type(value).__module__ == "builtins"


def test_nested_deeply():
    depth = 100_000
    for opener, closer in ((b"]", b"a"), (b"(", b"l"), (b"", b"\x85")):
        value = load_plain(opener * depth + b"N" + closer * depth + b".")
        for _ in range(depth):
            (value,) = value
        assert value is None


def test_a_key_nested_deeply_is_refused():
    deep = b"N" + b"\x85" * 100_000  # hashing it would overflow the stack of the interpreter
    for data in (
        b"}" + deep + b"Ns.",
        b"(" + deep + b"Nd.",
        b"\x80\x04\x8f(" + deep + b"\x90.",
        b"(" + deep + b"\x91.",
    ):
        with pytest.raises(UntrustedRecord, match="nested too deeply"):
            load_plain(data)
    with pytest.raises(CorruptRecord, match="nested too deeply"):
        load_plain(b"cbuiltins\nset\n(](" + deep + b"etR.")


def test_a_key_that_takes_for_ever_to_hash_is_refused():
    bomb = b"N\x85" + b"2\x86" * 60  # a pair of the same pair of the same pair: 2**60 steps to hash
    before = time.monotonic()
    for data in (
        b"}" + bomb + b"Ns.",
        b"\x80\x04\x8f(" + bomb + b"\x90.",
        b"cbuiltins\nfrozenset\n(](" + bomb + b"etR.",
    ):
        with pytest.raises((UntrustedRecord, CorruptRecord), match="nested too deeply"):
            load_plain(data)
    pair = load_plain(bomb + b".")
    assert pair[0] is pair[1]
    assert time.monotonic() - before < 5


def test_constructors_are_not_changed_by_what_is_read():
    assert load_plain(pickle.dumps([{1}, 1j], 2)) == [{1}, 1j]
    assert builtins.set is set


def test_the_builder_itself_refuses_what_the_scan_would_have_found():
    builder = plain._Builder(io.BytesIO(b"cos\nsystem\n."))
    with pytest.raises(UntrustedRecord, match=r"os\.system"):
        builder.load()
    builder = plain._Builder(io.BytesIO(b"Pkey\n."))
    with pytest.raises(UntrustedRecord, match="persistent"):
        builder.load()
    builder = plain._Builder(io.BytesIO(b"cbuiltins\nset\n}S'x'\nK\x01sb."))
    with pytest.raises(AttributeError):
        builder.load()


def test_an_encoding_that_does_not_exist_is_the_callers_mistake():
    with pytest.raises(LookupError, match="no-such"):
        load_plain(b"N.", encoding="no-such")


def test_texts_of_python_2_that_are_not_ascii():
    data = b"U\x02\xc3\xa9."
    assert load_plain(data, encoding="utf-8") == "é"
    assert load_plain(data, encoding="bytes") == b"\xc3\xa9"
    assert load_plain(data, errors="replace") == "\ufffd\ufffd"
    with pytest.raises(CannotLoad, match="encoding="):
        load_plain(data)
