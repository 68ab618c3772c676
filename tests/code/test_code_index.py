"""Git's index is read, and the work tree compared with it, the same way by the compiled part and by Python."""

from __future__ import annotations

import gc
import os
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ways import COMPILED, needs_kernels, ways

from perdure.code.index import Index, Tracked, _entries, _parsed, changed_files

NOW = 1_700_000_000


def entry(path: bytes, mode: int = 0o100644, flags: int = 0, more: int | None = None, size: int = 6) -> bytes:
    """An entry of an index; `more` are the flags of version 3."""
    flags |= min(len(path), 0xFFF) | (0 if more is None else 0x4000)
    head = struct.pack(">10I20sH", 1, 2, NOW, 123, 3, 4, mode, 5, 6, size, b"i" * 20, flags)
    made = head + (b"" if more is None else struct.pack(">H", more)) + path
    return made + b"\0" * (8 - len(made) % 8)


def index_of(*entries: bytes, count: int | None = None, rest: bytes = b"") -> bytes:
    head = struct.pack(">4sII", b"DIRC", 3, len(entries) if count is None else count)
    return head + b"".join(entries) + rest + b"s" * 20


USUAL = index_of(
    entry(b"notes.txt"), entry(b"b\xc3\xbcro/a.py", 0o100755), entry(b"\xff", 0o120000),
    entry(b"module", 0o160000), entry(b"meant", more=0x2000), entry(b"beyond", more=0x4000),
    entry(b"staged", flags=0x1000), entry(b"trusted", flags=0x8000),
    rest=b"TREE" + struct.pack(">I", 26) + b"\x000 0\n" + b"t" * 20,
)  # fmt: skip


@needs_kernels
def test_an_index_is_read_the_same():
    compiled, plain = ways(lambda: _parsed(USUAL, 7, 20))
    assert compiled == plain
    assert plain is not None
    assert plain.tree == (b"t" * 20).hex()
    assert {type(each) for each in compiled.files.values()} == {Tracked}
    told = {path: (each.told, each.settled) for path, each in compiled.files.items()}
    assert told["notes.txt"] == told["büro/a.py"] == told[os.fsdecode(b"\xff")] == told["module"] == (True, True)
    assert told["meant"] == told["staged"] == (True, False)
    assert told["beyond"] == told["trusted"] == (False, True)


@needs_kernels
@given(st.integers(0, len(USUAL) - 1), st.integers(0, 255), st.integers(0, len(USUAL)))
def test_a_damaged_index_is_read_the_same(place, byte, length):
    damaged = bytearray(USUAL)
    damaged[place] = byte
    compiled, plain = ways(lambda: _parsed(bytes(damaged[: length or None]), 7, 20))
    assert compiled == plain


@needs_kernels
@pytest.mark.parametrize("count", [0, 1, 2, 3, 2**32 - 1])
def test_an_index_that_counts_wrong_is_read_the_same(count):
    compiled, plain = ways(lambda: _parsed(index_of(entry(b"a"), entry(b"b"), count=count), 7, 20))
    assert compiled == plain


@needs_kernels
def test_a_sparse_index_is_left_to_git():
    compiled, plain = ways(lambda: _parsed(index_of(entry(b"a"), entry(b"folder/", 0o040000)), 7, 20))
    assert compiled is plain is None
    assert ways(lambda: _entries(index_of(entry(b"folder/", 0o040000)), 1, 20)) == [None, None]


@pytest.fixture
def tree(tmp_path):
    """A work tree, with an index that has it as it is."""
    files = {}
    for name in (
        "same",
        "later",
        "longer",
        "other",
        "gone",
        "young",
        "whole",
        "link",
        "meant",
        "beyond",
        "module",
        "plain",
    ):
        path = tmp_path / (name if name == "plain" else f"{name} ü")
        if name == "link":
            path.symlink_to("target")
        else:
            path.write_text("notes\n", encoding="utf-8")
        os.utime(path, ns=(0, NOW * 10**9 + 123), follow_symlinks=False)
        status = os.lstat(path)
        mode = 0o120000 if name == "link" else 0o160000 if name == "module" else 0o100644
        files[path.name] = Tracked(mode, b"i" * 20, status.st_size, NOW, 123, name != "beyond", name != "meant")
    change_all(tmp_path)
    files["whole ü"] = files["whole ü"]._replace(nanoseconds=0)  # a program that writes whole seconds
    return tmp_path, Index(files, (NOW + 10) * 10**9 + 5)


def change_all(root):
    os.utime(root / "later ü", ns=(0, NOW * 10**9 + 124))
    os.utime(root / "whole ü", ns=(0, NOW * 10**9 + 777))
    (root / "longer ü").write_text("notes and notes\n", encoding="utf-8")
    os.utime(root / "longer ü", ns=(0, NOW * 10**9 + 123))
    (root / "other ü").unlink()
    (root / "other ü").mkdir()
    (root / "gone ü").unlink()
    (root / "beyond ü").unlink()
    (root / "module ü").unlink()


@needs_kernels
def test_what_is_not_as_the_index_has_it_is_found_the_same_way(tree):
    root, index = tree
    compiled, plain = ways(lambda: changed_files(str(root), index))
    assert compiled == plain
    assert {path.split()[0] for path in plain} == {"later", "longer", "other", "gone", "meant"}


@needs_kernels
@pytest.mark.parametrize("written", [NOW * 10**9 + 123, NOW * 10**9 + 124, NOW * 10**9 - 1, 0, -1, -(10**10)])
def test_a_file_as_young_as_the_index_is_looked_into(tree, written):
    root, index = tree
    compiled, plain = ways(lambda: changed_files(str(root), index._replace(written=written)))
    assert compiled == plain
    assert ("same ü" in plain) is (written <= NOW * 10**9 + 123)


@needs_kernels
def test_a_name_that_is_no_text_of_this_system_is_looked_for(tmp_path):
    name = os.fsdecode(b"\xff.py")
    (tmp_path / name).write_bytes(b"notes\n")
    os.utime(tmp_path / name, ns=(0, NOW * 10**9))
    files = {name: Tracked(0o100644, b"i" * 20, 6, NOW, 0, True, True)}
    assert ways(lambda: changed_files(str(tmp_path), Index(files, 2 * NOW * 10**9))) == [[], []]


@needs_kernels
def test_what_makes_no_sense_is_refused():
    for place, id_size, kind in ((-1, 20, tuple), (0, 65, tuple), (0, -1, tuple), (0, 20, list)):
        with pytest.raises(ValueError, match="tracked_files"):
            COMPILED.tracked_files(b"", place, 0, id_size, kind)
    for files in (
        {"a": (1, 2)},
        {7: Tracked(1, b"", 2, 3, 4, True, True)},
        {"a": Tracked("x", b"", 2, 3, 4, True, True)},
    ):
        with pytest.raises(TypeError):
            COMPILED.doubtful_files("", files, 1, 2)


@needs_kernels
def test_nothing_leaks(tree):
    root, index = tree
    place = 12

    def work(times: int) -> int:
        for _ in range(times):
            COMPILED.tracked_files(USUAL, place, 8, 20, Tracked)
            COMPILED.tracked_files(USUAL[:200], place, 8, 20, Tracked)
            COMPILED.doubtful_files(str(root), index.files, NOW, 5)
            with pytest.raises(TypeError):
                COMPILED.doubtful_files(str(root), {**index.files, "a": ()}, NOW, 5)
        gc.collect()
        return sys.getallocatedblocks()

    before = work(50)
    assert work(1500) - before < 200
