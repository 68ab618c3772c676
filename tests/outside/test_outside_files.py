"""Files by path and content: the content stays outside, and is known again."""

from __future__ import annotations

import copy
import hashlib
import os

import pytest

import perdure
from perdure import CannotResolve, FileChanged, Persistable
from perdure.outside import File


class Survey(Persistable):
    def __init__(self, data):
        self.data = data


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\r\n1,2\r\n" * 1000)
    return path


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/a.db"


def stored(url, file, **settings):
    with perdure.make_store(url, **settings) as store:
        return store.save(Survey(file))


def loaded(url, id, **settings):
    with perdure.make_store(url, **settings) as store:
        return store.load(id).data


def test_what_is_known_of_a_file(data):
    file = File(data)
    content = data.read_bytes()
    assert (file.path, file.size) == (data, len(content))
    assert file.digest == hashlib.blake2b(content, digest_size=32).hexdigest()
    assert repr(file) == f"<File {str(data)!r}, 10000 bytes, {file.digest[:12]}…>"


def test_the_content_stays_outside(url, data, tmp_path):
    id = stored(url, {"first": [File(data)]})
    assert (tmp_path / "a.db").stat().st_size < 100_000
    with perdure.make_store(url) as store:
        assert b"1,2" not in store.backend.read([id])[id]
    file = loaded(url, id)["first"][0]
    file.verify()
    with file.open() as binary:
        assert binary.read() == data.read_bytes()
    with file.open("r", encoding="ascii") as text:
        assert text.readline() == "a,b\n"
    assert file == File(data)


def test_a_changed_file_is_told_when_it_is_opened(url, data):
    id = stored(url, File(data))
    data.write_bytes(data.read_bytes().replace(b"1", b"3", 1))
    file = loaded(url, id)
    for look in (file.verify, file.open, lambda: file.open("r")):
        with pytest.raises(FileChanged, match="other content of the same size") as caught:
            look()
    assert (caught.value.tag, caught.value.key) == ("perdure.file", str(data))
    data.write_bytes(b"short")
    with pytest.raises(FileChanged, match="5 bytes instead of 10000"):
        file.verify()
    assert File(data) != file


def test_a_file_that_is_gone_is_told_when_it_is_opened(url, data):
    id = stored(url, File(data))
    data.unlink()
    file = loaded(url, id)
    with pytest.raises(CannotResolve, match=r"data\.csv cannot be read") as caught:
        file.open()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert not isinstance(caught.value, FileChanged)
    os.mkfifo(data)
    with pytest.raises(CannotResolve, match="no regular file"):
        file.verify()


def test_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", os.devnull, "a\0b"):
        with pytest.raises(CannotResolve, match="cannot be read"):
            File(path)
    for wrong in ("", b"path", 1):
        with pytest.raises(TypeError):
            File(wrong)


def test_a_relative_path_is_looked_up_in_the_folder_that_is_given(url, data, tmp_path, monkeypatch):
    id = stored(url, File("data.csv", tmp_path))
    moved = tmp_path / "moved"
    moved.mkdir()
    data.rename(moved / "data.csv")
    loaded(url, id, resources={"files": moved}).verify()
    assert loaded(url, id, resources={"files": str(moved)}).path == moved / "data.csv"
    with pytest.raises(CannotResolve):
        loaded(url, id, resources={"files": tmp_path}).verify()
    monkeypatch.chdir(moved)
    loaded(url, id).verify()


@pytest.mark.parametrize("mode", ["w", "wb", "a", "r+", "x", ""])
def test_it_is_only_read(data, mode):
    with pytest.raises(ValueError, match="only read"):
        File(data).open(mode)
    assert data.stat().st_size == 10000


def test_a_wrong_encoding_leaves_nothing_open(data):
    with pytest.raises(LookupError):
        File(data).open("r", encoding="no such encoding")  # a file left open would be a warning, and that an error


def test_an_empty_file_and_a_strange_name(url, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff \n name")
    path.touch()
    id = stored(url, File(path))
    file = loaded(url, id)
    file.verify()
    assert (file.size, file.path) == (0, path)


def test_files_are_values(url, data):
    file = File(data)
    assert copy.deepcopy([file])[0] is copy.copy(file) is file
    assert {File(data): 1}[file] == 1
    id = stored(url, {file})
    with perdure.make_store(url) as store:
        with store.transaction():
            assert file in store.load(id).data
        with store.transaction():
            store.load(id).data = {File(data)}
        assert len(store.transactions()) == 1


def test_the_file_that_is_verified_is_the_one_that_is_read(data):
    file = File(data)
    with file.open() as opened:
        data.unlink()
        data.write_bytes(b"another file in its place")
        assert opened.read(3) == b"a,b"
