"""Runflow with aiohttp: an interactive caller that waits 20 seconds and no longer."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

SECONDS = 20.0


class NoVideo(Exception):
    pass


class Late(NoVideo):
    pass


async def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "alibaba/happy-horse/image-to-video"
) -> Path:
    end = time.monotonic() + SECONDS
    url = await run(f"{base_url.rstrip('/')}/v1/run/{model}", api_key, request, end)
    return await save(url, end)


async def run(url: str, api_key: str, request: dict[str, Any], end: float) -> str:
    headers = {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=True) as session:
        for attempt in range(1, 10):
            # aiohttp's default would end the call after five minutes; ours is the deadline.
            timeout = aiohttp.ClientTimeout(total=left(end, "nothing is running"), sock_connect=4)
            try:
                async with session.post(url, json=request, timeout=timeout, allow_redirects=False) as response:
                    raw, status, wait = await response.read(), response.status, retry_after(response)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                await nap(attempt * 0.5, end, f"nothing is running: {error}")
                continue
            except asyncio.TimeoutError as error:
                raise Late(
                    f"timed out: no response within {SECONDS:.0f} s. The run goes on at Runflow and will be billed; "
                    "find it in the list of runs instead of starting it again"
                ) from error
            except aiohttp.ClientError as error:
                raise NoVideo(
                    f"the connection failed during the run, which may go on and be billed: {error!r}"
                ) from error
            if status == 429:
                await nap(attempt if wait is None else wait, end, "rate limited, nothing is running")
                continue
            return link(status, raw)
    raise NoVideo("refused nine times, nothing is running")


def link(status: int, raw: bytes) -> str:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if isinstance(body, dict) and status in (200, 201):
        video = body.get("video")
        if isinstance(video, dict) and isinstance(video.get("url"), str):
            return str(video["url"])
    if isinstance(body, dict) and "message" in body:
        raise NoVideo(f"HTTP {status} {body.get('code')}: {body['message']} {body.get('errors') or ''}")
    raise NoVideo(f"HTTP {status} with {raw[:200]!r}; the run may have been started all the same")


async def save(url: str, end: float) -> Path:
    problem: object = None
    async with aiohttp.ClientSession() as session:  # a new one: this host gets no key
        for attempt in range(6):
            try:
                timeout = aiohttp.ClientTimeout(total=left(end, "the video is ready, but not downloaded"))
                async with session.get(url, timeout=timeout, max_redirects=3) as response:
                    problem, wait = f"HTTP {response.status}", retry_after(response)
                    if response.status == 200:
                        data = await response.read()
                        problem = check(data)
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                problem, wait = repr(error), None
            if problem is None:
                path = Path(tempfile.mkdtemp()) / "runflow.mp4"
                path.write_bytes(data)
                return path
            pause = wait if wait is not None else 0.4 * 2**attempt
            await nap(pause, end, f"the video is ready, but not downloaded: {problem}")
    raise NoVideo(f"the run succeeded and is billed, but {url.partition('?')[0]} gives no video: {problem}")


def check(data: bytes) -> str | None:
    if data[4:8] != b"ftyp":
        return f"not an MP4: {data[:16]!r}"
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += size if size >= 8 else len(data) - at
    return None if at == len(data) else f"an MP4 of {len(data)} bytes that should have {at}"


def left(end: float, state: str) -> float:
    seconds = end - time.monotonic()
    if seconds <= 0:
        raise Late(f"deadline of {SECONDS:.0f} s: {state}")
    return seconds


async def nap(seconds: float, end: float, state: str) -> None:
    if seconds >= left(end, state):
        raise Late(f"deadline of {SECONDS:.0f} s: {state}")
    await asyncio.sleep(seconds)


def retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        gap = parsedate_to_datetime(value) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, gap.total_seconds())
