"""The figures of the processes that share a state: each asks the others over the port that they forward requests to."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.types import Send

from hobbyhorse.server.request import load

Figures = Callable[[], Awaitable[dict[str, Any]]]
"""Returns the figures of this process as JSON."""

FIGURES_PATH = "/_mock/figures"
# Real seconds for a process on the next machine; a slower process is about to lose its lease.
SECONDS = 2.0


async def ask_all(addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Return the figures of the processes at some addresses, as far as they respond."""
    if not addresses:
        return []
    # In a thread: its import takes 35 ms.
    await load("httpx")
    httpx = sys.modules["httpx"]

    async def ask(address: str) -> dict[str, Any] | None:
        try:
            response = await client.get(f"http://{address}{FIGURES_PATH}")
            found: dict[str, Any] | None = response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None
        return found

    # No certificates are read, which would take 20 ms: the processes speak plain HTTP with each other.
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=SECONDS) as client:
        found = await asyncio.gather(*map(ask, addresses))
    return [one for one in found if one is not None]


async def send_figures(figures: dict[str, Any], send: Send) -> None:
    """Respond with figures."""
    body = json.dumps(figures).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
