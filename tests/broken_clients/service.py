"""A HiAPI client that works as a web service does: callbacks start its work, and polls replace missing callbacks.

It is careful about callbacks and about nothing else, because the mutants of the callback rules are made from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

# Seconds: the deadline, the time for late callbacks, the pause without a callback, and the age of a signature.
LONGEST_WAIT, STAYS, POLLS, TOLERANCE = 600.0, 90.0, 20.0, 300.0
# Downloads of a video: pauses of 0, 2, 4 and 6 seconds outlast a short outage of the media host.
ATTEMPTS = 4


class Failed(Exception):
    """There is no video."""


def ask(http: httpx.Client, method: str, url: str, **more: Any) -> tuple[int, bytes]:
    """Send a request, and return its status and body; 0 without a complete response."""
    try:
        answer = http.request(method, url, **more)
    except httpx.RequestError:
        return 0, b""
    return answer.status_code, answer.content


def read(body: bytes, *path: str | int) -> str:
    """Return a text in a JSON body, or an empty one."""
    try:
        value: Any = json.loads(body)
        for step in path:
            value = value[step]
    except (ValueError, LookupError, TypeError):
        return ""
    return value if isinstance(value, str) else ""


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a callback has a valid and recent signature."""
    told = headers.get("X-HiAPI-Timestamp") or ""
    if not told.isdecimal() or abs(time.time() - int(told)) > TOLERANCE:
        return False
    expected = hmac.new(secret.encode(), f"{told}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, headers.get("X-HiAPI-Signature") or "")


@contextlib.contextmanager
def listening(callback: Any) -> Iterator[list[bytes]]:
    """Listen for callbacks, and yield a list that receives the bodies of the genuine ones."""
    inbox: list[bytes] = []
    place = urlsplit(callback.url)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            believed = genuine(callback.secret, dict(self.headers.items()), body)
            self.send_response(204 if believed else 401)
            self.end_headers()
            if believed:
                inbox.append(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((place.hostname or "", place.port or 80), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield inbox
        finally:
            server.shutdown()


def fetch(url: str) -> bytes:
    """Download a video without the key; empty if that fails."""
    with httpx.Client(timeout=10, trust_env=False) as anybody:
        for attempt in range(ATTEMPTS if url else 0):
            time.sleep(2.0 * attempt)
            status, body = ask(anybody, "GET", url)
            if status == 200 and body[4:8] == b"ftyp" and b"moov" in body:
                return body
    return b""


def look(api: httpx.Client, url: str) -> str:
    """Read the job, and return its video URL, or an empty text."""
    _, body = ask(api, "GET", url)
    if read(body, "data", "status") == "fail":
        raise Failed(f"{url} has failed")
    return read(body, "data", "output", 0, "url")


def generate(base_url: str, api_key: str, request: Mapping[str, Any], callback: Any) -> bytes:
    """Submit, then act on callbacks and on the clock; stay for late callbacks."""
    body = {**request, "callback": {"url": callback.url, "when": "final"}}
    key = {"Idempotency-Key": hashlib.sha256(f"{time.time()} {body}".encode()).hexdigest()}
    api = httpx.Client(headers={"Authorization": f"Bearer {api_key}"}, timeout=10, trust_env=False)
    with listening(callback) as inbox, api:
        _, told = ask(api, "POST", f"{base_url}/v1/tasks", json=body, headers=key)
        job = read(told, "data", "taskId")
        if not job:
            raise Failed("the order was not accepted")
        url, video, now = f"{base_url}/v1/tasks/{job}", b"", time.monotonic()
        deadline, polled = now + LONGEST_WAIT, now
        while (now := time.monotonic()) < deadline:
            time.sleep(1)
            for message in [inbox.pop(0) for _ in list(inbox)]:
                if read(message, "taskId") == job and not video:
                    polled, video = now, fetch(look(api, url))
            if now - polled >= POLLS and not video:
                polled, video = now, fetch(look(api, url))
            if video:
                deadline = min(deadline, now + STAYS)
    if video:
        return video
    raise TimeoutError(f"{url} is not done")
