"""HiAPI with httpx and asyncio: callback first, polling as the fall-back, at most 100 polls and no deadline."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import uuid
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

POLLS = 100
FALLBACK_INTERVAL = 10.0  # with a callback, polling is only for the case that it gets lost
PLAIN_INTERVAL = 6.0
TOO_LONG = 1800.0


class HiapiError(Exception):
    def __init__(self, reason: str, task_id: str | None = None) -> None:
        super().__init__(f"{reason} (task {task_id})" if task_id else reason)
        self.task_id = task_id


class Callback(Protocol):
    url: str
    secret: str


class Receiver:
    """As much of an HTTP server as a callback needs. A genuine message only means: look now. The API has the word."""

    def __init__(self, callback: Callback | None) -> None:
        self.callback = callback
        self.server: asyncio.Server | None = None
        self.finished: dict[str, asyncio.Event] = {}

    async def __aenter__(self) -> Receiver:
        if self.callback is not None:
            where = urlsplit(self.callback.url)
            try:
                self.server = await asyncio.start_server(self.serve, where.hostname, where.port)
            except OSError:
                self.server = None  # polling does without
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self.server is not None:
            self.server.close()

    def event(self, task_id: str) -> asyncio.Event:
        """It may be set before the submission's response has told us the id."""
        return self.finished.setdefault(task_id, asyncio.Event())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            status = await asyncio.wait_for(self.answer(reader), 10)
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader) -> str:
        assert self.callback is not None
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        method, _, rest = head[0].partition(" ")
        target = rest.partition(" ")[0]
        if method != "POST" or target != (urlsplit(self.callback.url).path or "/"):
            return "404 Not Found"
        length = int(headers.get("content-length", "0"))
        if length > 1_000_000:
            return "413 Content Too Large"
        body = await reader.readexactly(length)
        signed = headers.get("x-hiapi-timestamp", "").encode() + b"." + body
        genuine = hmac.new(self.callback.secret.encode(), signed, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(genuine.encode(), headers.get("x-hiapi-signature", "").lower().encode()):
            return "401 Unauthorized"
        message = json.loads(body)
        if isinstance(message, dict) and message.get("status") in ("success", "fail"):
            self.event(str(message.get("taskId"))).set()
        return "204 No Content"


async def generate(base_url: str, api_key: str, request: dict[str, Any], callback: Callback | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {api_key}"}
    async with (
        Receiver(callback) as receiver,
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=httpx.Timeout(20.0, connect=5.0)) as api,
    ):
        listening = receiver.server is not None and callback is not None
        order = {**request, "callback": {"url": callback.url, "when": "final"}} if listening and callback else request
        task_id = await submit(api, order)
        return await collect(api, task_id, receiver.event(task_id), FALLBACK_INTERVAL if listening else PLAIN_INTERVAL)


async def submit(api: httpx.AsyncClient, order: dict[str, Any]) -> str:
    """With one idempotency key for all attempts, a repetition gets the same task instead of a second one."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    last = ""
    for attempt in range(7):
        wait: float | None = None
        try:
            response = await api.post("/v1/tasks", json=order, headers=key)
        except httpx.RequestError as error:
            last = repr(error)
        else:
            code, data, message = unwrap(response)
            if code == 200 and data.get("taskId"):
                return str(data["taskId"])
            last, wait = f"HTTP {response.status_code}, code {code}: {message}", retry_after(response)
            if 300 <= code < 500 and code not in (408, 409, 425, 429):
                raise HiapiError(f"submission refused: {last}")
        if (wait or 0.0) > TOO_LONG:
            break
        await asyncio.sleep(wait if wait is not None else min(30.0, 2.0**attempt) * random.uniform(0.7, 1.0))
    raise HiapiError(f"no confirmation of the submission, a task may exist; last: {last}")


async def collect(api: httpx.AsyncClient, task_id: str, finished: asyncio.Event, interval: float) -> bytes:
    row = 0
    for _ in range(POLLS):
        wait = interval if row == 0 else min(60.0, 2.0**row)
        # A callback ends an ordinary wait, but not one that follows a failure.
        with contextlib.suppress(asyncio.TimeoutError):
            await (asyncio.wait_for(finished.wait(), wait) if row == 0 else asyncio.sleep(wait))
        row += 1
        try:
            response = await api.get(f"/v1/tasks/{task_id}")
        except httpx.RequestError:
            continue
        code, data, message = unwrap(response)
        if 300 <= code < 500 and code not in (404, 408, 409, 425, 429):
            raise HiapiError(f"polling refused with {code}: {message}", task_id)
        demanded = retry_after(response) or 0.0
        if demanded > TOO_LONG:
            raise HiapiError(f"still running; polling is forbidden for {demanded:.0f} s", task_id)
        await asyncio.sleep(demanded)
        status = data.get("status") if code == 200 else None
        if status == "fail":
            raise HiapiError(f"the task failed: {reason(data)}", task_id)
        if status == "success":
            video = await download(link(data))
            if video is not None:
                return video
        elif status is not None:
            row = int(finished.is_set())  # told that it is over, but it is not: do not hurry
    raise HiapiError(f"still running, or without a usable video, after {POLLS} polls", task_id)


def unwrap(response: httpx.Response) -> tuple[int, dict[str, Any], str]:
    """(code, data, message). The envelope's code counts if HTTP says 200, and 0 stands for no envelope."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return (0 if response.is_success else response.status_code), {}, response.text[:200]
    data, code = body.get("data"), body.get("code")
    if not response.is_success or not isinstance(code, int):
        code = 200 if response.is_success else response.status_code
    return code, data if isinstance(data, dict) else {}, str(body.get("message"))


def reason(data: dict[str, Any]) -> str:
    error = data.get("error")
    return (
        f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else str(error or "no reason given")
    )


def link(data: dict[str, Any]) -> str | None:
    output = data.get("output")
    for entry in output if isinstance(output, list) else ():
        if isinstance(entry, dict) and entry.get("type", "video") == "video" and isinstance(entry.get("url"), str):
            return str(entry["url"])
    return None


async def download(url: str | None) -> bytes | None:
    if url is None:
        return None
    try:
        async with httpx.AsyncClient(follow_redirects=True, timeout=60.0) as media:  # without the key
            response = await media.get(url)
    except (httpx.RequestError, httpx.InvalidURL):
        return None
    return response.content if response.status_code == 200 and complete(response.content) else None


def complete(data: bytes) -> bool:
    at, boxes = 0, []
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        boxes.append(data[at + 4 : at + 8])
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        at += max(size, 8)
    return at == len(data) and boxes[0] == b"ftyp" and b"mdat" in boxes


def retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        sent = parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (parsedate_to_datetime(value) - sent).total_seconds())
    except (TypeError, ValueError):
        return None
