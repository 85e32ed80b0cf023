"""The lower bound of a server: a callable that sends one body (the variable BODY) in response to everything."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

BODY = os.environ.get("BODY", "{}").encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """Send the body."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
