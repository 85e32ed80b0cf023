"""The gate: what the first bytes of a connection lead to, also if they are nonsense, slow, or too many."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from starlette.types import Receive, Scope, Send

from hobbyhorse.server.front import gate
from hobbyhorse.server.front.certificates import Certificates
from hobbyhorse.server.front.gate import HANDSHAKE, Gate
from hobbyhorse.server.transport import MOST_HEAD_BYTES
from tests.front import HOST, Fronted, fronted, read_all, read_head
from tests.raw_client import PATIENCE

# Instead of ten seconds; a busy machine does in it what the tests do not expect to be refused.
SHORT = 0.5


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the address that the application sees."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    seen = {name: scope[name] for name in ("scheme", "path", "server", "method")}
    body = json.dumps({**seen, "query": scope["query_string"].decode()}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Fronted]:
    with fronted(echo, certificates) as found:
        yield found


@pytest.fixture
def hasty(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fronted]:
    """A server with a short time limit for a head and for a handshake."""
    monkeypatch.setattr(gate, "HEAD_SECONDS", SHORT)
    with fronted(echo, certificates) as found:
        yield found


def request(host: str = HOST) -> bytes:
    return f"GET /path?a=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def exchange(connection: socket.socket, sent: bytes = b"") -> bytes:
    """Send bytes, and read to the end of the connection."""
    connection.sendall(sent)
    content, end = read_all(connection)
    assert end == "eof"
    return content


def seen(response: bytes) -> dict[str, object]:
    """Return what the application saw of a request."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), response
    found: dict[str, object] = json.loads(body)
    return found


def refusal(response: bytes) -> tuple[int, str]:
    """Return the status and the sentence of a refusal, which stands in its first line too."""
    head, _, body = response.decode().partition("\r\n\r\n")
    first, *fields = head.split("\r\n")
    assert "content-type: text/plain; charset=utf-8" in fields
    assert first.endswith(body.strip()), response
    assert first.count("\n") == 0
    return int(first.split(" ")[1]), body.strip()


def test_https_reaches_the_application(server: Fronted) -> None:
    found = seen(exchange(server.secured(server.dial(server.tls_port), "localhost"), request("localhost")))
    assert (found["scheme"], found["path"], found["server"]) == ("https", "/path", ["127.0.0.1", server.tls_port])


def test_https_in_a_tunnel_reaches_the_application_at_the_host_of_the_tunnel(server: Fronted) -> None:
    found = seen(exchange(server.secured(server.tunnel(), HOST), request()))
    assert (found["scheme"], found["path"], found["server"]) == ("https", "/path", [HOST, 443])


def test_plain_http_in_a_tunnel_reaches_the_application_too(server: Fronted) -> None:
    found = seen(exchange(server.tunnel(f"{HOST}:80"), request()))
    assert (found["scheme"], found["server"]) == ("http", [HOST, 80])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_a_tunnel_to_the_servers_own_address_reaches_it(name: str, server: Fronted) -> None:
    tunnel = server.tunnel(f"{name}:{server.tls_port}")
    found = seen(exchange(server.secured(tunnel, name), request(name)))
    assert found["server"] == ["127.0.0.1", server.tls_port]


def test_http_2_is_not_negotiated(server: Fronted) -> None:
    server.trusted.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with server.secured(server.dial(server.tls_port), "localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
    finally:
        server.trusted.set_alpn_protocols(["http/1.1"])


def test_a_head_may_come_byte_by_byte(server: Fronted) -> None:
    connection = server.dial(server.proxy_port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode():
        connection.sendall(bytes([byte]))
    assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    assert seen(exchange(server.secured(connection, HOST), request()))["scheme"] == "https"


def test_a_client_may_begin_tls_before_it_has_the_response(server: Fronted) -> None:
    connection = server.dial(server.proxy_port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server.trusted.wrap_bio(incoming, outgoing, server_hostname=HOST)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    connection.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode() + outgoing.read())
    assert read_head(connection).startswith(b"HTTP/1.1 200 ")
    incoming.write(connection.recv(1 << 16))
    tls.do_handshake()
    connection.close()


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT",
        b"CONNECT ",
        b"CONNECT  HTTP/1.1",
        b"CONNECT example.com HTTP/1.1",
        b"CONNECT example.com:x HTTP/1.1",
        b"CONNECT example.com:443",
        b"CONNECT example.com:443 HTTP/2",
        b"CONNECT example.com:443 HTTP/1.1 more",
        b"CONNECT http://example.com:443/ HTTP/1.1",
        b"CONNECT \xff\xfe:443 HTTP/1.1",
        b"CONNECT \x00:443 HTTP/1.1",
    ],
)
def test_a_garbled_connect_request_is_refused_with_400(line: bytes, server: Fronted) -> None:
    response = exchange(server.dial(server.proxy_port), line + b"\r\nHost: x\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 400 ")


def test_a_garbled_connect_request_is_told_what_a_right_one_is(server: Fronted) -> None:
    status, said = refusal(exchange(server.dial(server.proxy_port), b"CONNECT nonsense HTTP/1.1\r\n\r\n"))
    assert (status, "such as CONNECT example.com:443 HTTP/1.1" in said) == (400, True)


@pytest.mark.parametrize("target", ["example.com:443", f"{HOST}:22", "127.0.0.1:22", "169.254.169.254:80", "[::1]:22"])
def test_another_host_or_port_is_refused_and_never_resolved(
    target: str, server: Fronted, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: looked.append(given))
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", server.proxy_port))
    status, said = refusal(exchange(connection, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode()))
    assert status == 403
    assert said.startswith(f"{target.replace('[', '').replace(']', '')} is not a host of this mock server")
    assert HOST in said
    assert looked == []


def test_plain_http_at_the_tls_port_is_told_so(server: Fronted) -> None:
    for sent in (request(), b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, b"\r\n"):
        status, said = refusal(exchange(server.dial(server.tls_port), sent))
        assert (status, "this port speaks HTTPS" in said) == (400, True)


@pytest.mark.parametrize("port", ["plain_port", "proxy_port"])
def test_tls_at_a_plain_port_fails_at_once_without_a_traceback(port: str, server: Fronted, logged: list[str]) -> None:
    with pytest.raises(ssl.SSLError):
        server.secured(server.dial(getattr(server, port)), "localhost")
    assert logged == ["Invalid HTTP request received."]


def test_a_client_that_distrusts_the_certificate_is_told_of_once(certificates: Certificates, logged: list[str]) -> None:
    with fronted(echo, certificates) as server:
        for _ in range(3):
            with pytest.raises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(server.dial(server.tls_port), server_hostname="localhost")
        # After the server has seen the alerts of the three.
        seen(exchange(server.secured(server.dial(server.tls_port), "localhost"), request("localhost")))
    assert logged == [f"a client does not trust the certificate of this server; let it trust {certificates.authority}"]


@pytest.mark.parametrize("sent", [b"", HANDSHAKE, HANDSHAKE + b"\x03\x01\x02\x00\x01"], ids=["nothing", "byte", "half"])
def test_a_handshake_that_is_not_complete_in_time_is_closed(sent: bytes, hasty: Fronted) -> None:
    connection = hasty.dial(hasty.tls_port)
    begun = time.monotonic()
    connection.sendall(sent)
    assert read_all(connection)[0] == b""
    assert SHORT / 2 < time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("sent", [b"", b"CONN", b"CONNECT example.com"], ids=["nothing", "word", "line"])
def test_a_connect_request_that_is_not_complete_in_time_gets_408(sent: bytes, hasty: Fronted) -> None:
    status, said = refusal(exchange(hasty.dial(hasty.proxy_port), sent))
    assert (status, said) == (408, f"the request was not complete within {SHORT:g} s")


def test_a_head_that_grows_slowly_gets_no_more_time(hasty: Fronted) -> None:
    connection, begun = hasty.dial(hasty.proxy_port), time.monotonic()
    connection.settimeout(SHORT / 20)
    connection.sendall(b"CONNECT ")
    response = b""
    while not response:
        with suppress(TimeoutError):
            response = connection.recv(1 << 16)
        if not response:
            connection.sendall(b"x")
    assert response.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < PATIENCE
    connection.close()


def test_a_tunnel_in_which_nothing_is_said_is_closed(hasty: Fronted) -> None:
    assert read_all(hasty.tunnel())[0] == b""


def test_a_head_beyond_the_bound_gets_431(server: Fronted) -> None:
    connection = server.dial(server.proxy_port)
    connection.sendall(b"CONNECT x HTTP/1.1\r\n" + b"a" * MOST_HEAD_BYTES)
    assert refusal(read_all(connection)[0])[0] == 431


def test_clients_that_say_nothing_hold_nobody(server: Fronted) -> None:
    with ExitStack() as stack:
        for port in (server.tls_port, server.proxy_port) * 50:
            connection = stack.enter_context(server.dial(port))
            if port == server.tls_port:
                connection.sendall(HANDSHAKE)
        assert seen(exchange(server.secured(server.tunnel(), HOST), request()))
        assert seen(exchange(server.dial(server.plain_port), request()))


def test_a_client_that_leaves_at_any_step_leaves_nothing_behind(server: Fronted, logged: list[str]) -> None:
    connect = f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode()
    tls, proxy = server.tls_port, server.proxy_port
    for port, sent in (
        (tls, b""),
        (tls, HANDSHAKE),
        (tls, b"GET"),
        (proxy, b""),
        (proxy, b"CONNECT x"),
        (proxy, connect),
    ):
        connection = server.dial(port)
        connection.sendall(sent)
        connection.close()
    assert seen(exchange(server.secured(server.tunnel(), HOST), request()))
    assert logged == []


def test_a_server_that_stops_closes_connections_at_every_step(certificates: Certificates) -> None:
    with fronted(echo, certificates) as server:
        idle = server.secured(server.tunnel(), HOST)
        idle.sendall(request().replace(b"Connection: close\r\n", b""))
        read_head(idle)
        others = [server.dial(server.tls_port), server.dial(server.proxy_port), server.tunnel()]
        half = server.dial(server.tls_port)
        half.sendall(HANDSHAKE)
        begun = time.monotonic()
        server.server.stop()
        assert time.monotonic() - begun < 2
        for connection in (idle, *others, half):
            read_all(connection)


class Listening:
    """A listening socket that has no descriptor for a connection at first."""

    def __init__(self, real: socket.socket, error: int) -> None:
        self.real, self.errors = real, [error]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise OSError(self.errors.pop(), "not now")
        return self.real.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)

    def fileno(self) -> int:
        return self.real.fileno()


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EAGAIN])
def test_a_process_that_cannot_accept_now_accepts_later(
    error: int, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PAUSE_SECONDS", 0.05)

    async def accepted() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as real, fronted(echo, certificates) as server:
            listening = Listening(real, error)
            front = replace(server.front, tls=(listening,), proxy=None)  # type: ignore[arg-type]
            opened = Gate(front, lambda kind, **more: pytest.fail("no protocol is due"))
            reader, writer = await asyncio.open_connection(*real.getsockname())
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            response = await reader.read()
            writer.close()
            opened.close()
            await opened.wait_closed()
            return response

    assert asyncio.run(accepted()).startswith(b"HTTP/1.1 400 ")
