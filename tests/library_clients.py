"""Correct clients over several HTTP libraries: the example for Vtrix, with another way to send a request.

Each function sends one request, and returns the status, the body and the Retry-After: status 0 without a response, -1
if not even the request was sent.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import requests
import yarl

from hobbyhorse.runners.callable import Client
from tests.broken_clients.mutants import EXAMPLES, load

Sender = Callable[[str, str, Mapping[str, str], bytes | None], tuple[int, bytes, str]]
SECONDS = 10


def by_requests(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes, str]:
    """Send with requests."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            found = session.request(
                method, url, data=body, headers=dict(headers), timeout=SECONDS, allow_redirects=False
            )
            return found.status_code, found.content, found.headers.get("Retry-After", "")
    except requests.ConnectTimeout:
        return -1, b"", ""
    except requests.RequestException as error:
        return -1 if "Connection refused" in repr(error) else 0, b"", ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def by_urllib(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes, str]:
    """Send with urllib."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(urllib.request.Request(url, body, dict(headers), method=method), timeout=SECONDS) as found:
            return found.status, found.read(), found.headers.get("Retry-After", "")
    except urllib.error.HTTPError as error:
        return _read(error)
    except (OSError, http.client.HTTPException) as error:
        return -1 if isinstance(getattr(error, "reason", None), ConnectionRefusedError) else 0, b"", ""


def _read(error: urllib.error.HTTPError) -> tuple[int, bytes, str]:
    try:
        return error.code, error.read(), error.headers.get("Retry-After", "")
    except (OSError, http.client.HTTPException):
        return 0, b"", ""


def by_aiohttp(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes, str]:
    """Send with aiohttp, which sends a URL as it is only if it is marked as encoded."""

    async def send() -> tuple[int, bytes, str]:
        total = aiohttp.ClientTimeout(total=SECONDS)
        async with (
            aiohttp.ClientSession(timeout=total) as session,
            session.request(
                method, yarl.URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
            ) as found,
        ):
            return found.status, await found.read(), found.headers.get("Retry-After", "")

    try:
        return asyncio.run(send())
    except aiohttp.ClientConnectorError:
        return -1, b"", ""
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        return 0, b"", ""


def by_curl(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes, str]:
    """Send with the command curl."""
    with tempfile.TemporaryDirectory() as folder:
        head, received = Path(folder, "head"), Path(folder, "body")
        received.write_bytes(b"")
        command = ["curl", "-q", "--silent", "--globoff", "--noproxy", "*", "--compressed", "--max-time", str(SECONDS)]
        command += ["--request", method, "--dump-header", str(head), "--output", str(received)]
        command += [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
        command += ["--data-binary", "@-"] if body is not None else []
        done = subprocess.run([*command, "--", url], input=body or b"", check=False)
        if done.returncode:
            return -1 if done.returncode in (5, 6, 7) else 0, b"", ""
        lines = head.read_text(encoding="latin-1").splitlines()
        again = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("retry-after:")]
        return int(lines[0].split()[1]), received.read_bytes(), (again or [""])[0]


SENDERS: Mapping[str, Sender | None] = {
    "httpx": None,
    "requests": by_requests,
    "urllib": by_urllib,
    "aiohttp": by_aiohttp,
    "curl": by_curl,
}
"""The libraries; None is that of the example itself."""


def client_over(name: str) -> Client:
    """Return the client for Vtrix over a library."""
    generate = load(f"over {name}", (EXAMPLES / "vtrix.py").read_text())
    sender = SENDERS[name]
    module: dict[str, Any] = generate.__globals__
    if sender is not None:

        def ask(http: Any, method: str, url: str, within: float = 30, **more: Any) -> Any:
            headers = {"Authorization": http.headers["Authorization"]} if "Authorization" in http.headers else {}
            body = json.dumps(more["json"]).encode() if "json" in more else None
            if body is not None:
                headers["Content-Type"] = "application/json"
            status, content, again = sender(method, url, headers, body)
            return module["Answer"](status, content, module["seconds"](again))

        module["ask"] = ask
    return generate
