"""HiAPI with aiohttp on both sides: a client, and a web application for the callback. Two minutes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

LIMIT = 120.0
AGAIN = {0, 404, 408, 409, 425, 429}  # and everything from 500; 0: no envelope
ERRORS = (aiohttp.ClientError, asyncio.TimeoutError)


class TaskError(Exception):
    pass


class TaskTimeout(TaskError):
    pass


async def generate(base_url: str, api_key: str, request: dict[str, Any], callback: Any = None) -> bytes:
    session = aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {api_key}"}, timeout=aiohttp.ClientTimeout(total=25, sock_connect=5)
    )
    job = Job(session, base_url.rstrip("/") + "/v1/tasks")
    async with session, listener(callback, job) as listening:
        if listening:
            request = {**request, "callback": {"url": callback.url, "when": "final"}}
        try:
            return await asyncio.wait_for(job.run(request, 15.0 if listening else 3.0), LIMIT)
        except asyncio.TimeoutError:
            raise TaskTimeout(
                f"task {job.id or '(unconfirmed)'} timed out after {LIMIT:.0f} s: {job.state}; not cancelled, "
                "HiAPI documents no way to. Poll the task later, its video stays available for a while"
            ) from None


@contextlib.asynccontextmanager
async def listener(callback: Any, job: Job) -> AsyncIterator[bool]:
    if callback is None:
        yield False
        return
    place = urlsplit(callback.url)

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()  # the raw bytes: the signature is of them, not of what they parse to
        stamp = request.headers.get("X-HiAPI-Timestamp", "")
        ours = hmac.new(callback.secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        theirs = request.headers.get("X-HiAPI-Signature", "")
        if not hmac.compare_digest(ours.encode(), theirs.encode()):
            return web.Response(status=401)
        with contextlib.suppress(ValueError, AttributeError):
            job.told(json.loads(body).get("taskId"))
        return web.Response(status=200)

    application = web.Application(client_max_size=1 << 20)
    application.router.add_post(place.path or "/", receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, place.hostname, place.port, shutdown_timeout=1.0).start()
        except OSError:
            yield False
        else:
            yield True
    finally:
        await runner.cleanup()


class Job:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.id: str | None = None
        self.state = "not submitted"
        self.hints: set[str] = set()
        self.hint = asyncio.Event()

    def told(self, task: Any) -> None:
        """A hint that a task is final. Repetitions, and messages about other tasks, do no harm."""
        self.hints.add(str(task))
        if task == self.id:
            self.hint.set()

    async def run(self, request: dict[str, Any], interval: float) -> bytes:
        self.id = await self.submit(request)
        if self.id in self.hints:
            self.hint.set()
        failures = 0
        while True:
            if not failures:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self.hint.wait(), interval)
            code, data, wait = await self.call("GET", f"{self.url}/{self.id}")
            self.state = str(data.get("status") or f"code {code}: {data.get('message')}")
            if code != 200 and code not in AGAIN and code < 500:
                raise TaskError(f"task {self.id}: {self.state}")
            if self.state == "fail":
                raise TaskError(f"task {self.id} failed: {json.dumps(data.get('error'))}")
            video = await self.video(data) if self.state == "success" else None
            if video is not None:
                return video
            # After a hint that the task's state does not confirm, fall back to a slow rhythm as well.
            failures = failures + 1 if self.hint.is_set() or code != 200 or self.state == "success" else 0
            await asyncio.sleep(max(wait, min(2.0**failures, 20.0) if failures else 0.0))

    async def submit(self, request: dict[str, Any]) -> str:
        key = str(uuid.uuid4())
        for attempt in range(1, 9):
            code, data, wait = await self.call("POST", self.url, json=request, headers={"Idempotency-Key": key})
            if code == 200 and isinstance(data.get("taskId"), str):
                return str(data["taskId"])
            self.state = f"submission: code {code}: {data.get('message')}"
            if code not in AGAIN - {404} and 300 <= code < 500:
                raise TaskError(f"refused, nothing to pay: {self.state}")
            await asyncio.sleep(max(wait, min(0.5 * 2**attempt, 15.0)))
        raise TaskError(f"unconfirmed after 8 attempts with the idempotency key {key}; last: {self.state}")

    async def call(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any], float]:
        """(code, data or {"message": ...}, seconds that we must wait). Trouble on the way is the code 0."""
        try:
            async with self.session.request(method, url, allow_redirects=False, **more) as response:
                raw = await response.read()
        except ERRORS as error:
            return 0, {"message": repr(error)}, 0.0
        wait = seconds(response.headers.get("Retry-After", ""), response.headers.get("Date", ""))
        try:
            body = json.loads(raw)
            data, code = body.get("data"), body.get("code")
        except (ValueError, AttributeError):
            return (0 if response.ok else response.status), {"message": repr(raw[:200])}, wait
        if not response.ok:
            return response.status, {"message": body.get("message")}, wait
        if code == 200 and isinstance(data, dict):
            return 200, data, wait
        return (code if isinstance(code, int) and code != 200 else 0), {"message": body.get("message")}, wait

    async def video(self, data: dict[str, Any]) -> bytes | None:
        output = data.get("output")
        entries = [entry for entry in output if isinstance(entry, dict)] if isinstance(output, list) else []
        # There may be other files, such as the first frame.
        urls = [entry.get("url") for entry in entries if entry.get("type") == "video"] or [
            entry.get("url") for entry in entries if ".mp4" in str(entry.get("url"))
        ]
        if not urls or not isinstance(urls[0], str):
            return None
        try:
            async with aiohttp.ClientSession() as anonymous, anonymous.get(urls[0]) as response:
                content = await response.read()
        except (*ERRORS, ValueError):
            return None
        return content if response.status == 200 and playable(content) else None


def playable(content: bytes) -> bool:
    offset, boxes = 0, set()
    while offset + 8 <= len(content):
        length = int.from_bytes(content[offset : offset + 4], "big")
        boxes.add(content[offset + 4 : offset + 8])
        if length == 1:
            length = int.from_bytes(content[offset + 8 : offset + 16], "big")
        offset = len(content) if length == 0 else offset + max(length, 8)
    return offset == len(content) and {b"ftyp", b"moov"} <= boxes


def seconds(retry_after: str, date: str) -> float:
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
