"""Vtrix with httpx.AsyncClient: two minutes in all, a small state machine, typed results."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

SUBMIT = "/model/v1/generation"
TASK = "/model/v1/generation/task/{id}"
TOTAL_SECONDS = 120
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})


class VtrixError(Exception):
    """Carries the task (if there is one), the provider's code and its message."""

    def __init__(self, message: str, task: str | None = None, code: str | None = None) -> None:
        super().__init__(message if task is None else f"task {task}: {message}")
        self.task, self.code = task, code


class VtrixTimeout(VtrixError, TimeoutError):
    """The task has not ended within our deadline. It goes on, and its result can be fetched later by its id."""


class Unconfirmed(VtrixError):
    """The submission may or may not have been accepted. A person must look before it is repeated."""


@dataclass(frozen=True)
class Clock:
    end: float

    @classmethod
    def of(cls, seconds: float) -> Clock:
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        return self.end - time.monotonic()

    async def sleep(self, seconds: float, task: str | None, why: str) -> None:
        if seconds >= self.left():
            raise VtrixTimeout(f"timed out, no video after {TOTAL_SECONDS} s ({why})", task)
        await asyncio.sleep(seconds)


async def generate(base_url: str, api_key: str, request: dict[str, Any]) -> bytes:
    clock = Clock.of(TOTAL_SECONDS)
    async with clients(base_url, api_key) as (api, media):
        task = await submit(api, request, clock)
        failures = 0
        while True:
            body, hint = await poll(api, task, clock)
            if body.get("status") == "completed":
                video = await download(media, find_video(body), clock)
                if video:
                    return video
            if hint is None and body.get("status") != "completed":
                failures = 0
                await clock.sleep(random.uniform(1.5, 2.5), task, f"{body.get('status')}, {body.get('progress')}")
            else:
                failures += 1
                wait = max(hint or 0.0, min(20.0, 2.0 ** min(failures, 5)))
                await clock.sleep(wait, task, f"{failures} failures in a row")


@contextlib.asynccontextmanager
async def clients(base_url: str, api_key: str) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """One client with the key, for the API only, and one without, for the files."""
    headers = {"Authorization": f"Bearer {api_key}"}
    timeout = httpx.Timeout(20.0, connect=5.0)
    async with (
        httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout) as api,
        httpx.AsyncClient(timeout=timeout, follow_redirects=True, max_redirects=3) as media,
    ):
        yield api, media


async def submit(api: httpx.AsyncClient, request: dict[str, Any], clock: Clock) -> str:
    for attempt in range(1, 7):
        try:
            response = await api.post(SUBMIT, json=request, timeout=httpx.Timeout(60.0, connect=5.0))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            await clock.sleep(1.0 * attempt, None, "cannot connect, nothing submitted")
            continue
        except httpx.RequestError as error:
            raise Unconfirmed(f"the response to the submission did not arrive: {type(error).__name__}") from error
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            wait = retry_after(response)
            await clock.sleep(2.0**attempt if wait is None else wait, None, "rate limited, nothing submitted")
            continue
        return task_of(response)
    raise VtrixError("the provider refused the submission six times")


def task_of(response: httpx.Response) -> str:
    body = read(response)
    if 400 <= response.status_code < 500:
        raise VtrixError(f"refused with HTTP {response.status_code}: {body.get('message') or response.text[:200]}")
    task = body.get("id")
    if not response.is_success or not isinstance(task, str) or not task:
        raise Unconfirmed(f"HTTP {response.status_code} instead of a task: {response.text[:200]!r}")
    if body.get("status") == "failed":
        raise failed(body, task)
    return task


async def poll(api: httpx.AsyncClient, task: str, clock: Clock) -> tuple[dict[str, Any], float | None]:
    """The task, and None; or if there was trouble that may pass: {}, and how long to wait at least."""
    try:
        response = await api.get(TASK.format(id=task), timeout=max(0.1, min(15.0, clock.left())))
    except httpx.RequestError:
        return {}, 0.0
    if response.status_code in BUSY or response.status_code == 404:
        return {}, retry_after(response) or 0.0
    body = read(response)
    if not response.is_success:
        message = body.get("message") or response.text[:200]
        raise VtrixError(f"polling refused with HTTP {response.status_code}: {message}", task)
    if not body or body.get("id", task) != task:
        return {}, 0.0
    if body.get("status") == "failed":
        raise failed(body, task)
    return body, None


def failed(body: dict[str, Any], task: str) -> VtrixError:
    error = body.get("error")
    if not isinstance(error, dict):
        return VtrixError(f"failed: {error or 'no reason given'}", task)
    return VtrixError(f"failed with {error.get('code')}: {error.get('message')}", task, str(error.get("code")))


def find_video(body: dict[str, Any]) -> str | None:
    try:
        contents = [content for output in body["output"] for content in output["content"]]
        return next(str(content["url"]) for content in contents if content["type"] == "video")
    except (KeyError, TypeError, StopIteration):
        return None  # not as documented, so look again later


async def download(media: httpx.AsyncClient, url: str | None, clock: Clock) -> bytes | None:
    if url is None or not url.startswith(("https://", "http://")):
        return None
    try:
        response = await asyncio.wait_for(media.get(url), max(0.1, min(60.0, clock.left())))
    except (httpx.RequestError, httpx.InvalidURL, asyncio.TimeoutError):
        return None
    return response.content if response.status_code == 200 and sound(response.content) else None


def sound(data: bytes) -> bool:
    """An MP4 is a row of boxes, and the last one ends where the file ends."""
    kinds, rest = [], memoryview(data)
    while len(rest) >= 8:
        size = int.from_bytes(rest[:4], "big") or len(rest)
        size = int.from_bytes(rest[8:16], "big") if size == 1 else size
        if not 8 <= size <= len(rest):
            return False
        kinds.append(bytes(rest[4:8]))
        rest = rest[size:]
    return not rest and kinds[:1] == [b"ftyp"] and b"moov" in kinds


def retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after")
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        return float(max(0, int(value)))
    with contextlib.suppress(TypeError, ValueError, KeyError):
        now = parsedate_to_datetime(response.headers["date"])
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    return None


def read(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
