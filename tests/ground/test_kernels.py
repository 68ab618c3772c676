"""The compiled part does what the Python beside it does, byte by byte and error by error, and can be left out."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways import COMPILED, needs_kernels

from perdure import kernels
from perdure.backends.base import numbers_of, runs_of
from perdure.backends.frames import by_id, in_order, names_by_id, numbers_in
from perdure.errors import PerdureError
from perdure.ids import Id
from perdure.records.frame import NARROW_HEAD, TAG_SIZE, crc32, decoder, encoder
from perdure.records.seal import Key
from perdure.records.shape import shape_of
from perdure.records.splicing import SplicedDraft, Splicer
from perdure.records.values import COMPRESSED, FOREIGN, SHAPED, Draft

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = Key(bytes(range(32)))


TEXTS = st.text(max_size=12) | st.sampled_from(["", "Item", "shop:Item", "Item.17", "ü", "\ud800", "x" * 300])
NUMBERS = st.sampled_from([0, 1, 7, 0xFFFF, 0x10000, -1, 2**32, 2**70])
FIELDS = st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS | st.floats(allow_nan=False), max_size=2)
SHAPES = [shape_of((), ()), shape_of(("name", "parent"), (1,)), shape_of(("ü",), ())]
PAYLOADS = st.binary(max_size=400) | st.sampled_from([shape.head + b"\x80\x05]." for shape in SHAPES if shape])
FLAGS = st.sampled_from([0, 0x28, 0x8, 0x24, SHAPED, SHAPED | 0x20, COMPRESSED, FOREIGN, 0x10000])
DRAFTS = st.builds(Draft, TEXTS, NUMBERS, FLAGS, TEXTS, NUMBERS, TEXTS, st.lists(TEXTS).map(tuple), FIELDS, PAYLOADS)


def both(make, *arguments):
    """What the compiled function and the one in Python give for the same, or raise."""
    told = []
    before = kernels.compiled
    for compiled in (COMPILED, None):
        kernels.compiled = compiled
        try:
            function = make()
            told.append([outcome(function, *arguments), outcome(function, *arguments)])  # the second time it is known
        finally:
            kernels.compiled = before
    return told


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (PerdureError, struct.error, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        return type(error), str(error)


def make_encoder():
    return encoder(KEY, compress=True)


def make_decoder():
    return decoder(KEY)


def resealed(body: bytes) -> bytes:
    """A frame that holds anything, whose checksum and seal are good all the same."""
    body += crc32(body).to_bytes(4, "little")
    return body + KEY.tag(body)


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setattr(kernels, "compiled", COMPILED)


@needs_kernels
def test_the_compiled_part_is_used_where_it_is(compiled, monkeypatch):
    assert kernels.is_compiled()
    assert type(make_encoder()).__name__ == "FrameEncoder"
    assert type(make_decoder()).__name__ == "FrameDecoder"
    monkeypatch.setattr(kernels, "compiled", None)
    assert not kernels.is_compiled()
    assert type(make_encoder()) is type(make_decoder()) is type(make_decoder)


@needs_kernels
@given(DRAFTS, NUMBERS)
def test_frames_are_the_same(draft, revision):
    compiled, plain = both(make_encoder, draft, revision)
    assert compiled == plain
    if isinstance(plain[0], bytes):
        compiled, plain = both(make_decoder, plain[0])
        assert compiled == plain


@needs_kernels
def test_frames_of_every_length_have_the_same_checksum():
    for size in (*range(400), 16_383, 16_384, 60_001):
        draft = Draft("Item.17", 0, 0x28, "shop:Item", 2, "Code.1", (), {}, bytes(place % 251 for place in range(size)))
        compiled, plain = both(make_encoder, draft, 3)
        assert compiled == plain, size


def usual_frame(flags: int, payload: bytes) -> bytes:
    return make_encoder()(Draft("Item.17", 0, flags, "shop:Item", 2, "Code.1", ("A.1", "B.2"), {"x": 1}, payload), 3)


@needs_kernels
@given(
    st.sampled_from([0x28, 0x68, 0x828]), st.integers(0, 120), st.integers(0, 255), st.booleans(), st.integers(0, 60)
)
def test_what_is_wrong_in_a_frame_is_told_the_same(flags, place, byte, cut, less):
    frame = bytearray(usual_frame(flags, SHAPES[1].head + b"\x80\x05]."))
    frame[place % len(frame)] = byte
    mangled = bytes(frame[: len(frame) - less]) if cut else bytes(frame)
    for given_ in (mangled, resealed(mangled[: -TAG_SIZE - 4]), resealed(mangled)):
        compiled, plain = both(make_decoder, given_)
        assert compiled == plain


@needs_kernels
def test_every_length_of_a_cut_frame_is_told_the_same():
    frame = usual_frame(0x68, SHAPES[1].head + b"\x80\x05].")
    for end in range(len(frame)):
        for given_ in (frame[:end], resealed(frame[:end])):
            compiled, plain = both(make_decoder, given_)
            assert compiled == plain, end
    for end in (*range(NARROW_HEAD, 60), 0xFF, 0xFFFF):
        hostile = bytearray(frame)
        hostile[18:28] = end.to_bytes(2, "little") * 5  # lengths that lead past the end, and past all numbers
        compiled, plain = both(make_decoder, resealed(bytes(hostile)))
        assert compiled == plain, end


@needs_kernels
@pytest.mark.parametrize(
    "given_", [b"", bytearray(b"\xb7PD"), memoryview(b"\xb7PD" * 30)], ids=["empty", "array", "view"]
)
def test_other_buffers_are_taken_the_same_way(given_):
    compiled, plain = both(make_decoder, given_)
    assert compiled == plain


@needs_kernels
@pytest.mark.parametrize(
    "given_",
    [(), (None,) * 9, ("I.1", 0, 0, "a:B", 0, "", ["A.1"], {}, b""), ("I.1", 0, 0, "a", 0, "", (1,), {}, b"")],
    ids=["empty", "nothing", "list", "number"],
)
def test_what_is_no_draft_is_told_the_same(given_):
    compiled, plain = both(make_encoder, given_, 1)
    assert compiled == plain


def make_splicer(tells=False):
    def rename(name):
        return name.replace("shop:", "store.parts:") if name != "Long" else "x" * 70_000

    return Splicer(KEY, rename, (b"shop", b"old_shop"), lambda _: tells, make_encoder()).drafts


@needs_kernels
@given(st.lists(DRAFTS, max_size=4), st.booleans(), st.sampled_from([1, 7, 2**32 - 1]))
def test_frames_get_other_class_names_the_same_way(drafts, tells, revision):
    made = [outcome(make_encoder(), draft._replace(class_name="shop:Item"), 3) for draft in drafts]
    frames = [usual_frame(0x28, b"payload"), *(each for each in made if isinstance(each, bytes))]
    compiled, plain = both(lambda: make_splicer(tells), frames, revision)
    assert compiled == plain
    found, _ = plain[0]
    assert type(found[0]) is SplicedDraft
    assert make_decoder()(found[0].payload)[:4] == ("Item.17", revision, 0x28, "store.parts:Item")


@needs_kernels
@given(st.integers(0, 120), st.integers(0, 255), st.integers(0, 60), st.booleans())
def test_what_is_wrong_in_a_frame_is_left_the_same_way(place, byte, less, tells):
    frame = bytearray(usual_frame(0x28, b"payload"))
    frame[place % len(frame)] = byte
    cut = bytes(frame[: len(frame) - less])
    given_ = [bytes(frame), cut, resealed(cut[: -TAG_SIZE - 4]), resealed(cut), cut[:less]]
    for each in given_:
        compiled, plain = both(lambda: make_splicer(tells), [each], 9)
        assert compiled == plain


@needs_kernels
@pytest.mark.parametrize("name", ["", "Long", "other:Item", "shop:Item", "a.shop:Item"])
def test_class_names_that_stay_or_do_not_fit_are_left_the_same_way(name):
    frame = make_encoder()(Draft("Item.17", 0, 0x28, name, 2, "Code.1", (), {}, b"payload"), 3)
    compiled, plain = both(make_splicer, [frame, b"", bytes(30)], 2)
    assert compiled == plain
    compiled, plain = both(make_splicer, [None], 2)
    assert compiled[0][0] is plain[0][0] is TypeError


@needs_kernels
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=600))
def test_seals_are_those_of_hashlib(secret, data):
    assert COMPILED.blake2b(secret, data) == hashlib.blake2b(data, key=secret, digest_size=TAG_SIZE).digest()


@needs_kernels
def test_seals_of_every_length_are_those_of_hashlib():
    data = bytes(range(256)) * 5
    for size in (*range(1, 520), len(data)):
        expected = hashlib.blake2b(data[:size], key=KEY.secret, digest_size=TAG_SIZE).digest()
        assert COMPILED.blake2b(KEY.secret, data[:size]) == expected, size


class Other(Key):
    """A key that seals in its own way."""

    def __init__(self, secret: bytes):
        super().__init__(secret)
        self.fork = hashlib.blake2b(key=secret, digest_size=TAG_SIZE, salt=b"other").copy

    def verifies(self, data: bytes, tag: bytes) -> bool:
        state = self.fork()
        state.update(data)
        return state.digest() == tag


@needs_kernels
def test_a_key_of_another_kind_seals_in_its_own_way():
    other, draft = Other(KEY.secret), Draft("Item.17", 0, 0x28, "shop:Item", 2, "", (), {}, b"payload")
    compiled, plain = both(lambda: encoder(other), draft, 3)
    assert compiled == plain
    assert compiled[0][:-TAG_SIZE] == make_encoder()(draft, 3)[:-TAG_SIZE]
    assert compiled[0] != make_encoder()(draft, 3)
    for key in (other, KEY):
        compiled, plain = both(lambda key=key: decoder(key), compiled[0] if key is other else plain[0])
        assert compiled == plain


ODD_IDS = [
    "Item.7",
    "Item.007",
    "x.1_0",
    "x. 5",
    "x.\u0663",
    "x.",
    ".5",
    "7",
    "x.-1",
    "x.123456789012345678901",
    "\ud800.1",
]


@needs_kernels
@given(st.lists(st.sampled_from(ODD_IDS), max_size=3))
def test_numbers_of_ids_are_the_same(ids):
    compiled, plain = both(lambda: numbers_in, ids)
    assert compiled == plain


@needs_kernels
@given(st.lists(st.integers(0, 10**20), max_size=9))
def test_ids_go_in_the_order_of_their_numbers(numbers):
    ordered = [f"Thing.{number}" for number in sorted(numbers)]
    for told in both(lambda: in_order, [f"Thing.{number}" for number in numbers]):
        assert told == [outcome(lambda: ordered)] * 2


ROWS = [
    (),
    (None,),
    (b"",),
    ("text",),
    (b"x" * 30,),
    (b"x" * 5 + b"\x80" + b"x" * 400,),
    (b"\xff" * 300,),
    (b"a", b"b"),
    [b"a"],
]


@needs_kernels
@given(st.lists(st.integers(0, len(ROWS) + 1), max_size=3))
def test_frames_by_their_ids_are_the_same(places):
    good = [(usual_frame(0x28, b"one"),), (usual_frame(0x28, b"x" * 70_000),)]
    compiled, plain = both(lambda: by_id, [[*ROWS, *good][place] for place in places])
    assert compiled == plain


class Louder(Id):
    """An id of the user's that has its own opinion."""

    def __eq__(self, other: object) -> bool:
        return str(self).lower() == str(other).lower()

    __hash__ = Id.__hash__


def test_ids_are_equal_to_texts_and_have_an_order_of_their_own():
    nine, ten = Id("Item.9"), Id("Item.10")
    text = "Item.9"
    assert (nine == text, text == nine, nine != text, nine == ten, nine != ten) == (True, True, False, False, True)
    assert (nine == 9, nine != 9, nine == b"Item.9", nine == None) == (False, True, False, False)  # noqa: E711
    assert {nine: "found"}["Item.9"] == {"Item.9": "found"}[nine] == "found"
    assert (nine < ten, nine > "Item.10", sorted([ten, nine])) == (True, False, [nine, ten])
    with pytest.raises(TypeError):
        assert nine < 9
    assert Louder("Item.9") == "ITEM.9"
    assert Louder("Item.9") == nine


@needs_kernels
def test_plain_texts_are_texts_of_no_subclass():
    ids = [Id("Item.9"), "Item.10", Louder("Item.ä")]
    assert COMPILED.plain_texts(ids) == ["Item.9", "Item.10", "Item.ä"]
    assert [*map(type, COMPILED.plain_texts(ids))] == [str] * 3
    for wrong in ((), [7], [["Item.9"]]):
        with pytest.raises(TypeError):
            COMPILED.plain_texts(wrong)


RUNS = st.lists(st.integers(0, 40), max_size=20) | st.lists(st.integers(-3, 2**65) | st.just(2**63 - 1), max_size=5)


@needs_kernels
@given(RUNS)
def test_runs_are_told_the_same(numbers):
    before, told = kernels.compiled, []
    for kernels.compiled in (COMPILED, None):
        told.append(runs_of(numbers))
    kernels.compiled = before
    assert told[0] == told[1]
    ordinary = sorted({number for number in numbers if number >= 0})
    assert [*numbers_of(runs_of(ordinary))] == ordinary


@needs_kernels
def test_what_are_no_runs_is_left_to_python():
    for wrong in (None, (1, 2), [], ["1"], [True, 2], [1, 2.0], [2**70], [-1]):
        assert COMPILED.runs_of(wrong) is NotImplemented


@needs_kernels
def test_nothing_leaks(compiled):
    encode, decode = make_encoder(), make_decoder()
    draft = Draft("Item.17", 0, 0x28, "shop:Item", 2, "Code.1", ("A.1", "B.2"), {"x": 1}, b"payload")
    frame = encode(draft, 3)
    damaged = frame[:-1] + b"x"
    splice = make_splicer(tells=True)

    def work(times: int) -> int:
        for _ in range(times):
            outcome(decode, damaged)
            splice([frame, damaged, frame[:30]], 7)
            outcome(splice, [frame, None], 7)
            decode(frame)
            encode(draft, 3)
            outcome(encode, draft._replace(flags=FOREIGN), 3)
        gc.collect()
        return sys.getallocatedblocks()

    before = work(50)
    assert work(1500) - before < 200


def load_hatch_build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def builder(tmp_path, monkeypatch):
    """The build, in a folder of its own; hatchling is not there for the tests."""
    folder = tmp_path / "kernels"
    shutil.copytree(ROOT / "src/perdure/kernels", folder)
    module = load_hatch_build()
    monkeypatch.setattr(module, "KERNELS", folder)
    return module


def test_without_a_compiler_that_is_said_and_nothing_is_left(builder, monkeypatch, capfd):
    monkeypatch.setenv("CC", "no-such-compiler-here")
    assert builder.build() is None
    assert "without its compiled part, so it is slower: no-such-compiler-here cannot be run" in capfd.readouterr().err
    assert [*builder.KERNELS.glob("*.so*")] == []


def test_a_build_that_fails_is_said_and_nothing_is_left(builder, capfd):
    (builder.KERNELS / "broken.c").write_text("this is no C", encoding="utf-8")
    assert builder.build() is None
    assert "failed:\n" in capfd.readouterr().err
    assert [*builder.KERNELS.glob("_compiled*.*[0-9]")] == [*builder.KERNELS.glob("*.so")] == []


def test_who_wants_pure_python_says_so(builder, monkeypatch, capfd):
    monkeypatch.setenv("PERDURE_BUILD", "pure")
    assert builder.build() is None
    assert "it was not asked for" in capfd.readouterr().err


HEADS = [None, b"", b"x" * 30, b"x" * 5 + b"\x80" + b"x" * 400, b"\xff" * 300, usual_frame(0x28, b"one")[:40]]


@needs_kernels
@given(
    st.lists(st.tuples(st.sampled_from([1, -1, 7, None, "1", True]), st.sampled_from(HEADS)), max_size=4),
    st.sampled_from([set(), {"Item.17"}, {"Item.17", ""}, {"other"}]),
)
def test_names_of_classes_by_ids_are_the_same(rows, wanted):
    compiled, plain = both(lambda: lambda given: names_by_id(given, {1: "one", -1: "inner"}, wanted), rows)
    assert compiled == plain


SUBINTERPRETERS = """
import sys
import _interpreters_or_before as interpreters
from perdure import Persistable, Store, kernels, make_store

class Item(Persistable):
    def __init__(self, number):
        self.number = number

def work():
    store = make_store("memory:", code="off")
    items = [Item(number) for number in range(20)]
    ids = store.save_many(items)
    for item in items:
        item.number += 100
    store.save_many(items)
    return [item.number for item in Store(store.backend, store.key, code="off").load_many(ids)]
"""


@needs_kernels
def test_two_interpreters_of_one_process_do_not_share_what_the_kernels_know(tmp_path):
    name = next(name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name))
    program = SUBINTERPRETERS.replace("_interpreters_or_before", name)
    begun = "path = " + repr([str(ROOT / "src"), *sys.path]) + "\nimport sys; sys.path[:] = path\n"
    script = f"{program}\nfirst = kernels.built\nassert work() == [*range(100, 120)]\n"
    script += f"inner = interpreters.create()\ninterpreters.run_string(inner, {begun + program!r} + 'work()')\n"
    script += "assert work() == [*range(100, 120)]\ninterpreters.destroy(inner)\nassert work() == [*range(100, 120)]\n"
    script += "print(first is not None)"
    path = tmp_path / "script.py"
    path.write_text(begun + script, encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr
