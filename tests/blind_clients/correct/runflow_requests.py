"""Runflow with requests: no deadline of its own, a read timeout of 15 minutes, a bounded number of attempts.

POST /v1/run/... blocks until the video exists. Each POST that reaches Runflow may start a run that is billed per
second of video, and nothing in the documentation makes a repetition safe. So: at most one POST is ever answered with
anything but a plain refusal, and everything else ends in an error that says so.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

READ_TIMEOUT = 15 * 60
REFUSALS = 6
DOWNLOADS = 6


class RunflowError(Exception):
    """Something is final. `billed` is False if certainly no run was paid for, None if that is unknown."""

    def __init__(self, message: str, billed: bool | None = None) -> None:
        note = {True: "it is billed", False: "nothing was billed", None: "it may be billed: check before repeating"}
        super().__init__(f"{message} ({note[billed]})")
        self.billed = billed


def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "alibaba/happy-horse/image-to-video"
) -> bytes:
    endpoint = f"{base_url.rstrip('/')}/v1/run/{model}"
    response = _run(endpoint, api_key, request)
    body = _json(response)
    if not 200 <= response.status_code < 300:
        refused = 400 <= response.status_code < 500 and response.status_code not in (408, 409, 499)
        raise RunflowError(_describe(response, body), billed=False if refused else None)
    video = body.get("video")
    url = video.get("url") if isinstance(video, dict) else None
    if not isinstance(url, str):
        raise RunflowError(f"answered, but without video.url: {_describe(response, body)}")
    return _fetch(url)


def _run(endpoint: str, api_key: str, request: dict[str, Any]) -> requests.Response:
    headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
    for attempt in range(REFUSALS):
        try:
            response = requests.post(
                endpoint, json=request, headers=headers, timeout=(5, READ_TIMEOUT), allow_redirects=False
            )
        except requests.ConnectionError as error:
            if not _never_connected(error):
                raise RunflowError(f"connection lost during the run: {error}") from error
            time.sleep(2**attempt)
        except requests.RequestException as error:
            raise RunflowError(f"no usable response to the run: {error!r}") from error
        else:
            if response.status_code != 429:
                return response
            if attempt + 1 < REFUSALS:
                time.sleep(min(_retry_after(response, 2.0**attempt), 900.0))
    raise RunflowError(f"not admitted in {REFUSALS} attempts (rate limited or unreachable)", billed=False)


def _never_connected(error: requests.ConnectionError) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, (NewConnectionError, ConnectTimeoutError))


def _fetch(url: str) -> bytes:
    """A new request without our headers; `trust_env` off, so that no .netrc entry is sent either."""
    problem = "no attempt"
    with requests.Session() as session:
        session.trust_env = False
        for attempt in range(DOWNLOADS):
            if attempt:
                time.sleep(min(2.0**attempt, 20.0))
            try:
                response = session.get(url, timeout=(5, 60), headers={"Accept-Encoding": "identity"})
            except requests.RequestException as error:
                problem = repr(error)
                continue
            data = response.content
            announced = int(response.headers.get("Content-Length", len(data)))
            if response.status_code == 200 and announced == len(data) and _boxes(data)[:1] == [b"ftyp"]:
                return data
            problem = f"HTTP {response.status_code}, {len(data)} of {announced} bytes"
            if response.status_code in (429, 503):
                time.sleep(min(_retry_after(response, 0.0), 300.0))
    raise RunflowError(f"the run has succeeded, but the video at {url.split('?')[0]} fails: {problem}", billed=True)


def _boxes(data: bytes) -> list[bytes]:
    """The kinds of the top-level boxes; none if they do not end where the file ends."""
    kinds, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kinds.append(data[at + 4 : at + 8])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at = len(data) if size == 0 else at + max(8, size)
    return kinds if at == len(data) and b"moov" in kinds else []


def _retry_after(response: requests.Response, default: float) -> float:
    value = response.headers.get("Retry-After")
    if not value:
        return default
    if value.strip().isdigit():
        return float(value)
    try:
        due = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return default
    date = response.headers.get("Date")
    now = parsedate_to_datetime(date) if date else datetime.now(timezone.utc)
    return max(0.0, (due - now).total_seconds())


def _describe(response: requests.Response, body: dict[str, Any]) -> str:
    said = body.get("message") or body.get("error") or body.get("detail") or response.text[:200]
    details = "; ".join(str(error) for error in body.get("errors") or [])
    return f"HTTP {response.status_code} {body.get('code', '')}: {said} {details}".strip()


def _json(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
