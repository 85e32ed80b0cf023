"""HTTP through the gate: absolute form, and faults, which act as they do on a connection to the plain port."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.types import Receive, Scope, Send

from hobbyhorse.clock.clock import RealClock
from hobbyhorse.scenarios.effects import Close, Delay, Drip, Framed, Hold, IdleClose, Reset, Sent, Truncate, WireEffect
from hobbyhorse.server.front.certificates import Certificates
from hobbyhorse.server.socket_faults import ClientConnection, send_with_fault
from hobbyhorse.worlds.journal import Handover
from tests.front import HOST, WAYS, Fronted, fronted, read_all, read_head
from tests.raw_client import PATIENCE
from tests.server.front.test_gate import echo, exchange, seen
from tests.server.test_socket_faults import Faulty

SECURE = ("tls", "connect")
# A response large enough that a client which closes early has left some of it unread.
LARGE = 1 << 20


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Fronted]:
    with fronted(echo, certificates) as found:
        yield found


def ask(server: Fronted, target: str, fields: str = "Host: other.example", method: str = "GET") -> bytes:
    """Send one request to the port of the proxy."""
    head = f"{method} {target} HTTP/1.1\r\n{fields}\r\nConnection: close\r\n\r\n"
    return exchange(server.dial(server.proxy_port), head.encode())


# ---- absolute form


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (f"http://{HOST}/a/b?c=1", "/a/b", "c=1"),
        (f"http://{HOST}", "/", ""),
        (f"http://{HOST}?c=1", "/", "c=1"),
        (f"http://{HOST.upper()}:80/a%20b", "/a b", ""),
    ],
)
def test_a_request_in_absolute_form_reaches_its_target(target: str, path: str, query: str, server: Fronted) -> None:
    found = seen(ask(server, target))
    assert (found["scheme"], found["path"], found["query"]) == ("http", path, query)
    assert found["server"] == [HOST, 80]


def test_https_in_absolute_form_is_taken_at_its_word(server: Fronted) -> None:
    assert seen(ask(server, f"https://{HOST}/a"))["scheme"] == "https"


@pytest.mark.parametrize(
    ("target", "host"), [(f"http://{HOST}/", HOST), (f"http://{HOST}:80/", f"{HOST}:80"), ("http://[::1]:{tls}/", None)]
)
def test_the_target_replaces_the_host_header_and_headers_for_proxies_end(
    target: str, host: str | None, certificates: Certificates
) -> None:
    headers: list[tuple[bytes, bytes]] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        headers[:] = scope.get("headers", headers)
        await echo(scope, receive, send)

    with fronted(keep, certificates) as server:
        target = target.format(tls=server.tls_port)
        ask(server, target, "Host: other.example\r\nProxy-Authorization: x\r\nProxy-Connection: close\r\nX-Kept: 1")
        found = {name.decode(): value.decode() for name, value in headers}
        assert found == {"host": host or f"[::1]:{server.tls_port}", "x-kept": "1", "connection": "close"}


@pytest.mark.parametrize("target", ["http://example.com/", f"http://{HOST}:8080/", "http://127.0.0.1:22/"])
def test_another_target_is_refused_with_a_sentence(target: str, server: Fronted) -> None:
    head, _, body = ask(server, target).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert b" is not a host of this mock server, and it connects to no other server; its hosts are " in body


@pytest.mark.parametrize("target", ["/", "/_mock/health", "*", f"ftp://{HOST}/"])
def test_a_request_without_a_target_is_told_that_the_port_is_a_proxy(target: str, server: Fronted) -> None:
    response = ask(server, target, method="OPTIONS" if target == "*" else "GET")
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"this port is a forward proxy" in response


def test_each_request_of_a_connection_has_its_own_target(server: Fronted) -> None:
    connection = server.dial(server.proxy_port)
    for target, status in ((f"http://{HOST}/1", 200), (f"http://{HOST}/2", 200), ("http://example.com/", 403)):
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = read_head(connection)
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while length:
            length -= len(connection.recv(length))
    assert read_all(connection) == (b"", "eof")


def test_requests_may_follow_each_other_without_a_pause(server: Fronted) -> None:
    one = f"GET http://{HOST}/1 HTTP/1.1\r\nHost: x\r\n\r\n"
    last = f"GET http://{HOST}/2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    response = exchange(server.dial(server.proxy_port), (one + last).encode())
    assert response.count(b"HTTP/1.1 200 ") == 2
    assert b'"/1"' in response
    assert b'"/2"' in response


def test_connect_after_another_request_is_refused(server: Fronted, logged: list[str]) -> None:
    connection = server.dial(server.proxy_port)
    connection.sendall(f"GET http://{HOST}/1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    read_head(connection)
    connection.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"HTTP/1.1 400 " in read_all(connection)[0]
    assert logged == []


def test_garbage_at_the_proxy_gets_400(server: Fronted) -> None:
    assert exchange(server.dial(server.proxy_port), b"\x00\x01\x02\r\n\r\n").startswith(b"HTTP/1.1 400 ")


# ---- faults


def end_of(server: Fronted, way: str, method: str = "GET") -> tuple[bytes, str, bool]:
    """Return the head and body of the response in one way, without its date; how it ended; whether it is whole."""
    connection, _ = server.get(way, headers="Connection: close\r\n")
    content, end = read_all(connection)
    head, _, body = content.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body, end, b"0123456789" in body


EFFECTS: dict[str, WireEffect | None] = {
    "late": Delay(0.05),
    "reset": Reset(),
    "close": Close(),
    "hold": Hold(0.05),
    "truncated": Truncate(0.5),
    "head only": Truncate(0.0),
    "drip": Drip(0.05, 5),
    "idle close": IdleClose(0.0),
    "chunked": Framed(framing="chunked", ends="announced"),
    "until close": Framed(framing="close"),
    "old version": Framed(version="1.0"),
    "small segments": Framed(segment=1, ends="announced"),
    "compressed": Framed(coding="gzip", ends="announced"),
}


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_fault_acts_in_every_way_as_on_the_plain_port(effect: str, certificates: Certificates) -> None:
    app = Faulty(EFFECTS[effect])
    with fronted(app, certificates) as server:
        plain, end, whole = end_of(server, "plain")
        delivered = effect not in ("reset", "close", "hold", "truncated", "head only")
        assert until(delivered, app.handovers[0])
        for way in WAYS[1:]:
            app.handovers.clear()
            found, ended, complete = end_of(server, way)
            assert (found, complete) == (plain, whole), way
            # Python reads a reset in the middle of TLS as an end, see `ssl.suppress_ragged_eofs`.
            assert ended == end or way in SECURE, way
            assert until(delivered, app.handovers[0]), way


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_body_arrives_in_pieces(way: str, certificates: Certificates) -> None:
    with fronted(Faulty(Drip(0.4, 4)), certificates) as server:
        connection, _ = server.get(way)
        read_head(connection)
        arrived = [(connection.recv(1), time.monotonic()) for _ in range(10)]
        assert b"".join(byte for byte, _ in arrived) == b"0123456789"
        assert arrived[-1][1] - arrived[0][1] > 0.15
        connection.close()


# ---- delivery


@contextmanager
def large(certificates: Certificates) -> Iterator[tuple[Fronted, list[Handover]]]:
    """Serve a large response that is sent whole."""
    handovers: list[Handover] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await echo(scope, receive, send)
        handovers.append(handover := Handover(0.0))
        sent = Sent(200, (), b"x" * LARGE)
        return await send_with_fault(None, sent, ClientConnection(scope, receive, send, RealClock(), handover))

    with fronted(app, certificates) as server:
        yield server, handovers


def until(expected: bool, handover: Handover) -> bool:
    """Wait until a delivery is known to be whole or not."""
    end = time.monotonic() + PATIENCE
    while handover.whole is not expected and time.monotonic() < end:
        time.sleep(0.01)
    return handover.whole is expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("goodbye", [True, False], ids=["with goodbye", "without goodbye"])
def test_a_response_that_was_read_counts_as_delivered(way: str, goodbye: bool, certificates: Certificates) -> None:
    with large(certificates) as (server, handovers):
        connection, _ = server.get(way)
        length = len(read_head(connection)) * 0 + LARGE
        while length:
            length -= len(connection.recv(length))
        if goodbye and way in SECURE:
            connection = connection.unwrap()  # type: ignore[attr-defined]
        connection.close()
        assert until(True, handovers[0])
        # The server has seen the end of that connection when it responds on the next one.
        read_all(server.get("plain", headers="Connection: close\r\n")[0])
        time.sleep(0.1)
        assert handovers[0].whole


@pytest.mark.parametrize("way", WAYS)
def test_a_response_that_was_left_unread_does_not(way: str, certificates: Certificates) -> None:
    with large(certificates) as (server, handovers):
        connection, _ = server.get(way)
        read_head(connection)
        connection.close()
        assert until(False, handovers[0])
        time.sleep(0.1)
        assert not handovers[0].whole


def test_a_client_that_does_not_confirm_the_end_of_tls_has_read_its_response(certificates: Certificates) -> None:
    app = Faulty(None)
    with fronted(app, certificates) as server:
        connection, _ = server.get("connect", headers="Connection: close\r\n")
        read_head(connection)
        assert connection.recv(10)
        server.server.stop()
        assert app.handovers[0].whole
        connection.close()
