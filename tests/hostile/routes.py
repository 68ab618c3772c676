"""Hostile pickles by the routes that are known: what each would do to `pickle.loads`, and must not do here.

Each is made by hand from opcodes. `REFUSED` must not load; `BOUNDED` may, but must take no more than the limits.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Iterator
from functools import cache

import zstandard

VICTIM = "victim"


def text(content: str) -> bytes:
    """A text, pushed."""
    data = content.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(data)]) + data if len(data) < 256 else b"X" + struct.pack("<I", len(data)) + data


def name(module: str, qualname: str) -> bytes:
    """A name, looked up."""
    return text(module) + text(qualname) + b"\x93"


def called(module: str, qualname: str, *args: bytes) -> bytes:
    """A call by REDUCE."""
    return name(module, qualname) + b"(" + b"".join(args) + b"tR"


def made(qualname: str, state: bytes = b"") -> bytes:
    """An object of the victim's own classes."""
    return name(VICTIM, qualname) + b")\x81" + (state + b"b" if state else b"")


def state(**attributes: bytes) -> bytes:
    """A dict of attributes."""
    return b"}(" + b"".join(text(each) + value for each, value in attributes.items()) + b"u"


ECHO = text("echo executed > executed")
START = b"\x80\x04"

# -- names that do something when they are called ------------------------------------------------------------

CALLED = [
    ("os", "system", ECHO), ("posix", "system", ECHO), ("nt", "system", ECHO), ("os", "popen", ECHO),
    ("subprocess", "Popen", ECHO), ("subprocess", "check_output", ECHO), ("commands", "getoutput", ECHO),
    ("builtins", "eval", text("1")), ("builtins", "exec", text("1")), ("__builtin__", "eval", text("1")),
    ("__builtin__", "execfile", text("x")), ("__builtin__", "apply", text("x")), ("builtins", "compile", text("1")),
    ("builtins", "__import__", text("this")), ("builtins", "open", text("executed") + text("w")),
    ("io", "open", text("executed") + text("w")), ("_io", "open", text("executed") + text("w")),
    ("_io", "FileIO", text("executed") + text("w")), ("io", "FileIO", text("executed") + text("w")),
    ("_pyio", "open", text("executed") + text("w")), ("codecs", "open", text("executed") + text("w")),
    ("pathlib", "Path.touch", text("executed")), ("shutil", "rmtree", text("executed")),
    ("os", "remove", text("executed")), ("posix", "unlink", text("executed")), ("os", "execv", text("x")),
    ("os", "fork"), ("os", "_exit", b"K\x01"), ("posix", "_exit", b"K\x01"), ("sys", "exit"),
    ("builtins", "getattr", name("os", "path") + text("join")), ("operator", "attrgetter", text("system")),
    ("builtins", "getattr", name("victim", "Colour") + text("__class__")),
    ("builtins", "getattr", name("victim", "Colour") + text("spring")),
    ("builtins", "getattr", name("victim", "Item") + text("__init__")), ("_operator", "or_", made("Item") * 2),
    ("builtins", "getattr", made("Item") + text("label")), ("_operator", "or_", b"}}"), ("operator", "or_", b"K\x01N"),
    ("operator", "methodcaller", text("system") + ECHO), ("operator", "itemgetter", b"K\x00"),
    ("functools", "partial", name("os", "system") + ECHO), ("functools", "reduce", name("os", "system") + b"]"),
    ("builtins", "map", name("os", "system") + b"]"), ("builtins", "filter", name("os", "system") + b"]"),
    ("itertools", "starmap", name("os", "system") + b"]"), ("builtins", "type", text("X") + b")" + b"}"),
    ("types", "FunctionType"), ("types", "CodeType"), ("marshal", "loads", b"C\x01N"), ("pickle", "loads", b"C\x02N."),
    ("_pickle", "loads", b"C\x02N."), ("dill", "loads", b"C\x02N."), ("cloudpickle", "loads", b"C\x02N."),
    ("perdure", "loads", b"C\x02N."), ("importlib", "import_module", text("this")),
    ("_frozen_importlib", "__import__", text("this")), ("_frozen_importlib_external", "SourceFileLoader", text("x")),
    ("_imp", "create_dynamic", b"N"), ("imp", "load_source", text("x")), ("runpy", "run_path", text("x")),
    ("runpy", "_run_code", text("1") + b"}"), ("pydoc", "locate", text("os.system")),
    ("pkgutil", "resolve_name", text("os:system")), ("timeit", "timeit", text("1")), ("pdb", "run", text("1")),
    ("bdb", "Bdb"), ("trace", "Trace"), ("cProfile", "run", text("1")), ("code", "interact"), ("pty", "spawn", ECHO),
    ("webbrowser", "open", text("http://127.0.0.1:9")), ("urllib.request", "urlopen", text("http://127.0.0.1:9")),
    ("socket", "create_connection"), ("asyncio", "run"), ("ctypes", "CDLL", text("libc.so.6")),
    ("ctypes", "string_at", b"K\x00"), ("_ctypes", "dlopen", text("libc.so.6")), ("logging.config", "fileConfig"),
    ("numpy", "load", text("x")), ("numpy.testing._private.utils", "runstring", text("1") + b"}"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"), ("lib2to3.pgen2.grammar", "Grammar.loads"),
    ("idlelib.run", "Executive"), ("distutils.file_util", "write_file", text("executed") + b"]"),
    ("__hello__", "main"), ("__phello__.spam", "main"), ("antigravity", "geohash"), ("this", "s"),
    ("sys", "modules"), ("builtins", "globals"), ("builtins", "vars"), ("builtins", "breakpoint"),
    ("builtins", "setattr", made("Item") + text("x") + b"N"), ("builtins", "print", text("executed")),
    ("copyreg", "add_extension", text("os") + text("system") + b"K\x01"), ("copyreg", "_reconstructor", b"NNN"),
    ("copyreg", "__newobj__", name("os", "_wrap_close")), ("weakref", "finalize", b"N" + name("os", "system")),
    ("atexit", "register", name("os", "system")), ("threading", "Timer", b"K\x00" + name("os", "system")),
    ("collections", "defaultdict", name("os", "system")), ("collections", "namedtuple", text("x") + text("y")),
    ("zoneinfo", "ZoneInfo._unpickle", text("../../../etc/passwd") + b"K\x01"),
    ("zoneinfo", "ZoneInfo._unpickle", text("Nowhere/Ever") + b"K\x01"), ("re", "_compile", text("(a+)+$") + b"K\x00"),
    ("_codecs", "encode", text("x") + text("rot13")), ("_codecs", "decode", text("x") + text("unicode_escape")),
    ("array", "array", text("b") + b"K\x05"), ("datetime", "datetime", b"C\x0a" + b"\xff" * 10),
    ("datetime", "time", b"C\x06" + b"\x77" * 6), ("victim", "Trap"), ("victim", "spring"), ("victim", "Trap.__init__"),
    ("victim", "Item.__class__"), ("victim", "Item.__init__.__globals__"), ("victim", "perdure.os.system", ECHO),
]  # fmt: skip


def _calls() -> Iterator[tuple[str, bytes]]:
    for place, (module, qualname, *args) in enumerate(CALLED):
        yield f"call {place}: {module}.{qualname}", START + called(module, qualname, *args) + b"."
    for module, qualname in (("os", "system"), ("posix", "system"), ("builtins", "eval"), ("victim", "Trap")):
        lines = f"{module}\n{qualname}\n".encode()
        yield f"INST {module}.{qualname}", b"(S'1'\ni" + lines + b"."
        yield f"OBJ {module}.{qualname}", b"(c" + lines + b"S'1'\no."
        yield f"NEWOBJ {module}.{qualname}", b"\x80\x02c" + lines + b")\x81."
        yield f"NEWOBJ_EX {module}.{qualname}", START + name(module, qualname) + b")}\x92."
        yield f"kept as a value {module}.{qualname}", b"\x80\x02]c" + lines + b"a."
        yield f"GLOBAL and REDUCE {module}.{qualname}", b"c" + lines + b"(S'1'\ntR."
        yield f"looked up and dropped {module}.{qualname}", b"c" + lines + b"0N."


def _names() -> Iterator[tuple[str, bytes]]:
    for module, qualname in (
        ("os", "path.join"), ("victim", "Item.__dict__"), ("", "eval"), ("os", ""), ("os.", "system"),
        ("os", ".system"),
        ("os\nx", "system"), ("os system", "x"), ("os", "system\0"), ("ｏｓ", "system"), ("__main__", "Trap"),
        ("__main__", "spring"), ("victim:Item", "x"), ("perdure", "_ref"), ("perdure", "make_store"),
        ("perdure.files", "write"), ("perdure", "_load"), ("perdure.pickling.references", "named"), ("x" * 600, "y"),
        ("victim", "Item." * 300 + "x"), ("victim", "Gone"), ("no_such_module", "Thing"), ("os", "\ud800"),
    ):  # fmt: skip
        yield f"a name: {module[:20]!r} {qualname[:20]!r}", START + called(module, qualname, ECHO) + b"."
    yield "a name from a number", START + b"K\x01" + text("eval") + b"\x93)R."
    yield "a name from bytes", START + b"C\x02os" + text("system") + b"\x93)R."
    yield "a name from a made text", START + called("builtins", "str", text("os")) + text("system") + b"\x93)R."
    for code in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"):
        yield f"an extension code {code[:1]!r}", b"\x80\x02" + code + b")R."
    yield "a persistent id", b"Pos.system\n."
    yield "a persistent id on the stack", b"\x80\x02" + text("os.system") + b"Q."
    for own in ("os:system", "builtins:eval", "victim:Trap", "victim:spring", "this:s", "no_such:Thing", "os", ""):
        yield f"_named {own}", START + called("perdure", "_named", text(own)) + b")R."
        yield f"_shape {own}", START + called("perdure", "_shape", text(own), text("a b")) + b")\x81."
        yield (
            f"_shape by a hint {own}",
            START + called("perdure", "_shape", text("a.b"), text(""), b"K\x01", text(own)) + b")\x81.",
        )
        yield f"_made {own}", START + called("perdure", "_made", text(own), b")", b"}") + b"."
    yield "_member of a class", START + called("perdure", "_member", name("victim", "Item"), text("x"), b"N") + b"."
    yield (
        "_member with a dunder",
        START + called("perdure", "_member", name("victim", "Colour"), text("__class__"), b"N") + b".",
    )
    yield "_outside", START + called("perdure", "_outside", text("os.system"), ECHO) + b"."
    yield "_ref below zero", START + called("perdure", "_ref", b"J\xff\xff\xff\xff") + b"."


# -- states and items where none belong ------------------------------------------------------------------------


def _builds() -> Iterator[tuple[str, bytes]]:
    evil = state(__setstate__=text("x"))
    for what, obj in (
        ("a class", name("victim", "Item")), ("a module's function", name("os", "system")), ("a list", b"]"),
        ("a dict", b"}"), ("None", b"N"), ("a text", text("x")), ("a set", b"\x8f"), ("True", b"\x88"),
        ("an unregistered class", name("victim", "Trap")), ("a member", name("victim", "Colour") + b"K\x01\x85R"),
        ("a constructor", name("builtins", "set")), ("a date", called("datetime", "timedelta")), ("a tuple", b")"),
    ):  # fmt: skip
        yield f"BUILD on {what}", START + obj + state(x=b"K\x01") + b"b."
        yield f"BUILD on {what} with slots", START + obj + b"N" + state(x=b"K\x01") + b"\x86b."
    for how, member in (
        ("NEWOBJ", b"K\x01\x85\x81"), ("NEWOBJ_EX", b"K\x01\x85}\x92"), ("REDUCE", b"K\x01\x85R"),
        ("two arguments", text("X") + text("a b") + b"\x86R"), ("no arguments", b")R"), ("bare", b")\x81"),
    ):  # fmt: skip
        yield f"BUILD on a member by {how}", START + name("victim", "Colour") + member + state(x=b"K\x01") + b"b."
    yield (
        "a member made anew",
        START + called("copyreg", "_reconstructor", name("victim", "Grade"), name("builtins", "int"), b"K\x05") + b".",
    )
    yield "BUILD twice", START + made("Item", state(a=b"K\x01")) + state(a=b"K\x02") + b"b."
    yield "a planted __setstate__, then a state", START + made("Item", evil) + state(a=b"K\x01") + b"b."
    for planted in ("__class__", "__dict__", "__setstate__", "__reduce_ex__", "__reduce__", "__getattr__", "__del__"):
        yield f"a planted {planted}", START + made("Item", state(**{planted: name("victim", "Point")})) + b"."
        yield f"a slot {planted}", START + made("Slotted", b"N" + state(**{planted: b"N"}) + b"\x86") + b"."
    yield "a state that is no dict", START + made("Item", b"]") + b"."
    yield "a state with a number for a name", START + made("Item", b"}K\x01K\x02s") + b"."
    yield "a state that is a constructor", START + made("Item", name("builtins", "set")) + b"."
    for planted in ("append", "extend", "add", "update"):
        yield (
            f"APPENDS on a planted {planted}",
            START + made("Item", state(**{planted: name("victim", "Point")})) + b"(K\x01K\x02e.",
        )
        yield (
            f"ADDITEMS on a planted {planted}",
            START + made("Item", state(**{planted: name("victim", "Point")})) + b"(K\x01K\x02\x90.",
        )
    yield "SETITEM on a class", START + name("victim", "Item") + text("x") + b"K\x01s."
    yield "SETITEM on an object", START + made("Item") + text("x") + b"K\x01s."
    yield "SETITEM on a list", START + b"](K\x01aK\x00K\x02s."
    yield "APPEND on a dict", START + b"}K\x01a."
    yield "APPEND on a constructor", START + name("builtins", "list") + b"K\x01a."
    yield "ADDITEMS on a list", START + b"](K\x01\x90."
    yield "a bytearray that is extended", b"\x80\x05\x96" + struct.pack("<Q", 1) + b"a(K\x01e."
    yield "NEWOBJ of a constructor", START + name("builtins", "set") + b")\x81."
    yield "NEWOBJ of a text", START + text("x") + b")\x81."
    yield "NEWOBJ with a list", START + name("victim", "Item") + b"]\x81."
    yield "NEWOBJ of type", START + name("builtins", "type") + b")\x81."
    yield "NEWOBJ_EX with a list", START + name("victim", "Item") + b")]\x92."
    yield "NEWOBJ_EX with numbers for names", START + name("victim", "Item") + b")}K\x01K\x02s\x92."
    yield "REDUCE of an object", START + made("Item") + b")R."
    yield "REDUCE with a list", START + name("victim", "Point") + b"]R."
    yield "OBJ of nothing", b"(o."
    yield (
        "_reconstructor of a foreign base",
        START + called("copyreg", "_reconstructor", name("victim", "Item"), name("builtins", "dict"), b"N") + b".",
    )
    yield (
        "_reconstructor of an unregistered class",
        START + called("copyreg", "_reconstructor", name("victim", "Trap"), name("builtins", "object"), b"N") + b".",
    )
    yield "a UUID without a state", START + name("uuid", "UUID") + b")\x81."
    yield "a UUID in a list before its state", START + b"]" + name("uuid", "UUID") + b")\x812a0."
    yield "a UUID of a text", START + name("uuid", "UUID") + b")\x81" + state(int=text("1")) + b"b."
    yield (
        "an object array of objects",
        START
        + called("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
        + b"(K\x01K\x01\x85"
        + called("numpy", "dtype", text("O8"), b"\x89\x88")
        + b"(K\x03"
        + text("|")
        + (b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89]")
        + made("Item")
        + b"atb.",
    )
    yield (
        "arguments that are used twice",
        START + name("builtins", "list") + b"\x85\x94" + name("collections", "defaultdict") + b"h\x00Rh\x00\x86.",
    )


# -- form --------------------------------------------------------------------------------------------------------


def _forms() -> Iterator[tuple[str, bytes]]:
    inner = START + called("os", "system", ECHO) + b"."
    yield "a pickle behind a pickle", b"N." + inner
    yield "a pickle in a pickle", START + b"N" + inner
    yield "bytes behind the end", b"N.\x00"
    yield "two values", b"NN."
    yield "a mark that is left", b"(N."
    yield "nothing", b"."
    yield "a memo entry twice", b"Nq\x00Kq\x00."
    yield "a memo entry twice, both ways", b"\x80\x04Nq\x00]\x94K\x01q\x01."
    yield "a memo entry of nothing", b"h\x07."
    yield "a memo entry across a mark", b"N(q\x00t."
    yield "a protocol in the middle", b"N0\x80\x04N."
    yield "protocol 6", b"\x80\x06N."
    yield "protocol 255", b"\x80\xffN."
    yield "a frame in a frame", START + b"\x95\x20\0\0\0\0\0\0\0\x95\x02\0\0\0\0\0\0\0N." + b" " * 21
    yield "a frame beyond the end", START + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN."
    yield "no opcode", b"\xff."
    yield "every opcode", bytes(range(256))
    whole = pickle.dumps([{"a": (1, 2.5)}, {3}, b"bytes", 10**30], 4)
    for length in range(1, len(whole), 3):
        yield f"cut off after {length}", whole[:length]
    yield "a stack that is empty", b"aR."
    yield "buffers that nobody gave", b"\x80\x05\x97."
    yield "a number read-only", b"\x80\x05K\x01\x98."
    for content in (b"I1_0\n.", b"L5\n5L\n.", b"I0x10\n.", b"F1_0\n.", b"S'\\x'\n.", b"Sx\n.", b"Np-1\n.", b"g1_0\n."):
        yield f"a line {content!r}", content
    yield "texts that are no UTF-8", b"X\x02\0\0\0\xff\xff."
    yield "Python 2: a class by INST", b"(i__builtin__\nfile\n."
    yield "Python 2: an old class", b"(ivictim\nTrap\n(dS'x'\nI1\nsb."
    yield "Python 2: reduce of str", b"c__builtin__\nunicode\n(S'x'\ntR."
    yield "Python 2: copy_reg", b"ccopy_reg\n_reconstructor\n(cvictim\nTrap\nc__builtin__\nobject\nNtR."


# -- too much ----------------------------------------------------------------------------------------------------


def _lengths() -> Iterator[tuple[str, bytes]]:
    for opcode, width in ((b"X", 4), (b"B", 4), (b"T", 4), (b"\x8b", 4), (b"\x8d", 8), (b"\x8e", 8), (b"\x96", 8)):
        for length in (2**31 - 1, 2**32 - 1) if width == 4 else (2**40, 2**63, 2**64 - 1):
            told = length.to_bytes(width, "little")
            yield f"{opcode!r} says {length} bytes", opcode + told + b"abc."
    yield "a memo index of four gigabytes", b"Nr\xff\xff\xff\xffr\xff\xff\xff\xff."
    yield "a number of 10 million digits", b"L" + b"9" * 10_000_000 + b"L\n."
    yield "a number of 100,000 digits", b"I" + b"9" * 100_000 + b"\n."
    yield "a number of a megabyte", b"\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20) + b"."
    yield "a Decimal of a million digits", START + called("decimal", "Decimal", text("9" * 1_000_000)) + b"."
    yield "a range without a step", START + called("builtins", "range", b"K\x00K\x01K\x00") + b"."
    yield "a bytearray of a number", START + called("builtins", "bytearray", b"J\xff\xff\xff\x7f") + b"."
    yield "an array of a number", START + called("numpy", "zeros", b"J\xff\xff\xff\x7f") + b"."
    yield "a Fraction by an exponent", START + called("fractions", "Fraction", text("1e999999999")) + b"."
    yield "a Fraction of nothing", START + called("fractions", "Fraction", text("1/0")) + b"."


def _bombs() -> Iterator[tuple[str, bytes]]:
    deep = b"N" + b"\x85" * 60_000
    yield "deep tuples", deep + b"."
    yield "deep tuples as a key", b"}" + deep + b"Ns."
    yield "deep tuples in a set", b"\x80\x04\x8f(" + deep + b"\x90."
    yield "deep lists", b"]" * 60_000 + b"a" * 59_999 + b"."
    yield "deep marks", b"(" * 60_000 + b"l" * 60_000 + b"."
    yield "deep dicts", b"}K\x00" * 60_000 + b"N" + b"s" * 60_000 + b"."
    doubled = b"".join(b"2\x86\x94" for _ in range(64))
    yield "tuples that double", b"\x80\x04N\x94" + doubled + b"."
    yield "tuples that double, as a key", b"\x80\x04}N\x94" + doubled + b"Ns."
    yield "tuples that double, in a frozenset", b"\x80\x04(N\x94" + doubled + b"\x91."
    lists = b"]\x94" + b"".join(b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"e\x94" for n in range(64))
    yield "lists that double", b"\x80\x04" + lists + b"."
    dicts = b"}\x94" + b"".join(b"0}(K\x00h" + bytes([n]) + b"K\x01h" + bytes([n]) + b"u\x94" for n in range(64))
    yield "dicts that double", b"\x80\x04" + dicts + b"."
    tangle = b"".join(b"]\x940" for _ in range(14))
    for n in range(14):
        tangle += b"h" + bytes([n]) + b"(" + b"".join(b"h" + bytes([m]) for m in range(14) if m != n) + b"e0"
    yield "lists that all hold one another", b"\x80\x04" + tangle + b"h\x00."
    modulus = 2**61 - 1
    numbers = b"".join(
        b"\x8a" + bytes([size]) + (n * modulus).to_bytes(size, "little", signed=True) + b"N"
        for n in range(1, 30_000)
        for size in (((n * modulus).bit_length() // 8) + 1,)
    )
    yield "keys of one hash", b"\x80\x02}(" + numbers + b"u."
    yield "members of one hash", b"\x80\x04\x8f(" + numbers.replace(b"N\x8a", b"\x8a")[:-1] + b"\x90."
    yield "a dict in its own key", b"\x80\x04}\x94h\x00h\x00s."


def number(value: int) -> bytes:
    """A number of any length, pushed."""
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(content)) + content


def _doubling(module: str, qualname: str, begin: bytes, fill: bytes) -> bytes:
    """Something made by a name that holds the one before it twice; `fill` has %s in the place of that one."""
    data = START + name(module, qualname) + b"\x940N\x94"
    for place in range(1, 60):
        data += b"0h\x00" + begin + fill.replace(b"%s", b"h" + bytes([place])) + b"\x94"
    return data + b"."


def _unfolding() -> Iterator[tuple[str, bytes]]:
    """What is small, and endless when it is printed, compared, copied, computed or taken apart."""
    pairs = b"(K\x00%sK\x01%su"
    yield "deques that double", _doubling("collections", "deque", b")R", b"(%s%se")
    yield "ordered dicts that double", _doubling("collections", "OrderedDict", b")R", pairs)
    yield "defaultdicts that double", _doubling("collections", "defaultdict", b")R", pairs)
    yield "counters that double", _doubling("collections", "Counter", b")R", pairs)
    yield "counters in counters", _doubling("collections", "Counter", b")R", b"(K\x00%su")
    spaced = b"}(" + text("a") + b"%s" + text("b") + b"%sub"
    yield "namespaces that double", _doubling("types", "SimpleNamespace", b")R", spaced)
    yield "exceptions that double", _doubling("builtins", "ValueError", b"", b"%s%s\x86R")
    yield "lists of a registered class that double", _doubling(VICTIM, "Stack", b")\x81", b"(%s%se")
    doubled = b"]\x94" + b"".join(b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"e\x94" for n in range(60))
    yield "lists that double in an object", START + doubled + b"0" + made("Point", state(x=b"h\x3c", y=b"N")) + b"."
    yield "lists that double in a call", START + doubled + b"0" + name(VICTIM, "Point") + b"h\x3cN\x86R."
    for qualname, empty in (("deque", b""), ("defaultdict", b"N")):
        begun = START + name("collections", qualname) + b"\x94)R" + (empty + b"h\x00)R") * 150_000
        filled = empty + b"N" + (b"s" if empty else b"a") * 150_001
        yield f"{qualname}s in one another", begun + filled + b"."
        yield f"{qualname}s in one another that are dropped", begun + filled + b"0N."
    long = b"B" + struct.pack("<I", 400_000) + bytes(400_000) + b"\x940"
    many = b"]\x94(" + b"N" * 100_000 + b"e0"
    yield "a text again and again", START + long + b"](" + b"h\x00" * 400_000 + b"e."
    for module, qualname in (("builtins", "bytearray"), ("builtins", "set"), ("collections", "deque")):
        content = long if qualname == "bytearray" else many
        again = name(module, qualname) + b"\x940](" + b"h\x01h\x00\x85R" * 20_000 + b"e."
        yield f"copies made by {qualname}", START + content + again
    wide = number((1 << 900_001) // 3) + b"\x940" + number((1 << 450_001) // 7) + b"\x940"
    ranges = name("builtins", "range") + b"\x940](" + b"h\x02K\x00h\x00h\x01\x87R" * 300 + b"e."
    yield "ranges of wide numbers", START + wide + ranges
    fractions = name("fractions", "Fraction") + b"\x940](" + b"h\x02h\x00h\x01\x86R" * 300 + b"e."
    yield "fractions of wide numbers", START + wide + fractions
    keys = b"".join(b"J" + struct.pack("<i", n) + b"h\x00\x86N" for n in range(60_000))
    yield "keys of wide numbers", START + wide + b"}(" + keys + b"u."


def _frames() -> Iterator[tuple[str, bytes]]:
    """Frames of perdure's, without a good seal."""
    evil = START + called("os", "system", ECHO) + b"."
    yield "a frame with an evil payload", framed(evil)
    yield "a frame of plain flags with an evil payload", framed(evil, flags=0x20 | 2)
    yield "a frame that calls itself foreign", framed(evil, flags=0x1000 | 2)
    yield "a frame of an unregistered class", framed(START + made("Trap") + b".")
    yield "a frame whose payload is cut off", framed(START + b"](")
    yield "a frame with bytes behind its payload", framed(b"N.N.")
    compressor = zstandard.ZstdCompressor(level=3).compressobj(size=600 << 20)
    some = bytes(20 << 20)
    zeros = b"".join([*(compressor.compress(some) for _ in range(30)), compressor.flush()])
    yield "a payload that unpacks to 600 MiB", framed((600 << 20).to_bytes(8, "little") + zeros, flags=0x400 | 2)
    yield "a payload that says it unpacks to 2**63", framed((1 << 63).to_bytes(8, "little") + zeros, flags=0x400 | 2)
    yield "a payload that is compressed badly", framed((100).to_bytes(8, "little") + b"rubbish", flags=0x400 | 2)
    yield "a frame whose fields are deep", framed(b"N.", fields=b"[" * 100_000)
    yield "a frame whose fields are a number", framed(b"N.", fields=b"9" * 60_000)
    yield "a frame that goes on from another", framed(b"h\x00.", revision=3)
    yield "a shaped frame of rubbish", framed(b"\xff\xff[", flags=0x40)
    yield "a buffered frame of rubbish", framed(b"\xff\xff\xff\xff", flags=0x200 | 2)


def framed(payload: bytes, *, flags: int = 2, revision: int = 0, fields: bytes = b"") -> bytes:
    """A frame with a checksum that is right and a seal that is not."""
    second = 2 if flags & 0x640 else 1
    wide = len(fields) > 0xFFFF
    layout = "<3sBHHIQBBHIIQ" if wide else "<3sBHHIIBBHHHI"
    head = struct.pack(
        layout,
        b"\xb7PD",
        second,
        flags | (0x8000 if wide else 0),
        0,
        7,
        revision,
        0,
        0,
        0,
        0,
        len(fields),
        len(payload),
    )
    body = head + fields + payload
    return body + struct.pack("<I", zlib.crc32(body)) + bytes(16)


@cache
def records() -> list[tuple[str, bytes]]:
    """All of them, by name."""
    makers = (_calls, _names, _builds, _forms, _lengths, _bombs, _unfolding, _frames)
    return [pair for maker in makers for pair in maker()]
