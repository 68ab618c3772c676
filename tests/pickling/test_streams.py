"""Frames without a store: sealed, following one another, read with trust or not at all."""

from __future__ import annotations

import datetime
import importlib.util
import io
import pickle
import struct
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest
from graphs import Node, graph, shape
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import (
    CannotLoad,
    CannotPickle,
    ClassNotFound,
    CorruptRecord,
    NewerFormat,
    TransactionError,
    UntrustedRecord,
)
from perdure.keys import KeyRing
from perdure.pickling import streams
from perdure.pickling.streams import Pickler, Unpickler, compatible_formats, dump, dumps, format_version, load, loads
from perdure.records.frame import NEWEST_FORMAT, decode, parse_unverified
from perdure.records.seal import TAG_SIZE, Key

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))
DATA = Path(__file__).resolve().parent.parent / "data"
DEPTH = 100_000


def lists(depth: int = DEPTH, end: Any = None) -> Any:
    value: Any = [end]
    for _ in range(depth):
        value = [value]
    return value


def depth_of(value: list[Any]) -> int:
    depth = 0
    while value != [None] and isinstance(value[0], list):
        value = value[0]
        depth += 1
    return depth


@given(seed=st.integers(0, 10**9))
def test_random_graphs(seed):
    value = graph(seed)
    assert shape(loads(dumps(value, key=KEY), key=KEY)) == shape(value)


def test_the_users_own_key_is_used_and_made_once():
    assert KeyRing().names() == []
    assert loads(dumps([1], key=KEY)) == [1]  # a plain value needs no seal
    with pytest.raises(UntrustedRecord):
        loads(dumps(Node(a=1), key=KEY))
    assert KeyRing().names() == []  # reading makes no key
    data = dumps([1])
    assert loads(data) == [1]
    assert KeyRing().names() == [KeyRing().personal().name]


def test_the_frame_says_what_is_in_it():
    record = decode(dumps(Node(a=1), key=KEY), KEY)
    assert (record.id, record.revision, record.class_name) == ("", 0, "graphs:Node")
    assert pickle.loads(record.payload).a == 1


def test_without_a_good_seal_nothing_is_built():
    data = dumps(Node(a=1), key=OTHER)
    for read in (lambda: loads(data, key=KEY), lambda: load(io.BytesIO(data), key=KEY)):
        with pytest.raises(UntrustedRecord):
            read()
    with pytest.raises(UntrustedRecord):
        Unpickler(io.BytesIO(data), key=KEY).load()
    assert loads(data, key=KEY, trust="all").a == 1
    assert load(io.BytesIO(data), key=KEY, trust="all").a == 1
    assert Unpickler(io.BytesIO(data), key=KEY, trust="all").load().a == 1


def test_trust_is_spelled_out():
    for trust in ("some", "ALL", True, ""):
        with pytest.raises(ValueError, match="trust"):
            loads(b"N.", trust=trust)


AUDITED: list[tuple[Any, ...]] = []


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "perdure.trust_all":
        AUDITED.append(arguments)


def test_trust_is_audited():
    sys.addaudithook(hear)
    AUDITED.clear()
    loads(b"N.")
    assert AUDITED == []
    loads(b"N.", trust="all")
    load(io.BytesIO(b"N."), trust="all")
    Unpickler(io.BytesIO(b"N."), trust="all")
    assert AUDITED == [("loads",), ("load",), ("Unpickler",)]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_and_others(protocol):
    assert loads(pickle.dumps([1, "é", {2}], protocol)) == [1, "é", {2}]
    data = pickle.dumps(datetime.date(2002, 11, 1), protocol)
    assert loads(data) == datetime.date(2002, 11, 1)
    data = pickle.dumps(Node(a=datetime.date(2002, 11, 1)), protocol)
    with pytest.raises(UntrustedRecord):
        loads(data)
    assert loads(data, trust="all").a == datetime.date(2002, 11, 1)
    assert loads(memoryview(data), trust="all").a == loads(bytearray(data), trust="all").a


def test_frames_and_pickles_in_one_file():
    file = io.BytesIO()
    for number in range(6):
        dump([number], file, number, key=KEY)
        pickle.dump({number: number}, file, number)
    file.seek(0)
    for number in range(6):
        assert load(file, key=KEY) == [number]
        assert load(file, key=KEY, trust="all" if number % 2 else None) == {number: number}
    with pytest.raises(EOFError):
        load(file, key=KEY)


class Trickle(io.RawIOBase):
    """A source that gives one byte at a time and cannot be rewound."""

    def __init__(self, data: bytes):
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self.data.read(min(size, 1))

    def readline(self, size: int | None = -1, /) -> bytes:
        return self.data.readline()


def test_from_a_pipe_that_trickles():
    value = {"a": "x" * 100, "b": [1, 2]}
    source = Trickle(dumps(value, key=KEY) * 2)
    assert load(source, key=KEY) == value
    assert Unpickler(source, key=KEY).load() == value
    with pytest.raises(EOFError):
        load(source, key=KEY)


def test_a_text_file_is_refused():
    with pytest.raises(TypeError, match="binary"):
        load(io.StringIO("N."))  # type: ignore[arg-type]


def test_real_files(tmp_path):
    path = tmp_path / "objects"
    with path.open("wb") as file:
        for value in (1, [2], {3: lists(3000)}):
            dump(value, file)
    with path.open("rb") as file:
        assert load(file) == 1
        assert load(file) == [2]
        assert depth_of(load(file)[3]) == 3000


# -- damage ------------------------------------------------------------------------------------------------


def test_sentences_about_frames_outside_of_stores():
    with pytest.raises(CorruptRecord, match=r"^The record is damaged or was cut short"):
        loads(dumps(1, key=KEY) + b"xx", key=KEY)
    with pytest.raises(
        UntrustedRecord, match=rf"^The record does not .* \({OTHER.name}; the record names {KEY.name}\)"
    ) as e:
        decode(dumps(1, key=KEY), OTHER)
    assert "store" not in e.value.message
    assert loads(dumps(1, key=KEY), key=OTHER) == 1


def test_cut_off_anywhere():
    data = dumps({"a": [1, 2]}, key=KEY)
    for length in range(1, len(data)):
        for read in (lambda part: loads(part, key=KEY), lambda part: load(io.BytesIO(part), key=KEY)):
            with pytest.raises(CorruptRecord):
                read(data[:length])
    for nothing in (b"", bytearray()):
        with pytest.raises(EOFError):
            loads(nothing)


def test_any_byte_changed():
    data = dumps({"a": [1, 2]}, key=KEY)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x41
        if place >= len(data) - TAG_SIZE:  # the seal itself: what is under it is plain, and needs none
            assert loads(changed, key=KEY) == load(io.BytesIO(changed), key=KEY) == {"a": [1, 2]}
            continue
        with pytest.raises((CorruptRecord, NewerFormat, UntrustedRecord)):
            loads(changed, key=KEY)
        with pytest.raises((CorruptRecord, NewerFormat, UntrustedRecord)):
            load(io.BytesIO(changed), key=KEY)


@given(data=st.binary(max_size=120), framed=st.booleans())
def test_garbage(data, framed):
    data = b"\xb7PD\x01" + data if framed else data
    for read in (lambda: loads(data, key=KEY), lambda: load(io.BytesIO(data), key=KEY)):
        try:
            read()
        except (CorruptRecord, UntrustedRecord, CannotLoad, NewerFormat, EOFError):
            continue
        assert not framed


def test_a_length_that_lies_reserves_nothing():
    head = struct.pack("<3sBHHIQBBHIIQ", b"\xb7PD", 1, 0x8002, 0, 0, 0, 0, 0, 0, 0, 0, 2**63)
    with pytest.raises(CorruptRecord):
        load(io.BytesIO(head + b"rest"), key=KEY)


def test_a_header_nested_without_end():
    fields = b"[" * 60_000
    head = struct.pack("<3sBHHIIBBHHHI", b"\xb7PD", 1, 2, 0, 0, 0, 0, 0, 0, 0, len(fields), 0)
    frame = head + fields
    frame += struct.pack("<I", crc32(frame)) + bytes(16)
    with pytest.raises(CorruptRecord):
        loads(frame, key=KEY)


def test_a_later_format():
    data = bytearray(dumps(1, key=KEY))
    data[3] = NEWEST_FORMAT + 1
    with pytest.raises(NewerFormat):
        loads(data, key=KEY)
    with pytest.raises(NewerFormat):
        load(io.BytesIO(data), key=KEY)


class Refusing:
    """Its state cannot be set."""

    def __init__(self) -> None:
        self.value = 1

    def __setstate__(self, state: Any) -> None:
        raise KeyError("no such field")


def test_a_class_that_refuses_its_state():
    with pytest.raises(CannotLoad, match="KeyError") as caught:
        loads(dumps(Refusing(), key=KEY), key=KEY)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("data", [b"garbage", b"\x80\x05K", b"(lp0\n", b"cos\n.", b"\xff" * 9])
def test_garbage_with_trust(data):
    for read in (loads, lambda part, **trust: load(io.BytesIO(part), **trust)):
        with pytest.raises((CorruptRecord, CannotLoad, ClassNotFound)):
            read(data, trust="all")
    with pytest.raises((CorruptRecord, CannotLoad, ClassNotFound)):
        Unpickler(io.BytesIO(data), trust="all").load()


def test_a_class_or_module_that_is_gone(monkeypatch):
    module = ModuleType("perdure_test_vanishing")
    module.Gone = type("Gone", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data = dumps(module.Gone(), key=KEY)
    assert type(loads(data, key=KEY)) is module.Gone
    del module.Gone  # type: ignore[attr-defined]
    for _ in range(2):
        for read in (lambda: loads(data, key=KEY), lambda: Unpickler(io.BytesIO(data), key=KEY).load()):
            with pytest.raises(ClassNotFound, match="perdure_test_vanishing:Gone") as caught:
                read()
            assert isinstance(caught.value, ImportError)
        monkeypatch.delitem(sys.modules, module.__name__, raising=False)


# -- depth -------------------------------------------------------------------------------------------------


def test_deep_chains():
    assert depth_of(loads(dumps(lists(), key=KEY), key=KEY)) == DEPTH
    assert depth_of(loads(dumps(lists(3000), 0, key=KEY), key=KEY)) == 3000


def test_deep_chains_with_buffers_ask_once():
    asked: list[Any] = []
    value = [pickle.PickleBuffer(b"first"), lists(), pickle.PickleBuffer(b"last")]
    data = dumps(value, key=KEY, buffer_callback=asked.append)
    assert [bytes(part) for part in asked] == [b"first", b"last"]
    loaded = loads(data, key=KEY, buffers=asked)
    assert [bytes(loaded[0]), depth_of(loaded[1]), bytes(loaded[2])] == [b"first", DEPTH, b"last"]


def test_a_path_in_a_deep_chain():
    with pytest.raises(CannotPickle) as caught:
        dumps(lists(end=threading.Lock()), key=KEY)
    assert caught.value.path == "list → " + "[0]" * (DEPTH + 1)


# -- several dumps of one Pickler ------------------------------------------------------------------------------


def test_references_between_dumps():
    file = io.BytesIO()
    pickler = Pickler(file, key=KEY)
    shared, deep = [1], lists()
    pickler.dump([shared])
    pickler.dump([deep, shared])  # the iterative pickler goes on with the memo
    pickler.dump([shared, deep])  # and C pickle with the memo of that
    file.seek(0)
    unpickler = Unpickler(file, key=KEY)
    one, two, three = unpickler.load(), unpickler.load(), unpickler.load()
    assert one[0] is two[1]
    assert two[1] is three[0]
    assert two[0] is three[1]


def test_a_failed_dump_leaves_no_trace():
    file = io.BytesIO()
    pickler = Pickler(file, key=KEY)
    shared, new = [1], [2]
    pickler.dump(shared)
    length = len(file.getvalue())
    for bad in (threading.Lock(), lists(end=threading.Lock())):
        with pytest.raises(CannotPickle):
            pickler.dump([new, bad])
    assert len(file.getvalue()) == length
    pickler.dump([shared, new])
    file.seek(0)
    unpickler = Unpickler(file, key=KEY)
    first = unpickler.load()
    second = unpickler.load()
    assert second == [[1], [2]]
    assert second[0] is first


def test_several_picklers_in_one_file():
    file = io.BytesIO()
    for value in ([1, [2]], ["a", ["b"]], [[3], [4]]):
        pickler = Pickler(file, key=KEY)
        pickler.dump(value)
        pickler.dump([value, value[1]])
        pickler.clear_memo()
        pickler.dump(value)
    file.seek(0)
    unpickler = Unpickler(file, key=KEY)
    for value in ([1, [2]], ["a", ["b"]], [[3], [4]]):
        one, two, three = unpickler.load(), unpickler.load(), unpickler.load()
        assert one == value
        assert two == [value, value[1]]
        assert two[0] is one
        assert two[1] is one[1]
        assert three == value
        assert three is not one


def test_a_missing_dump_is_noticed():
    parts = []
    file = io.BytesIO()
    pickler = Pickler(file, key=KEY)
    for value in ([1], [2], [3]):
        pickler.dump(value)
        parts.append(file.getvalue())
        file.seek(0)
        file.truncate()
    with pytest.raises(CannotLoad, match="Unpickler"):
        loads(parts[1], key=KEY)
    with pytest.raises(CannotLoad, match="Unpickler"):
        load(io.BytesIO(parts[1]), key=KEY)
    for wrong in ((1,), (0, 2), (0, 1, 1)):
        unpickler = Unpickler(io.BytesIO(b"".join(parts[n] for n in wrong)), key=KEY)
        for _ in wrong[:-1]:
            unpickler.load()
        with pytest.raises(CorruptRecord, match="earlier ones"):
            unpickler.load()


def test_a_pickler_does_not_dump_while_it_dumps():
    class Inner(Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Node):
                self.dump([1])
            return NotImplemented

    with pytest.raises(TransactionError, match="while it dumps"):
        Inner(io.BytesIO(), key=KEY).dump([Node()])


# -- hooks -------------------------------------------------------------------------------------------------


class HookPickler(Pickler):
    """All the hooks of pickle's Pickler."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.key if isinstance(obj, Node) and hasattr(obj, "key") else None

    def reducer_override(self, obj: Any) -> Any:
        return (list, (("lock",),)) if isinstance(obj, type(threading.Lock())) else NotImplemented


class HookUnpickler(Unpickler):
    """All the hooks of pickle's Unpickler."""

    def persistent_load(self, pid: Any) -> Any:
        if pid == "gone":
            raise pickle.UnpicklingError("no such key")
        return ("loaded", pid)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        return super().find_class(module_name, "OrderedDict" if global_name == "Counter" else global_name)


@pytest.mark.parametrize("depth", [1, DEPTH])
def test_hooks_of_subclasses(depth):
    from collections import Counter, OrderedDict

    file = io.BytesIO()
    HookPickler(file, key=KEY).dump([Node(key=7), threading.Lock(), Counter(a=1), lists(depth)])
    file.seek(0)
    loaded = HookUnpickler(file, key=KEY).load()
    assert loaded[:2] == [("loaded", 7), ["lock"]]
    assert type(loaded[2]) is OrderedDict
    assert depth_of(loaded[3]) == depth


def test_a_dispatch_table():
    class Tabled(Pickler):
        dispatch_table = {Node: lambda node: (list, ((node.a,),))}

    for pickler_class, depth in ((Tabled, 1), (Tabled, DEPTH)):
        file = io.BytesIO()
        pickler_class(file, key=KEY).dump([Node(a=5), lists(depth)])
        assert loads(file.getvalue(), key=KEY)[0] == [5]
    file = io.BytesIO()
    pickler = Pickler(file, key=KEY)
    pickler.dispatch_table = {Node: lambda node: (list, ((node.a, "own"),))}
    pickler.dump(Node(a=5))
    assert loads(file.getvalue(), key=KEY) == [5, "own"]


def test_exceptions_of_hooks_come_out_as_they_are():
    file = io.BytesIO()
    HookPickler(file, key=KEY).dump(Node(key="gone"))
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="no such key"):
        HookUnpickler(file, key=KEY).load()

    class Failing(Pickler):
        def persistent_id(self, obj: Any) -> Any:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Failing(io.BytesIO(), key=KEY).dump([1])


def test_what_a_hook_takes_is_not_to_blame():
    with pytest.raises(CannotPickle) as caught:
        HookPickler(io.BytesIO(), key=KEY).dump([threading.Lock(), (n for n in "a")])
    assert caught.value.path == "list → [1]"


# -- arguments -----------------------------------------------------------------------------------------------


def test_arguments_of_pickle():
    with pytest.raises(ValueError, match="protocol"):
        dumps(1, 6, key=KEY)
    with pytest.raises(ValueError, match="buffer_callback"):
        dumps(1, 4, key=KEY, buffer_callback=print)
    with pytest.raises(TypeError, match="write"):
        Pickler(object())  # type: ignore[arg-type]
    for protocol in (-1, None, True, 0):
        assert loads(dumps([1], protocol, key=KEY), key=KEY) == [1]
    with pytest.raises(TypeError):
        loads("N.")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        loads(5)  # type: ignore[arg-type]


def test_the_error_names_the_path():
    with pytest.raises(CannotPickle) as caught:
        dumps({"jobs": [Node(log=sys.__stdout__)]}, key=KEY)
    assert caught.value.path == "dict → ['jobs'][0].log"
    assert str(caught.value).startswith("dict → ['jobs'][0].log: cannot pickle '_io.TextIOWrapper' instances.")


# -- what format 1 has written ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written() -> ModuleType:
    """The script that wrote the files, for the values that it wrote."""
    spec = importlib.util.spec_from_file_location("format_1_make", DATA / "format-1" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> bytes:
    return (DATA / "format-1" / name).read_bytes()


def test_format_1_plain_values(written):
    assert (format_version, compatible_formats) == ("1.0", ["1.0"])
    assert streams.format_version in streams.compatible_formats
    for protocol in range(6):
        assert shape(loads(read(f"plain-{protocol}.frame"), key=KEY)) == shape(written.plain())


def test_format_1_instances(written):
    loaded = loads(read("instances.frame"), key=KEY)
    assert [repr(item) for item in loaded] == [repr(item) for item in written.instances()]


def test_format_1_deep(written):
    value, depth = loads(read("deep.frame"), key=KEY), 0
    while value:
        (value,), depth = value, depth + 1
    assert depth == written.DEPTH


def test_format_1_several_in_a_file():
    file = io.BytesIO(read("several.frames"))
    assert [load(file, key=KEY) for _ in range(3)] == ["apple", {1: "One", 2: "Two"}, ["fee", "fie"]]
    chain = Unpickler(io.BytesIO(read("chain.frames")), key=KEY)
    a, b, again = chain.load(), chain.load(), chain.load()
    assert a[2] is b
    assert b[2] is a
    assert again[:2] == [3, 4]
    assert again[2][2] is again
    assert again is not b


def test_format_1_buffer():
    assert bytes(loads(read("buffer.frame"), key=KEY, buffers=[read("buffer.raw")])) == b"out of band"


@pytest.mark.parametrize("name", ["record", "wide"])
def test_format_1_records(written, name):
    frame = read(f"{name}.frame")
    expected = written.draft()
    for record in (decode(frame, KEY), parse_unverified(frame)):
        assert record.revision == written.REVISIONS[name]
        assert record.references == expected.references
        assert record.fields == expected.fields
        assert (record.id, record.class_name, record.class_version) == ("User.17", "shop:User", 3)
        assert (record.flags, record.code) == (expected.flags, "Code.2")
        assert pickle.loads(record.payload) == {"name": "Ada"}
