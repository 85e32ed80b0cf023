"""The protocol passes the transport on, bounds requests, and reports a response that was not read."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from hobbyhorse.server import transport as module
from hobbyhorse.server.run import ServerThread
from hobbyhorse.server.socket_faults import TRANSPORT, connection
from hobbyhorse.server.transport import BODY_SECONDS, HEAD_SECONDS, IDLE_SECONDS, MOST_HEAD_BYTES, OpenProtocol
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


HEAD = b"GET /hiapi HTTP/1.1\r\nHost: mock.test\r\n"
UPGRADE = HEAD + b"Connection: Upgrade, Close\r\nUpgrade: %b\r\nSec-WebSocket-Version: 13\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: mock.test\r\nTransfer-Encoding: chunked\r\n\r\n"


async def lifespan(receive: Receive, send: Send) -> None:
    for part in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{part}.complete"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, then respond."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture
def server() -> Iterator[ServerThread]:
    found = ServerThread(echo)
    try:
        yield found
    finally:
        found.stop()


def connect(server: ServerThread) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), 30)


def rest(line: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    found = b""
    try:
        while part := line.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def flood(line: socket.socket, piece: bytes, most: int = 1 << 20) -> int:
    """Send a piece again and again; return the bytes that could be sent until the server closed the connection."""
    sent = 0
    try:
        while sent < most and not select.select([line], [], [], 0)[0]:
            sent += line.send(piece)
    except OSError:
        pass
    return sent


def filled(size: int) -> bytes:
    """Return a complete head of an exact size."""
    return HEAD + b"X: " + b"a" * (size - len(HEAD) - len(b"X: \r\n\r\n")) + b"\r\n\r\n"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("size", "status"), [(MOST_HEAD_BYTES, b"204"), (MOST_HEAD_BYTES + 1, b"431")])
def test_a_head_may_have_64_kib_and_not_one_byte_more(
    size: int, status: bytes, at_once: bool, server: ServerThread
) -> None:
    head = filled(size)
    assert len(head) == size
    with connect(server) as line:
        for part in (head,) if at_once else (head[:1000], head[1000:60_000], head[60_000:]):
            line.sendall(part)
            if not at_once:
                time.sleep(0.02)
        assert line.recv(4096).split()[1] == status


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"GET /", id="a URL"),
        pytest.param(b"G", id="a method"),
        pytest.param(HEAD + b"X-Long: ", id="a header line"),
        pytest.param(HEAD + b"X", id="a header name"),
        pytest.param(CHUNKED + b"1;", id="a chunk extension"),
        pytest.param(CHUNKED + b"1\r\na\r\n0\r\nX: ", id="a trailer"),
    ],
)
def test_an_endless_line_is_not_read_to_its_end(start: bytes, server: ServerThread) -> None:
    with connect(server) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        line.sendall(start)
        sent = flood(line, b"a" * 4096, most=64 << 20)
        assert sent < 32 << 20, "beyond the bound there are only the buffers of the sockets"
        rest(line)


@pytest.mark.parametrize("line", [b"a: b\r\n", b"\r\n0000001\r\na"])
def test_endless_short_lines_are_bounded_too(line: bytes, server: ServerThread) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD if line.startswith(b"a") else CHUNKED + b"0")
        assert flood(connection, line * 1000, most=64 << 20) < 32 << 20
        rest(connection)


def test_a_long_body_in_tiny_chunks_is_no_long_head(server: ServerThread) -> None:
    with connect(server) as line:
        line.sendall(CHUNKED)
        for _ in range(20):
            line.sendall(b"1;x=yyyyyyyyyyyyyyyy\r\na\r\n" * 1000)
        line.sendall(b"0\r\nX: end\r\n\r\n")
        assert line.recv(4096).split()[1] == b"204"


def test_500_half_open_heads_are_closed_in_time_while_others_are_served(
    server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HEAD_SECONDS + BODY_SECONDS <= 30
    monkeypatch.setattr("hobbyhorse.server.transport.HEAD_SECONDS", 1.0)
    monkeypatch.setattr("hobbyhorse.server.transport.BODY_SECONDS", 1.0)
    began = time.monotonic()
    lines = [connect(server) for _ in range(500)]
    try:
        for number, line in enumerate(lines):
            line.sendall((HEAD, HEAD + b"\r", b"G", CHUNKED + b"0\r\nX: ")[number % 4])
        with connect(server) as other:
            asked = time.monotonic()
            other.sendall(HEAD + b"\r\n")
            assert other.recv(4096).split()[1] == b"204"
            assert time.monotonic() - asked < 1.0
        for number, line in enumerate(lines):
            # In the middle of a body, the client has its response, or none: it gets no second one.
            assert rest(line)[:12] in ((b"",) if number % 4 == 3 else (b"HTTP/1.1 408",))
        assert 1.0 <= time.monotonic() - began < 10
    finally:
        for line in lines:
            line.close()


def test_bytes_that_come_now_and_then_give_a_head_no_more_time(
    server: ServerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.server.transport.HEAD_SECONDS", 0.5)
    with connect(server) as line:
        line.sendall(HEAD)
        began = time.monotonic()
        while not select.select([line], [], [], 0.1)[0]:
            line.sendall(b"a: b\r\n")
        assert 0.4 <= time.monotonic() - began < 5


def test_a_body_that_stops_ends_and_a_slow_one_does_not(server: ServerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.server.transport.BODY_SECONDS", 0.6)
    head = b"POST / HTTP/1.1\r\nHost: mock.test\r\nContent-Length: 8\r\n\r\n"
    with connect(server) as line:
        line.sendall(head)
        for _ in range(8):
            time.sleep(0.2)
            line.sendall(b"a")
        assert line.recv(4096).split()[1] == b"204"
        line.sendall(head + b"aaa")
        assert rest(line) == b""


def test_the_time_of_a_body_stands_while_the_server_does_not_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hobbyhorse.server.transport.BODY_SECONDS", 0.2)

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.0 if scope["type"] == "http" else 0.0)
        await echo(scope, receive, send)

    server = ServerThread(late)
    try:
        with connect(server) as line:
            size = 4 << 20
            line.sendall(b"POST / HTTP/1.1\r\nHost: mock.test\r\nContent-Length: %d\r\n\r\n" % size)
            line.sendall(bytes(size))
            assert line.recv(4096).split()[1] == b"204"
    finally:
        server.stop()


@pytest.mark.parametrize("used", [False, True])
def test_an_idle_connection_is_closed_after_the_time_that_clients_wait_between_polls(
    used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert IDLE_SECONDS >= 60
    monkeypatch.setattr("hobbyhorse.server.run.IDLE_SECONDS_IN_TESTS", 1)
    server = ServerThread(echo)
    try:
        with connect(server) as line:
            began = time.monotonic()
            if used:
                line.sendall(HEAD + b"\r\n")
                assert line.recv(4096).split()[1] == b"204"
            assert rest(line) == b""
            assert 0.9 <= time.monotonic() - began < 10
    finally:
        server.stop()


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_a_request_for_an_upgrade_is_served_as_the_request_that_it_is(
    protocol: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As if a library for WebSockets were installed.
    monkeypatch.setattr("uvicorn.protocols.websockets.auto.AutoWebSocketsProtocol", object)
    server, logger = ServerThread(echo), logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    try:
        with connect(server) as line:
            line.sendall(UPGRADE % protocol)
            assert line.recv(65_536).split()[1] == b"204"
    finally:
        server.stop()
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


class Unread(Transport):
    """A transport whose client has left some bytes."""

    left, aborted = 0, False

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("sizes", "aborted"), [([9, 9], True), ([9, 8, 7], False), ([9, 8, 8], True), ([0, 0], False), ([9, 10], False)]
)
async def test_a_client_that_takes_nothing_between_two_looks_is_dropped(sizes: list[int], aborted: bool) -> None:
    found, transport, handover = protocol([])[0], Unread(), Handover(1.0)
    found.connection_made(transport)
    handover.done(2.0)
    found.unread = handover
    for transport.left in sizes:
        found.drop_unread()
    assert (transport.aborted, handover.whole) == (aborted, not aborted)
    found.connection_lost(None)


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_a_response_that_nobody_reads_holds_no_connection_for_ever(
    more: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hobbyhorse.server.run.IDLE_SECONDS_IN_TESTS", 0.2)

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"50000000")]})
        await send({"type": "http.response.body", "body": bytes(50_000_000)})

    server = ServerThread(large)
    try:
        with connect(server) as line:
            line.sendall(HEAD + more + b"\r\n")
            assert select.select([line], [], [], 30)[0]
            connections = server._server.server_state.connections
            for _ in range(1_000):
                if not connections:
                    break
                time.sleep(0.03)
            assert not connections
    finally:
        server.stop()


def test_beyond_the_limit_of_descriptors_the_connection_that_was_idle_longest_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "most_connections", lambda: 3)
    module._warn_once.cache_clear()
    server, logger = ServerThread(echo), logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    try:
        busy = connect(server)
        busy.sendall(CHUNKED)
        idle: list[socket.socket] = []
        for _ in range(4):
            if len(idle) == 1:
                silent = connect(server)
            idle.append(connect(server))
            idle[-1].sendall(HEAD + b"\r\n")
            assert idle[-1].recv(4096).split()[1] == b"204"
            if len(idle) == 2:
                assert rest(silent) == b"", "it has sent no request"
        assert [rest(line) for line in idle[:2]] == [b""] * 2
        for line in idle[2:]:
            line.sendall(HEAD + b"\r\n")
            assert line.recv(4096).split()[1] == b"204"
        busy.sendall(b"0\r\n\r\n")
        assert busy.recv(4096).split()[1] == b"204", "a request that is open is not ended"
        for line in (busy, silent, *idle):
            line.close()
    finally:
        server.stop()
        logger.removeHandler(caplog.handler)
    (message,) = caplog.messages
    assert "3 connections are open" in message


def test_a_new_connection_is_closed_if_no_other_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "most_connections", lambda: 1)
    server = ServerThread(echo)
    try:
        with connect(server) as busy:
            busy.sendall(CHUNKED)
            while not any(one.cycle for one in server._server.server_state.connections):  # type: ignore[union-attr]
                time.sleep(0.005)
            with connect(server) as line:
                assert rest(line) == b""
            busy.sendall(b"0\r\n\r\n")
            assert busy.recv(4096).split()[1] == b"204"
    finally:
        server.stop()


@pytest.mark.parametrize(("limit", "most"), [(120, 56), (1024, 768), (32, 1), (-1, None)])
def test_a_quarter_of_the_descriptors_is_left_for_files(
    limit: int, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (limit, limit))
    assert module.most_connections.__wrapped__() == most
