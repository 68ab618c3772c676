"""No call waits much longer than `timeout`, whoever is silent or in the way on a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from served import Proxy, Server
from servers import engine_at

from perdure.backends.server import mysql, postgresql
from perdure.backends.server.backend import ServerBackend
from perdure.errors import ConnectionLost, OutcomeUnknown, PerdureError, StoreBusy
from perdure.testing.backend_drafts import commit, draft, payloads


@pytest.fixture(autouse=True)
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mysql, postgresql):
        monkeypatch.setattr(module, "GRACE", 1.0)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def test_a_table_that_another_session_has_locked_is_waited_for_no_longer_than_the_time_out(server: Server) -> None:
    backend = server.open(timeout=1)
    commit(backend, draft("Item.1"))
    lock = {
        "postgresql": "BEGIN; LOCK TABLE NAME, NAME_meta IN ACCESS EXCLUSIVE MODE",
        "mysql": "LOCK TABLES NAME WRITE, NAME_meta WRITE",  # as a dump takes it
    }[server.kind]
    with engine_at(server.url).connect() as connection:
        connection.exec_driver_sql(lock.replace("NAME", server.name))
        for call in (lambda: commit(backend, draft("Item.2"), seen=1), lambda: backend.read(["Item.1"])):
            with within(8), pytest.raises(StoreBusy, match="kept locked by others"):
                call()
        connection.exec_driver_sql("ROLLBACK" if server.kind == "postgresql" else "UNLOCK TABLES")
    assert commit(backend, draft("Item.2"), seen=1).revision == 2


def test_a_connection_that_fell_silent_is_replaced(server: Server, proxy: Proxy) -> None:
    backend = server.open(url=proxy.url, timeout=1)
    commit(backend, draft("Item.1", b"pen"))
    commit(backend, draft("Item.2"), seen=1)
    for call in (lambda: backend.read(["Item.1"]), lambda: commit(backend, draft("Item.3"), seen=2)):
        with within(12), speaking_again(proxy, after=1.5):
            call()
    assert payloads(backend.read(["Item.1"])) == {"Item.1": b"pen"}
    assert backend.revision() == 3


@contextmanager
def speaking_again(proxy: Proxy, after: float) -> Iterator[None]:
    """What the server says is swallowed at first; connections that are made later are sound."""
    proxy.is_silent = True

    def speak() -> None:
        proxy.is_silent = False

    timer = threading.Timer(after, speak)
    timer.start()
    yield
    timer.join()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda backend: backend.read(["Item.1"]), ConnectionLost),
        (lambda backend: backend.reserve(1), ConnectionLost),
        (lambda backend: commit(backend, draft("Item.3"), seen=2), OutcomeUnknown),
    ],
)
def test_a_silent_server_is_told(
    server: Server, proxy: Proxy, call: Callable[[ServerBackend], object], error: type[PerdureError]
) -> None:
    backend = server.open(url=proxy.url, timeout=1)
    commit(backend, draft("Item.1"))
    commit(backend, draft("Item.2"), seen=1)
    proxy.is_silent = True
    with within(20), pytest.raises(error) as caught:
        call(backend)
    assert caught.value.hint


def test_a_server_that_is_gone_for_a_while_is_worth_another_try(server: Server, proxy: Proxy) -> None:
    backend = server.open(url=proxy.url, timeout=2)
    commit(backend, draft("Item.1"))
    proxy.is_closed = True
    proxy.break_all()
    with pytest.raises(ConnectionLost) as caught:
        backend.read(["Item.1"])
    assert caught.value.retryable
    proxy.is_closed = False
    assert set(backend.read(["Item.1"])) == {"Item.1"}
