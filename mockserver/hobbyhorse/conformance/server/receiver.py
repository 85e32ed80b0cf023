"""A small callback receiver, which refuses the first callback with a 500 to make a retry visible. Knows no contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from hobbyhorse.traces.trace import Delivery, Headers

# A callback is a few hundred bytes of JSON; the receiver listens on a public address, so a flood must be refused.
MOST_CALLBACK_BYTES = 1024 * 1024
# An idle connection holds a thread; a callback is sent in one go and never takes this long.
READ_SECONDS = 10.0
CALLBACK_PATH = "/callback"

# Returns the id of the job that a callback is about, or None.
JobOf = Callable[[Headers, bytes], "str | None"]


class Receiver:
    """Listens for callbacks from construction until `close`; `deliveries` lists them, oldest first.

    `url` is the address for the provider: `public_url` if given, else the local one.
    """

    def __init__(
        self,
        job_of: JobOf = lambda headers, body: None,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._job_of, self._now = job_of, now
        self._deliveries: list[Delivery] = []
        self._lock = threading.Lock()
        self._server = _ReceiverServer((host, port), _handler(self))
        self.url = public_url or f"http://{host}:{self._server.server_address[1]}{CALLBACK_PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._thread.start()

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The callbacks received so far."""
        with self._lock:
            return tuple(self._deliveries)

    def take(self, headers: Headers, body: bytes) -> int:
        """Record a callback and return the status for it: 500 for the first one, 200 for all others."""
        sent = self._now()
        job = self._job_of(headers, body)
        with self._lock:
            number = 1 + sum(1 for other in self._deliveries if other.job == job)
            # One refusal in total, not one per job: each retry costs the provider's delay, and one is proof enough.
            status = 200 if self._deliveries else 500
            self._deliveries.append(Delivery(sent, job, number, body, headers, self._now(), status))
        return status

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(READ_SECONDS)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _ReceiverServer(ThreadingHTTPServer):
    """A server that does not wait for idle connections when it closes, and prints no traceback."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a connection that broke off."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = READ_SECONDS

        def do_POST(self) -> None:
            """Receive one callback."""
            length = self.headers.get("Content-Length", "0")
            size = int(length) if length.isdecimal() else 0
            if size > MOST_CALLBACK_BYTES:
                self._respond(413)
                return
            body = self.rfile.read(size)
            headers = tuple((name.lower(), value) for name, value in self.headers.items())
            self._respond(receiver.take(headers, body))

        def _respond(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing; the report lists the callbacks."""

    return Handler
