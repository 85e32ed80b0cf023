"""Archives as several recorders write them, made from scratch: the forms that they have when a part is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hobbyhorse.contract.folder import load
from tests.conftest import ROOT

ACME = load(ROOT / "tests" / "contract_folders" / "acme")
API = "https://api.acme.example"
SECRET = "sk-acme-123456"
ORDER = {"model": "acme/move", "input": {"image": "https://example.com/a.png", "prompt": "run"}}


def entry(
    method: str = "POST",
    url: str = f"{API}/v1/jobs",
    answer: Any = None,
    *,
    at: float = 0.0,
    sent: Any = None,
    status: int = 200,
    key: str | None = SECRET,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a complete entry of a JSON exchange that took 100 ms."""
    text = "" if answer is None else json.dumps(answer)
    body = "" if sent is None else json.dumps(sent)
    listed = {"Host": "api.acme.example", "Content-Type": "application/json", "Content-Length": str(len(body))}
    listed |= {"Authorization": f"Bearer {key}"} if key else {}
    request: dict[str, Any] = {
        "method": method,
        "url": url,
        "headers": named({**listed, **(headers or {})}),
        "bodySize": len(body),
    }
    if body:
        request["postData"] = {"mimeType": "application/json", "text": body}
    return {
        "startedDateTime": f"2026-01-01T00:{int(at // 60):02}:{at % 60:06.3f}Z",
        "time": 100,
        "request": request,
        "response": {
            "status": status,
            "headers": named({"Content-Type": "application/json", "Content-Length": str(len(text))}),
            "content": {"mimeType": "application/json", "size": len(text), "text": text},
        },
    }


def named(headers: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def archive(*entries: dict[str, Any], creator: str = "mitmproxy", **more: Any) -> dict[str, Any]:
    return {"log": {"version": "1.2", "creator": {"name": creator}, "entries": list(entries), **more}}


def submission(job: str = "job-1", **more: Any) -> dict[str, Any]:
    """Return an accepted submission."""
    return entry(answer={"id": job, "state": "queued"}, **{"sent": ORDER, "status": 201, **more})


def poll(job: str = "job-1", state: str = "working", **more: Any) -> dict[str, Any]:
    """Return a poll of a job."""
    return entry("GET", f"{API}/v1/jobs/{job}", {"id": job, "state": state}, **more)


def without_length(message: dict[str, Any]) -> None:
    message["headers"] = [one for one in message["headers"] if one["name"] != "Content-Length"]


def _absent_post_data(one: dict[str, Any]) -> None:
    del one["request"]["postData"]


def _null_text(one: dict[str, Any]) -> None:
    one["request"]["postData"] = {"mimeType": "application/json", "text": None, "params": []}


def _streamed_request(one: dict[str, Any]) -> None:
    _null_text(one)
    one["request"]["bodySize"] = 0


def _omitted_request(one: dict[str, Any]) -> None:
    one["request"]["postData"] = {"mimeType": "application/json", "text": "", "params": []}
    one["request"]["bodySize"] = -1
    without_length(one["request"])


def _chunked_request(one: dict[str, Any]) -> None:
    _streamed_request(one)
    without_length(one["request"])
    one["request"]["headers"] += named({"Transfer-Encoding": "chunked"})


def _cut_request(one: dict[str, Any]) -> None:
    one["request"]["postData"]["text"] = one["request"]["postData"]["text"][:20]


def _lost_file(one: dict[str, Any]) -> None:
    one["request"]["postData"] = {"mimeType": "application/json", "text": "", "_file": "lost.json"}


Change = Callable[[dict[str, Any]], None]
"""Remove a part of an entry, as a recorder leaves it out."""

REQUEST_BODIES: dict[str, Change] = {
    "Chrome, without postData": _absent_post_data,
    "mitmproxy, with a text of null": _null_text,
    "mitmproxy, with stream_large_bodies": _streamed_request,
    "mitmproxy, streamed in chunks": _chunked_request,
    "Playwright, with content: omit": _omitted_request,
    "Playwright, with a lost attachment": _lost_file,
    "a recorder that cuts bodies": _cut_request,
}


def _content(**content: Any) -> Change:
    def change(one: dict[str, Any]) -> None:
        one["response"]["content"] = {"mimeType": "application/json", **content}

    return change


def _safari(one: dict[str, Any]) -> None:
    _content(size=44, compression=0)(one)
    one["response"]["bodySize"] = 44


def _streamed(one: dict[str, Any]) -> None:
    _content(size=0, compression=0, text="")(one)
    one["response"]["bodySize"] = 0


def _streamed_in_chunks(one: dict[str, Any]) -> None:
    _streamed(one)
    without_length(one["response"])


def _charles(one: dict[str, Any]) -> None:
    one["response"]["content"] = {"size": 44, "mimeType": "application/json", "encoding": "base64"}


def _no_content(one: dict[str, Any]) -> None:
    del one["response"]["content"]
    without_length(one["response"])


def _brotli(one: dict[str, Any]) -> None:
    _content(size=9, encoding="base64", text="iweAewog/wM=")(one)
    one["response"]["headers"] = named({"Content-Type": "application/json", "Content-Encoding": "br"})


def _long(one: dict[str, Any]) -> None:
    text = json.dumps({"id": "job-1", "state": "done", "note": "x" * 70_000})
    _content(size=len(text), text=text)(one)
    one["response"]["headers"] = named({"Content-Length": str(len(text))})


RESPONSE_BODIES: dict[str, Change] = {
    "Chrome, evicted from its cache": _content(size=44),
    "Firefox, over its limit": _content(size=44, comment="the response body is not included"),
    "Safari": _safari,
    "Playwright, with content: omit": _content(size=-1),
    "Playwright, with a lost attachment": _content(size=44, _file="lost.json"),
    "mitmproxy, with stream_large_bodies": _streamed,
    "mitmproxy, streamed in chunks": _streamed_in_chunks,
    "Charles": _charles,
    "Insomnia": _content(size=44, text=""),
    "no content at all": _no_content,
    "compressed, in a way that is not read": _brotli,
    "longer than a trace keeps": _long,
}
