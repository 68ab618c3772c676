"""Open files in a state: reopened by name, mode and position, for who enables it."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile

import pytest

import perdure
from perdure import CannotPickle, CannotResolve, Persistable, UnknownTag
from perdure.outside import open_files
from perdure.pickling import outside


class Reader(Persistable):
    def __init__(self, file):
        self.file = file


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes("erste\nzweite\ndritte Zeile, ä\n".encode())
    return path


@pytest.fixture
def enabled(registrations):
    open_files()


def again(file):
    """The file as it is after a save and a load; the first one is closed."""
    data = perdure.dumps({"file": file})
    file.close()
    return perdure.loads(data)["file"]


def test_by_default_it_cannot_be_pickled(path):
    with perdure.make_store("memory:") as store, open(path) as file:
        with pytest.raises(CannotPickle, match="Keep the file's name") as caught:
            store.save(Reader({"log": file}))
        assert caught.value.path.endswith(" → .file['log']")


@pytest.mark.parametrize(
    ("mode", "buffering", "cls"),
    [
        ("r", -1, io.TextIOWrapper),
        ("w", -1, io.TextIOWrapper),
        ("a", 1, io.TextIOWrapper),
        ("r+", -1, io.TextIOWrapper),
        ("w+", -1, io.TextIOWrapper),
        ("rb", -1, io.BufferedReader),
        ("wb", -1, io.BufferedWriter),
        ("ab", -1, io.BufferedWriter),
        ("r+b", -1, io.BufferedRandom),
        ("w+b", -1, io.BufferedRandom),
        ("a+b", -1, io.BufferedRandom),
        ("rb", 0, io.FileIO),
        ("wb", 0, io.FileIO),
    ],
)
def test_each_kind_goes_on_where_it_was(enabled, path, mode, buffering, cls):
    kind = bytes if "b" in mode else lambda text: text.decode()
    file = open(path, mode, buffering)
    before = b"" if "w" in mode else path.read_bytes()
    if file.writable():
        file.write(kind(b"one\n"))
        file.flush()
        before = path.read_bytes()
    elif cls is io.TextIOWrapper:
        file.readline()
    else:
        file.read(6)
    position = file.tell()
    with again(file) as loaded:
        assert type(loaded) is cls
        assert (loaded.name, loaded.tell()) == (str(path), position)
        assert (loaded.readable(), loaded.writable()) == ("r" in mode or "+" in mode, mode[0] in "wa" or "+" in mode)
        assert path.read_bytes() == before  # nothing was emptied
        if loaded.writable():
            loaded.write(kind(b"two\n"))
            loaded.flush()
            if "a" in mode:
                assert path.read_bytes() == before + b"two\n"
            else:
                assert path.read_bytes()[position:].startswith(b"two\n")
        else:
            assert loaded.readline() == kind(b"zweite\n")


def test_a_new_file_is_not_made_again(enabled, tmp_path):
    with again(open(tmp_path / "new", "x")) as loaded:
        loaded.write("text")
    assert (tmp_path / "new").read_text() == "text"


def test_encoding_errors_and_line_buffering_are_kept(enabled, path):
    with again(open(path, "w", 1, encoding="utf-16", errors="backslashreplace")) as loaded:
        assert (loaded.encoding, loaded.errors, loaded.line_buffering) == ("utf-16", "backslashreplace", True)
        loaded.write("ä\n")
    assert path.read_text(encoding="utf-16") == "ä\n"


def test_a_position_inside_a_stateful_encoding(enabled, tmp_path):
    path = tmp_path / "utf7"
    path.write_bytes("äöü€ äöü€\n".encode("utf-7"))
    file = open(path, encoding="utf-7")
    assert file.read(2) == "äö"
    with again(file) as loaded:
        assert loaded.read() == "ü€ äöü€\n"


def test_what_is_in_the_buffer_is_written_out(enabled, path):
    file = open(path, "w")
    file.write("not flushed")
    with again(file) as loaded:
        assert path.read_text() == "not flushed"
        assert loaded.tell() == 11


def test_one_file_twice_is_one_and_two_are_two(enabled, path):
    with open(path) as one, open(path) as two:
        data = perdure.dumps([one, one, two])
    first, same, other = perdure.loads(data)
    with first, other:
        assert first is same
        assert first is not other
        first.readline()
        assert other.tell() == 0


def test_in_a_store(enabled, path, tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    with perdure.make_store(url) as store, open(path) as file:
        reader = Reader(file)
        file.readline()
        id = store.save(reader)
    with perdure.make_store(url) as store:
        reader = store.load(id)
        with reader.file as file:
            with store.transaction():
                reader.file
            assert len(store.transactions()) == 1
            assert file.readline() == "zweite\n"
            with store.transaction():
                reader.file  # it stands elsewhere now
            assert len(store.transactions()) == 2
    with perdure.make_store(url) as store, store.load(id).file as file:
        assert file.readline() == "dritte Zeile, ä\n"


def test_who_has_not_enabled_it_does_not_get_it(enabled, path):
    with open(path) as file:
        data = perdure.dumps([file])
    before = dict(outside._by_tag)
    del outside._by_tag["perdure.TextIOWrapper"]
    with pytest.raises(UnknownTag, match="open_files") as caught:
        perdure.loads(data)
    outside._by_tag.update(before)
    assert caught.value.path == "list → [0]"


# -- what cannot be stored, and what is not there any more ------------------------------------------------------


def unnamed(tmp_path):
    return tempfile.TemporaryFile(dir=tmp_path)


def closed(tmp_path):
    with open(tmp_path / "closed", "w") as file:
        pass
    return file


def removed(tmp_path):
    file = open(tmp_path / "removed", "w")
    (tmp_path / "removed").unlink()
    return file


def replaced(tmp_path):
    file = open(tmp_path / "replaced", "w")
    (tmp_path / "replaced").unlink()
    (tmp_path / "replaced").touch()
    return file


def iterated(tmp_path):
    (tmp_path / "iterated").write_text("a\nb\n")
    file = open(tmp_path / "iterated")
    next(file)
    return file


def compressed(tmp_path):
    return gzip.open(tmp_path / "compressed", "wt")


def in_memory(tmp_path):
    return io.TextIOWrapper(io.BytesIO())


def a_pipe(tmp_path):
    reading, writing = os.pipe()
    os.close(writing)
    return open(reading)


def a_fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return open(os.open(tmp_path / "fifo", os.O_RDWR | os.O_NONBLOCK), "rb", 0, opener=None)


class OwnFile(io.FileIO):
    pass


def of_an_own_class(tmp_path):
    return OwnFile(tmp_path / "own", "w")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (unnamed, "without a name"),
        (closed, "the file is closed"),
        (removed, "does not lead to it"),
        (replaced, "does not lead to it"),
        (iterated, "telling position disabled"),
        (compressed, "stands on a GzipFile"),
        (in_memory, "stands on a BytesIO"),
        (a_pipe, "without a name"),
        (a_fifo, "without a name"),
        (of_an_own_class, "it is a OwnFile"),
    ],
)
def test_what_cannot_be_found_again(enabled, tmp_path, make, told):
    file = make(tmp_path)
    try:
        with pytest.raises(CannotPickle, match=told) as caught:
            perdure.dumps({"file": [file]})
        assert caught.value.path == "dict → ['file'][0]"
    finally:
        file.close()


def test_standard_streams(enabled):
    with pytest.raises(CannotPickle, match="does not lead to it"):
        perdure.dumps([sys.__stdout__])


def test_what_is_gone_or_shorter(enabled, path):
    with open(path) as file:
        file.read()
        data = perdure.dumps([file])
    path.write_text("short")
    with pytest.raises(CannotResolve, match="5 bytes, and its position was 30: it was shortened"):
        perdure.loads(data)
    path.unlink()
    with pytest.raises(CannotResolve, match="FileNotFoundError") as caught:
        perdure.loads(data)
    assert caught.value.path == "list → [0]"
    assert not path.exists()


def test_other_objects_of_io_are_stored_as_before(enabled):
    loaded = perdure.loads(perdure.dumps([io.BytesIO(b"abc"), io.StringIO("abc")]))
    assert [file.read() for file in loaded] == [b"abc", "abc"]
