"""RunComfy with httpx: synchronous, with one deadline of 20 seconds for the whole call."""

from __future__ import annotations

import email.utils
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

DEADLINE = 20.0
MODEL = "happyhorse/happyhorse-1.0/image-to-video"
RETRYABLE = {408, 425, 429, 500, 502, 503, 504}
WAITING = {"in_queue", "in_progress"}


class RunComfyError(Exception):
    """The job, or the attempt to submit it, has failed for good."""

    def __init__(self, reason: str, request_id: str | None = None) -> None:
        super().__init__(f"RunComfy request {request_id}: {reason}" if request_id else f"RunComfy: {reason}")
        self.request_id = request_id


class RunComfyTimeout(RunComfyError):
    """Our deadline has passed; the job may still be running."""


class Retry(Exception):
    """Internal: this attempt gave no usable response, but another one may."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


def generate(base_url: str, api_key: str, request: dict[str, Any], model: str = MODEL) -> Path:
    ends = time.monotonic() + DEADLINE
    auth = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=base_url, headers=auth, follow_redirects=False) as api:
        job = submit(api, model, request, ends)
        try:
            return collect(api, job, ends)
        except RunComfyTimeout as late:
            raise RunComfyTimeout(f"timed out after {DEADLINE:.0f} s ({late}); {cancel(api, job)}", job) from late


def submit(api: httpx.Client, model: str, request: dict[str, Any], ends: float) -> str:
    """Submit once. There is no idempotency key, so only a certain refusal permits a second attempt."""
    for attempt in range(6):
        try:
            response = api.post(f"/v1/models/{model}", json=request, timeout=remaining(ends))
        except (httpx.ConnectError, httpx.ConnectTimeout) as unreachable:
            pause(attempt, ends, None, why=f"cannot connect: {unreachable}")
            continue
        except httpx.HTTPError as lost:
            raise RunComfyError(
                f"the response to the submission was lost ({lost!r}); it may have been accepted, not repeating it"
            ) from lost
        if response.status_code == 429:
            pause(attempt, ends, retry_after(response), why="rate limited")
            continue
        if not response.is_success:
            raise RunComfyError(f"submission refused or uncertain, not repeating it: {describe(response)}")
        body = as_object(response)
        if not body.get("request_id"):
            raise RunComfyError(f"accepted, but without a request_id: {describe(response)}")
        return str(body["request_id"])
    raise RunComfyError("still rate limited or unreachable after 6 attempts; nothing was submitted")


def collect(api: httpx.Client, job: str, ends: float) -> Path:
    path = f"/v1/requests/{quote(job, safe='')}"
    failures = 0
    while True:
        try:
            status = fetch(api, f"{path}/status", job, ends).get("status")
            if status == "cancelled":
                raise RunComfyError("was cancelled", job)
            if status == "completed":
                result = fetch(api, f"{path}/result", job, ends)
                url = video_url(result, job)
                if url is not None:
                    return download(url, ends)
            failures = 0
            pause(0, ends, 0.7, why=f"last status {status}")
        except Retry as retry:
            failures += 1
            pause(failures, ends, retry.wait, why=str(retry))


def fetch(api: httpx.Client, path: str, job: str, ends: float) -> dict[str, Any]:
    try:
        response = api.get(path, timeout=min(5.0, remaining(ends)))
    except httpx.HTTPError as error:
        raise Retry(f"{error!r}") from error
    # A job that was accepted a moment ago may not be known everywhere yet, hence 404.
    if response.status_code in RETRYABLE or response.status_code == 404:
        raise Retry(f"HTTP {response.status_code}", retry_after(response))
    if not response.is_success:
        raise RunComfyError(describe(response), job)
    body = as_object(response)
    if not body:
        raise Retry(f"not a JSON object: {describe(response)}")
    if body.get("request_id", job) != job:
        raise Retry("the response is about another request")
    return body


def video_url(result: dict[str, Any], job: str) -> str | None:
    status = result.get("status")
    if status in WAITING:
        return None
    if status in {"failed", "error", "cancelled"} or result.get("error"):
        raise RunComfyError(f"{status}: {result.get('error') or 'no reason given'}", job)
    output = result.get("output")
    if isinstance(output, dict):
        videos = output.get("videos")
        for url in (output.get("video"), *(videos if isinstance(videos, list) else ())):
            if isinstance(url, str) and url.startswith(("https://", "http://")):
                return url
    raise Retry(f"completed ({status}), but without a video so far")


def download(url: str, ends: float) -> Path:
    """Without the key: the file's host is not the API's. A broken download is tried again with a fresh link."""
    target = Path(tempfile.mkdtemp(prefix="runcomfy-")) / "video.mp4"
    partial = target.with_suffix(".part")
    try:
        with httpx.stream("GET", url, timeout=min(10.0, remaining(ends)), follow_redirects=True) as response:
            if response.status_code != 200:
                raise Retry(f"the video's link gave HTTP {response.status_code}", retry_after(response))
            with partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    remaining(ends)
                    file.write(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Retry(f"download broke off: {error!r}") from error
    if not whole_mp4(partial.read_bytes()):
        raise Retry("the download is not a complete MP4")
    return partial.replace(target)


def whole_mp4(data: bytes) -> bool:
    """Whether the boxes of the file fill it exactly, and the index and the media are among them."""
    at, kinds = 0, set()
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:
            size = len(data) - at
        if size < 8:
            return False
        kinds.add(kind)
        at += size
    return at == len(data) and {b"ftyp", b"moov", b"mdat"} <= kinds


def cancel(api: httpx.Client, job: str) -> str:
    """A queued job can be cancelled and then costs nothing; a running one cannot."""
    try:
        response = api.post(f"/v1/requests/{quote(job, safe='')}/cancel", timeout=5.0)
    except httpx.HTTPError as error:
        return f"cancelling it failed: {error!r}"
    return f"cancelling it gave HTTP {response.status_code}, {as_object(response).get('outcome', 'no outcome')}"


def remaining(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise RunComfyTimeout("deadline")
    return left


def pause(attempt: int, ends: float, wait: float | None, why: str) -> None:
    seconds = wait if wait is not None else min(8.0, 0.5 * 2**attempt) * random.uniform(0.8, 1.2)
    if time.monotonic() + seconds >= ends:
        raise RunComfyTimeout(f"deadline; {why}")
    time.sleep(seconds)


def retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        due = email.utils.parsedate_to_datetime(value).timestamp()
        sent = email.utils.parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return None
    return max(0.0, due - sent)


def as_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def describe(response: httpx.Response) -> str:
    return f"HTTP {response.status_code} {response.text[:300]}"
