"""RunComfy with requests: a worker thread polls, the caller waits for at most two minutes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from email.utils import parsedate_to_datetime
from typing import Any

import requests

PATIENCE = 120.0
CONNECT, READ = 5.0, 15.0


class JobError(RuntimeError):
    def __init__(self, job: str | None, reason: str) -> None:
        super().__init__(f"job {job or '(not submitted)'}: {reason}")
        self.job, self.reason = job, reason


class JobTimeout(JobError, TimeoutError):
    pass


def generate(
    base_url: str, api_key: str, request: dict[str, Any], model: str = "happyhorse/happyhorse-1.0/image-to-video"
) -> bytes:
    deadline = time.monotonic() + PATIENCE
    api = Api(base_url, api_key, deadline)
    job = api.submit(model, request)
    watcher = Watcher(api, job)
    watcher.start()
    try:
        return watcher.outcome.result(timeout=max(0.0, deadline - time.monotonic()))
    except FutureTimeout:
        watcher.stop.set()
        said = api.cancel(job)
        watcher.join(READ + CONNECT)
        if watcher.outcome.done() and watcher.outcome.exception() is None:
            return watcher.outcome.result()  # it arrived while we gave up: it is paid for, so take it
        raise JobTimeout(job, f"timed out after {PATIENCE:.0f} seconds; {said}") from None


class Api:
    """The four endpoints. Every method either gives a dict or raises."""

    def __init__(self, base_url: str, api_key: str, deadline: float) -> None:
        self.base = base_url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self.deadline = deadline

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        # No session: requests' sessions are not thread-safe. No redirects: they could carry the key or repeat a POST.
        left = max(0.1, self.deadline - time.monotonic())
        timeout = (min(CONNECT, left), min(more.pop("read", READ), left))
        return requests.request(
            method, self.base + path, headers=self.headers, timeout=timeout, allow_redirects=False, **more
        )

    def submit(self, model: str, body: dict[str, Any]) -> str:
        tries = 0
        while True:
            tries += 1
            try:
                response = self.call("POST", f"/v1/models/{model}", json=body, read=60.0)
            except requests.exceptions.ConnectTimeout as error:  # certainly not sent
                wait, why = float(tries), f"no connection: {error}"
            except requests.RequestException as error:
                raise JobError(None, f"outcome of the submission unknown, it may be billed: {error!r}") from error
            else:
                if response.status_code != 429:
                    return self.accepted(response)
                wait, why = wait_of(response, 2.0 * tries), "HTTP 429, too many requests"
            if tries == 5 or time.monotonic() + wait >= self.deadline:
                raise JobError(None, f"gave up submitting after {tries} tries: {why}")
            time.sleep(wait)

    @staticmethod
    def accepted(response: requests.Response) -> str:
        body = parse(response)
        if not response.ok:
            raise JobError(None, f"submission failed, HTTP {response.status_code}: {reason_of(body, response)}")
        if not isinstance(body.get("request_id"), str) or not body["request_id"]:
            raise JobError(None, f"HTTP {response.status_code} without request_id: {response.text[:200]!r}")
        return str(body["request_id"])

    def cancel(self, job: str) -> str:
        try:
            response = requests.post(
                f"{self.base}/v1/requests/{job}/cancel",
                headers=self.headers,
                timeout=(CONNECT, READ),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return f"could not cancel it: {type(error).__name__}"
        return f"asked to cancel it: {parse(response).get('outcome') or response.status_code}"


class Watcher(threading.Thread):
    def __init__(self, api: Api, job: str) -> None:
        super().__init__(daemon=True, name=f"runcomfy-{job}")
        self.api, self.job = api, job
        self.stop = threading.Event()
        self.outcome: Future[bytes] = Future()
        self.wait = 1.0

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                video = self.step()
                if video is not None:
                    self.outcome.set_result(video)
                    return
                self.stop.wait(self.wait)
        except Exception as error:
            self.outcome.set_exception(error)

    def step(self) -> bytes | None:
        """One look at the job. None: look again after self.wait."""
        status = self.look("status")
        state = None if status is None else status.get("status")
        if state == "cancelled":
            raise JobError(self.job, "the provider says that it was cancelled")
        if state != "completed":
            return None
        result = self.look("result")
        if result is None or result.get("status") in ("in_queue", "in_progress"):
            return None
        if result.get("error") or result.get("status") in ("failed", "cancelled"):
            raise JobError(self.job, f"{result.get('status')}: {result.get('error') or 'no reason given'}")
        output = result.get("output") or {}
        links = [output.get("video"), *(output.get("videos") or [])] if isinstance(output, dict) else []
        link = next((link for link in links if isinstance(link, str) and link), None)
        return None if link is None else self.fetch(link)

    def look(self, what: str) -> dict[str, Any] | None:
        """GET is safe to repeat, so only a refusal that cannot pass by itself is an error."""
        try:
            response = self.api.call("GET", f"/v1/requests/{self.job}/{what}")
        except requests.RequestException:
            self.wait = min(self.wait * 2, 15.0)
            return None
        code = response.status_code
        if code in (404, 408, 425, 429) or code >= 500:
            self.wait = wait_of(response, min(self.wait * 2, 15.0))
            return None
        body = parse(response)
        if not 200 <= code < 300:
            raise JobError(self.job, f"HTTP {code} for its {what}: {reason_of(body, response)}")
        self.wait = min(self.wait * 1.2, 5.0) if body else min(self.wait * 2, 15.0)
        return body or None

    def fetch(self, link: str) -> bytes | None:
        try:
            # Without our headers: the key stays with the API.
            response = requests.get(link, headers={"Accept-Encoding": "identity"}, timeout=(CONNECT, 30.0))
        except requests.RequestException:
            return None
        data = response.content
        length = response.headers.get("Content-Length", str(len(data)))
        if response.status_code != 200 or length != str(len(data)) or data[4:8] != b"ftyp" or not ends_well(data):
            self.wait = wait_of(response, min(self.wait * 2, 15.0))
            return None
        return data


def ends_well(data: bytes) -> bool:
    at = 0
    while 0 <= at < len(data) - 7:
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        at += max(size, 8) if size else len(data) - at
    return at == len(data)


def wait_of(response: requests.Response, default: float) -> float:
    value = response.headers.get("Retry-After", "")
    try:
        return min(max(0.0, float(value)), 3600.0)
    except ValueError:
        pass
    try:
        now = parsedate_to_datetime(response.headers["Date"])
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (KeyError, TypeError, ValueError):
        return default


def parse(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def reason_of(body: dict[str, Any], response: requests.Response) -> str:
    return str(body.get("error_message") or body.get("message") or body.get("error") or response.text[:200])
