"""Whether a server is up, for probes that have no curl; imports little, so that a probe is quick."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

HEALTH_PATH = "/_mock/health"
MOST_HEALTH_BYTES = 4096
"""How much of an answer is read."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: where it leads is another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        """Refuse to follow."""


def failure(url: str, timeout: float) -> str | None:
    """Return why the server at a URL is not well, in one line; None if it is, and has said so within the timeout."""
    found: list[str | None] = []
    # in a thread: the timeout is then one of the whole probe, and not of each byte of a server that drips
    probe = threading.Thread(target=lambda: found.append(_ask(url.rstrip("/") + HEALTH_PATH, timeout)), daemon=True)
    probe.start()
    probe.join(timeout)
    return found[0] if found else f"no answer within {timeout:g} s"


def _ask(url: str, timeout: float) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(url, timeout=timeout) as answer:
            status, body = answer.status, answer.read(MOST_HEALTH_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            return f"answers {error.code}{_reason(error.read(MOST_HEALTH_BYTES))}"
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    if status == 200 and _read(body).get("status") == "ok":
        return None
    return f"answers {status}, but not as a server of hobbyhorse does"


def _read(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is; an empty one for any other body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(body: bytes) -> str:
    """Return what a refusal of the control plane says, after a colon."""
    error = _read(body).get("error")
    return f": {error.get('message')}; {error.get('hint')}" if isinstance(error, dict) else ""
