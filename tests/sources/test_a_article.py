"""Rows A1 to A12 and C0: the listings of "Python persistence management" and the example of pickle's documentation.

Each test is named by its row and written as the reader of that source would write it, `perdure` in place of `pickle`.
"""

from __future__ import annotations

import copyreg
import datetime
import fractions
import io
import pickle
import sqlite3
import textwrap
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

import perdure

DATA = Path(__file__).resolve().parent.parent / "data"
PYTHON2 = DATA / "python2"
DEPTH = 100_000


# -- A1: dumps and loads, text or binary found out by itself ---------------------------------------------------


def test_a1_dumps_and_loads():
    t1 = ("this is a string", 42, [1, 2, 3], None)
    assert perdure.loads(perdure.dumps(t1)) == t1
    assert perdure.loads(perdure.dumps(t1, True)) == t1  # the article's second argument: a binary pickle
    assert perdure.loads(perdure.dumps(t1, False)) == t1


def test_a1_the_pickles_that_the_article_prints():
    t1 = ("this is a string", 42, [1, 2, 3], None)
    text = b"(S'this is a string'\nI42\n(lp1\nI1\naI2\naI3\naNtp2\n."
    binary = b"(U\x10this is a stringK*]q\x01(K\x01K\x02K\x03eNtq\x02."
    assert perdure.loads(text) == perdure.loads(binary) == t1


@pytest.mark.parametrize("protocol", range(6))
def test_a1_plain_pickles_of_all_protocols(protocol):
    value = {"a": [1, 2.5, "é", b"\xff", None, True], "b": ({1, 2}, frozenset("xy"), 3j, bytearray(b"c"))}
    assert perdure.loads(pickle.dumps(value, protocol)) == value


def test_a1_a_pickle_with_instances_needs_trust():
    data = pickle.dumps(textwrap.TextWrapper(width=7))
    with pytest.raises(perdure.UntrustedRecord, match=r"textwrap:TextWrapper.*trust='all'"):
        perdure.loads(data)
    assert perdure.loads(data, trust="all").width == 7


def test_a1_checked_values_of_the_standard_library_need_none():
    value = [datetime.date(2002, 11, 1), fractions.Fraction(1, 3)]
    assert perdure.loads(pickle.dumps(value)) == value


def test_a1_encoding_errors_and_buffers_as_in_pickle():
    assert perdure.loads(b"U\x02\xc3\xa9.", encoding="utf-8") == "é"
    assert perdure.loads(b"U\x02\xc3\xa9.", encoding="bytes") == b"\xc3\xa9"
    assert perdure.loads(b"U\x01\xc3.", errors="ignore") == ""
    buffers: list[pickle.PickleBuffer] = []
    data = perdure.dumps(pickle.PickleBuffer(b"large"), buffer_callback=buffers.append)
    assert bytes(perdure.loads(data, buffers=buffers)) == b"large"


# -- A1b: pickles of Python 2 ----------------------------------------------------------------------------------


def written_by_python2(name: str) -> list[Path]:
    files = sorted(PYTHON2.glob(f"{name}-*.pickle"))
    assert len(files) >= 2
    return files


def test_a1b_plain_values_of_python_2():
    for path in written_by_python2("plain"):
        value = perdure.loads(path.read_bytes())
        assert value["none"] is None
        assert [type(item) for item in value["bools"]] == [bool, bool]
        assert value["ints"] == [0, -1, 255, 65536, 2**31, -(2**31) - 1]
        assert value["longs"] == [5, 10**30, -(10**30)]
        assert repr(value["floats"]) == "[0.5, -0.0, 1e+300]"
        assert value["complex"] == 1 - 2j
        assert value["unicode"] == "Пример 日本語 \n \\ end"
        assert value["ascii"] == "plain text"
        assert value["tuple"] == (1, (2, 3), ())
        assert value["set"] == {1, 2, 3}
        assert value["frozenset"] == frozenset({"a", "b"})
        assert value["bytearray"] == bytearray(b"\x00\xff raw")
        assert value["shared"][0] is value["shared"][1]
        assert value["cycle"][1] is value["cycle"]


def test_a1b_str_that_is_not_ascii():
    for path in written_by_python2("latin1"):
        with pytest.raises(perdure.PerdureError, match="encoding"):
            perdure.loads(path.read_bytes())
        assert perdure.loads(path.read_bytes(), encoding="latin-1") == {"name": "Jürgen", "raw": "\x00\x80\xff"}
        assert perdure.loads(path.read_bytes(), encoding="bytes") == {b"name": b"J\xfcrgen", b"raw": b"\x00\x80\xff"}
    for path in written_by_python2("utf8"):
        assert perdure.loads(path.read_bytes(), encoding="utf-8") == ["Пример", "日本"]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the classes that Python 2 pickled."""
    import sys

    monkeypatch.syspath_prepend(str(PYTHON2))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    import shop

    yield shop
    sys.modules.pop("shop", None)


def test_a1b_instances_of_old_and_new_style_classes(shop):
    for path in written_by_python2("old_style"):
        with pytest.raises(perdure.UntrustedRecord):
            perdure.loads(path.read_bytes())
        customer = perdure.loads(path.read_bytes(), trust="all")
        assert (type(customer), customer.name) == (shop.Customer, "Ada")
        assert customer.orders[0] is customer.orders[1]
    for path in written_by_python2("new_style"):
        with pytest.raises(perdure.UntrustedRecord):
            perdure.loads(path.read_bytes())
        item = perdure.loads(path.read_bytes(), trust="all")
        assert (type(item), item.name, item.label) == (shop.Item, "pen", "Füller")
    for path in written_by_python2("slots"):
        pair = perdure.loads(path.read_bytes(), trust="all")
        assert (type(pair), pair.left, pair.right) == (shop.Pair, 1, [2])


def test_a1b_copy_reg_and_builtins_under_their_old_names(shop):
    for path in written_by_python2("copy_reg"):
        points = perdure.loads(path.read_bytes(), trust="all")
        assert [(type(point), point.x, point.y) for point in points] == [(shop.Point, 1, 2), (shop.Point, 3, 4)]
    for path in written_by_python2("builtins"):
        loaded = perdure.loads(path.read_bytes(), trust="all")
        assert loaded[:4] == [len, object, range, Exception]
        assert repr(loaded[4]) == "ValueError('no')"
    for path in written_by_python2("date"):
        when = perdure.loads(path.read_bytes(), trust="all", encoding="latin-1")
        assert when == datetime.datetime(2002, 11, 1, 12, 30)


# -- A2: several objects in one file -----------------------------------------------------------------------------


def test_a2_several_objects_in_one_file(tmp_path):
    a1 = "apple"
    b1 = {1: "One", 2: "Two", 3: "Three"}
    c1 = ["fee", "fie", "foe", "fum"]
    f1 = open(tmp_path / "temp.pkl", "wb")  # noqa: SIM115 - as the article does
    perdure.dump(a1, f1, True)
    perdure.dump(b1, f1, True)
    perdure.dump(c1, f1, True)
    f1.close()
    f2 = open(tmp_path / "temp.pkl", "rb")  # noqa: SIM115
    assert perdure.load(f2) == a1
    assert perdure.load(f2) == b1
    assert perdure.load(f2) == c1
    with pytest.raises(EOFError):
        perdure.load(f2)
    f2.close()


def test_a2_several_pickles_of_python_2_in_one_file():
    with open(PYTHON2 / "several.pickle", "rb") as f2:
        assert perdure.load(f2) == "apple"
        assert perdure.load(f2) == {1: "One", 2: "Two", 3: "Three"}
        assert perdure.load(f2) == ["fee", "fie", "foe", "fum"]
        with pytest.raises(EOFError):
            perdure.load(f2)


# -- A3: format versions -----------------------------------------------------------------------------------------


def test_a3_format_versions():
    assert perdure.format_version == "1.0"
    assert perdure.format_version in perdure.compatible_formats


def test_a3_what_format_1_wrote_is_read():
    key = perdure.Key(bytes(range(32)))
    with open(DATA / "format-1" / "several.frames", "rb") as file:
        assert [perdure.load(file, key=key) for _ in range(3)] == ["apple", {1: "One", 2: "Two"}, ["fee", "fie"]]


# -- A4, A5, A6: shared, recursive and cyclic references -----------------------------------------------------------


def test_a4_shared_references():
    a = [1, 2, 3]
    b = a
    a.append(4)
    d, e = perdure.loads(perdure.dumps((a, b)))
    d.append(5)
    assert d == e == [1, 2, 3, 4, 5]
    assert d is e


def test_a4_a_shared_object_at_both_ends_of_a_long_chain():
    shared: list[Any] = ["shared"]
    chain: list[Any] = [shared, None]
    for _ in range(DEPTH):
        chain = [None, chain]
    chain[0] = shared
    loaded = perdure.loads(perdure.dumps(chain))
    first = loaded[0]
    while loaded[1] is not None:
        loaded = loaded[1]
    assert loaded[0] is first


def test_a5_recursive_references():
    l: list[Any] = [1, 2, 3]  # noqa: E741 - the article's name
    l.append(l)
    l2 = perdure.loads(perdure.dumps(l))
    assert l2[:3] == [1, 2, 3]
    assert l2[3] is l2
    assert l2[3][3] is l2


def test_a6_cyclic_references(tmp_path):
    a: list[Any] = [1, 2]
    b: list[Any] = [3, 4]
    a.append(b)
    b.append(a)
    with open(tmp_path / "temp.pkl", "wb") as f:
        perdure.dump((a, b), f)
    with open(tmp_path / "temp.pkl", "rb") as f:
        c, d = perdure.load(f)
    assert c[2] is d
    assert d[2] is c


class Link:
    """One of a long ring."""

    following: Link


def test_a6_a_ring_of_100_000():
    links = [Link() for _ in range(DEPTH)]
    for link, following in zip(links, links[1:] + links[:1], strict=True):
        link.following = following
    start = link = perdure.loads(perdure.dumps(links[0]))
    for _ in range(DEPTH):
        link = link.following
    assert link is start
    while links:  # taken apart by hand: a ring this long is no fun for the interpreter either
        del links.pop().following
    while hasattr(link, "following"):
        following = link.following
        del link.following
        link = following


# -- A9: one Pickler, several dumps --------------------------------------------------------------------------------


def test_a9_references_between_the_dumps_of_one_pickler(tmp_path):
    a: list[Any] = [1, 2]
    b: list[Any] = [3, 4]
    a.append(b)
    b.append(a)
    with open(tmp_path / "temp.pkl", "wb") as f:
        pickler = perdure.Pickler(f)
        pickler.dump(a)
        pickler.dump(b)
    with open(tmp_path / "temp.pkl", "rb") as f:
        unpickler = perdure.Unpickler(f)
        c = unpickler.load()
        d = unpickler.load()
    assert c[2] == d
    assert c[2] is d
    assert d[2] is c


# -- A10: what cannot be pickled -----------------------------------------------------------------------------------


class Foo:
    """The article's class."""

    def __init__(self, value: Any):
        self.value = value


def test_a10_a_file_object(tmp_path):
    with open(tmp_path / "temp.pkl", "w") as f:
        with pytest.raises(TypeError) as caught:
            perdure.dumps(f)
        assert isinstance(caught.value, perdure.CannotPickle)
        with pytest.raises(perdure.CannotPickle) as caught:
            perdure.dumps({"jobs": [Foo(1), Foo({"log": f})]})
    assert caught.value.path == "dict → ['jobs'][1].value['log']"
    message = str(caught.value)
    assert caught.value.path in message
    assert "cannot pickle '_io.TextIOWrapper' instances" in message
    assert "open it again in __setstate__" in message


# -- A11, A12: instances -----------------------------------------------------------------------------------------


class Counting:
    """Counts how often it was initialised."""

    initialised = 0

    def __init__(self, value: Any):
        Counting.initialised += 1
        self.value = value


def test_a11_init_is_not_called_again():
    foo = Counting("What is a Foo?")
    data = perdure.dumps(foo)
    loaded = perdure.loads(data)
    assert (type(loaded), loaded.value) == (Counting, "What is a Foo?")
    assert Counting.initialised == 1


def test_a12_state_and_class_name_are_stored():
    data = perdure.dumps(Foo("What is a Foo?"))
    assert b"test_a_article" in data
    assert b"Foo" in data
    assert b"What is a Foo?" in data
    assert b"The article's class." not in data


class WithState:
    def __init__(self, value: int):
        self.value = value

    def __getstate__(self) -> Any:
        return (self.value,)

    def __setstate__(self, state: Any) -> None:
        (self.value,) = state
        self.restored = True


class Reduced:
    def __init__(self, value: int):
        self.value = value

    def __reduce__(self) -> Any:
        return Reduced, (self.value + 1,)


class Celsius(float):
    def __new__(cls, degrees: float, place: str) -> Celsius:
        made = super().__new__(cls, degrees)
        made.place = place
        return made

    def __getnewargs__(self) -> Any:
        return float(self), self.place


class Slots:
    __slots__ = ("left", "right")


class Registered:
    def __init__(self, value: int):
        self.value = value


def test_a12_special_methods_are_honoured():
    loaded = perdure.loads(perdure.dumps(WithState(1)))
    assert (loaded.value, loaded.restored) == (1, True)
    assert perdure.loads(perdure.dumps(Reduced(1))).value == 2
    celsius = perdure.loads(perdure.dumps(Celsius(21.5, "hall")))
    assert (celsius, type(celsius), celsius.place) == (21.5, Celsius, "hall")
    slots = Slots()
    slots.left = [1]
    loaded = perdure.loads(perdure.dumps(slots))
    assert loaded.left == [1]
    assert not hasattr(loaded, "right")


def test_a12_copyreg_is_honoured():
    copyreg.pickle(Registered, lambda obj: (Registered, (obj.value * 2,)))
    try:
        assert perdure.loads(perdure.dumps(Registered(21))).value == 42
    finally:
        del copyreg.dispatch_table[Registered]


# -- C0: persistent ids --------------------------------------------------------------------------------------------

MemoRecord = namedtuple("MemoRecord", "key, task")


class DBPickler(perdure.Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, MemoRecord):
            return ("MemoRecord", obj.key)
        return None


class DBUnpickler(perdure.Unpickler):
    def __init__(self, file, connection):
        super().__init__(file)
        self.connection = connection

    def persistent_load(self, pid):
        cursor = self.connection.cursor()
        type_tag, key_id = pid
        if type_tag == "MemoRecord":
            cursor.execute("SELECT * FROM memos WHERE key=?", (str(key_id),))
            key, task = cursor.fetchone()
            return MemoRecord(key, task)
        raise pickle.UnpicklingError("unsupported persistent object")


@pytest.fixture
def conn():
    conn = sqlite3.connect(":memory:")
    cursor = conn.cursor()
    cursor.execute("CREATE TABLE memos(key INTEGER PRIMARY KEY, task TEXT)")
    for task in ("give food to fish", "prepare group meeting", "fight with a zebra"):
        cursor.execute("INSERT INTO memos VALUES(NULL, ?)", (task,))
    yield conn
    conn.close()


def test_c0_the_example_of_the_documentation(conn):
    cursor = conn.cursor()
    cursor.execute("SELECT * FROM memos")
    memos = [MemoRecord(key, task) for key, task in cursor]
    file = io.BytesIO()
    DBPickler(file).dump(memos)
    assert b"zebra" not in file.getvalue()
    cursor.execute("UPDATE memos SET task='learn italian' WHERE key=1")
    file.seek(0)
    memos = DBUnpickler(file, conn).load()
    assert memos == [
        MemoRecord(1, "learn italian"),
        MemoRecord(2, "prepare group meeting"),
        MemoRecord(3, "fight with a zebra"),
    ]


def test_c0_an_unknown_tag_raises(conn):
    class Other(perdure.Pickler):
        def persistent_id(self, obj):
            return ("Other", obj.key) if isinstance(obj, MemoRecord) else None

    file = io.BytesIO()
    Other(file).dump([MemoRecord(1, "a")])
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match="unsupported persistent object"):
        DBUnpickler(file, conn).load()
