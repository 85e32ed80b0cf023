"""Waiting: for whichever of several things happens first, and for a client to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any


async def first_of(*waits: Coroutine[Any, Any, Any]) -> int:
    """Return the index of the coroutine that ends first; the others are cancelled. What that one raises is raised.

    One that somebody else has cancelled (a clock that is closed does that to its sleepers) has just ended.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        over = [task.done() for task in tasks]
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    first = over.index(True)
    if not tasks[first].cancelled():
        tasks[first].result()
    return first


async def client_gone(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    """Return when the client of an ASGI connection is gone; what it still sends is read and forgotten."""
    while (await receive())["type"] != "http.disconnect":
        pass
