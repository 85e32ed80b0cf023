"""RunComfy with aiohttp: one coroutine under `asyncio.timeout`-like control, ten minutes.

If the caller cancels the coroutine, or the ten minutes are over, the job is cancelled at the provider too, as far as
it still can be: a queued job that nobody waits for should not cost anything.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

TEN_MINUTES = 600.0
POLL = aiohttp.ClientTimeout(total=20, sock_connect=5)
SUBMIT = aiohttp.ClientTimeout(total=60, sock_connect=5)
VIDEO = aiohttp.ClientTimeout(total=120, sock_connect=5, sock_read=20)


class GenerationFailed(Exception):
    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(f"{message} [request_id={request_id or 'none'}]")
        self.request_id = request_id


class GenerationTimeout(GenerationFailed):
    pass


@dataclass
class Reply:
    code: int
    body: dict[str, Any]
    text: str
    wait: float | None

    @property
    def passing(self) -> bool:
        """Whether the same GET may well succeed later: overload, a page of a proxy, a job not yet known."""
        return self.code in (404, 408, 425, 429) or self.code >= 500 or (self.code < 300 and not self.body)


async def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "happyhorse/happyhorse-1.0/image-to-video"
) -> bytes:
    headers = {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(headers=headers) as api, aiohttp.ClientSession() as media:
        client = Client(base_url.rstrip("/"), api, media)
        try:
            return await asyncio.wait_for(client.run(model, request), TEN_MINUTES)
        except asyncio.TimeoutError:
            ending = await client.abandon()
            raise GenerationTimeout(f"no video within the deadline of 600 s; {ending}", request_id=client.job) from None
        except asyncio.CancelledError:
            await asyncio.shield(client.abandon())
            raise


class Client:
    def __init__(self, base: str, api: aiohttp.ClientSession, media: aiohttp.ClientSession) -> None:
        self.base, self.api, self.media = base, api, media
        self.job = ""
        self.links: dict[str, str] = {}

    async def run(self, model: str, request: dict[str, Any]) -> bytes:
        await self.submit(model, request)
        wait = 1.0
        troubles = 0
        while True:
            await asyncio.sleep(wait)
            link, asked = await self.look()
            if link is not None:
                video = await self.download(link)
                if video is not None:
                    return video
            if link is not None or asked is not None:
                troubles += 1
                wait = max(asked or 0.0, min(30.0, 2.0**troubles) * random.uniform(0.75, 1.0))
            else:
                troubles, wait = 0, min(wait * 1.3, 5.0)

    async def submit(self, model: str, request: dict[str, Any]) -> None:
        for turn in range(1, 8):
            try:
                reply = await self.call("POST", f"{self.base}/v1/models/{model}", SUBMIT, json=request)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(turn)  # nothing was sent
                continue
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                raise GenerationFailed(
                    f"no response to the submission ({type(error).__name__}); not sent again: it may run and be billed"
                ) from error
            if reply.code != 429:
                break
            await asyncio.sleep(2.0 * turn if reply.wait is None else reply.wait)
        else:
            raise GenerationFailed("the provider took no submission in 7 attempts")
        if reply.code >= 300:
            raise GenerationFailed(f"submission: HTTP {reply.code}: {complaint(reply)}")
        if not isinstance(reply.body.get("request_id"), str):
            raise GenerationFailed(f"submission: HTTP {reply.code} without a request_id: {reply.text[:200]!r}")
        self.job = reply.body["request_id"]
        for name in ("status", "result", "cancel"):
            own = f"{self.base}/v1/requests/{self.job}/{name}"
            given = reply.body.get(f"{name}_url")
            # The key goes with these requests, so a link to anywhere else than the API is not followed.
            self.links[name] = given if isinstance(given, str) and same_origin(given, self.base) else own

    async def look(self) -> tuple[str | None, float | None]:
        """(link to the video, None), or (None, the wait that trouble demands), or (None, None) for just not yet."""
        status = await self.get("status")
        if status.passing:
            return None, status.wait or 0.0
        state = status.body.get("status")
        if state == "cancelled":
            raise GenerationFailed("somebody has cancelled the job", request_id=self.job)
        if state != "completed":
            return None, None
        result = await self.get("result")
        if result.passing:
            return None, result.wait or 0.0
        state = result.body.get("status")
        if state in ("in_queue", "in_progress"):
            return None, None
        if state in ("failed", "cancelled") or result.body.get("error"):
            raise GenerationFailed(f"{state}: {complaint(result)}", request_id=self.job)
        output = result.body.get("output")
        if not isinstance(output, dict):
            return None, 0.0
        videos = output.get("videos")
        link = output.get("video") or (videos[0] if isinstance(videos, list) and videos else None)
        return (link, None) if isinstance(link, str) else (None, 0.0)

    async def get(self, name: str) -> Reply:
        try:
            reply = await self.call("GET", self.links[name], POLL)
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            return Reply(599, {}, repr(error), None)
        if not reply.passing and reply.code >= 300:
            raise GenerationFailed(f"{name}: HTTP {reply.code}: {complaint(reply)}", request_id=self.job)
        return reply

    async def call(self, method: str, url: str, timeout: aiohttp.ClientTimeout, **more: Any) -> Reply:
        async with self.api.request(method, url, timeout=timeout, allow_redirects=False, **more) as response:
            text = (await response.read()).decode("utf-8", "replace")
            try:
                body = json.loads(text)
            except ValueError:
                body = {}
            wait = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
            return Reply(response.status, body if isinstance(body, dict) else {}, text, wait)

    async def download(self, link: str) -> bytes | None:
        try:
            async with self.media.get(link, timeout=VIDEO) as response:
                data = await response.read()
                complete = response.content_length in (None, len(data)) and is_video(data)
                return data if response.status == 200 and complete else None
        except (aiohttp.ClientError, asyncio.TimeoutError):
            return None

    async def abandon(self) -> str:
        if not self.job:
            return "it is unknown whether the submission was accepted"
        try:
            reply = await self.call("POST", self.links["cancel"], POLL)
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            return f"it may still be running, as its cancellation failed: {type(error).__name__}"
        return f"cancellation: {reply.body.get('outcome', f'HTTP {reply.code}')}"


def same_origin(link: str, base: str) -> bool:
    return urlsplit(link)[:2] == urlsplit(base)[:2]


def is_video(data: bytes) -> bool:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        position = len(data) if size == 0 else position + max(size, 8)
    return data[4:8] == b"ftyp" and position == len(data)


def retry_after(value: str | None, date: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None


def complaint(reply: Reply) -> str:
    body = reply.body
    return str(body.get("error") or body.get("error_message") or body.get("message") or reply.text[:200])
