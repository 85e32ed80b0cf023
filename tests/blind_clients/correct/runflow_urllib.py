"""Runflow with urllib: the blocking call runs in a thread, the caller waits for it for ten minutes."""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any

TEN_MINUTES = 600.0


class RunflowError(Exception):
    pass


class RunflowTimeout(RunflowError):
    pass


class _Refuse(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "alibaba/happy-horse/image-to-video"
) -> bytes:
    outcome: queue.Queue[bytes | Exception] = queue.Queue()
    end = time.monotonic() + TEN_MINUTES

    def work() -> None:
        try:
            url = _run(f"{base_url.rstrip('/')}/v1/run/{model}", api_key, json.dumps(request).encode(), end)
            outcome.put(_download(url, end))
        except Exception as error:
            outcome.put(error)

    # A socket timeout bounds each read, not the call: only a second thread can promise ten minutes.
    threading.Thread(target=work, daemon=True, name="runflow").start()
    try:
        result = outcome.get(timeout=TEN_MINUTES)
    except queue.Empty:
        raise RunflowTimeout(
            "timed out after 10 minutes. Runflow gives no run id before the end and documents no way to cancel, "
            "so the run may finish and be billed: do not start it again without a look at the list of runs"
        ) from None
    if isinstance(result, Exception):
        raise result
    return result


def _run(url: str, api_key: str, data: bytes, end: float) -> str:
    opener = urllib.request.build_opener(_Refuse)
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    for attempt in range(1, 7):
        try:
            with opener.open(urllib.request.Request(url, data, headers), timeout=_left(end)) as response:
                return _url(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raw = _read(error)
            if error.code != 429:
                raise RunflowError(_message(error.code, raw)) from error
            _sleep(_retry_after(error, 2.0 * attempt), end, "rate limited; no run was started")
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise _unknown(error.reason) from error
            _sleep(2.0 * attempt, end, "connection refused; no run was started")
        except (OSError, http.client.HTTPException) as error:
            raise _unknown(error) from error
    raise RunflowError("six refusals; no run was started")


def _unknown(error: object) -> RunflowError:
    return RunflowError(
        f"the run's response was lost ({type(error).__name__}); it may go on and be billed, not repeated"
    )


def _url(raw: bytes) -> str:
    try:
        body = json.loads(raw)
        url = body["video"]["url"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunflowError(f"a success without video.url: {raw[:300]!r}; the run may be billed") from error
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise RunflowError(f"the video's URL is {url!r}")
    return url


def _message(code: int, raw: bytes) -> str:
    try:
        body = json.loads(raw)
        text = f"{body['code']}: {body['message']} {body.get('errors') or ''}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        text = repr(raw[:200])
    doubt = "" if 400 <= code < 500 else "; the run may have been started, so it is not repeated"
    return f"HTTP {code}: {text}{doubt}"


def _download(url: str, end: float) -> bytes:
    """GET is safe to repeat; no header of ours goes along."""
    problem = ""
    for attempt in range(8):
        wait = min(15.0, 0.5 * 2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=min(60.0, _left(end))) as response:
                data: bytes = response.read()
            if data[4:8] == b"ftyp" and _ends(data):
                return data
            problem = f"{len(data)} bytes that are no complete MP4"
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"HTTP {error.code}"
            wait = _retry_after(error, wait)
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        _sleep(wait, end, f"the run has succeeded; its video: {problem}")
    raise RunflowError(f"the run has succeeded and is billed, but its video cannot be downloaded: {problem}")


def _ends(data: bytes) -> bool:
    place = 0
    while place + 8 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if size == 0:
            return True
        if size == 1:
            size = int.from_bytes(data[place + 8 : place + 16], "big")
        place += max(8, size)
    return place == len(data)


def _read(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read()
    except (OSError, http.client.HTTPException):
        return b""


def _retry_after(error: urllib.error.HTTPError, default: float) -> float:
    value = error.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        gap = parsedate_to_datetime(value) - parsedate_to_datetime(error.headers.get("Date", ""))
    except (TypeError, ValueError):
        return default
    return max(0.0, gap.total_seconds())


def _left(end: float) -> float:
    return max(0.05, end - time.monotonic())


def _sleep(seconds: float, end: float, state: str) -> None:
    if time.monotonic() + seconds >= end:
        raise RunflowTimeout(f"deadline of 10 minutes: {state}")
    time.sleep(seconds)
