"""Waits that end with the first of several events. No clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, Any]) -> int:
    """Return the index of the first coroutine to end, and cancel the others. Raises that coroutine's exception.

    A coroutine that is cancelled from elsewhere counts as ended: a clock that is closed cancels its sleepers.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Noted before the cancellation below, which ends the other tasks too.
        ended = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    first = ended.index(True)
    if not tasks[first].cancelled():
        tasks[first].result()
    return first


async def client_gone(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    """Wait until the client of an ASGI connection has disconnected, discarding everything that it still sends."""
    while (await receive())["type"] != "http.disconnect":
        pass
