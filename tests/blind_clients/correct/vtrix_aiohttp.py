"""Vtrix with aiohttp: no deadline, but at most 200 polls; the task is an async iterator of its states."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

POLLS = 200
INTERVAL = 3.0
PATIENT = 1800.0  # a longer Retry-After is not waited for
TROUBLE = (aiohttp.ClientError, asyncio.TimeoutError)


class Failed(Exception):
    """The message names the task and the reason."""


class GaveUp(Failed):
    """The task may be still running."""


async def generate(base_url: str, api_key: str, request: dict[str, Any]) -> bytes:
    base = base_url.rstrip("/") + "/model/v1/generation"
    timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {api_key}"}, timeout=timeout) as api:
        task = await create(api, base, request)
        async for state in states(api, f"{base}/task/{task}", task):
            if state["status"] == "failed":
                error = state.get("error")
                reason = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else error
                raise Failed(f"task {task} failed: {reason}")
            if state["status"] == "completed":
                video = await first_video(state)
                if video is not None:
                    return video
    raise GaveUp(f"task {task} is still running, or its video is unavailable, after {POLLS} polls")


async def create(api: aiohttp.ClientSession, url: str, request: dict[str, Any]) -> str:
    refusals = 0
    while refusals < 8:
        try:
            async with api.post(
                url, json=request, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=90, sock_connect=5)
            ) as response:
                status, wait = response.status, demanded(response)
                raw = await response.read()
        except aiohttp.ClientConnectorError:
            refusals += 1
            await asyncio.sleep(1.5 * refusals)
            continue
        except TROUBLE as error:
            raise Failed(
                f"submission: {type(error).__name__} before its response. A task may exist and cost money, so it is "
                "not submitted again; look it up in the provider's console"
            ) from error
        if status == 429:
            refusals += 1
            if (wait or 0.0) > PATIENT:
                raise Failed(f"submission: rate limited for {wait} s, no task was created")
            await asyncio.sleep(2.0 * refusals if wait is None else wait)
            continue
        body = decode(raw)
        if status >= 300 or "id" not in body:
            raise Failed(f"submission: HTTP {status}: {body.get('message') or raw[:200]!r}")
        return str(body["id"])
    raise Failed("submission: refused eight times, no task was created")


async def states(api: aiohttp.ClientSession, url: str, task: str) -> AsyncIterator[dict[str, Any]]:
    """Every state that was read, at most one per poll. Trouble that may pass is waited out, with growing waits."""
    row = 0
    for _ in range(POLLS):
        wait: float | None = None
        try:
            async with api.get(url, allow_redirects=False) as response:
                status, wait = response.status, demanded(response)
                raw = await response.read()
        except TROUBLE:
            row += 1
        else:
            body = decode(raw)
            if status == 200 and "status" in body:
                row = row + 1 if body["status"] == "completed" else 0  # asked again, if its video is unusable
                yield body
            elif 300 <= status < 500 and status not in (404, 408, 425, 429):
                raise Failed(f"task {task}: HTTP {status}: {body.get('message') or raw[:200]!r}")
            else:
                row += 1
        if (wait or 0.0) > PATIENT:
            raise GaveUp(f"task {task} is still running; the provider wants no request for {wait} s")
        await asyncio.sleep(max(wait or 0.0, min(INTERVAL * 1.6**row, 45.0)))


async def first_video(state: dict[str, Any]) -> bytes | None:
    """A session of its own, without the key."""
    try:
        contents = [content for output in state["output"] for content in output["content"]]
        link = next(content["url"] for content in contents if content.get("type") == "video")
    except (AttributeError, KeyError, TypeError, StopIteration):
        return None  # completed, but not (yet) as documented
    if not isinstance(link, str) or not link.startswith("http"):
        return None
    try:
        limits = aiohttp.ClientTimeout(total=300, sock_read=30)
        async with aiohttp.ClientSession(timeout=limits) as media, media.get(link, max_redirects=3) as response:
            if response.status != 200:
                return None
            data = await response.read()
    except TROUBLE:
        return None
    return data if intact(data) else None


def intact(data: bytes) -> bool:
    seen, here = set(), 0
    while here < len(data):
        size = int.from_bytes(data[here : here + 4], "big")
        seen.add(data[here + 4 : here + 8])
        if size == 0:
            break
        if size == 1:
            size = int.from_bytes(data[here + 8 : here + 16], "big")
        here += max(size, 8)
    return here <= len(data) and {b"ftyp", b"moov", b"mdat"} <= seen


def demanded(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers["Date"])
    except (KeyError, TypeError, ValueError):
        return None
    return max(0.0, (then - now).total_seconds())


def decode(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
