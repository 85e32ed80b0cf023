"""Order a video from HiAPI, be told when it is done, and fetch it: one file to copy, which needs httpx only."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import os
import random
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import httpx

LONGEST_WAIT, KEY_LIFE, TOLERANCE = 600.0, 86000.0, 300.0
LEAST_INTERVAL, TOLD_INTERVAL, INTERVAL, LONGEST_INTERVAL = 1.0, 3.0, 30.0, 60.0
TRIES = 5  # of an order, and of a download
BORNE = {"refused": 1, "missing": 3, "useless": 4, "troubled": 8}  # answers in a row that do not lose the job
TLS = httpx.create_ssl_context()  # made once, for it takes longer than a request
SPEED = float(os.environ.get("HOBBYHORSE_SPEED") or 1)  # of a fake's clock; a real provider's runs at 1
STARTED = time.time()


class Callback(Protocol):
    """Where to be told, and the secret that it is signed with."""

    url: str
    secret: str


class Failed(Exception):
    """There is no video, and there will be none."""

    def __init__(self, job: str | None, why: object) -> None:
        super().__init__(f"job {job or 'unknown'}: {why}")
        self.job = job


class Lost(Failed):
    """What became of the order or the job is not known: collect it with --resume, do not order again."""


class TimedOut(Failed, TimeoutError):
    """The client has waited long enough; the job goes on, and is collected with --resume."""


@dataclass(frozen=True)
class Answer:
    """What came back: status 0 is nothing, or not all of it; -1 says that no request went out, either."""

    status: int = 0
    body: bytes = b""
    again: float | None = None

    def text(self, *path: str | int) -> str:
        """Return the text that a 2xx has in a place of its JSON; empty where there is none."""
        try:
            value: Any = json.loads(self.body) if 200 <= self.status < 300 else None
            for step in path:
                value = value[step]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        return value if isinstance(value, str) else ""

    def __str__(self) -> str:
        return f"status {self.status}: {self.body[:300].decode(errors='replace')}" if self.status > 0 else "no answer"


def ask(http: httpx.Client, method: str, url: str, within: float = 30, **more: Any) -> Answer:
    """Send one request, whose whole answer has to come in time. Redirects are not followed: they would get the key."""
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
    """Return what a Retry-After asks for, which is a number or a date."""
    try:
        return float(told) if told.isdecimal() else parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError):
        return None


def pause(answer: Answer, interval: float, deadline: float, woken: Callable[[], bool] = lambda: False) -> bool:
    """Sleep for as long as the provider asks, else for the interval or until woken; False where time would run out."""
    left = deadline - time.monotonic() * SPEED
    if left < LEAST_INTERVAL or (answer.again or 0) > left:
        return False
    wait = interval * random.uniform(1, 1.25) if answer.again is None else max(answer.again * 1.02, LEAST_INTERVAL)
    until = time.monotonic() * SPEED + (wait if wait < left - LEAST_INTERVAL else left)  # the deadline has a poll, too
    time.sleep(LEAST_INTERVAL / SPEED)
    while (left := until - time.monotonic() * SPEED) > 0 and (answer.again is not None or not woken()):
        time.sleep(min(left, LEAST_INTERVAL) / SPEED)
    return True


@contextlib.contextmanager
def listening(callback: Callback) -> Iterator[set[str]]:
    """Listen for callbacks, and give the jobs that genuine ones have named: more of what they say is not believed."""
    heard: set[str] = set()
    place = urlsplit(callback.url)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            """Acknowledge at once; a job that nobody waits for, or that was named before, changes nothing."""
            length = self.headers.get("Content-Length", "")
            body = self.rfile.read(int(length)) if length.isdecimal() and int(length) < 1_000_000 else b""
            believed = urlsplit(self.path).path == (place.path or "/") and genuine(callback.secret, self.headers, body)
            if believed and (job := Answer(200, body).text("taskId")):
                heard.add(job)
            self.send_response(204 if believed else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((place.hostname or "", place.port or 80), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield heard
        finally:
            server.shutdown()


def genuine(secret: str, headers: Message, body: bytes) -> bool:
    """Whether HiAPI has signed it, and lately by its own clock."""
    timestamp = headers.get("X-HiAPI-Timestamp", "")
    if not timestamp.isdecimal() or abs(STARTED + (time.time() - STARTED) * SPEED - int(timestamp)) > TOLERANCE:
        return False
    expected = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), headers.get("X-HiAPI-Signature", "").encode())


def submit(api: httpx.Client, note: Mapping[str, Any], deadline: float) -> str:
    """Order, and return the job's id. A lost answer is asked for again with the same key, which HiAPI replays."""
    answer, doubt, key = Answer(), note["doubt"], {"Idempotency-Key": note["key"]}
    for number in range(TRIES):
        if number and not pause(answer, 2.0**number, deadline):
            break
        answer = ask(api, "POST", f"{note['base_url']}/v1/tasks", json=note["request"], headers=key)
        if job := answer.text("data", "taskId"):
            return job
        under_way = answer.status == 409 and b"IDEMPOTENCY_KEY_PROCESSING" in answer.body
        certain = answer.status in (-1, 429, 503) or (300 <= answer.status < 500 and answer.status not in (408, 409))
        doubt = doubt or not certain
        final = 300 <= answer.status < 500 and not under_way and answer.status not in (408, 425, 429)
        if final or b"TASK_FAILED" in answer.body:
            break
    raise (Lost if doubt else Failed)(None, f"the order with the key {note['key']} was not accepted: {answer}")


def wait(api: httpx.Client, base_url: str, job: str, deadline: float, heard: set[str]) -> str:
    """Poll when a callback says so, and now and then, until there is a video; return its address, empty without one."""
    answer, interval, seen, borne = Answer(), INTERVAL, False, Counter[str]()
    while pause(answer, interval, deadline, lambda: job in heard):
        if job in heard:
            heard.remove(job)
            interval = TOLD_INTERVAL
        answer = ask(api, "GET", f"{base_url}/v1/tasks/{quote(job, safe='')}")
        stage = answer.text("data", "status")
        if stage == "success":
            outputs = [n for n in range(9) if answer.text("data", "output", n, "type") == "video"]
            return answer.text("data", "output", outputs[0] if outputs else 0, "url")
        if stage == "fail":
            raise Failed(job, answer)
        if stage:  # under way, or a word that no document has
            seen, borne = True, Counter()
        else:
            kind = trouble(answer, seen)
            borne[kind] += 1
            if borne[kind] > BORNE[kind]:
                raise Lost(job, f"it cannot be read: {answer}")
        interval = min(interval * 1.25, LONGEST_INTERVAL)
    raise TimedOut(job, f"it is not done in {LONGEST_WAIT:.0f} s, and was last seen as {answer}")


def trouble(answer: Answer, seen: bool) -> str:
    """Say what an answer without a stage is; `seen` is whether there was one with a stage before."""
    if answer.status in (-1, 0, 408, 425, 429) or answer.status >= 500:
        return "troubled"
    if answer.status < 300:
        return "useless"
    return "missing" if answer.status == 404 and not seen else "refused"


def fetch(job: str, url: str, base_url: str) -> bytes | None:
    """Download the video, without the key; None where the link has expired."""
    if not public(url, base_url):
        raise Lost(job, "the address of its video is not one to fetch from")
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
    raise Lost(job, f"status {answer.status}, {len(answer.body)} bytes are not its video")


def public(url: str, base_url: str) -> bool:
    """Whether an address may be fetched from: http(s), on the open network or on the API's own host."""
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
    """Whether bytes are an MP4 file, and all of it: its boxes fill it."""
    kinds, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size or len(data) - at
        kinds.append(data[at + 4 : at + 8])
        at += max(size, 8)
    return at == len(data) and kinds[:1] == [b"ftyp"] and {b"moov", b"mdat"} <= set(kinds)


def collect(api_key: str, note: Mapping[str, Any], keep: Callable[[Mapping[str, Any]], None], heard: set[str]) -> bytes:
    """Order what has not been ordered, keeping a note before and after; wait for the job, and fetch its video."""
    base_url, deadline = note["base_url"], time.monotonic() * SPEED + LONGEST_WAIT
    headers = {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(headers=headers, timeout=10, verify=TLS, trust_env=False) as api:
        if not note["job"]:
            if time.time() - note["ordered"] > KEY_LIFE:
                raise Lost(None, f"the key {note['key']} is too old to ask what became of the order")
            keep({**note, "doubt": True})
            note = {**note, "job": submit(api, note, deadline)}
            keep(note)
        else:
            heard.add(note["job"])  # its callback may have come while nobody listened
        had: set[bool] = set()
        while True:  # an address that is missing is asked for once more, and so is one that has expired
            url = wait(api, base_url, note["job"], deadline, heard)
            if url and (video := fetch(note["job"], url, base_url)):
                return video
            if bool(url) in had:
                break
            had.add(bool(url))
            deadline = max(deadline, time.monotonic() * SPEED + 60)
    raise (Lost if url else Failed)(note["job"], "it has succeeded, and its video is not there")


def generate(base_url: str, api_key: str, request: Mapping[str, Any], callback: Callback) -> bytes:
    """Return the MP4 that HiAPI makes of a request, the whole body of POST /v1/tasks."""
    with listening(callback) as heard:
        return collect(api_key, new(base_url, request, callback), lambda note: None, heard)


def new(base_url: str, request: Mapping[str, Any], callback: Callback) -> dict[str, Any]:
    """Return the note of an order that has not been made: `doubt` is whether it may have been."""
    body = {**request, "callback": {"url": callback.url, "when": "final"}}
    note = {"base_url": base_url.rstrip("/"), "request": body, "job": None, "doubt": False}
    return {**note, "key": uuid.uuid4().hex, "ordered": time.time()}


def main() -> int:
    """Do it for the HOBBYHORSE_* variables: keep a note beside the output, save the video, print the outcome."""
    callback = SimpleNamespace(
        url=os.environ["HOBBYHORSE_CALLBACK_URL"], secret=os.environ["HOBBYHORSE_CALLBACK_SECRET"]
    )
    env, output = os.environ, Path(os.environ["HOBBYHORSE_OUTPUT"])
    kept = output.with_name(output.name + ".job")
    request = json.loads(Path(env["HOBBYHORSE_REQUEST"]).read_text())
    try:
        note = json.loads(kept.read_text()) if kept.exists() else new(env["HOBBYHORSE_BASE_URL"], request, callback)
        if "--resume" in sys.argv and not kept.exists():
            raise Failed(None, f"nothing was ordered: there is no {kept}")
        if note["request"] != new("", request, callback)["request"] and "--resume" not in sys.argv:
            raise Lost(note["job"], f"{kept} is about another order: --resume collects that")
        with listening(callback) as heard:
            video = collect(env["HOBBYHORSE_API_KEY"], note, lambda note: save(kept, json.dumps(note).encode()), heard)
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
    """Write a file that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
