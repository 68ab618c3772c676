"""What `make_store` says of URLs that mean no store."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import make_store
from perdure.errors import UnknownScheme


@pytest.mark.parametrize("url", ["", " ", "\n"])
def test_an_empty_url_makes_no_store(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownScheme, match=r"is empty.*PERDURE_STORE"):
        make_store(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("wrong", "named"), [(None, "NoneType: None"), (5, "int: 5"), (b"a", "bytes: b'a'")])
def test_what_is_no_text_makes_no_store(tmp_path, monkeypatch, wrong, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=f"^A store is named by a URL or the path of a directory, not by {named}$"):
        make_store(wrong)
    assert list(tmp_path.iterdir()) == []


def test_the_working_directory_may_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_store(Path()).close()
    assert (tmp_path / ".perdure").is_dir()
