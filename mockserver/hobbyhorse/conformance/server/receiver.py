"""A small callback receiver, which refuses the first callbacks of each order to make retries visible.

It also serves the pictures that the suite has made for its submissions. Knows no contract. Each order has a URL of
its own, so that a callback belongs to its job, whatever its body says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from hobbyhorse.traces.trace import Delivery, Headers

# A callback is a few hundred bytes of JSON; the receiver listens on a public address, so a flood must be refused.
MOST_CALLBACK_BYTES = 1024 * 1024
# An idle connection holds a thread; a callback is sent in one go and never takes this long.
READ_SECONDS = 10.0
CALLBACK_PATH = "/callback"
PICTURES_PATH = "/pictures"
# The parameter that tells the URLs of different orders apart.
ORDER = "order"
# The note of a callback that was sent to a URL without this parameter.
ELSEWHERE = "sent to another URL"
# The refusal of the first callback if its order names no other one.
REFUSAL = 500

# Returns the id of the job that a callback is about, or None.
JobOf = Callable[[Headers, bytes], "str | None"]


class Receiver:
    """Listens for callbacks from construction until `close`; `deliveries` lists them, oldest first.

    `url` is the address for the provider: `public_url` if given, else the local one. A public URL is the same for all
    orders, because whatever forwards its requests may drop a query.
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
        self._deliveries: list[tuple[str | None, Delivery]] = []
        self._public = public_url is not None
        self._refusals: dict[str, tuple[int, int]] = {}
        self._jobs: dict[str, str] = {}
        self._pictures: dict[str, tuple[bytes, str]] = {}
        self._lasting: dict[str, tuple[bytes, str]] = {}
        self._lock = threading.Lock()
        self._server = _ReceiverServer((host, port), _handler(self))
        local = f"http://{host}:{self._server.server_address[1]}"
        self.url = public_url or local + CALLBACK_PATH
        # Whatever forwards a public URL usually forwards the paths below it as well.
        self._pictures_url = public_url.partition("?")[0].rstrip("/") if public_url else local + PICTURES_PATH
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        self._thread.start()

    @property
    def is_public(self) -> bool:
        """Whether requests arrive by a public URL, and not directly."""
        return self._public

    def publish(self, name: str, data: bytes, kind: str = "png", *, lasting: bool = False) -> str:
        """Serve a picture of a kind, such as `png`, under a name, and return its URL.

        A lasting one is not withdrawn.
        """
        with self._lock:
            (self._lasting if lasting else self._pictures)[name] = data, kind
        return f"{self._pictures_url}/{quote(name)}"

    def withdraw(self) -> None:
        """Serve only the lasting pictures from now on."""
        with self._lock:
            self._pictures.clear()

    def picture(self, path: str) -> tuple[bytes, str] | None:
        """Return the picture at a path and its kind, or None."""
        with self._lock:
            name = unquote(urlsplit(path).path.rpartition("/")[2])
            return self._pictures.get(name) or self._lasting.get(name)

    def url_of(self, order: str, refusal: int, times: int = 1) -> str:
        """Return the URL for the callbacks of an order; the first ones are refused with a status."""
        with self._lock:
            self._refusals[order] = (refusal, times)
        return self.url if self._public else f"{self.url}?{ORDER}={order}"

    def name(self, order: str, job: str) -> None:
        """Record the job of an order."""
        with self._lock:
            self._jobs[order] = job

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The callbacks received so far, each with the job to whose URL it was sent."""
        with self._lock:
            return tuple(replace(one, job=self._jobs.get(order or "", one.job)) for order, one in self._deliveries)

    def take(self, headers: Headers, body: bytes, order: str | None = None) -> int:
        """Record a callback and return its status: the refusal for the first ones of an order, 200 for all others."""
        sent = self._now()
        job = self._job_of(headers, body)
        with self._lock:
            alike = [one for other, one in self._deliveries if (other == order if order else one.job == job)]
            # Without orders one refusal in total: each retry costs the provider's delay.
            refusal, times = self._refusals.get(order or "", (REFUSAL, 1))
            status = refusal if len(alike if order else self._deliveries) < times else 200
            note = ELSEWHERE if order is None and self._refusals and not self._public else ""
            number = 1 + len(alike)
            self._deliveries.append((order, Delivery(sent, job, number, body, headers, self._now(), status, note=note)))
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
            # `int` raises for very long numbers.
            size = int(length[:18]) if length.isdecimal() else 0
            if size > MOST_CALLBACK_BYTES:
                self._respond(413)
                return
            body = self.rfile.read(size)
            headers = tuple((name.lower(), value) for name, value in self.headers.items())
            order = dict(parse_qsl(urlsplit(self.path).query)).get(ORDER)
            self._respond(receiver.take(headers, body, order))

        def do_GET(self) -> None:
            """Send a picture."""
            found = receiver.picture(self.path)
            if found is None:
                self._respond(404)
                return
            data, kind = found
            self.send_response(200)
            self.send_header("Content-Type", f"image/{kind}")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        # Some providers measure a picture before they fetch it.
        do_HEAD = do_GET

        def _respond(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if 300 <= status < 400:
                # To a closed port: a redirect that is followed delivers nothing.
                self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing; the report lists the callbacks."""

    return Handler
