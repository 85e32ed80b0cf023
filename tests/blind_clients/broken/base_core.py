"""The good client that every case of this folder starts from: it knows no HTTP library and no provider."""

import ipaddress
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

REDIRECTS = (301, 302, 303, 307, 308)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
GONE = (401, 403, 404, 410)


class NetworkError(Exception):
    """The request may have reached the provider, and the response is lost."""


class NotSent(NetworkError):
    """No connection was made, so the provider has not seen the request."""


class BadAnswer(Exception):
    """A response that says nothing."""


class RefusedAddress(BadAnswer):
    """An address that the client does not open."""


class JobError(Exception):
    """The client ends without a video."""

    def __init__(self, message: str, job: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job


class StillRunning(JobError, TimeoutError):
    """The client's own deadline has passed."""


class OutcomeUnknown(JobError):
    """Nobody knows whether the submission was accepted, so it must not be repeated."""


@dataclass
class Reply:
    """A response: its header names are in lower case, its body is decoded."""

    status: int
    headers: dict[str, str]
    data: bytes


@dataclass
class State:
    """What the provider says about a job: `kind` is wait, done or failed."""

    kind: str
    urls: list[str] = field(default_factory=list)
    reason: str = ""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or (443 if scheme == "https" else 80)


def describe(value: Any) -> str:
    """Anything that a provider may call an error, as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:1000]


def utc(moment: datetime) -> float:
    """Seconds since the epoch; a date without a zone is in UTC, as the dates of HTTP are."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def seconds_of(value: str | None, date: str | None = None) -> float | None:
    """The wait of a Retry-After, in both of its forms."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    try:
        now = utc(parsedate_to_datetime(date or ""))
    except (ValueError, TypeError):
        now = time.time()
    return max(0.0, utc(then) - now)


def is_mp4(data: bytes) -> bool:
    """Whether these are the boxes of a whole MP4 file."""
    at = 0
    kinds: set[bytes] = set()
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size == 0:
            size = len(data) - at
        if size < 8 or (not kinds and kind != b"ftyp"):
            return False
        kinds.add(kind)
        at += size
    return at == len(data) and {b"ftyp", b"moov", b"mdat"} <= kinds


class Client:
    """Submit a job, wait for it, download its video. A provider and a library supply the rest."""

    patience = 1800.0  # seconds until the client gives a job up
    request_timeout = 30.0
    api_limit, media_limit = 60.0, 600.0  # seconds for a whole exchange
    first_pause, last_pause, growth = 1.0, 10.0, 1.3
    missing_for = 60.0  # seconds in which an unknown job may still appear
    submit_tries, download_tries, empty_tries = 5, 8, 5
    idempotent = False

    def __init__(self, base_url: str, api_key: str, model: str | None = None, callback: Any = None) -> None:
        self.base, self.key, self.model, self.callback = base_url.rstrip("/"), api_key, model, callback
        self.open()

    # What a library supplies.
    def open(self) -> None: ...

    def close(self) -> None: ...

    def send(self, method: str, url: str, headers: dict[str, str], body: bytes | None, limit: float) -> Reply:
        raise NotImplementedError

    # What a provider supplies.
    def submit_path(self) -> str:
        raise NotImplementedError

    def accepted(self, data: Any) -> Any:
        raise NotImplementedError

    def status_path(self, job: str) -> str:
        raise NotImplementedError

    def read_state(self, job: str, data: Any) -> State:
        raise NotImplementedError

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    # The client.
    def generate(self, request: dict[str, Any]) -> Any:
        try:
            job = self.submit(request)
            return self.collect(job, request)
        finally:
            self.close()

    def collect(self, job: str, request: dict[str, Any]) -> Any:
        deadline = time.monotonic() + self.patience
        urls = self.wait(job, deadline)
        return self.deliver(job, self.download(job, urls, deadline), request)

    def deliver(self, job: str, data: bytes, request: dict[str, Any]) -> Any:
        return data

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def pace(self, pause: float, hint: float | None) -> float:
        """The next wait: the client's own, or the longer one that the provider asks for."""
        return max(pause, hint or 0.0)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Accept": "application/json"}

    def submit_headers(self, request: dict[str, Any]) -> dict[str, str]:
        return {**self.headers(), "Content-Type": "application/json"}

    def encode(self, request: dict[str, Any]) -> bytes:
        return json.dumps(request, ensure_ascii=False).encode("utf-8")

    def json(self, reply: Reply) -> Any:
        try:
            return json.loads(reply.data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise BadAnswer(f"HTTP {reply.status} without JSON") from error

    def status_of(self, reply: Reply) -> int:
        return reply.status

    def retry_after(self, reply: Reply) -> float | None:
        return seconds_of(reply.headers.get("retry-after"), reply.headers.get("date"))

    def explain(self, reply: Reply) -> str:
        try:
            text = describe(self.json(reply))
        except BadAnswer:
            text = reply.data[:200].decode("utf-8", "replace")
        return f"HTTP {self.status_of(reply)}: {text}"

    def call(self, method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> Reply:
        """One exchange with the API: redirects are followed only within its origin, and only if nothing changes."""
        for _ in range(5):
            reply = self.send(method, url, headers, body, self.api_limit)
            if reply.status not in REDIRECTS or "location" not in reply.headers:
                return reply
            target = urljoin(url, reply.headers["location"])
            if origin(target) != origin(self.base) or (method != "GET" and reply.status not in (307, 308)):
                return reply
            url = target
        return reply

    # Submitting
    def submit(self, request: dict[str, Any]) -> str:
        request = self.prepare(request)
        url, body, headers = self.base + self.submit_path(), self.encode(request), self.submit_headers(request)
        deadline, pause, tries = time.monotonic() + self.patience, self.first_pause, 0
        while True:
            tries += 1
            problem, hint, limited = self.try_submit(url, headers, body)
            if isinstance(problem, str):
                return problem
            wait = self.pace(pause, hint)
            if time.monotonic() + wait > deadline or (tries >= self.submit_tries and not limited):
                raise problem
            self.sleep(wait)
            pause = min(pause * 2, 30.0)

    def try_submit(self, url: str, headers: dict[str, str], body: bytes) -> tuple[str | Exception, float | None, bool]:
        """The job's id, or an error after which the submission may be repeated. Other errors are raised."""
        try:
            reply = self.call("POST", url, headers, body)
        except NotSent as error:
            return JobError(f"the provider cannot be reached: {error}"), None, False
        except NetworkError as error:
            return self.unknown(f"the response to the submission is lost: {error}", error), None, False
        status = self.status_of(reply)
        if 200 <= status < 300:
            job = self.job_of(reply)
            return job or self.unknown(f"a submission without an id: {self.explain(reply)}"), None, False
        if status == 429:
            return JobError(f"refused: {self.explain(reply)}"), self.retry_after(reply), True
        if status >= 500 or status in (303, 408, 409, 425):
            return self.unknown(f"submission: {self.explain(reply)}"), self.retry_after(reply), False
        raise JobError(f"refused: {self.explain(reply)}")

    def unknown(self, message: str, error: Exception | None = None) -> Exception:
        problem = OutcomeUnknown(message + " (the job may exist, and was not submitted again)")
        if self.idempotent:
            return problem
        raise problem from error

    def job_of(self, reply: Reply) -> str | None:
        try:
            job = self.accepted(self.json(reply))
        except (BadAnswer, AttributeError, KeyError, TypeError, IndexError):
            return None
        return job if isinstance(job, str) and job else None

    # Waiting
    def ask(self, job: str) -> Reply:
        return self.call("GET", self.base + self.status_path(job), self.headers())

    def state(self, job: str, reply: Reply) -> State:
        data = self.json(reply)
        try:
            return self.read_state(job, data)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise BadAnswer(f"an unexpected answer: {describe(data)}") from error

    def wait(self, job: str, deadline: float) -> list[str]:
        """The video's addresses."""
        pause, missing, empty = self.first_pause, None, 0
        while True:
            hint = None
            try:
                reply = self.ask(job)
                status = self.status_of(reply)
                if 200 <= status < 300:
                    missing = None
                    state = self.state(job, reply)
                    if state.urls and state.kind == "done":
                        return state.urls
                    empty = self.end(job, state, empty)
                elif status == 404:
                    missing = missing or time.monotonic()
                    if time.monotonic() - missing > self.missing_for:
                        raise JobError(f"job {job} is unknown to the provider: {self.explain(reply)}", job)
                else:
                    hint = self.trouble(job, reply)
            except (NetworkError, BadAnswer) as error:
                self.note(error)
            self.rest(job, self.pace(pause, hint), deadline)
            pause = min(pause * self.growth, self.last_pause)

    def note(self, error: Exception) -> None:
        """A poll that failed; the next one may succeed."""

    def end(self, job: str, state: State, empty: int) -> int:
        if state.kind == "failed":
            raise JobError(f"job {job} failed: {state.reason}", job)
        if state.kind == "done" and empty + 1 >= self.empty_tries:
            raise JobError(f"job {job} is completed, but has no video", job)
        return empty + 1 if state.kind == "done" else 0

    def trouble(self, job: str, reply: Reply) -> float | None:
        """The wait after a poll that was refused, unless asking again is useless."""
        status = self.status_of(reply)
        if status in TRANSIENT or status >= 500 or status in REDIRECTS:
            return self.retry_after(reply)
        raise JobError(f"job {job} cannot be read: {self.explain(reply)}", job)

    def rest(self, job: str, seconds: float, deadline: float) -> None:
        if time.monotonic() + seconds > deadline:
            raise StillRunning(f"timed out: job {job} is still running", job)
        self.sleep(seconds)

    # Downloading
    def check_url(self, url: str) -> None:
        """Refuse an address that no provider needs: files, and private hosts other than the API's own."""
        scheme, host, _ = origin(url)
        ours = origin(self.base)
        if scheme not in ("http", "https") or not host or (ours[0] == "https" and scheme == "http"):
            raise RefusedAddress(f"refused to download from {url}")
        try:
            private = not ipaddress.ip_address(host).is_global
        except ValueError:
            private = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
        if private and host != ours[1]:
            raise RefusedAddress(f"refused to download from the private host {host}")

    def media_headers(self) -> dict[str, str]:
        return {"Accept-Encoding": "identity"}

    def fetch(self, url: str) -> Reply:
        for _ in range(6):
            self.check_url(url)
            reply = self.send("GET", url, self.media_headers(), None, self.media_limit)
            if reply.status not in REDIRECTS or "location" not in reply.headers:
                return reply
            url = urljoin(url, reply.headers["location"])
        raise BadAnswer("too many redirects")

    def whole(self, reply: Reply) -> bool:
        return is_mp4(reply.data)

    def refresh(self, job: str, urls: list[str], deadline: float) -> list[str]:
        """New addresses instead of expired ones."""
        return self.wait(job, deadline)

    def download(self, job: str, urls: list[str], deadline: float) -> bytes:
        pause, last = self.first_pause, ""
        for _ in range(self.download_tries):
            hint = None
            try:
                reply = self.fetch(urls[0])
                if reply.status == 200 and self.whole(reply):
                    return reply.data
                last = f"HTTP {reply.status} with {len(reply.data)} bytes"
                renew, hint = reply.status in GONE, self.retry_after(reply)
            except (NetworkError, BadAnswer) as error:
                renew, last = isinstance(error, RefusedAddress), str(error)
            if renew:
                urls = self.refresh(job, urls, deadline)
            self.rest(job, self.pace(pause, hint), deadline)
            pause = min(pause * 2, 30.0)
        raise JobError(f"the video of job {job} cannot be downloaded: {last}", job)


def client(kind: type[Client]) -> Callable[..., Any]:
    """The callable of a client that polls."""

    def generate(base_url: str, api_key: str, request: dict[str, Any], model: str | None = None) -> Any:
        return kind(base_url, api_key, model).generate(request)

    return generate
