"""A good receiver of callbacks, and clients that let a callback end a wait before the next poll."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from base_core import Client, Reply
from base_httpx import HiapiHttpx, RunflowHttpx


class Receiver:
    """Accept the callbacks at an address, check each signature, and remember the jobs that they announce."""

    server_class: ClassVar[type[HTTPServer]] = ThreadingHTTPServer
    tolerance = 300.0
    quiet_after = 10.0  # seconds without a byte after which a connection is closed

    def __init__(self, callback: Any, provider: str) -> None:
        self.secret, self.provider = callback.secret or "", provider
        self.heard: dict[str, dict[str, Any]] = {}
        self.known: set[str] = set()
        self.news = threading.Condition()
        parts = urlsplit(callback.url)
        self.server = self.make_server((parts.hostname or "127.0.0.1", parts.port or 80))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        self.server.serve_forever(poll_interval=0.2)

    def make_server(self, address: tuple[str, int]) -> HTTPServer:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = receiver.quiet_after

            def do_POST(self) -> None:
                try:
                    size = min(int(self.headers.get("Content-Length") or 0), 1_000_000)
                    status = receiver.receive(self.headers, self.rfile.read(size))
                except (OSError, ValueError):
                    status = 400
                receiver.answer(self, status)

            def log_message(self, *_: Any) -> None: ...

        server = self.server_class(address, Handler)
        server.daemon_threads = True  # type: ignore[attr-defined]
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        return server

    def answer(self, handler: BaseHTTPRequestHandler, status: int) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def expected(self, stamp: str, body: bytes) -> str:
        signed = stamp.encode() + b"." + body if self.provider == "hiapi" else body
        return hmac.new(self.secret.encode(), signed, hashlib.sha256).hexdigest()

    def genuine(self, headers: Any, body: bytes) -> bool:
        if not self.secret:
            return True
        name = "X-HiAPI-Signature" if self.provider == "hiapi" else "Runflow-Signature"
        stamp = headers.get("X-HiAPI-Timestamp") or ""
        if self.provider == "hiapi" and not self.fresh(stamp):
            return False
        return hmac.compare_digest(self.expected(stamp, body).encode(), (headers.get(name) or "").strip().encode())

    def fresh(self, stamp: str) -> bool:
        return stamp.isascii() and stamp.isdigit() and abs(time.time() - int(stamp)) <= self.tolerance

    def receive(self, headers: Any, body: bytes) -> int:
        """The status of the answer."""
        if not self.genuine(headers, body):
            return 401
        try:
            message = json.loads(body)
            job = message.get("taskId") or message.get("run_id")
        except (ValueError, AttributeError, RecursionError):
            return 400
        self.keep(job, message)
        return 200

    def keep(self, job: Any, message: dict[str, Any]) -> None:
        if isinstance(job, str):
            with self.news:
                self.heard[job] = message
                self.news.notify_all()

    def hear(self, job: str, seconds: float) -> dict[str, Any] | None:
        """Wait for a callback about a job."""
        with self.news:
            self.news.wait_for(lambda: job in self.heard, seconds)
            return self.heard.pop(job, None)


class Listening(Client):
    """A callback is a hint that ends the wait for the next poll; the poll decides."""

    receiver_class: type[Receiver] = Receiver
    receiver: Receiver | None = None

    def generate(self, request: dict[str, Any]) -> Any:
        if self.callback is None:
            return super().generate(request)
        try:
            provider = "hiapi" if isinstance(self, HiapiHttpx) else "runflow"
            self.receiver = self.receiver_class(self.callback, provider)
        except OSError:  # the address is taken: polling suffices
            return super().generate(request)
        try:
            return super().generate(request)
        finally:
            self.receiver.close()

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        if self.receiver:
            self.receiver.known.add(job)
        return super().collect(job, request)

    def rest(self, job: str, seconds: float, deadline: float) -> None:
        if self.receiver is None or time.monotonic() + seconds > deadline or seconds > self.last_pause:
            super().rest(job, seconds, deadline)  # also a wait that the provider asked for
        else:
            self.receiver.hear(job, seconds)


class Trusting(Listening):
    """A genuine callback replaces the next poll."""

    message: dict[str, Any] | None = None

    def rest(self, job: str, seconds: float, deadline: float) -> None:
        if self.receiver is None or time.monotonic() + seconds > deadline or seconds > self.last_pause:
            super().rest(job, seconds, deadline)
        else:
            self.message = self.receiver.hear(job, seconds)

    def ask(self, job: str) -> Reply:
        message, self.message = self.message, None
        if message is None:
            return super().ask(job)
        if isinstance(self, HiapiHttpx):
            told: dict[str, Any] = {"code": 200, "data": message}
        else:
            told = {**message, "id": message.get("run_id"), "status_code": message.get("status")}
            told["failure_message"] = message.get("failure_message") or message.get("error")
        return Reply(200, {}, json.dumps(told).encode())


class HiapiListening(Listening, HiapiHttpx): ...


class HiapiTrusting(Trusting, HiapiHttpx): ...


class RunflowTrusting(Trusting, RunflowHttpx): ...


class RunflowListening(Listening, RunflowHttpx): ...


def listener(kind: type[Client]) -> Callable[..., Any]:
    """The callable of a client that listens to callbacks."""

    def generate(
        base_url: str, api_key: str, request: dict[str, Any], model: str | None = None, callback: Any = None
    ) -> Any:
        return kind(base_url, api_key, model, callback).generate(request)

    return generate
