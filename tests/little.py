"""A small HTTP server for tests, with arbitrary responses; counts connections and requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Said:
    """A received request; `path` is without the query, header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str | None:
        found = self.headers.get("authorization", "")
        return found.removeprefix("Bearer ") or None


@dataclass(frozen=True)
class Told:
    """A response; the body may be bytes, an iterable of bytes, or JSON."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Said], Told]


class Little(ThreadingHTTPServer):
    """Responds to each request with the result of a function, and records the requests in `said`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.said: list[Said] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Little

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = Said(self.command, urlsplit(self.path).path, headers, body)
        self.server.said.append(said)
        told = self.server.answer(said)
        pieces = _pieces(told.body)
        self.send_response(told.status)
        headers = {"content-type": "application/json", **{name.lower(): value for name, value in told.headers.items()}}
        for name, value in headers.items():
            self.send_header(name, value)
        if isinstance(pieces, bytes):
            self.send_header("Content-Length", str(len(pieces)))
            self.end_headers()
            self.wfile.write(pieces)
            return
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for piece in pieces:
            self.wfile.write(piece)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _handle

    def log_message(self, format: str, *args: object) -> None:
        pass


def _pieces(body: Any) -> bytes | Iterable[bytes]:
    if isinstance(body, dict | list):
        return json.dumps(body).encode()
    return body if isinstance(body, bytes) else iter(body)


@contextmanager
def little(answer: Answer) -> Iterator[Little]:
    """Serve within the context."""
    server = Little(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
