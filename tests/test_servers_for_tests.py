"""A server that is missing is a visible skip on a developer's machine, and a failure in CI."""

from __future__ import annotations

import pytest
import servers


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_found", lambda kind: None)


@pytest.mark.parametrize("kind", servers.KINDS)
def test_without_a_server_a_test_is_skipped_visibly(kind: str, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"no server: neither PERDURE_TEST_{kind.upper()}_URL"):
        servers.url_of(kind)


@pytest.mark.parametrize("kind", servers.KINDS)
def test_without_a_server_a_test_fails_in_ci(kind: str, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"no server: neither PERDURE_TEST_{kind.upper()}_URL"):
        servers.url_of(kind)


def test_a_server_that_does_not_answer_is_none() -> None:
    assert not servers._answers("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    assert not servers._answers("mysql+pymysql://nobody@127.0.0.1:1/nothing")
