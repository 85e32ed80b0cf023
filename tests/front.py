"""A server with TLS and a forward proxy for tests, and connections to it in every way that clients have."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.types import ASGIApp

from hobbyhorse.server.front.certificates import Certificates
from hobbyhorse.server.front.opening import Front, certificates_for, make_front
from hobbyhorse.server.run import ServerThread, bind
from tests.conftest import CONTRACTS
from tests.raw_client import PATIENCE

HOST = CONTRACTS[0].hosts[0]
"""A host that a contract names."""
WAYS = ("plain", "tls", "connect", "tunnel", "absolute")
"""The ways to the application: HTTP, HTTPS, HTTPS and HTTP in a tunnel, and absolute form at the proxy."""


def make_certificates(folder: Path) -> Certificates:
    """Make the certificate of a server on loopback."""
    with bind("127.0.0.1", 0) as bound:
        return certificates_for(CONTRACTS, bound, folder)


@dataclass
class Fronted:
    """A running server with a front."""

    server: ServerThread
    front: Front
    trusted: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.trusted = ssl.create_default_context(cafile=str(self.front.served.files.authority))

    @property
    def tls_port(self) -> int:
        return int(self.front.tls[0].getsockname()[1])

    @property
    def proxy_port(self) -> int:
        assert self.front.proxy is not None
        return int(self.front.proxy.getsockname()[1])

    @property
    def plain_port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def dial(self, port: int) -> socket.socket:
        """Open a TCP connection."""
        return socket.create_connection(("127.0.0.1", port), PATIENCE)

    def tunnel(self, target: str = f"{HOST}:443") -> socket.socket:
        """Open a tunnel through the forward proxy."""
        found = self.dial(self.proxy_port)
        found.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        established = read_head(found)
        assert established.startswith(b"HTTP/1.1 200 "), established
        return found

    def secured(self, plain: socket.socket, name: str) -> ssl.SSLSocket:
        """Begin TLS on a connection."""
        return self.trusted.wrap_socket(plain, server_hostname=name)

    def connect(self, way: str) -> tuple[socket.socket, str]:
        """Open a connection in one of `WAYS`; return it, and the begin of each target on it."""
        if way == "plain":
            return self.dial(self.plain_port), ""
        if way == "tls":
            return self.secured(self.dial(self.tls_port), "localhost"), ""
        if way == "connect":
            return self.secured(self.tunnel(), HOST), ""
        if way == "tunnel":
            return self.tunnel(f"{HOST}:80"), ""
        return self.dial(self.proxy_port), f"http://{HOST}"

    def get(self, way: str, path: str = "/", headers: str = "") -> tuple[socket.socket, bytes]:
        """Send a request in one of `WAYS`; return its connection, and the request."""
        found, before = self.connect(way)
        request = f"GET {before}{path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode()
        found.sendall(request)
        return found, request


@contextmanager
def fronted(app: ASGIApp, certificates: Certificates) -> Iterator[Fronted]:
    """Serve an application on a plain port, over TLS, and behind a forward proxy."""
    tls, proxy = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
    front = make_front(CONTRACTS, certificates, plain=(), tls=[tls], proxy=proxy)
    server = ServerThread(app, front=front)
    try:
        yield Fronted(server, front)
    finally:
        server.stop()


def read_head(found: socket.socket) -> bytes:
    """Read up to the end of a head, and no further."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (more := found.recv(1)):
        head += more
    return head


def read_all(found: socket.socket) -> tuple[bytes, str]:
    """Read to the end of a connection; return the bytes, and `eof` or `reset`."""
    content = b""
    try:
        while more := found.recv(1 << 16):
            content += more
    except (ConnectionError, ssl.SSLError):
        return content, "reset"
    finally:
        found.close()
    return content, "eof"
