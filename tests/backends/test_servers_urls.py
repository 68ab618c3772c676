"""What URLs of SQL databases mean, what of them is shown, and what is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import servers

import perdure
from perdure import make_store
from perdure.backends import urls
from perdure.backends.urls import split_table, without_password
from perdure.errors import DriverMissing, InvalidArgument, StoreNotFound, UnknownScheme


@pytest.mark.parametrize(
    ("url", "argument", "expected"),
    [
        ("mysql://h/d", None, ("mysql://h/d", None)),
        ("mysql://h/d", "jobs", ("mysql://h/d", "jobs")),
        ("mysql://h/d?table=jobs", None, ("mysql://h/d", "jobs")),
        ("mysql://h/d?a=1&table=jobs&b=2", None, ("mysql://h/d?a=1&b=2", "jobs")),
        ("mysql://h/d#table=jobs", None, ("mysql://h/d", "jobs")),
        ("mysql://h/d?table=jobs#table=jobs", "jobs", ("mysql://h/d", "jobs")),
        ("sqlite:///a#b.db", None, ("sqlite:///a#b.db", None)),
        ("sqlite:///a#b.db#table=jobs", None, ("sqlite:///a#b.db", "jobs")),
        ("mysql://u:p#x=1@h/d", None, ("mysql://u:p#x=1@h/d", None)),
    ],
)
def test_the_table_of_a_url(url, argument, expected):
    assert split_table(url, argument) == expected


@pytest.mark.parametrize(
    ("url", "argument", "said"),
    [
        ("mysql://h/d#tabel=jobs", None, "#tabel=jobs"),
        ("mysql://h/d#jobs", "jobs", "#jobs"),
        ("postgresql://u:p#x=1@h/d#jobs", None, "#jobs"),
        ("sqlite:///a.db#tabel=jobs", None, "#tabel=jobs"),
        ("mysql://h/d?table=first#table=second", None, "'first', 'second'"),
        ("mysql://h/d#table=first&table=second", None, "'first', 'second'"),
        ("mysql://h/d?a=1#table=fragment", "argument", "'fragment', 'argument'"),
    ],
)
def test_a_url_that_names_no_table_or_several_is_refused(url, argument, said):
    with pytest.raises(UnknownScheme) as caught:
        split_table(url, argument)
    assert said in caught.value.message
    assert "p#x" not in str(caught.value)


def test_a_url_shows_the_table_that_an_argument_names(tmp_path):
    with perdure.make_store(f"sqlite:///{tmp_path}/a.db", table_name="jobs") as store:
        assert store.url == f"sqlite:///{tmp_path}/a.db#table=jobs"
    with perdure.make_store(store.url, create=False) as again:
        assert again.table_name == "jobs"
        assert again.url == store.url


@pytest.mark.parametrize("timeout", ["x", -1, float("nan"), True, None])
@pytest.mark.parametrize("place", ["a.db", "folder"])
def test_a_timeout_is_a_number_of_seconds(tmp_path, place, timeout):
    url = f"sqlite:///{tmp_path}/{place}" if place == "a.db" else str(tmp_path / place)
    with pytest.raises(InvalidArgument, match="timeout"):
        perdure.make_store(url, timeout=timeout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "option", "named"),
    [
        ("mysql", "connect_timeout=abc", "abc"),
        ("mysql", "conv=1", "items"),
        ("mysql", "nosuch=1", "nosuch"),
        ("mysql", "read_timeout=-1", "read_timeout"),
        ("postgresql", "cursor_factory=x", "callable"),
        ("postgresql", "sslmode=bogus", "bogus"),
        ("postgresql", "nosuch=1", "nosuch"),
        ("postgresql", "connect_timeout=abc", "abc"),
        ("postgresql", "port=99999", "99999"),
        ("postgresql", "keepalives=x", "keepalives"),
    ],
)
def test_an_option_that_a_driver_does_not_take_is_named(kind, option, named):
    url = servers.url_of(kind)
    with pytest.raises(InvalidArgument, match=named) as caught:
        make_store(url + ("&" if "?" in url else "?") + option, create=False)
    assert "after the ?" in caught.value.hint


def test_a_schema_that_is_not_there_is_named():
    url = servers.url_of("postgresql")
    option = "options=-csearch_path%3Dnosuch"
    with pytest.raises(StoreNotFound, match="no schema") as caught:
        make_store(url + ("&" if "?" in url else "?") + option)
    assert "search_path" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "said", "hint"),
    [
        ("sqlite:///{}/s.db?mode=ro", "'mode'", "read_only=True"),
        ("sqlite:///{}/s.db?tabel=shop", "'tabel'", "mistyped"),
        ("sqlite:///{}/s.db?timeout=1#table=shop", "'timeout'", "timeout=SECONDS"),
        ("file://{}/s?table=shop", "'table'", "SQL database"),
        ("file://{}/s#table=shop", "'table'", "SQL database"),
        ("memory:?table=shop", "'table'", "SQL database"),
        ("memory://x/y", "more than memory", "nothing else"),
    ],
)
def test_what_a_url_says_and_nobody_understands_is_refused(tmp_path, url, said, hint):
    with pytest.raises(UnknownScheme, match=said) as caught:
        make_store(url.format(tmp_path))
    assert hint in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_of_a_driver_is_named():
    with pytest.raises(InvalidArgument, match="nosuch"):
        perdure.make_store("mysql://nobody:geheim@127.0.0.1:1/d?nosuch=1")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://ann@h/d", "postgresql://ann@h/d"),
        ("postgresql://ann:geheim@h:1/d", "postgresql://ann:***@h:1/d"),
        ("postgresql://ann:ge@he/im@h/d", "postgresql://ann:***@h/d"),
        ("mysql://ann:@h/d", "mysql://ann:***@h/d"),
        ("mysql://h/d?password=geheim&a=1", "mysql://h/d?password=***&a=1"),
        ("mysql://h/d?a=1&ssl_key_passphrase=geheim#table=t", "mysql://h/d?a=1&ssl_key_passphrase=***#table=t"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
    ],
)
def test_no_password_is_shown(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql+psycopg2://ann:geheim@h/d", "psycopg2"),
        ("mysql+nosuch://ann:geheim@h/d", "nosuch"),
        ("postgresql://ann:geheim@more@h/d", "two @"),
        ("mysql://ann:geheim@h", "names no database"),
        ("postgresql:", "names no database"),
        ("mysql:x", "names no database"),
        ("mysql://ann:geheim@h:99999/d", "a port above 65535"),
        ("postgresql://ann:geheim@h:99999/d", "a port above 65535"),
        ("mysql://ann:geheim@h:port/d", "cannot be read"),
        ("mysql://ann:geheim@h/d#table=a-b", "'a-b' cannot be the name"),
        ("mysql://ann:geheim@h/d?table=1a", "'1a' cannot be the name"),
        ("mysql://ann:geheim@h/d?table=", "'' cannot be the name"),
    ],
)
def test_urls_that_mean_no_database(url, named):
    with pytest.raises(UnknownScheme, match=named) as caught:
        make_store(url)
    assert "geheim" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "url", ["postgresql://h/d", "postgresql+psycopg://h/d", "mysql://h/d", "mariadb+mysqldb://h/d"]
)
def test_a_driver_that_is_missing_is_named(monkeypatch, url):
    extra = "postgresql" if url.startswith("postgresql") else "mysql"
    monkeypatch.setattr(urls, "find_spec", lambda name: None if name != "sqlalchemy" else object())
    with pytest.raises(DriverMissing, match=rf"pip install 'perdure\[{extra}\]'") as caught:
        make_store(url)
    assert isinstance(caught.value, ImportError)
    monkeypatch.setattr(urls, "find_spec", lambda name: None)
    with pytest.raises(DriverMissing, match="'sqlalchemy'"):
        make_store(url)


def test_nothing_is_imported_without_need(tmp_path):
    program = (
        "import sys, perdure; perdure.make_store('sqlite:///s.db').close();"
        " foreign = 'sqlalchemy', 'psycopg', 'pymysql', 'perdure.backends.server.backend', 'socket', 'tomllib',"
        " 'difflib', 'asyncio', 'numpy', 'cryptography', 'perdure.flows', 'perdure.prevalence', 'perdure.upkeep',"
        " 'perdure.backends.filesystem.backend';"
        " sys.exit(str([each for each in sys.modules if each.startswith(foreign)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
