"""An application with its lifespan, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp

KEY = "a-secret-key"
BODY = {"model": "happyhorse-1.1/image-to-video", "input": {"image_urls": ["https://example.com/a.png"]}}
TASKS = "/hiapi/v1/tasks"


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Start an application, yield a client of it, and stop it."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    events.put_nowait({"type": "lifespan.startup"})
    lifespan = asyncio.ensure_future(app({"type": "lifespan"}, events.get, sent.put))
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://hobbyhorse.test",
            headers=headers,
        ) as client:
            yield client
    finally:
        events.put_nowait({"type": "lifespan.shutdown"})
        await lifespan
