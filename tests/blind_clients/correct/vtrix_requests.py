"""Vtrix with a requests.Session: ten minutes, a class with a method per step, a file as the result.

urllib3 repeats what never reached the server, and reads; everything that concerns money is decided here.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

log = logging.getLogger("vtrix")
TRANSIENT = {404, 408, 425, 429, *range(500, 600)}


class TaskFailed(Exception):
    pass


class TaskTimeout(TaskFailed):
    pass


def generate(base_url: str, api_key: str, request: dict[str, Any]) -> str:
    with Vtrix(base_url, api_key, seconds=600) as vtrix:
        task = vtrix.create(request)
        log.info("created %s", task)
        return vtrix.save(task)


class Bearer(requests.auth.AuthBase):
    """As an auth object, the key also wins over a .netrc file."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class Vtrix:
    def __init__(self, base_url: str, api_key: str, seconds: float) -> None:
        self.url = base_url.rstrip("/") + "/model/v1/generation"
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.session = requests.Session()
        self.session.auth = Bearer(api_key)
        again = Retry(
            total=None,
            connect=3,  # of any method: there was no connection, so nothing was sent
            read=2,  # only of GET, see allowed_methods
            redirect=0,
            status=0,
            other=0,
            allowed_methods=frozenset({"GET"}),
            backoff_factor=0.5,
            respect_retry_after_header=False,  # ours ends at the deadline
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=again))

    def __enter__(self) -> Vtrix:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.session.close()

    def create(self, request: dict[str, Any]) -> str:
        delay = 2.0
        while True:
            try:
                response = self.session.post(self.url, json=request, timeout=(5, 60), allow_redirects=False)
            except requests.exceptions.RequestException as error:
                raise TaskFailed(
                    f"creating the task went wrong ({type(error).__name__}). Do not repeat it blindly: "
                    "without an idempotency key a second request may be a second bill"
                ) from error
            if response.status_code != 429:
                break
            self.sleep(self.wanted(response, delay), "no task yet: rate limited")
            delay = min(delay * 2, 60.0)
        body = self.body(response)
        if response.status_code not in (200, 201, 202):
            raise TaskFailed(
                f"task not created, HTTP {response.status_code}: {body.get('message', response.text[:200])}"
            )
        if not body.get("id"):
            raise TaskFailed(f"HTTP {response.status_code}, but no task id in {response.text[:200]!r}")
        return str(body["id"])

    def save(self, task: str) -> str:
        delay = 2.0
        while True:
            state, url, asked = self.look(task)
            if url is not None:
                path = self.download(url)
                if path is not None:
                    return path
            troubled = asked is not None or url is not None
            delay = min(delay * 1.7, 30.0) if troubled else 3.0
            self.sleep(max(asked or 0.0, delay), f"task {task} still running, state {state}")

    def look(self, task: str) -> tuple[str, str | None, float | None]:
        """The state, the video's link if there is one, and how long to wait at least if something was wrong."""
        try:
            response = self.session.get(f"{self.url}/task/{task}", timeout=(5, 15), allow_redirects=False)
        except requests.exceptions.RequestException as error:
            log.warning("polling %s: %s", task, error)
            return "unknown", None, 0.0
        body = self.body(response)
        if response.status_code in TRANSIENT or (response.ok and "status" not in body):
            return f"unknown (HTTP {response.status_code})", None, self.wanted(response, 0.0)
        if response.status_code != 200:
            raise TaskFailed(f"task {task}: HTTP {response.status_code}: {body.get('message', response.text[:200])}")
        if body["status"] == "failed":
            raise TaskFailed(f"task {task} failed: {self.why(body)}")
        if body["status"] != "completed":
            return str(body["status"]), None, None
        try:
            items = [item for result in body["output"] for item in result["content"] if item["type"] == "video"]
            return "completed", str(items[0]["url"]), None
        except (KeyError, IndexError, TypeError) as error:
            log.warning("task %s is completed, but has no video: %r", task, error)
            return "completed without a video", None, 0.0

    @staticmethod
    def why(body: dict[str, Any]) -> str:
        error = body.get("error")
        if isinstance(error, dict):
            return f"{error.get('code')}: {error.get('message')}"
        return str(error or body.get("message") or "the provider gave no reason")

    def download(self, url: str) -> str | None:
        """Not through the session, which would add the key."""
        handle, path = tempfile.mkstemp(prefix="vtrix-", suffix=".mp4")
        try:
            with os.fdopen(handle, "wb") as file, requests.get(url, stream=True, timeout=(5, 30)) as response:
                if response.status_code != 200:
                    raise ValueError(f"HTTP {response.status_code}")
                for chunk in response.iter_content(1 << 16):
                    file.write(chunk)
                expected = response.headers.get("Content-Length")
            self.check(path, expected)
        except (requests.exceptions.RequestException, ValueError) as error:
            log.warning("download: %s", error)
            os.unlink(path)
            return None
        return path

    @staticmethod
    def check(path: str, expected: str | None) -> None:
        size = os.path.getsize(path)
        if expected is not None and int(expected) != size:
            raise ValueError(f"{size} bytes of {expected}")
        position = 0
        with open(path, "rb") as file:
            while position < size:
                file.seek(position)
                header = file.read(16)
                if position == 0 and header[4:8] != b"ftyp":
                    raise ValueError("not an MP4")
                length = int.from_bytes(header[:4], "big")
                if length == 1:
                    length = int.from_bytes(header[8:16], "big")
                position += length or size - position
                if 0 < length < 8 or position > size:
                    raise ValueError("the MP4 is cut off")

    def sleep(self, seconds: float, state: str) -> None:
        if time.monotonic() + seconds > self.until:
            raise TaskTimeout(f"deadline of {self.seconds:.0f} s: {state}")
        time.sleep(seconds)

    @staticmethod
    def wanted(response: requests.Response, default: float) -> float:
        value = response.headers.get("Retry-After", "").strip()
        if value.isdigit():
            return float(value)
        try:
            moment = parsedate_to_datetime(value)
            return max(0.0, (moment - parsedate_to_datetime(response.headers["Date"])).total_seconds())
        except (KeyError, TypeError, ValueError):
            return default

    @staticmethod
    def body(response: requests.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except requests.exceptions.JSONDecodeError:
            return {}
        return body if isinstance(body, dict) else {}
