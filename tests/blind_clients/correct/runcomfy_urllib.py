"""RunComfy with nothing but the standard library: two minutes, plain functions."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

MINUTES = 2
TRANSPORT_ERRORS = (OSError, http.client.HTTPException)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would take the key along to wherever it is sent, and turn a POST into a GET."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


API = urllib.request.build_opener(NoRedirect)
MEDIA = urllib.request.build_opener()


class VideoError(Exception):
    pass


class VideoTimeout(VideoError):
    pass


class Answer(NamedTuple):
    status: int
    headers: Message
    raw: bytes

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.raw)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def __str__(self) -> str:
        body = self.json()
        return f"HTTP {self.status}: {body.get('error_message') or body.get('error') or self.raw[:200]!r}"


class Call:
    """One order: its key, its base URL and the moment at which we stop waiting."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base = base_url.rstrip("/")
        self.key = api_key
        self.end = time.monotonic() + MINUTES * 60
        self.job: str | None = None

    def __call__(self, method: str, path: str, body: Any = None, grace: float = 0.0) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        timeout = max(grace, min(30.0, self.end - time.monotonic()), 0.05)
        try:
            with API.open(request, timeout=timeout) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, refusal.headers, refusal.read())

    def sleep(self, seconds: float, why: str) -> None:
        if time.monotonic() + seconds > self.end:
            raise VideoTimeout(f"timed out: request {self.job} not finished in {MINUTES} minutes ({why})")
        time.sleep(seconds)


def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "happyhorse/happyhorse-1.0/image-to-video"
) -> bytes:
    call = Call(base_url, api_key)
    call.job = submit(call, model, request)
    try:
        return wait_for_video(call)
    except VideoTimeout as late:
        # A running job cannot be cancelled, a queued one can, and only the provider knows which it is.
        try:
            answer = call("POST", f"/v1/requests/{call.job}/cancel", grace=5.0)
            note = str(answer.json().get("outcome") or answer)
        except TRANSPORT_ERRORS as error:
            note = repr(error)
        raise VideoTimeout(f"{late}; attempted to cancel: {note}") from None


def submit(call: Call, model: str, request: dict[str, Any]) -> str:
    for attempt in range(1, 6):
        try:
            answer = call("POST", f"/v1/models/{model}", request)
        except TRANSPORT_ERRORS as error:
            refused = isinstance(error, urllib.error.URLError) and isinstance(error.reason, ConnectionRefusedError)
            if not refused:
                raise VideoError(f"submitted, but lost the response; not submitting twice: {error!r}") from error
            call.sleep(attempt, "connection refused")
            continue
        if answer.status == 429:
            call.sleep(retry_after(answer.headers, 2.0 * attempt), "rate limited")
            continue
        job = answer.json().get("request_id")
        if not 200 <= answer.status < 300 or not job:
            raise VideoError(f"submission not confirmed: {answer}")
        return str(job)
    raise VideoError("submission refused five times")


def wait_for_video(call: Call) -> bytes:
    errors = 0
    while True:
        status = look(call, "status")
        state = status.json().get("status")
        if state == "cancelled":
            raise VideoError(f"request {call.job} was cancelled")
        result = look(call, "result") if state == "completed" else None
        link = None if result is None else link_of(call, result)
        video = None if link is None else download(call, link)
        if video is not None:
            return video
        worst = result or status
        healthy = worst.status == 200 and worst.json() and link is None
        errors = 0 if healthy else errors + 1
        call.sleep(2.0 if healthy else retry_after(worst.headers, min(20.0, 1.5**errors)), f"last seen: {state}")


def look(call: Call, what: str) -> Answer:
    try:
        answer = call("GET", f"/v1/requests/{call.job}/{what}")
    except TRANSPORT_ERRORS as error:
        return Answer(0, Message(), repr(error).encode())
    if 300 <= answer.status < 500 and answer.status not in (404, 408, 425, 429):
        raise VideoError(f"request {call.job}: no {what}: {answer}")
    return answer


def link_of(call: Call, result: Answer) -> str | None:
    body = result.json()
    if body.get("status") in ("failed", "cancelled") or body.get("error"):
        raise VideoError(f"request {call.job} {body.get('status')}: {body.get('error') or 'no reason given'}")
    output = body.get("output") if result.status == 200 else None
    if not isinstance(output, dict):
        return None
    link = output.get("video") or next(iter(output.get("videos") or []), None)
    return link if isinstance(link, str) and link.startswith(("http://", "https://")) else None


def download(call: Call, link: str) -> bytes | None:
    try:
        with MEDIA.open(link, timeout=max(0.05, min(30.0, call.end - time.monotonic()))) as response:
            data: bytes = response.read()  # IncompleteRead if shorter than its Content-Length
    except TRANSPORT_ERRORS:
        return None
    return data if data[4:8] == b"ftyp" and complete(data) else None


def complete(data: bytes) -> bool:
    offset = 0
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        if size == 0:
            return True
        offset += max(size, 8)
    return offset == len(data)


def retry_after(headers: Message, default: float) -> float:
    value = headers.get("Retry-After")
    if value is None:
        return default
    if value.isdigit():
        return float(value)
    try:
        now = parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError):
        return default
