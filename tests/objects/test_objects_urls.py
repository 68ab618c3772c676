"""What `make_store` says of URLs that mean no store."""

from __future__ import annotations

from pathlib import Path

import pytest
import servers
from sqlalchemy import make_url

from perdure import make_store
from perdure.errors import AccessDenied, UnknownScheme


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


@pytest.mark.parametrize("kind", ["sqlite", *servers.KINDS])
def test_a_url_names_the_table(tmp_path, kind):
    name = servers.table_of(tmp_path)
    url = f"sqlite:///{tmp_path}/s.db" if kind == "sqlite" else servers.url_of(kind)
    try:
        with make_store(f"{url}#table={name}") as store:
            assert store.table_name == name
            assert store.url == f"{url}#table={name}"
            id_ = store.save(["pen"])
        for again in (make_store(f"{url}?table={name}"), make_store(url, table_name=name)):
            assert again.load(id_) == ["pen"]
            again.close()
    finally:
        if kind != "sqlite":
            servers.drop_tables(kind, {name})


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_password_is_not_shown(kind):
    url = make_url(servers.url_of(kind)).set(username="nobody", password="geheim").render_as_string(False)
    with pytest.raises(AccessDenied) as caught:
        make_store(url)
    assert "***" in str(caught.value)
    assert "geheim" not in f"{caught.value} {caught.value!r}"
