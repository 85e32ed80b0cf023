"""HiAPI with urllib alone: a script's client, no callback, polling for up to ten minutes."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any

LIMIT = 10 * 60


class Refused(Exception):
    """The API, or the task itself, has said no; the message has the task's id, if there is one."""


class TimedOut(Exception):
    pass


class SameHostOnly(urllib.request.HTTPRedirectHandler):
    """The API is not expected to redirect, and urllib would send the key along."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class Reply:
    """An answer of the API: an HTTP status, and the envelope if it could be read."""

    def __init__(self, status: int, raw: bytes, headers: Any) -> None:
        self.status = status
        self.text = raw.decode("utf-8", "replace")
        self.retry_after = self._retry_after(headers)
        self.data: dict[str, Any] = {}
        self.message = self.text[:200]
        with contextlib.suppress(ValueError, AttributeError):
            body = json.loads(raw)
            self.message = body.get("message", self.message)
            if isinstance(body.get("code"), int) and 200 <= status < 300:
                self.status = body["code"]
            if self.status == 200 and isinstance(body.get("data"), dict):
                self.data = body["data"]

    @staticmethod
    def _retry_after(headers: Any) -> float | None:
        value = headers.get("Retry-After", "")
        if value.isdigit():
            return float(value)
        with contextlib.suppress(TypeError, ValueError):
            now = parsedate_to_datetime(headers.get("Date", ""))
            return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
        return None

    @property
    def hopeless(self) -> bool:
        return 300 <= self.status < 500 and self.status not in (404, 408, 409, 425, 429)


class HiApi:
    def __init__(self, base_url: str, api_key: str) -> None:
        self.tasks = f"{base_url.rstrip('/')}/v1/tasks"
        self.key = api_key
        self.opener = urllib.request.build_opener(SameHostOnly)
        self.end = time.monotonic() + LIMIT
        self.doing = "submitting"

    def ask(self, url: str, body: bytes | None = None, **headers: str) -> Reply:
        headers["Authorization"] = f"Bearer {self.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with self.opener.open(request, timeout=self.timeout(20)) as response:
                return Reply(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                try:
                    return Reply(error.code, error.read(), error.headers)
                except (OSError, http.client.HTTPException):
                    return Reply(error.code, b"", error.headers)
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, repr(error).encode(), {})

    def submit(self, order: dict[str, Any]) -> str:
        body, key = json.dumps(order).encode(), str(uuid.uuid4())
        for attempt in range(8):
            reply = self.ask(self.tasks, body, **{"Idempotency-Key": key})
            if reply.data.get("taskId"):
                return str(reply.data["taskId"])
            if reply.hopeless or reply.status == 404:
                raise Refused(f"submission refused: {reply.status}: {reply.message}")
            self.wait(reply.retry_after, min(20.0, 2.0**attempt))
        raise Refused(f"submission not confirmed (idempotency key {key}): {reply.status}: {reply.message}")

    def result(self, task: str) -> bytes:
        trouble = 0
        while True:
            self.doing = f"task {task} still running"
            reply = self.ask(f"{self.tasks}/{task}")
            if reply.hopeless:
                raise Refused(f"task {task}: cannot be polled: {reply.status}: {reply.message}")
            status = reply.data.get("status")
            if status == "fail":
                error = reply.data.get("error")
                text = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else str(error)
                raise Refused(f"task {task} failed: {text}")
            if status == "success":
                self.doing = f"task {task} has succeeded, but its video is not downloaded"
                for video in self.videos(reply.data):
                    data = self.download(video)
                    if data is not None:
                        return data
            trouble = 0 if status not in (None, "success") else trouble + 1
            self.wait(reply.retry_after, min(30.0, 3.0 * 1.6**trouble))

    @staticmethod
    def videos(data: dict[str, Any]) -> list[str]:
        output = data.get("output")
        entries = [entry for entry in output if isinstance(entry, dict)] if isinstance(output, list) else []
        urls = [str(entry.get("url")) for entry in entries if entry.get("type", "video") == "video"]
        return [url for url in urls if url.startswith(("https://", "http://"))]

    def download(self, url: str) -> bytes | None:
        try:
            with urllib.request.urlopen(url, timeout=self.timeout(60)) as response:  # a plain request, no key
                data: bytes = response.read()
        except (OSError, http.client.HTTPException):
            return None
        at, first = 0, data[4:8]
        while at + 8 <= len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            if size == 1:
                size = int.from_bytes(data[at + 8 : at + 16], "big")
            at = len(data) if size == 0 else at + max(size, 8)
        return data if first == b"ftyp" and at == len(data) else None

    def timeout(self, most: float) -> float:
        return max(0.1, min(most, self.end - time.monotonic()))

    def wait(self, demanded: float | None, otherwise: float) -> None:
        seconds = otherwise if demanded is None else max(demanded, 0.5)
        if time.monotonic() + seconds > self.end:
            raise TimedOut(f"timed out after {LIMIT} seconds: {self.doing}")
        time.sleep(seconds)


def generate(base_url: str, api_key: str, request: dict[str, Any]) -> Path:
    api = HiApi(base_url, api_key)
    task = api.submit(request)
    data = api.result(task)
    path = Path(gettempdir()) / f"{uuid.uuid4().hex}.mp4"
    part = path.with_suffix(".part")
    part.write_bytes(data)
    return part.replace(path)
