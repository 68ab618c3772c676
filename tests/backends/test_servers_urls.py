"""What URLs of SQL databases mean, what of them is shown, and what is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perdure import make_store
from perdure.backends import urls
from perdure.backends.urls import split_table, without_password
from perdure.errors import DriverMissing, UnknownScheme


@pytest.mark.parametrize(
    ("url", "argument", "expected"),
    [
        ("mysql://h/d", None, ("mysql://h/d", None)),
        ("mysql://h/d", "jobs", ("mysql://h/d", "jobs")),
        ("mysql://h/d?table=jobs", None, ("mysql://h/d", "jobs")),
        ("mysql://h/d?a=1&table=jobs&b=2", None, ("mysql://h/d?a=1&b=2", "jobs")),
        ("mysql://h/d#table=jobs", None, ("mysql://h/d", "jobs")),
        ("mysql://h/d?table=first#table=second", None, ("mysql://h/d", "second")),
        ("mysql://h/d#table=first&table=second", None, ("mysql://h/d", "second")),
        ("mysql://h/d?a=1#table=fragment", "argument", ("mysql://h/d?a=1", "argument")),
        ("sqlite:///a#b.db", None, ("sqlite:///a#b.db", None)),
        ("sqlite:///a#b.db#table=jobs", None, ("sqlite:///a#b.db", "jobs")),
        ("mysql://u:p#x=1@h/d", None, ("mysql://u:p#x=1@h/d", None)),
    ],
)
def test_the_table_of_a_url(url, argument, expected):
    assert split_table(url, argument) == expected


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


def test_nothing_for_servers_is_imported_without_need(tmp_path):
    program = (
        "import sys, perdure; perdure.make_store('sqlite:///s.db').close();"
        " foreign = 'sqlalchemy', 'psycopg', 'pymysql', 'perdure.backends.server';"
        " sys.exit(str([each for each in sys.modules if each.startswith(foreign)]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
