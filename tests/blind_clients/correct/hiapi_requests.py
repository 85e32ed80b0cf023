"""HiAPI with requests and threads: 20 seconds, a callback receiver in a thread, polling beside it."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import threading
import time
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import requests

log = logging.getLogger(__name__)
BUDGET = 20.0
FINAL = ("success", "fail")


class HiApiError(Exception):
    def __init__(self, text: str, task: str | None = None) -> None:
        super().__init__(f"{task or 'no task'}: {text}")
        self.task = task


class HiApiTimeout(HiApiError):
    pass


class Mailbox:
    """The final state of each task, by its id. The first message counts, its repetitions change nothing."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.tasks: dict[str, dict[str, Any]] = {}

    def put(self, task: dict[str, Any]) -> None:
        with self.changed:
            self.tasks.setdefault(str(task["taskId"]), task)
            self.changed.notify_all()

    def take(self, task: str, seconds: float) -> dict[str, Any] | None:
        with self.changed:
            self.changed.wait_for(lambda: task in self.tasks, timeout=seconds)
            return self.tasks.pop(task, None)


def receiver(url: str, secret: str, mailbox: Mailbox) -> ThreadingHTTPServer | None:
    address = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length <= 1 << 20 else b""
            self.send_response(204 if self.accept(body) else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def accept(self, body: bytes) -> bool:
            stamp = self.headers.get("X-HiAPI-Timestamp", "")
            mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
            if self.path != (address.path or "/") or not secret:
                return False
            given = self.headers.get("X-HiAPI-Signature", "").encode("latin-1", "replace")
            if not hmac.compare_digest(mac.encode(), given):
                return False
            try:
                task = json.loads(body)
            except ValueError:
                return False
            if isinstance(task, dict) and "taskId" in task and task.get("status") in FINAL:
                mailbox.put(task)
            return True

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    try:
        server = ThreadingHTTPServer((address.hostname or "", address.port or 80), Handler)
    except OSError as error:
        log.warning("no callbacks, only polling: %s", error)
        return None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server


def generate(base_url: str, api_key: str, request: dict[str, Any], callback: Any = None) -> bytes:
    mailbox = Mailbox()
    server = receiver(callback.url, callback.secret, mailbox) if callback is not None else None
    if server is not None:
        request = {**request, "callback": {"url": callback.url, "when": "final"}}
    try:
        return Order(base_url, api_key, mailbox).run(request)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


class Order:
    def __init__(self, base_url: str, api_key: str, mailbox: Mailbox) -> None:
        self.url = f"{base_url.rstrip('/')}/v1/tasks"
        self.headers = {"Authorization": f"Bearer {api_key}"}
        self.mailbox = mailbox
        self.end = time.monotonic() + BUDGET
        self.task: str | None = None

    def run(self, request: dict[str, Any]) -> bytes:
        self.task = self.submit(request)
        pause = 1.0
        while True:
            # Either the callback comes within the pause, or we look ourselves.
            self.check(pause, "not finished")
            state = self.mailbox.take(self.task, pause)
            if state is None:
                state, pause = self.poll(pause)
            if state.get("status") == "fail":
                raise HiApiError(f"failed: {self.reason(state)}", self.task)
            if state.get("status") == "success":
                video = self.download(state)
                if video is not None:
                    return video
                pause = min(pause * 2, 8.0)

    def submit(self, request: dict[str, Any]) -> str:
        headers = {**self.headers, "Idempotency-Key": secrets.token_hex(16)}
        pause = 0.5
        while True:
            wait = pause
            try:
                response = requests.post(
                    self.url, json=request, headers=headers, timeout=self.timeout(), allow_redirects=False
                )
            except requests.RequestException as error:
                trouble = repr(error)  # the key makes a repetition harmless
            else:
                body = self.json(response)
                data = body.get("data")
                code = self.code(response, body)
                if code == 200 and isinstance(data, dict) and data.get("taskId"):
                    return str(data["taskId"])
                trouble = f"{code}: {body.get('error_code', '')} {body.get('message', '')}".strip()
                if 300 <= code < 500 and code not in (408, 409, 425, 429):
                    raise HiApiError(f"refused: {trouble}")
                wait = self.retry_after(response, pause)
            self.check(wait, f"submission unconfirmed, {trouble}")
            time.sleep(wait)
            pause = min(pause * 2, 5.0)

    def poll(self, pause: float) -> tuple[dict[str, Any], float]:
        """The task's state ({} if unknown) and the next pause."""
        slower = min(pause * 2, 8.0)
        try:
            response = requests.get(
                f"{self.url}/{self.task}", headers=self.headers, timeout=self.timeout(), allow_redirects=False
            )
        except requests.RequestException as error:
            log.info("poll: %s", error)
            return {}, slower
        body = self.json(response)
        code = self.code(response, body)
        if 300 <= code < 500 and code not in (404, 408, 409, 425, 429):
            raise HiApiError(f"poll refused with {code}: {body.get('message')}", self.task)
        data = body.get("data")
        if code == 200 and isinstance(data, dict) and data.get("taskId", self.task) == self.task:
            return data, min(pause + 0.5, 3.0)
        wait = self.retry_after(response, 0.0)
        self.check(wait, f"{code} with a Retry-After of {wait:.0f} s")
        time.sleep(wait)  # really wait: a callback must not make us poll sooner
        return {}, 0.5 if wait else slower

    def download(self, state: dict[str, Any]) -> bytes | None:
        listed = state.get("output")
        output = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        url = next((entry.get("url") for entry in output if entry.get("type") in ("video", None)), None)
        if not isinstance(url, str):
            return None
        try:
            response = requests.get(url, timeout=self.timeout())  # the key is for the API only
        except requests.RequestException as error:
            log.info("download: %s", error)
            return None
        data = response.content
        return data if response.status_code == 200 and data[4:8] == b"ftyp" and self.whole(data) else None

    @staticmethod
    def whole(data: bytes) -> bool:
        at = 0
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1:
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            at += size if size >= 8 else len(data)
        return at == len(data)

    @staticmethod
    def reason(state: dict[str, Any]) -> str:
        error = state.get("error")
        return (
            " ".join(str(value) for value in error.values()) if isinstance(error, dict) else str(error or "no reason")
        )

    @staticmethod
    def code(response: requests.Response, body: dict[str, Any]) -> int:
        """HTTP's status, or the envelope's if HTTP says that all is well."""
        inner = body.get("code")
        return inner if response.ok and isinstance(inner, int) else response.status_code

    @staticmethod
    def json(response: requests.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    @staticmethod
    def retry_after(response: requests.Response, default: float) -> float:
        value = response.headers.get("Retry-After", "")
        if value.isdigit():
            return float(value)
        try:
            sent = parsedate_to_datetime(response.headers["Date"])
            return max(0.0, (parsedate_to_datetime(value) - sent).total_seconds())
        except (KeyError, TypeError, ValueError):
            return default

    def timeout(self) -> float:
        return max(0.1, min(8.0, self.end - time.monotonic()))

    def check(self, wait: float, state: str) -> None:
        if time.monotonic() + wait > self.end:
            raise HiApiTimeout(f"timed out after {BUDGET:.0f} s, the task goes on: {state}", self.task)
