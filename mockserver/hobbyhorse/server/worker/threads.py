"""Computations over a whole world, such as a report: in threads, one of a key at a time.

A thread does not make them faster, but the event loop goes on: between two bytecodes of the thread, polls of other
keys are served. The threads are not asyncio's, which resolve names and read files for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hobbyhorse.server.worker.turns import Turns

Value = TypeVar("Value")
# Computations at a time. Each more makes the event loop wait for one more thread.
MOST_THREADS = 2


class WorldThreads:
    """Threads for the computations of one server."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, owner: str, work: Callable[[], Value]) -> Value:
        """Return the value of a computation that touches nothing that changes."""
        async with self._turns.of(owner, 1):
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="world")
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
