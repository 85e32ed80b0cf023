"""A client made of a socket, which sees the bytes of a response and how the connection ended."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson

# Real seconds to wait for a response. No working server comes near, however busy the machine is.
PATIENCE = 30.0


@dataclass
class Seen:
    """A response as it arrived, and the end of its connection.

    `end` is `whole` (all bytes of Content-Length arrived), `eof` (closed before that), `reset` (a TCP RST), or `open`
    (not closed, and bytes are missing). Header names are in lower case.
    """

    head: bytes = b""
    end: str = "open"
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def nothing(self) -> bool:
        """Whether no byte arrived."""
        return not self.head

    @property
    def length(self) -> int:
        """The value of Content-Length."""
        return int(self.headers["content-length"])

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class RawClient:
    """One connection, for one request; read it to its end with `read`, or piece by piece with `read_body`."""

    def __init__(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> None:
        parts = urlsplit(url)
        self.seen = Seen()
        self._method = method
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        named = {"Host": parts.netloc, **(headers or {})}
        if body is not None:
            named["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def readable(self, seconds: float = 0.0) -> bool:
        """Return whether bytes, or the end of the connection, arrive within `seconds` of real time."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def read(self) -> Seen:
        """Read until the response is whole or the connection has ended."""
        while self.seen.end == "open":
            self._receive()
        return self.seen

    def read_body(self, size: int) -> Seen:
        """Read until `size` bytes of the body have arrived or the connection has ended."""
        while self.seen.end == "open" and len(self.seen.body) < size:
            self._receive()
        return self.seen

    def _receive(self) -> None:
        """Receive a chunk. Raises TimeoutError if none arrives for PATIENCE seconds."""
        try:
            more = self._socket.recv(1 << 20)
        except ConnectionResetError:
            self.seen.end = "reset"
            return
        if not more:
            self.seen.end = "eof"
            return
        if self.seen.status is not None:
            self.seen.body += more
        else:
            self._begin(more)
        # Such a response has no body, whatever its Content-Length (RFC 9110, 6.4.1).
        bare = self._method == "HEAD" or self.seen.status in (204, 304)
        if self.seen.status is not None and (bare or len(self.seen.body) >= self.seen.length):
            self.seen.end = "whole"

    def _begin(self, more: bytes) -> None:
        """Collect the head; parse status and headers once it is complete."""
        self.seen.head, mark, self.seen.body = (self.seen.head + more).partition(b"\r\n\r\n")
        if mark:
            first, *lines = self.seen.head.decode("latin-1").split("\r\n")
            fields = (line.partition(":") for line in lines)
            self.seen.headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            self.seen.status = int(first.split(" ")[1])


def ask(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Seen:
    """Send one request over a connection of its own, and return the response."""
    with RawClient(method, url, headers, body) as client:
        return client.read()
