"""Generate a video with Vtrix: submit, poll and download. One file to copy; it needs httpx and nothing else."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

LONGEST_WAIT = 600.0  # seconds until TimedOut
# Seconds between polls. The interval grows by a quarter after each.
LEAST_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1.0, 3.0, 10.0
TRIES = 5  # per submission, and per download
BORNE = {"refused": 1, "missing": 3, "useless": 4, "troubled": 8}  # bad responses in a row that the wait survives
TLS = httpx.create_ssl_context()  # created once: that takes longer than a request
SPEED = float(os.environ.get("HOBBYHORSE_SPEED") or 1)  # of the fake server's clock; 1 for a real provider


class Failed(Exception):
    """No video was returned. A plain Failed is final: the submission or the job has failed."""

    def __init__(self, job: str | None, why: object) -> None:
        super().__init__(f"job {job or 'unknown'}: {why}")
        self.job = job


class Lost(Failed):
    """The outcome of the submission or the job is unknown: continue with --resume, do not submit again."""


class TimedOut(Failed, TimeoutError):
    """The client has stopped waiting. The job goes on; --resume collects it."""


@dataclass(frozen=True)
class Answer:
    """A response. Status 0: none arrived, or not all of it; -1: not even the request was sent."""

    status: int = 0
    body: bytes = b""
    again: float | None = None

    def text(self, *path: str | int) -> str:
        """Return the string at a path in the JSON of a 2xx response; empty if there is none."""
        try:
            value: Any = json.loads(self.body) if 200 <= self.status < 300 else None
            for step in path:
                value = value[step]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return value if isinstance(value, str) else ""

    def __str__(self) -> str:
        return f"status {self.status}: {self.body[:300].decode(errors='replace')}" if self.status > 0 else "no response"


def ask(http: httpx.Client, method: str, url: str, within: float = 30, **more: Any) -> Answer:
    """Send a request; its whole response must arrive `within` seconds. Never redirect: the key would go along."""
    until = time.monotonic() + within
    try:
        with http.stream(method, url, follow_redirects=False, **more) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > until:
                    return Answer()
            return Answer(response.status_code, bytes(body), seconds(response.headers.get("Retry-After", "")))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Answer(-1)
    except (httpx.RequestError, httpx.InvalidURL):
        return Answer()


def seconds(told: str) -> float | None:
    """Return the seconds until the moment of a Retry-After, which is a number or a date."""
    try:
        # An HTTP-date is in GMT, also in the old form that does not say so.
        date = None if told.isdecimal() else parsedate_to_datetime(told).replace(tzinfo=timezone.utc)
        return float(told) if date is None else date.timestamp() - time.time()
    except (ValueError, TypeError):
        return None


def pause(answer: Answer, interval: float, deadline: float) -> bool:
    """Sleep for the Retry-After, else for the interval; return False if the deadline comes first."""
    left = deadline - time.monotonic() * SPEED
    if left < LEAST_INTERVAL or (answer.again or 0) > left:
        return False
    wait = interval * random.uniform(1, 1.25) if answer.again is None else max(answer.again * 1.02, LEAST_INTERVAL)
    time.sleep((wait if wait < left - LEAST_INTERVAL else left) / SPEED)  # the last poll falls on the deadline
    return True


def submit(api: httpx.Client, note: Mapping[str, Any], deadline: float) -> str:
    """Submit, and return the job's id. Submit again only after a refusal: Vtrix has no idempotency keys."""
    answer = Answer()
    for number in range(TRIES):
        if number and not pause(answer, 2.0**number, deadline):
            break
        answer = ask(api, "POST", f"{note['base_url']}/model/v1/generation", json=note["request"])
        if job := answer.text("id"):
            return job
        busy = answer.status in (-1, 429) or (answer.status == 503 and answer.body[:1] == b"{")
        if not busy:
            break
    refused = busy or (300 <= answer.status < 500 and answer.status not in (408, 409))
    raise (Failed if refused else Lost)(None, f"the submission returned no job: {answer}")


def wait(api: httpx.Client, base_url: str, job: str, deadline: float) -> str:
    """Poll until the job has succeeded; return the video's URL, empty if there is none."""
    answer, interval, seen, borne = Answer(), INTERVAL, False, Counter[str]()
    while pause(answer, interval, deadline):
        answer = ask(api, "GET", f"{base_url}/model/v1/generation/task/{quote(job, safe='')}")
        stage = answer.text("status")
        if stage == "completed":
            places = [("output", n, "content", m) for n in range(9) for m in range(9)]
            videos = [at for at in places if answer.text(*at, "type") == "video"]
            return answer.text(*(videos or places)[0], "url")
        if stage == "failed":
            raise Failed(job, answer)
        if stage:  # in progress, or an undocumented stage
            seen, borne = True, Counter()
        else:
            kind = trouble(answer, seen)
            borne[kind] += 1
            if borne[kind] > BORNE[kind]:
                raise Lost(job, f"its status cannot be read: {answer}")
        interval = min(interval * 1.25, LONGEST_INTERVAL)
    raise TimedOut(job, f"it is not done after {LONGEST_WAIT:.0f} s; last response: {answer}")


def trouble(answer: Answer, seen: bool) -> str:
    """Classify a response without a stage; `seen`: an earlier response had one."""
    if answer.status in (-1, 0, 408, 425, 429) or answer.status >= 500:
        return "troubled"
    if answer.status < 300:
        return "useless"
    return "missing" if answer.status == 404 and not seen else "refused"


def fetch(job: str, url: str, base_url: str) -> bytes | None:
    """Download the video without the key; return None if the link has expired."""
    if not public(url, base_url):
        raise Lost(job, "the URL of its video is not public")
    answer, deadline = Answer(), time.monotonic() * SPEED + LONGEST_WAIT
    with httpx.Client(timeout=10, verify=TLS, trust_env=False) as anybody:
        for number in range(TRIES):
            if number and not pause(answer, 2.0**number, deadline):
                break
            answer = ask(anybody, "GET", url, within=300)
            if answer.status == 200 and is_mp4(answer.body):
                return answer.body
            if answer.status in (403, 410):
                return None
    raise Lost(job, f"its video cannot be downloaded: status {answer.status}, {len(answer.body)} bytes")


def public(url: str, base_url: str) -> bool:
    """Return whether a URL is safe to fetch: http(s), on a public address or on the API's own host."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        if parts.hostname == urlsplit(base_url).hostname:
            return True
        found = [ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(parts.hostname, parts.port or 443)]
    except (OSError, ValueError):
        return False
    return all((getattr(address, "ipv4_mapped", None) or address).is_global for address in found)


def is_mp4(data: bytes) -> bool:
    """Return whether data is a complete MP4 file: its boxes fill it exactly."""
    kinds, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        kinds.append(data[at + 4 : at + 8])
        at += max(size, 8)
    return at == len(data) and kinds[:1] == [b"ftyp"] and {b"moov", b"mdat"} <= set(kinds)


def collect(api_key: str, note: Mapping[str, Any], keep: Callable[[Mapping[str, Any]], None]) -> bytes:
    """Submit if the note has no job, saving the note before and after; wait for the job; return its video."""
    base_url, deadline = note["base_url"], time.monotonic() * SPEED + LONGEST_WAIT
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(headers=headers, timeout=10, verify=TLS, trust_env=False) as api:
        if not note["job"]:
            if note["doubt"]:
                raise Lost(None, "the outcome of the submission is unknown: look for its job in the provider's console")
            keep({**note, "doubt": True})
            note = {**note, "job": submit(api, note, deadline)}
            keep(note)
        repeated: set[bool] = set()
        while True:  # a missing URL gets one more poll, and so does an expired one
            url = wait(api, base_url, note["job"], deadline)
            if url and (video := fetch(note["job"], url, base_url)):
                return video
            if bool(url) in repeated:
                break
            repeated.add(bool(url))
            deadline = max(deadline, time.monotonic() * SPEED + 60)
    raise (Lost if url else Failed)(note["job"], "it has succeeded, but its video is missing")


def generate(base_url: str, api_key: str, request: Mapping[str, Any]) -> bytes:
    """Return the MP4 for a request, which is the whole body of Vtrix's POST /model/v1/generation."""
    return collect(api_key, new(base_url, request), lambda note: None)


def new(base_url: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note of a submission to make. `doubt`: it may have been made."""
    return {"base_url": base_url.rstrip("/"), "request": dict(request), "job": None, "doubt": False}


def main() -> int:
    """Run with the HOBBYHORSE_* variables: keep a note beside the output, save the video, print the outcome."""
    env, output = os.environ, Path(os.environ["HOBBYHORSE_OUTPUT"])
    kept = output.with_name(output.name + ".job")
    request = json.loads(Path(env["HOBBYHORSE_REQUEST"]).read_text())
    try:
        note = json.loads(kept.read_text()) if kept.exists() else new(env["HOBBYHORSE_BASE_URL"], request)
        if "--resume" in sys.argv and not kept.exists():
            raise Failed(None, f"nothing to resume: {kept} does not exist")
        if note["request"] != request and "--resume" not in sys.argv:
            raise Lost(note["job"], f"{kept} belongs to another request: --resume collects its job")
        video = collect(env["HOBBYHORSE_API_KEY"], note, lambda note: save(kept, json.dumps(note).encode()))
    except Failed as error:
        named = {TimedOut: "timeout", Lost: "error"}.get(type(error), "failed")
        if named == "failed":
            kept.unlink(missing_ok=True)
        print(error, file=sys.stderr)
        print(json.dumps({"job": error.job, "class": named, "id_exposed": bool(error.job), "sha256": None}))
        return 1
    save(output, video)
    job = json.loads(kept.read_text())["job"]
    kept.unlink()
    print(json.dumps({"job": job, "class": "success", "id_exposed": True, "sha256": hashlib.sha256(video).hexdigest()}))
    return 0


def save(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
