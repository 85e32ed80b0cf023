"""Runflow with httpx: one blocking call of up to ten minutes, and a way back if its response is lost.

The documented call answers only when the video is ready, so the connection has to live for minutes, and nothing tells
the run's id. If the response gets lost, the run is looked up in the list of runs (GET /v1/runs), never started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

DEADLINE = 600.0
SUCCESS, FAILURE = {"succeeded"}, {"failed", "cancelled", "canceled", "timed_out"}


class RunError(Exception):
    def __init__(self, text: str, run: str | None = None) -> None:
        super().__init__(f"{text} (run {run or 'of unknown id'})")
        self.run = run


class RunTimeout(RunError):
    pass


class Overdue(Exception):
    pass


class Deadline:
    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        if (left := self.end - time.monotonic()) <= 0:
            raise Overdue
        return left

    def waits(self, first: float, most: float) -> Iterator[None]:
        """Go round until the deadline, with growing pauses in between."""
        pause = first
        while True:
            yield
            time.sleep(min(pause, self.left()))
            pause = min(pause * 1.5, most)


def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "alibaba/happy-horse/image-to-video"
) -> bytes:
    deadline = Deadline(DEADLINE)
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=base_url, headers=headers, timeout=httpx.Timeout(20.0, connect=5.0)) as api:
        before = known_runs(api)
        run: str | None = None
        try:
            url = start(api, model, request, deadline)
            if url is None:
                run = find(api, request, before, deadline)
                url = follow(api, run, deadline)
            return download(url, deadline)
        except Overdue:
            raise RunTimeout("timed out after 600 s; it may still be running, and will be billed", run) from None


def start(api: httpx.Client, model: str, request: dict[str, Any], deadline: Deadline) -> str | None:
    """The video's URL, or None if the outcome is unknown."""
    for _ in deadline.waits(2.0, 30.0):
        patience = httpx.Timeout(deadline.left(), connect=5.0)
        try:
            response = api.post(f"/v1/run/{model}", json=request, timeout=patience)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue  # not sent
        except httpx.RequestError:
            return None
        if response.status_code == 429:
            time.sleep(min(retry_after(response), deadline.left()))
            continue
        body = parse(response)
        if 400 <= response.status_code < 500 and response.status_code != 408:
            raise RunError(
                f"HTTP {response.status_code} {body.get('code')}: {body.get('message') or body.get('errors')}"
            )
        video = body.get("video")
        if response.is_success and isinstance(video, dict) and isinstance(video.get("url"), str):
            return str(video["url"])
        if response.is_success and (body.get("code") or body.get("error") or body.get("failure_message")):
            raise RunError(f"failed: {body.get('failure_message') or body.get('message') or body.get('error')}")
        return None  # a gateway's error, a page, or a body that broke off: the run may exist
    raise AssertionError("unreachable")


def known_runs(api: httpx.Client) -> set[str] | None:
    """The ids of the runs so far; None if they cannot be had, in which case a lost run cannot be told apart."""
    try:
        items = parse(api.get("/v1/runs")).get("items")
    except httpx.RequestError:
        return None
    return (
        {item["id"] for item in items if isinstance(item, dict) and "id" in item} if isinstance(items, list) else None
    )


def find(api: httpx.Client, request: dict[str, Any], before: set[str] | None, deadline: Deadline) -> str:
    if before is None:
        raise RunError("response lost; check the list of runs by hand before you start another one")
    for turn, _ in enumerate(deadline.waits(2.0, 15.0)):
        try:
            response = api.get("/v1/runs", timeout=min(20.0, deadline.left()))
        except httpx.RequestError:
            continue
        items = parse(response).get("items")
        if not isinstance(items, list):
            time.sleep(min(retry_after(response), deadline.left()))
            continue
        items = [item for item in items if isinstance(item, dict) and item.get("input") == request]
        new = [item["id"] for item in items if item.get("id", "") not in {"", *before}]
        if len(new) == 1:
            return str(new[0])
        if new:
            raise RunError(f"response lost; it may be any of the equal runs {', '.join(map(str, new))}")
        if turn >= 5:
            break
    raise RunError("response lost, and no such run is listed; check before you start another one")


def follow(api: httpx.Client, run: str, deadline: Deadline) -> str:
    for _ in deadline.waits(2.0, 10.0):
        try:
            response = api.get(f"/v1/runs/{run}", timeout=min(20.0, deadline.left()))
        except httpx.RequestError:
            continue
        body = parse(response)
        if response.status_code in (401, 403):
            raise RunError(f"HTTP {response.status_code}: {body.get('message')}", run)
        if response.status_code in (429, 503):
            time.sleep(min(retry_after(response), deadline.left()))
        state = body.get("status_code") if response.is_success else None
        if state in FAILURE:
            raise RunError(f"{state}: {body.get('failure_code')}: {body.get('failure_message')}", run)
        if state in SUCCESS:
            try:
                return str(next(out["url"] for out in body["output"]["outputs"] if out["type"] == "video"))
            except (KeyError, TypeError, StopIteration):
                continue  # perhaps not written yet
    raise AssertionError("unreachable")


def download(url: str, deadline: Deadline) -> bytes:
    """Without the key, and again if it breaks off: the video is paid for."""
    problem = ""
    for turn, _ in enumerate(deadline.waits(1.0, 10.0)):
        try:
            response = httpx.get(url, timeout=min(60.0, deadline.left()), follow_redirects=True)
        except httpx.RequestError as error:
            problem = repr(error)
        else:
            if response.status_code == 200 and is_mp4(response.content):
                return response.content
            problem = f"HTTP {response.status_code}, {len(response.content)} bytes"
            if response.status_code == 429:
                time.sleep(min(retry_after(response), deadline.left()))
        if turn >= 7:
            break
    raise RunError(f"the run succeeded, but its video cannot be downloaded: {problem}")


def is_mp4(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        at += max(size, 8)
    return data[4:8] == b"ftyp" and at == len(data)


def retry_after(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    try:
        return float(value) if value.isdigit() else max(0.0, moment(value) - moment(response.headers.get("Date", "")))
    except (TypeError, ValueError):
        return 0.0


def moment(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


def parse(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
