"""A trace as an archive (HTTP Archive 1.2), without secrets. Knows no contract and no server."""

from __future__ import annotations

import base64
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.traces.exchange import SECRET_HEADERS, Exchange, Headers
from hobbyhorse.traces.trace import REDACTED, Trace, shows_key

# Only the owner reads a recording: prompts and pictures are private even without keys.
_PRIVATE = 0o600


def to_har(trace: Trace) -> dict[str, Any]:
    """Return a trace as a HAR 1.2 archive without secrets; times are exact to a microsecond."""
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "hobbyhorse", "version": "1"},
            "pages": [_page(page, trace) for page in sorted({one.page for one in trace.exchanges if one.page})],
            "entries": [_entry(one, trace.secret) for one in trace.exchanges],
        }
    }


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, also if it exists and others could. Raises OSError."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, _PRIVATE), "w", encoding="utf-8") as file:
        # Before the first byte is written, and before the old content is gone. A device such as /dev/stdout stays.
        if path.is_file():
            os.fchmod(file.fileno(), _PRIVATE)
            file.truncate(0)
        file.write(text)


def _page(page: str, trace: Trace) -> dict[str, Any]:
    began = min(one.arrived for one in trace.exchanges if one.page == page)
    return {"startedDateTime": _moment(began), "id": page, "title": page, "pageTimings": {}}


def _moment(moment: float) -> str:
    text = datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _entry(one: Exchange, secret: str | None) -> dict[str, Any]:
    # Rounded to microseconds, so that writing and reading a trace is stable.
    took = 0.0 if one.answered is None else max(0.0, round((one.answered - one.arrived) * 1000, 3))
    about = {"pageref": one.page, "_role": one.role, "_job": one.job, "_situation": one.situation, "_move": one.move}
    return {
        "startedDateTime": _moment(one.arrived),
        "time": took,
        "request": _request(one, secret),
        "response": _response(one, secret),
        "cache": {},
        "timings": {"send": 0, "wait": took, "receive": 0},
        # A reader need not guess which parts are missing.
        "_unrecorded": list(one.unrecorded),
        **{name: _hidden(value, secret) for name, value in about.items() if value is not None},
    }


def _request(one: Exchange, secret: str | None) -> dict[str, Any]:
    url = _hidden(one.url, secret)
    request: dict[str, Any] = {
        "method": one.method,
        "url": url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _listed(one.headers, secret),
        "queryString": [{"name": name, "value": value} for name, value in parse_qsl(urlsplit(url).query, True)],
        "headersSize": -1,
        "bodySize": len(one.body),
    }
    if one.body:
        request["postData"] = {"mimeType": one.header("content-type") or "", **_content(one.body, secret)}
    return request


def _response(one: Exchange, secret: str | None) -> dict[str, Any]:
    size = max(one.size, len(one.answer)) if one.status else 0
    content: dict[str, Any] = {"size": size, "mimeType": one.answer_header("content-type") or ""}
    if one.answer or not size:
        content |= _content(one.answer, secret)
    response = {
        "status": one.status,
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _listed(one.answer_headers, secret),
        "content": content,
        "redirectURL": _hidden(one.answer_header("location") or "", secret),
        "headersSize": -1,
        "bodySize": -1,
    }
    if not one.status:
        response["_error"] = "no response"
    elif not one.whole or one.answered is None:
        response["_error"] = "the response is incomplete"
    return response


def _listed(headers: Headers, secret: str | None) -> list[dict[str, str]]:
    return [
        {"name": name, "value": REDACTED if name in SECRET_HEADERS and not shows_key(value) else _hidden(value, secret)}
        for name, value in headers
    ]


def _hidden(text: str, secret: str | None) -> str:
    return text.replace(secret, REDACTED) if secret else text


def _content(body: bytes, secret: str | None) -> dict[str, str]:
    body = body.replace(secret.encode(), REDACTED.encode()) if secret else body
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body).decode(), "encoding": "base64"}
