"""Vtrix with urllib alone: no deadline, 120 polls at most, and a place to hook a progress bar in."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener, urlopen

MAX_POLLS = 120
NETWORK = (OSError, HTTPException)  # URLError, timeouts and resets are OSErrors


class Stay(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Make a redirect of the API an error: the key must not leave, and a POST must not be sent twice."""


opener = build_opener(Stay)


def show(task: str, state: str, progress: Any) -> None:
    if sys.stderr.isatty():
        print(f"\r{task} {state} {progress}", end="", file=sys.stderr)


def generate(
    base_url: str, api_key: str, request: dict[str, Any], on_progress: Callable[[str, str, Any], None] = show
) -> str:
    endpoint = f"{base_url.rstrip('/')}/model/v1/generation"
    task = _submit(endpoint, api_key, request)
    delay = 2.0
    for _ in range(MAX_POLLS):
        status, body, asked = _try_get(f"{endpoint}/task/{task}", api_key)
        if status in (400, 401, 402, 403, 405, 410, 422) or 300 <= status < 400:
            raise RuntimeError(f"task {task}: polling was refused: HTTP {status}: {body}")
        state = body.get("status") if status == 200 and isinstance(body, dict) else None
        if state == "failed":
            error = body.get("error")
            code, text = (error.get("code"), error.get("message")) if isinstance(error, dict) else (None, error)
            raise RuntimeError(f"task {task} failed: {text} ({code or 'no code'})")
        if state == "completed":
            path = _download(_link(body))
            if path is not None:
                return path
        if state is None or state == "completed":
            delay = min(delay * 2, 60.0)
        else:
            on_progress(task, state, body.get("progress"))
            delay = 4.0
        if asked is not None and asked > 3600:
            break
        time.sleep(max(delay, asked or 0.0))
    raise TimeoutError(f"task {task} still running (or without a usable video): gave up polling")


def _submit(endpoint: str, api_key: str, request: dict[str, Any]) -> str:
    data = json.dumps(request).encode()
    for attempt in range(6):
        try:
            status, body, asked = _send(Request(endpoint, data, {"Content-Type": "application/json"}), api_key, 60)
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise RuntimeError(f"submission without an answer, a task may exist: {error.reason!r}") from error
            status, body, asked = 0, "connection refused", None
        except NETWORK as error:
            raise RuntimeError(f"submission without an answer, a task may exist: {error!r}") from error
        if status not in (0, 429):
            break
        if attempt < 5:
            time.sleep(min(2.0**attempt if asked is None else asked, 600.0))
    if 200 <= status < 300 and isinstance(body, dict) and body.get("id"):
        return str(body["id"])
    message = body.get("message", body) if isinstance(body, dict) else body
    raise RuntimeError(f"no task: HTTP {status}: {str(message)[:300]}")


def _try_get(url: str, api_key: str) -> tuple[int, Any, float | None]:
    try:
        return _send(Request(url), api_key, 20)
    except NETWORK as error:
        return 0, repr(error), None


def _send(request: Request, api_key: str, timeout: float) -> tuple[int, Any, float | None]:
    request.add_unredirected_header("Authorization", f"Bearer {api_key}")
    try:
        response = opener.open(request, timeout=timeout)
    except HTTPError as error:
        response = error  # it is a response as well
    with response:
        raw, headers, status = response.read(), response.headers, response.status
    try:
        body = json.loads(raw)
    except ValueError:
        body = raw.decode("utf-8", "replace")
    return status, body, _seconds(headers.get("Retry-After"), headers.get("Date"))


def _seconds(value: str | None, date: str | None) -> float | None:
    try:
        return None if value is None else max(0.0, float(int(value)))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value or "") - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None


def _link(body: dict[str, Any]) -> str | None:
    try:
        for output in body["output"]:
            for content in output["content"]:
                if content["type"] == "video" and content["url"].startswith("http"):
                    return str(content["url"])
    except (AttributeError, KeyError, TypeError):
        pass
    return None


def _download(link: str | None) -> str | None:
    """To a file of its own, which appears only when it is complete. None: try again later."""
    if link is None:
        return None
    try:
        with urlopen(link, timeout=60) as response:
            data = response.read()
    except NETWORK:
        return None
    if not _is_complete_mp4(data):
        return None
    descriptor, part = tempfile.mkstemp(suffix=".part")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    path = f"{part[: -len('.part')]}.mp4"
    os.replace(part, path)
    return path


def _is_complete_mp4(data: bytes) -> bool:
    if data[4:8] != b"ftyp":
        return False
    offset = 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        if size == 1:
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        offset += size if size >= 8 else (len(data) - offset if size == 0 else len(data))
    return offset == len(data)
