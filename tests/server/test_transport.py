"""The protocol passes the transport to the application, and reports a response that was not read."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from hobbyhorse.server.socket_faults import TRANSPORT, connection
from hobbyhorse.server.transport import OpenProtocol
from hobbyhorse.worlds.journal import Handover

pytestmark = pytest.mark.anyio


class Transport(asyncio.Transport):
    """A transport that keeps the bytes that are written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def protocol(scopes: list[Scope]) -> tuple[OpenProtocol, Transport]:
    """Return a connected protocol with an application that keeps its scopes, and its transport."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, log_config=None, lifespan="off")
    config.load()
    found = OpenProtocol(config, uvicorn.server.ServerState(), {}, asyncio.get_running_loop())
    transport = Transport()
    found.connection_made(transport)
    return found, transport


async def request(found: OpenProtocol, scopes: list[Scope]) -> None:
    """Feed one request, and let the application respond."""
    count = len(scopes)
    found.data_received(b"GET / HTTP/1.1\r\nHost: mock.test\r\n\r\n")
    for _ in range(10):  # turns of the event loop; the application never waits for anything else
        await asyncio.sleep(0)
    assert len(scopes) == count + 1


async def test_each_scope_has_the_transport_of_its_connection() -> None:
    scopes: list[Scope] = []
    found, transport = protocol(scopes)
    await request(found, scopes)
    assert scopes[0]["extensions"][TRANSPORT] is transport
    assert connection(scopes[0]) is transport
    assert transport.written.startswith(b"HTTP/1.1 204")
    found.connection_lost(None)


@pytest.mark.parametrize(
    ("error", "delivered"), [(ConnectionResetError(), False), (None, True)], ids=["reset", "closed"]
)
async def test_a_reset_after_the_response_means_that_it_was_not_read(error: Exception | None, delivered: bool) -> None:
    scopes: list[Scope] = []
    found, _ = protocol(scopes)
    await request(found, scopes)
    handover = Handover(1.0)
    handover.done(2.0)
    found.unread = handover
    found.connection_lost(error)
    assert handover.whole is delivered


async def test_the_next_request_on_a_connection_proves_that_the_response_before_it_was_read() -> None:
    scopes: list[Scope] = []
    found, _ = protocol(scopes)
    await request(found, scopes)
    handover = Handover(1.0)
    handover.done(2.0)
    found.unread = handover
    await request(found, scopes)
    found.connection_lost(ConnectionResetError())
    assert handover.whole


def test_a_close_with_unread_data_is_a_reset_for_the_peer() -> None:
    """The premise of `connection_lost`, on a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with server:
            server.sendall(b"a response that nobody reads")
            assert select.select([client], [], [], 30)[0], "the data has arrived"
            client.close()
            with pytest.raises(ConnectionResetError):
                server.recv(1)
