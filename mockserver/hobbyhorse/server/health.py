"""A health check for containers without curl. Imports only the standard library, so that a probe is fast."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

HEALTH_PATH = "/_mock/health"
# Our health response has 15 bytes; another server's error page must not be read to its end.
MOST_HEALTH_BYTES = 4096


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, because its target may be another server."""

    def redirect_request(  # noqa: PLR0917 - the signature of urllib
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Return None, which makes urllib raise the redirect as an error."""


def failure(url: str, timeout: float) -> str | None:
    """Return why the server at a URL is not healthy, in one line, or None if it reports in time that it is healthy."""
    found: list[str | None] = []
    # In a thread, so that the timeout covers the whole probe: urllib applies it to each read of a slow response.
    probe = threading.Thread(target=lambda: found.append(_probe(url.rstrip("/") + HEALTH_PATH, timeout)), daemon=True)
    probe.start()
    probe.join(timeout)
    return found[0] if found else f"no response within {timeout:g} s"


def _probe(url: str, timeout: float) -> str | None:
    # A proxy from the environment must not respond for the server.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    try:
        with opener.open(url, timeout=timeout) as response:
            status, body = response.status, response.read(MOST_HEALTH_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return f"responds {error.code}{_reason(error.read(MOST_HEALTH_BYTES))}"
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    if status == 200 and _read(body).get("status") == "ok":
        return None
    return f"responds {status}, but is not a hobbyhorse server"


def _read(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object, or {} for any other body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(body: bytes) -> str:
    """Return the message and hint of a control plane error, after a colon."""
    error = _read(body).get("error")
    return f": {error.get('message')}; {error.get('hint')}" if isinstance(error, dict) else ""
