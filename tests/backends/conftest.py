"""A store on each kind of server, whose tables are gone after the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from served import Proxy, Server
from servers import KINDS, drop_tables, table_of

from perdure.backends.server.backend import ServerBackend


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path) -> Iterator[Server]:
    server = Server(request.param, table_of(tmp_path))
    yield server
    for backend in server.opened:
        backend.close()
    drop_tables(server.kind, {server.name})


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def backend(server: Server) -> ServerBackend:
    return server.open()
